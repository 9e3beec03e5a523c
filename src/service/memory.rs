//! The one read-through and write-through path.
//!
//! A write runs in a task of its own: a client that hangs up, or a deadline that passes, ends the waiting but never the write, so a
//! connection is never left in the middle of a transaction and no write is half known.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::resource::{Render, Resource};
use super::sampler::{Sampler, SamplerFigures};
use super::turns::{Turns, in_flight};
use super::{Done, Freshness, IdempotencyKey, Representation, Source, Tier, WriteRequest};
use crate::cache::{Entry, Flights, Key, Loaded, Tiers, Wanted};
use crate::deadline;
use crate::domain::clock::Timestamp;
use crate::domain::principal::Principal;
use crate::domain::store_life::StoreLife;
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::places;
use crate::store::{self, Idempotency, Lookup, Outcome, Store, StoreError, Tombstone, WriteContext};

/// How often a compare-and-set is tried before the answer is 409.
pub(super) const COMPARE_AND_SET_ATTEMPTS: usize = 5;

/// The future of a store call.
pub(super) type Calling<T> = Pin<Box<dyn Future<Output = store::Result<T>> + Send>>;

/// What can be chosen about the path to the store.
#[derive(Debug, Clone, Copy)]
pub struct MemorySettings {
    /// How long a request waits for the one with the same idempotency key.
    pub idempotency_wait: Duration,
    /// One answer of a cache in so many is compared with the store; 0: none.
    pub sample_every: u64,
    /// Whether caches go on to answer while the store does not.
    pub serve_cached_when_db_down: bool,
}

/// The path to the store. Clones share everything.
#[derive(Clone)]
pub struct Memory {
    store: Arc<dyn Store>,
    lifecycle: Lifecycle,
    turns: Turns,
    settings: MemorySettings,
    life: StoreLife,
    tiers: Tiers,
    sampler: Arc<Sampler>,
    flights: Arc<Flights<Arc<Error>, Loaded>>,
}

/// What a read found, and where.
pub(super) struct Read {
    /// The finished answer, or that there is none.
    pub(super) entry: Arc<Entry>,
    source: Source,
    /// Whether it is as recent as asked.
    is_reached: bool,
}

impl Read {
    /// The representation.
    ///
    /// # Errors
    /// There is nothing as recent as asked, or the resource is not there: `code`.
    pub(super) fn representation(&self, code: Code) -> Result<Representation> {
        let mut error = match (self.entry.version(), self.entry.body()) {
            _ if !self.is_reached => Error::new(Code::VersionNotReached, "The store has no version as recent as X-Min-Version."),
            (Some(version), Some(body)) => return Ok(Representation { version, body: body.clone(), source: self.source }),
            _ => absent(code),
        };
        error.current_version = self.entry.version().filter(|_| !self.is_reached);
        Err(error.with_source(Some(self.source)))
    }
}

impl Memory {
    /// A memory over a store and the cache that the store tells of its commits.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, tiers: Tiers, lifecycle: Lifecycle, life: StoreLife, settings: MemorySettings) -> Self {
        let sampler = Arc::new(Sampler::new(settings.sample_every));
        Self { store, lifecycle, turns: Turns::default(), settings, life, tiers, sampler, flights: Arc::default() }
    }

    /// The store's time, for what need not be exact.
    pub(super) fn now(&self) -> Timestamp {
        self.life.about_now()
    }

    /// What is known of the store beside its rows.
    pub(super) fn life(&self) -> &StoreLife {
        &self.life
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

    /// Reads one resource: from the cache, or from the store, and then into the cache. Readers that come while a load is at work share it.
    ///
    /// # Errors
    /// The store does not answer. That the resource is not there, or not as recent as asked, is no error yet: the reader may not reach it.
    pub(super) async fn read<R: Resource>(&self, freshness: Freshness, resource: &R, render: Render<R::Record>) -> Result<Read> {
        let key = Key::new(resource.tenant().clone(), resource.name());
        let wanted = Wanted { min_version: freshness.min_version, life: resource.life() };
        let load = || async {
            let found = resource.load(self.store()).await.map_err(Error::from)?;
            let entry = match found {
                Lookup::Live(record) => resource.entry(&record, render(&record)?.body),
                Lookup::Gone(version) => resource.absence(Some(version)),
                Lookup::Absent => resource.absence(None),
            };
            Ok(Arc::new(entry))
        };
        // With nobody to ask, whoever wants no answers of caches is told so by the store itself.
        let store_away = self.life.away_for();
        let from_store = freshness.from_store || (store_away.is_some() && !self.settings.serve_cached_when_db_down);
        let found = loop {
            let found = self.tiers.read(&self.flights, &key, &wanted, from_store, load).await;
            // A load that others share ends with the deadline of the one who does it. Who has more time loads again.
            if !found.as_ref().is_err_and(|error| error.code == Code::DeadlineExceeded) || deadline::has_passed() {
                break found;
            }
        };
        let (entry, tier) = found.map_err(|error: Arc<Error>| error.copy())?;
        let is_reached = entry.answers(&wanted);
        if !matches!(tier, Tier::Store { .. })
            && let Some(place) = self.sampler.pick()
        {
            self.check_later(resource.clone(), key, wanted, place);
        }
        let store_away = store_away.filter(|_| !matches!(tier, Tier::Store { .. }));
        let store_away_seconds = store_away.map(|away| away.as_secs().try_into().unwrap_or(u32::MAX));
        Ok(Read { entry, source: Source { tier, store_away_seconds }, is_reached })
    }

    /// Sees that no cache tells anything older than the store.
    fn check_later<R: Resource>(&self, resource: R, key: Key, wanted: Wanted, place: OwnedSemaphorePermit) {
        let (memory, soft) = (self.clone(), self.lifecycle.soft().clone());
        drop(self.lifecycle.spawn(async move {
            let _place = place;
            tokio::select! {
                () = soft.cancelled() => {}
                () = memory.sampler.check(&*memory.store, &memory.tiers, resource, &key, &wanted) => {}
            }
        }));
    }

    /// What the sampler has found.
    pub(super) fn sampled(&self) -> SamplerFigures {
        self.sampler.figures()
    }

    /// Leaves what a write has made in the cache.
    pub(super) fn keep<R: Resource>(&self, resource: &R, done: &Done<R::Record>) {
        if let (Some(record), Some(rendered), false) = (&done.record, &done.rendered, done.replayed) {
            let key = Key::new(resource.tenant().clone(), resource.name());
            self.tiers.written(key, done.version, resource.entry(record, rendered.body.clone()));
        }
    }

    /// The same for all that one write has made, where anything keeps it.
    pub(super) fn keep_all<'a, R: Resource>(&self, written: impl Iterator<Item = (R, &'a R::Record)>, render: Render<R::Record>) {
        if !self.tiers.keeps() {
            return;
        }
        let entry = |(resource, record): (R, &R::Record)| {
            // What cannot be rendered is not kept; whoever answers with it will say why.
            let body = render(record).ok()?.body;
            Some((Key::new(resource.tenant().clone(), resource.name()), R::version(record), resource.entry(record, body)))
        };
        self.tiers.written_together(written.filter_map(entry).collect());
    }

    /// A session lives on: so does what the cache keeps of it.
    pub(super) fn touched<R: Resource>(&self, resource: &R, version: Version, expires_at: Timestamp) {
        let key = Key::new(resource.tenant().clone(), resource.name());
        self.tiers.local().touched(&key, version, expires_at, expires_at);
    }

    /// The caches.
    pub(super) fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// Saves one resource.
    ///
    /// # Errors
    /// A failed precondition, a reused key, or whatever keeps the store from answering.
    pub(super) async fn save<R: Resource>(
        &self,
        request: &WriteRequest,
        resource: R,
        document: R::Document,
        render: Render<R::Record>,
    ) -> Result<Done<R::Record>> {
        let target = resource.clone();
        let write = move |store: Arc<dyn Store>, context: WriteContext, expected| -> Calling<Outcome<R::Record>> {
            let (target, document) = (target.clone(), document.clone());
            Box::pin(async move { target.save(&*store, &context, expected, &document).await })
        };
        let outcome = self.write(request, resource.clone(), write).await?;
        let done = finish(outcome, R::version, R::ABSENT, render)?;
        self.keep(&resource, &done);
        Ok(done)
    }

    /// Removes one resource.
    ///
    /// # Errors
    /// It is not there, a failed precondition, a reused key, or whatever keeps the store from answering.
    pub(super) async fn remove<R: Resource>(&self, request: &WriteRequest, resource: R) -> Result<Done<()>> {
        let target = resource.clone();
        let write = move |store: Arc<dyn Store>, context: WriteContext, expected| -> Calling<Outcome<Tombstone>> {
            let target = target.clone();
            Box::pin(async move { target.remove(&*store, &context, expected).await })
        };
        match self.write(request, resource.clone(), write).await? {
            Outcome::Applied { record, .. } => {
                let key = Key::new(resource.tenant().clone(), resource.name());
                self.tiers.written(key, record.version, resource.absence(Some(record.version)));
                Ok(Done { status: 204, version: record.version, record: None, rendered: None, replayed: false })
            }
            Outcome::Replayed(replay) => {
                Ok(Done { status: replay.status, version: replay.version, record: None, rendered: None, replayed: true })
            }
            other => Err(refusal(&other, R::ABSENT)),
        }
    }

    /// Any write whose preconditions are about `resource`: in a task of its own, in the turn of its key, and as a compare-and-set when the
    /// store cannot evaluate the preconditions itself (a list of versions, `If-None-Match` with a version).
    ///
    /// # Errors
    /// Whatever keeps the store from answering. Everything else is an outcome.
    pub(super) async fn write<R: Resource, T: Send + 'static>(
        &self,
        request: &WriteRequest,
        resource: R,
        write: impl Fn(Arc<dyn Store>, WriteContext, Expected) -> Calling<Outcome<T>> + Send + Sync + 'static,
    ) -> Result<Outcome<T>> {
        let precondition = request.precondition.clone();
        let has_key = request.idempotency.is_some();
        let attempt = self.run(request, move |store, context| {
            Box::pin(async move {
                if let Some(expected) = precondition.as_expected() {
                    return write(store, context, expected).await.map(Some);
                }
                for _ in 0..COMPARE_AND_SET_ATTEMPTS {
                    let version = resource.load(&*store).await?.live().map(|record| R::version(&record));
                    let met = precondition.is_met_by(version);
                    if !met && !has_key {
                        return Ok(Some(Outcome::Refused { current: version }));
                    }
                    // With a key the store is asked even when the condition fails: it may hold the answer of an equal request.
                    let expected = if met { exactly(version) } else { never() };
                    match write(Arc::clone(&store), context.clone(), expected).await? {
                        Outcome::Refused { current } if met && precondition.is_met_by(current) => {}
                        outcome => return Ok(Some(outcome)),
                    }
                }
                Ok(None)
            })
        });
        attempt.await?.ok_or_else(exhausted)
    }

    /// Runs a piece of writing work in a task of its own, in the turn of the request's idempotency key.
    ///
    /// # Errors
    /// The turn did not come in time, or the store did not answer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        request: &WriteRequest,
        work: impl FnOnce(Arc<dyn Store>, WriteContext) -> Calling<T> + Send + 'static,
    ) -> Result<T> {
        let idempotency = request.idempotency.as_ref().map(|key| hash(&request.caller, key));
        let context = WriteContext {
            tenant: request.caller.tenant.clone(),
            actor: request.caller.subject.clone(),
            request_id: request.request_id,
            idempotency,
        };
        // Held by the task, so that a second request with the key waits for the write itself, not for its client.
        let turn = match idempotency {
            Some(idempotency) => Some(self.turns.turn(context.tenant.as_str(), idempotency.key, self.settings.idempotency_wait).await?),
            None => None,
        };
        let store = Arc::clone(&self.store);
        let (until, held) = (deadline::current(), places::current());
        let writing = async move {
            let _turn = turn;
            work(store, context).await
        };
        let task = self.lifecycle.spawn(places::within(held, deadline::within(until, writing)));
        match task.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(StoreError::Contended(cause))) if idempotency.is_some() => Err(in_flight().with_cause(cause)),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(Error::new(Code::Internal, "The write broke off.").with_cause(error)),
        }
    }
}

/// The answer to a write that gives a representation back.
///
/// # Errors
/// What the outcome says.
pub(super) fn finish<T>(outcome: Outcome<T>, version_of: fn(&T) -> Version, absent: Code, render: Render<T>) -> Result<Done<T>> {
    match outcome {
        Outcome::Applied { created, record } => {
            let (version, rendered) = (version_of(&record), render(&record)?);
            Ok(Done { status: if created { 201 } else { 200 }, version, record: Some(record), rendered: Some(rendered), replayed: false })
        }
        Outcome::Replayed(replay) => {
            let rendered = replay.record.as_ref().map(render).transpose()?;
            Ok(Done { status: replay.status, version: replay.version, record: replay.record, rendered, replayed: true })
        }
        other => Err(refusal(&other, absent)),
    }
}

/// The error for an outcome that is none of success.
pub(super) fn refusal<T>(outcome: &Outcome<T>, absent_code: Code) -> Error {
    match outcome {
        Outcome::Refused { current } => Error::precondition_failed(*current),
        Outcome::KeyReused => key_reused(),
        Outcome::Absent | Outcome::Applied { .. } | Outcome::Replayed(_) => absent(absent_code),
    }
}

/// The error for a resource that is not there, or that the caller does not reach: the two look alike.
pub(super) fn absent(code: Code) -> Error {
    Error::new(code, format!("{}.", code.title()))
}

pub(super) fn key_reused() -> Error {
    Error::new(Code::IdempotencyKeyReused, "The Idempotency-Key was used with another request in the last 24 hours.")
}

pub(super) fn exhausted() -> Error {
    Error::new(Code::Conflict, format!("The resource changed {COMPARE_AND_SET_ATTEMPTS} times meanwhile."))
}

pub(super) fn exactly(version: Option<Version>) -> Expected {
    version.map_or(Expected::Absent, Expected::Exactly)
}

/// An expectation that nothing meets: no key ever reaches the last version.
pub(super) fn never() -> Expected {
    Version::new(Version::MAX).map_or(Expected::Absent, Expected::Exactly)
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
            StoreError::Contended(_) => {
                (Code::Overloaded, "The database is busy: other requests held the resource, or all connections, for too long.")
            }
            StoreError::Refused(_) => (
                Code::CacheUnavailable,
                "The second cache tier cannot be told of the write, and dragonfly.strict is set. Nothing was written.",
            ),
            StoreError::Full => (Code::QueueFull, "Too many requests wait for the database."),
            StoreError::Late => (Code::DeadlineExceeded, "The deadline passed before the database was done. Nothing was written."),
            StoreError::OutcomeUnknown(_) => (Code::OutcomeUnknown, "The connection to the database broke during the commit."),
            StoreError::Corrupt { .. } | StoreError::Internal(_) => (Code::Internal, "Something went wrong in the server."),
        };
        Self::new(code, detail).with_cause(error)
    }
}
