//! The store, looked at as `serve` would open it: connection, role, row level security, migrations.

use std::sync::Arc;

use super::Finding;
use crate::app::{self, AppOptions, StartError};
use crate::config::{Config, Secret};
use crate::domain::clock::Clock;
use crate::domain::commit::NoObserver;
use crate::domain::store_life::StoreLife;
use crate::lifecycle::Lifecycle;
use crate::store::StoreError;
use crate::store::sqlite::{DATABASE_FILE, FolderInUse};

pub(super) async fn examine(config: &Config) -> (String, Finding) {
    if config.database.is_embedded() {
        let subject = "embedded database".to_owned();
        // Opening it would make it.
        if !config.data_dir.join(DATABASE_FILE).exists() {
            return (subject, Finding::Note("not there yet; the first start makes it".to_owned()));
        }
        return (subject, open(config.clone()).await);
    }
    let mut config = config.clone();
    // With the owner's URL the store would migrate.
    config.database.migrate_url = Secret::default();
    ("postgresql".to_owned(), open(config).await)
}

async fn open(config: Config) -> Finding {
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
    let finding = match opened {
        Err(StartError::Store(StoreError::Unavailable(cause))) if cause.is::<FolderInUse>() => Finding::Note(cause.to_string()),
        Err(error) => Finding::Wrong(error.to_string()),
        Ok(store) => {
            let answer = store.ping().await;
            store.close().await;
            match answer {
                Ok(()) => Finding::Fine("answers, its schema is current, and the server's role is bound by row level security".to_owned()),
                Err(error) => Finding::Wrong(app::with_causes(&error)),
            }
        }
    };
    lifecycle.stop();
    match (finding, config.database.is_embedded()) {
        (Finding::Fine(_), true) => Finding::Fine("answers, and its schema is current".to_owned()),
        (finding, _) => finding,
    }
}
