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
use crate::support::proxy::{Fault, Proxy};

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
    const ROUNDS: usize = 60;
    let ground = Ground::new(Flavour::Redis).await;
    let mut config = ground.config(0);
    let url: sqlx::postgres::PgConnectOptions = ground.database.superuser_url().parse().unwrap();
    let proxy = Proxy::start(format!("{}:{}", url.get_host(), url.get_port()).parse().unwrap()).await;
    let through = config.database.url.expose().replace(&ground.ways[0].postgres.address().to_string(), &proxy.address().to_string());
    config.database.url = config::Secret::from(through);
    let writer = Node::start_with(&ground, config).await;
    let others = [Node::start(&ground, 1).await, Node::start(&ground, 2).await];
    let (mut resolved, mut unknown, mut replayed, mut false_412, mut stale) = (0, 0, 0, 0, 0);
    for round in 0..ROUNDS {
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
        let fault = if round % 3 == 2 { Fault::BeforeCommit } else { Fault::AfterCommit };
        proxy.arm(fault);
        let mut answer = Client::send(request()).await;
        assert!(!proxy.is_armed(), "nothing broke");
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
            "{ROUNDS} commits broken off: resolved at once {resolved}, answered 503 and right when sent again {unknown} ({replayed}), false 412 {false_412}, reads behind within the bound {stale}"
        ),
    );
    assert_eq!(false_412, 0);
}
