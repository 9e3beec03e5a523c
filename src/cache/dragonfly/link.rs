//! One life of the connections to the second tier. What was written to it in another life of it, or of the database, is never read: every
//! key begins with a hash of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, FromRedisValue as _, RedisError, RedisResult, Value};

use super::connect::{Address, Connection};
use super::scripts;
use crate::domain::store_life::Epoch;

/// The layout of keys and slots. Another one has another name, so that versions of this program can run side by side.
const LAYOUT: &str = "m1";
/// What a server must be able to write.
const PROBE_KEY: &str = "m1:probe";
/// Keys longer than this are hashed.
const MAX_KEY_BYTES: usize = 200;

/// Connections that were opened together.
pub(super) struct Link {
    connections: Vec<Connection>,
    /// Which server this is, in which life of it.
    identity: String,
    /// Longest wait for an answer, in milliseconds.
    answer_limit: AtomicU64,
    namespace: ArcSwapOption<Namespace>,
}

/// What all keys begin with.
#[derive(Debug)]
struct Namespace {
    epoch: Arc<Epoch>,
    prefix: Arc<str>,
}

impl Link {
    /// Opens so many connections, asks which server this is, and gives it the scripts.
    pub(super) async fn open(address: &Address, count: usize) -> RedisResult<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            connections.push(address.connect().await?);
        }
        let mut link = Self {
            connections,
            identity: String::new(),
            answer_limit: AtomicU64::new(address.connect_limit_milliseconds()),
            namespace: ArcSwapOption::empty(),
        };
        link.identity = link.read_identity().await?;
        link.write_something().await?;
        for script in scripts::all() {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.text);
            link.everywhere(load).await?;
        }
        Ok(link)
    }

    /// Which server this is, in which life of it.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Longest wait for an answer: while it is being opened that of connecting, because a server that is slow for a moment must not be lost for
    /// longer.
    pub(super) fn answer_limit(&self) -> Duration {
        Duration::from_millis(self.answer_limit.load(Ordering::Relaxed))
    }

    /// From now on answers are waited for this long.
    pub(super) fn expect_answers_within(&self, limit: Duration) {
        self.answer_limit.store(limit.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long the server takes for an answer, at best of three.
    pub(super) async fn round_trip(&self) -> RedisResult<Duration> {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let mut info = redis::cmd("INFO");
            info.arg("server");
            let begin = Instant::now();
            self.everywhere(info).await?;
            best = best.min(begin.elapsed());
        }
        Ok(best)
    }

    /// The connection for a key: always the same one, so that what is sent about a key arrives in order.
    pub(super) fn connection(&self, key: &str) -> Option<Connection> {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        self.connections.get(hash % self.connections.len().max(1)).cloned()
    }

    /// What all keys begin with while the database is in this life.
    pub(super) fn prefix(&self, epoch: &Arc<Epoch>) -> Arc<str> {
        if let Some(namespace) = &*self.namespace.load()
            && Arc::ptr_eq(&namespace.epoch, epoch)
        {
            return Arc::clone(&namespace.prefix);
        }
        let of = short_hash(&format!("{LAYOUT}|{}|{}|{}", epoch.database, epoch.life, self.identity));
        let prefix: Arc<str> = format!("{LAYOUT}:{of}:").into();
        self.namespace.store(Some(Arc::new(Namespace { epoch: Arc::clone(epoch), prefix: Arc::clone(&prefix) })));
        prefix
    }

    /// Whether the server is still in the life in which it was when this was opened. It is asked to write something too: one that only answers
    /// reads would show what it can no longer be told of.
    pub(super) async fn is_same(&self) -> RedisResult<bool> {
        self.write_something().await?;
        Ok(self.read_identity().await? == self.identity)
    }

    async fn write_something(&self) -> RedisResult<()> {
        let Some(mut connection) = self.connection(PROBE_KEY) else { return Ok(()) };
        let mut write = redis::cmd("SET");
        write.arg(PROBE_KEY).arg("1").arg("PX").arg(1000);
        write.query_async(&mut connection).await
    }

    /// The lives of all servers. Dragonfly tells the replication id alone, which changes with every start.
    async fn read_identity(&self) -> RedisResult<String> {
        let mut lives = Vec::new();
        for section in ["server", "replication"] {
            let mut info = redis::cmd("INFO");
            info.arg(section);
            for text in self.everywhere(info).await? {
                let wanted = |line: &&str| line.starts_with("run_id:") || line.starts_with("master_replid:");
                lives.extend(String::from_redis_value(text)?.lines().filter(wanted).map(|line| line.trim().to_owned()));
            }
        }
        if lives.is_empty() {
            return Err(RedisError::from((redis::ErrorKind::UnexpectedReturnType, "the server does not tell its replication id")));
        }
        lives.sort();
        Ok(lives.join("|"))
    }

    /// A section of INFO of every server.
    pub(super) async fn info(&self, section: &str) -> RedisResult<Vec<String>> {
        let mut info = redis::cmd("INFO");
        info.arg(section);
        self.everywhere(info).await?.into_iter().map(|text| Ok(String::from_redis_value(text)?)).collect()
    }

    /// What the server is, by its own word.
    pub(super) async fn version(&self) -> RedisResult<String> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let answers = self.everywhere(info).await?;
        let text = answers.into_iter().next().map(String::from_redis_value).transpose()?.unwrap_or_default();
        let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|version| version.trim().to_owned());
        let known = [("dragonfly_version:", "Dragonfly"), ("valkey_version:", "Valkey"), ("redis_version:", "Redis")];
        let found = known.iter().find_map(|(field, name)| of(field).map(|version| format!("{name} {version}")));
        Ok(found.unwrap_or_else(|| "a server".to_owned()))
    }

    /// Sends a command to every server and answers what each of them said.
    async fn everywhere(&self, command: Cmd) -> RedisResult<Vec<Value>> {
        match self.connections.first().cloned() {
            Some(Connection::One(mut connection)) => Ok(vec![command.query_async(&mut connection).await?]),
            Some(Connection::Cluster(mut connection)) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None::<ResponsePolicy>));
                match connection.route_command(command, routing).await? {
                    Value::Map(answers) => Ok(answers.into_iter().map(|(_, answer)| answer).collect()),
                    Value::Array(answers) => Ok(answers),
                    answer => Ok(vec![answer]),
                }
            }
            None => Ok(Vec::new()),
        }
    }
}

/// The key of the second tier for the key with this text.
pub(super) fn key(prefix: &str, text: &str) -> String {
    if prefix.len() + text.len() <= MAX_KEY_BYTES { format!("{prefix}{text}") } else { format!("{prefix}#{}", hash(text)) }
}

/// The channel on which servers of one database talk. It stays when the database begins another life: its servers notice that one after
/// the other.
pub(super) fn channel(epoch: &Epoch) -> String {
    format!("{LAYOUT}:bus:{}", short_hash(&epoch.database))
}

fn short_hash(text: &str) -> String {
    let mut hash = hash(text);
    hash.truncate(16);
    hash
}

fn hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_hashed() {
        let long = "x".repeat(190);
        assert_eq!(key("m1:0123456789abcdef:", "acme:session:s"), "m1:0123456789abcdef:acme:session:s");
        let hashed = key("m1:0123456789abcdef:", &long);
        assert_eq!((hashed.len(), hashed.starts_with("m1:0123456789abcdef:#")), (85, true));
        assert_ne!(hashed, key("m1:0123456789abcdef:", &"x".repeat(191)));
    }
}
