//! The keys of one issuer: kept, refreshed in the background, fetched early for a key that is not known.
//!
//! **What a request may cost.** A request whose key is known never waits. One whose key is not may wait for the fetch that runs, or start
//! one: at most one in the cooldown, claimed before it begins, whatever becomes of it. All fetches share one flight, so there are never
//! two at a time. The fetches of the background (at start, at each refresh, again and again while the issuer is away) use nothing of that
//! allowance: the first request after a failed start still gets its fetch.
//!
//! **What is believed.** Keys that were fetched last, until the next fetch that brings usable ones; a failed fetch changes nothing. After
//! `stale` seconds without a successful fetch none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::domain::clock::{Clock, Timestamp};
use crate::lifecycle::Lifecycle;

use super::counters::AuthCounters;
use super::fetch::Fetcher;
use super::jwks::{ParsedKeys, VerificationKey};

/// The first pause after a failed fetch of the background, in seconds; it doubles up to the cooldown.
const FIRST_PAUSE_SECONDS: i64 = 1;

/// Keys that were fetched together. Another set has another generation.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    pub(super) generation: u64,
    keys: HashMap<String, VerificationKey>,
}

impl KeySet {
    pub(super) fn get(&self, kid: &str) -> Option<&VerificationKey> {
        self.keys.get(kid)
    }
}

/// What a key id leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// A set that has the key.
    Known(Arc<KeySet>),
    /// The keys are here, and this one is not among them.
    Unknown,
    /// No keys were ever fetched, or too long ago.
    NoKeys,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct KeySource {
    name: String,
    set: ArcSwap<KeySet>,
    clock: Clock,
    /// None: the keys are this server's own and never change.
    remote: Option<Remote>,
}

/// Times in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefreshTimes {
    pub(super) refresh: i64,
    pub(super) stale: i64,
    pub(super) cooldown: i64,
}

#[derive(Debug)]
struct Remote {
    fetcher: Fetcher,
    times: RefreshTimes,
    lifecycle: Lifecycle,
    counters: Arc<AuthCounters>,
    /// Microseconds of the last successful fetch; `i64::MIN` before the first.
    confirmed: AtomicI64,
    /// Microseconds from which on the background fetches again. Requests look at it too, because a timer does not see a clock that is set.
    due: AtomicI64,
    wake: Notify,
    flight: Mutex<Flight>,
    landed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Flight {
    running: bool,
    /// When a request last claimed a fetch.
    claimed: Option<Timestamp>,
    failure: Option<String>,
}

/// What is known about an issuer's keys, for readiness and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerStatus {
    /// The issuer's name in the configuration.
    pub name: String,
    /// How many keys verify tokens now; 0 before the first fetch and after the last successful one is too old.
    pub keys: usize,
    /// Seconds since the last successful fetch; none before it, and for this server's own key.
    pub fetched_seconds_ago: Option<i64>,
    /// Why the last fetch failed, when it did. For operators: it names addresses.
    pub failure: Option<String>,
}

impl KeySource {
    /// Keys that are here already.
    pub(super) fn fixed(name: &str, parsed: ParsedKeys, clock: Clock) -> Arc<Self> {
        let set = KeySet { generation: 1, keys: parsed.keys };
        Arc::new(Self { name: name.to_owned(), set: ArcSwap::from_pointee(set), clock, remote: None })
    }

    /// Keys that are fetched, the first time at once. The background's task ends with the lifecycle.
    pub(super) fn remote(
        name: &str,
        fetcher: Fetcher,
        times: RefreshTimes,
        clock: Clock,
        lifecycle: &Lifecycle,
        counters: Arc<AuthCounters>,
    ) -> Arc<Self> {
        let remote = Remote {
            fetcher,
            times,
            lifecycle: lifecycle.clone(),
            counters,
            confirmed: AtomicI64::new(i64::MIN),
            due: AtomicI64::new(i64::MAX),
            wake: Notify::new(),
            flight: Mutex::default(),
            landed: watch::Sender::new(()),
        };
        let source = Arc::new(Self { name: name.to_owned(), set: ArcSwap::default(), clock, remote: Some(remote) });
        lifecycle.spawn(Arc::clone(&source).keep_fresh());
        source
    }

    /// The present set, unless it is too old.
    fn current(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        let Some(remote) = &self.remote else { return Some(self.set.load_full()) };
        if now.as_microseconds() >= remote.due.load(Ordering::Relaxed) {
            remote.wake.notify_one();
        }
        remote.is_usable(now).then(|| self.set.load_full())
    }

    /// The generation of the present set, unless it is too old.
    pub(super) fn generation(&self, now: Timestamp) -> Option<u64> {
        self.current(now).map(|set| set.generation)
    }

    /// The set that has the key. Waits only when none has, and at most for two fetches.
    pub(super) async fn find(self: &Arc<Self>, kid: &str) -> Found {
        // Twice, because the fetch that was waited for may have begun before the key was published.
        for _ in 0..2 {
            if let Some(set) = self.known(kid) {
                return Found::Known(set);
            }
            let Some(landed) = self.join_or_claim() else { break };
            wait(landed).await;
        }
        match self.current(self.clock.now()) {
            None => Found::NoKeys,
            Some(set) if set.keys.contains_key(kid) => Found::Known(set),
            Some(_) => Found::Unknown,
        }
    }

    fn known(&self, kid: &str) -> Option<Arc<KeySet>> {
        self.current(self.clock.now()).filter(|set| set.keys.contains_key(kid))
    }

    /// The fetch that runs, or one that begins now and uses the allowance; none when it is used up.
    fn join_or_claim(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let remote = self.remote.as_ref()?;
        let mut flight = remote.flight();
        let landed = remote.landed.subscribe();
        if !flight.running {
            let now = self.clock.now();
            // A clock that was set back must not close the door until it catches up.
            let waits = flight.claimed.is_some_and(|claimed| claimed <= now && now < claimed.plus_seconds(remote.times.cooldown));
            if waits {
                return None;
            }
            flight.claimed = Some(now);
            self.start(remote, &mut flight);
        }
        Some(landed)
    }

    /// Fetches on a task of its own: a request that goes away takes no fetch with it.
    fn start(self: &Arc<Self>, remote: &Remote, flight: &mut Flight) {
        flight.running = true;
        let source = Arc::clone(self);
        remote.lifecycle.spawn(async move {
            let Some(remote) = &source.remote else { return };
            let mut landing = Landing { remote, failure: Some("the fetch was broken off".to_owned()) };
            let Some(fetched) = remote.lifecycle.hard().run_until_cancelled(remote.fetcher.fetch()).await else { return };
            landing.failure = source.apply(remote, fetched).err();
        });
    }

    fn apply(&self, remote: &Remote, fetched: Result<ParsedKeys, String>) -> Result<(), String> {
        remote.counters.count_fetch(fetched.is_ok());
        let parsed = fetched.inspect_err(|failure| {
            tracing::warn!(issuer = %self.name, failure, "the issuer's keys could not be fetched; the ones at hand stay in use");
        })?;
        let present = self.set.load();
        if present.keys != parsed.keys {
            tracing::info!(issuer = %self.name, keys = parsed.keys.len(), left_out = ?parsed.left_out, "the issuer's keys changed");
            self.set.store(Arc::new(KeySet { generation: present.generation + 1, keys: parsed.keys }));
        }
        remote.confirmed.store(self.clock.now().as_microseconds(), Ordering::Release);
        Ok(())
    }

    async fn keep_fresh(self: Arc<Self>) {
        let Some(remote) = &self.remote else { return };
        let mut pause = FIRST_PAUSE_SECONDS;
        loop {
            if remote.lifecycle.is_stopping() {
                return;
            }
            remote.due.store(i64::MAX, Ordering::Relaxed);
            let landed = {
                let mut flight = remote.flight();
                let landed = remote.landed.subscribe();
                if !flight.running {
                    self.start(remote, &mut flight);
                }
                landed
            };
            wait(landed).await;
            let failed = remote.flight().failure.is_some();
            let seconds = if failed { pause.min(remote.times.refresh) } else { remote.times.refresh };
            pause = if failed { (pause * 2).min(remote.times.cooldown) } else { FIRST_PAUSE_SECONDS };
            let due = self.clock.now().plus_seconds(seconds);
            remote.due.store(due.as_microseconds(), Ordering::Relaxed);
            tokio::select! {
                () = remote.lifecycle.soft().cancelled() => return,
                () = self.until(remote, due) => {}
            }
        }
    }

    async fn until(&self, remote: &Remote, due: Timestamp) {
        loop {
            let left = due.as_microseconds().saturating_sub(self.clock.now().as_microseconds());
            let Ok(left @ 1..) = u64::try_from(left) else { return };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_micros(left)) => {}
                () = remote.wake.notified() => {}
            }
        }
    }

    pub(super) fn status(&self) -> IssuerStatus {
        let now = self.clock.now();
        let confirmed = self.remote.as_ref().map(|remote| remote.confirmed.load(Ordering::Acquire)).filter(|time| *time != i64::MIN);
        IssuerStatus {
            name: self.name.clone(),
            keys: self.current(now).map_or(0, |set| set.keys.len()),
            fetched_seconds_ago: confirmed.map(|time| (now.as_microseconds() - time).max(0) / 1_000_000),
            failure: self.remote.as_ref().and_then(|remote| remote.flight().failure.clone()),
        }
    }
}

impl Remote {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        confirmed != i64::MIN && now <= Timestamp::from_microseconds(confirmed).plus_seconds(self.times.stale)
    }
}

/// Ends a flight also when its task is dropped: nobody may wait for it for ever, and the next one must be able to begin.
struct Landing<'a> {
    remote: &'a Remote,
    failure: Option<String>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flight = self.remote.flight();
        flight.running = false;
        flight.failure = self.failure.take();
        drop(flight);
        self.remote.landed.send_replace(());
    }
}

/// Bounded by the fetch itself, which has a time limit and always lands.
async fn wait(mut landed: watch::Receiver<()>) {
    // The sender lives as long as the key source, so an error cannot come; it would mean the same.
    let _ = landed.changed().await;
}
