//! O11: nobody works for a client that has left.

use std::time::{Duration, Instant};

use super::slow::Slow;
use super::{STATE, p99, say};
use crate::api::app::{Call, Caller};

const VARIABLE: &str = "/variables/workflow:order/v";

/// Every way to the database: in groups and alone, reads and writes.
fn everything(ada: &Caller) -> Vec<Call> {
    vec![
        ada.get(STATE).header("cache-control", "no-cache"),
        ada.get(STATE),
        ada.get(VARIABLE),
        ada.get("/sessions/s1"),
        ada.get("/workflows"),
        ada.get("/sessions"),
        ada.get(&format!("{STATE}/history")),
        ada.get(&format!("{STATE}?at=2025-01-01T00:00:00Z")),
        ada.get("/effective-variables?workflow_id=order"),
        ada.put(STATE, r#"{"marking":{"late":1}}"#),
        ada.put(STATE, r#"{"marking":{"late":1}}"#).header("idempotency-key", "late"),
        ada.put(STATE, r#"{"marking":{"late":1}}"#).header("if-match", "\"1\", \"2\""),
        ada.merge(STATE, r#"{"marking":{"late":1}}"#),
        ada.delete(STATE),
        ada.put(VARIABLE, r#"{"value":2}"#),
        ada.post(&format!("{VARIABLE}/increment"), "{}"),
        ada.call(reqwest::Method::PATCH, "/variables/workflow:order").body(r#"{"set":{"v":2}}"#).header("content-type", "application/json"),
        ada.delete("/variables/workflow:order"),
        ada.put("/sessions/s1", r#"{"data":2}"#),
        ada.post("/sessions", r#"{"data":2}"#),
        ada.post("/workflows/order/executions/e1/checkpoints", "{}"),
        ada.delete("/workflows/order/executions/e1"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_not_worked_on() {
    const LIMIT: Duration = Duration::from_millis(150);
    let slow = Slow::start(&[], |_| {}).await;
    let ada = slow.app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    ada.put(VARIABLE, r#"{"value":1}"#).send().await.expect(201);
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    let holder = slow.hold().await;
    let mut took = Vec::new();
    let mut left = 0;
    for call in everything(&ada) {
        let begin = Instant::now();
        let answer = call.header("x-request-timeout-ms", &LIMIT.as_millis().to_string()).send().await;
        took.push(begin.elapsed());
        let statements = slow.statements().await;
        assert!(statements.is_empty(), "{}: left in the database: {statements:?}", answer.what);
        left += statements.len();
        let answer = answer.problem(504, "deadline_exceeded");
        assert!(answer.text().contains("deadline") || answer.text().contains("took longer"), "{}", answer.text());
    }
    assert!(took.iter().all(|took| *took >= LIMIT - LIMIT / 10), "{took:?}");
    Slow::release(holder).await;
    say(
        "deadline",
        format!("limit {} ms, p99 {} ms of {}, stray queries {left}", LIMIT.as_millis(), p99(took.clone()).as_millis(), took.len()),
    );
    // Generous: the machine may be busy, but nothing of it waits for the locks' own end.
    assert!(p99(took) < LIMIT * 10);
    // What came too late was not written, and nothing is broken.
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"1\"");
    assert_eq!(ada.get(VARIABLE).send().await.expect(200).json()["value"], 1);
    assert_eq!(ada.get("/sessions").send().await.expect(200).json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(ada.put(STATE, r#"{"marking":{}}"#).header("idempotency-key", "late").send().await.expect(200).etag(), "\"2\"");
}

/// Who has more time is not told that somebody else had less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_read_outlives_the_impatient() {
    let slow = Slow::start(&[], |_| {}).await;
    let ada = slow.app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    let holder = slow.hold().await;
    let impatient = async { ada.get(STATE).header("x-request-timeout-ms", "200").send().await };
    let patient = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ada.get(STATE).send().await
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        Slow::release(holder).await;
    };
    let (impatient, patient, ()) = tokio::join!(impatient, patient, release);
    impatient.problem(504, "deadline_exceeded");
    patient.expect(200);
}

/// A commit that was asked for in time is a commit, and its answer is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_commit_within_the_deadline_is_answered() {
    let slow = Slow::start(&[], |_| {}).await;
    let ada = slow.app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    slow.delay(Duration::from_millis(50));
    // Less than what the database gives a statement anyway, so it is told; and more than all of this takes.
    let answer = ada.put(STATE, r#"{"marking":{}}"#).header("x-request-timeout-ms", "4000").send().await.expect(200);
    assert_eq!(answer.etag(), "\"2\"");
    // The connection's own limit is what it was.
    let call = ada.put(STATE, r#"{"marking":{}}"#);
    assert_eq!(call.send().await.expect(200).etag(), "\"3\"");
}
