//! Asks the store again and again whether it is there. The caches live on what it tells then: its clock, and which life of it this is.

use std::time::Duration;

use crate::lifecycle::Lifecycle;
use crate::service::health::Health;

/// Pause between two questions: as long may a cache not notice that the database was restored from a backup.
const PAUSE: Duration = Duration::from_secs(1);

/// The same after a question without an answer: requests are refused meanwhile, also when it was one slow moment.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks until the process stops.
pub async fn run(health: Health, lifecycle: Lifecycle) {
    loop {
        // What it answers is noticed below; that it does not is for probes and requests to tell.
        let pause = if health.ready().await.is_ok() { PAUSE } else { AGAIN };
        tokio::select! {
            () = lifecycle.soft().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
