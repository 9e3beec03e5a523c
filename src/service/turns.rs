//! Turns of idempotency keys: a request waits for the one with the same key that is at work in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::error::{Code, Error, Result};

/// A tenant and a hashed key.
type Key = (Box<str>, Uuid);

/// The keys of writes at work in this process, each behind a lock that the next request with the key waits for. The map holds no more
/// entries than requests are at work.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>);

/// The turn of one write; the next one begins when it is dropped.
pub(super) struct Turn {
    turns: Turns,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn.
    ///
    /// # Errors
    /// It did not come within `wait`.
    pub(super) async fn turn(&self, tenant: &str, key: Uuid, wait: Duration) -> Result<Turn> {
        let key: Key = (tenant.into(), key);
        let lock = {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.entry(key.clone()).or_default())
        };
        // Made before waiting, so that a request that stops waiting cleans up as well.
        let mut turn = Turn { turns: self.clone(), key, guard: None };
        turn.guard = Some(tokio::time::timeout(wait, lock.lock_owned()).await.map_err(|_| in_flight())?);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut keys = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: no other request holds or waits for the lock.
        if keys.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            keys.remove(&self.key);
        }
    }
}

/// The error for a request whose key is still in use.
pub(super) fn in_flight() -> Error {
    Error::new(Code::IdempotencyInFlight, "A request with this Idempotency-Key is still running.").with_retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_in_flight_is_waited_for_and_forgotten() {
        let turns = Turns::default();
        let turn = || turns.turn("acme", Uuid::nil(), Duration::ZERO);
        let first = turn().await.unwrap_or_else(|_| panic!("the first waits for nobody"));
        assert_eq!(turn().await.err().map(|error| error.code), Some(Code::IdempotencyInFlight));
        drop(first);
        drop(turn().await);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
