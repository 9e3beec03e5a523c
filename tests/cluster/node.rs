//! A server in this process: quick to start, its figures can be read, its clock moved. It cannot be killed.

use nworkflow_state::app::{App, AppOptions};
use nworkflow_state::cache::{BusFigures, SecondTierFigures, Statistics};
use nworkflow_state::config::Config;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::http::server;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::service::Services;

use super::client::Client;
use super::ground::Ground;
use super::until;

pub(super) struct Node {
    pub(super) client: Client,
    pub(super) base: String,
    services: Services,
    lifecycle: Lifecycle,
}

impl Node {
    pub(super) async fn start(ground: &Ground, number: usize) -> Self {
        Self::start_with(ground, ground.config(number)).await
    }

    pub(super) async fn start_with(ground: &Ground, config: Config) -> Self {
        let node = Self::launch(ground, config).await;
        node.settles().await;
        node
    }

    /// One without a second tier.
    pub(super) async fn start_without_tier(ground: &Ground, number: usize) -> Self {
        let mut config = ground.config(number);
        config.dragonfly.url = nworkflow_state::config::Secret::from(String::new());
        Self::launch(ground, config).await
    }

    async fn launch(ground: &Ground, config: Config) -> Self {
        let (clock, lifecycle) = (Clock::new(), Lifecycle::new());
        let server_config = config.server.clone();
        let app = App::build(config, AppOptions { development: true }, clock, lifecycle.clone()).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        lifecycle.supervise("http", server::serve(listener, app.router, &server_config, &lifecycle));
        Self { client: Client::new(&base, &ground.token), base, services: app.services, lifecycle }
    }

    /// All servers of a ground, each heard by the others.
    pub(super) async fn start_all(ground: &Ground) -> Vec<Self> {
        let mut nodes = Vec::new();
        for number in 0..ground.ways.len() {
            nodes.push(Self::start(ground, number).await);
        }
        // Each newcomer empties the tiers of those who were there: until they have noticed, a test would see that instead of what it does.
        let others = nodes.len() as u64 - 1;
        for node in &nodes {
            until("all servers are known to each other", async || node.bus().doubts >= others).await;
        }
        nodes
    }

    /// Waits until both tiers are used.
    pub(super) async fn settles(&self) -> std::time::Duration {
        until("both tiers are used", async || self.second().connected && self.local().enabled).await
    }

    /// Work beside the test's.
    pub(super) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        self.lifecycle.spawn(task)
    }

    pub(super) fn local(&self) -> Statistics {
        self.services.operations.levels(true).local
    }

    pub(super) fn second(&self) -> SecondTierFigures {
        self.services.operations.levels(true).second.unwrap()
    }

    pub(super) fn bus(&self) -> BusFigures {
        self.services.operations.levels(true).bus
    }

    /// How often the caches were found to be behind, by the server's own sampler.
    pub(super) fn found_wrong(&self) -> u64 {
        // The first look may be as late as the bus.
        self.services.operations.levels(true).sampler.inconsistent[1..].iter().sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lifecycle.stop();
        self.lifecycle.hard().cancel();
    }
}
