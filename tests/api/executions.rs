//! Workflows and executions over HTTP: lists, moments, the end of an execution.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nworkflow_state::domain::clock::Timestamp;
use serde_json::json;

use super::app::{Caller, TestApp};
use super::on_both_stores;

on_both_stores!(lists_are_filtered_and_paged, a_moment_is_read, recent_pages_stay_whole_while_executions_change, an_execution_is_removed);

const STATE: &str = "/workflows/order/executions/e1/state";

async fn ids(caller: &Caller, path: &str, member: &str) -> Vec<String> {
    let page = caller.get(path).send().await.expect(200).json();
    page["items"].as_array().unwrap().iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
}

async fn lists_are_filtered_and_paged(app: TestApp) {
    for (index, status) in ["running", "failed", "running"].iter().enumerate() {
        let body = json!({"marking": {}, "status": status}).to_string();
        // A caller for each, because an hour ends a token.
        app.admin("acme").put(&format!("/workflows/order/executions/e{index}/state"), body).send().await.expect(201);
        app.clock.advance_seconds(7200);
    }
    let ada = app.admin("acme");
    ada.put("/workflows/bill/executions/e1/state", r#"{"marking":{}}"#).send().await.expect(201);
    assert_eq!(ids(&ada, "/workflows", "workflow_id").await, ["bill", "order"]);
    let list = "/workflows/order/executions";
    assert_eq!(ids(&ada, list, "execution_id").await, ["e0", "e1", "e2"]);
    assert_eq!(ids(&ada, &format!("{list}?status=running"), "execution_id").await, ["e0", "e2"]);
    assert_eq!(ids(&ada, &format!("{list}?order=recent"), "execution_id").await, ["e2", "e1", "e0"]);
    let middle = ada.get(STATE).send().await.expect(200).json()["updated_at"].as_str().unwrap().to_owned();
    assert_eq!(ids(&ada, &format!("{list}?updated_after={middle}"), "execution_id").await, ["e2"]);
    let cursor = ada.get(&format!("{list}?limit=2")).send().await.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(ids(&ada, &format!("{list}?limit=2&cursor={cursor}"), "execution_id").await, ["e2"]);
    ada.get(&format!("{list}?order=recent&cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    for query in ["status=Running", "order=newest", "updated_after=now", "limit=0"] {
        ada.get(&format!("{list}?{query}")).send().await.problem(400, "invalid_parameter");
    }
    assert!(ids(&app.admin("other"), "/workflows", "workflow_id").await.is_empty());
}

async fn a_moment_is_read(app: TestApp) {
    let ada = app.admin("acme");
    let put = |tokens: u32| ada.put(STATE, json!({"marking": {"p": tokens}}).to_string()).send();
    let moment = |answer: &super::app::Answer| answer.json()["updated_at"].as_str().unwrap().to_owned();
    let first = put(1).await.expect(201);
    app.clock.advance_seconds(10);
    let second = put(2).await.expect(200);
    let at = |time: &str| ada.get(&format!("{STATE}?at={time}")).send();
    assert_eq!(at(&moment(&first)).await.expect(200).body, first.body, "inclusive");
    assert_eq!(at(&moment(&second)).await.expect(200).body, second.body);
    at("2020-01-01T00:00:00Z").await.problem(404, "version_not_found");
    // From the instant of its deletion on there is no state, up to the instant at which it begins again.
    app.clock.advance_seconds(10);
    ada.delete(STATE).send().await.expect(204);
    let history = ada.get(&format!("{STATE}/history?limit=1")).send().await.expect(200).json();
    let deleted_at = history["items"][0]["at"].as_str().unwrap().to_owned();
    assert_eq!(history["items"][0]["operation"], "delete");
    app.clock.advance_seconds(10);
    let between = app.clock.now().to_string();
    app.clock.advance_seconds(10);
    for time in [&deleted_at, &between] {
        let problem = at(time).await.problem(404, "version_not_found").json();
        assert!(problem["detail"].as_str().unwrap().contains("no state at that time"), "{problem}");
    }
    let just_before = before(&deleted_at);
    assert_eq!(at(&just_before).await.expect(200).body, second.body);
    let reborn = put(3).await.expect(201);
    at(&before(&moment(&reborn))).await.problem(404, "version_not_found");
    assert_eq!(at(&moment(&reborn)).await.expect(200).body, reborn.body);
    at(&between).await.problem(404, "version_not_found");
    at("2999-01-01T00:00:00Z").await.problem(400, "invalid_parameter");
    at("yesterday").await.problem(400, "invalid_parameter");
    ada.get(&format!("{STATE}?version=1&at={}", moment(&first))).send().await.problem(400, "invalid_parameter");
}

/// A microsecond earlier.
fn before(time: &str) -> String {
    let time = Timestamp::parse(time).unwrap();
    Timestamp::from_microseconds(time.as_microseconds() - 1).to_string()
}

/// Lists by `order=recent`, page after page; between two pages `turn` happens.
async fn recent_pages(caller: &Caller, mut turn: impl AsyncFnMut(usize)) -> Vec<String> {
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = caller.get(&format!("/workflows/order/executions?order=recent&limit=4{cursor}")).send().await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 4);
        seen.extend(items.iter().map(|item| item["execution_id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { return seen };
        cursor = format!("&cursor={next}");
        turn(pages).await;
    }
}

async fn recent_pages_stay_whole_while_executions_change(app: TestApp) {
    const HOUR: i64 = 3_600_000_000;
    let path = |id: &str| format!("/workflows/order/executions/{id}/state");
    let save = async |caller: &Caller, id: &str, tokens: u32| {
        let answer = caller.put(&path(id), json!({"marking": {"p": tokens}}).to_string()).send().await;
        assert!(matches!(answer.status.as_u16(), 200 | 201), "{answer:?}");
    };
    let to_the_next_hour = || app.clock.advance_microseconds(HOUR - app.clock.now().as_microseconds().rem_euclid(HOUR) + 1);
    // Thirty executions, ten in an hour.
    let mut all = BTreeSet::new();
    for hour in 0..3 {
        to_the_next_hour();
        let ada = app.admin("acme");
        for index in 0..10 {
            let id = format!("h{hour}-{index}");
            save(&ada, &id, 0).await;
            all.insert(id);
        }
    }
    let hour_of = |id: &String| id[1..2].parse::<u32>().unwrap();
    let ada = app.admin("acme");

    // Changes within the newest hour move nothing, however many writers there are beside the pages.
    let (over, writes) = (AtomicBool::new(false), AtomicU32::new(0));
    let writing = async {
        while !over.load(Ordering::Relaxed) {
            let number = writes.fetch_add(1, Ordering::Relaxed);
            save(&ada, &format!("h2-{}", number % 10), number).await;
        }
    };
    let reading = async {
        let mut lists = Vec::new();
        for _ in 0..5 {
            lists.push(recent_pages(&ada, async |_| {}).await);
        }
        over.store(true, Ordering::Relaxed);
        lists
    };
    let (lists, ()) = tokio::join!(reading, writing);
    for list in &lists {
        assert_eq!((list.len(), list.iter().cloned().collect::<BTreeSet<_>>()), (30, all.clone()), "each one once");
        assert!(list.is_sorted_by_key(|id| std::cmp::Reverse(hour_of(id))), "newest hour first: {list:?}");
        assert_eq!(list, &lists[0], "stable within the hour");
    }
    assert!(writes.load(Ordering::Relaxed) > 0, "something was written beside the pages");

    // Changes in a later hour move an execution to the front: behind nobody's back it comes twice, and what stays is found.
    to_the_next_hour();
    let ada = app.admin("acme");
    let mut moved = BTreeSet::new();
    let list = recent_pages(&ada, async |page| {
        // One that was on a page already, one of the oldest hour that no page has shown.
        for id in [format!("h2-{page}"), format!("h0-{page}")] {
            save(&ada, &id, 1).await;
            moved.insert(id);
        }
    })
    .await;
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for id in &list {
        *times.entry(id).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "nothing comes twice: {list:?}");
    let missed: BTreeSet<_> = all.iter().filter(|id| !times.contains_key(id)).collect();
    assert!(!missed.is_empty() && missed.iter().all(|id| moved.contains(*id)), "only what moved was passed over: {missed:?}");
    // What moved is at the front of the next list.
    let again = recent_pages(&ada, async |_| {}).await;
    assert_eq!(again[..moved.len()].iter().cloned().collect::<BTreeSet<_>>(), moved);
    assert_eq!(again.iter().cloned().collect::<BTreeSet<_>>(), all);
}

async fn an_execution_is_removed(app: TestApp) {
    let ada = app.admin("acme");
    let execution = "/workflows/order/executions/e1";
    ada.delete(execution).send().await.problem(404, "execution_not_found");
    ada.put(STATE, r#"{"marking":{"p":1}}"#).send().await.expect(201);
    ada.put(STATE, r#"{"marking":{"p":2}}"#).send().await.expect(200);
    ada.post(&format!("{execution}/checkpoints"), r#"{"checkpoint_id":"c1"}"#).send().await.expect(201);
    ada.delete(execution).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    let remove = || ada.delete(execution).header("idempotency-key", "k").send();
    let removed = remove().await.expect(200);
    assert_eq!(removed.json(), json!({"deleted": {"versions": 2, "checkpoints": 1}}));
    assert_eq!(remove().await.expect(200).header("idempotency-replayed"), Some("true"));
    ada.get(STATE).send().await.problem(404, "state_not_found");
    ada.get(&format!("{STATE}/history")).send().await.problem(404, "state_not_found");
    ada.get(&format!("{execution}/checkpoints/c1")).send().await.problem(404, "checkpoint_not_found");
    assert!(ids(&ada, "/checkpoints", "checkpoint_id").await.is_empty() && ids(&ada, "/workflows", "workflow_id").await.is_empty());
    let again = ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201).json();
    assert!(again["version"].as_i64() > Some(2), "{again}");
}
