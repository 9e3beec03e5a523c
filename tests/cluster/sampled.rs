//! C22: the server's own eye on its caches sees what a broken protocol would do.

use std::time::{Duration, Instant};

use super::client::{From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{say, until};
use crate::support::redis::resp::Value;

/// What a fill without lease or ticket does: the value that a write has replaced is in the second tier again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sampler_finds_a_value_that_was_replaced() {
    // Else a server that has heard of the write takes nothing older from there.
    let ground = Ground::new(Flavour::Redis).await.set("cache.floor_ms", 50).set("cache.sample_every", 1);
    let nodes = [Node::start(&ground, 0).await, Node::start(&ground, 1).await];
    let path = state("c22");
    let first = nodes[0].client.put(&path).await.acknowledged();
    until("the tier has it", async || ground.tier.kind_of("c22") == Some('V')).await;
    let key = ground.tier.key_of("c22").unwrap();
    let replaced = ground.tier.slot(&key).unwrap();
    let second = nodes[0].client.put(&path).await.acknowledged();
    until("the tier has the newer one", async || ground.tier.slot(&key).is_some_and(|slot| slot != replaced && slot[0] == b'V')).await;
    assert_eq!((nodes[0].found_wrong(), nodes[1].found_wrong()), (0, 0));
    // The floor is over: no server remembers that there was a newer one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ground.tier.holder(&key).command(&[b"SET", key.as_bytes(), &replaced, b"PX", b"60000"]), Value::text("OK"));
    let broken = Instant::now();
    until("the old value is read", async || {
        let answer = nodes[1].client.get(&path).await;
        answer.version == first && answer.from != From::Store
    })
    .await;
    until("the sampler has found it", async || nodes[1].found_wrong() > 0).await;
    say("C22 sampler_finds_bug", format!("version {first} instead of {second} counted as wrong {:?} after it came back", broken.elapsed()));
    assert!(nodes[1].found_wrong() > 0);
}
