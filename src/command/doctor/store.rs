//! The store, looked at as `serve` would open it: connection, role, row level security, migrations.

use std::sync::Arc;

use crate::app::{self, AppOptions, StartError};
use crate::config::{Config, Secret};
use crate::domain::clock::Clock;
use crate::domain::commit::NoObserver;
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::domain::store_life::StoreLife;
use crate::lifecycle::Lifecycle;
use crate::store::sqlite::{DATABASE_FILE, FolderInUse};
use crate::store::{StoreError, postgres};

const POSTGRESQL: &str = "postgresql";
const EMBEDDED: &str = "embedded database";

pub(super) async fn examine(config: &Config) -> Vec<Diagnosis> {
    if config.database.is_embedded() {
        // Opening it would make it.
        if !config.data_dir.join(DATABASE_FILE).exists() {
            return vec![Diagnosis::note(EMBEDDED, "not there yet; the first start makes it")];
        }
        return vec![open(config.clone(), EMBEDDED, "answers, and its schema is current").await];
    }
    let unread = postgres::unread_parameters(&config.database);
    let mut config = config.clone();
    // With the owner's URL the store would migrate.
    config.database.migrate_url = Secret::default();
    let mut found = match postgres::examine(&config.database).await {
        Ok(found) => found,
        Err(error) => {
            let failed = failed(POSTGRESQL, &StartError::Postgres(error));
            return std::iter::once(failed).chain(unread).collect();
        }
    };
    found.extend(unread);
    // On a shared connection the rest would fail for reasons that are none of its own.
    if found.iter().all(|one| one.verdict != Verdict::Wrong || one.subject != "postgresql pooler") {
        let fine = "answers, its schema is current, and the server's role is bound by row level security";
        found.insert(0, open(config, POSTGRESQL, fine).await);
    }
    found
}

async fn open(config: Config, subject: &str, fine: &str) -> Diagnosis {
    let lifecycle = Lifecycle::new();
    let opened = app::open_store(
        &config,
        AppOptions { development: false },
        Clock::new(),
        &lifecycle,
        Arc::new(NoObserver),
        StoreLife::database(Clock::new()),
    )
    .await;
    let found = match opened {
        Err(StartError::Store(StoreError::Unavailable(cause))) if cause.is::<FolderInUse>() => Diagnosis::note(subject, cause.to_string()),
        Err(error) => failed(subject, &error),
        Ok(store) => {
            let answer = store.ping().await;
            store.close().await;
            match answer {
                Ok(()) => Diagnosis::fine(subject, fine),
                Err(error) => Diagnosis::wrong(subject, app::with_causes(&error)).advise("The log of the database tells more."),
            }
        }
    };
    lifecycle.stop();
    found
}

fn failed(subject: &str, error: &StartError) -> Diagnosis {
    let found = Diagnosis::wrong(subject, error.to_string());
    match error.advice() {
        Some(advice) => found.advise(advice),
        None => found,
    }
}
