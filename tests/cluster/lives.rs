//! Lives that change without a word: the second tier takes another replication id, or only answers reads; a server sleeps. And what a tier must
//! not keep or show.

use std::time::Duration;

use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::id::UserId;
use nworkflow_state::http::auth::{DevelopmentClaims, DevelopmentIssuer};
use reqwest::Method;
use serde_json::json;

use super::client::{Client, From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::process::Process;
use super::{say, until, within};

/// How long servers may use different names, or a tier that takes no writes, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(1 + 5);

/// Every server has it in both tiers.
async fn all_have(nodes: &[Node], path: &str) -> i64 {
    let version = nodes[0].client.put(path).await.acknowledged();
    for node in nodes {
        until("it is in the server's own tier", async || {
            let answer = node.client.get(path).await;
            answer.from == From::Local && answer.version == version
        })
        .await;
    }
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_takes_another_replication_id() {
    // A floor that is soon over: it would hide for a while what stays behind.
    let ground = Ground::new(Flavour::Redis).await.set("cache.floor_ms", 200);
    let nodes = Node::start_all(&ground).await;
    let server = &ground.tier.servers()[0];
    let mut longest = Duration::ZERO;
    for round in 0..3 {
        let path = state(format_args!("replica-{round}"));
        all_have(&nodes, &path).await;
        let before = server.info("master_replid");
        server.command(&["REPLICAOF", "127.0.0.1", "1"]);
        server.command(&["REPLICAOF", "NO", "ONE"]);
        assert_ne!(server.info("master_replid"), before);
        // One of them connects anew, and so learns of it; the others have no reason to.
        ground.ways[1].tier.as_ref().unwrap().reset();
        nodes[1].settles().await;
        for writer in &nodes {
            let version = writer.client.put(&path).await.acknowledged();
            for node in &nodes {
                let took = within(BOUND, "all tell what was written", async || node.client.get(&path).await.version == version).await;
                longest = longest.max(took);
            }
        }
        for node in &nodes {
            node.settles().await;
        }
        let version = nodes[1].client.put(&path).await.acknowledged();
        for node in &nodes {
            within(BOUND, "they agree again", async || node.client.get(&path).await.version == version).await;
        }
    }
    say("replication_id", format!("3 changes: all told what was written after {longest:?} at most"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_takes_no_writes() {
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let server = &ground.tier.servers()[0];
    let path = state("no-writes");
    all_have(&nodes, &path).await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let version = nodes[0].client.put(&path).await.acknowledged();
    let mut longest = Duration::ZERO;
    for node in &nodes {
        longest = longest.max(within(BOUND, "all tell it", async || node.client.get(&path).await.version == version).await);
    }
    for node in &nodes {
        within(BOUND, "no server uses it", async || !node.second().connected && !node.local().enabled).await;
        assert_eq!(node.client.get("/health/ready").await.body["status"], "degraded");
        assert_eq!(node.client.get(&path).await.version, version);
    }
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    for node in &nodes {
        node.settles().await;
        assert_eq!(node.client.get(&path).await.version, version);
    }
    say("tier_read_only", format!("all told what was written after {longest:?} at most"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_sleeps() {
    let ground = Ground::new(Flavour::Redis).await;
    let processes = Process::start_all(&ground).await;
    let (mut behind, mut asked) = (0, 0);
    for round in 0..3 {
        let path = state(format_args!("sleeper-{round}"));
        processes[1].client.put(&path).await.acknowledged();
        until("it is in the sleeper's own tier", async || processes[0].client.get(&path).await.from == From::Local).await;
        processes[0].signal("STOP");
        let version = processes[1].client.put(&path).await.acknowledged();
        // As long as it may believe what it has: there is nothing to poll in a process that sleeps.
        tokio::time::sleep(Duration::from_millis(1600)).await;
        let questions = (0..4).map(|_| {
            let (client, path) = (processes[0].client.clone(), path.clone());
            async move { client.get(&path).await }
        });
        let waking = async { processes[0].signal("CONT") };
        let (answers, ()) = tokio::join!(biased; futures_util::future::join_all(questions), waking);
        asked += answers.len();
        behind += answers.iter().filter(|answer| answer.version != version).count();
        processes[0].uses_both_tiers().await;
    }
    say("server_sleeps", format!("{asked} questions to a server that wakes, {behind} answers behind"));
    assert_eq!(behind, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_passes_by_and_the_longest_key_does_not() {
    let ground = Ground::new(Flavour::Redis).await.set("dragonfly.state_bytes", 100_000);
    let nodes = Node::start_all(&ground).await;
    let path = state("large");
    let document = json!({"marking": {}, "metadata": {"text": "x".repeat(1 << 20)}}).to_string();
    let put = nodes[0].client.request(Method::PUT, &path).header("content-type", "application/json").body(document);
    let version = Client::send(put).await.acknowledged();
    for _ in 0..3 {
        let answer = nodes[1].client.get(&path).await;
        assert_eq!((answer.version, answer.body["metadata"]["text"].as_str().unwrap().len()), (version, 1 << 20));
        assert_ne!(answer.from, From::Second);
    }
    assert!(!matches!(ground.tier.kind_of("large"), Some('V')));

    let long = format!("/workflows/{}/executions/{}/state", "w".repeat(128), "e".repeat(128));
    let version = nodes[0].client.put(&long).await.acknowledged();
    until("the second tier has the longest key", async || {
        let answer = nodes[1].client.get(&long).await;
        assert_eq!(answer.version, version);
        answer.from != From::Store
    })
    .await;
    assert!(ground.tier.keys().iter().all(|key| key.len() <= 200));
    let next = nodes[1].client.put(&long).await.acknowledged();
    within(BOUND, "the others hear of the longest key", async || nodes[0].client.get(&long).await.version == next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_shows_nobody_what_is_not_his() {
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let issuer = DevelopmentIssuer::load(ground.folder()).unwrap();
    let token = |tenant: &str, subject: &str| {
        let claims = DevelopmentClaims {
            tenant: nworkflow_state::domain::id::TenantId::parse(tenant).unwrap(),
            subject: UserId::parse(subject).unwrap(),
            roles: vec!["nworkflow-writer".to_owned()],
            ttl_seconds: 3600,
        };
        issuer.sign(&claims, &Clock::new()).unwrap()
    };
    let client = |node: &Node, tenant, subject| Client::new(&node.base, &token(tenant, subject));
    let [ada, also_ada] = [client(&nodes[0], "acme", "ada"), client(&nodes[1], "acme", "ada")];
    let session = ada.request(Method::PUT, "/sessions/s1").header("content-type", "application/json");
    Client::send(session.body(r#"{"data": {"secret": 1}, "ttl_seconds": 600}"#)).await.acknowledged();
    let variable = ada.request(Method::PUT, "/variables/session:s1/v").header("content-type", "application/json");
    Client::send(variable.body(r#"{"value": 1}"#)).await.acknowledged();
    for path in ["/sessions/s1", "/variables/session:s1/v"] {
        until("the owner is answered from a tier", async || {
            let answer = also_ada.get(path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.from != From::Store
        })
        .await;
        for node in &nodes {
            for stranger in [client(node, "acme", "bob"), client(node, "other", "ada")] {
                let answer = stranger.get(path).await;
                assert_eq!((answer.status, answer.code()), (404, "session_not_found"), "{answer:?}");
            }
            let nobody = Client::new(&node.base, "eyJhbGciOiJub25lIn0.e30.");
            assert_eq!(nobody.get(path).await.status, 401);
        }
    }
}
