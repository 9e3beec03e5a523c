//! The second tier: one for all servers, on Dragonfly, or on any other server that speaks its protocol.
//!
//! What it does is a hint and never the truth. Every call has a time limit; a server that does not answer is given up at once and looked
//! for in the background; what it could not be told is told when it is back, before anything is read from it.

mod breaker;
mod connect;
mod examine;
mod life;
mod link;
mod operations;
mod recent;
mod repair;
mod scripts;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::sync::{Notify, watch};

use self::breaker::Breaker;
pub use self::connect::Address;
pub use self::examine::{ACL_RULES, examine};
use self::link::Link;
pub(super) use self::operations::Lookup;
use self::recent::Recent;
use self::repair::Repair;
use super::bus::sequence::Sequence;
use super::entry::Entry;
use super::key::Key;
use crate::config::DragonflyConfig;
use crate::domain::commit::Resource;
use crate::domain::store_life::{Epoch, StoreLife};

/// How many commands are under way at a time for one caller. Each must be answered within `dragonfly.operation_timeout_ms`: all keys of a large
/// batch at once would be a reason to give the tier up.
const MOST_AT_ONCE: usize = 64;

/// The second tier.
pub struct Dragonfly {
    address: Address,
    config: DragonflyConfig,
    negative_ttl: Duration,
    life: StoreLife,
    /// This process, on the bus.
    origin: String,
    sequence: Sequence,
    link: ArcSwapOption<Link>,
    is_up: watch::Sender<bool>,
    was_lost: Notify,
    breaker: Breaker,
    is_open: AtomicBool,
    repair: Repair,
    recent: Recent,
    /// The life of the server that was used last; empty before the first.
    last_identity: Mutex<String>,
    leases: AtomicU64,
    counters: Counters,
}

impl std::fmt::Debug for Dragonfly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dragonfly").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    failures: AtomicU64,
    foreign: AtomicU64,
    refused_fills: AtomicU64,
    opened: AtomicU64,
}

/// Figures of the tier. Counters are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecondTierFigures {
    /// Whether it is used now.
    pub connected: bool,
    /// Whether it was given up because it did not answer.
    pub breaker_open: bool,
    /// Reads that it answered.
    pub hits: u64,
    /// Reads that it had nothing for.
    pub misses: u64,
    /// Reads that passed it by, because a write or another reader was at work.
    pub bypasses: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Values that this program had not written, or that were damaged.
    pub foreign: u64,
    /// Loads that were not kept, because something happened to the key meanwhile.
    pub refused_fills: u64,
    /// How often it was given up.
    pub opened: u64,
    /// Keys that it must be told of; `u64::MAX`: all.
    pub repairs: u64,
}

/// Why the tier did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is away, or does not answer in time. What was asked may still happen.
    Down,
    /// It has answered that it does not.
    Refused(RedisError),
}

impl Dragonfly {
    /// A tier that is not connected yet: see [`Dragonfly::run`].
    #[must_use]
    pub fn new(address: Address, config: DragonflyConfig, negative_ttl: Duration, life: StoreLife, origin: String) -> Self {
        Self {
            repair: Repair::new(config.repair_entries),
            recent: Recent::new(config.repair_entries),
            last_identity: Mutex::default(),
            address,
            config,
            negative_ttl,
            life,
            origin,
            sequence: Sequence::default(),
            link: ArcSwapOption::empty(),
            is_up: watch::Sender::new(false),
            was_lost: Notify::new(),
            breaker: Breaker::new(),
            is_open: AtomicBool::new(false),
            leases: AtomicU64::new(1),
            counters: Counters::default(),
        }
    }

    /// Where it is, how it is used.
    pub(super) const fn config(&self) -> &DragonflyConfig {
        &self.config
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// This process, on the bus.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Tells whether it is used, now and whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_up.subscribe()
    }

    /// Whether it is used.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }

    /// The channel of this database's servers; `None` while the database is not known.
    pub(super) fn channel(&self) -> Option<String> {
        self.life.epoch().map(|epoch| link::channel(&epoch))
    }

    /// Figures, taken without asking anybody.
    #[must_use]
    pub fn figures(&self) -> SecondTierFigures {
        let counters = &self.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SecondTierFigures {
            connected: self.is_up(),
            breaker_open: self.is_open.load(Ordering::Relaxed),
            hits: of(&counters.hits),
            misses: of(&counters.misses),
            bypasses: of(&counters.bypasses),
            failures: of(&counters.failures),
            foreign: of(&counters.foreign),
            refused_fills: of(&counters.refused_fills),
            opened: of(&counters.opened),
            repairs: self.repair.len().try_into().unwrap_or(u64::MAX),
        }
    }

    /// The connections, and what keys begin with. Both belong together for as long as a caller needs them.
    fn current(&self) -> Result<(Arc<Link>, Arc<Epoch>), Failure> {
        let link = self.link.load_full().ok_or(Failure::Down)?;
        let epoch = self.life.epoch().ok_or(Failure::Down)?;
        Ok((link, epoch))
    }

    /// Sends a command about a key, and waits for the answer as long as the link says.
    async fn send<T: FromRedisValue>(&self, link: &Arc<Link>, key: &str, command: &Cmd) -> Result<T, Failure> {
        let Some(mut connection) = link.connection(key) else { return Err(Failure::Down) };
        let answer = tokio::time::timeout(link.answer_limit(), command.query_async(&mut connection)).await;
        let answer = answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        match answer {
            Ok(answer) => {
                self.breaker.record(false);
                Ok(answer)
            }
            Err(error) => Err(self.failed(link, error)),
        }
    }

    /// A call has failed: perhaps the whole connection has.
    fn failed(&self, link: &Arc<Link>, error: RedisError) -> Failure {
        let is_silent = error.is_timeout();
        let is_broken = !is_silent && (error.is_unrecoverable_error() || error.is_io_error() || error.is_connection_dropped());
        if error.code() == Some("NOSCRIPT") {
            return Failure::Refused(error);
        }
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let gives_up = self.breaker.record(true);
        if is_broken || gives_up {
            self.give_up(link, &error);
        }
        if is_silent || is_broken { Failure::Down } else { Failure::Refused(error) }
    }

    /// Uses these connections no more. Only the first of those that find them broken has an effect.
    fn give_up(&self, link: &Arc<Link>, error: &RedisError) {
        let lost = self.link.rcu(|current| match current {
            Some(current) if Arc::ptr_eq(current, link) => None,
            other => other.clone(),
        });
        if lost.is_some_and(|lost| Arc::ptr_eq(&lost, link)) {
            tracing::warn!(%error, "the second cache tier is given up until it answers again");
            self.is_open.store(true, Ordering::Relaxed);
            self.counters.opened.fetch_add(1, Ordering::Relaxed);
            self.is_up.send_replace(false);
            self.was_lost.notify_one();
        }
    }

    /// How long an entry is kept there; `None`: not at all, because it ends now, or nobody knows when, or it is too large.
    fn time_to_live(&self, key: &Key, entry: &Entry, bytes: usize) -> Option<Duration> {
        let config = &self.config;
        let (ttl, limit) = match key.resource() {
            Resource::State(_) => (config.state_ttl_ms, config.state_bytes),
            Resource::Checkpoint(_) => (config.checkpoint_ttl_ms, config.checkpoint_bytes),
            Resource::Session(_) => (config.session_ttl_ms, config.session_bytes),
            Resource::Variable(_) => (config.variable_ttl_ms, config.variable_bytes),
        };
        if bytes > limit {
            return None;
        }
        let ttl = if entry.body().is_some() { Duration::from(ttl) } else { self.negative_ttl };
        // A tenth less for some than for others: what was filled together does not end together.
        let jitter = self.leases.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        let ttl = ttl - ttl / 10 * u32::try_from(jitter).unwrap_or(0) / 256;
        let Some(deadline) = entry.deadline() else { return Some(ttl) };
        let remaining = deadline.as_microseconds().saturating_sub(self.life.now()?.as_microseconds());
        let remaining = Duration::from_micros(u64::try_from(remaining).ok().filter(|remaining| *remaining >= 1000)?);
        Some(ttl.min(remaining))
    }
}
