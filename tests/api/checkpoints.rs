//! Checkpoints over HTTP: make, load, list, delete, restore, fork.

use serde_json::{Value, json};

use super::app::{Caller, TestApp};
use super::on_both_stores;

on_both_stores!(
    a_checkpoint_keeps_the_current_state,
    a_checkpoint_keeps_a_given_state,
    a_taken_id_is_a_conflict,
    lists_are_newest_first_and_paged,
    a_restore_is_a_new_version,
    a_restore_brings_a_deleted_state_back,
    a_restore_takes_nothing,
    a_fork_begins_an_execution,
    a_fork_has_preconditions_on_its_target,
    a_deleted_checkpoint_is_gone,
    preconditions_are_about_what_changes,
    answers_are_replayed,
    bad_checkpoints_are_refused,
    permissions_are_apart,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const CHECKPOINTS: &str = "/workflows/order/executions/e1/checkpoints";
const FIRST: &str = r#"{"marking":{"p": 1.0e0 ,"q":[ 1E2]},"status":"waiting","metadata":{"z":1,  "a":0.10},"schema_version":7}"#;

/// A state whose marking is a plain count.
fn marking(tokens: u32) -> String {
    json!({"marking": {"p": tokens}}).to_string()
}

async fn ids(caller: &Caller, path: &str) -> Vec<String> {
    let page = caller.get(path).send().await.expect(200).json();
    page["items"].as_array().unwrap().iter().map(|item| item["checkpoint_id"].as_str().unwrap().to_owned()).collect()
}

/// An administrator with the state of these bytes and its checkpoint `c1`.
async fn with_checkpoint(app: &TestApp) -> Caller {
    let ada = app.admin("acme");
    ada.put(STATE, FIRST.replace("1.0e0", "1")).send().await.expect(201);
    ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c1"}"#).send().await.expect(201);
    ada
}

async fn a_checkpoint_keeps_the_current_state(app: TestApp) {
    let ada = app.admin("acme");
    ada.post(CHECKPOINTS, "{}").send().await.problem(404, "state_not_found");
    assert!(ids(&ada, CHECKPOINTS).await.is_empty());
    ada.put(STATE, marking(1)).send().await.expect(201);
    ada.put(STATE, FIRST.replace("1.0e0", "1")).send().await.expect(200);
    let body = r#"{"checkpoint_id":"c1","label":"Before payment","metadata":{"n": 1E2}}"#;
    let made = ada.post(CHECKPOINTS, body).send().await.expect(201);
    let path = format!("{CHECKPOINTS}/c1");
    assert_eq!((made.etag(), made.header("location")), ("\"1\"", Some(path.as_str())));
    assert!(made.text().contains(r#""metadata":{"n": 1E2}"#) && made.text().contains(r#"{"p": 1 ,"q":[ 1E2]}"#), "{}", made.text());
    let json = made.json();
    assert_eq!((&json["workflow_id"], &json["execution_id"], &json["checkpoint_id"]), (&json!("order"), &json!("e1"), &json!("c1")));
    assert_eq!((&json["label"], &json["state_version"], &json["created_by"]), (&json!("Before payment"), &json!(2), &json!("admin")));
    assert_eq!((&json["state"]["status"], &json["state"]["schema_version"]), (&json!("waiting"), &json!(7)));
    assert!(json["size"].as_i64() > Some(0));
    // It stays as it is.
    ada.put(STATE, marking(3)).send().await.expect(200);
    let loaded = ada.get(&path).send().await.expect(200);
    assert_eq!((&loaded.body, loaded.header("cache-control")), (&made.body, Some("private, no-cache")));
    assert_eq!(ada.head(&path).send().await.expect(200).etag(), "\"1\"");
    ada.get(&path).header("if-none-match", "W/\"1\"").send().await.expect(304);
    // Without a body the server chooses everything.
    let generated = ada.call(reqwest::Method::POST, CHECKPOINTS).send().await.expect(201);
    let json = generated.json();
    let id = json["checkpoint_id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id}");
    assert!(json.get("label").is_none() && json["metadata"] == json!({}) && json["state_version"] == 3);
}

async fn a_checkpoint_keeps_a_given_state(app: TestApp) {
    let ada = app.admin("acme");
    let made = ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c1","state":{"marking":{"p": 5}}}"#).send().await.expect(201);
    let json = made.json();
    assert!(json.get("state_version").is_none());
    assert_eq!(json["state"], json!({"marking": {"p": 5}, "status": "running", "metadata": {}, "schema_version": 1}));
    ada.get(STATE).send().await.problem(404, "state_not_found");
    assert_eq!(ids(&ada, CHECKPOINTS).await, ["c1"]);
    let restored = ada.post(&format!("{CHECKPOINTS}/c1/restore"), "").send().await.expect(200);
    assert_eq!((restored.etag(), &restored.json()["marking"]), ("\"1\"", &json!({"p": 5})));
    assert_eq!(ada.get(STATE).send().await.expect(200).body, restored.body);
}

async fn a_taken_id_is_a_conflict(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let before = ada.get(&format!("{CHECKPOINTS}/c1")).send().await.expect(200);
    ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c1","label":"again"}"#).send().await.problem(409, "checkpoint_exists");
    assert_eq!(ada.get(&format!("{CHECKPOINTS}/c1")).send().await.expect(200).body, before.body);
    // The id is taken in its execution only.
    ada.post("/workflows/order/executions/e2/checkpoints", r#"{"checkpoint_id":"c1","state":{"marking":{}}}"#).send().await.expect(201);
    app.admin("other").get(&format!("{CHECKPOINTS}/c1")).send().await.problem(404, "checkpoint_not_found");
}

async fn lists_are_newest_first_and_paged(app: TestApp) {
    let ada = app.admin("acme");
    let mut middle = Value::Null;
    for (execution, id) in [("e1", "a"), ("e2", "b"), ("e1", "c"), ("e1", "d")] {
        let path = format!("/workflows/order/executions/{execution}/checkpoints");
        let body = json!({"checkpoint_id": id, "state": {"marking": {"p": 1}}}).to_string();
        let made = ada.post(&path, body).send().await.expect(201).json();
        if id == "b" {
            middle = made["created_at"].clone();
        }
        app.clock.advance_seconds(1);
    }
    ada.post("/workflows/other/executions/e1/checkpoints", r#"{"checkpoint_id":"e","state":{"marking":{}}}"#).send().await.expect(201);
    assert_eq!(ids(&ada, CHECKPOINTS).await, ["d", "c", "a"]);
    assert_eq!(ids(&ada, "/checkpoints").await, ["e", "d", "c", "b", "a"]);
    assert_eq!(ids(&ada, "/checkpoints?workflow_id=order").await, ["d", "c", "b", "a"]);
    assert_eq!(ids(&ada, "/checkpoints?execution_id=e1").await, ["e", "d", "c", "a"]);
    assert_eq!(ids(&ada, "/checkpoints?workflow_id=order&execution_id=e2").await, ["b"]);
    assert_eq!(ids(&ada, &format!("/checkpoints?created_after={}", middle.as_str().unwrap())).await, ["e", "d", "c"]);
    assert!(ids(&app.admin("other"), "/checkpoints").await.is_empty());
    let mut path = "/checkpoints?limit=2".to_owned();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = ada.get(&path).send().await.expect(200).json();
        assert!(page["items"].as_array().unwrap().iter().all(|item| item.get("state").is_none()));
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["checkpoint_id"].as_str().unwrap().to_owned()));
        path = page["next_cursor"].as_str().map(|cursor| format!("/checkpoints?limit=2&cursor={cursor}")).unwrap_or_default();
    }
    assert_eq!((seen.join(""), path.as_str()), ("edcba".to_owned(), ""));
    let cursor = ada.get("/checkpoints?limit=2").send().await.json()["next_cursor"].as_str().unwrap().to_owned();
    ada.get(&format!("{CHECKPOINTS}?cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    ada.get(&format!("/checkpoints?workflow_id=order&cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    for query in ["workflow_id=a%2Fb", "execution_id=..", "created_after=yesterday", "limit=0"] {
        ada.get(&format!("/checkpoints?{query}")).send().await.problem(400, "invalid_parameter");
    }
}

async fn a_restore_is_a_new_version(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let first = ada.get(STATE).send().await.expect(200).json();
    ada.put(STATE, marking(9)).send().await.expect(200);
    let restored = ada.post(&format!("{CHECKPOINTS}/c1/restore"), "").send().await.expect(200);
    assert_eq!(restored.etag(), "\"3\"");
    assert!(
        restored.text().contains(r#"{"p": 1 ,"q":[ 1E2]}"#) && restored.text().contains(r#"{"z":1,  "a":0.10}"#),
        "{}",
        restored.text()
    );
    let json = restored.json();
    for member in ["marking", "status", "metadata", "schema_version", "created_at"] {
        assert_eq!(json[member], first[member], "{member}");
    }
    assert_eq!(ada.get(STATE).send().await.expect(200).body, restored.body);
    let newest = &ada.get(&format!("{STATE}/history")).send().await.expect(200).json()["items"][0];
    assert_eq!((&newest["operation"], &newest["checkpoint_id"], &newest["version"]), (&json!("restore"), &json!("c1"), &json!(3)));
    let minimal = ada.post(&format!("{CHECKPOINTS}/c1/restore"), "").header("prefer", "return=minimal").send().await.expect(204);
    assert!(minimal.body.is_empty() && minimal.etag() == "\"4\"");
    ada.post(&format!("{CHECKPOINTS}/absent/restore"), "").send().await.problem(404, "checkpoint_not_found");
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"4\"");
}

async fn a_restore_brings_a_deleted_state_back(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    ada.delete(STATE).send().await.expect(204);
    assert_eq!(ids(&ada, CHECKPOINTS).await, ["c1"]);
    ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c2"}"#).send().await.problem(404, "state_not_found");
    let restored = ada.post(&format!("{CHECKPOINTS}/c1/restore"), "").send().await.expect(200);
    assert_eq!(restored.etag(), "\"3\"");
    assert_eq!(ada.get(STATE).send().await.expect(200).body, restored.body);
}

async fn a_restore_takes_nothing(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let path = format!("{CHECKPOINTS}/c1/restore");
    let before = ada.put(STATE, marking(2)).send().await.expect(200);
    for (body, status, code, pointer) in [
        (r#"{"marking":{"p":9}}"#, 400, "unknown_member", "#/marking"),
        (r#"{"a":1,"a":1}"#, 400, "duplicate_member", "#/a"),
        ("{", 400, "invalid_json", "#"),
        ("restore it", 400, "invalid_json", "#"),
        ("[]", 422, "invalid_type", "#"),
        ("null", 422, "invalid_type", "#"),
    ] {
        for key in ["", "k"] {
            let call = ada.post(&path, body);
            let call = if key.is_empty() { call } else { call.header("idempotency-key", key) };
            let problem = call.send().await.problem(status, code).json();
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json", "application/json; charset=latin-1"] {
        for body in ["{}", ""] {
            let call = ada.post(&path, body).without("content-type").header("content-type", kind);
            call.send().await.problem(415, "unsupported_media_type");
        }
    }
    ada.post(&path, vec![b' '; 1024 * 1024 + 1]).send().await.problem(413, "body_too_large");
    assert_eq!(ada.get(STATE).send().await.expect(200).body, before.body);
    for (version, call) in [
        ada.post(&path, "{}"),
        ada.post(&path, " { } "),
        ada.post(&path, ""),
        ada.call(reqwest::Method::POST, &path),
        ada.call(reqwest::Method::POST, &path).body("{}").header("idempotency-key", "k"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(call.send().await.expect(200).json()["version"], version + 3);
    }
}

async fn a_fork_begins_an_execution(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let fork = format!("{CHECKPOINTS}/c1/fork");
    let target = "/workflows/order/executions/e2/state";
    let forked = ada.post(&fork, r#"{"execution_id":"e2"}"#).send().await.expect(201);
    assert_eq!((forked.etag(), forked.header("location")), ("\"1\"", Some(target)));
    assert!(forked.text().contains(r#"{"p": 1 ,"q":[ 1E2]}"#), "{}", forked.text());
    let json = forked.json();
    assert_eq!((&json["execution_id"], &json["status"], &json["schema_version"]), (&json!("e2"), &json!("waiting"), &json!(7)));
    assert_eq!(json["forked_from"], json!({"workflow_id": "order", "execution_id": "e1", "version": 1, "checkpoint_id": "c1"}));
    assert_eq!(ada.get(target).send().await.expect(200).body, forked.body);
    // Nothing else is copied, and the origin stays as it is.
    assert!(ids(&ada, "/workflows/order/executions/e2/checkpoints").await.is_empty());
    let history = ada.get(&format!("{target}/history")).send().await.expect(200).json();
    assert_eq!((history["items"].as_array().unwrap().len(), &history["items"][0]["operation"]), (1, &json!("fork")));
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"1\"");

    for existing in ["e1", "e2"] {
        ada.post(&fork, json!({"execution_id": existing}).to_string()).send().await.problem(409, "execution_exists");
    }
    assert_eq!(ada.get(target).send().await.expect(200).body, forked.body);
    ada.post(&format!("{CHECKPOINTS}/absent/fork"), r#"{"execution_id":"e3"}"#).send().await.problem(404, "checkpoint_not_found");
    for (body, status, code, pointer) in [
        ("{}", 422, "missing_member", "#/execution_id"),
        (r#"{"execution_id":"a/b"}"#, 400, "invalid_id", "#/execution_id"),
        (r#"{"execution_id":3}"#, 422, "invalid_type", "#/execution_id"),
        (r#"{"execution_id":"e3","workflow_id":"w"}"#, 400, "unknown_member", "#/workflow_id"),
    ] {
        let problem = ada.post(&fork, body).send().await.problem(status, code).json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    ada.get("/workflows/order/executions/e3/state").send().await.problem(404, "state_not_found");
}

async fn a_deleted_checkpoint_is_gone(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let path = format!("{CHECKPOINTS}/c1");
    ada.delete(&path).header("if-match", "\"7\"").send().await.problem(412, "precondition_failed");
    let deleted = ada.delete(&path).header("if-match", "\"1\"").send().await.expect(204);
    assert!(deleted.body.is_empty());
    ada.get(&path).send().await.problem(404, "checkpoint_not_found");
    ada.delete(&path).send().await.problem(404, "checkpoint_not_found");
    ada.post(&format!("{path}/restore"), "").send().await.problem(404, "checkpoint_not_found");
    ada.post(&format!("{path}/fork"), r#"{"execution_id":"e2"}"#).send().await.problem(404, "checkpoint_not_found");
    assert!(ids(&ada, CHECKPOINTS).await.is_empty() && ids(&ada, "/checkpoints").await.is_empty());
    // The id is free, and its version goes on: an old entity tag never fits again.
    let again = ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c1"}"#).send().await.expect(201).json();
    assert!(again["version"].as_i64() > Some(1), "{again}");
}

async fn preconditions_are_about_what_changes(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let restore = format!("{CHECKPOINTS}/c1/restore");
    ada.put(STATE, marking(2)).send().await.expect(200);
    let stale = ada.post(&restore, "").header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert_eq!(stale.json()["current_version"], 2);
    ada.post(&restore, "").header("if-none-match", "*").send().await.problem(412, "precondition_failed");
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"2\"");
    assert_eq!(ada.post(&restore, "").header("if-match", "W/\"2\"").send().await.expect(200).etag(), "\"3\"");
    for header in ["if-match", "if-none-match"] {
        let create = ada.post(CHECKPOINTS, r#"{"checkpoint_id":"c2"}"#).header(header, "*");
        create.send().await.problem(400, "precondition_not_allowed");
    }
    assert_eq!(ids(&ada, "/checkpoints").await, ["c1"]);
}

/// They are about the execution that a fork begins, and none of them makes it write over one.
async fn a_fork_has_preconditions_on_its_target(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let target = "/workflows/order/executions/e2/state";
    let fork = |path: &str, header: &'static str, value: &'static str| {
        ada.post(&format!("{CHECKPOINTS}/{path}/fork"), r#"{"execution_id":"e2"}"#).header(header, value).send()
    };
    for value in ["*", "\"1\"", "\"1\", \"2\""] {
        let problem = fork("c1", "if-match", value).await.problem(412, "precondition_failed");
        assert!(problem.json().get("current_version").is_none(), "{problem:?}");
        fork("absent", "if-match", value).await.problem(404, "checkpoint_not_found");
    }
    fork("c1", "if-match", "x").await.problem(400, "invalid_etag");
    ada.get(target).send().await.problem(404, "state_not_found");
    let first = fork("c1", "if-none-match", "*").await.expect(201);
    assert_eq!(first.etag(), "\"1\"");
    for (header, value) in
        [("if-none-match", "*"), ("if-none-match", "\"3\", W/\"1\""), ("if-match", "\"2\""), ("if-match", "\"2\", \"3\"")]
    {
        let problem = fork("c1", header, value).await.problem(412, "precondition_failed");
        assert_eq!(problem.json()["current_version"], 1, "{header}: {value}");
    }
    for (header, value) in [("if-match", "*"), ("if-match", "W/\"1\""), ("if-match", "\"9\", \"1\""), ("if-none-match", "\"2\"")] {
        fork("c1", header, value).await.problem(409, "execution_exists");
    }
    assert_eq!(ada.get(target).send().await.expect(200).body, first.body);
    ada.delete(target).send().await.expect(204);
    fork("c1", "if-match", "*").await.problem(412, "precondition_failed");
    fork("c1", "if-none-match", "*").await.problem(409, "execution_exists");
}

async fn answers_are_replayed(app: TestApp) {
    let ada = with_checkpoint(&app).await;
    let with_key = |path: &str, body: &str, key: &str| ada.post(path, body).header("idempotency-key", key).send();
    let calls = [
        (CHECKPOINTS.to_owned(), r#"{"label":"generated"}"#, 201),
        (format!("{CHECKPOINTS}/c1/restore"), "", 200),
        (format!("{CHECKPOINTS}/c1/fork"), r#"{"execution_id":"e2"}"#, 201),
    ];
    for (path, body, status) in calls {
        let first = with_key(&path, body, &path).await.expect(status);
        let again = with_key(&path, body, &path).await.expect(status);
        assert_eq!((again.text(), again.header("location"), again.etag()), (first.text(), first.header("location"), first.etag()));
        assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), (None, Some("true")), "{path}");
    }
    with_key(CHECKPOINTS, r#"{"label":"other"}"#, CHECKPOINTS).await.problem(422, "idempotency_key_reused");
    assert_eq!(ids(&ada, CHECKPOINTS).await.len(), 2);
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"2\"");
}

async fn bad_checkpoints_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, marking(1)).send().await.expect(201);
    let long = json!({"label": "é".repeat(129)}).to_string();
    for (body, status, code, pointer) in [
        ("[]", 422, "invalid_type", "#"),
        ("{", 400, "invalid_json", "#"),
        (r#"{"checkpoint_id":"a/b"}"#, 400, "invalid_id", "#/checkpoint_id"),
        (r#"{"checkpoint_id":"."}"#, 400, "invalid_id", "#/checkpoint_id"),
        (r#"{"checkpoint_id":1}"#, 422, "invalid_type", "#/checkpoint_id"),
        (r#"{"label":1}"#, 422, "invalid_type", "#/label"),
        (&long, 422, "text_too_long", "#/label"),
        (r#"{"metadata":[]}"#, 422, "invalid_type", "#/metadata"),
        (r#"{"state":{}}"#, 422, "missing_member", "#/state/marking"),
        (r#"{"state":{"marking":{"p":-1}}}"#, 422, "out_of_range", "#/state/marking/p"),
        (r#"{"state":{"marking":{},"version":1}}"#, 400, "unknown_member", "#/state/version"),
        (r#"{"name":"x"}"#, 400, "unknown_member", "#/name"),
    ] {
        let problem = ada.post(CHECKPOINTS, body).send().await.problem(status, code).json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(ada.post(CHECKPOINTS, long.as_str()).send().await.json()["limit"], 256);
    ada.get(&format!("{CHECKPOINTS}/a%2Fb")).send().await.problem(400, "invalid_id");
    assert!(ids(&ada, CHECKPOINTS).await.is_empty());
}

async fn permissions_are_apart(app: TestApp) {
    with_checkpoint(&app).await;
    let with = |roles: &[&str]| app.bearer(app.token("acme", "ada", roles));
    let restore = format!("{CHECKPOINTS}/c1/restore");
    with(&["checkpoints:read", "checkpoints:write"]).post(&restore, "").send().await.problem(403, "permission_missing");
    with(&["states:write"]).post(&restore, "").send().await.problem(403, "permission_missing");
    with(&["checkpoints:read", "states:write"]).post(&restore, "").send().await.expect(200);
    with(&["states:write", "checkpoints:read"]).delete("/workflows/order/executions/e1").send().await.problem(403, "permission_missing");
    with(&["states:write", "checkpoints:write"]).delete("/workflows/order/executions/e1").send().await.expect(200);
}
