//! The real server as a process that can be killed and started again on what it left.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_nworkflow-state");

/// Where a running server is, and what it believes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) base: String,
    pub(super) token: String,
}

/// A folder with the server's data, and the server on it while it runs.
pub(super) struct Server {
    folder: TempDir,
    database_url: Option<String>,
    child: Option<Child>,
}

impl Server {
    /// One that is not started. Without a URL it is embedded.
    pub(super) fn new(database_url: Option<String>) -> Self {
        Self { folder: TempDir::new().unwrap(), database_url, child: None }
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(&mut self) -> Target {
        // A write to a file that may not grow fails, like one to a full disk, instead of ending the process.
        let script = r#"trap '' XFSZ; exec "$0" dev --set server.listen=127.0.0.1:0 --set server.metrics_listen= --set log.level=warn"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(url) = &self.database_url {
            command.env("NWORKFLOW__DATABASE__URL", url);
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let mut printed = String::new();
        // The program bounds the time for that itself.
        while !printed.contains("Ctrl-C") {
            let count = output.read_line(&mut printed).unwrap();
            assert_ne!(count, 0, "the server ended before it was ready: {}", self.log_text());
        }
        let after = |label: &str| printed.split_once(label).unwrap().1.lines().next().unwrap().trim().to_owned();
        Target { base: after("Address:"), token: after("Token:") }
    }

    pub(super) fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
