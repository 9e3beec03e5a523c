//! `config`: the settings that are in force.

use std::process::ExitCode;

use super::{Failure, Result, print, settings};
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::http::auth::Authenticator;
use crate::lifecycle::Lifecycle;
use crate::store::postgres;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Action {
    /// Prints every setting as TOML; secrets as ***
    Print,
    /// Says ok, or what is wrong
    Check,
}

pub(super) fn run(settings: &settings::SettingsArguments, arguments: &Arguments) -> Result<ExitCode> {
    let config = settings.load(&[])?;
    match arguments.action.unwrap_or(Action::Print) {
        Action::Print => {
            let text = toml::to_string(&config).map_err(|error| Failure::Other(format!("the settings cannot be printed: {error}")))?;
            print(&text)?;
        }
        Action::Check => {
            check(&config)?;
            print("ok\n")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What only those know about their settings who use them.
pub(super) fn check(config: &Config) -> Result<()> {
    postgres::check_settings(&config.database).map_err(|error| Failure::Configuration(error.to_string()))?;
    check_auth(config)
}

/// The grammar of tenant rules, and whether two issuers could name one tenant.
fn check_auth(config: &Config) -> Result<()> {
    if config.auth.issuers.is_empty() {
        return Ok(());
    }
    let lifecycle = Lifecycle::new();
    // On one thread nothing that is spawned runs before the check has ended, so no issuer is called.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime cannot be started: {error}")))?;
    let checked = runtime.block_on(async { Authenticator::new(&config.auth, None, Clock::new(), &lifecycle).map(drop) });
    checked.map_err(|error| Failure::Configuration(error.to_string()))
}
