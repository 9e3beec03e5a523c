//! The second tier forgets, stalls, comes back with what it held long ago, or holds what nobody wrote.

use std::time::{Duration, Instant};

use super::client::{From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{say, until, within};
use crate::support::redis::resp::Value;
use crate::support::size;
use crate::support::tcp_proxy::{Direction, Mode};

/// How long a server may still tell what another one has replaced.
const BOUND: Duration = Duration::from_millis(1500 + 3000);

/// Every server answers this version, cached or not, within the bound.
async fn all_answer(nodes: &[Node], path: &str, version: i64) {
    for node in nodes {
        within(BOUND, "a server answers what was written", async || node.client.get(path).await.version == version).await;
        let strong = node.client.get_strong(path).await;
        assert_eq!(strong.version, version, "{path}");
        assert_eq!(node.client.get(path).await.version, version, "{path}");
    }
}

/// Waits until the second tier has a value for this reader, which does not have it in its own memory. A writer whose word comes too late for a
/// busy machine empties the key instead.
async fn is_kept(ground: &Ground, reader: &Node, name: &str) {
    until("the second tier keeps it", async || {
        reader.client.get(&state(name)).await;
        ground.tier.kind_of(name) == Some('V')
    })
    .await;
}

/// C2: a reader has asked the database before a write, and comes to fill after it.
pub(super) async fn a_fill_that_a_write_overtakes(flavour: Flavour) {
    let rounds = flavour.rounds(25);
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let (mut stale, mut refused) = (0, 0);
    for round in 0..rounds {
        let name = format!("c2-{round}");
        let path = state(&name);
        nodes[1].client.put(&path).await.acknowledged();
        ground.tier.flush_all();
        let before = nodes[0].second().refused_fills;
        // What the database answers takes its time.
        let way = &ground.ways[0].postgres;
        way.set(Direction::ToClient, Mode::Delay(Duration::from_millis(80), Duration::ZERO));
        let mut sent = way.counts().bytes_to_server;
        let reader = nodes[0].client.clone();
        let read = {
            let path = path.clone();
            nodes[0].spawn(async move { reader.get(&path).await })
        };
        until("the reader has its lease", async || ground.tier.kind_of(&name) == Some('L')).await;
        // It begins a transaction, and asks in it. Then the row is on its way.
        for _ in 0..2 {
            until("it asks", async || way.counts().bytes_to_server > sent).await;
            sent = way.counts().bytes_to_server;
        }
        let version = nodes[1].client.put(&path).await.acknowledged();
        let old = read.await.unwrap();
        way.set(Direction::ToClient, Mode::Pass);
        assert_eq!(old.status, 200);
        refused += nodes[0].second().refused_fills - before;
        stale += usize::from(old.version < version);
        all_answer(&nodes, &path, version).await;
    }
    let wrong: u64 = nodes.iter().map(Node::found_wrong).sum();
    say(
        &format!("C2 fill_vs_write {flavour:?}"),
        format!(
            "{rounds} fills overtaken ({stale} of them had read the old row), refused {refused}, stale reads after it 0, found by the sampler {wrong}"
        ),
    );
    assert!(stale > 0 && refused > 0, "no fill was overtaken");
    assert_eq!(wrong, 0);
}

/// C3: a writer's value arrives when a newer one was there, and all is forgotten.
pub(super) async fn a_late_put_after_everything_is_forgotten(flavour: Flavour) {
    let rounds = flavour.rounds(30);
    let ground = Ground::new(flavour).await.set("dragonfly.operation_timeout_ms", 1000);
    let nodes = Node::start_all(&ground).await;
    let (mut late, mut filled) = (0, 0);
    for round in 0..rounds {
        let name = format!("c3-{round}");
        let path = state(&name);
        let version = if let Some(way) = &ground.ways[0].tier {
            way.set(Direction::ToServer, Mode::Delay(Duration::from_millis(25), Duration::ZERO));
            nodes[0].client.put(&path).await.acknowledged();
            // Its second word is on its way, and stays there.
            way.set(Direction::ToServer, Mode::Hold);
            let version = nodes[1].client.put(&path).await.acknowledged();
            is_kept(&ground, &nodes[2], &name).await;
            ground.tier.flush_all();
            let held = way.counts().bytes_to_server;
            way.set(Direction::ToServer, Mode::Pass);
            until("the late one arrives", async || way.counts().bytes_to_server > held + 100).await;
            version
        } else {
            // The nodes of a cluster say where they are: nothing can be held on the way there, so chance has to do it.
            let (_, newer) = tokio::join!(nodes[0].client.put(&path), async {
                nodes[1].client.put(&path).await.acknowledged();
                ground.tier.flush_all();
                nodes[2].client.put(&path).await.acknowledged()
            });
            nodes[0].client.get_strong(&path).await.version.max(newer)
        };
        late += 1;
        // Whatever is under the key now is no older than the database.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let slot = ground.tier.key_of(&name).and_then(|key| ground.tier.slot(&key));
        if let Some(slot) = slot.filter(|slot| slot[0] == b'V') {
            let digits: i64 = String::from_utf8_lossy(&slot[1..21]).parse().unwrap();
            filled += usize::from(digits < version);
        }
        all_answer(&nodes, &path, version).await;
    }
    say(&format!("C3 late_put_after_flush {flavour:?}"), format!("{late} late values, {filled} of them kept"));
    assert_eq!(filled, 0);
}

/// C9: the second tier takes everything and answers nothing.
pub(super) async fn the_second_tier_stalls(flavour: Flavour) {
    let stall = Duration::from_secs(size(4, 10) as u64);
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let paths: Vec<_> = (0..40).map(|number| state(format_args!("c9-{number}"))).collect();
    for path in &paths {
        nodes[0].client.put(path).await.acknowledged();
    }
    let usual = nodes[1].client.get_strong(&paths[0]).await.took;
    ground.ways.iter().for_each(|way| way.tier.as_ref().unwrap().set_both(Mode::Stall));
    let begin = Instant::now();
    let (mut first, mut open_after, mut local_off_after, mut writes, mut slowest_write) = (Vec::new(), None, None, 0, Duration::ZERO);
    let mut round = 0;
    while begin.elapsed() < stall {
        // No cache of this server has it.
        let answer = nodes[1].client.get(&paths[round % paths.len()]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if open_after.is_none() {
            first.push(answer.took);
        }
        if nodes[1].second().breaker_open {
            open_after = open_after.or_else(|| Some(begin.elapsed()));
        }
        if !nodes[1].local().enabled {
            local_off_after = local_off_after.or_else(|| Some(begin.elapsed()));
        }
        let written = nodes[1].client.put(&paths[round % paths.len()]).await;
        written.acknowledged();
        (writes, slowest_write) = (writes + 1, slowest_write.max(written.took));
        assert_eq!(nodes[1].client.get("/health/ready").await.status, 200);
        round += 1;
    }
    ground.ways.iter().for_each(|way| way.tier.as_ref().unwrap().set_both(Mode::Pass));
    let begin = Instant::now();
    for node in &nodes {
        node.settles().await;
    }
    let back = begin.elapsed();
    for path in &paths {
        let version = nodes[2].client.get_strong(path).await.version;
        all_answer(&nodes, path, version).await;
    }
    let longest = first.iter().max().copied().unwrap_or_default();
    say(
        &format!("C9 tier_stalls {flavour:?}"),
        format!(
            "{} calls until the breaker was open, the slowest {longest:?} (usually {usual:?}), open after {open_after:?}, local tier off after {local_off_after:?}, {writes} writes succeeded, the slowest {slowest_write:?}, both tiers back {back:?} after it",
            first.len()
        ),
    );
    assert!(open_after.is_some_and(|after| after < Duration::from_secs(1)), "{open_after:?}");
    assert!(local_off_after.is_some_and(|after| after < BOUND + Duration::from_millis(300)), "{local_off_after:?}");
}

/// C10: the second tier comes back with what it held before a write.
pub(super) async fn the_second_tier_comes_back_with_an_old_snapshot(flavour: Flavour) {
    const KEYS: usize = 30;
    let mut ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let paths: Vec<_> = (0..KEYS).map(|number| state(format_args!("c10-{number}"))).collect();
    for path in &paths {
        nodes[0].client.put(path).await.acknowledged();
        until("the tier has it", async || nodes[1].client.get(path).await.from != From::Store).await;
    }
    let old = ground.tier.snapshots();
    let mut versions = Vec::new();
    for path in &paths {
        versions.push(nodes[0].client.put(path).await.acknowledged());
    }
    let namespaces = |ground: &Ground| -> std::collections::BTreeSet<String> {
        ground.tier.keys().iter().map(|key| key.split(':').nth(1).unwrap().to_owned()).collect()
    };
    let before = namespaces(&ground);
    ground.tier.restart_from(&old);
    let begin = Instant::now();
    let (mut reads, mut stale, mut last_stale) = (0, 0, Duration::ZERO);
    // As the servers find it again, one after the other.
    while begin.elapsed() < Duration::from_secs(3) {
        for (path, version) in paths.iter().zip(&versions) {
            for node in &nodes[1..] {
                let begun = begin.elapsed();
                let answer = node.client.get(path).await;
                reads += 1;
                if answer.version < *version {
                    (stale, last_stale) = (stale + 1, begun);
                }
            }
        }
    }
    for node in &nodes {
        node.settles().await;
    }
    for (path, version) in paths.iter().zip(&versions) {
        all_answer(&nodes, path, *version).await;
    }
    let fresh = namespaces(&ground).difference(&before).count();
    say(
        &format!("C10 old_snapshot {flavour:?}"),
        format!(
            "{reads} reads after it came back with {KEYS} old values, stale {stale} (the last {last_stale:?} after the start), new namespaces {fresh}"
        ),
    );
    assert_eq!((stale, fresh), (0, 1));
}

/// S9: values that this program did not write, or that were damaged, are as good as nothing, removed, and counted.
pub(super) async fn what_others_wrote_is_removed(flavour: Flavour) {
    let ground = Ground::new(flavour).await;
    let nodes = Node::start_all(&ground).await;
    let other = state("s9-other");
    nodes[0].client.put(&other).await.acknowledged();
    is_kept(&ground, &nodes[1], "s9-other").await;
    let foreign = ground.tier.slot(&ground.tier.key_of("s9-other").unwrap()).unwrap();
    let long = vec![b'x'; 100_000];
    let mut head_only = b"V000000000000000000091".to_vec();
    head_only.extend_from_slice(&foreign[22..]);
    let cases: [(&str, &[u8]); 9] = [
        ("another key's value", &foreign),
        ("another key's value as a later version", &head_only),
        ("cut off in its head", &foreign[..9]),
        ("cut off in its payload", &foreign[..foreign.len() - 3]),
        ("empty", b""),
        ("garbage", b"garbage"),
        ("long garbage", &long),
        ("a version that is none", b"V99999999999999999999 1{}"),
        ("JSON", br#"{"version":9}"#),
    ];
    let (mut served, mut left) = (0, 0);
    for (number, (what, value)) in cases.iter().enumerate() {
        let (name, path) = (format!("s9-{number}"), state(format_args!("s9-{number}")));
        let version = nodes[0].client.put(&path).await.acknowledged();
        is_kept(&ground, &nodes[1], &name).await;
        let key = ground.tier.key_of(&name).unwrap();
        let counted = nodes[2].second().foreign;
        assert_eq!(ground.tier.holder(&key).command(&[b"SET", key.as_bytes(), value]), Value::text("OK"));
        let answer = nodes[2].client.get(&path).await;
        served += usize::from((answer.status, answer.version, &answer.body["execution_id"]) != (200, version, &name.as_str().into()));
        assert_eq!(nodes[2].second().foreign, counted + 1, "{what}");
        left += usize::from(ground.tier.slot(&key).is_some_and(|slot| slot == *value));
        until("the tier is of use again", async || nodes[1].client.get(&path).await.from != From::Store).await;
    }
    // Of another type altogether: reads and writes must both do.
    let path = state("s9-list");
    let first = nodes[0].client.put(&path).await.acknowledged();
    is_kept(&ground, &nodes[1], "s9-list").await;
    let key = ground.tier.key_of("s9-list").unwrap();
    let make_list = || {
        ground.tier.holder(&key).command(&["DEL", &key]);
        assert_eq!(ground.tier.holder(&key).command(&["RPUSH", &key, "x"]), Value::Integer(1));
    };
    make_list();
    let counted = nodes[2].second().foreign;
    served += usize::from(nodes[2].client.get(&path).await.version != first);
    assert_eq!(nodes[2].second().foreign, counted + 1, "a list");
    make_list();
    let second = nodes[0].client.put(&path).await.acknowledged();
    all_answer(&nodes, &path, second).await;
    let kind = ground.tier.holder(&key).command(&["TYPE", &key]).to_text();
    left += usize::from(kind == "list");
    say(&format!("S9 cache_poison {flavour:?}"), format!("{} kinds: served {served}, left in place {left}", cases.len() + 1));
    assert_eq!((served, left), (0, 0));
}

/// One node of a cluster comes back with what it held before a write, while nobody talks to it: a client library connects anew without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_a_cluster_comes_back_with_an_old_snapshot() {
    const ROUNDS: usize = 6;
    let mut ground = Ground::new(Flavour::Cluster).await;
    let nodes = Node::start_all(&ground).await;
    let (mut reads, mut stale, mut last_stale) = (0, 0, Duration::ZERO);
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..12).map(|number| format!("c10-{round}-{number}")).collect();
        for name in &names {
            nodes[0].client.put(&state(name)).await.acknowledged();
            is_kept(&ground, &nodes[1], name).await;
        }
        let old = ground.tier.snapshots();
        let mut versions = Vec::new();
        for name in &names {
            versions.push(nodes[0].client.put(&state(name)).await.acknowledged());
            is_kept(&ground, &nodes[1], name).await;
        }
        let number = round % 3;
        ground.tier.servers_mut()[number].restart_from(&old[number]);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(1500) {
            for (name, version) in names.iter().zip(&versions) {
                let begun = begin.elapsed();
                reads += 1;
                // A server that has none of them in its own memory.
                if nodes[2].client.get(&state(name)).await.version < *version {
                    (stale, last_stale) = (stale + 1, last_stale.max(begun));
                }
            }
        }
        for node in &nodes {
            node.settles().await;
        }
    }
    say("C10 old_snapshot of one node", format!("{ROUNDS} returns, {reads} reads, stale {stale}, the last {last_stale:?} after the start"));
    assert_eq!(stale, 0);
}
