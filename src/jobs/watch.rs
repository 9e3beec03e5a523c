//! Asks the store again and again whether it is there. The caches live on what it tells then: its clock, and which life of it this is.

use std::time::Duration;

use crate::lifecycle::Lifecycle;
use crate::service::health::Health;

/// Pause between two questions: as long may a cache not notice that the database was restored from a backup.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until the process stops.
pub async fn run(health: Health, lifecycle: Lifecycle) {
    loop {
        // What it answers is noticed below; that it does not is for probes and requests to tell.
        drop(health.ready().await);
        tokio::select! {
            () = lifecycle.soft().cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
