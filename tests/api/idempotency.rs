//! `Idempotency-Key` over HTTP: one request, one effect, whoever sends it again and whenever.

use std::sync::Arc;

use futures_util::future::join_all;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::IDEMPOTENCY_SECONDS;
use reqwest::Method;

use super::app::{Answer, Call, Caller, Options, TestApp, no_local_tier};
use super::on_both_stores;
use crate::support::faulty::Behaviour;

on_both_stores!(
    fifty_parallel_requests_have_one_effect,
    another_request_is_refused,
    users_and_tenants_do_not_meet,
    every_answer_is_replayed_as_it_was,
    a_preference_is_not_part_of_the_request,
    a_key_is_forgotten_after_a_day,
    a_refused_write_leaves_the_key_free,
    a_long_wait_is_told,
    a_client_that_left_is_waited_for,
    quotes_are_not_part_of_the_key,
    answers_outlive_the_session,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const VARIABLE: &str = "/variables/workflow:order/v";
/// One path of each kind of resource with a body for it.
const TARGETS: [(&str, &str); 2] = [(STATE, r#"{"marking":{"p":[1E2]}}"#), (VARIABLE, r#"{"value":[1E2]}"#)];

fn keyed(caller: &Caller, path: &str, body: &str, key: &str) -> Call {
    caller.put(path, body).header("idempotency-key", key)
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed").is_some_and(|value| value == "true")
}

async fn version(caller: &Caller, path: &str) -> String {
    caller.get(path).send().await.expect(200).etag().to_owned()
}

async fn fifty_parallel_requests_have_one_effect(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let puts = join_all((0..50).map(|_| keyed(&ada, path, body, path).send())).await;
        let first = &puts[0].body;
        assert!(puts.iter().all(|put| put.status == 201 && put.body == *first && put.etag() == "\"1\""), "{path}: {puts:?}");
        assert_eq!(puts.iter().filter(|put| is_replayed(put)).count(), 49, "{path}");
        assert_eq!(version(&ada, path).await, "\"1\"");
        let deletes = join_all((0..50).map(|_| ada.delete(path).header("idempotency-key", "delete").header("x-of", path).send())).await;
        // The second target's path is another request under the same key.
        if path == STATE {
            assert!(deletes.iter().all(|delete| delete.status == 204), "{deletes:?}");
            assert_eq!(deletes.iter().filter(|delete| is_replayed(delete)).count(), 49);
            assert_eq!(ada.put(path, body).send().await.expect(201).etag(), "\"3\"");
        } else {
            deletes.into_iter().for_each(|delete| drop(delete.problem(422, "idempotency_key_reused")));
            assert_eq!(version(&ada, path).await, "\"1\"");
        }
    }
}

async fn another_request_is_refused(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let put = |path: &str, body: &str| keyed(&ada, path, body, path.split('?').next().unwrap());
        keyed(&ada, path, body, path).send().await.expect(201);
        let other_body = body.replace("1E2", "100");
        let other_path = path.replace("e1", "e2").replace("order/v", "order/w");
        let others = [
            put(path, &other_body),
            put(path, &format!("{body} ")),
            keyed(&ada, &other_path, body, path),
            put(&format!("{path}?a=1"), body),
            put(path, body).without("content-type").header("content-type", "application/json; charset=utf-8"),
            put(path, body).without("content-type"),
            put(path, body).header("if-match", "\"1\""),
            put(path, body).header("if-match", "*"),
            put(path, body).header("if-match", "\"7\""),
            put(path, body).header("if-match", "\"1\", \"2\""),
            put(path, body).header("if-match", "\"7\", \"8\""),
            put(path, body).header("if-none-match", "*"),
            put(path, body).header("if-none-match", "\"1\""),
            put(path, body).header("if-none-match", "\"7\""),
            ada.call(Method::DELETE, path).header("idempotency-key", path),
        ];
        for other in others {
            let answer = other.send().await.problem(422, "idempotency_key_reused");
            assert!(!is_replayed(&answer) && answer.header("etag").is_none());
        }
        assert_eq!(version(&ada, path).await, "\"1\"", "a refused request writes nothing");
        ada.get(&other_path).send().await.expect(404);
        assert!(is_replayed(&keyed(&ada, path, body, path).send().await.expect(201)));
    }
}

async fn users_and_tenants_do_not_meet(app: TestApp) {
    let caller = |tenant: &str, subject: &str| app.bearer(app.token(tenant, subject, &["nworkflow-writer"]));
    let (ada, bob, eve) = (caller("acme", "ada"), caller("acme", "bob"), caller("other", "ada"));
    for (path, body) in TARGETS {
        let first = keyed(&ada, path, body, path).send().await.expect(201);
        let of_bob = keyed(&bob, path, body, path).send().await.expect(200);
        assert!(!is_replayed(&of_bob) && of_bob.json()["updated_by"] == "bob" && of_bob.etag() == "\"2\"");
        let of_eve = keyed(&eve, path, body, path).send().await.expect(201);
        assert!(!is_replayed(&of_eve) && of_eve.json()["updated_by"] == "ada" && of_eve.etag() == "\"1\"");
        // Each key leads to its own user's answer from then on, also with another body.
        for (who, answer) in [(&ada, first), (&bob, of_bob), (&eve, of_eve)] {
            let again = keyed(who, path, body, path).send().await;
            assert!(is_replayed(&again) && again.body == answer.body && again.status == answer.status);
        }
    }
    let mine = keyed(&ada, "/variables/user:me/secret-of-ada", r#"{"value":"swordfish"}"#, "mine").send().await.expect(201);
    assert!(mine.text().contains("swordfish"));
    let of_bob = keyed(&bob, "/variables/user:me/secret-of-ada", r#"{"value":"bob's"}"#, "mine").send().await.expect(201);
    assert!(!is_replayed(&of_bob) && !of_bob.text().contains("swordfish"), "{}", of_bob.text());
    keyed(&bob, "/variables/user:ada/secret-of-ada", r#"{"value":"swordfish"}"#, "other").send().await.problem(404, "scope_not_found");
}

async fn every_answer_is_replayed_as_it_was(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let key = |name: &str| format!("{path} {name}");
        let later = body.replace("1E2", "7");
        let created = keyed(&ada, path, body, &key("create")).send().await.expect(201);
        let replaced = keyed(&ada, path, &later, &key("replace")).header("if-match", "\"1\"").send().await.expect(200);
        let delete = || ada.delete(path).header("idempotency-key", &key("delete")).header("if-match", "\"2\"");
        delete().send().await.expect(204);
        keyed(&ada, path, body, &key("again")).send().await.expect(201);
        for _ in 0..2 {
            let again = keyed(&ada, path, body, &key("create")).send().await.expect(201);
            assert!(is_replayed(&again) && again.body == created.body && again.etag() == "\"1\"");
            assert_eq!(again.header("location"), created.header("location"));
            let again = keyed(&ada, path, &later, &key("replace")).header("if-match", "\"1\"").send().await.expect(200);
            assert!(is_replayed(&again) && again.body == replaced.body && again.etag() == "\"2\"");
            let again = delete().send().await.expect(204);
            assert!(is_replayed(&again) && again.body.is_empty());
        }
        assert_eq!(version(&ada, path).await, "\"4\"", "a replay writes nothing");
    }
}

async fn a_preference_is_not_part_of_the_request(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let full = keyed(&ada, path, body, path).send().await.expect(201);
        let minimal = keyed(&ada, path, body, path).header("prefer", "return=minimal").send().await.expect(204);
        assert!(is_replayed(&minimal) && minimal.body.is_empty() && minimal.etag() == "\"1\"");
        assert_eq!(minimal.header("location"), full.header("location"));
        let second = format!("{path} 2");
        let minimal = keyed(&ada, path, body, &second).header("prefer", "return=minimal").send().await.expect(204);
        assert!(!is_replayed(&minimal) && minimal.etag() == "\"2\"");
        let full = keyed(&ada, path, body, &second).header("prefer", "return=representation").send().await.expect(200);
        assert!(is_replayed(&full) && full.json()["version"] == 2, "{}", full.text());
    }
}

async fn a_key_is_forgotten_after_a_day(app: TestApp) {
    for (path, body) in TARGETS {
        keyed(&app.admin("acme"), path, body, path).send().await.expect(201);
        app.clock.advance_seconds(IDEMPOTENCY_SECONDS - 60);
        // The tokens are of that day, too.
        assert!(is_replayed(&keyed(&app.admin("acme"), path, body, path).send().await.expect(201)));
        keyed(&app.admin("acme"), path, &body.replace("1E2", "7"), path).send().await.problem(422, "idempotency_key_reused");
        app.clock.advance_seconds(120);
        let second = keyed(&app.admin("acme"), path, &body.replace("1E2", "7"), path).send().await.expect(200);
        assert!(!is_replayed(&second) && second.etag() == "\"2\"");
        keyed(&app.admin("acme"), path, body, path).send().await.problem(422, "idempotency_key_reused");
    }
}

async fn a_refused_write_leaves_the_key_free(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let key = |call: Call| call.header("idempotency-key", path);
        key(ada.put(path, body)).header("if-match", "\"1\"").send().await.problem(412, "precondition_failed");
        key(ada.put(path, body)).header("if-match", "\"1\", \"2\"").send().await.problem(412, "precondition_failed");
        key(ada.put(path, "{}")).send().await.problem(422, "missing_member");
        key(ada.put(path, "{")).send().await.problem(400, "invalid_json");
        assert_eq!(key(ada.delete(path)).send().await.status, 404);
        let created = key(ada.put(path, body)).send().await.expect(201);
        assert!(!is_replayed(&created) && created.etag() == "\"1\"");
        key(ada.put(path, body)).header("if-match", "\"1\"").send().await.problem(422, "idempotency_key_reused");
    }
}

async fn a_long_wait_is_told(app: TestApp) {
    let server = app.beside(Options::default().set("limits.idempotency_wait_ms", "50")).await;
    let ada = server.admin("acme");
    for (path, body) in TARGETS {
        app.faults.set(Behaviour::Hold);
        let first = server.lifecycle.spawn(keyed(&ada, path, body, path).send());
        app.faults.wait_for_calls(1).await;
        for _ in 0..3 {
            let told = keyed(&ada, path, body, path).send().await.problem(409, "idempotency_in_flight");
            assert_eq!(told.header("retry-after"), Some("1"));
        }
        keyed(&ada, path, "{\"other\":1}", path).send().await.expect(400);
        // Another user's equal key waits for nobody.
        let bob = server.bearer(server.token("acme", "bob", &["nworkflow-writer"]));
        let of_bob = server.lifecycle.spawn(keyed(&bob, path, body, path).send());
        app.faults.wait_for_calls(2).await;
        app.faults.set(Behaviour::Pass);
        let (first, of_bob) = (first.await.unwrap(), of_bob.await.unwrap());
        assert!(!is_replayed(&first) && first.status.is_success(), "{first:?}");
        assert!(!is_replayed(&of_bob) && of_bob.status.is_success(), "{of_bob:?}");
        let again = keyed(&ada, path, body, path).send().await;
        assert!(is_replayed(&again) && again.body == first.body && again.status == first.status);
        assert_eq!(version(&ada, path).await, "\"2\"");
    }
}

async fn a_client_that_left_is_waited_for(app: TestApp) {
    let server = app.beside(Options::default().set("limits.idempotency_wait_ms", "50")).await;
    let ada = server.admin("acme");
    for (path, body) in TARGETS {
        app.faults.set(Behaviour::HoldWriteAnswers);
        let first = keyed(&ada, path, body, path).header("x-request-timeout-ms", "400").send();
        let (first, ()) = tokio::join!(first, app.faults.wait_for_calls(1));
        first.problem(504, "deadline_exceeded");
        keyed(&ada, path, body, path).send().await.problem(409, "idempotency_in_flight");
        app.faults.set(Behaviour::Pass);
        let answer = loop {
            let answer = keyed(&ada, path, body, path).send().await;
            if answer.status != 409 {
                break answer.expect(201);
            }
        };
        assert!(is_replayed(&answer), "the write went on without its client");
        assert_eq!(version(&ada, path).await, "\"1\"");
    }
}

async fn quotes_are_not_part_of_the_key(app: TestApp) {
    let ada = app.admin("acme");
    for (path, body) in TARGETS {
        let key = |key: &str| keyed(&ada, path, body, &key.replace("KEY", path));
        key("\"KEY\"").send().await.expect(201);
        assert!(is_replayed(&key("KEY").send().await.expect(201)));
        assert!(is_replayed(&key("\"KEY\"").send().await.expect(201)));
        for (number, other) in ["KEY\"", "\"KEY", "\"\"KEY\"\"", "key KEY", "K\"KEY"].into_iter().enumerate() {
            let answer = key(other).send().await.expect(200);
            assert!(!is_replayed(&answer) && answer.json()["version"] == number + 2, "{other}");
        }
        for bad in ["", "\"\"", "a\tb", &"x".repeat(256)] {
            key(bad).send().await.problem(400, "invalid_header");
        }
        key("KEY").header("idempotency-key", path).send().await.problem(400, "invalid_header");
        let longest = format!("{path}{}", "x".repeat(255 - path.len()));
        key(&longest).send().await;
        assert!(is_replayed(&key(&longest).send().await));
    }
}

async fn answers_outlive_the_session(app: TestApp) {
    let caller = |subject: &str| app.bearer(app.token("acme", subject, &["nworkflow-writer"]));
    let (ada, bob) = (caller("ada"), caller("bob"));
    let scope = "/variables/session:s1";
    // A list of versions makes the write a compare-and-set.
    let versions: Vec<String> = (1..30).map(|version| format!("\"{version}\"")).collect();
    let versions = versions.join(", ");
    let calls = |who: &Caller| -> Vec<Call> {
        let path = |name: &str| format!("{scope}/{name}");
        let calls = [
            who.put(&path("a"), r#"{"value":{"a": 1E2 }}"#),
            who.put(&path("a"), r#"{"value":2}"#).header("if-match", &versions),
            who.post(&path("n/increment"), r#"{"by":2}"#),
            who.merge(&path("a"), r#"{"value":3}"#),
            who.operate(&path("a"), r#"[{"op":"replace","path":"/value","value":[1.0]}]"#),
            who.call(Method::PATCH, scope).header("content-type", "application/json").body(r#"{"set":{"b":1},"delete":["n"]}"#),
            who.delete(&path("b")),
            who.call(Method::DELETE, scope),
        ];
        calls.into_iter().enumerate().map(|(index, call)| call.header("idempotency-key", &format!("k{index}"))).collect()
    };
    ada.put("/sessions/s1", r#"{"data":1,"ttl_seconds":1000}"#).send().await.expect(201);
    let mut first = Vec::new();
    for call in calls(&ada) {
        let answer = call.send().await;
        assert!(answer.status.is_success() && !is_replayed(&answer), "{}: {}", answer.what, answer.text());
        first.push(answer);
    }
    // While the session lives, when it has expired, when it was deleted, and when its id is another user's.
    for life in 0..4 {
        match life {
            1 => app.clock.advance_seconds(1000),
            2 => {
                ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
                ada.delete("/sessions/s1").send().await.expect(204);
            }
            3 => drop(bob.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201)),
            _ => {}
        }
        for (call, first) in calls(&ada).into_iter().zip(&first) {
            let again = call.send().await;
            assert!(is_replayed(&again), "{life} {}: {}", again.what, again.text());
            assert_eq!((again.status, &again.body, again.header("etag")), (first.status, &first.body, first.header("etag")), "{life}");
        }
        // Another request under the key is told so, as ever.
        let other = keyed(&ada, &format!("{scope}/a"), r#"{"value":9}"#, "k0").send().await;
        assert_eq!(other.verdict(), (422, "idempotency_key_reused".into()), "{life}");
        // Whoever has no answer of his own is told nothing, and a key that was refused stays free.
        let (other, prefix) = if life == 3 { (&ada, "new ") } else { (&bob, "") };
        for (index, call) in calls(other).into_iter().enumerate() {
            let call = call.without("idempotency-key").header("idempotency-key", &format!("{prefix}k{index}"));
            call.send().await.problem(404, "session_not_found");
        }
    }
    // Bob's own session under that id takes his keys, which no refusal has used up.
    for call in calls(&bob) {
        let answer = call.send().await;
        assert!(answer.status.is_success() && !is_replayed(&answer), "{}: {}", answer.what, answer.text());
    }
    assert_eq!(bob.get(scope).send().await.expect(200).json()["items"], serde_json::json!([]));
    // After a day it is as any session that is not there.
    app.clock.advance_seconds(IDEMPOTENCY_SECONDS + 60);
    for call in calls(&caller("ada")) {
        call.send().await.problem(404, "session_not_found");
    }
}

/// Two servers know nothing of each other but the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_have_one_effect() {
    let one = TestApp::postgres().await;
    let clock = Clock::new();
    let store = Arc::new(one.database.as_ref().unwrap().store(clock.clone()).await);
    let local = no_local_tier(&Options::default().config(), clock.clone());
    let two = TestApp::over(store, local, Options::default(), tempfile::tempdir().unwrap(), clock, Lifecycle::new()).await;
    let (mut effects, mut waits) = (0, 0);
    for round in 0..25 {
        for (target, (path, body)) in TARGETS.into_iter().enumerate() {
            let key = format!("{round} {target}");
            let calls = [&one, &two].map(|app| app.admin("acme"));
            let calls = (0..8).map(|number| keyed(&calls[number % 2], path, body, &key).send());
            let answers = join_all(calls).await;
            let effective: Vec<_> = answers.iter().filter(|answer| answer.status.is_success() && !is_replayed(answer)).collect();
            assert_eq!(effective.len(), 1, "{round}: {answers:?}");
            effects += 1;
            for answer in &answers {
                // A server that met the other's uncommitted key twice may send its client to wait.
                if answer.status == 409 {
                    assert_eq!(answer.verdict().1, "idempotency_in_flight");
                    waits += 1;
                    continue;
                }
                assert_eq!((&answer.body, answer.status), (&effective[0].body, effective[0].status), "{round}");
            }
            assert_eq!(effective[0].json()["version"], round + 1);
        }
        // Different requests under one key: one of them is refused.
        let (state, variable) = (TARGETS[0], TARGETS[1]);
        let (path, other) = (format!("{}{round}", state.0.replace("/state", "-")), format!("{}-{round}", variable.0));
        let key = format!("{round} both");
        let (path, callers) = (format!("{path}/state"), [&one, &two].map(|app| app.admin("acme")));
        let calls = [keyed(&callers[0], &path, state.1, &key), keyed(&callers[1], &other, variable.1, &key)];
        let statuses: Vec<u16> = join_all(calls.map(Call::send)).await.iter().map(|answer| answer.status.as_u16()).collect();
        assert!(matches!(statuses[..], [201, 422] | [422, 201]), "{round}: {statuses:?}");
        let there = join_all([callers[0].get(&path), callers[0].get(&other)].map(Call::send)).await;
        assert_eq!(there.iter().filter(|answer| answer.status == 200).count(), 1, "{round}");
    }
    assert_eq!(effects, 50);
    assert!(waits < 50, "two servers rather wait than answer: {waits}");
}
