//! `cache.single_server`: alone, a server believes its own memory; beside another one it does not start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nworkflow_state::app::{App, AppOptions, StartError};
use nworkflow_state::config::{self, Config, Secret, Source};
use nworkflow_state::domain::clock::{Clock, Timestamp};
use nworkflow_state::domain::id::{ExecutionId, TenantId, UserId, WorkflowId};
use nworkflow_state::domain::principal::{Permission, Principal};
use nworkflow_state::domain::state::{StateDocument, StateKey};
use nworkflow_state::domain::version::Precondition;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::service::{Freshness, Tier, WriteRequest};
use uuid::Uuid;

use crate::support::postgres::{APP, OWNER, TestDatabase};

fn config(database: &TestDatabase, folder: &Path, alone: bool) -> Config {
    let flags = [("server.metrics_listen", ""), ("cache.single_server", if alone { "true" } else { "false" })];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    let mut config = config::load(&Source { flags, ..Source::default() }).unwrap();
    config.database.url = Secret::from(database.url(APP));
    config.data_dir = folder.to_owned();
    config
}

struct Server {
    app: App,
    lifecycle: Lifecycle,
}

impl Server {
    async fn start(database: &TestDatabase, folder: &Path, alone: bool) -> Result<Self, StartError> {
        let lifecycle = Lifecycle::new();
        let options = AppOptions { development: true };
        let app = App::build(config(database, folder, alone), options, Clock::new(), lifecycle.clone()).await?;
        Ok(Self { app, lifecycle })
    }

    async fn tier(&self, caller: &Arc<Principal>) -> Tier {
        self.app.services.states.get(caller, state(), Freshness::default()).await.unwrap().source.tier
    }

    async fn stop(self) {
        self.lifecycle.stop();
        self.lifecycle.finished().await;
        self.app.store.close().await;
    }
}

fn caller() -> Arc<Principal> {
    Arc::new(Principal {
        tenant: TenantId::parse("acme").unwrap(),
        issuer: "https://issuer.test".into(),
        subject: UserId::parse("ada").unwrap(),
        client: None,
        actor: None,
        permissions: [Permission::Admin].into_iter().collect(),
        expires_at: Timestamp::from_microseconds(i64::MAX),
    })
}

fn state() -> StateKey {
    StateKey { workflow: WorkflowId::parse("order").unwrap(), execution: ExecutionId::parse("e").unwrap() }
}

async fn write(server: &Server, caller: &Arc<Principal>) {
    let request =
        WriteRequest { caller: Arc::clone(caller), request_id: Uuid::nil(), precondition: Precondition::default(), idempotency: None };
    let document = StateDocument::parse(r#"{"marking":{"a":1}}"#).unwrap();
    server.app.services.states.put(&request, state(), document).await.unwrap();
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened that {what}");
}

#[tokio::test]
async fn a_server_that_is_alone_believes_its_own_memory() {
    let (database, folder, caller) = (TestDatabase::migrated().await, tempfile::tempdir().unwrap(), caller());
    let server = Server::start(&database, folder.path(), true).await.unwrap();
    write(&server, &caller).await;
    assert_eq!(server.tier(&caller).await, Tier::Local);

    // Without the lock it may not be alone any more.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    database.execute(end).await;
    until("the local tier goes off", async || server.tier(&caller).await != Tier::Local).await;
    until("the lock is taken again", async || server.tier(&caller).await == Tier::Local).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_may_migrate_begins_beside_another() {
    let (database, folder) = (TestDatabase::migrated().await, tempfile::tempdir().unwrap());
    let first = Server::start(&database, folder.path(), false).await.unwrap();
    let mut config = config(&database, folder.path(), false);
    config.database.migrate_url = Secret::from(database.url(OWNER));
    let lifecycle = Lifecycle::new();
    let starting = App::build(config, AppOptions { development: true }, Clock::new(), lifecycle.clone());
    let app = tokio::time::timeout(Duration::from_secs(60), starting).await.expect("it does not wait for the first").unwrap();
    Server { app, lifecycle }.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn neither_begins_beside_the_other() {
    let (database, folder) = (TestDatabase::migrated().await, tempfile::tempdir().unwrap());
    let refusal = async |alone| match Server::start(&database, folder.path(), alone).await {
        Err(error) => (error.to_string(), error.is_configuration()),
        Ok(_) => panic!("it started"),
    };
    let alone = Server::start(&database, folder.path(), true).await.unwrap();
    let (text, is_configuration) = refusal(false).await;
    assert!(text.contains("serves this database alone") && is_configuration, "{text}");
    let (text, _) = refusal(true).await;
    assert!(text.contains("another server serves this database"), "{text}");
    alone.stop().await;

    let many =
        [Server::start(&database, folder.path(), false).await.unwrap(), Server::start(&database, folder.path(), false).await.unwrap()];
    let (text, _) = refusal(true).await;
    assert!(text.contains("another server serves this database"), "{text}");
    let caller = caller();
    write(&many[0], &caller).await;
    assert_eq!(many[0].tier(&caller).await, Tier::Store { asked: false }, "one of many does not believe its own memory");
    for server in many {
        server.stop().await;
    }
    Server::start(&database, folder.path(), true).await.unwrap().stop().await;
}
