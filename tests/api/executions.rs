//! Workflows and executions over HTTP: lists, moments, the end of an execution.

use serde_json::json;

use super::app::{Caller, TestApp};
use super::on_both_stores;

on_both_stores!(lists_are_filtered_and_paged, a_moment_is_read, an_execution_is_removed);

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
    at("2999-01-01T00:00:00Z").await.problem(400, "invalid_parameter");
    at("yesterday").await.problem(400, "invalid_parameter");
    ada.get(&format!("{STATE}?version=1&at={}", moment(&first))).send().await.problem(400, "invalid_parameter");
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
