//! `doctor` says what is wrong, why that matters and what to do, against real servers.

mod issuers;
mod pooler;
mod postgres;
mod second_tier;

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::issuer::TestIssuer;

/// The command in the making.
struct Doctor {
    folder: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// What it printed, and its exit code.
struct Report {
    code: Option<i32>,
    printed: String,
}

impl Doctor {
    fn new() -> Self {
        let quiet = ("NWORKFLOW__LOG__LEVEL".to_owned(), "off".to_owned());
        Self { folder: tempfile::tempdir().unwrap(), environment: vec![quiet], arguments: vec!["doctor".to_owned()] }
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((format!("NWORKFLOW__{name}"), value.into()));
        self
    }

    fn database(self, url: impl Into<String>) -> Self {
        self.set("DATABASE__URL", url)
    }

    fn issuer(self, issuer: &TestIssuer) -> Self {
        let name = |key: &str| format!("AUTH__ISSUERS__ACME__{key}");
        self.set(&name("ISSUER"), issuer.issuer()).set(&name("AUDIENCE"), "nworkflow-state").set(&name("TENANT"), "claim:tenant_id")
    }

    fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs it beside the servers of the test.
    async fn run(self) -> Report {
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_nworkflow-state"));
            command.args(&self.arguments).env_clear().envs(self.environment).current_dir(self.folder.path()).stdin(Stdio::null());
            let output = command.output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(errors.is_empty(), "{errors}");
            Report { code: output.status.code(), printed: String::from_utf8(output.stdout).unwrap() }
        })
        .await
        .unwrap()
    }
}

impl Report {
    /// All is well, and these lines are there.
    #[track_caller]
    fn well(&self, lines: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.printed);
        assert_eq!(self.count_of_wrong(), 0, "{}", self.printed);
        for line in lines {
            assert!(self.printed.lines().any(|have| have.starts_with(line)), "no line begins with {line:?}:\n{}", self.printed);
        }
    }

    /// One thing is wrong, in these words, with this advice.
    #[track_caller]
    fn wrong(&self, subject: &str, says: &[&str], advises: &str) {
        assert_eq!(self.code, Some(1), "{}", self.printed);
        let begin = format!("WRONG  {subject}: ");
        let mut lines = self.printed.lines().skip_while(|line| !line.starts_with(&begin));
        let line = lines.next().unwrap_or_else(|| panic!("nothing is wrong with {subject}:\n{}", self.printed));
        for part in says {
            assert!(line.contains(part), "it does not say {part:?}: {line}");
        }
        if !advises.is_empty() {
            let advice = lines.next().unwrap_or_default();
            assert!(advice.starts_with("       -> ") && advice.contains(advises), "it does not advise {advises:?}: {line}\n{advice}");
        }
        // Nothing else is taken for wrong because of it.
        assert_eq!(self.count_of_wrong(), 1, "{}", self.printed);
    }

    fn count_of_wrong(&self) -> usize {
        self.printed.lines().filter(|line| line.starts_with("WRONG ")).count()
    }
}
