//! What servers stand on: a database, a second tier, and the ways to both.

use std::collections::BTreeMap;

use nworkflow_state::config::{self, Config, Source};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::http::auth::{DevelopmentClaims, DevelopmentIssuer};
use tempfile::TempDir;

use super::flavour::{Flavour, Tier};
use crate::support::postgres::{APP, TestDatabase};
use crate::support::postgres_cluster::Cluster;
use crate::support::tcp_proxy::TcpProxy;

/// Where the tables are.
pub(super) enum Database {
    /// Among those of other tests.
    Shared(TestDatabase),
    /// In a cluster of its own, which may be crashed.
    Own(Cluster),
}

impl Database {
    /// For the servers. The one of a cluster of its own makes its tables and its role itself.
    fn url(&self) -> String {
        match self {
            Self::Shared(database) => database.url(APP),
            Self::Own(cluster) => cluster.url(),
        }
    }

    /// For a superuser, past every proxy.
    pub(super) fn superuser_url(&self) -> String {
        match self {
            Self::Shared(database) => database.url("postgres"),
            Self::Own(cluster) => cluster.url(),
        }
    }
}

/// The ways of one server.
pub(super) struct Ways {
    /// To the second tier; none to a cluster, whose nodes say themselves where they are.
    pub(super) tier: Option<TcpProxy>,
    pub(super) postgres: TcpProxy,
}

/// The ground of some servers.
pub(super) struct Ground {
    pub(super) tier: Tier,
    pub(super) ways: Vec<Ways>,
    pub(super) database: Database,
    pub(super) token: String,
    settings: BTreeMap<String, String>,
    folder: TempDir,
}

impl Ground {
    /// The ground of three servers, on a database among those of other tests.
    pub(super) async fn new(flavour: Flavour) -> Self {
        Self::over(flavour, Database::Shared(TestDatabase::migrated().await)).await
    }

    pub(super) async fn over(flavour: Flavour, database: Database) -> Self {
        let tier = Tier::start(flavour);
        let url: sqlx::postgres::PgConnectOptions = database.url().parse().unwrap();
        let postgres = format!("{}:{}", url.get_host(), url.get_port()).parse().unwrap();
        let mut ways = Vec::new();
        for _ in 0..3 {
            let to_tier = match &tier {
                Tier::One(server) => Some(TcpProxy::start(server.address()).await),
                Tier::Nodes(_) => None,
            };
            ways.push(Ways { tier: to_tier, postgres: TcpProxy::start(postgres).await });
        }
        let folder = TempDir::new().unwrap();
        let claims = DevelopmentClaims { ttl_seconds: 36_000, ..DevelopmentClaims::default() };
        let token = DevelopmentIssuer::load_or_create(folder.path()).unwrap().sign(&claims, &Clock::new()).unwrap();
        Self { tier, ways, database, token, settings: BTreeMap::new(), folder }
    }

    /// A setting of all servers that are started from now on.
    pub(super) fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// The settings of a server.
    pub(super) fn settings(&self, number: usize) -> BTreeMap<String, String> {
        let way = &self.ways[number];
        let database = self.database.url();
        let (before, place) = database.rsplit_once('@').unwrap();
        let url = match &self.tier {
            Tier::One(server) => server.url_at(way.tier.as_ref().unwrap().address()),
            Tier::Nodes(cluster) => cluster.urls().join(","),
        };
        let ca_file = match &self.tier {
            Tier::One(server) if url.starts_with("rediss:") => server.ca_file().display().to_string(),
            _ => String::new(),
        };
        let mut settings: BTreeMap<String, String> = [
            ("auth.development", "true".to_owned()),
            ("data_dir", self.folder.path().display().to_string()),
            ("server.metrics_listen", String::new()),
            ("server.listen", "127.0.0.1:0".to_owned()),
            ("database.url", format!("{before}@{}/{}", way.postgres.address(), place.split_once('/').unwrap().1)),
            ("database.pool_size", "8".to_owned()),
            // What a slow second tier does to a small pool is not what is tested.
            ("database.pool_wait_ms", "1000".to_owned()),
            ("dragonfly.url", url),
            ("dragonfly.cluster", matches!(self.tier, Tier::Nodes(_)).to_string()),
            ("dragonfly.ca_file", ca_file),
            // An answer in so many is looked at again: the product's own eye on its caches.
            ("cache.sample_every", "50".to_owned()),
            ("jobs.sweep", "false".to_owned()),
            // Why a tier is away is said at this level.
            ("log.level", "warn,nworkflow_state::cache=debug".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        settings.extend(self.settings.clone());
        settings
    }

    pub(super) fn config(&self, number: usize) -> Config {
        config::load(&Source { flags: self.settings(number).into_iter().collect(), ..Source::default() }).unwrap()
    }

    /// The version that PostgreSQL has of a state, read past every server; 0: none, or deleted.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The way of a server to the second tier, which is one server.
    pub(super) fn to_tier(&self, number: usize) -> &TcpProxy {
        self.ways[number].tier.as_ref().expect("a cluster has no proxy")
    }
}
