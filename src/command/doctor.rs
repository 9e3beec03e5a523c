//! `doctor`: one line for each thing that a server needs, with what is wrong and what to do about it.

mod data_dir;
mod issuers;
mod second_tier;
mod store;

use std::process::ExitCode;

use super::{Failure, Result, block_on, config, print, settings};
use crate::telemetry;

/// What a look at one thing found.
enum Finding {
    /// It is as it must be.
    Fine(String),
    /// It is not used, or not there yet.
    Note(String),
    /// It would keep the server from working.
    Wrong(String),
}

/// A subject and what was found about it.
type Findings = Vec<(String, Finding)>;

pub(super) fn run(settings: &settings::SettingsArguments) -> Result<ExitCode> {
    let loaded = settings.load(&[]).and_then(|loaded| config::check(&loaded).map(|()| loaded));
    let config = match loaded {
        Ok(config) => config,
        Err(Failure::Configuration(reason) | Failure::Other(reason)) => {
            // Without settings there is nothing else to look at.
            return report(&[("configuration".to_owned(), Finding::Wrong(reason))]);
        }
    };
    telemetry::init(&config.log).map_err(|error| Failure::Configuration(error.to_string()))?;
    let mut findings = vec![("configuration".to_owned(), Finding::Fine("valid".to_owned()))];
    findings.push(("data directory".to_owned(), data_dir::examine(&config)));
    block_on(async {
        findings.push(store::examine(&config).await);
        findings.extend(second_tier::examine(&config).await);
        findings.extend(issuers::examine(&config).await);
    })?;
    report(&findings)
}

fn report(findings: &[(String, Finding)]) -> Result<ExitCode> {
    let mut text = String::new();
    let mut wrong = false;
    for (subject, finding) in findings {
        let (mark, detail) = match finding {
            Finding::Fine(detail) => ("ok   ", detail),
            Finding::Note(detail) => ("note ", detail),
            Finding::Wrong(detail) => {
                wrong = true;
                ("WRONG", detail)
            }
        };
        text.push_str(&format!("{mark}  {subject}: {detail}\n"));
    }
    print(&text)?;
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
