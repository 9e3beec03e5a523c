//! The second cache tier: whether it answers, what it is, and whether this login may do what the server needs.

use super::Finding;
use crate::cache::dragonfly::{self, Address};
use crate::config::Config;

pub(super) async fn examine(config: &Config) -> Option<(String, Finding)> {
    if !config.dragonfly.is_configured() {
        return None;
    }
    let subject = "second cache tier".to_owned();
    if config.database.is_embedded() {
        return Some((subject, Finding::Note("configured, but not used with the embedded database".to_owned())));
    }
    let finding = match Address::new(&config.dragonfly) {
        Err(reason) => Finding::Wrong(reason),
        Ok(address) => match dragonfly::examine(&address).await {
            Ok(server) => Finding::Fine(format!("{server} at {} answers, and lets this login do what the server needs", address.place())),
            Err(reason) => Finding::Wrong(format!("{}: {reason}", address.place())),
        },
    };
    Some((subject, finding))
}
