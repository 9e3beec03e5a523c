//! The database crashes, forgets, or breaks off a commit.

use std::time::{Duration, Instant};

use nworkflow_state::config;
use uuid::Uuid;

use super::client::{Client, From, state};
use super::flavour::Flavour;
use super::ground::{Database, Ground};
use super::node::Node;
use super::{say, until, within};
use crate::support::postgres_cluster::Cluster;
use crate::support::proxy::{Fault, LATE, Proxy};
use crate::support::size;

/// C11: the database comes back without its last commits. Both tiers hold versions that were never written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_loses_commits() {
    const KEYS: usize = 20;
    let mut ground = Ground::over(Flavour::Redis, Database::Own(Cluster::start_new())).await;
    let nodes = Node::start_all(&ground).await;
    let paths: Vec<_> = (0..KEYS).map(|number| state(format_args!("c11-{number}"))).collect();
    for path in &paths {
        nodes[0].client.put(path).await.acknowledged();
    }
    let Database::Own(cluster) = &mut ground.database else { panic!("it is its own") };
    cluster.crash();
    let backup = cluster.copy();
    cluster.start();
    for node in &nodes {
        until("the database is found again", async || node.client.get("/health/ready").await.status == 200).await;
        node.settles().await;
    }
    let mut lost = 0;
    for path in &paths {
        until("it is written", async || nodes[0].client.put(path).await.status == 200).await;
        for node in &nodes {
            until("a cache has it", async || node.client.get(path).await.from != From::Store).await;
        }
        lost += nodes[0].client.get(path).await.version - 1;
    }
    let namespaces = |ground: &Ground| {
        ground.tier.keys().iter().filter_map(|key| Some(key.get(..20)?.to_owned())).collect::<std::collections::BTreeSet<_>>()
    };
    let before = namespaces(&ground);
    let Database::Own(cluster) = &mut ground.database else { panic!("it is its own") };
    cluster.crash();
    cluster.restore(&backup);
    cluster.start();
    let begin = Instant::now();
    let (mut ghosts, mut last_ghost, mut reads) = (0, Duration::ZERO, 0);
    while begin.elapsed() < Duration::from_secs(4) {
        for path in &paths {
            for node in &nodes {
                let begun = begin.elapsed();
                let answer = node.client.get(path).await;
                reads += 1;
                if answer.status == 200 && answer.version > 1 {
                    (ghosts, last_ghost) = (ghosts + 1, begun);
                }
            }
        }
    }
    for path in &paths {
        for node in &nodes {
            assert_eq!(node.client.get(path).await.version, 1);
        }
    }
    let fresh = namespaces(&ground).difference(&before).count();
    say(
        "C11 pg_lost_commits",
        format!(
            "{lost} acknowledged versions lost by the database; {reads} reads after its return, {ghosts} of lost versions, the last {last_ghost:?} after it; new namespaces {fresh}"
        ),
    );
    assert_eq!(fresh, 1);
    // Servers look at the database every second; a cached answer asks nobody.
    assert!(last_ghost < Duration::from_millis(1500), "{last_ghost:?}");
}

/// D4: the connection breaks after COMMIT has reached the database, and before its answer has reached the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_unknown_outcome() {
    let rounds = size(60, 500);
    let ground = Ground::new(Flavour::Redis).await;
    let (mut proxy, config) = behind_a_proxy(&ground).await;
    let writer = Node::start_with(&ground, config).await;
    let others = [Node::start(&ground, 1).await, Node::start(&ground, 2).await];
    let (mut resolved, mut unknown, mut replayed, mut false_412, mut stale) = (0, 0, 0, 0, 0);
    for round in 0..rounds {
        let path = state(format_args!("d4-{}", round % 6));
        let before = others[0].client.put(&path).await.acknowledged();
        for node in &others {
            node.client.get(&path).await;
        }
        let id = Uuid::from_u64_pair(4, round as u64).to_string();
        let request = || {
            let request = writer.client.write(&path, &id).header("idempotency-key", &id).header("x-request-id", &id);
            request.header("if-match", format!("\"{before}\""))
        };
        // Now and then the database stays away for longer than the server asks it what became of the commit.
        let stays_away = round % 20 == 7;
        proxy.arm(match round % 3 {
            _ if stays_away => Fault::AfterCommitForLong,
            2 => Fault::BeforeCommit,
            _ => Fault::AfterCommit,
        });
        let mut answer = Client::send(request()).await;
        assert!(!proxy.is_armed(), "nothing broke");
        if stays_away {
            assert_eq!((answer.status, answer.code()), (503, "outcome_unknown"), "{answer:?}");
            proxy.stop().await;
            proxy.restart().await;
        }
        match answer.status {
            200 => resolved += 1,
            503 => {
                unknown += 1;
                until("it is answered when it is sent again", async || {
                    answer = Client::send(request()).await;
                    answer.status != 503
                })
                .await;
                replayed += 1;
            }
            412 => false_412 += 1,
            _ => panic!("{answer:?}"),
        }
        false_412 += usize::from(answer.status == 412 && replayed > 0);
        assert_eq!(answer.version, before + 1, "{answer:?}");
        for node in others.iter().chain([&writer]) {
            within(Duration::from_millis(1500), "the caches have it", async || {
                let version = node.client.get(&path).await.version;
                stale += usize::from(version < before + 1);
                version == before + 1
            })
            .await;
            assert_eq!(node.client.get_strong(&path).await.version, before + 1);
        }
    }
    say(
        "D4 ambiguous_commit",
        format!(
            "{rounds} commits broken off: resolved at once {resolved}, answered 503 and right when sent again {unknown} ({replayed}), false 412 {false_412}, reads behind within the bound {stale}"
        ),
    );
    assert_eq!((false_412, unknown), (0, rounds.div_ceil(20)));
}

/// The settings of the first server, whose way to the database goes through a proxy that knows a COMMIT.
async fn behind_a_proxy(ground: &Ground) -> (Proxy, config::Config) {
    let mut config = ground.config(0);
    let url: sqlx::postgres::PgConnectOptions = ground.database.superuser_url().parse().unwrap();
    let proxy = Proxy::start(format!("{}:{}", url.get_host(), url.get_port()).parse().unwrap()).await;
    let through = config.database.url.expose().replace(&ground.ways[0].postgres.address().to_string(), &proxy.address().to_string());
    config.database.url = config::Secret::from(through);
    (proxy, config)
}

/// A COMMIT takes longer than a marker lives: the marker is made anew until its end, so that nobody keeps what the commit replaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_takes_longer_than_a_marker_lives() {
    let ground = Ground::new(Flavour::Redis).await.set("dragonfly.marker_ttl_ms", 1500);
    let (proxy, config) = behind_a_proxy(&ground).await;
    let writer = Node::start_with(&ground, config).await;
    let others = [Node::start(&ground, 1).await, Node::start(&ground, 2).await];
    let path = state("late");
    let before = others[0].client.put(&path).await.acknowledged();
    proxy.arm(Fault::LateCommit);
    let (mut looks, mut unmarked, mut kept) = (0, 0, 0);
    let write = {
        let (client, path) = (writer.client.clone(), path.clone());
        writer.spawn(async move { client.put(&path).await })
    };
    until("the write is marked", async || ground.tier.kind_of("late") == Some('M')).await;
    let begin = Instant::now();
    while !write.is_finished() {
        let is_marked = ground.tier.kind_of("late") == Some('M');
        let answer = others[looks % 2].client.get(&path).await;
        // Whoever reads the old one reads it before the commit: behind the marker, from the database.
        if answer.version == before {
            unmarked += usize::from(!is_marked);
            kept += usize::from(answer.from != From::Store);
        }
        looks += 1;
    }
    let took = begin.elapsed();
    assert_eq!(write.await.unwrap().acknowledged(), before + 1);
    say("late_commit", format!("{looks} looks in {took:?}: without a marker {unmarked}, answered by a cache {kept}"));
    assert!(took > LATE / 2 && looks > 10, "{took:?} {looks}");
    assert_eq!((unmarked, kept), (0, 0));
    for node in &others {
        assert_eq!(node.client.get(&path).await.version, before + 1);
    }
}
