//! Sessions over HTTP: lives, owners, expiry.

use nworkflow_state::domain::clock::Timestamp;
use serde_json::{Value, json};

use super::app::{Answer, Caller, TestApp};
use super::on_both_stores;

on_both_stores!(
    a_session_begins_and_comes_back_byte_for_byte,
    a_save_replaces_everything_but_the_clock,
    a_session_is_gone_at_its_instant,
    a_sliding_session_lives_on,
    a_cap_ends_every_life,
    an_extension_adds_to_the_present_expiry,
    a_patch_restarts_the_clock_only_when_it_says_so,
    users_are_apart,
    nothing_tells_of_another_users_session,
    a_condition_on_another_users_session_fails,
    a_delegate_acts_for_others,
    an_id_that_is_used_again_inherits_nothing,
    preconditions_compare_versions,
    a_generated_id_is_replayed,
    me_is_the_caller,
    bad_sessions_are_refused,
    lists_are_paged,
);

fn microseconds(time: &Value) -> i64 {
    Timestamp::parse(time.as_str().unwrap()).unwrap().as_microseconds()
}

/// The header `Session-Expires`, in microseconds.
fn expiry(answer: &Answer) -> i64 {
    Timestamp::parse(answer.header("session-expires").expect("Session-Expires")).unwrap().as_microseconds()
}

/// Seconds between two members of a session.
fn between(answer: &Answer, from: &str, to: &str) -> i64 {
    let body = answer.json();
    let apart = microseconds(&body[to]) - microseconds(&body[from]);
    assert_eq!(apart % 1_000_000, 0, "{}", answer.text());
    apart / 1_000_000
}

fn caller(app: &TestApp, subject: &str, role: &str) -> Caller {
    app.bearer(app.token("acme", subject, &[role]))
}

async fn ids(caller: &Caller, path: &str) -> Vec<String> {
    let page = caller.get(path).send().await.expect(200).json();
    page["items"].as_array().unwrap().iter().map(|item| item["session_id"].as_str().unwrap().to_owned()).collect()
}

/// What a client sees of a problem, apart from the request itself.
fn masked(answer: &Answer) -> Value {
    let mut body = answer.json();
    body.as_object_mut().unwrap().retain(|name, _| name != "request_id" && name != "instance");
    body
}

async fn a_session_begins_and_comes_back_byte_for_byte(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let begun = ada.post("/sessions", r#"{"data": {"b":1E2 , "a":[ -0,"\u00e9"]}}"#).send().await.expect(201);
    let body = begun.json();
    let id = body["session_id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id}");
    let path = format!("/sessions/{id}");
    assert_eq!((begun.etag(), begun.header("location")), ("\"1\"", Some(path.as_str())));
    assert!(begun.text().contains(r#""data":{"b":1E2 , "a":[ -0,"\u00e9"]}"#), "{}", begun.text());
    let wanted = (&json!("ada"), &json!(1), &json!(3600), &json!(false));
    assert_eq!((&body["owner"], &body["version"], &body["ttl_seconds"], &body["sliding"]), wanted);
    assert!(body.get("max_ttl_seconds").is_none() && body["created_at"] == body["updated_at"]);
    assert_eq!(between(&begun, "created_at", "expires_at"), 3600);
    assert_eq!(expiry(&begun), microseconds(&body["expires_at"]));

    let loaded = ada.get(&path).send().await.expect(200);
    assert_eq!((&loaded.body, loaded.etag(), expiry(&loaded)), (&begun.body, "\"1\"", expiry(&begun)));
    let head = ada.head(&path).send().await.expect(200);
    assert!(head.body.is_empty() && head.etag() == "\"1\"" && expiry(&head) == expiry(&begun));

    let chosen = ada.post("/sessions", r#"{"session_id":"s1","data":null,"ttl_seconds":1,"sliding":true,"max_ttl_seconds":9}"#);
    let chosen = chosen.send().await.expect(201);
    assert_eq!(chosen.header("location"), Some("/sessions/s1"));
    let body = chosen.json();
    assert_eq!(
        (&body["data"], &body["ttl_seconds"], &body["sliding"], &body["max_ttl_seconds"]),
        (&Value::Null, &json!(1), &json!(true), &json!(9))
    );
    assert!(chosen.text().contains(r#""data":null"#));
    let minimal = ada.post("/sessions", r#"{"session_id":"s2","data":1}"#).header("prefer", "return=minimal").send().await.expect(204);
    assert_eq!((minimal.etag(), minimal.header("preference-applied")), ("\"1\"", Some("return=minimal")));
    assert!(minimal.body.is_empty() && minimal.header("location") == Some("/sessions/s2"));
}

async fn a_save_replaces_everything_but_the_clock(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let full = r#"{"data":{"a":1,"b":2},"ttl_seconds":600,"sliding":true,"max_ttl_seconds":9000}"#;
    let first = ada.put("/sessions/s1", full).send().await.expect(201);
    assert_eq!(first.header("location"), Some("/sessions/s1"));
    app.clock.advance_seconds(10);
    let second = ada.put("/sessions/s1", r#"{"data":{"c":3}}"#).send().await.expect(200);
    assert_eq!((second.etag(), second.header("location")), ("\"2\"", None));
    let body = second.json();
    assert_eq!((&body["data"], &body["sliding"], &body["ttl_seconds"]), (&json!({"c": 3}), &json!(false), &json!(600)));
    assert!(body.get("max_ttl_seconds").is_none());
    assert_eq!((&body["created_at"], &body["expires_at"]), (&first.json()["created_at"], &first.json()["expires_at"]));
    let third = ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":50}"#).send().await.expect(200);
    assert_eq!(between(&third, "updated_at", "expires_at"), 50);
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, third.body);
}

async fn a_session_is_gone_at_its_instant(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let first = ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":1000}"#).send().await.expect(201);
    ada.put("/variables/session:s1/x", r#"{"value":1}"#).send().await.expect(201);
    // A minute of leeway: the clock runs on while this test waits for the machine.
    app.clock.advance_seconds(940);
    assert_eq!(expiry(&ada.get("/sessions/s1").send().await.expect(200)), expiry(&first));
    ada.get("/variables/session:s1/x").send().await.expect(200);
    app.clock.advance_seconds(60);
    ada.get("/sessions/s1").send().await.problem(404, "session_not_found");
    ada.get("/sessions/s1").header("cache-control", "no-cache").send().await.problem(404, "session_not_found");
    ada.head("/sessions/s1").send().await.expect(404);
    ada.merge("/sessions/s1", r#"{"data":2}"#).send().await.problem(404, "session_not_found");
    ada.post("/sessions/s1/extend", r#"{"additional_seconds":3600}"#).send().await.problem(404, "session_not_found");
    ada.delete("/sessions/s1").send().await.problem(404, "session_not_found");
    ada.put("/sessions/s1", r#"{"data":2}"#).header("if-match", "*").send().await.problem(412, "precondition_failed");
    assert!(ids(&ada, "/sessions").await.is_empty());
    for path in ["/variables/session:s1/x", "/variables/session:s1", "/effective-variables?session_id=s1"] {
        ada.get(path).send().await.problem(404, "session_not_found");
    }
    ada.put("/variables/session:s1/x", r#"{"value":2}"#).send().await.problem(404, "session_not_found");
    // The id is free, and nothing of the former life is left.
    let again = ada.post("/sessions", r#"{"session_id":"s1","data":3}"#).send().await.expect(201);
    assert!(again.json()["version"].as_i64() > first.json()["version"].as_i64());
    assert!(microseconds(&again.json()["created_at"]) > microseconds(&first.json()["created_at"]));
    ada.get("/variables/session:s1/x").send().await.problem(404, "variable_not_found");
}

async fn a_sliding_session_lives_on(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let begun = ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":1000,"sliding":true}"#).send().await.expect(201);
    let fixed = ada.put("/sessions/s2", r#"{"data":1,"ttl_seconds":2000}"#).send().await.expect(201);
    app.clock.advance_seconds(600);
    let touched = ada.get("/sessions/s1").send().await.expect(200);
    assert!(expiry(&touched) >= expiry(&begun) + 600_000_000, "{:?}", touched.headers);
    // The version and its body are the same, only the header tells.
    assert_eq!((touched.etag(), &touched.body), ("\"1\"", &begun.body));
    // Touches are coalesced: the next one within a tenth of the time to live moves nothing.
    assert_eq!(expiry(&ada.get("/sessions/s1").send().await.expect(200)), expiry(&touched));
    assert_eq!(expiry(&ada.get("/sessions/s2").send().await.expect(200)), expiry(&fixed));
    app.clock.advance_seconds(600);
    let again = ada.head("/sessions/s1").send().await.expect(200);
    assert!(expiry(&again) >= expiry(&touched) + 600_000_000);
    assert_eq!(ada.get("/sessions/s1").header("if-none-match", "\"1\"").send().await.expect(304).etag(), "\"1\"");
    app.clock.advance_seconds(1000);
    ada.get("/sessions/s1").send().await.problem(404, "session_not_found");
}

async fn a_cap_ends_every_life(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let body = r#"{"data":1,"ttl_seconds":1000,"sliding":true,"max_ttl_seconds":1500}"#;
    let begun = ada.put("/sessions/s1", body).send().await.expect(201);
    let capped = microseconds(&begun.json()["created_at"]) + 1_500_000_000;
    assert_eq!(between(&begun, "created_at", "expires_at"), 1000);
    app.clock.advance_seconds(600);
    assert_eq!(expiry(&ada.get("/sessions/s1").send().await.expect(200)), capped);
    let extended = ada.post("/sessions/s1/extend", r#"{"additional_seconds":5000}"#).send().await.expect(200);
    assert_eq!((expiry(&extended), between(&extended, "created_at", "expires_at")), (capped, 1500));
    let patched = ada.merge("/sessions/s1", r#"{"ttl_seconds":5000}"#).send().await.expect(200);
    assert_eq!((expiry(&patched), patched.json()["ttl_seconds"].as_i64()), (capped, Some(5000)));
    let saved = ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":5000,"sliding":true,"max_ttl_seconds":1500}"#).send().await.expect(200);
    assert_eq!(expiry(&saved), capped);
    app.clock.advance_seconds(900);
    ada.get("/sessions/s1").send().await.problem(404, "session_not_found");
    // A cap below the time to live holds from the beginning.
    let short = ada.post("/sessions", r#"{"data":1,"ttl_seconds":1000,"max_ttl_seconds":10}"#).send().await.expect(201);
    assert_eq!(between(&short, "created_at", "expires_at"), 10);
}

async fn an_extension_adds_to_the_present_expiry(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let begun = ada.put("/sessions/s1", r#"{"data":{"z": 1.0},"ttl_seconds":1000,"sliding":true}"#).send().await.expect(201);
    let extended = ada.post("/sessions/s1/extend", r#"{"additional_seconds":300}"#).send().await.expect(200);
    assert_eq!((extended.etag(), expiry(&extended)), ("\"2\"", expiry(&begun) + 300_000_000));
    assert_eq!(microseconds(&extended.json()["expires_at"]), expiry(&extended));
    assert!(extended.text().contains(r#""data":{"z": 1.0}"#));
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, extended.body);
    app.clock.advance_seconds(900);
    let touched = expiry(&ada.get("/sessions/s1").send().await.expect(200));
    assert!(touched > expiry(&extended));
    let stale = ada.post("/sessions/s1/extend", r#"{"additional_seconds":1}"#).header("if-match", "\"1\"").send().await;
    assert_eq!(stale.problem(412, "precondition_failed").json()["current_version"], 2);
    let again = ada.post("/sessions/s1/extend", r#"{"additional_seconds":1}"#).header("if-match", "W/\"2\"").send().await.expect(200);
    assert_eq!((again.etag(), expiry(&again)), ("\"3\"", touched + 1_000_000));
    for (body, status, code, pointer) in [
        (r#"{"additional_seconds":0}"#, 422, "out_of_range", "#/additional_seconds"),
        (r#"{"additional_seconds":-1}"#, 422, "out_of_range", "#/additional_seconds"),
        (r#"{"additional_seconds":315360001}"#, 422, "out_of_range", "#/additional_seconds"),
        (r#"{"additional_seconds":1.5}"#, 422, "invalid_type", "#/additional_seconds"),
        ("{}", 422, "missing_member", "#/additional_seconds"),
        (r#"{"additional_seconds":1,"ttl_seconds":2}"#, 400, "unknown_member", "#/ttl_seconds"),
    ] {
        let problem = ada.post("/sessions/s1/extend", body).send().await.problem(status, code).json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, again.body);
    ada.post("/sessions/absent/extend", r#"{"additional_seconds":1}"#).send().await.problem(404, "session_not_found");
}

async fn a_patch_restarts_the_clock_only_when_it_says_so(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let begun = ada.put("/sessions/s1", r#"{"data":{"a":1.0 ,"b":[ 1E2]},"ttl_seconds":1000}"#).send().await.expect(201);
    app.clock.advance_seconds(100);
    let data = ada.merge("/sessions/s1", r#"{"data":{"a":2}}"#).send().await.expect(200);
    assert_eq!((data.etag(), expiry(&data)), ("\"2\"", expiry(&begun)));
    assert!(data.text().contains("[ 1E2]"), "{}", data.text());
    let operated = ada
        .operate("/sessions/s1", r#"[{"op":"add","path":"/data/ttl_seconds","value":1},{"op":"replace","path":"/sliding","value":true}]"#);
    let operated = operated.send().await.expect(200);
    assert_eq!((expiry(&operated), operated.json()["sliding"].as_bool()), (expiry(&begun), Some(true)));
    let merged = ada.merge("/sessions/s1", r#"{"ttl_seconds":1000}"#).send().await.expect(200);
    assert_eq!(between(&merged, "updated_at", "expires_at"), 1000);
    assert!(expiry(&merged) >= expiry(&begun) + 100_000_000);
    let shorter = ada.operate("/sessions/s1", r#"[{"op":"replace","path":"/ttl_seconds","value":20}]"#).send().await.expect(200);
    assert_eq!((shorter.etag(), between(&shorter, "updated_at", "expires_at")), ("\"5\"", 20));
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, shorter.body);
}

async fn users_are_apart(app: TestApp) {
    let (ada, bob) = (caller(&app, "ada", "nworkflow-writer"), caller(&app, "bob", "nworkflow-writer"));
    let before = ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    ada.put("/variables/session:s1/x", r#"{"value":1}"#).send().await.expect(201);
    let extension = r#"{"additional_seconds":1}"#;
    for (foreign, absent) in [
        (bob.get("/sessions/s1"), bob.get("/sessions/s2")),
        (bob.delete("/sessions/s1"), bob.delete("/sessions/s2")),
        (bob.merge("/sessions/s1", r#"{"data":2}"#), bob.merge("/sessions/s2", r#"{"data":2}"#)),
        (bob.post("/sessions/s1/extend", extension), bob.post("/sessions/s2/extend", extension)),
        (bob.get("/variables/session:s1"), bob.get("/variables/session:s2")),
        (bob.get("/variables/session:s1/x"), bob.get("/variables/session:s2/x")),
        (bob.delete("/variables/session:s1/x"), bob.delete("/variables/session:s2/x")),
        (bob.put("/variables/session:s1/x", r#"{"value":2}"#), bob.put("/variables/session:s2/x", r#"{"value":2}"#)),
        (bob.get("/effective-variables?session_id=s1"), bob.get("/effective-variables?session_id=s2")),
    ] {
        let foreign = foreign.send().await.problem(404, "session_not_found");
        assert_eq!(masked(&foreign), masked(&absent.send().await.problem(404, "session_not_found")));
    }
    // Neither does a failed condition tell: no version of another's session.
    let foreign = bob.delete("/sessions/s1").header("if-match", "\"9\"").send().await.problem(412, "precondition_failed");
    assert!(foreign.json().get("current_version").is_none());
    let absent = bob.delete("/sessions/s2").header("if-match", "\"9\"").send().await.problem(412, "precondition_failed");
    assert_eq!(masked(&foreign), masked(&absent));
    bob.head("/sessions/s1").send().await.expect(404);
    // The two places where an id tells that it is taken.
    bob.put("/sessions/s1", r#"{"data":2}"#).send().await.problem(404, "session_not_found");
    bob.post("/sessions", r#"{"session_id":"s1","data":2}"#).send().await.problem(409, "session_exists");
    ada.post("/sessions", r#"{"session_id":"s1","data":2}"#).send().await.problem(409, "session_exists");
    assert!(ids(&bob, "/sessions").await.is_empty());
    assert_eq!(ids(&ada, "/sessions").await, ["s1"]);
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, before.body);
    assert_eq!(ada.get("/variables/session:s1/x").send().await.expect(200).etag(), "\"1\"");
    // Another tenant has ids of its own.
    let other = app.bearer(app.token("other", "ada", &["nworkflow-writer"]));
    other.get("/sessions/s1").send().await.problem(404, "session_not_found");
    other.post("/sessions", r#"{"session_id":"s1","data":2}"#).send().await.expect(201);
}

/// All that a client sees of an answer, but for the request's own words.
fn seen(answer: &Answer, path: &str) -> (u16, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| name != "date").collect();
    headers.sort();
    (answer.status.as_u16(), answer.text().replace(path, "PATH"), headers)
}

async fn nothing_tells_of_another_users_session(app: TestApp) {
    let (ada, bob) = (caller(&app, "ada", "nworkflow-writer"), caller(&app, "bob", "nworkflow-writer"));
    for id in ["s1", "s2", "s3"] {
        ada.put(&format!("/sessions/{id}"), r#"{"data":1,"ttl_seconds":1000}"#).send().await.expect(201);
        ada.put(&format!("/variables/session:{id}/x"), r#"{"value":1}"#).send().await.expect(201);
    }
    for version in 2..5 {
        assert_eq!(ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":5000}"#).send().await.expect(200).json()["version"], version);
    }
    app.clock.advance_seconds(1000);
    // The first lives, the second has expired, the third was deleted, the fourth never was.
    ada.put("/sessions/s3", r#"{"data":1}"#).send().await.expect(201);
    ada.delete("/sessions/s3").send().await.expect(204);
    let (get, head) = (reqwest::Method::GET, reqwest::Method::HEAD);
    let asks: [&[(&str, &str)]; 12] = [
        &[],
        &[("x-min-version", "1")],
        &[("x-min-version", "4")],
        &[("x-min-version", "99")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "no-cache"), ("x-min-version", "1")],
        &[("cache-control", "no-cache"), ("x-min-version", "99")],
        &[("if-match", "\"4\"")],
        &[("if-match", "*")],
        &[("if-match", "*"), ("x-min-version", "99")],
        &[("if-none-match", "\"4\"")],
        &[("if-none-match", "*"), ("x-min-version", "1")],
    ];
    for path in ["/sessions/ID", "/variables/session:ID/x", "/variables/session:ID", "/effective-variables?session_id=ID"] {
        for method in [&get, &head] {
            for ask in asks {
                let mut answers = Vec::new();
                // Twice: the second time a cache may know.
                for id in ["s1", "s2", "s3", "s4", "s1", "s2", "s3", "s4"] {
                    let path = path.replace("ID", id);
                    let call = bob.call(method.clone(), &path).header("x-request-id", "r1");
                    let answer = ask.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await;
                    answers.push(seen(&answer, path.split('?').next().unwrap()));
                }
                let told: std::collections::BTreeSet<_> = answers.iter().collect();
                assert_eq!(told.len(), 1, "{method} {path} {ask:?}: {told:?}");
                assert!(matches!(answers[0].0, 404 | 412) && !answers[0].1.contains("current_version"), "{answers:?}");
            }
        }
    }
    // Who reaches it is told.
    let older = ada.get("/sessions/s1").header("x-min-version", "99").send().await.problem(412, "version_not_reached");
    assert_eq!(older.json()["current_version"], 4);
    // A user's scope says nothing of the user.
    ada.put("/variables/user:me/x", r#"{"value":1}"#).send().await.expect(201);
    for ask in asks {
        let mut told = std::collections::BTreeSet::new();
        for user in ["ada", "eve", "ada"] {
            let path = format!("/variables/user:{user}/x");
            let call = bob.get(&path).header("x-request-id", "r1");
            told.insert(seen(&ask.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await, &path));
        }
        assert_eq!(told.len(), 1, "{ask:?}: {told:?}");
    }
}

async fn a_condition_on_another_users_session_fails(app: TestApp) {
    let (ada, bob) = (caller(&app, "ada", "nworkflow-writer"), caller(&app, "bob", "nworkflow-writer"));
    let before = ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    for tags in ["\"1\"", "\"9\"", "*", "\"1\", \"2\""] {
        for key in [None, Some("k")] {
            let mut told = Vec::new();
            for path in ["/sessions/s1", "/sessions/s2"] {
                let call = bob.put(path, r#"{"data":2}"#).header("if-match", tags).header("x-request-id", "r1");
                let call = match key {
                    Some(key) => call.header("idempotency-key", key),
                    None => call,
                };
                told.push(seen(&call.send().await.problem(412, "precondition_failed"), path));
            }
            assert_eq!(told[0], told[1], "{tags}");
        }
    }
    bob.put("/sessions/s1", r#"{"data":2}"#).send().await.problem(404, "session_not_found");
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).body, before.body);
}

async fn a_delegate_acts_for_others(app: TestApp) {
    let (ada, bob, engine) =
        (caller(&app, "ada", "nworkflow-writer"), caller(&app, "bob", "nworkflow-writer"), caller(&app, "engine", "nworkflow-engine"));
    let refused = bob.post("/sessions", r#"{"data":1,"owner":"ada"}"#).send().await.problem(403, "permission_missing");
    assert!(refused.json()["detail"].as_str().unwrap().contains("delegate"));
    assert!(ids(&engine, "/sessions").await.is_empty());
    assert_eq!(bob.post("/sessions", r#"{"session_id":"b","data":1,"owner":"bob"}"#).send().await.expect(201).json()["owner"], "bob");
    let begun = engine.post("/sessions", r#"{"session_id":"a","data":1,"owner":"ada"}"#).send().await.expect(201);
    assert_eq!(begun.json()["owner"], "ada");
    assert_eq!(ada.get("/sessions/a").send().await.expect(200).body, begun.body);
    bob.get("/sessions/a").send().await.problem(404, "session_not_found");
    assert_eq!(ids(&engine, "/sessions").await, ["a", "b"]);
    assert_eq!(ids(&ada, "/sessions").await, ["a"]);
    // The owner stays who it was.
    assert_eq!(engine.put("/sessions/b", r#"{"data":2}"#).send().await.expect(200).json()["owner"], "bob");
    assert_eq!(engine.merge("/sessions/b", r#"{"data":3}"#).send().await.expect(200).json()["owner"], "bob");
    engine.post("/sessions/b/extend", r#"{"additional_seconds":1}"#).send().await.expect(200);
    engine.put("/variables/session:b/x", r#"{"value":1}"#).send().await.expect(201);
    assert_eq!(bob.get("/variables/session:b/x").send().await.expect(200).json()["updated_by"], "engine");
    engine.delete("/sessions/b").send().await.expect(204);
    bob.get("/sessions/b").send().await.problem(404, "session_not_found");
}

async fn an_id_that_is_used_again_inherits_nothing(app: TestApp) {
    let (ada, bob) = (caller(&app, "ada", "nworkflow-writer"), caller(&app, "bob", "nworkflow-writer"));
    ada.put("/sessions/s1", r#"{"data":1,"sliding":true,"max_ttl_seconds":7200}"#).send().await.expect(201);
    ada.put("/variables/session:s1/x", r#"{"value":1}"#).send().await.expect(201);
    let deleted = ada.delete("/sessions/s1").send().await.expect(204);
    assert!(deleted.body.is_empty());
    ada.get("/variables/session:s1/x").send().await.problem(404, "session_not_found");
    ada.delete("/sessions/s1").send().await.problem(404, "session_not_found");
    let second = bob.put("/sessions/s1", r#"{"data":2}"#).send().await.expect(201);
    let body = second.json();
    assert!(body["version"].as_i64() > Some(1), "{body}");
    assert_eq!((&body["owner"], &body["sliding"], body.get("max_ttl_seconds")), (&json!("bob"), &json!(false), None));
    assert_eq!(bob.get("/variables/session:s1").send().await.expect(200).json()["items"], json!([]));
    bob.get("/variables/session:s1/x").send().await.problem(404, "variable_not_found");
    bob.put("/variables/session:s1/x", r#"{"value":2}"#).send().await.expect(201);
    ada.get("/sessions/s1").send().await.problem(404, "session_not_found");
}

async fn preconditions_compare_versions(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    for header in ["if-match", "if-none-match"] {
        ada.post("/sessions", r#"{"session_id":"s1","data":1}"#).header(header, "*").send().await.problem(400, "precondition_not_allowed");
    }
    let absent = ada.put("/sessions/s1", r#"{"data":1}"#).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    assert!(absent.json().get("current_version").is_none() && ids(&ada, "/sessions").await.is_empty());
    ada.put("/sessions/s1", r#"{"data":1}"#).header("if-none-match", "*").send().await.expect(201);
    let taken = ada.put("/sessions/s1", r#"{"data":2}"#).header("if-none-match", "*").send().await.problem(412, "precondition_failed");
    assert_eq!(taken.json()["current_version"], 1);
    ada.put("/sessions/s1", r#"{"data":2}"#).header("if-match", "\"1\"").send().await.expect(200);
    ada.merge("/sessions/s1", r#"{"data":3}"#).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    ada.delete("/sessions/s1").header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
    ada.delete("/sessions/s1").header("if-match", "2").send().await.problem(400, "invalid_etag");
    assert_eq!(ada.get("/sessions/s1").send().await.expect(200).json()["data"], 2);
    ada.get("/sessions/s1").header("x-min-version", "3").send().await.problem(412, "version_not_reached");
    ada.delete("/sessions/s1").header("if-match", "\"2\"").send().await.expect(204);
}

async fn a_generated_id_is_replayed(app: TestApp) {
    let ada = caller(&app, "ada", "nworkflow-writer");
    let begin = |body: &'static str| ada.post("/sessions", body).header("idempotency-key", "k1").send();
    let first = begin(r#"{"data":1}"#).await.expect(201);
    assert!(first.header("idempotency-replayed").is_none());
    let again = begin(r#"{"data":1}"#).await.expect(201);
    assert_eq!((again.header("idempotency-replayed"), again.header("location")), (Some("true"), first.header("location")));
    assert_eq!((again.text(), again.etag()), (first.text(), first.etag()));
    begin(r#"{"data":2}"#).await.problem(422, "idempotency_key_reused");
    assert_eq!(ids(&ada, "/sessions").await.len(), 1);
    // Refusals are not kept.
    let chosen = || ada.post("/sessions", r#"{"session_id":"s1","data":1}"#).header("idempotency-key", "k2").send();
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    chosen().await.problem(409, "session_exists");
    ada.delete("/sessions/s1").send().await.expect(204);
    let begun = chosen().await.expect(201);
    let extend = || ada.post("/sessions/s1/extend", r#"{"additional_seconds":60}"#).header("idempotency-key", "k3").send();
    let (once, twice) = (extend().await.expect(200), extend().await.expect(200));
    assert_eq!((once.text(), twice.header("idempotency-replayed")), (twice.text(), Some("true")));
    assert_eq!(expiry(&ada.get("/sessions/s1").send().await.expect(200)), expiry(&begun) + 60_000_000);
}

/// In a body, as in a path and a query, `me` is whoever calls: that needs no permission to act for others.
async fn me_is_the_caller(app: TestApp) {
    let ada = app.bearer(app.token("acme", "ada", &["nworkflow-writer"]));
    let session = ada.post("/sessions", r#"{"data":1,"owner":"me"}"#).send().await.expect(201).json();
    assert_eq!(session["owner"], "ada");
    ada.post("/sessions", r#"{"data":1,"owner":"bob"}"#).send().await.problem(403, "permission_missing");
}

async fn bad_sessions_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    for (body, status, code, pointer) in [
        ("", 400, "invalid_json", "#"),
        ("[]", 422, "invalid_type", "#"),
        ("{}", 422, "missing_member", "#/data"),
        (r#"{"data":1,"ttl_seconds":0}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"data":1,"ttl_seconds":-1}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"data":1,"ttl_seconds":315360001}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"data":1,"ttl_seconds":"60"}"#, 422, "invalid_type", "#/ttl_seconds"),
        (r#"{"data":1,"ttl_seconds":null}"#, 422, "invalid_type", "#/ttl_seconds"),
        (r#"{"data":1,"max_ttl_seconds":0}"#, 422, "out_of_range", "#/max_ttl_seconds"),
        (r#"{"data":1,"max_ttl_seconds":315360001}"#, 422, "out_of_range", "#/max_ttl_seconds"),
        (r#"{"data":1,"sliding":"yes"}"#, 422, "invalid_type", "#/sliding"),
        (r#"{"data":{"a":1,"a":2}}"#, 400, "duplicate_member", "#/data/a"),
        (r#"{"data":"\u0000"}"#, 400, "nul_not_allowed", "#/data"),
        (r#"{"data":1,"version":2}"#, 400, "unknown_member", "#/version"),
    ] {
        for call in [ada.post("/sessions", body), ada.put("/sessions/s1", body)] {
            let problem = call.send().await.problem(status, code).json();
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
    }
    for (body, pointer) in [
        (r#"{"data":1,"session_id":"a/b"}"#, "#/session_id"),
        (r#"{"data":1,"session_id":".."}"#, "#/session_id"),
        (r#"{"data":1,"session_id":""}"#, "#/session_id"),
        (r#"{"data":1,"owner":""}"#, "#/owner"),
        (r#"{"data":1,"owner":"a\n"}"#, "#/owner"),
    ] {
        let problem = ada.post("/sessions", body).send().await.problem(400, "invalid_id").json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        // A save takes neither: the path and the token say them.
        ada.put("/sessions/s1", body).send().await.problem(400, "unknown_member");
    }
    ada.post("/sessions", r#"{"data":1}"#)
        .without("content-type")
        .header("content-type", "text/plain")
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(1024 * 1024));
    assert_eq!(ada.put("/sessions/s1", large).send().await.problem(413, "body_too_large").json()["limit"], 1024 * 1024);
    ada.put("/sessions/a%2Fb", r#"{"data":1}"#).send().await.problem(400, "invalid_id");
    assert!(ids(&ada, "/sessions").await.is_empty());
    ada.get("/sessions/s1").send().await.problem(404, "session_not_found");
}

async fn lists_are_paged(app: TestApp) {
    let (ada, engine) = (caller(&app, "ada", "nworkflow-writer"), caller(&app, "engine", "nworkflow-engine"));
    for id in ["c", "a", "B", "b"] {
        ada.put(&format!("/sessions/{id}"), r#"{"data":{"large":true}}"#).send().await.expect(201);
    }
    let page = ada.get("/sessions?limit=3").send().await.expect(200);
    assert!(!page.text().contains("large") && page.header("etag").is_none());
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(ids(&ada, "/sessions?limit=3").await, ["B", "a", "b"]);
    assert_eq!(ids(&ada, &format!("/sessions?limit=3&cursor={cursor}")).await, ["c"]);
    // A cursor belongs to whose list it is.
    engine.get(&format!("/sessions?cursor={cursor}")).send().await.problem(400, "invalid_cursor");
    ada.get("/sessions?cursor=x").send().await.problem(400, "invalid_cursor");
    ada.get("/sessions?limit=0").send().await.problem(400, "invalid_parameter");
}
