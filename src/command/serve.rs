//! `serve`: the server as it runs in production.

use std::process::ExitCode;

use super::process::{self, MetricsPort, Server};
use super::{Failure, Result, block_on, settings};
use crate::app::AppOptions;

pub(super) fn run(settings: &settings::SettingsArguments) -> Result<ExitCode> {
    let config = settings.load(&[])?;
    if config.auth.development {
        return Err(Failure::Configuration(
            "auth.development is set, which is for trying the server: run `nworkflow-state dev`".to_owned(),
        ));
    }
    if config.auth.issuers.is_empty() {
        return Err(Failure::Configuration(
            "serve needs an issuer of tokens: set auth.issuers.NAME.issuer, .audience and .tenant; to try the server without one, run `nworkflow-state dev`"
                .to_owned(),
        ));
    }
    process::open_log(&config)?;
    process::warn_about_unused(&config);
    block_on(async {
        let server = Server::start(config, AppOptions { development: false }, MetricsPort::Required).await?;
        Ok(server.run().await)
    })?
}
