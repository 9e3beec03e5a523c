//! What a client may count on, with nothing broken but the second tier's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;

use super::client::{From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{quantile, say, until};
use crate::support::size;
use crate::support::tcp_proxy::{Direction, Mode};

/// C13: how long another server still tells what was replaced.
pub(super) async fn staleness_of_another_server(flavour: Flavour) {
    let writes = flavour.rounds(400);
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let path = state("c13");
    nodes[0].client.put(&path).await.acknowledged();
    let lifecycle = Lifecycle::new();
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = nodes[1..]
        .iter()
        .map(|node| {
            let (client, path, over) = (node.client.clone(), path.clone(), Arc::clone(&over));
            lifecycle.spawn(async move {
                let mut reads = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let answer = client.get(&path).await;
                    reads.push((begun, answer.version, answer.from));
                }
                reads
            })
        })
        .collect();
    let mut acknowledged = HashMap::new();
    for _ in 0..writes {
        let version = nodes[0].client.put(&path).await.acknowledged();
        acknowledged.insert(version, Instant::now());
        // The readers shall have it in their own memory when the next one comes.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    over.store(true, Ordering::SeqCst);
    let (mut reads, mut cached, mut stale) = (0_u64, 0_u64, Vec::new());
    for reader in readers {
        for (begun, version, from) in reader.await.unwrap() {
            reads += 1;
            cached += u64::from(from != From::Store);
            if let Some(behind) = acknowledged.get(&(version + 1)).and_then(|at| begun.checked_duration_since(*at)) {
                stale.push(behind);
            }
        }
    }
    stale.sort();
    let ms = |share| quantile(&stale, share).as_secs_f64() * 1e3;
    let per_million = stale.len() as u64 * 1_000_000 / reads;
    say(
        &format!("C13 cross_server_staleness {flavour:?}"),
        format!(
            "{reads} reads ({cached} cached) over {writes} writes, {} stale = {per_million} per million; of those p50 {:.2} p99 {:.2} max {:.2} ms",
            stale.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        ),
    );
    assert!(cached > 0, "no cache took part");
    assert!(stale.last().is_none_or(|longest| *longest < Duration::from_millis(1500)), "{stale:?}");
}

/// C12 and C14: a server never answers anything older than what it has acknowledged itself, a strong read never anything older than what any
/// server has, whatever becomes of the second tier's memory.
pub(super) async fn what_was_written_is_read(flavour: Flavour) {
    let rounds = flavour.rounds(size(600, 100_000));
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let (mut own, mut strong, mut at_least, mut cached) = (0, 0, 0, 0);
    for round in 0..rounds {
        let path = state(format_args!("c12-{}", round % 7));
        let version = nodes[0].client.put(&path).await.acknowledged();
        if round % 10 == 3 {
            ground.tier.flush_all();
        }
        let (here, there, later) =
            tokio::join!(nodes[0].client.get(&path), nodes[1].client.get_strong(&path), nodes[2].client.get_at_least(&path, version));
        own += usize::from(here.version < version);
        strong += usize::from(there.version < version);
        at_least += usize::from(later.version < version);
        cached += usize::from(here.from != From::Store);
        assert_eq!(there.from, From::Store);
        assert_eq!(nodes[0].client.get(&path).await.version, version);
    }
    say(
        &format!("C12 C14 read_your_writes_and_strong_reads {flavour:?}"),
        format!(
            "{rounds} rounds: own writes not read {own} ({cached} cached), strong reads behind {strong}, X-Min-Version not reached {at_least}"
        ),
    );
    assert_eq!((own, strong, at_least), (0, 0, 0));
    assert!(cached > 0, "no cache took part");
}

/// C15: a key that is deleted and made again all the time.
pub(super) async fn a_deleted_key_stays_deleted(flavour: Flavour) {
    let rounds = flavour.rounds(150);
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let path = state("c15");
    let lifecycle = Lifecycle::new();
    let over = Arc::new(AtomicBool::new(false));
    // They fill the caches while the key comes and goes.
    let readers: Vec<_> = (0..6)
        .map(|reader| {
            let (client, path, over) = (nodes[reader % 3].client.clone(), path.clone(), Arc::clone(&over));
            lifecycle.spawn(async move {
                let (mut reads, mut newest, mut backwards) = (0, 0, 0);
                while !over.load(Ordering::SeqCst) {
                    let answer = client.get(&path).await;
                    assert!(matches!(answer.status, 200 | 404), "{answer:?}");
                    if answer.status == 200 {
                        backwards += usize::from(answer.version < newest);
                        newest = newest.max(answer.version);
                    }
                    reads += 1;
                }
                (reads, backwards)
            })
        })
        .collect();
    let (mut resurrected, mut missing) = (0, 0);
    for round in 0..rounds {
        // One writer, by way of all servers in turn; what a server has acknowledged it must know.
        let client = &nodes[round % 3].client;
        let version = client.put(&path).await.acknowledged();
        missing += usize::from(client.get(&path).await.version < version);
        assert_eq!(client.delete(&path).await.status, 204);
        resurrected += usize::from(client.get(&path).await.status != 404);
    }
    over.store(true, Ordering::SeqCst);
    let (mut reads, mut backwards) = (0, 0);
    for reader in readers {
        let (more, wrong) = reader.await.unwrap();
        (reads, backwards) = (reads + more, backwards + wrong);
    }
    for node in &nodes {
        until("the key is gone everywhere", async || node.client.get(&path).await.status == 404).await;
    }
    let version = nodes[1].client.put(&path).await.acknowledged();
    for node in &nodes {
        until("the key is there everywhere", async || node.client.get(&path).await.version == version).await;
    }
    say(
        &format!("C15 tombstone_race {flavour:?}"),
        format!("{rounds} lives, {reads} reads: resurrected {resurrected}, not found {missing}, backwards on one server {backwards}"),
    );
    assert_eq!((resurrected, missing, backwards), (0, 0, 0));
}

/// C16: that a key is not there is cached, and ends when it is made.
pub(super) async fn what_was_absent_is_found_once_it_is_made(flavour: Flavour) {
    let keys = flavour.rounds(60);
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let (mut own, mut delays) = (0, Vec::new());
    for number in 0..keys {
        let path = state(format_args!("c16-{number}"));
        for node in nodes.iter().chain(&nodes) {
            assert_eq!(node.client.get(&path).await.status, 404);
        }
        let made = nodes[number % 3].client.put(&path).await;
        let (version, acknowledged) = (made.acknowledged(), Instant::now());
        own += usize::from(nodes[number % 3].client.get(&path).await.version < version);
        for node in &nodes {
            // The one that begins last and is still wrong says how long it was wrong.
            let mut begun = Instant::now();
            let mut last_wrong = Duration::ZERO;
            while node.client.get(&path).await.version < version {
                last_wrong = begun.duration_since(acknowledged);
                assert!(last_wrong < Duration::from_millis(1500), "{path} stays absent");
                begun = Instant::now();
            }
            delays.push(last_wrong);
        }
    }
    say(
        &format!("C16 negative_cache_create {flavour:?}"),
        format!("{keys} keys: not found by their maker {own}; by others {}", super::spread(delays)),
    );
    assert_eq!(own, 0);
}

/// Without a second tier no server hears of another's writes: then no reader is answered with what somebody else began to load before it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_not_shared_by_who_came_later_without_a_bus() {
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = [Node::start_without_tier(&ground, 0).await, Node::start_without_tier(&ground, 1).await];
    let path = state("unshared");
    let (mut behind, mut not_reached) = (0, 0);
    for _ in 0..5 {
        let before = nodes[0].client.put(&path).await.acknowledged();
        let way = &ground.ways[1].postgres;
        way.set(Direction::ToClient, Mode::Delay(Duration::from_millis(100), Duration::ZERO));
        let sent = way.counts().bytes_to_server;
        let early = {
            let (client, path) = (nodes[1].client.clone(), path.clone());
            nodes[1].spawn(async move { client.get(&path).await.version })
        };
        until("it asks", async || way.counts().bytes_to_server > sent).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let after = nodes[0].client.put(&path).await.acknowledged();
        let (late, at_least) = tokio::join!(nodes[1].client.get(&path), nodes[1].client.get_at_least(&path, after));
        behind += usize::from(late.version < after);
        not_reached += usize::from(at_least.version < after);
        assert!((before..=after).contains(&early.await.unwrap()));
        way.set(Direction::ToClient, Mode::Pass);
    }
    say("unshared_loads", format!("5 rounds: reads behind {behind}, X-Min-Version not reached {not_reached}"));
    assert_eq!((behind, not_reached), (0, 0));
}
