//! A server as a process of its own, at an address that stays: it can be killed, stopped, and started again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::ground::Ground;
use super::{PATIENCE, STEP};
use crate::support::port;

const BINARY: &str = env!("CARGO_BIN_EXE_nworkflow-state");

pub(super) struct Process {
    pub(super) client: Client,
    settings: BTreeMap<String, String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// One that is not started yet.
    pub(super) fn new(ground: &Ground, number: usize) -> Self {
        let mut settings = ground.settings(number);
        let listen = format!("127.0.0.1:{}", port::free());
        let client = Client::new(&format!("http://{listen}"), &ground.token);
        settings.insert("server.listen".into(), listen);
        settings.remove("auth.development");
        Self { client, settings, log: ground.folder().join(format!("log-{number}")), child: None }
    }

    /// Starts it, and waits for nothing.
    pub(super) fn launch(&mut self) {
        self.launch_with(&[], &[]);
    }

    /// The same with an environment and further settings.
    pub(super) fn launch_with(&mut self, environment: &[(&str, &str)], further: &[(&str, &str)]) {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(BINARY);
        command.arg("dev").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(environment.iter().copied());
        let settings = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in settings.chain(further.iter().copied()) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        self.child = Some(command.spawn().unwrap());
    }

    pub(super) async fn start(&mut self) {
        self.launch();
        self.is_ready().await;
    }

    /// Starts all of them. The first one makes the tables.
    pub(super) async fn start_all(ground: &Ground) -> Vec<Self> {
        let mut processes: Vec<_> = (0..ground.ways.len()).map(|number| Self::new(ground, number)).collect();
        for process in &mut processes {
            process.start().await;
        }
        for process in &processes {
            process.uses_both_tiers().await;
        }
        processes
    }

    /// Waits until it takes requests, and says how long that took.
    pub(super) async fn is_ready(&self) -> Duration {
        let begin = Instant::now();
        while !self.answers("/health/ready").await {
            assert!(begin.elapsed() < PATIENCE, "the server is not ready:\n{}", self.said("").join("\n"));
            tokio::time::sleep(STEP).await;
        }
        begin.elapsed()
    }

    async fn answers(&self, path: &str) -> bool {
        let request = self.client.request(Method::GET, path).timeout(Duration::from_secs(2));
        Client::try_send(request).await.is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until both of its tiers are used, and says how long that took.
    pub(super) async fn uses_both_tiers(&self) -> Duration {
        let begin = Instant::now();
        loop {
            let request = self.client.request(Method::GET, "/stats").timeout(Duration::from_secs(2));
            let figures = Client::try_send(request).await.map(|answer| answer.body);
            let are_used = |body: &Value| body["local_tier"]["enabled"] == true && body["second_tier"]["connected"] == true;
            if figures.as_ref().is_ok_and(are_used) {
                return begin.elapsed();
            }
            let said = || {
                let lines = self.said("nworkflow_state::cache");
                lines[lines.len().saturating_sub(12)..].join("\n")
            };
            assert!(begin.elapsed() < PATIENCE, "both tiers are not used: {figures:?}\n{}", said());
            tokio::time::sleep(STEP).await;
        }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &process]).status().unwrap().success());
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lines of its log with this text.
    pub(super) fn said(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Whether it runs. A server that ends by itself has failed.
    pub(super) fn lives(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
