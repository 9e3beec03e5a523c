//! States over HTTP: save, load, delete, history.

use serde_json::json;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(
    a_state_goes_in_and_comes_back_byte_for_byte,
    a_save_replaces_everything,
    preconditions_compare_versions,
    lists_of_tags_compare_and_set,
    a_key_opens_no_failed_condition,
    reads_are_conditional,
    a_deleted_state_keeps_its_history,
    history_is_paged_both_ways,
    past_versions_stay,
    a_minimal_answer_has_no_body,
    a_read_is_never_older_than_asked,
    head_answers_as_get,
    the_last_days_are_in_the_future,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const HISTORY: &str = "/workflows/order/executions/e1/state/history";

fn marking(tokens: u32) -> String {
    json!({"marking": {"p": tokens}}).to_string()
}

async fn a_state_goes_in_and_comes_back_byte_for_byte(app: TestApp) {
    let ada = app.admin("acme");
    let body = r#"{ "marking" : {"p1": 1 , "r\u0041":[ 1.0,{"b":1E2, "a":-0},"\ud83d\ude00"]} , "metadata":{"z":1,  "a":0.10} }"#;
    let created = ada.put(STATE, body).send().await.expect(201);
    assert_eq!((created.etag(), created.header("location")), ("\"1\"", Some(STATE)));
    let loaded = ada.get(STATE).send().await.expect(200);
    assert_eq!(loaded.body, created.body);
    assert_eq!(loaded.header("cache-control"), Some("private, no-cache"));
    // What a write on SQLite leaves in the cache of its process is true until the next one; others may write to a PostgreSQL.
    let from = if app.database.is_none() { "nworkflow-local; hit" } else { "nworkflow-store; fwd=miss" };
    assert_eq!(loaded.header("cache-status"), Some(from));
    assert!(loaded.text().contains(r#""marking":{"p1": 1 , "r\u0041":[ 1.0,{"b":1E2, "a":-0},"\ud83d\ude00"]}"#), "{}", loaded.text());
    assert!(loaded.text().contains(r#""metadata":{"z":1,  "a":0.10}"#), "{}", loaded.text());
    let json = loaded.json();
    assert_eq!(
        (json["status"].as_str(), json["schema_version"].as_i64(), json["updated_by"].as_str()),
        (Some("running"), Some(1), Some("admin"))
    );
    assert_eq!(json["created_at"], json["updated_at"]);
    let bypassed = ada.get(STATE).header("cache-control", "no-cache").send().await.expect(200);
    assert_eq!(bypassed.header("cache-status"), Some("nworkflow-store; fwd=bypass"));
}

async fn a_save_replaces_everything(app: TestApp) {
    let ada = app.admin("acme");
    let full = json!({"marking": {"p": 1}, "status": "waiting", "metadata": {"a": 1}, "schema_version": 7}).to_string();
    let first = ada.put(STATE, full).send().await.expect(201).json();
    let second = ada.put(STATE, marking(2)).send().await.expect(200);
    assert_eq!(second.etag(), "\"2\"");
    let second = second.json();
    assert_eq!(second["marking"], json!({"p": 2}));
    assert_eq!((&second["status"], &second["metadata"], &second["schema_version"]), (&json!("running"), &json!({}), &json!(1)));
    assert_eq!(first["created_at"], second["created_at"]);
    assert!(first["updated_at"].as_str() < second["updated_at"].as_str());
}

async fn preconditions_compare_versions(app: TestApp) {
    let ada = app.admin("acme");
    let put = |tokens| ada.put(STATE, marking(tokens));
    let refused = put(0).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert!(refused.json().get("current_version").is_none());
    put(0).header("if-match", "*").send().await.problem(412, "precondition_failed");
    put(1).header("if-none-match", "*").send().await.expect(201);
    let refused = put(0).header("if-none-match", "*").send().await.problem(412, "precondition_failed");
    assert_eq!(refused.json()["current_version"], 1);
    put(2).header("if-match", "W/\"1\"").send().await.expect(200);
    let refused = put(0).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert_eq!(refused.json()["current_version"], 2);
    put(3).header("if-match", "*").send().await.expect(200);
    ada.delete(STATE).header("if-match", "\"2\"").send().await.problem(412, "precondition_failed");
    ada.delete(STATE).header("if-match", "\"3\"").send().await.expect(204);
    ada.delete(STATE).header("if-match", "\"3\"").send().await.problem(412, "precondition_failed");
    ada.delete(STATE).send().await.problem(404, "state_not_found");
    let reborn = put(5).header("if-none-match", "*").send().await.expect(201);
    assert_eq!(reborn.etag(), "\"5\"");
}

async fn lists_of_tags_compare_and_set(app: TestApp) {
    let ada = app.admin("acme");
    let put = |tokens| ada.put(STATE, marking(tokens));
    put(0).header("if-none-match", "\"7\"").send().await.expect(201);
    put(0).header("if-match", "\"9\", \"1\"").send().await.expect(200);
    put(0).header("if-match", "\"9\", \"1\"").send().await.problem(412, "precondition_failed");
    put(0).header("if-none-match", "\"2\"").send().await.problem(412, "precondition_failed");
    put(0).header("if-none-match", "\"1\"").header("if-match", "*").send().await.expect(200);
    // With a key, an equal request replays although its condition no longer holds.
    let keyed = || put(4).header("if-match", "\"3\",\"9\"").header("idempotency-key", "k");
    let first = keyed().send().await.expect(200);
    let again = keyed().send().await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), &again.body), (Some("true"), &first.body));
    assert_eq!(ada.get(STATE).send().await.etag(), "\"4\"");
}

async fn a_key_opens_no_failed_condition(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, marking(1)).send().await.expect(201);
    for (key, matching, none) in [("a", "\"1\"", "\"1\""), ("b", "*", "*"), ("c", "\"1\"", "*"), ("d", "*", "\"1\", \"2\"")] {
        for call in [ada.put(STATE, marking(2)), ada.delete(STATE)] {
            let refused = call.header("if-match", matching).header("if-none-match", none).header("idempotency-key", key).send().await;
            assert_eq!(refused.problem(412, "precondition_failed").json()["current_version"], 1);
        }
    }
    assert_eq!(ada.get(STATE).send().await.expect(200).etag(), "\"1\"");
}

async fn reads_are_conditional(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, marking(1)).send().await.expect(201);
    let unchanged = ada.get(STATE).header("if-none-match", "W/\"1\"").send().await.expect(304);
    assert_eq!((unchanged.etag(), unchanged.body.len()), ("\"1\"", 0));
    ada.get(STATE).header("if-none-match", "\"2\"").send().await.expect(200);
    ada.get(STATE).header("if-match", "\"2\"").send().await.problem(412, "precondition_failed");
    let absent = ada.get("/workflows/order/executions/none/state").header("if-match", "*").send().await.problem(412, "precondition_failed");
    assert!(absent.json().get("current_version").is_none());
    ada.get(STATE).header("if-none-match", "1").send().await.problem(400, "invalid_etag");
}

async fn a_deleted_state_keeps_its_history(app: TestApp) {
    let ada = app.admin("acme");
    ada.get(HISTORY).send().await.problem(404, "state_not_found");
    ada.put(STATE, json!({"marking": {}, "status": "failed"}).to_string()).send().await.expect(201);
    ada.delete(STATE).send().await.expect(204);
    ada.get(STATE).send().await.problem(404, "state_not_found");
    let items = ada.get(HISTORY).send().await.expect(200).json()["items"].clone();
    assert_eq!(items[0]["operation"], "delete");
    assert_eq!(
        (&items[0]["version"], &items[0]["size"], &items[0]["status"], &items[0]["by"]),
        (&json!(2), &json!(0), &json!("failed"), &json!("admin"))
    );
    assert_eq!((&items[1]["operation"], &items[1]["version"]), (&json!("put"), &json!(1)));
    assert!(items[1]["size"].as_i64() > Some(0) && items.as_array().unwrap().len() == 2);
    ada.get(&format!("{HISTORY}/1")).send().await.expect(200);
    ada.get(&format!("{HISTORY}/2")).send().await.problem(404, "version_not_found");
    ada.get(&format!("{STATE}?version=2")).send().await.problem(404, "version_not_found");
    let reborn = ada.put(STATE, marking(1)).send().await.expect(201).json();
    assert_eq!((&reborn["version"], &reborn["created_at"]), (&json!(3), &reborn["updated_at"]));
}

async fn history_is_paged_both_ways(app: TestApp) {
    let ada = app.admin("acme");
    for tokens in 1..=7 {
        ada.put(STATE, marking(tokens)).send().await;
    }
    for (order, expected) in [("desc", [7, 6, 5, 4, 3, 2, 1]), ("asc", [1, 2, 3, 4, 5, 6, 7])] {
        let (mut versions, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = ada.get(&format!("{HISTORY}?order={order}&limit=3{cursor}")).send().await.expect(200).json();
            versions.extend(page["items"].as_array().unwrap().iter().map(|item| item["version"].as_i64().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(versions, expected);
    }
    let cursor = ada.get(&format!("{HISTORY}?limit=3")).send().await.json()["next_cursor"].as_str().unwrap().to_owned();
    ada.get(&format!("{HISTORY}?order=asc&cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    let other = app.admin("other");
    other.put(STATE, marking(1)).send().await.expect(201);
    other.get(&format!("{HISTORY}?cursor={cursor}")).send().await.problem(400, "invalid_cursor");
}

async fn past_versions_stay(app: TestApp) {
    let ada = app.admin("acme");
    let first = ada.put(STATE, marking(1)).send().await.expect(201);
    ada.put(STATE, marking(2)).send().await.expect(200);
    let past = ada.get(&format!("{STATE}?version=1&_=1700")).send().await.expect(200);
    assert_eq!((past.etag(), &past.body), ("\"1\"", &first.body));
    assert_eq!(ada.get(&format!("{HISTORY}/1")).send().await.expect(200).body, first.body);
    for path in [format!("{HISTORY}/1"), format!("{STATE}?version=1")] {
        let older = ada.get(&path).header("x-min-version", "2").send().await.problem(412, "version_not_reached");
        assert_eq!(older.json()["current_version"], 1);
    }
    ada.get(&format!("{HISTORY}/01")).send().await.problem(400, "invalid_parameter");
    ada.get(&format!("{HISTORY}/3")).send().await.problem(404, "version_not_found");
    ada.get(&format!("{HISTORY}/0")).send().await.problem(400, "invalid_parameter");
    ada.get(&format!("{STATE}?version=one")).send().await.problem(400, "invalid_parameter");
    ada.get(&format!("{STATE}?version=1&version=2")).send().await.problem(400, "invalid_parameter");
}

async fn a_minimal_answer_has_no_body(app: TestApp) {
    let ada = app.admin("acme");
    let created = ada.put(STATE, marking(1)).header("prefer", "respond-async, return=minimal").send().await.expect(204);
    assert_eq!((created.etag(), created.header("location"), created.body.len()), ("\"1\"", Some(STATE), 0));
    assert_eq!(created.header("preference-applied"), Some("return=minimal"));
    let full = ada.put(STATE, marking(2)).header("prefer", "return=representation").send().await.expect(200);
    assert_eq!(full.header("preference-applied"), Some("return=representation"));
}

async fn a_read_is_never_older_than_asked(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, marking(1)).send().await.expect(201);
    ada.get(STATE).header("x-min-version", "1").send().await.expect(200);
    ada.get(STATE).header("x-min-version", "2").send().await.problem(412, "version_not_reached");
    ada.get(STATE).header("x-min-version", "-1").send().await.problem(400, "invalid_header");
    ada.get("/workflows/order/executions/none/state").header("x-min-version", "1").send().await.problem(412, "version_not_reached");
    ada.delete(STATE).send().await.expect(204);
    ada.get(STATE).header("x-min-version", "2").send().await.problem(404, "state_not_found");
}

async fn head_answers_as_get(app: TestApp) {
    let ada = app.admin("acme");
    ada.head(STATE).send().await.expect(404);
    let created = ada.put(STATE, marking(1)).send().await.expect(201);
    let probe = ada.head(STATE).send().await.expect(200);
    assert_eq!((probe.etag(), probe.body.len()), ("\"1\"", 0));
    assert_eq!(probe.header("content-length"), Some(created.body.len().to_string().as_str()));
    for open in ["/health/live", "/limits", "/openapi.json"] {
        app.anonymous().head(open).send().await.expect(200);
    }
}

async fn the_last_days_are_in_the_future(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for time in ["9999-12-31T23:59:59.999999Z", "9999-12-30T23:00:00Z", "9999-12-31T23:59:59-23:00", "9998-01-01T00:00:00Z"] {
        let refused = ada.get(&format!("{STATE}?at={time}")).send().await.problem(400, "invalid_parameter");
        assert!(refused.text().contains("in the future"), "{}", refused.text());
        let list = ada.get(&format!("/workflows/order/executions?updated_after={time}")).send().await.expect(200);
        assert_eq!(list.json()["items"], serde_json::json!([]));
    }
    for time in ["10000-01-01T00:00:00Z", "9999-12-32T00:00:00Z", "9999-12-31T23:59:59"] {
        let refused = ada.get(&format!("{STATE}?at={time}")).send().await.problem(400, "invalid_parameter");
        assert!(refused.text().contains("must be a time"), "{}", refused.text());
    }
}
