//! The one read-through and write-through path.
//!
//! A write runs in a task of its own: a client that hangs up, or a deadline that passes, ends the waiting but never the write, so a
//! connection is never left in the middle of a transaction and no write is half known.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{Done, Freshness, IdempotencyKey, WriteRequest};
use crate::domain::principal::Principal;
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::store::{self, Idempotency, Lookup, Outcome, Store, StoreError, WriteContext};

/// How often a compare-and-set is tried before the answer is 409.
const COMPARE_AND_SET_ATTEMPTS: usize = 5;

/// The live version of a resource, being read.
pub(super) type CurrentVersion = Pin<Box<dyn Future<Output = store::Result<Option<Version>>> + Send>>;

/// The path to the store. Clones share everything.
#[derive(Clone)]
pub struct Memory {
    store: Arc<dyn Store>,
    lifecycle: Lifecycle,
    keys: KeysInFlight,
    idempotency_wait: Duration,
}

impl Memory {
    /// A memory over a store. `idempotency_wait` is how long a request waits for the one with the same key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, lifecycle: Lifecycle, idempotency_wait: Duration) -> Self {
        Self { store, lifecycle, keys: KeysInFlight::default(), idempotency_wait }
    }

    /// The store, for reads of lists and history, which no cache holds.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Whether the process takes no new work.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lifecycle.is_stopping()
    }

    /// Reads one resource. `version_of` tells a record's version.
    ///
    /// # Errors
    /// The store could not answer, or has nothing as recent as asked.
    pub async fn read<R, F>(&self, freshness: Freshness, load: F, version_of: fn(&R) -> Version) -> Result<Option<R>>
    where
        F: Future<Output = store::Result<Lookup<R>>>,
    {
        let found = load.await?;
        let reached = match &found {
            Lookup::Live(record) => Some(version_of(record)),
            Lookup::Gone(version) => Some(*version),
            Lookup::Absent => None,
        };
        if freshness.min_version.is_some_and(|wanted| reached.is_none_or(|reached| reached < wanted)) {
            let mut error = Error::new(Code::VersionNotReached, "The store has no version as recent as X-Min-Version.");
            error.current_version = reached;
            return Err(error);
        }
        Ok(match found {
            Lookup::Live(record) => Some(record),
            Lookup::Gone(_) | Lookup::Absent => None,
        })
    }

    /// Writes one resource.
    ///
    /// `write` makes the store call under the given expectation; `current` reads the live version, for preconditions that the store
    /// cannot evaluate itself (a list of versions, `If-None-Match` with a version). `version_of` tells what was written. `absent` is the
    /// error for a delete of nothing.
    ///
    /// # Errors
    /// A failed precondition, a reused key, or whatever keeps the store from answering.
    pub async fn write<R, W, WF, C>(
        &self,
        request: &WriteRequest,
        write: W,
        current: C,
        version_of: fn(&R) -> Version,
        absent: Code,
    ) -> Result<Done<R>>
    where
        R: Send + 'static,
        W: Fn(Arc<dyn Store>, WriteContext, Expected) -> WF + Send + Sync + 'static,
        WF: Future<Output = store::Result<Outcome<R>>> + Send + 'static,
        C: Fn(Arc<dyn Store>) -> CurrentVersion + Send + Sync + 'static,
    {
        let idempotency = request.idempotency.as_ref().map(|key| hash(&request.caller, key));
        let context = WriteContext {
            tenant: request.caller.tenant.clone(),
            actor: request.caller.subject.clone(),
            request_id: request.request_id,
            idempotency,
        };
        // Held by the task, so that a second request with the key waits for the write itself, not for its client.
        let turn = match idempotency {
            Some(idempotency) => Some(self.keys.turn((context.tenant.as_str().into(), idempotency.key), self.idempotency_wait).await?),
            None => None,
        };
        let store = Arc::clone(&self.store);
        let precondition = request.precondition.clone();
        let task = self.lifecycle.spawn(async move {
            let _turn = turn;
            let Some(expected) = precondition.as_expected() else {
                for _ in 0..COMPARE_AND_SET_ATTEMPTS {
                    let version = current(Arc::clone(&store)).await?;
                    let met = precondition.is_met_by(version);
                    if !met && idempotency.is_none() {
                        return Ok(Attempt::Outcome(Outcome::Refused { current: version }));
                    }
                    // With a key the store is asked even when the condition fails: it may hold the answer of an equal request.
                    let expected = if met { exactly(version) } else { never() };
                    match write(Arc::clone(&store), context.clone(), expected).await? {
                        Outcome::Refused { current } if met && precondition.is_met_by(current) => {}
                        outcome => return Ok(Attempt::Outcome(outcome)),
                    }
                }
                return Ok(Attempt::Exhausted);
            };
            write(store, context, expected).await.map(Attempt::Outcome)
        });
        let attempt = match task.await {
            Ok(attempt) => attempt,
            Err(error) => return Err(Error::new(Code::Internal, "The write broke off.").with_cause(error)),
        };
        match attempt {
            Ok(Attempt::Outcome(outcome)) => conclude(outcome, version_of, absent),
            Ok(Attempt::Exhausted) => {
                Err(Error::new(Code::Conflict, format!("The resource changed {COMPARE_AND_SET_ATTEMPTS} times meanwhile.")))
            }
            Err(StoreError::Contended(cause)) if idempotency.is_some() => Err(in_flight().with_cause(cause)),
            Err(error) => Err(error.into()),
        }
    }
}

enum Attempt<R> {
    Outcome(Outcome<R>),
    Exhausted,
}

fn exactly(version: Option<Version>) -> Expected {
    version.map_or(Expected::Absent, Expected::Exactly)
}

/// An expectation that nothing meets: no key ever reaches the last version.
fn never() -> Expected {
    Version::new(Version::MAX).map_or(Expected::Absent, Expected::Exactly)
}

fn conclude<R>(outcome: Outcome<R>, version_of: fn(&R) -> Version, absent: Code) -> Result<Done<R>> {
    match outcome {
        Outcome::Applied { created, record } => {
            Ok(Done { status: if created { 201 } else { 200 }, version: version_of(&record), record: Some(record), replayed: false })
        }
        Outcome::Replayed(replay) => Ok(Done { status: replay.status, version: replay.version, record: replay.record, replayed: true }),
        Outcome::Refused { current } => Err(Error::precondition_failed(current)),
        Outcome::Absent => Err(Error::new(absent, format!("{}.", absent.title()))),
        Outcome::KeyReused => {
            Err(Error::new(Code::IdempotencyKeyReused, "The Idempotency-Key was used with another request in the last 24 hours."))
        }
    }
}

fn in_flight() -> Error {
    Error::new(Code::IdempotencyInFlight, "A request with this Idempotency-Key is still running.").with_retry_after(1)
}

/// 128 bits of SHA-256 over issuer, subject and key, separated by a byte that none of them holds.
fn hash(caller: &Principal, key: &IdempotencyKey) -> Idempotency {
    let mut context = Context::new(&SHA256);
    for part in [&*caller.issuer, "\0", caller.subject.as_str(), "\0", &key.key] {
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Idempotency { key: Uuid::from_bytes(bytes), fingerprint: key.fingerprint }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (code, detail) = match &error {
            StoreError::Unavailable(_) => (Code::StoreUnavailable, "The database does not answer."),
            StoreError::Contended(_) => (Code::Overloaded, "Other writers held the resource for too long."),
            StoreError::OutcomeUnknown(_) => (Code::OutcomeUnknown, "The connection to the database broke during the commit."),
            StoreError::Corrupt { .. } | StoreError::Internal(_) => (Code::Internal, "Something went wrong in the server."),
        };
        Self::new(code, detail).with_cause(error)
    }
}

/// A tenant and a hashed key.
type KeyInFlight = (Box<str>, Uuid);

/// The idempotency keys of writes at work in this process, each behind a lock that the next request with the key waits for. The map
/// holds no more entries than requests are at work.
#[derive(Clone, Default)]
struct KeysInFlight(Arc<Mutex<HashMap<KeyInFlight, Arc<tokio::sync::Mutex<()>>>>>);

/// The turn of one write; the next one begins when it is dropped.
struct Turn {
    keys: KeysInFlight,
    key: KeyInFlight,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeysInFlight {
    async fn turn(&self, key: KeyInFlight, wait: Duration) -> Result<Turn> {
        let lock = {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.entry(key.clone()).or_default())
        };
        // Made before waiting, so that a request that stops waiting cleans up as well.
        let mut turn = Turn { keys: self.clone(), key, guard: None };
        turn.guard = Some(tokio::time::timeout(wait, lock.lock_owned()).await.map_err(|_| in_flight())?);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut keys = self.keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: no other request holds or waits for the lock.
        if keys.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_in_flight_is_waited_for_and_forgotten() {
        let keys = KeysInFlight::default();
        let key: KeyInFlight = ("acme".into(), Uuid::nil());
        let first = keys.turn(key.clone(), Duration::ZERO).await.unwrap_or_else(|_| panic!("the first waits for nobody"));
        let second = keys.turn(key.clone(), Duration::ZERO).await;
        assert_eq!(second.err().map(|error| error.code), Some(Code::IdempotencyInFlight));
        drop(first);
        drop(keys.turn(key, Duration::ZERO).await);
        assert!(keys.0.lock().unwrap().is_empty());
    }
}
