//! Headers of answers that go with more than one resource: caching, and which patches are taken.

use nworkflow_state::http::surface;
use reqwest::Method;

use super::app::{Answer, DOCUMENT, TestApp};
use super::on_both_stores;

on_both_stores!(
    every_read_says_that_it_may_not_be_shared,
    every_read_says_which_tier_answered,
    a_refused_patch_is_told_what_is_taken,
    what_the_document_says_of_headers_is_so,
    what_is_absent_names_a_tier_where_the_document_says_so,
    what_belongs_to_no_operation_is_described_with_its_headers,
    a_delete_without_a_representation_applies_no_preference,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const VARIABLE: &str = "/variables/workflow:order/x";
const CHECKPOINT: &str = "/workflows/order/executions/e1/checkpoints/c1";

async fn every_read_says_that_it_may_not_be_shared(app: TestApp) {
    let (ada, anyone) = (app.admin("acme"), app.anonymous());
    let check = |answer: &Answer, status: u16| {
        assert_eq!(answer.status.as_u16(), status, "{}: {}", answer.what, answer.text());
        let caching: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        assert_eq!(caching, ["private, no-cache"], "{}", answer.what);
    };
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for (path, status) in [
        (STATE, 200),
        ("/workflows", 200),
        ("/workflows/order/executions/none/state", 404),
        ("/variables/workflow:order/none", 404),
        ("/sessions/none", 404),
        ("/variables/session:none/x", 404),
        (CHECKPOINT, 404),
        ("/workflows/order/executions/none/state/history", 404),
        ("/workflows/a%20b/executions", 400),
        ("/variables/nothing/x", 400),
        ("/variables/global?limit=0", 400),
        ("/workflows/order/executions/e1/state?at=soon", 400),
        ("/stats", 200),
        ("/health/live", 200),
        ("/limits", 200),
        ("/openapi.json", 200),
        ("/errors", 200),
        ("/nowhere", 404),
    ] {
        for method in [Method::GET, Method::HEAD] {
            check(&ada.call(method, path).send().await, status);
        }
    }
    check(&ada.get(STATE).header("if-none-match", "\"1\"").send().await, 304);
    check(&ada.get(STATE).header("if-match", "\"2\"").send().await, 412);
    check(&ada.get(STATE).header("x-min-version", "2").send().await, 412);
    check(&ada.get(STATE).header("x-min-version", "x").send().await, 400);
    check(&anyone.get(STATE).send().await, 401);
    // Writes say nothing of it.
    assert!(ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(200).header("cache-control").is_none());
}

async fn every_read_says_which_tier_answered(app: TestApp) {
    let ada = app.admin("acme");
    // On PostgreSQL there is no cache that could know.
    let known = if app.database.is_none() { "nworkflow-local; hit" } else { "nworkflow-store; fwd=miss" };
    for path in [STATE, VARIABLE, CHECKPOINT] {
        let tier = async |headers: &[(&str, &str)], status: u16| {
            let call = headers.iter().fold(ada.get(path), |call, (name, value)| call.header(name, value));
            let answer = call.send().await.expect(status);
            answer.header("cache-status").map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(tier(&[], 404).await, "nworkflow-store; fwd=miss");
        assert_eq!(tier(&[], 404).await, known, "{path}: a negative hit");
        assert_eq!(tier(&[("if-match", "*")], 412).await, known);
        assert_eq!(tier(&[("cache-control", "no-cache")], 404).await, "nworkflow-store; fwd=bypass");
        assert_eq!(tier(&[("cache-control", "no-cache"), ("if-match", "\"1\"")], 412).await, "nworkflow-store; fwd=bypass");
        // Nothing that a cache knows is as recent.
        assert_eq!(tier(&[("x-min-version", "7")], 412).await, "nworkflow-store; fwd=miss");
    }
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for (path, status) in [(format!("{STATE}?version=9"), 404), (format!("{STATE}/history/9"), 404), (format!("{STATE}?version=1"), 200)] {
        let answer = ada.get(&path).send().await.expect(status);
        assert_eq!(answer.header("cache-status"), Some("nworkflow-store; fwd=miss"), "{path}");
    }
    let stale = ada.get(STATE).header("if-match", "\"9\"").send().await.problem(412, "precondition_failed");
    assert_eq!((stale.header("cache-status"), &stale.json()["current_version"]), (Some(known), &1.into()));
    // Who knew a session that is not there is not told: it would tell whether somebody else has it.
    for _ in 0..2 {
        assert!(ada.get("/sessions/none").send().await.problem(404, "session_not_found").header("cache-status").is_none());
    }
    // What asks no tier names none.
    assert!(ada.get(&format!("{STATE}?limit=x&version=x")).send().await.expect(400).header("cache-status").is_none());
    assert!(ada.put(STATE, "{}").send().await.expect(422).header("cache-status").is_none());
}

async fn a_refused_patch_is_told_what_is_taken(app: TestApp) {
    let ada = app.admin("acme");
    let patches = Some("application/merge-patch+json, application/json-patch+json");
    for (path, taken) in
        [(STATE, patches), (VARIABLE, patches), ("/sessions/s1", patches), ("/variables/workflow:order", Some("application/json"))]
    {
        for (name, value) in
            [("content-type", "text/plain"), ("content-type", "application/json; charset=latin-1"), ("content-encoding", "br")]
        {
            let call = ada.call(Method::PATCH, path).body("{}").header(name, value);
            let refused = call.send().await.problem(415, "unsupported_media_type");
            assert_eq!(refused.header("accept-patch"), taken, "{path}");
        }
        assert!(ada.merge(path, "{").without("content-type").send().await.expect(400).header("accept-patch").is_none());
    }
    let put = ada.put(STATE, "{}").without("content-type").header("content-type", "text/plain").send().await.expect(415);
    assert!(put.header("accept-patch").is_none());
}

async fn what_the_document_says_of_headers_is_so(app: TestApp) {
    let ada = app.admin("acme");
    let declared = |path: &str, method: &str, status: u16, header: &str| -> bool {
        DOCUMENT["paths"][path][method]["responses"][status.to_string()]["headers"].get(header).is_some()
    };
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    let one = "/sessions/{session_id}";
    for (call, path, method, status) in [
        (ada.post("/sessions", r#"{"data":1}"#), "/sessions", "post", 201),
        (ada.post("/sessions", r#"{"data":1}"#).header("prefer", "return=minimal"), "/sessions", "post", 204),
        (ada.put("/sessions/s1", r#"{"data":1}"#), one, "put", 200),
        (ada.merge("/sessions/s1", "{}"), one, "patch", 200),
        (ada.get("/sessions/s1"), one, "get", 200),
        (ada.head("/sessions/s1"), one, "head", 200),
        (ada.get("/sessions/s1").header("if-none-match", "*"), one, "get", 304),
        (ada.post("/sessions/s1/extend", r#"{"additional_seconds":1}"#), "/sessions/{session_id}/extend", "post", 200),
        (ada.delete("/sessions/s1"), one, "delete", 204),
        (ada.get("/sessions"), "/sessions", "get", 200),
    ] {
        let answer = call.send().await.expect(status);
        assert_eq!(answer.header("session-expires").is_some(), declared(path, method, status, "Session-Expires"), "{}", answer.what);
    }
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        let Some(patch) = item.get("patch") else { continue };
        assert!(patch["requestBody"]["content"].get("application/json").is_some(), "{path}");
        assert!(declared(path, "patch", 415, "Accept-Patch") && !declared(path, "patch", 400, "Accept-Patch"), "{path}");
        let is_single = patch["requestBody"]["content"].get("application/merge-patch+json").is_some();
        assert!(!is_single || patch["description"].as_str().unwrap().contains("cannot store `null`"), "{path}");
        let merge = &patch["requestBody"]["content"]["application/merge-patch+json"]["schema"];
        assert!(!is_single || *merge == patch["requestBody"]["content"]["application/json"]["schema"], "{path}");
    }
    for (path, is_required) in [
        ("/variables/{scope}/{name}/increment", false),
        ("/workflows/{workflow_id}/executions/{execution_id}/checkpoints", false),
        ("/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}/restore", false),
        ("/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}/fork", true),
    ] {
        assert_eq!(DOCUMENT["paths"][path]["post"]["requestBody"]["required"], is_required, "{path}");
    }
    for status in [404, 412] {
        assert!(declared("/variables/{scope}/{name}", "get", status, "Cache-Status"));
    }
    assert!(declared("/variables/{scope}", "get", 400, "Cache-Control") && !declared("/variables/{scope}", "patch", 400, "Cache-Control"));
}

async fn what_is_absent_names_a_tier_where_the_document_says_so(app: TestApp) {
    let ada = app.admin("acme");
    let execution = "/workflows/{workflow_id}/executions/{execution_id}";
    for (path, operation) in [
        ("/sessions/none", "/sessions/{session_id}".to_owned()),
        ("/variables/session:none", "/variables/{scope}".to_owned()),
        ("/effective-variables?session_id=none", "/effective-variables".to_owned()),
        (STATE, format!("{execution}/state")),
        (CHECKPOINT, format!("{execution}/checkpoints/{{checkpoint_id}}")),
        ("/workflows/order/executions/e1/state/history", format!("{execution}/state/history")),
        ("/workflows/order/executions/e1/state/history/7", format!("{execution}/state/history/{{version}}")),
        (VARIABLE, "/variables/{scope}/{name}".to_owned()),
    ] {
        let answer = ada.get(path).send().await.expect(404);
        let declared = &DOCUMENT["paths"][&operation]["get"]["responses"]["404"]["headers"];
        assert_eq!(answer.headers.contains_key("cache-status"), declared["Cache-Status"].is_object(), "{path}");
    }
    // No cache has them, and so none answers in place of a database that is away.
    for path in ["/workflows", "/sessions", "/checkpoints", "/variables/{scope}", "/effective-variables"] {
        for (status, answer) in DOCUMENT["paths"][path]["get"]["responses"].as_object().unwrap() {
            assert!(answer["headers"]["Age"].is_null(), "{path} {status}");
        }
    }
}

async fn what_belongs_to_no_operation_is_described_with_its_headers(app: TestApp) {
    let anyone = app.anonymous();
    // Those that the document describes at its beginning, for all answers.
    let always = DOCUMENT["info"]["description"].as_str().unwrap().to_lowercase();
    for (call, name, status) in [
        (anyone.get("/nowhere"), "RouteNotFound", 404),
        (anyone.get("/sessions/s1/extend"), "MethodNotAllowed", 405),
        (anyone.call(Method::POST, STATE), "MethodNotAllowed", 405),
    ] {
        let answer = call.header("x-csrf-token", "fetch").send().await.expect(status);
        let declared = DOCUMENT["components"]["responses"][name]["headers"].as_object().unwrap();
        for header in answer.headers.keys().map(|name| name.as_str()) {
            let is_usual = matches!(header, "content-type" | "content-length" | "date" | "connection");
            let is_declared = declared.keys().any(|name| name.eq_ignore_ascii_case(header));
            assert!(is_usual || is_declared || always.contains(&format!("`{header}`")), "{}: {header}", answer.what);
        }
    }
}

async fn a_delete_without_a_representation_applies_no_preference(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    ada.put(VARIABLE, r#"{"value":1}"#).send().await.expect(201);
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    ada.post("/workflows/order/executions/e1/checkpoints", r#"{"checkpoint_id":"c1"}"#).send().await.expect(201);
    let execution = "/workflows/{workflow_id}/executions/{execution_id}";
    for (path, operation) in [
        (VARIABLE, "/variables/{scope}/{name}".to_owned()),
        ("/sessions/s1", "/sessions/{session_id}".to_owned()),
        (CHECKPOINT, format!("{execution}/checkpoints/{{checkpoint_id}}")),
        (STATE, format!("{execution}/state")),
        ("/variables/workflow:order", "/variables/{scope}".to_owned()),
        ("/workflows/order/executions/e1", execution.to_owned()),
    ] {
        let answer = ada.delete(path).header("prefer", "return=minimal").send().await.expect(204);
        let declared = &DOCUMENT["paths"][&operation]["delete"]["responses"]["204"]["headers"];
        assert_eq!(answer.headers.contains_key("preference-applied"), declared["Preference-Applied"].is_object(), "{path}");
    }
}

/// The handshake of SAP's clients: whatever is read takes part in it, and the document says so, without an argument more for generated methods.
#[test]
fn the_document_says_where_a_csrf_token_is_fetched() {
    let older: serde_json::Value = serde_json::from_slice(&surface(true).unwrap().documents.openapi_30).unwrap();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_read = method == "get" || method == "head";
            let asks = |operation: &serde_json::Value| {
                operation["parameters"].as_array().into_iter().flatten().any(|parameter| parameter["name"] == "X-CSRF-Token")
            };
            assert_eq!(asks(operation), is_read, "{method} {path}");
            assert!(!asks(&older["paths"][path][method]), "{method} {path}");
            for document in [&DOCUMENT, &older] {
                for (status, response) in document["paths"][path][method]["responses"].as_object().unwrap() {
                    assert_eq!(response["headers"]["X-CSRF-Token"].is_object(), is_read, "{method} {path} {status}");
                }
            }
        }
    }
}
