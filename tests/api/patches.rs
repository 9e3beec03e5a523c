//! Patches over HTTP, in both media types.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nworkflow_state::domain::id::{ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::session::{Reach, SessionDocument};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey};
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument, VariableKey};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{Store, WriteContext};
use serde_json::json;
use uuid::Uuid;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(
    what_is_not_touched_keeps_its_bytes,
    patches_that_cannot_be_applied_change_nothing,
    patches_compare_versions,
    patches_are_replayed,
    a_patch_that_always_comes_too_late_is_a_conflict,
    a_thousand_operations_are_the_most,
    what_a_patch_may_cost_is_bounded,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const VARIABLE: &str = "/variables/global/x";
const SESSION: &str = "/sessions/s1";

async fn what_is_not_touched_keeps_its_bytes(app: TestApp) {
    let ada = app.admin("acme");
    let body = r#"{"marking":{"p": 1 ,"q":[ 1E2,{"b":-0 , "a":1.0}]},"metadata":{"z":1,  "a":0.10},"status":"waiting"}"#;
    ada.put(STATE, body).send().await.expect(201);
    let merged = ada.merge(STATE, r#"{"marking":{"p":null,"r":2}}"#).send().await.expect(200);
    assert_eq!((merged.etag(), merged.header("location")), ("\"2\"", None));
    assert!(merged.text().contains(r#"[ 1E2,{"b":-0 , "a":1.0}]"#) && merged.text().contains(r#"{"z":1,  "a":0.10}"#), "{}", merged.text());
    assert_eq!((&merged.json()["status"], &merged.json()["marking"]["r"]), (&json!("waiting"), &json!(2)));
    assert!(merged.json()["marking"].get("p").is_none());
    let operations = r#"[{"op":"test","path":"/marking/r","value":2},{"op":"add","path":"/marking/q/-","value":null},{"op":"replace","path":"/status","value":"running"}]"#;
    let operated = ada.operate(STATE, operations).send().await.expect(200);
    assert!(operated.text().contains(r#"{"b":-0 , "a":1.0}"#) && operated.json()["marking"]["q"][2].is_null(), "{}", operated.text());
    assert_eq!(ada.get(STATE).send().await.expect(200).body, operated.body);
    assert_eq!(ada.get(&format!("{STATE}/history")).send().await.json()["items"][0]["operation"], "patch");
    // Bare JSON is a merge patch.
    ada.put(VARIABLE, r#"{"value":{"a": 1E2 },"description":"d","ttl_seconds":3600}"#).send().await.expect(201);
    let bare = ada.merge(VARIABLE, r#"{"value":{"b":1}}"#).without("content-type").header("content-type", "application/json");
    let bare = bare.send().await.expect(200);
    assert!(bare.text().contains("1E2") && bare.json()["description"] == "d" && bare.json().get("expires_at").is_some(), "{}", bare.text());
    let minimal = ada.merge(VARIABLE, r#"{"value":3}"#).header("prefer", "return=minimal").send().await.expect(204);
    assert!(minimal.body.is_empty() && minimal.etag() == "\"3\"");
    let null = ada.operate(VARIABLE, r#"[{"op":"replace","path":"/value","value":null}]"#).send().await.expect(200);
    assert!(null.text().contains(r#""value":null"#));
}

async fn patches_that_cannot_be_applied_change_nothing(app: TestApp) {
    let ada = app.admin("acme");
    ada.merge(STATE, r#"{"status":"waiting"}"#).send().await.problem(404, "state_not_found");
    let before = ada.put(STATE, r#"{"marking":{"p":1}}"#).send().await.expect(201);
    for (patch, status, code) in [
        (r#"[{"op":"replace","path":"/status","value":"waiting"},{"op":"test","path":"/marking/p","value":2}]"#, 409, "patch_test_failed"),
        (r#"[{"op":"remove","path":"/marking/absent"}]"#, 422, "patch_not_applicable"),
        (r#"[{"op":"replace","path":"/marking/absent/deep","value":1}]"#, 422, "patch_not_applicable"),
        (r#"[{"op":"replace","path":"/marking/p","value":-1}]"#, 422, "out_of_range"),
        (r#"[{"op":"remove","path":"/marking"}]"#, 422, "missing_member"),
        (r#"[{"op":"add","path":"/version","value":9}]"#, 400, "unknown_member"),
        (r#"[{"op":"grow","path":"/marking"}]"#, 422, "invalid_value"),
        (r#"[{"op":"add","path":"/marking/q"}]"#, 422, "missing_member"),
        (r#"{"op":"add"}"#, 422, "invalid_type"),
        ("[", 400, "invalid_json"),
    ] {
        let answer = ada.operate(STATE, patch).send().await;
        assert_eq!(answer.verdict(), (status, code.to_owned()), "{patch}: {}", answer.text());
    }
    for (patch, status, code) in [
        (r#"{"marking":{"p":"1"}}"#, 422, "invalid_type"),
        (r#"{"marking":null}"#, 422, "missing_member"),
        (r#"{"status":"Running"}"#, 422, "invalid_value"),
        (r#"{"updated_by":"x"}"#, 400, "unknown_member"),
        ("[]", 422, "invalid_type"),
    ] {
        let answer = ada.merge(STATE, patch).send().await;
        assert_eq!(answer.verdict(), (status, code.to_owned()), "{patch}: {}", answer.text());
    }
    let other = ada.merge(STATE, "{}").without("content-type").header("content-type", "text/plain").send().await;
    let other = other.problem(415, "unsupported_media_type");
    assert_eq!(other.header("accept-patch"), Some("application/merge-patch+json, application/json-patch+json"));
    assert_eq!(ada.get(STATE).send().await.expect(200).body, before.body);
}

async fn patches_compare_versions(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, r#"{"marking":{"p":1}}"#).send().await.expect(201);
    ada.merge(STATE, r#"{"marking":{"p":2}}"#).header("if-match", "W/\"1\"").send().await.expect(200);
    let stale = ada.merge(STATE, r#"{"marking":{"p":3}}"#).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert_eq!(stale.json()["current_version"], 2);
    assert_eq!(ada.get(STATE).send().await.expect(200).json()["marking"], json!({"p": 2}));
}

async fn patches_are_replayed(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(VARIABLE, r#"{"value":[1]}"#).send().await.expect(201);
    let patch = || ada.operate(VARIABLE, r#"[{"op":"add","path":"/value/-","value":2}]"#).header("idempotency-key", "k").send();
    let (first, again) = (patch().await.expect(200), patch().await.expect(200));
    assert_eq!((first.text(), again.header("idempotency-replayed")), (again.text(), Some("true")));
    assert_eq!(ada.get(VARIABLE).send().await.expect(200).json()["value"], json!([1, 2]));
}

/// Another writer's save of the state, the variable and the session.
async fn overtake(store: Arc<dyn Store>, number: usize) {
    let rival = WriteContext {
        tenant: TenantId::parse("acme").unwrap(),
        actor: UserId::parse("rival").unwrap(),
        request_id: Uuid::nil(),
        idempotency: None,
    };
    let state = StateKey { workflow: WorkflowId::parse("order").unwrap(), execution: ExecutionId::parse("e1").unwrap() };
    let document = StateDocument::parse(&json!({"marking": {"rival": number}}).to_string()).unwrap();
    store.put_state(&rival, &state, Expected::Present, &document, Operation::Put).await.unwrap();
    let variable = VariableKey { scope: Scope::Global, name: VariableName::parse("x").unwrap() };
    let document = VariableDocument { value: json!({"rival": number}).to_string().into(), description: None, expiry: Expiry::Never };
    store.put_variable(&rival, &variable, None, Expected::Present, &document).await.unwrap();
    let session = SessionId::parse("s1").unwrap();
    let document =
        SessionDocument { data: json!({"rival": number}).to_string().into(), ttl_seconds: None, sliding: false, max_ttl_seconds: None };
    store.put_session(&rival, &session, &Reach::All, &rival.actor, Expected::Present, &document).await.unwrap();
}

async fn a_patch_that_always_comes_too_late_is_a_conflict(app: TestApp) {
    const ATTEMPTS: usize = 5;
    // Without `delegate`, of which a refused write of a session would be one more read, for the log.
    let ada = app.bearer(app.token("acme", "admin", &["nworkflow-writer", "variables.global:write"]));
    let (overtaken, losses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    {
        let (overtaken, losses) = (Arc::clone(&overtaken), Arc::clone(&losses));
        app.faults.after_reads(move |store| {
            let is_lost = losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            let overtaken = Arc::clone(&overtaken);
            Box::pin(async move {
                if is_lost {
                    overtake(store, overtaken.fetch_add(1, Ordering::SeqCst) + 1).await;
                }
            })
        });
    }
    for (path, first, pointer) in [
        (STATE, r#"{"marking":{"p":1}}"#, "/marking/q"),
        (VARIABLE, r#"{"value":{"p":1}}"#, "/value/q"),
        (SESSION, r#"{"data":{"p":1}}"#, "/data/q"),
    ] {
        for other in [STATE, VARIABLE, SESSION] {
            let body = if other == path { first } else { r#"{"marking":{}}"# };
            let body = if other == VARIABLE && other != path { r#"{"value":0}"# } else { body };
            let body = if other == SESSION && other != path { r#"{"data":0}"# } else { body };
            ada.put(other, body).send().await;
        }
        let patch = json!([{"op": "add", "path": pointer, "value": 2}]).to_string();
        let keyed = || ada.operate(path, patch.as_str()).header("idempotency-key", path);
        let version = async || ada.get(path).send().await.expect(200).json()["version"].as_u64().unwrap();
        for call in [ada.operate(path, patch.as_str()), keyed()] {
            let before = version().await;
            overtaken.store(0, Ordering::SeqCst);
            losses.store(usize::MAX, Ordering::SeqCst);
            let lost = call.send().await.problem(409, "conflict");
            losses.store(0, Ordering::SeqCst);
            assert!(lost.json()["detail"].as_str().unwrap().contains("5 times"), "{}", lost.text());
            assert_eq!(overtaken.load(Ordering::SeqCst), ATTEMPTS, "{path}: it is tried five times");
            let now = ada.get(path).send().await.expect(200);
            assert_eq!(now.json()["version"], before + ATTEMPTS as u64, "{path}: only the others wrote");
            assert!(now.text().contains(r#""rival":5"#) && !now.text().contains(r#""q":2"#), "{}", now.text());
        }
        // The fifth attempt is one: after four that were lost it applies to what the last of the others left.
        let before = version().await;
        overtaken.store(0, Ordering::SeqCst);
        losses.store(ATTEMPTS - 1, Ordering::SeqCst);
        // And a key under which a patch was lost is as free as before.
        let done = keyed().send().await.expect(200);
        assert_eq!((overtaken.load(Ordering::SeqCst), done.header("idempotency-replayed")), (ATTEMPTS - 1, None), "{path}");
        assert_eq!(done.json()["version"], before + ATTEMPTS as u64, "{path}");
        assert!(done.text().contains(r#""rival":4"#) && done.text().contains(r#""q":2"#), "{}", done.text());
        // With If-Match the first loss decides.
        let tag = format!("\"{}\"", version().await);
        losses.store(1, Ordering::SeqCst);
        let refused = ada.operate(path, patch.as_str()).header("if-match", &tag).send().await.problem(412, "precondition_failed");
        assert_eq!(refused.json()["current_version"], version().await, "{path}");
    }
}

async fn a_thousand_operations_are_the_most(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body, pointer) in [
        (STATE, r#"{"marking":{"p":0}}"#, "/marking/p"),
        (VARIABLE, r#"{"value":{"p":0}}"#, "/value/p"),
        (SESSION, r#"{"data":{"p":0}}"#, "/data/p"),
    ] {
        ada.put(path, body).send().await.expect(201);
        let operations = |count: usize| {
            let all: Vec<_> = (1..=count).map(|number| json!({"op": "replace", "path": pointer, "value": number})).collect();
            json!(all).to_string()
        };
        let before = ada.get(path).send().await.expect(200);
        let refused = ada.operate(path, operations(1001)).send().await.problem(422, "too_many_elements").json();
        assert_eq!((&refused["limit"], &refused["errors"][0]["pointer"]), (&json!(1000), &json!("#")), "{refused}");
        assert_eq!(ada.get(path).send().await.expect(200).body, before.body);
        let done = ada.operate(path, operations(1000)).send().await.expect(200);
        assert!(done.json()["version"] == 2 && done.text().contains(r#""p":1000"#), "{}", done.text());
    }
}

/// A small patch on a small document can ask for the product of both, or for levels on levels: neither is done.
async fn what_a_patch_may_cost_is_bounded(app: TestApp) {
    let ada = app.admin("acme");
    let elements = vec!["0"; 200_000].join(",");
    ada.put(VARIABLE, format!(r#"{{"value":[{elements}]}}"#)).send().await.expect(201);
    let before = ada.get(VARIABLE).send().await.expect(200);
    // Copies that are made, read to be changed, and taken away again.
    let mut operations = Vec::new();
    for _ in 0..333 {
        operations.push(json!({"op": "copy", "from": "/value", "path": "/description"}));
        operations.push(json!({"op": "add", "path": "/description/0", "value": 0}));
        operations.push(json!({"op": "remove", "path": "/description"}));
    }
    let refused = ada.operate(VARIABLE, json!(operations).to_string()).send().await.problem(422, "patch_too_costly").json();
    assert!(refused["limit"].as_u64().is_some_and(|limit| limit > 65_536), "{refused}");
    assert_eq!(ada.get(VARIABLE).send().await.expect(200).body, before.body);

    // Each copy below itself doubles the levels that recursion would go through.
    ada.put(SESSION, r#"{"data":[[[[[[[[[[0]]]]]]]]]]}"#).send().await.expect(201);
    let mut depth = 10;
    let mut operations = vec![json!({"op": "replace", "path": format!("/data{}", "/0".repeat(depth)), "value": 1})];
    for _ in 0..13 {
        operations.push(json!({"op": "copy", "from": "/data", "path": format!("/data{}", "/0".repeat(depth))}));
        depth *= 2;
        operations.push(json!({"op": "test", "path": format!("/data{}", "/0".repeat(depth)), "value": 1}));
    }
    let refused = ada.operate(SESSION, json!(operations).to_string()).send().await.problem(422, "document_too_deep").json();
    assert_eq!(refused["limit"], 64, "{refused}");
}
