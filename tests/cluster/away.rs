//! The database is away: what caches may say then, and how it is marked.

use std::time::{Duration, Instant};

use reqwest::Method;

use super::client::{Client, From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{say, until};
use crate::support::tcp_proxy::Mode;

/// The headers that tell where an answer came from.
async fn told(client: &Client, path: &str) -> (u16, String, Option<u64>) {
    let answer = client.request(Method::GET, path).send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), header("cache-status").unwrap_or_default(), header("age").map(|age| age.parse().unwrap()))
}

/// Cached answers go on and say what they are, or end, as it is configured; everything else is 503 with a time to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_while_the_database_is_away() {
    let mut ground = Ground::new(Flavour::Redis).await;
    let goes_on = Node::start(&ground, 0).await;
    let mut config = ground.config(1);
    config.cache.serve_cached_when_db_down = false;
    let ends = Node::start_with(&ground, config).await;
    let nodes = [&goes_on, &ends];
    let (local, second, absent, unread) = (state("away-local"), state("away-second"), state("away-absent"), state("away-unread"));
    for path in [&local, &second, &unread] {
        goes_on.client.put(path).await.acknowledged();
    }
    until("the second tier has it", async || ground.tier.kind_of("away-second") == Some('V')).await;
    for node in nodes {
        for path in [&local, &absent] {
            until("a cache has it", async || {
                let answer = node.client.get(path).await;
                answer.from == From::Local
            })
            .await;
        }
        assert_eq!(told(&node.client, &local).await, (200, "nworkflow-local; hit".to_owned(), None));
    }
    // Not in any memory: what the write left is dropped, and what it left in the tier too.
    ground.tier.servers()[0].command(&["DEL", &ground.tier.key_of("away-unread").unwrap()]);
    Client::send(goes_on.client.request(Method::DELETE, "/cache")).await;

    for way in &mut ground.ways {
        way.postgres.refuse().await;
        way.postgres.reset();
    }
    let noticed = until("the server notices", async || told(&ends.client, &local).await.0 == 503).await;
    until("the other one notices", async || told(&goes_on.client, &second).await.1.contains("store-away")).await;
    // The marks: of what this memory has, of what the tier has, and of what is known not to be there.
    let (status, from, age) = told(&goes_on.client, &second).await;
    assert_eq!((status, from.as_str()), (200, "nworkflow-local; hit; detail=store-away"));
    assert!(age.is_some_and(|seconds| seconds < 60), "{age:?}");
    Client::send(goes_on.client.request(Method::DELETE, "/cache")).await;
    let (status, from, age) = told(&goes_on.client, &second).await;
    assert_eq!((status, from.as_str(), age.is_some()), (200, "nworkflow-dragonfly; hit; detail=store-away", true));
    let (status, from, _) = told(&goes_on.client, &absent).await;
    assert_eq!((status, from.as_str()), (404, "nworkflow-dragonfly; hit; detail=store-away"));
    // Nothing else is answered, and nobody waits for long.
    for request in [
        goes_on.client.request(Method::GET, &unread),
        goes_on.client.request(Method::GET, &second).header("cache-control", "no-cache"),
        goes_on.client.write(&second, ""),
        goes_on.client.request(Method::GET, "/workflows"),
        ends.client.request(Method::GET, &second),
        ends.client.request(Method::GET, &absent),
    ] {
        assert_eq!(refusal(request).await, (503, "store_unavailable".to_owned(), true));
    }
    assert_eq!(goes_on.client.get("/health/ready").await.status, 503);
    assert_eq!(goes_on.client.get("/health/live").await.status, 200);

    for way in &mut ground.ways {
        way.postgres.accept().await;
    }
    for node in nodes {
        until("the mark goes", async || {
            let (status, from, age) = told(&node.client, &local).await;
            status == 200 && !from.contains("away") && age.is_none()
        })
        .await;
    }
    let version = ends.client.put(&second).await.acknowledged();
    until("the write is read", async || goes_on.client.get(&second).await.version == version).await;
    say("database_away", format!("noticed after {noticed:?}; cached answers marked, everything else 503"));
    assert!(noticed < Duration::from_secs(10), "{noticed:?}");
}

/// Status, code, and whether it says when to come again.
async fn refusal(request: reqwest::RequestBuilder) -> (u16, String, bool) {
    let answer = request.send().await.unwrap();
    let (status, waits) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned(), waits)
}

/// The database is there and says nothing, as behind a partition: once that is known nobody waits for it, not even who began to before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_is_not_waited_for() {
    let ground = Ground::new(Flavour::Redis).await;
    let node = Node::start(&ground, 0).await;
    let (kept, never) = (state("silent-kept"), state("silent-never"));
    node.client.put(&kept).await.acknowledged();
    ground.ways[0].postgres.set_both(Mode::Hold);
    // It has a deadline far behind the moment at which the silence is known.
    let begin = Instant::now();
    let early = refusal(node.client.request(Method::GET, &never)).await;
    let early_took = begin.elapsed();
    until("a read of a cache is marked", async || told(&node.client, &kept).await.1.contains("store-away")).await;
    let (mut slowest, mut refused) = (Duration::ZERO, 0);
    for _ in 0..20 {
        let strong = node.client.request(Method::GET, &kept).header("cache-control", "no-cache");
        let list = node.client.request(Method::GET, "/workflows");
        for request in [node.client.request(Method::GET, &never), strong, list, node.client.write(&kept, "")] {
            let begin = Instant::now();
            refused += usize::from(refusal(request).await == (503, "store_unavailable".to_owned(), true));
            slowest = slowest.max(begin.elapsed());
        }
    }
    ground.ways[0].postgres.set_both(Mode::Pass);
    let back = until("it is answered again", async || node.client.put(&kept).await.status == 200).await;
    say(
        "silent_database",
        format!(
            "a read that had begun was refused after {early_took:?}, later ones and writes within {slowest:?}; written again {back:?} after its return"
        ),
    );
    assert_eq!((early, refused), ((503, "store_unavailable".to_owned(), true), 80));
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
}
