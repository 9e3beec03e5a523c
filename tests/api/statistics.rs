//! Operators' routes over HTTP: figures, and emptying the cache.

use reqwest::Method;
use serde_json::Value;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(statistics_have_exactly_their_members, a_cleared_cache_is_filled_again, what_was_made_is_at_hand);

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn statistics_have_exactly_their_members(app: TestApp) {
    let ada = app.admin("acme");
    let stats = ada.get("/stats").send().await.expect(200).json();
    let mut names = members(&stats);
    names.sort_unstable();
    let wanted = "cache_entry_count dragonfly_connected local_tier local_variable_count postgres_connected second_tier store uptime_seconds version writes";
    assert_eq!(names.join(" "), wanted);
    for (part, wanted) in [
        ("local_tier", "bytes capacity_bytes enabled entries hit_rate hits misses"),
        ("second_tier", "breaker connected enabled entries hit_rate hits misses"),
        ("writes", "groups queue_capacity queue_depth rows_per_group"),
    ] {
        let mut names = members(&stats[part]);
        names.sort_unstable();
        assert_eq!(names.join(" "), wanted);
    }
    let on_postgres = app.database.is_some();
    assert_eq!(stats["postgres_connected"], on_postgres);
    assert_eq!(
        (&stats["store"]["backend"], &stats["store"]["connected"]),
        (&Value::from(if on_postgres { "postgres" } else { "sqlite" }), &Value::from(true))
    );
    app.bearer(app.token("acme", "w", &["nworkflow-writer"])).get("/stats").send().await.problem(403, "permission_missing");
}

/// Every write that makes something leaves it in the cache: the first read needs no store.
async fn what_was_made_is_at_hand(app: TestApp) {
    let ada = app.admin("acme");
    let (state, checkpoint) = ("/workflows/w/executions/e/state", "/workflows/w/executions/e/checkpoints/c");
    let wanted = if app.database.is_none() { "nworkflow-local; hit" } else { "nworkflow-store; fwd=miss" };
    let at_hand = |path: &'static str, body: Option<Vec<u8>>| {
        let ada = ada.clone();
        async move {
            let read = ada.get(path).send().await.expect(200);
            assert_eq!(read.header("cache-status"), Some(wanted), "{path}");
            let loaded = ada.get(path).header("cache-control", "no-cache").send().await.expect(200);
            assert_eq!((&read.body, read.etag()), (&loaded.body, loaded.etag()), "{path}");
            assert!(body.is_none_or(|body| body == read.body), "{path}");
        }
    };
    let batch = |scope: &str, body: &'static str| {
        let call = ada.call(Method::PATCH, &format!("/variables/{scope}")).header("content-type", "application/json").body(body);
        async { call.send().await.expect(200) }
    };
    ada.put(state, r#"{"marking":{"p": 1}}"#).send().await.expect(201);
    at_hand(state, None).await;
    let made = ada.post("/workflows/w/executions/e/checkpoints", r#"{"checkpoint_id":"c","label":"x"}"#).send().await.expect(201);
    at_hand(checkpoint, Some(made.body.to_vec())).await;
    let forked = ada.post(&format!("{checkpoint}/fork"), r#"{"execution_id":"f"}"#).send().await.expect(201);
    at_hand("/workflows/w/executions/f/state", Some(forked.body.to_vec())).await;
    ada.post(&format!("{checkpoint}/restore"), "").send().await.expect(200);
    at_hand(state, None).await;
    let begun = ada.post("/sessions", r#"{"session_id":"s","data":{"a": 1},"sliding":true}"#).send().await.expect(201);
    at_hand("/sessions/s", Some(begun.body.to_vec())).await;
    batch("global", r#"{"set":{"x":[ 1],"y":null}}"#).await;
    at_hand("/variables/global/x", None).await;
    at_hand("/variables/global/y", None).await;
    batch("session:s", r#"{"set":{"x":1}}"#).await;
    at_hand("/variables/session:s/x", None).await;
    batch("session:s", r#"{"set":{"y":1},"delete":["x"]}"#).await;
    ada.get("/variables/session:s/x").send().await.problem(404, "variable_not_found");
}

async fn a_cleared_cache_is_filled_again(app: TestApp) {
    let ada = app.admin("acme");
    let path = "/variables/global/x";
    ada.put(path, r#"{"value":1}"#).send().await.expect(201);
    ada.get(path).send().await.expect(200);
    let second = ada.get(path).send().await.expect(200);
    let cached = app.database.is_none();
    let wanted = if cached { "nworkflow-local; hit" } else { "nworkflow-store; fwd=miss" };
    assert_eq!(second.header("cache-status"), Some(wanted));
    let count = ada.get("/stats").send().await.expect(200).json()["local_variable_count"].as_i64();
    assert_eq!(count, Some(i64::from(cached)));
    let cleared = ada.delete("/cache").send().await.expect(200).json();
    assert_eq!(cleared["local_entries_removed"].as_i64() > Some(0), cached, "{cleared}");
    assert_eq!(ada.get("/stats").send().await.expect(200).json()["cache_entry_count"], 0);
    let again = ada.get(path).send().await.expect(200);
    assert_eq!((again.header("cache-status"), &again.body), (Some("nworkflow-store; fwd=miss"), &second.body));
    let bypassed = ada.get(path).header("cache-control", "no-cache").send().await.expect(200);
    assert_eq!(bypassed.header("cache-status"), Some("nworkflow-store; fwd=bypass"));
    ada.delete("/cache?tier=second").send().await.problem(400, "invalid_parameter");
    app.bearer(app.token("acme", "w", &["nworkflow-writer"])).delete("/cache").send().await.problem(403, "permission_missing");
}
