//! The servers on which the second tier may be, each as somebody would run it.

use crate::support::redis::cluster::RedisCluster;
use crate::support::redis::resp::Value;
use crate::support::redis::{Acl, Binary, Options, RedisServer, Snapshot};

/// What a server of this program must be allowed to do, and no more; docs/operation.md has it for operators.
pub(super) const RULES: &str = "resetkeys resetchannels ~m1:* &m1:* -@all +get +set +del +unlink +publish +subscribe +evalsha +eval \
                                +script|load +info +scan +dbsize +cluster|slots";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Redis,
    /// With TLS, a password, and a user who may do nothing that is not needed.
    Guarded,
    Valkey,
    /// Three nodes.
    Cluster,
}

impl Flavour {
    /// How often to try what is tried so often on one of them: what differs between them does not hide in rare moments.
    pub(super) const fn rounds(self, most: usize) -> usize {
        if matches!(self, Self::Redis) { most } else { most / 3 }
    }
}

/// A second tier.
pub(super) enum Tier {
    One(RedisServer),
    Nodes(RedisCluster),
}

impl Tier {
    pub(super) fn start(flavour: Flavour) -> Self {
        let options = match flavour {
            Flavour::Redis => Options::default(),
            Flavour::Guarded => {
                let acl = Acl { user: "app".into(), password: "word".into(), rules: RULES.into() };
                Options { tls: true, acl: Some(acl), ..Options::default() }
            }
            Flavour::Valkey => Options { binary: Binary::Valkey, ..Options::default() },
            Flavour::Cluster => return Self::Nodes(RedisCluster::start(&Options::default())),
        };
        Self::One(RedisServer::start(options))
    }

    pub(super) fn servers(&self) -> &[RedisServer] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Nodes(cluster) => &cluster.nodes,
        }
    }

    pub(super) fn servers_mut(&mut self) -> &mut [RedisServer] {
        match self {
            Self::One(server) => std::slice::from_mut(server),
            Self::Nodes(cluster) => &mut cluster.nodes,
        }
    }

    /// The server that holds a key.
    pub(super) fn holder(&self, key: &str) -> &RedisServer {
        match self {
            Self::One(server) => server,
            Self::Nodes(cluster) => cluster.node_of(key),
        }
    }

    pub(super) fn flush_all(&self) {
        self.servers().iter().for_each(RedisServer::flush_all);
    }

    /// The names of all slots.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for server in self.servers() {
            let Value::Items(found) = server.command(&["KEYS", "m1:*"]) else { panic!("no list") };
            keys.extend(found.iter().map(Value::to_text));
        }
        keys
    }

    /// The name of the slot of a state, when it has one.
    pub(super) fn key_of(&self, name: &str) -> Option<String> {
        let end = format!(":{name}");
        self.keys().into_iter().find(|key| key.ends_with(&end))
    }

    /// What a slot holds.
    pub(super) fn slot(&self, key: &str) -> Option<Vec<u8>> {
        match self.holder(key).command(&["GET", key]) {
            Value::Text(bytes) => Some(bytes),
            Value::Null => None,
            other => panic!("{other:?}"),
        }
    }

    /// The first byte of a state's slot; `None` when there is none.
    pub(super) fn kind_of(&self, name: &str) -> Option<char> {
        self.key_of(name).and_then(|key| self.slot(&key)).map(|bytes| bytes[0].into())
    }

    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        self.servers().iter().map(RedisServer::snapshot).collect()
    }

    /// `kill -9`, and a start with what was held then.
    pub(super) fn restart_from(&mut self, snapshots: &[Snapshot]) {
        self.servers_mut().iter_mut().zip(snapshots).for_each(|(server, snapshot)| server.restart_from(snapshot));
    }
}

/// Makes a test of each of these functions on each of these flavours.
macro_rules! on_every_tier {
    ($($flavour:ident as $module:ident: $($function:path as $name:ident),+;)+) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $function(Flavour::$flavour).await;
            })+
        })+
    };
}

pub(super) use on_every_tier;
