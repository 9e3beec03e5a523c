//! Pages of other origins, headers that protect, and the handshake of SAP's clients.

use reqwest::Method;

use super::{STATE, app_with, words};
use crate::api::app::{Answer, TestApp};
use crate::api::raw;

const ORIGINS: &str = "https://app.example,http://localhost:5173";

/// It says nothing to a page, not even what one could read.
fn is_silent(answer: &Answer) -> bool {
    !answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

fn never_credentials(answer: &Answer) {
    assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{}", answer.what);
    assert_ne!(answer.header("access-control-allow-origin"), Some("*"), "{}", answer.what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_origins_may_read_and_no_others() {
    let app = app_with(&[("server.cors_origins", ORIGINS)]).await;
    let (ada, anyone) = (app.admin("acme"), app.anonymous());
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for origin in ["https://app.example", "http://localhost:5173"] {
        for (call, status) in [
            (ada.get(STATE), 200),
            (ada.put(STATE, r#"{"marking":{}}"#), 200),
            (anyone.get(STATE), 401),
            (ada.get("/nowhere"), 404),
            (ada.get(STATE).header("x-min-version", "x"), 400),
            // Refused before any route.
            (ada.get(STATE).header("x-filler", &"x".repeat(40_000)), 431),
        ] {
            let answer = call.header("origin", origin).send().await.expect(status);
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{}", answer.what);
            let exposed = words(&answer, "access-control-expose-headers");
            for name in [
                "etag",
                "location",
                "cache-status",
                "session-expires",
                "idempotency-replayed",
                "retry-after",
                "x-request-id",
                "x-csrf-token",
                "preference-applied",
                "accept-patch",
                "www-authenticate",
            ] {
                assert!(exposed.contains(&name.to_owned()), "{name}: {exposed:?}");
            }
            assert!(words(&answer, "vary").contains(&"origin".to_owned()), "{}", answer.what);
            never_credentials(&answer);
        }
    }
    for origin in [
        "null",
        "https://app.example.evil.tld",
        "https://evil.tld/https://app.example",
        "http://app.example",
        "https://app.example:8443",
        "https://APP.example",
        "https://xapp.example",
        "https://app.example/",
        "https://app.example, https://evil.tld",
        "http://localhost",
        "*",
        "",
    ] {
        let answer = ada.get(STATE).header("origin", origin).send().await.expect(200);
        assert!(is_silent(&answer), "{origin}");
        // What one origin is told must not be kept for another.
        assert!(words(&answer, "vary").contains(&"origin".to_owned()), "{origin}");
        never_credentials(&answer);
        let asked = anyone.call(Method::OPTIONS, STATE).header("origin", origin).header("access-control-request-method", "PUT");
        let answer = asked.send().await;
        assert!(is_silent(&answer) && answer.status.is_success(), "{origin}");
    }
    // Not sent by a page at all.
    let answer = ada.get(STATE).send().await.expect(200);
    assert!(is_silent(&answer) && words(&answer, "vary").contains(&"origin".to_owned()), "{answer:?}");
    let answer = anyone.call(Method::OPTIONS, STATE).send().await.expect(204);
    assert!(is_silent(&answer), "{answer:?}");
    let twice = ada.get(STATE).header("origin", "https://evil.tld").header("origin", "https://app.example").send().await;
    assert!(is_silent(&twice), "two origins are none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_asks_before_needs_no_token() {
    let app = app_with(&[("server.cors_origins", ORIGINS), ("server.max_in_flight", "1")]).await;
    let anyone = app.anonymous();
    let asked = |path: &str| {
        let call =
            anyone.call(Method::OPTIONS, path).header("origin", "https://app.example").header("access-control-request-method", "PATCH");
        call.header("access-control-request-headers", "authorization,if-match,x-csrf-token")
    };
    let answer = asked(STATE).send().await.expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-max-age"), Some("7200"));
    for method in ["get", "head", "put", "post", "patch", "delete"] {
        assert!(words(&answer, "access-control-allow-methods").contains(&method.to_owned()), "{method}");
    }
    for name in ["authorization", "content-type", "if-match", "if-none-match", "idempotency-key", "prefer", "x-csrf-token", "x-min-version"]
    {
        assert!(words(&answer, "access-control-allow-headers").contains(&name.to_owned()), "{name}");
    }
    assert_eq!(answer.header("allow"), Some("PUT,GET,HEAD,PATCH,DELETE,OPTIONS"));
    assert!(answer.headers.contains_key("x-request-id") && answer.body.is_empty());
    never_credentials(&answer);
    asked("/sessions").send().await.expect(204);
    for path in ["/nowhere", "/sessions/", "/workflows/order"] {
        let answer = asked(path).send().await.expect(404);
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-allow")), "{answer:?}");
    }
    // That is no question of a browser.
    let plain = anyone.call(Method::OPTIONS, STATE).header("origin", "https://app.example").send().await.expect(204);
    assert_eq!(plain.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(plain.header("allow"), Some("PUT,GET,HEAD,PATCH,DELETE,OPTIONS"));
    let evil = anyone.call(Method::OPTIONS, STATE).header("origin", "https://evil.tld").send().await.expect(204);
    assert!(is_silent(&evil) && words(&evil, "vary").contains(&"origin".to_owned()), "{evil:?}");
    let star = "OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nConnection: close\r\n\r\n";
    let star = raw::exchange(app.address, star.as_bytes()).await;
    assert!(star.starts_with("HTTP/1.1 204 ") && star.contains("allow: GET,HEAD,PUT,POST,PATCH,DELETE,OPTIONS\r\n"), "{star}");
    assert!(star.contains("access-control-allow-origin: https://app.example\r\n"), "{star}");
    assert!(plain.header("allow").is_some() && plain.header("accept-patch").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_origins_nothing_is_said_of_them() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    for call in [ada.get("/workflows"), ada.call(Method::OPTIONS, STATE).header("access-control-request-method", "PUT")] {
        let answer = call.header("origin", "https://app.example").send().await;
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{answer:?}");
        assert!(!words(&answer, "vary").contains(&"origin".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_protects_its_reader() {
    let app = TestApp::sqlite().await;
    let (ada, anyone) = (app.admin("acme"), app.anonymous());
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for (call, status, is_page) in [
        (ada.get(STATE), 200, false),
        (ada.head(STATE), 200, false),
        (ada.get(STATE).header("if-none-match", "\"1\""), 304, false),
        (ada.put(STATE, "{"), 400, false),
        (ada.delete(STATE), 204, false),
        (anyone.get(STATE), 401, false),
        (anyone.get("/nowhere"), 404, false),
        (anyone.call(Method::POST, STATE), 405, false),
        (anyone.call(Method::OPTIONS, STATE), 204, false),
        (anyone.get("/health/live"), 200, false),
        (anyone.get("/openapi.json"), 200, false),
        (anyone.get("/errors"), 200, true),
        (anyone.get("/errors/internal"), 200, true),
        (anyone.get("/docs/").unchecked(), 200, true),
        (anyone.get("/docs/swagger-ui.css").unchecked(), 200, false),
        (anyone.get("/docs/nothing").unchecked(), 404, false),
        (ada.get("/metrics"), 200, false),
    ] {
        let answer = call.send().await.expect(status);
        for (name, value) in [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.what);
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{}: {policy}", answer.what);
        assert_eq!(policy.contains("script-src 'self'"), is_page, "{}: {policy}", answer.what);
        assert!(!policy.contains("unsafe-eval") && !policy.contains("script-src 'unsafe-inline'"));
        assert!(answer.header("strict-transport-security").is_none(), "nobody said that it came over TLS");
    }
    let bare = raw::exchange(app.address, b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n").await.to_lowercase();
    assert!(bare.starts_with("http/1.1 400 ") && bare.contains("\r\nx-content-type-options: nosniff\r\n"), "{bare}");
    assert!(bare.contains("\r\ncontent-security-policy: default-src 'none'"), "{bare}");
    // The pages keep to their own policy.
    for page in ["/docs/", "/errors", "/errors/internal"] {
        let page = anyone.get(page).unchecked().send().await.expect(200);
        let text = page.text().to_lowercase();
        assert!(text.split("<script").skip(1).all(|script| script.split('>').next().unwrap().contains("src=")), "{}", page.what);
        assert!(!text.contains("javascript:") && !text.contains(" onload=") && !text.contains(" onclick="), "{}", page.what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_fetch_a_csrf_token_get_one_that_nobody_needs() {
    let app = TestApp::sqlite().await;
    let (ada, anyone) = (app.admin("acme"), app.anonymous());
    for (call, status) in [
        (ada.get("/workflows").header("x-csrf-token", "Fetch"), 200),
        (ada.head("/workflows").header("x-csrf-token", "fetch"), 200),
        // The root of the service, which is where they look first.
        (ada.head("/").header("x-csrf-token", "FETCH"), 404),
        (anyone.get(STATE).header("x-csrf-token", "Fetch"), 401),
    ] {
        let answer = call.send().await.expect(status);
        let token = answer.header("x-csrf-token").unwrap_or_else(|| panic!("{}: no token", answer.what)).to_owned();
        assert!(!token.is_empty() && !token.eq_ignore_ascii_case("required") && !token.eq_ignore_ascii_case("fetch"));
        let body = r#"{"marking":{}}"#;
        assert!(ada.put(STATE, body).header("x-csrf-token", &token).send().await.status.is_success());
    }
    assert!(ada.get("/workflows").send().await.header("x-csrf-token").is_none(), "nobody asked");
    for token in ["", "wrong", "Fetch", "Required"] {
        let answer = ada.put(STATE, r#"{"marking":{}}"#).header("x-csrf-token", token).send().await.expect(200);
        assert!(answer.header("x-csrf-token").is_none(), "a write is no handshake");
    }
    // It is no way in.
    anyone
        .put(STATE, r#"{"marking":{}}"#)
        .header("x-csrf-token", "not-needed-with-bearer-tokens")
        .send()
        .await
        .problem(401, "token_missing");
    let cookie = anyone.put(STATE, r#"{"marking":{}}"#).header("cookie", "access_token=x").header("origin", "https://evil.tld");
    cookie.send().await.problem(401, "token_missing");
}
