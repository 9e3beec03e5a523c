//! What a server of this program does on the second tier, which is what its user must be allowed to do.

use std::time::Duration;

use reqwest::Method;

use super::client::{Client, From, state};
use super::flavour::{Flavour, RULES};
use super::ground::Ground;
use super::node::Node;
use super::{say, until};
use crate::support::redis::resp::Value;

/// The user of the second tier may do all that is needed, and nothing that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_for_the_user_are_as_narrow_as_they_can_be() {
    let ground = Ground::new(Flavour::Guarded).await;
    let server = &ground.tier.servers()[0];
    let nodes = [Node::start(&ground, 0).await, Node::start(&ground, 1).await];
    let path = state("rights");
    let slot = || ground.tier.key_of("rights");
    // What others do for the tests is not to be counted.
    assert_eq!(server.command(&["CONFIG", "RESETSTAT"]), Value::text("OK"));
    ground.ways.iter().for_each(|way| way.tier.as_ref().unwrap().reset());
    until("it is found again", async || !nodes[0].second().connected || !nodes[1].second().connected || nodes[0].second().opened > 0).await;
    for node in &nodes {
        node.settles().await;
    }
    // Write, read, fill, roll back; emptied; scripts forgotten; something in the way.
    nodes[0].client.put(&path).await.acknowledged();
    assert_eq!(Client::send(nodes[0].client.write(&path, "").header("if-match", "\"77\"")).await.status, 412);
    until("the tier has it", async || nodes[1].client.get(&path).await.from != From::Store).await;
    let cleared = Client::send(nodes[0].client.request(Method::DELETE, "/cache?tier=all")).await;
    assert!(cleared.body["second_tier_entries_removed"].as_u64().is_some_and(|count| count > 0), "{cleared:?}");
    assert_eq!(server.command(&["SCRIPT", "FLUSH"]), Value::text("OK"));
    // The local tier must not answer in its place: a first fill may have found no script.
    until("it is filled", async || {
        Client::send(nodes[1].client.request(Method::DELETE, "/cache")).await;
        nodes[1].client.get(&path).await;
        slot().is_some()
    })
    .await;
    let key = slot().unwrap();
    server.command(&["DEL", &key]);
    server.command(&["RPUSH", &key, "x"]);
    nodes[0].client.put(&path).await.acknowledged();
    assert!(nodes[0].client.get("/stats").await.body["cache_entry_count"].as_u64().is_some());
    tokio::time::sleep(Duration::from_millis(200)).await;

    let Value::Items(denied) = server.command(&["ACL", "LOG"]) else { panic!("no list") };
    assert!(denied.is_empty(), "denied: {denied:?}");
    let figures = server.command(&["INFO", "commandstats"]).to_text();
    let is_used = |rule: &str| figures.contains(&format!("cmdstat_{rule}:"));
    let allowed: Vec<&str> = RULES.split_whitespace().filter_map(|rule| rule.strip_prefix('+')).collect();
    // A single server has no nodes.
    let idle: Vec<_> = allowed.iter().filter(|rule| !rule.starts_with("cluster") && !is_used(rule)).collect();
    say("second tier: rules of the user", format!("{RULES}; denied 0, allowed and not used {idle:?}"));
    assert!(idle.is_empty(), "{idle:?}");
}
