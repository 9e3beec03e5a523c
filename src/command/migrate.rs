//! `migrate`: brings the schema up to date, with the role that owns it.

use std::process::ExitCode;

use super::{Failure, Result, block_on, print, settings};
use crate::app;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Grants the rights on the tables to this role, which the server's queries run as
    #[arg(long, value_name = "NAME")]
    app_role: Option<String>,
}

pub(super) fn run(settings: &settings::SettingsArguments, arguments: &Arguments) -> Result<ExitCode> {
    let config = settings.load(&[])?;
    super::process::open_log(&config)?;
    if config.database.is_embedded() && arguments.app_role.is_some() {
        return Err(Failure::Configuration("--app-role is for PostgreSQL: neither database.url nor database.host is set".to_owned()));
    }
    let report = block_on(app::migrate(&config, arguments.app_role.as_deref()))??;
    print(&format!("{}\n", report.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
