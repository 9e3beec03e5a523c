//! The commands of the process.
//!
//! What a command was asked for goes to the standard output; the log and the one sentence that says why a command failed go to the
//! standard error stream. Exit codes: 0 done, 1 failed or cut short, 2 wrong usage or wrong settings.

mod config;
mod dev;
mod docs;
mod doctor;
mod health;
mod migrate;
mod openapi;
mod process;
mod serve;
mod settings;
mod token;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::StartError;
use crate::config::ConfigError;

/// The exit code of wrong usage and wrong settings.
const EXIT_CONFIGURATION: u8 = 2;

/// The memory of the nWorkflow engine: a REST server that keeps workflow states and variables.
#[derive(Debug, Parser)]
#[command(name = "nworkflow-state", version, after_help = "Every setting, with its default: nworkflow-state config print")]
struct Arguments {
    #[command(flatten)]
    settings: settings::SettingsArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server; needs a configured issuer of tokens
    Serve,
    /// Runs the server for trying it: tokens of its own, loopback only; prints what to paste
    Dev,
    /// Prints a token that is signed with the key of `dev`
    Token(token::Arguments),
    /// Brings the database's schema up to date
    Migrate(migrate::Arguments),
    /// Prints the API document
    Openapi(openapi::Arguments),
    /// Prints or checks the settings that are in force
    Config(config::Arguments),
    /// Says in words what is wrong with the settings, the database, the second cache tier, the issuers, and a token
    Doctor(doctor::Arguments),
    /// Says whether the server on this machine is ready, by its exit code: for health checks of containers
    Health,
    /// Prints a page of the documentation that is made from the code
    #[command(hide = true)]
    Docs(docs::Arguments),
}

/// Why a command failed: a sentence for the standard error stream.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The settings are to blame.
    #[error("{0}")]
    Configuration(String),
    /// Something else is.
    #[error("{0}")]
    Other(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.0)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        if error.is_configuration() { Self::Configuration(error.to_string()) } else { Self::Other(error.to_string()) }
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Reads the arguments (the first is the program's name), does what they say, and returns the process's exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; where they cannot be written, nobody reads them.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let settings = &arguments.settings;
    let result = match arguments.command {
        Command::Serve => serve::run(settings),
        Command::Dev => dev::run(settings),
        Command::Token(arguments) => token::run(settings, &arguments),
        Command::Migrate(arguments) => migrate::run(settings, &arguments),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Config(arguments) => config::run(settings, &arguments),
        Command::Doctor(arguments) => doctor::run(settings, &arguments),
        Command::Health => health::run(settings),
        Command::Docs(arguments) => docs::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            // Without a standard error stream the exit code has to do.
            let _ = writeln!(std::io::stderr(), "nworkflow-state: {failure}");
            match failure {
                Failure::Configuration(_) => ExitCode::from(EXIT_CONFIGURATION),
                Failure::Other(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Writes a text to the standard output. A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A client for this machine: without proxies, and without certificates, which a minimal image may not have.
fn loopback_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| Failure::Other(format!("no HTTP client can be made: {error}")))
}

/// Runs a future on a runtime of its own. What still runs when it returns is left behind: the process is about to end, and a thread that
/// hangs in a system call must not keep it.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime cannot be started: {error}")))?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
