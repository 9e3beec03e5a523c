//! Whole scopes over HTTP: batches, increments, deletion, session scopes, effective variables, times to live.

use serde_json::{Value, json};

use super::app::{Caller, TestApp};
use super::on_both_stores;

on_both_stores!(
    a_batch_sets_and_deletes_as_one,
    a_batch_writes_nothing_when_a_version_differs,
    bad_batches_are_refused,
    increments_add_up,
    bad_increments_are_refused,
    a_scope_is_deleted,
    a_large_scope_is_deleted_in_calls,
    actions_take_no_preconditions,
    actions_are_replayed,
    session_variables_live_and_die_with_their_session,
    variables_end_at_their_instant,
    the_nearest_scope_is_in_force,
    effective_variables_are_filtered_and_paged,
    permissions_are_apart,
    a_batch_names_what_is_too_long,
);

const SCOPE: &str = "/variables/workflow:order";

fn value(value: impl Into<Value>) -> String {
    json!({"value": value.into()}).to_string()
}

fn batch(caller: &Caller, scope: &str, body: impl Into<Vec<u8>>) -> super::app::Call {
    caller.call(reqwest::Method::PATCH, scope).body(body).header("content-type", "application/json")
}

async fn items(caller: &Caller, path: &str) -> Vec<Value> {
    caller.get(path).send().await.expect(200).json()["items"].as_array().unwrap().clone()
}

/// Names and values of a list.
async fn values(caller: &Caller, path: &str) -> Vec<(String, Value)> {
    items(caller, path).await.iter().map(|item| (item["name"].as_str().unwrap().to_owned(), item["value"].clone())).collect()
}

fn pair(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}

async fn a_batch_sets_and_deletes_as_one(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(&format!("{SCOPE}/kept"), r#"{"value":1,"description":"d","ttl_seconds":3600}"#).send().await.expect(201);
    ada.put(&format!("{SCOPE}/gone"), value(1)).send().await.expect(201);
    let body = r#"{"set":{"kept": 1E2 ,"new":{"b": -0, "a":[ ]},"null":null},"delete":["gone","absent"],"if_versions":{"kept":1,"new":0,"gone":1}}"#;
    let answer = batch(&ada, SCOPE, body).send().await.expect(200);
    assert!(answer.header("etag").is_none() && answer.header("location").is_none());
    assert!(answer.text().contains(r#""value":{"b": -0, "a":[ ]}"#) && answer.text().contains(r#""value":1E2"#), "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["deleted"], json!(["gone"]));
    let set: Vec<_> =
        json["set"].as_array().unwrap().iter().map(|item| (item["name"].as_str().unwrap(), item["version"].as_i64().unwrap())).collect();
    assert_eq!(set, [("kept", 2), ("new", 1), ("null", 1)]);
    // What a batch does not say stays.
    let kept = ada.get(&format!("{SCOPE}/kept")).send().await.expect(200);
    assert!(kept.json()["description"] == "d" && kept.json().get("expires_at").is_some(), "{}", kept.text());
    ada.get(&format!("{SCOPE}/gone")).send().await.problem(404, "variable_not_found");
    assert!(ada.get(&format!("{SCOPE}/null")).send().await.expect(200).text().contains(r#""value":null"#));
    let minimal = batch(&ada, SCOPE, r#"{"set":{"new":2}}"#).header("prefer", "return=minimal").send().await.expect(204);
    assert!(minimal.body.is_empty() && minimal.header("preference-applied") == Some("return=minimal"));
    assert_eq!(batch(&ada, SCOPE, "{}").send().await.expect(200).json(), json!({"set": [], "deleted": []}));
    assert_eq!(batch(&ada, SCOPE, r#"{"delete":["absent"]}"#).send().await.expect(200).json(), json!({"set": [], "deleted": []}));
}

async fn a_batch_writes_nothing_when_a_version_differs(app: TestApp) {
    let ada = app.admin("acme");
    for name in ["a", "b", "c"] {
        ada.put(&format!("{SCOPE}/{name}"), value(1)).send().await.expect(201);
    }
    let before = ada.get(SCOPE).send().await.expect(200).body;
    let body = r#"{"set":{"a":2,"b":2,"x":2},"delete":["c"],"if_versions":{"a":1,"b":7,"c":0,"x":3}}"#;
    let refused = batch(&ada, SCOPE, body).send().await.problem(412, "precondition_failed").json();
    let mut pointers: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["#/if_versions/b", "#/if_versions/c", "#/if_versions/x"]);
    assert_eq!(ada.get(SCOPE).send().await.expect(200).body, before);
    ada.get(&format!("{SCOPE}/x")).send().await.problem(404, "variable_not_found");
    // A name may be a condition only.
    batch(&ada, SCOPE, r#"{"set":{"a":2},"if_versions":{"b":2}}"#).send().await.problem(412, "precondition_failed");
    batch(&ada, SCOPE, r#"{"set":{"a":2},"if_versions":{"b":1,"absent":0}}"#).send().await.expect(200);
}

async fn bad_batches_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(&format!("{SCOPE}/a"), value(1)).send().await.expect(201);
    let before = ada.get(SCOPE).send().await.expect(200).body;
    let many_set: serde_json::Map<String, Value> = (0..1001).map(|index| (format!("n{index}"), json!(1))).collect();
    let many_deleted: Vec<String> = (0..1001).map(|index| format!("n{index}")).collect();
    let half: serde_json::Map<String, Value> = (0..501).map(|index| (format!("s{index}"), json!(1))).collect();
    let other_half: Vec<String> = (0..500).map(|index| format!("n{index}")).collect();
    for (body, status, code) in [
        (r#"{"set":{"a":2,"a":3}}"#.to_owned(), 400, "duplicate_member"),
        (r#"{"set":{"a":2},"delete":["a"]}"#.to_owned(), 400, "duplicate_name"),
        (r#"{"delete":["a","a"]}"#.to_owned(), 400, "duplicate_name"),
        (r#"{"set":{"..":2}}"#.to_owned(), 400, "invalid_name"),
        (r#"{"delete":["a\u0007"]}"#.to_owned(), 400, "invalid_name"),
        (r#"{"set":{},"unset":["a"]}"#.to_owned(), 400, "unknown_member"),
        (r#"{"set":["a"]}"#.to_owned(), 422, "invalid_type"),
        (r#"{"delete":"a"}"#.to_owned(), 422, "invalid_type"),
        (r#"{"delete":[1]}"#.to_owned(), 422, "invalid_type"),
        (r#"{"set":{"a":2},"if_versions":{"a":-1}}"#.to_owned(), 422, "out_of_range"),
        (r#"{"set":{"a":2},"if_versions":{"a":"1"}}"#.to_owned(), 422, "invalid_type"),
        (r#"{"set":{"a":"\ud800"}}"#.to_owned(), 400, "lone_surrogate"),
        ("[]".to_owned(), 422, "invalid_type"),
        ("{".to_owned(), 400, "invalid_json"),
        (json!({"set": many_set}).to_string(), 422, "too_many_elements"),
        (json!({"delete": many_deleted}).to_string(), 422, "too_many_elements"),
        (json!({"set": half, "delete": other_half}).to_string(), 422, "too_many_elements"),
    ] {
        let problem = batch(&ada, SCOPE, body.as_str()).send().await.problem(status, code).json();
        assert!(problem["errors"][0]["pointer"].as_str().is_some_and(|pointer| pointer.starts_with('#')), "{problem}");
        assert!(code != "too_many_elements" || problem["limit"] == 1000, "{problem}");
    }
    batch(&ada, SCOPE, "{}")
        .without("content-type")
        .header("content-type", "text/plain")
        .send()
        .await
        .problem(415, "unsupported_media_type");
    assert_eq!(ada.get(SCOPE).send().await.expect(200).body, before);
    // One name less is good.
    let most: serde_json::Map<String, Value> = (0..1000).map(|index| (format!("n{index}"), json!(1))).collect();
    assert_eq!(batch(&ada, SCOPE, json!({"set": most}).to_string()).send().await.expect(200).json()["set"].as_array().unwrap().len(), 1000);
}

async fn a_batch_names_what_is_too_long(app: TestApp) {
    let ada = app.admin("acme");
    let names = |prefix: &str, count: usize| -> Vec<String> { (0..count).map(|index| format!("{prefix}{index}")).collect() };
    let object = |prefix: &str, count: usize| -> serde_json::Map<String, Value> {
        names(prefix, count).into_iter().map(|name| (name, json!(0))).collect()
    };
    for (body, pointers) in [
        (json!({"set": object("a", 1001)}), vec!["#/set"]),
        (json!({"delete": names("a", 1001)}), vec!["#/delete"]),
        (json!({"if_versions": object("a", 1001)}), vec!["#/if_versions"]),
        (json!({"set": object("a", 1001), "delete": names("b", 1001)}), vec!["#/set", "#/delete"]),
        (json!({"set": object("a", 1), "delete": names("b", 1000)}), vec!["#"]),
        (json!({"set": object("a", 500), "if_versions": object("b", 501)}), vec!["#"]),
        (json!({"set": object("a", 400), "delete": names("b", 400), "if_versions": object("c", 201)}), vec!["#"]),
    ] {
        let problem = batch(&ada, SCOPE, body.to_string()).send().await.problem(422, "too_many_elements").json();
        let told: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|item| item["pointer"].as_str().unwrap()).collect();
        assert_eq!((told, &problem["limit"]), (pointers, &json!(1000)), "{problem}");
    }
    // The same name in two parts is one name.
    let most = json!({"set": object("a", 600), "delete": names("b", 400), "if_versions": object("a", 600)});
    batch(&ada, SCOPE, most.to_string()).send().await.expect(200);
}

async fn increments_add_up(app: TestApp) {
    let ada = app.admin("acme");
    let path = format!("{SCOPE}/n/increment");
    let first = ada.call(reqwest::Method::POST, &path).send().await.expect(200);
    assert_eq!((first.etag(), &first.json()["value"], first.header("location")), ("\"1\"", &json!(1), None));
    let second = ada.post(&path, r#"{"by":-3}"#).send().await.expect(200);
    assert_eq!((second.etag(), second.json()["value"].clone()), ("\"2\"", json!(-2)));
    assert!(second.text().contains(r#""value":-2,"#), "an integer stays one: {}", second.text());
    assert_eq!(ada.get(&format!("{SCOPE}/n")).send().await.expect(200).body, second.body);
    assert_eq!(ada.post(&path, r#"{"by":0.5}"#).send().await.expect(200).json()["value"], json!(-1.5));
    let stale = ada.post(&path, "{}").header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert_eq!(stale.json()["current_version"], 3);
    ada.post(&path, "{}").header("if-match", "W/\"3\"").send().await.expect(200);
    ada.post(&format!("{SCOPE}/m/increment"), "{}").header("if-match", "*").send().await.problem(412, "precondition_failed");
    ada.get(&format!("{SCOPE}/m")).send().await.problem(404, "variable_not_found");
    // What belongs to the variable stays.
    ada.put(&format!("{SCOPE}/d"), r#"{"value":9223372036854775806,"description":"d","ttl_seconds":3600}"#).send().await.expect(201);
    let described = ada.post(&format!("{SCOPE}/d/increment"), "{}").send().await.expect(200);
    assert!(described.text().contains(r#""value":9223372036854775807,"#), "{}", described.text());
    assert!(described.json()["description"] == "d" && described.json().get("expires_at").is_some());
    let minimal = ada.post(&path, "{}").header("prefer", "return=minimal").send().await.expect(204);
    assert!(minimal.body.is_empty() && minimal.etag() == "\"5\"");
}

async fn bad_increments_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    for (name, json) in [("text", json!("1")), ("object", json!({})), ("null", Value::Null), ("bool", json!(true))] {
        ada.put(&format!("{SCOPE}/{name}"), value(json)).send().await.expect(201);
        ada.post(&format!("{SCOPE}/{name}/increment"), "{}").send().await.problem(409, "not_a_number");
    }
    ada.put(&format!("{SCOPE}/most"), value(i64::MAX)).send().await.expect(201);
    ada.put(&format!("{SCOPE}/least"), value(i64::MIN)).send().await.expect(201);
    ada.put(&format!("{SCOPE}/float"), r#"{"value":1.7e308}"#).send().await.expect(201);
    for (name, by) in [("most", "1"), ("least", "-1"), ("float", "1.7e308")] {
        let path = format!("{SCOPE}/{name}/increment");
        ada.post(&path, format!(r#"{{"by":{by}}}"#)).send().await.problem(422, "out_of_range");
    }
    for (body, status, code) in [
        (r#"{"by":"1"}"#, 422, "invalid_type"),
        (r#"{"by":null}"#, 422, "invalid_type"),
        (r#"{"by":1e999}"#, 422, "number_out_of_range"),
        (r#"{"by":1,"to":2}"#, 400, "unknown_member"),
        ("[]", 422, "invalid_type"),
    ] {
        let problem = ada.post(&format!("{SCOPE}/new/increment"), body).send().await.problem(status, code).json();
        assert!(problem["errors"][0]["pointer"].is_string(), "{problem}");
    }
    for item in items(&ada, SCOPE).await {
        assert_eq!(item["version"], 1, "{item}");
    }
    ada.get(&format!("{SCOPE}/new")).send().await.problem(404, "variable_not_found");
}

async fn a_scope_is_deleted(app: TestApp) {
    let ada = app.admin("acme");
    assert_eq!(ada.delete(SCOPE).send().await.expect(200).json(), json!({"deleted": 0}));
    for name in ["a", "b", "c"] {
        ada.put(&format!("{SCOPE}/{name}"), value(1)).send().await.expect(201);
        ada.put(&format!("/variables/global/{name}"), value(1)).send().await.expect(201);
    }
    assert_eq!(ada.delete(SCOPE).send().await.expect(200).json(), json!({"deleted": 3}));
    assert!(items(&ada, SCOPE).await.is_empty());
    ada.get(&format!("{SCOPE}/a")).send().await.problem(404, "variable_not_found");
    assert_eq!(items(&ada, "/variables/global").await.len(), 3);
    let again = ada.put(&format!("{SCOPE}/a"), value(1)).send().await.expect(201);
    assert_ne!(again.etag(), "\"1\"", "a version never comes twice");
    let minimal = ada.delete("/variables/global").header("prefer", "return=minimal").send().await.expect(204);
    assert!(minimal.body.is_empty() && items(&ada, "/variables/global").await.is_empty());
}

async fn actions_take_no_preconditions(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(&format!("{SCOPE}/a"), value(1)).send().await.expect(201);
    for (header, tag) in [("if-match", "\"1\""), ("if-match", "*"), ("if-none-match", "*")] {
        batch(&ada, SCOPE, r#"{"set":{"a":2}}"#).header(header, tag).send().await.problem(400, "precondition_not_allowed");
        ada.delete(SCOPE).header(header, tag).send().await.problem(400, "precondition_not_allowed");
    }
    ada.delete(SCOPE).header("if-match", "1").send().await.problem(400, "invalid_etag");
    assert_eq!(ada.get(&format!("{SCOPE}/a")).send().await.expect(200).etag(), "\"1\"");
}

async fn actions_are_replayed(app: TestApp) {
    let ada = app.admin("acme");
    let set = || batch(&ada, SCOPE, r#"{"set":{"a":1,"b":{"x": 1.0}},"delete":["c"]}"#).header("idempotency-key", "batch").send();
    let increment = || ada.post(&format!("{SCOPE}/n/increment"), r#"{"by":2}"#).header("idempotency-key", "increment").send();
    let delete = || ada.delete(SCOPE).header("idempotency-key", "delete").send();
    let (first, again) = (set().await.expect(200), set().await.expect(200));
    assert_eq!((first.text(), again.header("idempotency-replayed")), (again.text(), Some("true")));
    let (first, again) = (increment().await.expect(200), increment().await.expect(200));
    assert_eq!((first.text(), first.etag(), again.header("idempotency-replayed")), (again.text(), again.etag(), Some("true")));
    assert_eq!(values(&ada, SCOPE).await, [pair("a", 1), pair("b", json!({"x": 1.0})), pair("n", 2)]);
    let first = delete().await.expect(200);
    ada.put(&format!("{SCOPE}/a"), value(1)).send().await.expect(201);
    let again = delete().await.expect(200);
    assert_eq!(
        (first.json(), again.json(), again.header("idempotency-replayed")),
        (json!({"deleted": 3}), json!({"deleted": 3}), Some("true"))
    );
    assert_eq!(values(&ada, SCOPE).await, [pair("a", 1)]);
    batch(&ada, SCOPE, r#"{"set":{"a":2}}"#).header("idempotency-key", "batch").send().await.problem(422, "idempotency_key_reused");
}

async fn session_variables_live_and_die_with_their_session(app: TestApp) {
    let ada = app.bearer(app.token("acme", "ada", &["nworkflow-writer"]));
    let scope = "/variables/session:s1";
    for refused in [
        ada.put(&format!("{scope}/x"), value(1)),
        batch(&ada, scope, r#"{"set":{"x":1}}"#),
        ada.post(&format!("{scope}/x/increment"), "{}"),
        ada.merge(&format!("{scope}/x"), value(1)),
        ada.delete(scope),
        ada.delete(&format!("{scope}/x")),
        ada.get(scope),
    ] {
        refused.send().await.problem(404, "session_not_found");
    }
    ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":1800}"#).send().await.expect(201);
    let created = ada.put(&format!("{scope}/x"), value(1)).send().await.expect(201);
    assert_eq!((created.json()["scope"].as_str(), created.header("location")), (Some("session:s1"), Some("/variables/session:s1/x")));
    batch(&ada, scope, r#"{"set":{"y":1,"n":1}}"#).send().await.expect(200);
    ada.post(&format!("{scope}/n/increment"), "{}").send().await.expect(200);
    ada.merge(&format!("{scope}/y"), r#"{"value":2}"#).send().await.expect(200);
    assert_eq!(values(&ada, scope).await, [pair("n", 2), pair("x", 1), pair("y", 2)]);
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).etag(), "\"1\"", "a variable is no part of its session");
    app.clock.advance_seconds(1800);
    ada.get(&format!("{scope}/x")).send().await.problem(404, "session_not_found");
    ada.put("/sessions/s1", r#"{"data":2}"#).send().await.expect(201);
    assert!(values(&ada, scope).await.is_empty());
    ada.get(&format!("{scope}/x")).send().await.problem(404, "variable_not_found");
    assert_eq!(ada.post(&format!("{scope}/n/increment"), "{}").send().await.expect(200).json()["value"], 1);
    assert_eq!(ada.delete(scope).send().await.expect(200).json(), json!({"deleted": 1}));
}

async fn variables_end_at_their_instant(app: TestApp) {
    let ada = app.admin("acme");
    let path = format!("{SCOPE}/x");
    ada.put(&path, r#"{"value":1,"ttl_seconds":1000}"#).send().await.expect(201);
    ada.put(&format!("{SCOPE}/stays"), value(1)).send().await.expect(201);
    ada.get(&path).send().await.expect(200);
    app.clock.advance_seconds(1000);
    ada.get(&path).send().await.problem(404, "variable_not_found");
    ada.head(&path).send().await.expect(404);
    ada.merge(&path, value(2)).send().await.problem(404, "variable_not_found");
    ada.delete(&path).send().await.problem(404, "variable_not_found");
    assert_eq!(values(&ada, SCOPE).await, [pair("stays", 1)]);
    assert_eq!(values(&ada, "/effective-variables?workflow_id=order").await, [pair("stays", 1)]);
    // What is expired is absent to conditions, too, and adds nothing.
    let body = r#"{"set":{"stays":2},"if_versions":{"x":0}}"#;
    batch(&ada, SCOPE, body).send().await.expect(200);
    let begun = ada.post(&format!("{path}/increment"), r#"{"by":5}"#).send().await.expect(200).json();
    assert_eq!((&begun["value"], begun.get("expires_at")), (&json!(5), None));
    assert!(begun["version"].as_i64() > Some(1));
}

async fn the_nearest_scope_is_in_force(app: TestApp) {
    let ada = app.bearer(app.token("acme", "ada", &["nworkflow-writer", "variables.global:write"]));
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    let scopes = ["global", "workflow:order", "user:ada", "session:s1"];
    for (index, scope) in scopes.iter().enumerate() {
        // `n3` is in all four scopes, `n0` in the global one only.
        for name in index..4 {
            ada.put(&format!("/variables/{scope}/n{name}"), value(*scope)).send().await.expect(201);
        }
    }
    ada.put("/variables/session:s1/n0", r#"{"value":null}"#).send().await.expect(201);
    let origins = |query: &'static str| {
        let ada = ada.clone();
        async move {
            let items = items(&ada, &format!("/effective-variables{query}")).await;
            items.iter().map(|item| item["origin"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(origins("").await, ["global"; 4]);
    assert_eq!(origins("?workflow_id=order").await, ["global", "workflow:order", "workflow:order", "workflow:order"]);
    assert_eq!(origins("?workflow_id=absent").await, ["global"; 4]);
    assert_eq!(origins("?user_id=me&workflow_id=order").await, ["global", "workflow:order", "user:ada", "user:ada"]);
    assert_eq!(origins("?user_id=ada").await, ["global", "global", "user:ada", "user:ada"]);
    let all = "?session_id=s1&user_id=me&workflow_id=order";
    assert_eq!(origins(all).await, ["session:s1", "workflow:order", "user:ada", "session:s1"]);
    let answer = ada.get(&format!("/effective-variables{all}")).send().await.expect(200);
    let items = answer.json()["items"].clone();
    assert_eq!(items[0], json!({"name": "n0", "value": null, "secret": false, "origin": "session:s1", "version": 1}), "null hides");
    assert_eq!(items[1]["value"], "workflow:order");
    assert!(answer.header("etag").is_none());

    ada.get("/effective-variables?session_id=absent").send().await.problem(404, "session_not_found");
    ada.get("/effective-variables?user_id=bob").send().await.problem(404, "scope_not_found");
    let engine = app.bearer(app.token("acme", "engine", &["nworkflow-engine"]));
    engine.get("/effective-variables?user_id=bob").send().await.expect(200);
    engine.get("/effective-variables?session_id=s1&user_id=ada").send().await.expect(200);
    assert!(values(&app.admin("other"), "/effective-variables?workflow_id=order").await.is_empty());
}

async fn effective_variables_are_filtered_and_paged(app: TestApp) {
    let ada = app.admin("acme");
    for name in ["a", "b", "c", "d"] {
        ada.put(&format!("/variables/global/{name}"), value("global")).send().await.expect(201);
    }
    for name in ["b", "d"] {
        ada.put(&format!("{SCOPE}/{name}"), value("workflow")).send().await.expect(201);
    }
    let path = "/effective-variables?workflow_id=order";
    let named = values(&ada, &format!("{path}&name=d&name=a&name=absent")).await;
    assert_eq!(named, [pair("a", "global"), pair("d", "workflow")]);
    let page = ada.get(&format!("{path}&limit=2")).send().await.expect(200).json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(values(&ada, &format!("{path}&limit=2")).await, [pair("a", "global"), pair("b", "workflow")]);
    assert_eq!(values(&ada, &format!("{path}&limit=2&cursor={cursor}")).await, [pair("c", "global"), pair("d", "workflow")]);
    ada.get(&format!("/effective-variables?cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    for query in ["workflow_id=a%2Fb", "session_id=..", "user_id=", "name=..", "limit=0", "workflow_id=a&workflow_id=b"] {
        ada.get(&format!("/effective-variables?{query}")).send().await.problem(400, "invalid_parameter");
    }
}

async fn permissions_are_apart(app: TestApp) {
    let writer = app.bearer(app.token("acme", "w", &["nworkflow-writer"]));
    app.admin("acme").put("/variables/global/x", value(1)).send().await.expect(201);
    app.admin("acme").put("/variables/user:bob/x", value(1)).send().await.expect(201);
    for refused in [
        batch(&writer, "/variables/global", r#"{"set":{"x":2}}"#),
        writer.delete("/variables/global"),
        writer.post("/variables/global/x/increment", "{}"),
        writer.merge("/variables/global/x", value(2)),
    ] {
        refused.send().await.problem(403, "permission_missing");
    }
    for foreign in [batch(&writer, "/variables/user:bob", r#"{"set":{"x":2}}"#), writer.delete("/variables/user:bob")] {
        foreign.send().await.problem(404, "scope_not_found");
    }
    writer.merge("/variables/user:bob/x", value(2)).send().await.problem(404, "variable_not_found");
    writer.post("/variables/user:bob/x/increment", "{}").send().await.problem(404, "scope_not_found");
    for scope in ["global", "user:bob"] {
        assert_eq!(values(&app.admin("acme"), &format!("/variables/{scope}")).await, [pair("x", 1)]);
    }
    for bad in ["Global", "tenant:x", "workflow:"] {
        batch(&writer, &format!("/variables/{bad}"), "{}").send().await.problem(400, "invalid_scope");
    }
}

async fn a_large_scope_is_deleted_in_calls(app: TestApp) {
    let ada = app.admin("acme");
    // Ten thousand and one names; those of one batch are its thousand.
    for thousand in 0..10 {
        let set: serde_json::Map<String, Value> = (0..1000).map(|index| (format!("n{thousand}{index:03}"), json!(1))).collect();
        batch(&ada, SCOPE, json!({"set": set}).to_string()).header("prefer", "return=minimal").send().await.expect(204);
    }
    ada.put(&format!("{SCOPE}/z"), value(1)).send().await.expect(201);
    ada.put("/variables/workflow:other/n0000", value(1)).send().await.expect(201);
    let delete = || ada.delete(SCOPE).header("idempotency-key", "first").send();
    let first = delete().await.expect(200);
    assert_eq!(first.json(), json!({"deleted": 10_000, "more": true}));
    assert_eq!(values(&ada, SCOPE).await, [pair("z", 1)], "the first in the order of names");
    let again = delete().await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), &again.body), (Some("true"), &first.body));
    assert_eq!(ada.delete(SCOPE).send().await.expect(200).json(), json!({"deleted": 1}), "no member more when nothing is left");
    assert_eq!(ada.delete(SCOPE).send().await.expect(200).json(), json!({"deleted": 0}));
    ada.get("/variables/workflow:other/n0000").send().await.expect(200);
}
