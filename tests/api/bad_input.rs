//! Bad input: each its own 4xx with the field and the limit, and nothing stored.

use serde_json::Value;

use super::app::TestApp;
use super::on_both_stores;

on_both_stores!(
    bad_states_are_refused,
    bad_variables_are_refused,
    bad_paths_are_refused,
    bad_headers_are_refused,
    bodies_end_at_their_limit,
    what_the_framework_rejects_is_a_problem_too,
    refusals_are_smaller_than_what_they_refuse,
    what_is_no_http_is_a_problem_too,
    a_body_that_waits_to_be_asked_for_is_not_asked_for,
    a_refusal_does_not_wait_for_the_body,
    broken_escapes_are_refused,
);

const STATE: &str = "/workflows/order/executions/e1/state";

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

async fn bad_states_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    let too_deep = format!(r#"{{"marking":{{"p":{}}}}}"#, deep(63));
    let many = format!(r#"{{"marking":{{"p":[{}0]}}}}"#, "0,".repeat(10_000));
    let cases: &[(&str, u16, &str, &str)] = &[
        ("", 400, "invalid_json", "#"),
        ("{", 400, "invalid_json", "#"),
        ("{\"marking\":{}}x", 400, "invalid_json", "#"),
        ("\u{FEFF}{\"marking\":{}}", 400, "invalid_json", "#"),
        (r#"{"marking":{"p":NaN}}"#, 400, "invalid_json", "#/marking/p"),
        (r#"{"marking":{"p":01}}"#, 400, "invalid_json", "#/marking/p"),
        (r#"{"marking":{"p":1,"p":2}}"#, 400, "duplicate_member", "#/marking/p"),
        (r#"{"marking":{},"marking":{}}"#, 400, "duplicate_member", "#/marking"),
        (r#"{"marking":{"p":["\u0000"]}}"#, 400, "nul_not_allowed", "#/marking/p/0"),
        (r#"{"marking":{"p":["\ud800"]}}"#, 400, "lone_surrogate", "#/marking/p/0"),
        (r#"{"marking":{},"version":3}"#, 400, "unknown_member", "#/version"),
        (r#"{"marking":{},"tenant_id":"x"}"#, 400, "unknown_member", "#/tenant_id"),
        (r#"{"marking":{"a\u0007":1}}"#, 400, "invalid_name", "#/marking/a%07"),
        (r#"{"marking":{"..":1}}"#, 400, "invalid_name", "#/marking/.."),
        (r#"{"marking":{"\u202e":1}}"#, 400, "invalid_name", "#/marking/%E2%80%AE"),
        ("[]", 422, "invalid_type", "#"),
        ("null", 422, "invalid_type", "#"),
        ("{}", 422, "missing_member", "#/marking"),
        (r#"{"marking":[]}"#, 422, "invalid_type", "#/marking"),
        (r#"{"marking":{"p":"1"}}"#, 422, "invalid_type", "#/marking/p"),
        (r#"{"marking":{"p":1.5}}"#, 422, "invalid_type", "#/marking/p"),
        (r#"{"marking":{"p":null}}"#, 422, "invalid_type", "#/marking/p"),
        (r#"{"marking":{"p":-1}}"#, 422, "out_of_range", "#/marking/p"),
        (r#"{"marking":{"p":9007199254740992}}"#, 422, "out_of_range", "#/marking/p"),
        (r#"{"marking":{"p":[18446744073709551616]}}"#, 422, "number_out_of_range", "#/marking/p/0"),
        (r#"{"marking":{"p":[1e400]}}"#, 422, "number_out_of_range", "#/marking/p/0"),
        (r#"{"marking":{},"status":"Running"}"#, 422, "invalid_value", "#/status"),
        (r#"{"marking":{},"status":7}"#, 422, "invalid_type", "#/status"),
        (r#"{"marking":{},"metadata":null}"#, 422, "invalid_type", "#/metadata"),
        (r#"{"marking":{},"schema_version":0}"#, 422, "out_of_range", "#/schema_version"),
        (r#"{"marking":{},"schema_version":"1"}"#, 422, "invalid_type", "#/schema_version"),
        (&too_deep, 422, "document_too_deep", &format!("#/marking/p{}", "/0".repeat(62))),
        (&many, 422, "too_many_elements", "#/marking/p"),
    ];
    for (body, status, code, pointer) in cases {
        let problem = ada.put(STATE, *body).send().await.problem(*status, code).json();
        assert_eq!(problem["errors"][0]["pointer"], *pointer, "{body}");
    }
    assert_eq!(ada.put(STATE, too_deep.as_str()).send().await.json()["limit"], 64);
    assert_eq!(ada.put(STATE, many.as_str()).send().await.json()["limit"], 10_000);
    ada.put(STATE, vec![b'"', 0xff, b'"']).send().await.problem(400, "invalid_json");
    ada.get(STATE).send().await.problem(404, "state_not_found");
    ada.get(&format!("{STATE}/history")).send().await.problem(404, "state_not_found");
    // One level less is good.
    ada.put(STATE, format!(r#"{{"marking":{{"p":{}}}}}"#, deep(62))).send().await.expect(201);
}

async fn bad_variables_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    let long = format!(r#"{{"value":1,"description":"{}"}}"#, "é".repeat(513));
    let cases: &[(&str, u16, &str, &str)] = &[
        (r#"{"value":1,"owner":"x"}"#, 400, "unknown_member", "#/owner"),
        (r#"{"value":1,"expires_at":"2030-01-01T00:00:00Z"}"#, 400, "unknown_member", "#/expires_at"),
        (r#"{"value":{"a":1,"a":2}}"#, 400, "duplicate_member", "#/value/a"),
        (r#"{"description":"x"}"#, 422, "missing_member", "#/value"),
        (r#"{"value":1,"secret":"yes"}"#, 422, "invalid_type", "#/secret"),
        (r#"{"value":1,"description":1}"#, 422, "invalid_type", "#/description"),
        (r#"{"value":1,"ttl_seconds":0}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":-5}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":315360001}"#, 422, "out_of_range", "#/ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":1.5}"#, 422, "invalid_type", "#/ttl_seconds"),
        (&long, 422, "text_too_long", "#/description"),
    ];
    for (body, status, code, pointer) in cases {
        let problem = ada.put("/variables/global/x", *body).send().await.problem(*status, code).json();
        assert_eq!(problem["errors"][0]["pointer"], *pointer, "{body}");
    }
    assert!(ada.get("/variables/global").send().await.expect(200).json()["items"].as_array().is_some_and(Vec::is_empty));
}

async fn bad_paths_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    let long_id = "a".repeat(129);
    let long_name = "%C3%A9".repeat(129);
    // The client would rewrite `..` itself, so it is encoded, as an attacker would.
    for (path, status, code) in [
        ("/workflows/a%2Fb/executions/e1/state", 400, "invalid_id"),
        ("/workflows/a:b/executions/e1/state", 400, "invalid_id"),
        ("/workflows/a/executions/e%001/state", 400, "invalid_id"),
        ("/workflows/a/executions/%0Ae/state", 400, "invalid_id"),
        ("/workflows/%C3%A9/executions/e1/state", 400, "invalid_id"),
        ("/workflows/%ff/executions/e1/state", 400, "invalid_path"),
        (&format!("/workflows/{long_id}/executions/e1/state"), 400, "invalid_id"),
        ("/variables/Global/x", 400, "invalid_scope"),
        ("/variables/tenant:x/x", 400, "invalid_scope"),
        ("/variables/workflow:/x", 400, "invalid_scope"),
        ("/variables/workflow:a%2Fb/x", 400, "invalid_scope"),
        ("/variables/session:a:b/x", 400, "invalid_scope"),
        ("/variables/user:/x", 400, "invalid_scope"),
        ("/variables/user:a%00/x", 400, "invalid_scope"),
        ("/variables/global/%00", 400, "invalid_name"),
        ("/variables/global/a%0Ab", 400, "invalid_name"),
        ("/variables/global/%E2%80%8B", 400, "invalid_name"),
        (&format!("/variables/global/{long_name}"), 400, "invalid_name"),
        ("/variables/global/%ff", 400, "invalid_path"),
        ("/workflows//executions/e1/state", 400, "invalid_id"),
        ("/workflows/a/executions/e1/state/", 404, "route_not_found"),
        ("/variables/global/", 404, "route_not_found"),
        ("/variables/global/a/b", 404, "route_not_found"),
        ("/nowhere", 404, "route_not_found"),
    ] {
        ada.get(path).send().await.problem(status, code);
    }
    for (path, limit) in [(format!("/workflows/{long_id}/executions/e1/state"), 128), (format!("/variables/global/{long_name}"), 256)] {
        assert_eq!(ada.get(&path).send().await.json()["limit"], limit);
    }
    assert_eq!(
        ada.get(&format!("/workflows/{}/executions/e1/state", "a".repeat(128))).send().await.verdict(),
        (404, "state_not_found".into())
    );
    // A client that keeps dots as they are: over a socket of its own.
    for (target, expected) in [
        ("/workflows/../executions/e1/state", "invalid_id"),
        ("/workflows/%2e%2e/executions/e1/state", "invalid_id"),
        ("/workflows/./executions/e1/state", "invalid_id"),
        ("/variables/global/..", "invalid_name"),
        ("/variables/global/%2E", "invalid_name"),
        ("/variables/workflow:../x", "invalid_scope"),
    ] {
        let answer = super::raw::get(app.address, target, &app.token("acme", "admin", &["nworkflow-admin"])).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(expected), "{target}: {answer}");
    }
}

async fn broken_escapes_are_refused(app: TestApp) {
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    for template in [
        "/variables/workflow:m/BAD",
        "/variables/BAD/x",
        "/variables/BAD",
        "/sessions/BAD",
        "/workflows/BAD/executions",
        "/workflows/order/executions/BAD/state",
        "/workflows/BAD/executions/e1/state/history/1",
        "/workflows/order/executions/e1/state/history/BAD",
        "/workflows/order/executions/e1/checkpoints/BAD",
        "/errors/BAD",
    ] {
        for bad in ["a%", "%", "%2", "%zz", "a%2gb", "%%41", "%ff", "a%+1"] {
            let target = template.replace("BAD", bad);
            let answer = super::raw::get(app.address, &target, &token).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_path"), "{target}: {answer}");
        }
    }
    let request = format!(
        "PUT /variables/workflow:m/a% HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 11\r\nConnection: close\r\n\r\n{{\"value\":1}}"
    );
    let answer = super::raw::exchange(app.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_path"), "{answer}");
    let ada = app.admin("acme");
    assert_eq!(ada.get("/variables/workflow:m").send().await.expect(200).json()["items"], serde_json::json!([]));
    ada.put("/variables/workflow:m/a%25", r#"{"value":1}"#).send().await.expect(201);
}

async fn bad_headers_are_refused(app: TestApp) {
    let ada = app.admin("acme");
    let put = || ada.put(STATE, r#"{"marking":{}}"#);
    for tag in ["1", "\"x\"", "\"1", "\"0\"", "W/1", "*, \"1\"", "\"1\",,\"2\"", ""] {
        put().header("if-match", tag).send().await.problem(400, "invalid_etag");
        put().header("if-none-match", tag).send().await.problem(400, "invalid_etag");
    }
    let long = "k".repeat(256);
    for key in ["", "\"\"", &long, "a\tb"] {
        put().header("idempotency-key", key).send().await.problem(400, "invalid_header");
    }
    put().header("idempotency-key", "a").header("idempotency-key", "b").send().await.problem(400, "invalid_header");
    for time in ["0", "-1", "soon", "1.5", "+1", "9223372036854775808"] {
        put().header("x-request-timeout-ms", time).send().await.problem(400, "invalid_header");
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json", "application/json; charset=latin-1", "json"]
    {
        put().without("content-type").header("content-type", kind).send().await.problem(415, "unsupported_media_type");
    }
    put().header("content-encoding", "gzip").send().await.problem(415, "unsupported_media_type");
    ada.get(STATE).header("x-min-version", "x").send().await.problem(400, "invalid_header");
    ada.get(STATE).send().await.problem(404, "state_not_found");
    put().without("content-type").header("content-type", "Application/JSON; charset=\"UTF-8\"").send().await.expect(201);
    let huge = "x".repeat(40_000);
    let refused = ada.get(STATE).header("x-filler", &huge).send().await.problem(431, "headers_too_large");
    assert_eq!(refused.json()["limit"], 32_768);
    let refused = ada.get(&format!("{STATE}?x={}", "y".repeat(9000))).send().await.problem(414, "uri_too_long");
    assert_eq!(refused.json()["limit"], 8192);
}

async fn bodies_end_at_their_limit(app: TestApp) {
    let ada = app.admin("acme");
    for (path, prefix, limit) in
        [(STATE, r#"{"marking":{},"metadata":{"x":""#, 8_388_608), ("/variables/global/x", r#"{"value":{"x":""#, 1_048_576)]
    {
        let body = |size: usize| format!("{prefix}{}\"}}}}", "a".repeat(size - prefix.len() - 3));
        let refused = ada.put(path, body(limit + 1)).send().await.problem(413, "body_too_large");
        assert_eq!(refused.json()["limit"], limit);
        ada.get(path).send().await.expect(404);
        ada.put(path, body(limit)).send().await.expect(201);
        let chunked =
            super::raw::put_chunked(app.address, path, &app.token("acme", "admin", &["nworkflow-admin"]), body(limit + 1).as_bytes()).await;
        assert!(chunked.starts_with("HTTP/1.1 413 ") && chunked.contains("body_too_large"), "{chunked}");
    }
}

async fn what_the_framework_rejects_is_a_problem_too(app: TestApp) {
    let ada = app.admin("acme");
    let refused = ada.call(reqwest::Method::POST, STATE).send().await.problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("PUT,GET,HEAD,PATCH,DELETE,OPTIONS"));
    ada.call(reqwest::Method::TRACE, STATE).send().await.problem(405, "method_not_allowed");
    let options = app.anonymous().call(reqwest::Method::OPTIONS, STATE).send().await.expect(204);
    assert_eq!(options.header("allow"), Some("PUT,GET,HEAD,PATCH,DELETE,OPTIONS"));
    app.anonymous().call(reqwest::Method::OPTIONS, "/nowhere").send().await.problem(404, "route_not_found");
    app.anonymous().get("/errors/no_such_code").send().await.problem(404, "error_not_found");
    let problem: Value = ada.get("/nowhere").header("x-request-id", "trace-7").send().await.problem(404, "route_not_found").json();
    assert_eq!((&problem["request_id"], &problem["instance"]), (&"trace-7".into(), &"/nowhere".into()));
    let problem: Value = ada.get("/nowhere").header("x-request-id", "two words").send().await.json();
    assert_eq!(problem["request_id"].as_str().map(str::len), Some(36));
}

async fn refusals_are_smaller_than_what_they_refuse(app: TestApp) {
    let ada = app.admin("acme");
    let many: Vec<String> = (0..100_000).map(|index| format!("\"m{index}\":1")).collect();
    let long = "\u{80}".repeat(400_000);
    for body in [format!("{{{}}}", many.join(",")), format!("{{\"{long}\":1}}"), format!("{{\"marking\":{{\"{long}\":-1}}}}")] {
        for path in [STATE, "/variables/global/x"] {
            let refused = ada.put(path, body.clone().into_bytes()).send().await;
            assert!(refused.status.is_client_error() && refused.body.len() < 20_000, "{} {}", refused.status, refused.body.len());
        }
    }
}

async fn what_is_no_http_is_a_problem_too(app: TestApp) {
    let tiny: String = (0..300).map(|index| format!("x-{index}: 1\r\n")).collect();
    let huge = "x".repeat(200_000);
    for (request, status, code) in [
        ("GET /x y HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400, "invalid_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400, "invalid_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n".to_owned(), 400, "invalid_request"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {huge}\r\n\r\n"), 431, "headers_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{tiny}\r\n"), 431, "headers_too_large"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), 414, "uri_too_long"),
        ("GET /limits HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 400, "invalid_header"),
        ("GET /limits HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".to_owned(), 400, "invalid_header"),
        (
            "PUT /variables/global/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
                .to_owned(),
            400,
            "invalid_header",
        ),
    ] {
        let answer = super::raw::exchange(app.address, request.as_bytes()).await;
        let head = &request[..request.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.to_lowercase().contains("content-type: application/problem+json"), "{head}: {answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()), "{head}");
        assert!(answer.contains(body["request_id"].as_str().unwrap()));
    }
}

/// A client that has announced a body and not sent it gets its answer, and may then send the body and the next request.
async fn a_refusal_does_not_wait_for_the_body(app: TestApp) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    for (target, authorization, status) in [
        ("/variables/global/x", String::new(), 401),
        ("/nowhere", format!("Authorization: Bearer {token}\r\n"), 404),
        ("/variables/global/x", "Content-Type: text/plain\r\n".to_owned() + &format!("Authorization: Bearer {token}\r\n"), 415),
    ] {
        let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
        let head = format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{authorization}Content-Length: 1000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 * 1024];
        let count = stream.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{}", String::from_utf8_lossy(&answer[..count]));
        stream.write_all(&[b' '; 1000]).await.unwrap();
        stream.write_all(b"GET /limits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&rest));
    }
}

async fn a_body_that_waits_to_be_asked_for_is_not_asked_for(app: TestApp) {
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    for (authorization, status) in [(String::new(), 401), (format!("Authorization: Bearer {token}\r\n"), 413)] {
        let request = format!(
            "PUT /variables/global/x HTTP/1.1\r\nHost: a\r\n{authorization}Content-Type: application/json\r\nExpect: 100-continue\r\n\
             Content-Length: 2000000\r\nConnection: close\r\n\r\n"
        );
        let answer = super::raw::exchange(app.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
