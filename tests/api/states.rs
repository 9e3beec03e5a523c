//! States over HTTP.

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(a_state_goes_in_and_comes_back_byte_for_byte);

const STATE: &str = "/workflows/order/executions/e1/state";

async fn a_state_goes_in_and_comes_back_byte_for_byte(app: TestApp) {
    let ada = app.admin("acme");
    let body = r#"{ "marking" : {"p1": 1 , "r\u0041":[ 1.0,{"b":1E2, "a":-0},"\ud83d\ude00"]} , "metadata":{"z":1,  "a":0.10} }"#;
    let created = ada.put(STATE, body).send().await.expect(201);
    assert_eq!((created.etag(), created.header("location")), ("\"1\"", Some(STATE)));
    let loaded = ada.get(STATE).send().await.expect(200);
    assert_eq!(loaded.body, created.body);
    assert_eq!(loaded.header("cache-control"), Some("private, no-cache"));
    assert_eq!(loaded.header("cache-status"), Some("nworkflow-store; fwd=miss"));
    assert!(loaded.text().contains(r#""marking":{"p1": 1 , "r\u0041":[ 1.0,{"b":1E2, "a":-0},"\ud83d\ude00"]}"#), "{}", loaded.text());
    assert!(loaded.text().contains(r#""metadata":{"z":1,  "a":0.10}"#), "{}", loaded.text());
    let json = loaded.json();
    assert_eq!(
        (json["status"].as_str(), json["schema_version"].as_i64(), json["updated_by"].as_str()),
        (Some("running"), Some(1), Some("admin"))
    );
    assert_eq!(json["created_at"], json["updated_at"]);
}
