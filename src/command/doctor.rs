//! `doctor`: one line for each thing that a server needs, with what is wrong and what to do about it.

mod data_dir;
mod issuers;
mod second_tier;
mod store;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Failure, Result, block_on, config, print, settings};
use crate::config::{Config, LogConfig};
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::telemetry;

/// What the log says while the doctor looks. The verifier logs each certificate that it refuses as an error, and so do the findings say it.
const QUIET: &str = "error,rustls_platform_verifier=off";
/// Largest file of a token, in bytes: more than any header may have.
const MAX_TOKEN_FILE_BYTES: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Also checks this token and says which check it fails. Other users of this machine may see it: --token-file hides it from them
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Also checks the token in this file, or on the standard input with -
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Prints JSON, for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(settings: &settings::SettingsArguments, arguments: &Arguments) -> Result<ExitCode> {
    let token = token(arguments)?;
    let loaded = settings.load(&[]).and_then(|loaded| config::check(&loaded).map(|()| loaded));
    let config = match loaded {
        Ok(config) => config,
        Err(Failure::Configuration(reason) | Failure::Other(reason)) => {
            // Without settings there is nothing else to look at.
            let found = Diagnosis::wrong("configuration", reason)
                .advise("Correct what is named. `nworkflow-state config print` shows the defaults, docs/configuration.md every setting with its bounds.");
            return report(&[found], arguments.json);
        }
    };
    // What the log would say the findings say, in other words.
    let log = LogConfig { level: QUIET.to_owned(), ..config.log.clone() };
    telemetry::init(&log).map_err(|error| Failure::Configuration(error.to_string()))?;
    let mut found = vec![Diagnosis::fine("configuration", "valid"), data_dir::examine(&config)];
    found.extend(unused(&config));
    block_on(async {
        found.extend(store::examine(&config).await);
        found.extend(second_tier::examine(&config).await);
        found.extend(issuers::examine(&config, token.as_deref()).await);
    })?;
    report(&found, arguments.json)
}

/// Settings that this version knows and does not act on.
fn unused(config: &Config) -> Option<Diagnosis> {
    let set = |is_set: bool, name: &'static str| is_set.then_some(name);
    // The value of a key's file is the key by now.
    let key = if config.secrets.key_file.is_some() { "secrets.key_file" } else { "secrets.key" };
    let name = set(!config.secrets.key.is_empty(), key).or(set(!config.secrets.key_command.is_empty(), "secrets.key_command"))?;
    let detail = format!(
        "{name} is set and has no effect: this version keeps no secret variables, and answers 422 secrets_not_configured to whoever sends one"
    );
    Some(Diagnosis::note("secrets", detail).advise(format!("Keep secrets elsewhere. {name} may stay for a later version, or be removed.")))
}

/// The token that was given, without what is copied along with one.
fn token(arguments: &Arguments) -> Result<Option<String>> {
    let text = match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    let is_scheme = |scheme: &str| scheme.eq_ignore_ascii_case("bearer");
    Ok(Some(text.split_once(' ').filter(|(scheme, _)| is_scheme(scheme)).map_or(text, |(_, token)| token.trim()).to_owned()))
}

fn read(file: &Path) -> Result<String> {
    let fail = |error: std::io::Error| Failure::Other(format!("the token cannot be read from {}: {error}", file.display()));
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(fail)?;
    } else {
        std::fs::File::open(file).map_err(fail)?.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(fail)?;
    }
    Ok(text)
}

fn report(found: &[Diagnosis], as_json: bool) -> Result<ExitCode> {
    let well = found.iter().all(|one| one.verdict != Verdict::Wrong);
    print(&if as_json { machine(found, well) } else { found.iter().map(human).collect() })?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn human(found: &Diagnosis) -> String {
    let mark = match found.verdict {
        Verdict::Fine => "ok   ",
        Verdict::Note => "note ",
        Verdict::Wrong => "WRONG",
    };
    let advice = found.advice.iter().map(|advice| format!("       -> {advice}\n"));
    // What is wrong with several settings has a line for each.
    let detail = found.detail.replace('\n', "\n       ");
    format!("{mark}  {}: {detail}\n{}", found.subject, advice.collect::<String>())
}

fn machine(found: &[Diagnosis], well: bool) -> String {
    let findings: Vec<_> = found
        .iter()
        .map(|one| {
            let verdict = match one.verdict {
                Verdict::Fine => "ok",
                Verdict::Note => "note",
                Verdict::Wrong => "wrong",
            };
            let mut finding = json!({"subject": one.subject, "verdict": verdict, "detail": one.detail});
            if let Some(advice) = &one.advice {
                finding["advice"] = json!(advice);
            }
            finding
        })
        .collect();
    format!("{:#}\n", json!({"well": well, "findings": findings}))
}
