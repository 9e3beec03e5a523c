//! A hundred thousand generated documents go in and come back byte for byte.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use nworkflow_state::domain::document::MAX_DEPTH;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::app::{Answer, Caller, TestApp};
use super::on_both_stores;
use crate::support::documents::{self, Random};

on_both_stores!(a_hundred_thousand_documents_come_back_byte_for_byte);

/// The seed of the half of the documents that is the same in every run.
const SEED: u64 = 3;
/// Set to a seed, the other half is made with it.
const SEED_VARIABLE: &str = "NWORKFLOW_TEST_SEED";
const DOCUMENTS: usize = 100_000;
/// Tokens and members of the metadata in one state.
const TOKENS: usize = 250;
const MEMBERS: usize = 50;
/// Clients at once.
const CLIENTS: usize = 4;

#[derive(Deserialize)]
struct State<'a> {
    #[serde(borrow)]
    marking: &'a RawValue,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
struct Variable<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<Variable<'a>>,
}

fn read<'a, T: Deserialize<'a>>(answer: &'a Answer) -> T {
    serde_json::from_slice(&answer.body).unwrap()
}

/// A state of many documents: coloured tokens, and members of the metadata.
async fn state(caller: &Caller, random: &mut Random, path: &str) -> usize {
    let (mut marking, mut metadata) = (String::from("{\"p\" :["), String::from("{"));
    for token in 0..TOKENS {
        marking.push_str(if token == 0 { " " } else { "," });
        // Around a token there are the array, the marking and the body.
        documents::value(random, MAX_DEPTH - 3, &mut marking);
    }
    marking.push_str("]\n}");
    for member in 0..MEMBERS {
        metadata.push_str(&format!("{}\"{member}\":", if member == 0 { "" } else { " ," }));
        documents::value(random, MAX_DEPTH - 2, &mut metadata);
    }
    metadata.push('}');
    let written = caller.put(path, format!("{{\"metadata\":{metadata},\"marking\": {marking}}}")).send().await.expect(201);
    let loaded = caller.get(path).send().await.expect(200);
    assert_eq!(written.body, loaded.body);
    let back: State<'_> = read(&loaded);
    assert_same(back.marking.get(), &marking);
    assert_same(back.metadata.get(), &metadata);
    TOKENS + MEMBERS
}

/// Some variables of one document each, loaded one by one and in a list.
async fn variables(caller: &Caller, random: &mut Random, scope: &str) -> usize {
    let mut sent = Vec::new();
    for name in 0..4 {
        let mut value = String::new();
        documents::value(random, MAX_DEPTH - 1, &mut value);
        let path = format!("/variables/{scope}/{name}");
        caller.put(&path, format!("{{\"value\":\t{value} }}")).send().await.expect(201);
        let loaded = caller.get(&path).send().await.expect(200);
        assert_same(read::<Variable<'_>>(&loaded).value.get(), &value);
        sent.push(value);
    }
    let listed = caller.get(&format!("/variables/{scope}")).send().await.expect(200);
    let listed: Page<'_> = read(&listed);
    assert_eq!(listed.items.len(), sent.len());
    listed.items.iter().zip(&sent).for_each(|(back, sent)| assert_same(back.value.get(), sent));
    sent.len()
}

/// Asserts that two texts are equal, and shows where they are not.
#[track_caller]
fn assert_same(back: &str, sent: &str) {
    if back != sent {
        let at = back.bytes().zip(sent.bytes()).take_while(|(back, sent)| back == sent).count();
        let part = |text: &str| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(60)..text.len().min(at + 60)]).into_owned();
        panic!("differs at byte {at}: sent {:?}, came back {:?}", part(sent), part(back));
    }
}

async fn a_hundred_thousand_documents_come_back_byte_for_byte(app: TestApp) {
    let begin = Instant::now();
    let fresh = std::env::var(SEED_VARIABLE).map_or_else(|_| documents::fresh_seed(), |seed| seed.parse().unwrap());
    let say = |text: &str| {
        // Past the test harness: whoever reads the run must be able to run it again.
        let _ = writeln!(std::io::stdout(), "round trip on {}: {text}", app.store.backend().as_str());
    };
    say(&format!("seeds {SEED} and {fresh} ({SEED_VARIABLE}={fresh} repeats it)"));
    let count = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|client| {
        let (ada, count) = (app.admin("acme"), Arc::clone(&count));
        let seed = if client % 2 == 0 { SEED } else { fresh };
        app.lifecycle.spawn(async move {
            let mut random = Random::new(seed.wrapping_add(client as u64));
            let mut own = 0;
            for round in 0.. {
                own += state(&ada, &mut random, &format!("/workflows/w{client}/executions/e{round}/state")).await;
                if round % 4 == 0 {
                    own += variables(&ada, &mut random, &format!("workflow:w{client}-{round}")).await;
                }
                if own >= DOCUMENTS / CLIENTS {
                    break;
                }
            }
            count.fetch_add(own, Ordering::Relaxed);
        })
    });
    join_all(clients).await.into_iter().for_each(|client| client.unwrap());
    let count = count.load(Ordering::Relaxed);
    assert!(count >= DOCUMENTS);
    say(&format!("{count} documents byte for byte in {:.1} s", begin.elapsed().as_secs_f64()));
}
