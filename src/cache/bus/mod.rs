//! The bus: servers of one database tell each other of their writes, over a channel of the second tier.
//!
//! Messages may be lost; then those who listen notice, and empty their local tiers. A local tier is on only while its process is proved to
//! hear the others: it hears its own heartbeat, which takes the same way.

pub mod message;
mod origins;
pub mod sequence;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::message::Content;
use self::origins::{Doubt, Origins};
use super::dragonfly::Dragonfly;
use super::journal::{Event, Journal};
use super::local::LocalTier;
use super::tiers::Tiers;
use crate::lifecycle::Lifecycle;

/// Messages that may wait for this process; when there are more, it has missed something.
const QUEUE: usize = 65_536;
/// Pause between two looks whether something is missing.
const CHECK: Duration = Duration::from_millis(100);
/// Pause before listening anew.
const PAUSE: Duration = Duration::from_millis(100);

/// What the bus has met. Counters are since the start.
#[derive(Debug, Default)]
pub struct BusCounters {
    messages: AtomicU64,
    gaps: AtomicU64,
    doubts: AtomicU64,
    losses: AtomicU64,
}

/// Figures of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusFigures {
    /// Messages of other servers that arrived.
    pub messages: u64,
    /// Messages that were missed.
    pub gaps: u64,
    /// How often the local tier was emptied because something may have been missed.
    pub doubts: u64,
    /// How often listening was interrupted.
    pub losses: u64,
}

impl BusCounters {
    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> BusFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BusFigures { messages: of(&self.messages), gaps: of(&self.gaps), doubts: of(&self.doubts), losses: of(&self.losses) }
    }
}

/// Takes what a connection hears, without ever waiting.
struct Listener {
    queue: mpsc::Sender<PushInfo>,
    overflowed: Arc<AtomicBool>,
}

impl AsyncPushSender for Listener {
    fn send(&self, info: PushInfo) -> Result<(), SendError> {
        self.queue.try_send(info).map_err(|_| {
            self.overflowed.store(true, Ordering::Release);
            SendError
        })
    }
}

/// Says that this process is there, again and again.
pub async fn beat(tiers: Tiers, second: Arc<Dragonfly>, lifecycle: Lifecycle) {
    let local = tiers.local();
    let mut beat = tokio::time::interval(second.config().heartbeat_ms.into());
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = lifecycle.soft().cancelled() => return,
            _ = beat.tick() => {}
        }
        if let Err(failure) = second.say_alive(local.milliseconds()).await {
            tracing::trace!(?failure, "no heartbeat");
        }
    }
}

/// Listens, and keeps the local tier from being wrong: on while everything is heard (and `wanted`), off and empty otherwise.
pub async fn run(tiers: Tiers, second: Arc<Dragonfly>, wanted: bool, lifecycle: Lifecycle) {
    let (local, counters) = (tiers.local(), tiers.bus());
    let mut up = second.watch();
    loop {
        let listening = async {
            // Only the end of the process ends the watch.
            if up.wait_for(|up| *up).await.is_ok() {
                let reason = listen(&second, &tiers, wanted).await;
                if local.is_enabled() {
                    tracing::warn!(reason, "the bus of the servers is interrupted; the local cache tier is off");
                } else {
                    tracing::debug!(reason, "the bus of the servers is interrupted");
                }
                counters.losses.fetch_add(1, Ordering::Relaxed);
            }
            local.set_enabled(false);
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            () = lifecycle.soft().cancelled() => {
                local.set_enabled(false);
                return;
            }
            () = listening => {}
        }
    }
}

/// Listens until that is no longer possible, and says why.
async fn listen(second: &Dragonfly, tiers: &Tiers, wanted: bool) -> &'static str {
    let (local, counters) = (tiers.local(), &**tiers.bus());
    let Some(channel) = second.channel() else { return "the database is not known" };
    let (queue, mut heard) = mpsc::channel(QUEUE);
    let overflowed = Arc::new(AtomicBool::new(false));
    let Ok(mut connection) = second.address().listen(Listener { queue, overflowed: Arc::clone(&overflowed) }).await else {
        return "no connection";
    };
    if connection.subscribe(&channel).await.is_err() {
        return "the server does not let this one subscribe";
    }
    let silence = Duration::from(second.config().silence_ms);
    let mut hearing = Hearing {
        own: second.origin(),
        origins: Origins::new(second.config().heartbeat_ms.into(), silence),
        own_heard: None,
        local,
        counters,
        journal: tiers.journal(),
        silence_milliseconds: silence.as_millis().try_into().unwrap_or(u64::MAX),
    };
    let (begun, mut up) = (Instant::now(), second.watch());
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            info = heard.recv() => match info {
                Some(info) if info.kind == PushKind::Message => hearing.hear(&info.data),
                Some(info) if info.kind == PushKind::Disconnection => return "the connection is lost",
                Some(_) => continue,
                None => return "the connection has ended",
            },
            _ = check.tick() => {
                if overflowed.load(Ordering::Acquire) {
                    return "more was said than this server can hear";
                }
                let now = Instant::now();
                if let Some(doubt) = hearing.origins.check(now) {
                    hearing.doubt(doubt);
                }
                if now.saturating_duration_since(hearing.own_heard.unwrap_or(begun)) >= silence {
                    return "this server does not hear itself";
                }
            },
            changed = up.changed() => if changed.is_err() || !*up.borrow() {
                return "the second cache tier is away";
            },
        }
        if hearing.own_heard.is_some() && wanted && !local.is_enabled() {
            local.set_enabled(true);
            tracing::info!("the bus of the servers is heard; the local cache tier is on");
        }
    }
}

struct Hearing<'a> {
    own: &'a str,
    origins: Origins,
    own_heard: Option<Instant>,
    local: &'a LocalTier,
    counters: &'a BusCounters,
    journal: &'a Journal,
    silence_milliseconds: u64,
}

impl Hearing<'_> {
    /// A message: channel and text.
    fn hear(&mut self, data: &[Value]) {
        let message = match data {
            [_, Value::BulkString(line)] => message::read(line),
            _ => None,
        };
        let Some(message) = message else {
            // Nothing that this program says, or something that it will say in another version.
            return self.doubt(Doubt::Gap);
        };
        if message.origin == self.own {
            match message.content {
                Content::Alive { sent } => {
                    self.own_heard = Some(Instant::now());
                    // Counted from when it was sent: what was said before has arrived before it.
                    self.local.trust_until(sent.saturating_add(self.silence_milliseconds));
                }
                Content::Clear => drop(self.local.clear()),
                Content::Write { .. } => {}
            }
            return;
        }
        self.counters.messages.fetch_add(1, Ordering::Relaxed);
        match message.content {
            Content::Write { key, version } => {
                self.local.heard_of(&key, version);
                self.journal.note(&key, Event::Heard, Some(version));
                self.origins.message(&message.origin, message.number);
            }
            Content::Clear => {
                self.local.clear();
                self.origins.message(&message.origin, message.number);
            }
            Content::Alive { .. } => {
                if let Some(doubt) = self.origins.heartbeat(&message.origin, message.number, Instant::now()) {
                    self.doubt(doubt);
                }
            }
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        self.counters.doubts.fetch_add(1, Ordering::Relaxed);
        if doubt == Doubt::Gap {
            self.counters.gaps.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(?doubt, "something of the other servers may have been missed: the local cache tier is emptied");
        self.local.clear();
    }
}
