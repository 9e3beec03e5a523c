//! Variables over HTTP: set, read, delete, list, four scopes.

use serde_json::{Value, json};

use super::app::{Caller, TestApp};
use super::on_both_stores;

on_both_stores!(
    a_variable_goes_in_and_comes_back_byte_for_byte,
    a_set_replaces_everything,
    scopes_are_apart,
    users_are_apart,
    the_global_scope_needs_its_permission,
    no_session_exists_yet,
    lists_are_ordered_filtered_and_paged,
    a_page_ends_early_when_it_is_large,
    a_variable_is_gone_at_its_instant,
    secrets_are_refused,
    a_patch_makes_no_secret_in_the_clear,
    a_patch_sees_what_a_set_takes,
    deletes_leave_a_version,
);

fn value(value: impl Into<Value>) -> String {
    json!({"value": value.into()}).to_string()
}

async fn names(caller: &Caller, path: &str) -> Vec<String> {
    let page = caller.get(path).send().await.expect(200).json();
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn a_variable_goes_in_and_comes_back_byte_for_byte(app: TestApp) {
    let ada = app.admin("acme");
    let path = "/variables/workflow:order/gr%C3%B6%C3%9Fe%2Fa:b";
    let created = ada.put(path, r#"{"value": {"b":1E2 , "a":[ -0,"\u00e9"]},"description":"d"}"#).send().await.expect(201);
    assert_eq!((created.etag(), created.header("location")), ("\"1\"", Some(path)));
    assert!(created.text().contains(r#""value":{"b":1E2 , "a":[ -0,"\u00e9"]}"#), "{}", created.text());
    assert_eq!(ada.get(path).send().await.expect(200).body, created.body);
    let json = created.json();
    assert_eq!((&json["scope"], &json["name"], &json["secret"]), (&json!("workflow:order"), &json!("größe/a:b"), &json!(false)));
    assert!(json.get("expires_at").is_none());
    let null = ada.put("/variables/global/null", r#"{"value":null}"#).send().await.expect(201);
    assert!(null.text().contains(r#""value":null"#));
}

async fn a_set_replaces_everything(app: TestApp) {
    let ada = app.admin("acme");
    ada.put("/variables/global/x", r#"{"value":1,"description":"one","ttl_seconds":60}"#).send().await.expect(201);
    let second = ada.put("/variables/global/x", value(2)).header("if-match", "\"1\"").send().await.expect(200).json();
    assert!(second.get("description").is_none() && second.get("expires_at").is_none() && second["version"] == 2);
    ada.put("/variables/global/x", "{}").send().await.problem(422, "missing_member");
    assert_eq!(ada.get("/variables/global/x").send().await.etag(), "\"2\"");
}

async fn scopes_are_apart(app: TestApp) {
    let ada = app.admin("acme");
    let scopes = ["global", "workflow:a", "workflow:b", "user:a", "user:b"];
    for scope in scopes {
        ada.put(&format!("/variables/{scope}/x"), value(scope)).send().await.expect(201);
    }
    for scope in scopes {
        let page = ada.get(&format!("/variables/{scope}")).send().await.expect(200).json();
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
        assert_eq!(page["items"][0]["value"], scope);
        app.admin("other").get(&format!("/variables/{scope}/x")).send().await.problem(404, "variable_not_found");
    }
    assert!(names(&app.admin("other"), "/variables/global").await.is_empty());
}

async fn users_are_apart(app: TestApp) {
    let caller = |subject: &str, role| app.bearer(app.token("acme", subject, &[role]));
    let (ada, bob, engine) =
        (caller("f:1:ada", "nworkflow-writer"), caller("bob", "nworkflow-writer"), caller("engine", "nworkflow-engine"));
    let created = ada.put("/variables/user:me/x", value(1)).send().await.expect(201);
    assert_eq!((created.json()["scope"].as_str(), created.header("location")), (Some("user:f:1:ada"), Some("/variables/user:f:1:ada/x")));
    ada.get("/variables/user:f:1:ada/x").send().await.expect(200);
    // Another user's variable and one that does not exist are the same, but for the request.
    let mask = |answer: &super::app::Answer| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().retain(|name, _| name != "request_id" && name != "instance");
        body
    };
    let foreign = bob.get("/variables/user:f:1:ada/x").send().await.problem(404, "variable_not_found");
    let absent = bob.get("/variables/user:me/x").send().await.problem(404, "variable_not_found");
    assert_eq!(mask(&foreign), mask(&absent));
    bob.get("/variables/user:f:1:ada").send().await.problem(404, "scope_not_found");
    bob.put("/variables/user:f:1:ada/x", value(2)).send().await.problem(404, "scope_not_found");
    bob.delete("/variables/user:f:1:ada/x").send().await.problem(404, "variable_not_found");
    engine.get("/variables/user:f:1:ada/x").send().await.expect(200);
    let by_engine = engine.put("/variables/user:f:1:ada/x", value(2)).send().await.expect(200).json();
    assert_eq!(by_engine["updated_by"], "engine");
    assert_eq!(names(&ada, "/variables/user:me").await, ["x"]);
}

async fn the_global_scope_needs_its_permission(app: TestApp) {
    let writer = app.bearer(app.token("acme", "w", &["nworkflow-writer"]));
    let refused = writer.put("/variables/global/x", value(1)).send().await.problem(403, "permission_missing");
    assert!(refused.json()["detail"].as_str().unwrap().contains("variables.global:write"));
    writer.delete("/variables/global/x").send().await.problem(403, "permission_missing");
    writer.put("/variables/workflow:w/x", value(1)).send().await.expect(201);
    writer.get("/variables/global/x").send().await.problem(404, "variable_not_found");
}

async fn no_session_exists_yet(app: TestApp) {
    let ada = app.admin("acme");
    ada.put("/variables/session:s1/x", value(1)).send().await.problem(404, "session_not_found");
    ada.get("/variables/session:s1/x").send().await.problem(404, "session_not_found");
    ada.delete("/variables/session:s1/x").send().await.problem(404, "session_not_found");
    ada.get("/variables/session:s1").send().await.problem(404, "session_not_found");
}

async fn lists_are_ordered_filtered_and_paged(app: TestApp) {
    let ada = app.admin("acme");
    let sorted = ["Z", "a%b", "a/b", "a_b", "ab", "é", "\u{1F600}"];
    for name in sorted.iter().rev() {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        ada.put(&format!("/variables/workflow:w/{encoded}"), value(*name)).send().await.expect(201);
    }
    assert_eq!(names(&ada, "/variables/workflow:w").await, sorted);
    assert_eq!(names(&ada, "/variables/workflow:w?prefix=a").await, ["a%b", "a/b", "a_b", "ab"]);
    assert_eq!(names(&ada, "/variables/workflow:w?prefix=a_").await, ["a_b"]);
    assert_eq!(names(&ada, "/variables/workflow:w?prefix=a%25").await, ["a%b"]);
    assert_eq!(names(&ada, "/variables/workflow:w?name=ab&name=Z&name=none").await, ["Z", "ab"]);
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ada.get(&format!("/variables/workflow:w?limit=2{cursor}")).send().await.expect(200).json();
        all.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(all, sorted);
    let foreign = cursor.trim_start_matches("&cursor=");
    for path in ["/variables/workflow:v?cursor=", "/variables/workflow:w?prefix=a&cursor=", "/variables/global?cursor="] {
        ada.get(&format!("{path}{foreign}")).send().await.problem(400, "invalid_cursor");
    }
    app.admin("other").get(&format!("/variables/workflow:w?cursor={foreign}")).send().await.problem(400, "invalid_cursor");
    for bad in ["limit=0", "limit=-1", "limit=x", "prefix=%00", "prefix=%ff", "name=..", "name=", "prefix=a&prefix=b"] {
        ada.get(&format!("/variables/workflow:w?{bad}")).send().await.problem(400, "invalid_parameter");
    }
    assert_eq!(names(&ada, "/variables/workflow:w?limit=99999&%24top=1&sap-client=100&_=17").await.len(), 7);
}

async fn a_page_ends_early_when_it_is_large(app: TestApp) {
    let ada = app.admin("acme");
    let large = "x".repeat(900_000);
    for name in ["a", "b", "c", "d", "e", "f"] {
        ada.put(&format!("/variables/global/{name}"), value(large.as_str())).send().await.expect(201);
    }
    let page = ada.get("/variables/global").send().await.expect(200);
    assert!(page.body.len() < 6_000_000, "{}", page.body.len());
    let page = page.json();
    let first = page["items"].as_array().unwrap().len();
    assert!((4..6).contains(&first));
    let rest = names(&ada, &format!("/variables/global?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(first + rest.len(), 6);
}

async fn a_variable_is_gone_at_its_instant(app: TestApp) {
    let ada = app.admin("acme");
    let created = ada.put("/variables/global/x", r#"{"value":1,"ttl_seconds":60}"#).send().await.expect(201).json();
    assert!(created["expires_at"].as_str() > created["updated_at"].as_str());
    app.clock.advance_seconds(59);
    ada.get("/variables/global/x").send().await.expect(200);
    app.clock.advance_seconds(2);
    ada.get("/variables/global/x").send().await.problem(404, "variable_not_found");
    assert!(names(&ada, "/variables/global").await.is_empty());
    ada.delete("/variables/global/x").send().await.problem(404, "variable_not_found");
    ada.put("/variables/global/x", value(2)).header("if-match", "*").send().await.problem(412, "precondition_failed");
    let reborn = ada.put("/variables/global/x", value(2)).header("if-none-match", "*").send().await.expect(201).json();
    assert_eq!((&reborn["version"], &reborn["created_at"]), (&json!(2), &reborn["updated_at"]));
}

async fn secrets_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    ada.put("/variables/global/x", r#"{"value":"hush","secret":true}"#).send().await.problem(422, "secrets_not_configured");
    ada.get("/variables/global/x").send().await.problem(404, "variable_not_found");
    ada.put("/variables/global/x", r#"{"value":"open","secret":false}"#).send().await.expect(201);
}

async fn a_patch_makes_no_secret_in_the_clear(app: TestApp) {
    let ada = app.admin("acme");
    let path = "/variables/global/x";
    let before = ada.put(path, r#"{"value":"open","description":"d"}"#).send().await.expect(201);
    for patch in [r#"{"value":"hush","secret":true}"#, r#"{"secret":true}"#] {
        ada.merge(path, patch).send().await.problem(422, "secrets_not_configured");
        ada.merge(path, patch).header("idempotency-key", "k").send().await.problem(422, "secrets_not_configured");
        let bare = ada.merge(path, patch).without("content-type").header("content-type", "application/json");
        bare.send().await.problem(422, "secrets_not_configured");
    }
    for patch in [
        r#"[{"op":"add","path":"/secret","value":true},{"op":"replace","path":"/value","value":"hush"}]"#,
        r#"[{"op":"replace","path":"/secret","value":true}]"#,
        r#"[{"op":"replace","path":"","value":{"value":"hush","secret":true}}]"#,
    ] {
        ada.operate(path, patch).send().await.problem(422, "secrets_not_configured");
    }
    ada.merge(path, r#"{"secret":"yes"}"#).send().await.problem(422, "invalid_type");
    let after = ada.get(path).header("cache-control", "no-cache").send().await.expect(200);
    assert_eq!((&after.body, after.etag()), (&before.body, "\"1\""));
    // What is no secret may say so.
    ada.merge(path, r#"{"secret":false,"value":1}"#).send().await.expect(200);
    ada.operate(path, r#"[{"op":"test","path":"/secret","value":false},{"op":"remove","path":"/secret"}]"#).send().await.expect(200);
    ada.merge(path, r#"{"secret":null}"#).send().await.expect(200);
}

async fn a_patch_sees_what_a_set_takes(app: TestApp) {
    let ada = app.admin("acme");
    let path = "/variables/workflow:w/x";
    let begin = || ada.put(path, r#"{"value":{"a": 1E2 },"description":"d","ttl_seconds":600}"#).send();
    let ends = |answer: &super::app::Answer| answer.json()["expires_at"].as_str().map(str::to_owned);
    let begun = begin().await.expect(201);
    app.clock.advance_seconds(100);
    // Nothing about the time to live: the variable ends when it was to end.
    for patch in [
        r#"[{"op":"test","path":"/ttl_seconds","value":600},{"op":"add","path":"/value/b","value":1}]"#,
        r#"[{"op":"test","path":"","value":{"value":{"a":100,"b":1},"description":"d","ttl_seconds":600,"secret":false}}]"#,
    ] {
        let patched = ada.operate(path, patch).send().await;
        if patched.status == 409 {
            // After the first patch less than what was asked for is left.
            assert_eq!(patched.verdict(), (409, "patch_test_failed".into()));
            let rest = patch.replace("600", "500");
            assert_eq!(ends(&ada.operate(path, rest).send().await.expect(200)), ends(&begun));
            continue;
        }
        assert!(patched.status == 200 && patched.text().contains("1E2"), "{}", patched.text());
        assert_eq!(ends(&patched), ends(&begun));
    }
    assert_eq!(ends(&ada.merge(path, r#"{"description":"e"}"#).send().await.expect(200)), ends(&begun));
    // Both kinds of patch take it away, and both start the clock anew.
    for is_merge in [true, false] {
        begin().await.expect(200);
        let patch = |merge: &str, operations: &str| {
            if is_merge { ada.merge(path, merge).send() } else { ada.operate(path, operations).send() }
        };
        let longer = patch(r#"{"ttl_seconds":600}"#, r#"[{"op":"replace","path":"/ttl_seconds","value":600}]"#).await.expect(200);
        assert!(ends(&longer) > ends(&begun), "{}", longer.text());
        let forever = patch(r#"{"ttl_seconds":null}"#, r#"[{"op":"remove","path":"/ttl_seconds"}]"#).await.expect(200);
        assert!(ends(&forever).is_none() && forever.json()["description"] == "d", "{}", forever.text());
        ada.operate(path, r#"[{"op":"remove","path":"/ttl_seconds"}]"#).send().await.problem(422, "patch_not_applicable");
        let timed = patch(r#"{"ttl_seconds":60}"#, r#"[{"op":"add","path":"/ttl_seconds","value":60}]"#).await.expect(200);
        assert!(ends(&timed).is_some(), "{}", timed.text());
    }
}

async fn deletes_leave_a_version(app: TestApp) {
    let ada = app.admin("acme");
    ada.put("/variables/global/x", value(1)).send().await.expect(201);
    ada.delete("/variables/global/x").send().await.expect(204);
    ada.get("/variables/global/x").send().await.problem(404, "variable_not_found");
    assert_eq!(ada.put("/variables/global/x", value(1)).send().await.expect(201).etag(), "\"3\"");
}
