//! A cluster of three servers, each the master of a third of the slots.

use std::time::{Duration, Instant};

use super::resp::Value;
use super::{Options, PATIENCE, RedisServer};

/// The slots of a cluster.
const SLOTS: usize = 16_384;
const NODES: usize = 3;

pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until each of them serves its slots and knows the others.
    pub(crate) fn start(options: &Options) -> Self {
        let nodes: Vec<RedisServer> = (0..NODES).map(|_| RedisServer::start(Options { cluster: true, ..options.clone() })).collect();
        for (index, node) in nodes.iter().enumerate() {
            let (first, last) = (index * SLOTS / NODES, (index + 1) * SLOTS / NODES - 1);
            succeed(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            // Different from the start: equal ones would have to be settled first.
            succeed(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for node in &nodes[1..] {
            succeed(&nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &node.bus_port.to_string()]);
        }
        let begin = Instant::now();
        while !nodes.iter().all(is_ready) {
            assert!(begin.elapsed() < PATIENCE, "no cluster: {}", nodes[0].command(&["CLUSTER", "INFO"]).to_text());
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { nodes }
    }

    /// For the client library, which takes the other nodes' from any of them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The node that holds a key.
    pub(crate) fn node_of(&self, key: &str) -> &RedisServer {
        let Value::Integer(slot) = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]) else { panic!("no slot") };
        let slot = usize::try_from(slot).unwrap();
        let holds = |index: &usize| (index * SLOTS / NODES..(index + 1) * SLOTS / NODES).contains(&slot);
        &self.nodes[(0..NODES).find(holds).unwrap()]
    }
}

fn succeed(node: &RedisServer, words: &[&str]) {
    assert_eq!(node.command(words), Value::text("OK"), "{words:?}");
}

fn is_ready(node: &RedisServer) -> bool {
    let info = node.command(&["CLUSTER", "INFO"]).to_text();
    ["cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384"].iter().all(|line| info.contains(line))
}
