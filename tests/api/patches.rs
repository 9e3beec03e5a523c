//! Patches over HTTP, in both media types.

use serde_json::json;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(
    what_is_not_touched_keeps_its_bytes,
    patches_that_cannot_be_applied_change_nothing,
    patches_compare_versions,
    patches_are_replayed
);

const STATE: &str = "/workflows/order/executions/e1/state";
const VARIABLE: &str = "/variables/global/x";

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
