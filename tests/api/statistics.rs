//! Operators' routes over HTTP: figures, and emptying the cache.

use serde_json::Value;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(statistics_have_exactly_their_members, a_cleared_cache_is_filled_again);

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
