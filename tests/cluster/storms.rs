//! Many readers at once.

use std::time::Duration;

use futures_util::future::join_all;

use super::client::{Client, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{say, until};
use crate::support::tcp_proxy::{Direction, Mode};

/// C18: a reader that comes after a write does not join a load that began before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_after_a_write_joins_no_load_from_before_it() {
    const ROUNDS: usize = 25;
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let (mut early_old, mut late_old) = (0, 0);
    for round in 0..ROUNDS {
        let (name, path) = (format!("c18-{round}"), state(format_args!("c18-{round}")));
        nodes[0].client.put(&path).await.acknowledged();
        ground.tier.flush_all();
        nodes[1].client.get_strong(&path).await;
        let way = &ground.ways[0].postgres;
        way.set(Direction::ToClient, Mode::Delay(Duration::from_millis(60), Duration::ZERO));
        // The writer's own memory would answer: it reads what another server writes.
        let early = nodes[0].spawn({
            let (client, path) = (nodes[0].client.clone(), state(format_args!("c18-{round}")));
            async move { client.get(&path).await }
        });
        until("its load is at work", async || ground.tier.kind_of(&name) == Some('L') || early.is_finished()).await;
        let version = nodes[1].client.put(&path).await.acknowledged();
        let heard = nodes[0].bus().messages;
        // Once it has heard of the write there is no excuse; both words of it have been said by then.
        let _told_already =
            tokio::time::timeout(Duration::from_millis(20), until("it hears", async || nodes[0].bus().messages > heard)).await;
        let late = nodes[0].client.get(&path).await;
        late_old += usize::from(late.version < version);
        early_old += usize::from(early.await.unwrap().version < version);
        way.set(Direction::ToClient, Mode::Pass);
    }
    say(
        "C18 singleflight_after_write",
        format!("{ROUNDS} rounds: {early_old} loads from before the write told the old one, later readers {late_old}"),
    );
    assert_eq!(late_old, 0);
}

/// C19: everybody asks for one key that no cache has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stampede() {
    const READERS: usize = 2000;
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let path = state("c19");
    let version = nodes[0].client.put(&path).await.acknowledged();
    ground.tier.flush_all();
    // The writer has it in its own memory: this empties all of them.
    for node in &nodes {
        let cleared = Client::send(node.client.request(reqwest::Method::DELETE, "/cache")).await;
        assert_eq!(cleared.status, 200, "{cleared:?}");
    }
    let loads = || nodes.iter().map(|node| node.second()).map(|second| second.misses + second.bypasses).sum::<u64>();
    let before = loads();
    let answers = join_all((0..READERS).map(|number| nodes[number % nodes.len()].client.get(&path))).await;
    let loads = loads() - before;
    let wrong = answers.iter().filter(|answer| answer.status == 200 && answer.version != version).count();
    // On a busy machine some may hear that the server has too much to do; that is an answer too.
    let refused = answers.iter().filter(|answer| [503, 504].contains(&answer.status)).count();
    let strange: Vec<_> = answers.iter().map(|answer| answer.status).filter(|status| ![200, 503, 504].contains(status)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    say(
        "C19 stampede",
        format!(
            "{READERS} readers over {} servers: the database was asked {loads} times, wrong answers {wrong}, refused {refused}, all answered within {slowest:?}",
            nodes.len()
        ),
    );
    assert_eq!(wrong, 0);
    assert!(loads <= nodes.len() as u64 * 2, "{loads}");
}
