//! What the HTTP library refuses by itself, below all routes: it is answered as whatever is refused above.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::{STATE, app_with};
use crate::api::app::TestApp;
use crate::api::raw;

const ORIGIN: &str = "https://app.example";
/// Settings of the limits, as they are by default.
const HEADER_BYTES: u64 = 32_768;
const HEADERS: u64 = 256;
const URI_BYTES: u64 = 8192;

async fn app() -> TestApp {
    app_with(&[("server.cors_origins", ORIGIN), ("server.hsts", "true"), ("server.hsts_seconds", "600")]).await
}

/// The last answer of a connection.
#[derive(Debug)]
struct Refusal {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Refusal {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            let both = headers.remove(name).map_or_else(|| value.to_owned(), |first: String| format!("{first}, {value}"));
            headers.insert(name.to_lowercase(), both);
        }
        Self { status, headers, body: body.to_owned() }
    }

    fn problem(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["content-length"], self.body.len().to_string());
        assert_eq!(self.headers["connection"], "close");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["request_id"], self.headers["x-request-id"].as_str());
        assert_eq!(problem["status"], self.status);
        problem
    }

    fn verdict(&self) -> (u16, String, Option<u64>, String) {
        let problem = self.problem();
        let text = |name: &str| problem[name].as_str().unwrap().to_owned();
        (self.status, text("code"), problem["limit"].as_u64(), text("instance"))
    }

    /// The headers that do not tell one answer from another.
    fn manners(&self) -> BTreeMap<String, String> {
        let own = ["connection", "content-length", "date", "x-request-id"];
        self.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

async fn send(address: SocketAddr, request: &str) -> Refusal {
    Refusal::read(&raw::exchange(address, request.as_bytes()).await)
}

fn large() -> String {
    format!("X-Filler: {}\r\n", "x".repeat(100_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_below_the_routes_says_what_is_refused_above() {
    let app = app().await;
    let known = format!("HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\n");
    let above = format!("X-Filler: {}\r\n", "x".repeat(40_000));
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let [above, below] = [&above, &large()].map(|filler| format!("{method} {STATE}?a=b {known}Connection: close\r\n{filler}\r\n"));
        let (above, below) = (send(app.address, &above).await, send(app.address, &below).await);
        assert_eq!((above.status, below.status), (431, 431));
        assert_eq!(above.manners(), below.manners(), "{method}");
        if method == "HEAD" {
            assert!(above.body.is_empty() && below.body.is_empty() && below.headers["content-length"] != "0", "{below:?}");
            continue;
        }
        let mut problems = [above.problem(), below.problem()];
        problems.iter_mut().for_each(|problem| problem["request_id"] = Value::Null);
        assert_eq!(problems[0], problems[1], "{method}");
        assert_eq!(below.verdict(), (431, "headers_too_large".into(), Some(HEADER_BYTES), STATE.into()));
        assert_eq!(below.headers["access-control-allow-origin"], ORIGIN);
        assert_eq!(below.headers["strict-transport-security"], "max-age=600");
        assert_eq!(below.headers.get("cache-control").map(String::as_str), (method == "GET").then_some("private, no-cache"));
    }
    // Another origin is told nothing, and a browser that asks before is not allowed anything.
    let evil = send(app.address, &format!("GET /workflows HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.tld\r\n{}\r\n", large())).await;
    assert!(!evil.headers.contains_key("access-control-allow-origin") && evil.headers["vary"].contains("origin"), "{evil:?}");
    let asked = send(app.address, &format!("OPTIONS /workflows {known}Access-Control-Request-Method: PUT\r\n{}\r\n", large())).await;
    assert_eq!(asked.verdict(), (431, "headers_too_large".into(), Some(HEADER_BYTES), "/workflows".into()));
    assert!(!asked.headers.contains_key("access-control-allow-methods"), "{asked:?}");
    let fetched = send(app.address, &format!("GET /x {known}X-CSRF-Token: fetch\r\nX-Request-Id: r-1\r\nbad header\r\n\r\n")).await;
    assert!(fetched.headers.contains_key("x-csrf-token") && fetched.headers["x-request-id"] == "r-1", "{fetched:?}");
    let metrics = app.admin("acme").get("/metrics").send().await.expect(200);
    let counted = "nworkflow_http_problems_total{code=\"headers_too_large\"} 10";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_that_was_passed_is_named() {
    let app = app().await;
    let malformed = |instance: &str| (400, "invalid_request".to_owned(), None, instance.to_owned());
    let long = "x".repeat(70_000);
    let head = "HTTP/1.1\r\nHost: a\r\n";
    for (request, verdict) in [
        (format!("GET /{long} {head}\r\n"), (414, "uri_too_long".to_owned(), Some(URI_BYTES), String::new())),
        // It is read, and too long to be repeated.
        (
            format!("GET /{} {head}Connection: close\r\n\r\n", "x".repeat(10_000)),
            (414, "uri_too_long".to_owned(), Some(URI_BYTES), String::new()),
        ),
        // Longer than the library reads, and remembered as a whole.
        (format!("GET /{} {head}\r\n", "x".repeat(85_000)), (414, "uri_too_long".to_owned(), Some(URI_BYTES), String::new())),
        (format!("GET /{} {head}\r\n", "x".repeat(100_000)), (414, "uri_too_long".to_owned(), Some(URI_BYTES), String::new())),
        // It never comes to an end.
        (format!("GET /{}", "x".repeat(100_000)), (414, "uri_too_long".to_owned(), Some(URI_BYTES), String::new())),
        (format!("GET /a {head}{}\r\n", "A: b\r\n".repeat(600)), (431, "headers_too_large".to_owned(), Some(HEADERS), "/a".to_owned())),
        (
            format!("GET /a {head}{}", large().replace("\r\n", "")),
            (431, "headers_too_large".to_owned(), Some(HEADER_BYTES), "/a".to_owned()),
        ),
        (format!("GET /a {head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), malformed("/a")),
        (format!("GET /a?b=%20c {head}X: a\r\n folded\r\n\r\n"), malformed("/a")),
        (format!("\r\n\r\nGET http://h/a {head}bad header\r\n\r\n"), malformed("/a")),
        // A length beyond all lengths is no size of the head.
        (format!("GET /a {head}Content-Length: 18446744073709551615\r\n\r\n"), malformed("/a")),
        (format!("GET /a b {head}\r\n"), malformed("")),
        (format!("GET /a\0 {head}\r\n"), malformed("")),
        (format!("G@T /a {head}\r\n"), malformed("")),
        ("\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".to_owned(), malformed("")),
        ("GET /a HTTP/3.0\r\n\r\n".to_owned(), malformed("/a")),
    ] {
        let refusal = send(app.address, &request).await;
        let start: String = request.chars().take(60).collect();
        assert_eq!(refusal.verdict(), verdict, "{start:?}");
        let is_known = request.trim_start().starts_with("GET ");
        assert_eq!(refusal.headers["cache-control"], if is_known { "private, no-cache" } else { "no-store" }, "{start:?}");
    }
    for head in ["HEAD /a b HTTP/1.1\r\n\r\n".to_owned(), format!("HEAD /{}", "x".repeat(100_000))] {
        let refusal = send(app.address, &head).await;
        assert!(refusal.body.is_empty() && refusal.headers["content-type"] == "application/problem+json", "{refusal:?}");
    }
    // Half a head is no request, and there is nobody to answer.
    let half = raw::exchange_half(app.address, b"HEAD /a HTTP/1.1\r\nHost: a\r\nX: ").await;
    assert_eq!(half, "");
}

/// Clients that send all of a body before they read: they see why it was refused, whatever refused it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_body_all_the_same_reads_the_refusal() {
    let app = app().await;
    let body = "x".repeat(7 * 1024 * 1024);
    let head = format!("HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    let long = |length: usize| "x".repeat(length);
    for (request, status) in [
        (format!("PUT {STATE} {head}X-Request-Timeout-Ms: x\r\n\r\n"), 400),
        (format!("PUT {STATE} {head}Host: b\r\n\r\n"), 400),
        (format!("PUT {STATE} {}\r\n", head.replace("Host: a", "Host: u@a")), 400),
        (format!("PUT {STATE} {}\r\n", head.replace("Host: a\r", "Host: a")), 400),
        (format!("PUT {STATE} {head}bad header\r\n\r\n"), 400),
        (format!("PUT {STATE}#x {head}\r\n"), 400),
        (format!("PUT /{} {head}\r\n", long(9000)), 414),
        (format!("PUT /{} {head}\r\n", long(70_000)), 414),
        (format!("PUT {STATE} {head}A: {}\r\n\r\n", long(33_000)), 431),
        (format!("PUT {STATE} {head}A: {}\r\n\r\n", long(100_000)), 431),
        (format!("PUT {STATE} {head}{}\r\n", "A: b\r\n".repeat(300)), 431),
        (format!("PUT {STATE} {head}{}\r\n", "A: b\r\n".repeat(600)), 431),
        (format!("PUT {STATE} {head}\r\n"), 401),
        (format!("OPTIONS {STATE} {head}Origin: {ORIGIN}\r\nAccess-Control-Request-Method: PUT\r\n\r\n"), 204),
    ] {
        let start: String = request.chars().take(60).collect();
        let answer = raw::exchange_after(app.address, format!("{request}{body}").as_bytes()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{start:?}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {answer}");
    }
}

/// The head that is refused is the one that came last, not what came before or behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_about_its_own_head() {
    let app = app().await;
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    let get = "GET /limits HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = format!("HEAD /workflows HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nbad header\r\n\r\n");
    let body = "{\"value\":\"HEAD /b HTTP/1.1\\r\\n\"}";
    let put = format!("PUT /variables/global/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let sized = format!("{put}Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("{put}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (before, is_known) in [
        (String::new(), true),
        (get.to_owned(), true),
        (get.repeat(20), true),
        (sized.clone(), true),
        (format!("{sized}\r\n{get}{sized}"), true),
        (chunked, true),
    ] {
        let request = format!("{before}{bad}{get}");
        let answers = raw::exchange(app.address, request.as_bytes()).await;
        assert_eq!(answers.matches("HTTP/1.1 400 ").count(), 1, "{answers}");
        let refusal = Refusal::read(&answers[answers.find("HTTP/1.1 400 ").unwrap()..]);
        assert_eq!(refusal.headers.get("access-control-allow-origin").map(String::as_str), is_known.then_some(ORIGIN), "{before}");
        assert_eq!(refusal.body.is_empty(), is_known, "nothing follows, and HEAD has no body: {before} {refusal:?}");
        if !is_known {
            assert_eq!(refusal.verdict(), (400, "invalid_request".into(), None, String::new()));
            assert_eq!(refusal.headers["cache-control"], "no-store");
        }
    }
}
