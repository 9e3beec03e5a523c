//! S21: two readers of one stream must not see different requests in it. Each attack carries a second request that must not be answered.

use crate::api::app::TestApp;
use crate::api::raw;

const SECOND: &str = "GET /limits HTTP/1.1\r\nHost: a\r\n\r\n";

/// What the answer may be.
enum Verdict {
    /// Refused, by an answer or without a word, and the connection is closed.
    Refused,
    /// Refused with a problem, and the connection is closed.
    Told,
}
use Verdict::{Refused, Told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_readers_may_read_differently_ends_the_connection() {
    let app = TestApp::sqlite().await;
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    let head =
        format!("PUT /variables/global/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let put = |framing: &str, body: &str| format!("{head}{framing}\r\n\r\n{body}{SECOND}");
    let good = "{\"value\":1}";
    let chunks = "b\r\n{\"value\":1}\r\n0\r\n\r\n";
    let attacks = [
        ("two lengths", put("Content-Length: 11\r\nContent-Length: 12", good), Refused),
        ("a list of lengths", put("Content-Length: 11, 12", good), Refused),
        ("a signed length", put("Content-Length: +11", good), Refused),
        ("a negative length", put("Content-Length: -11", good), Refused),
        ("a hexadecimal length", put("Content-Length: 0xb", good), Refused),
        ("a length with a space", put("Content-Length: 1 1", good), Refused),
        ("a length beyond all numbers", put("Content-Length: 99999999999999999999", good), Refused),
        ("an empty length", put("Content-Length:", good), Refused),
        ("length and chunks", put("Content-Length: 4\r\nTransfer-Encoding: chunked", chunks), Told),
        ("chunks and length", put("Transfer-Encoding: chunked\r\nContent-Length: 4", chunks), Told),
        ("chunks twice", put("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunks), Refused),
        ("chunks within chunks", put("Transfer-Encoding: chunked, chunked", chunks), Refused),
        ("chunks and something", put("Transfer-Encoding: chunked, identity", chunks), Refused),
        ("something and chunks", put("Transfer-Encoding: gzip, chunked", chunks), Refused),
        ("nearly chunks", put("Transfer-Encoding: xchunked", chunks), Refused),
        ("chunks with a tail", put("Transfer-Encoding: chunked;x", chunks), Refused),
        ("chunks behind a control", put("Transfer-Encoding: \x0bchunked", chunks), Refused),
        ("an identity", put("Transfer-Encoding: identity\r\nContent-Length: 11", good), Refused),
        ("a space in front of the colon", put("Transfer-Encoding : chunked", chunks), Refused),
        ("a folded line", put("X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 11", good), Refused),
        ("a line that begins with a space", format!("PUT /variables/global/x HTTP/1.1\r\n Host: a\r\n\r\n{SECOND}"), Refused),
        ("a bare return", put("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 11", good), Refused),
        ("a nul", put("X: a\0\r\nContent-Length: 11", good), Refused),
        ("a size that is none", put("Transfer-Encoding: chunked", "zz\r\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        ("a size beyond all numbers", put("Transfer-Encoding: chunked", "ffffffffffffffffff\r\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        ("a negative size", put("Transfer-Encoding: chunked", "-1\r\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        ("a size with a prefix", put("Transfer-Encoding: chunked", "0xb\r\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        ("a size line without return", put("Transfer-Encoding: chunked", "b\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        ("a chunk that is longer than its size", put("Transfer-Encoding: chunked", "5\r\n{\"value\":1}\r\n0\r\n\r\n"), Refused),
        (
            "an endless extension",
            put("Transfer-Encoding: chunked", &format!("b;{}\r\n{{\"value\":1}}\r\n0\r\n\r\n", "x".repeat(100_000))),
            Refused,
        ),
        (
            "chunks in HTTP/1.0",
            put("Transfer-Encoding: chunked", chunks).replace("HTTP/1.1\r\nHost: a\r\nAuth", "HTTP/1.0\r\nHost: a\r\nAuth"),
            Refused,
        ),
        ("a bare line feed behind the request line", format!("GET /limits HTTP/1.1\nHost: a\r\n\r\n{SECOND}"), Told),
        ("a bare line feed behind a header", format!("GET /limits HTTP/1.1\r\nHost: a\n\r\n{SECOND}"), Told),
        ("a bare line feed at the end", format!("GET /limits HTTP/1.1\r\nHost: a\r\n\n{SECOND}"), Told),
        ("two hosts", put("Host: b\r\nContent-Length: 11", good), Refused),
        ("a host with a space", format!("GET /limits HTTP/1.1\r\nHost: a b\r\n\r\n{SECOND}"), Refused),
        ("a host with a path", format!("GET /limits HTTP/1.1\r\nHost: a/b\r\n\r\n{SECOND}"), Refused),
        ("a host with a user", format!("GET /limits HTTP/1.1\r\nHost: u@a\r\n\r\n{SECOND}"), Refused),
        ("a host with a list", format!("GET /limits HTTP/1.1\r\nHost: a, b\r\n\r\n{SECOND}"), Refused),
        ("a host with a name as port", format!("GET /limits HTTP/1.1\r\nHost: a:b\r\n\r\n{SECOND}"), Refused),
        ("a host beyond ASCII", format!("GET /limits HTTP/1.1\r\nHost: größe\r\n\r\n{SECOND}"), Refused),
        ("a target with a user", format!("GET http://u@a/limits HTTP/1.1\r\nHost: a\r\n\r\n{SECOND}"), Refused),
        ("no version", format!("GET /limits\r\nHost: a\r\n\r\n{SECOND}"), Refused),
        ("a later version", format!("GET /limits HTTP/3.0\r\nHost: a\r\n\r\n{SECOND}"), Refused),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Refused),
        ("a tunnel", format!("CONNECT evil.tld:443 HTTP/1.1\r\nHost: a\r\n\r\n{SECOND}"), Refused),
    ];
    for (name, request, verdict) in attacks {
        // Reads until the server closes.
        let answer = raw::exchange(app.address, request.as_bytes()).await;
        let answers = answer.matches("HTTP/1.1 ").count();
        let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        assert!(answers <= 1, "{name}: the second request was answered: {answer}");
        match verdict {
            Refused => assert!(answer.is_empty() || matches!(status, 400 | 404 | 405 | 413), "{name}: {answer}"),
            Told => assert!(status == 400 && answer.contains("\"code\":\"invalid_request\""), "{name}: {answer}"),
        }
    }
    // Hosts that are none of these.
    for host in ["", "a:8080", "[::1]:1", "127.0.0.1"] {
        let request = format!("GET /limits HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert!(raw::exchange(app.address, request.as_bytes()).await.starts_with("HTTP/1.1 200 "), "{host}");
    }
    let broken = raw::exchange(app.address, put("Transfer-Encoding: chunked", "zz\r\n\r\n").as_bytes()).await;
    assert!(broken.contains("\"code\":\"invalid_request\""), "{broken}");
    // What is repeated to the client is short.
    let method = "A".repeat(3000);
    let request = format!("{method} /limits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = raw::exchange(app.address, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: GET,HEAD,OPTIONS\r\n") && !answer.contains("AAAA"),
        "{answer}"
    );
    // What stands behind a body in chunks is looked at as what stands before it.
    let feeds = format!("{}GET /limits HTTP/1.1\nHost: a\n\n{SECOND}", put("Transfer-Encoding: chunked", chunks).trim_end_matches(SECOND));
    let answer = raw::exchange(app.address, feeds.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1 ").count() == 2 && answer.contains("HTTP/1.1 400 "), "{answer}");
}

/// A line feed alone where chunks must end: the library would take it for the first byte of a trailer, and the next head for the rest of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_chunks_take_nothing_of_what_follows() {
    let app = TestApp::sqlite().await;
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    let third = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in ["0\r\n\n", "0\r\nX: y\n\r\n", "0\n\r\n", "0;a=b\n\r\n"] {
        for (token, status) in [(token.as_str(), "400"), ("wrong", "401")] {
            let head = |more: &str| {
                format!(
                    "PUT /variables/global/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
                     Transfer-Encoding: chunked\r\n{more}\r\n"
                )
            };
            let body = format!("b\r\n{{\"value\":1}}\r\n{end}{SECOND}{third}");
            // At once, and with the body behind a head that is a request already.
            let together = raw::exchange(app.address, format!("{}{body}", head("")).as_bytes()).await;
            let apart = raw::exchange_in_two(app.address, head("").as_bytes(), body.as_bytes(), status == "401").await;
            for answer in [together, apart] {
                let is_one = answer.matches("HTTP/1.1 ").count() == 1;
                assert!(is_one && answer.starts_with("HTTP/1.1 4") && answer.contains("\"code\":"), "{end:?} {status}: {answer}");
            }
        }
    }
    app.admin("acme").get("/variables/global/x").send().await.problem(404, "variable_not_found");
}

/// A target has no fragment (RFC 9112 section 3.2): whoever cuts it off carries out what nobody else saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fragment_is_refused() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    ada.put("/variables/global/x", r#"{"value":1}"#).send().await.expect(201);
    for target in ["/variables/global/x#", "/variables/global/x#/../y", "/variables/global/x?a=b#c", "http://a/variables/global/x#y"] {
        for method in ["GET", "DELETE", "OPTIONS"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
            let answer = raw::exchange(app.address, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"invalid_request\""), "{method} {target}: {answer}");
        }
    }
    ada.get("/variables/global/x").send().await.expect(200);
}
