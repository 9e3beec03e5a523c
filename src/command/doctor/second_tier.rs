//! The second cache tier: whether it answers, what it is, and whether this login may do what the server needs.

use crate::cache::dragonfly::{self, Address};
use crate::config::Config;
use crate::domain::diagnosis::Diagnosis;

pub(super) async fn examine(config: &Config) -> Vec<Diagnosis> {
    let subject = "second cache tier";
    if !config.dragonfly.is_configured() {
        return Vec::new();
    }
    if config.database.is_embedded() {
        return vec![Diagnosis::note(subject, "configured, but not used with the embedded database")];
    }
    match Address::new(&config.dragonfly) {
        Err(reason) => vec![Diagnosis::wrong(subject, reason).advise("Correct that setting.")],
        Ok(address) => dragonfly::examine(&address, config.dragonfly.operation_timeout_ms.into()).await,
    }
}
