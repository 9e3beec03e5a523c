//! The life of the connections: looking for the server, repairing what it could not be told, watching whether it is still the same one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use redis::{ConnectionInfo, RedisResult};

use super::link::{self, Link};
use super::repair::Due;
use super::{Dragonfly, Failure, MOST_AT_ONCE};
use crate::domain::store_life::Epoch;
use crate::lifecycle::Lifecycle;

/// Pause between two looks for a server that is away.
const PROBE: Duration = Duration::from_millis(500);
/// How often the log says that it is still away.
const REMINDER: Duration = Duration::from_secs(60);
/// Pause before the first one.
const FIRST_PROBE: Duration = Duration::from_millis(50);
/// Pause between two looks whether anything is due for repair.
const REPAIR: Duration = Duration::from_millis(100);
/// Pause between two looks whether the server is still the same one, in the same life, and takes writes. A server changes its replication id without a word
/// when it gets a replica or was one; for as long may two servers of ours use different names.
const SAME: Duration = Duration::from_millis(500);
/// Pause before the next one after it did not answer in time: a server that nobody asks anything is given up within a second, too.
const SAME_AGAIN: Duration = Duration::from_millis(20);
/// Most keys that are repaired in one go.
const REPAIRS: usize = 10_000;
/// Keys that one step of emptying the tier looks at.
const SCAN: usize = 1000;
/// Longest time for emptying one server.
const CLEAR_LIMIT: Duration = Duration::from_secs(30);

impl Dragonfly {
    /// Keeps the connections. Ends when the process takes no new work and its last writes are told.
    pub async fn run(self: Arc<Self>, lifecycle: Lifecycle) {
        let mut pause = Duration::ZERO;
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = lifecycle.soft().cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            match self.open().await {
                Ok(link) => {
                    self.use_link(&link);
                    self.keep(&link, &lifecycle).await;
                    (pause, told) = (FIRST_PROBE, None);
                }
                Err(reason) => {
                    // Not at each look; but whoever reads the log later is to see it too.
                    if told.is_none_or(|at| at.elapsed() >= REMINDER) {
                        let place = self.address.place();
                        tracing::warn!(
                            place,
                            reason,
                            "the second cache tier is not used; what it holds may be behind this server's writes until it is"
                        );
                        told = Some(Instant::now());
                    } else {
                        tracing::debug!(reason, "the second cache tier is away");
                    }
                    pause = PROBE;
                }
            }
        }
    }

    /// Connects, and tells the server all that it could not be told.
    async fn open(&self) -> Result<Arc<Link>, String> {
        let epoch = self.life.epoch().ok_or("the database is not known yet")?;
        let limit = Duration::from(self.config.connect_timeout_ms) * 4;
        let opening = tokio::time::timeout(limit, Link::open(&self.address, self.config.connections));
        let link = opening.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        let link = Arc::new(link);
        self.notice_another_life(&link);
        while self.repair(&link, &epoch).await.map_err(|_| "what was due could not be told".to_owned())? {}
        // One that answers, but too slowly to be of use, would be given up again at once.
        let limit = Duration::from(self.config.operation_timeout_ms);
        let round_trip = link.round_trip().await.map_err(|error| error.to_string())?;
        if round_trip >= limit {
            return Err(format!("it takes {} ms for an answer, more than dragonfly.operation_timeout_ms", round_trip.as_millis()));
        }
        link.expect_answers_within(limit);
        Ok(link)
    }

    /// Tells what is due, whatever its time, before the process ends. What cannot be told now is not told any more.
    pub async fn finish(&self) {
        let telling = async {
            let Ok((link, epoch)) = self.current() else { return };
            self.repair.hurry();
            while let Ok(true) = self.repair(&link, &epoch).await {}
        };
        let limit = Duration::from(self.config.connect_timeout_ms);
        if tokio::time::timeout(limit, telling).await.is_err() || self.repair.len() > 0 {
            tracing::warn!(
                keys = self.repair.len(),
                "the second cache tier could not be told of the last writes; its entries of them end by themselves"
            );
        }
    }

    /// Another life of the server has other names, and servers of ours that noticed it first have read under them while this one still told its
    /// writes under the old ones. So the last writes are told again.
    fn notice_another_life(&self, link: &Link) {
        let mut last = self.last_identity.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.is_empty() && *last != link.identity() {
            match self.recent.lately() {
                Some(writes) => writes.iter().for_each(|(key, version)| self.repair.add(key, *version, Duration::ZERO)),
                None => self.repair.add_everything(),
            }
        }
        link.identity().clone_into(&mut last);
    }

    fn use_link(&self, link: &Arc<Link>) {
        self.breaker.reset();
        self.link.store(Some(Arc::clone(link)));
        self.is_open.store(false, Ordering::Relaxed);
        self.is_up.send_replace(true);
        tracing::info!(place = self.address.place(), "the second cache tier is connected");
    }

    /// Looks after connections that are used, until they are lost.
    async fn keep(&self, link: &Arc<Link>, lifecycle: &Lifecycle) {
        let mut repair = tokio::time::interval(REPAIR);
        let mut same = tokio::time::interval(SAME);
        repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        same.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Writes at work go on telling; what they cannot tell any more ends by itself.
                () = lifecycle.soft().cancelled() => return,
                () = self.was_lost.notified() => {
                    if self.link.load().is_none() {
                        return;
                    }
                }
                _ = repair.tick() => {
                    if let Some(epoch) = self.life.epoch() {
                        // A failure is noticed by whoever it hits; what is due stays due.
                        drop(self.repair(link, &epoch).await);
                    }
                }
                _ = same.tick() => match link.is_same().await {
                    Ok(true) => {}
                    Ok(false) => self.give_up(link, &redis::RedisError::from((redis::ErrorKind::Io, "the server is in another life, or another one"))),
                    Err(error) if error.is_timeout() => {
                        drop(self.failed(link, error));
                        same.reset_after(SAME_AGAIN);
                    }
                    Err(error) => self.give_up(link, &error),
                },
            }
            if self.link.load().is_none() {
                return;
            }
        }
    }

    /// Tells what is due. Says whether there may be more.
    async fn repair(&self, link: &Arc<Link>, epoch: &Arc<Epoch>) -> Result<bool, Failure> {
        let (prefix, channel) = (link.prefix(epoch), link::channel(epoch));
        match self.repair.due(REPAIRS) {
            Due::Nothing => Ok(false),
            Due::Everything => {
                self.repair.everything_done();
                let emptied = self.empty(&prefix).await;
                if emptied.is_err() || self.say_clear(link, &channel).await.is_err() {
                    self.repair.add_everything();
                    return Err(Failure::Down);
                }
                Ok(true)
            }
            Due::Keys(keys) => {
                let is_all = keys.len() < REPAIRS;
                let telling = stream::iter(keys).map(|(text, version)| {
                    let (slot_key, channel) = (link::key(&prefix, &text), &channel);
                    async move {
                        let told = self.put_over(link, &slot_key, channel, &text, version, None).await;
                        if told.is_ok() {
                            self.repair.done(&text, version);
                        }
                        told
                    }
                });
                let results: Vec<_> = telling.buffer_unordered(MOST_AT_ONCE).collect().await;
                results.into_iter().collect::<Result<Vec<()>, _>>()?;
                Ok(!is_all)
            }
        }
    }

    /// Empties the tier of everything that belongs to this database in its life, and all local tiers. Says how many entries that were.
    ///
    /// `None`: it does not answer, and is emptied as soon as it does.
    pub async fn clear(&self) -> Option<u64> {
        let clearing = async {
            let (link, epoch) = self.current()?;
            let removed = self.empty(&link.prefix(&epoch)).await?;
            self.say_clear(&link, &link::channel(&epoch)).await?;
            Ok::<_, Failure>(removed)
        };
        let removed = clearing.await;
        if removed.is_err() {
            self.repair.add_everything();
        }
        removed.ok()
    }

    /// How many keys the servers hold, those of others included; `None` when they do not say.
    pub async fn entries(&self) -> Option<u64> {
        let limit = Duration::from(self.config.connect_timeout_ms);
        let counting = async {
            let mut entries = 0;
            for server in self.servers().await? {
                let mut connection = self.admin(server).await?;
                entries += redis::cmd("DBSIZE").query_async::<u64>(&mut connection).await?;
            }
            RedisResult::Ok(entries)
        };
        if !self.is_up() {
            return None;
        }
        tokio::time::timeout(limit, counting).await.ok()?.ok()
    }

    async fn empty(&self, prefix: &str) -> Result<u64, Failure> {
        let emptying = async {
            let mut removed = 0;
            for server in self.servers().await? {
                let mut connection = self.admin(server).await?;
                let mut cursor = 0_u64;
                loop {
                    let mut scan = redis::cmd("SCAN");
                    scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN);
                    let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                    for key in &keys {
                        // One by one: the keys of a node are in many slots.
                        removed += redis::cmd("UNLINK").arg(key).query_async::<u64>(&mut connection).await?;
                    }
                    cursor = next;
                    if cursor == 0 {
                        break;
                    }
                }
            }
            RedisResult::Ok(removed)
        };
        match tokio::time::timeout(CLEAR_LIMIT, emptying).await {
            Ok(Ok(removed)) => Ok(removed),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the second cache tier could not be emptied");
                Err(Failure::Down)
            }
            Err(_) => Err(Failure::Down),
        }
    }

    /// A connection of one's own to one server, for work that takes longer.
    async fn admin(&self, server: ConnectionInfo) -> RedisResult<deadpool_redis::Connection> {
        self.admin_pool(server)?.get().await.map_err(|error| match error {
            deadpool_redis::PoolError::Backend(error) => error,
            error => redis::RedisError::from((redis::ErrorKind::Io, "no connection", error.to_string())),
        })
    }

    /// Of one connection, for one piece of work: a pool that is kept asks PING and UNWATCH, which the user of the tier need not be allowed.
    fn admin_pool(&self, server: ConnectionInfo) -> RedisResult<deadpool_redis::Pool> {
        let limit = Duration::from(self.config.connect_timeout_ms);
        let config = redis::AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
        let manager = deadpool_redis::Manager::new_with_config(server, config)?;
        let pool = deadpool_redis::Pool::builder(manager).max_size(1).build();
        pool.map_err(|error| redis::RedisError::from((redis::ErrorKind::InvalidClientConfig, "no pool", error.to_string())))
    }

    /// The server, or those of a cluster that hold keys.
    async fn servers(&self) -> RedisResult<Vec<ConnectionInfo>> {
        let servers = self.address.servers();
        if !self.address.is_cluster() {
            return Ok(servers.to_vec());
        }
        let mut failure = redis::RedisError::from((redis::ErrorKind::Io, "no node answers"));
        for server in servers {
            let slots =
                async { redis::cmd("CLUSTER").arg("SLOTS").query_async::<redis::Value>(&mut self.admin(server.clone()).await?).await };
            match slots.await {
                Ok(slots) => return Ok(self.masters(&slots)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Of each range of slots the first node.
    fn masters(&self, slots: &redis::Value) -> Vec<ConnectionInfo> {
        let mut nodes = std::collections::BTreeSet::new();
        let ranges = slots.as_sequence().unwrap_or_default();
        for node in ranges.iter().filter_map(|range| range.as_sequence()?.get(2)?.as_sequence()) {
            if let (Some(redis::Value::BulkString(host)), Some(redis::Value::Int(port))) = (node.first(), node.get(1)) {
                nodes.insert((String::from_utf8_lossy(host).into_owned(), u16::try_from(*port).unwrap_or(0)));
            }
        }
        nodes.into_iter().filter_map(|(host, port)| self.address.at(&host, port)).collect()
    }
}
