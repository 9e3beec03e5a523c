//! Compressed answers, entity tags that say so, and answers that need not be sent again.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::{STATE, app_with, words};
use crate::api::app::{Answer, DOCUMENT, TestApp};

fn large(text: &str) -> String {
    format!(r#"{{"marking":{{}},"metadata":{{"text":"{}"}}}}"#, text.repeat(20_000))
}

fn inflated(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(&answer.body[..]).read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_compressed_for_those_who_offer_it() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    ada.put(STATE, large("abc ")).send().await.expect(201);
    let plain = ada.get(STATE).send().await.expect(200);
    assert_eq!((plain.etag(), plain.header("content-encoding")), ("\"1\"", None));
    for offer in ["gzip", "br;q=1, gzip;q=0.5", "GZIP, deflate", "gzip, *;q=0"] {
        let zipped = ada.get(STATE).header("accept-encoding", offer).send().await.expect(200);
        assert_eq!(zipped.header("content-encoding"), Some("gzip"), "{offer}");
        assert_eq!(zipped.etag(), "W/\"1\"", "other bytes have no strong tag in common");
        assert!(zipped.body.len() * 10 < plain.body.len() && inflated(&zipped) == plain.body);
        assert_eq!(words(&zipped, "vary"), ["accept-encoding"]);
        assert_eq!(zipped.header("cache-status"), plain.header("cache-status"));
        let head = ada.head(STATE).header("accept-encoding", offer).send().await.expect(200);
        assert_eq!((head.etag(), head.header("content-encoding")), ("W/\"1\"", Some("gzip")));
    }
    for offer in [
        "",
        "identity",
        "br, zstd, deflate",
        "gzip;q=0",
        "*",
        "identity;q=0",
        "*;q=0",
        "br;q=1, identity;q=0",
        "gzip;q=0.1, identity;q=0.9",
        "gzip;q=much",
    ] {
        let answer = ada.get(STATE).header("accept-encoding", offer).send().await.expect(200);
        assert!(answer.header("content-encoding").is_none() && answer.body == plain.body, "{offer}");
        assert_eq!((answer.etag(), words(&answer, "vary")), ("\"1\"", vec!["accept-encoding".to_owned()]), "{offer}");
    }
    // Tiny ones are not, whatever they are.
    for path in ["/health/live", "/workflows", "/nowhere", "/variables/global/none"] {
        let answer = ada.get(path).header("accept-encoding", "gzip").send().await;
        assert!(answer.header("content-encoding").is_none() && words(&answer, "vary").contains(&"accept-encoding".to_owned()), "{path}");
    }
    let page = ada.get("/openapi.json").header("accept-encoding", "gzip").send().await.expect(200);
    assert_eq!(page.header("content-encoding"), Some("gzip"));
    // The answer to a write that its client refused to take in any form is still the answer: it has happened.
    let written = ada.put(STATE, large("def ")).header("accept-encoding", "identity;q=0").send().await.expect(200);
    assert_eq!(written.etag(), "\"2\"");
    let written = ada.put(STATE, large("ghi ")).header("accept-encoding", "gzip").send().await.expect(200);
    assert_eq!((written.etag(), written.header("content-encoding")), ("W/\"3\"", Some("gzip")));
    assert!(words(&written, "vary").contains(&"accept-encoding".to_owned()));
}

/// What the document says of `Vary`: where it is, it names these and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vary_names_what_the_document_says() {
    let said = DOCUMENT["info"]["description"].as_str().unwrap();
    assert!(said.contains("`Vary` on any answer may name `accept-encoding` and `origin`"), "{said}");
    for origins in ["", "https://app.example"] {
        let app = app_with(&[("server.cors_origins", origins)]).await;
        let ada = app.admin("acme");
        let mut seen = 0;
        for (call, status) in [
            (ada.put(STATE, large("abc ")), 201),
            (ada.put(STATE, large("def ")).header("accept-encoding", "gzip"), 200),
            (ada.put(STATE, "{"), 400),
            (ada.get(STATE), 200),
            (ada.get(STATE).header("x-request-timeout-ms", "x"), 400),
            (ada.get(STATE).header("x-filler", &"x".repeat(40_000)), 431),
            (ada.get("/nowhere"), 404),
            (ada.get(&format!("/nowhere?{}", "x".repeat(9_000))), 414),
            (ada.call(reqwest::Method::OPTIONS, STATE), 204),
        ] {
            let vary = words(&call.header("origin", "https://app.example").send().await.expect(status), "vary");
            assert!(vary.iter().all(|name| name == "accept-encoding" || (name == "origin" && !origins.is_empty())), "{vary:?}");
            seen += vary.len();
        }
        assert!(seen > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_tags_are_as_good_as_strong_ones() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    ada.put(STATE, large("abc ")).send().await.expect(201);
    for tag in ["W/\"1\"", "\"1\"", "\"7\", W/\"1\""] {
        let known = ada.get(STATE).header("accept-encoding", "gzip").header("if-none-match", tag).send().await.expect(304);
        let expected = if tag.contains("W/") { "W/\"1\"" } else { "\"1\"" };
        assert_eq!(known.etag(), expected, "the tag of what the client has");
        assert!(known.body.is_empty() && known.header("content-encoding").is_none() && known.header("content-type").is_none());
        assert_eq!(known.header("cache-control"), Some("private, no-cache"));
        assert_eq!(known.header("cache-status"), Some("nworkflow-local; hit"));
        assert_eq!(words(&known, "vary"), ["accept-encoding"]);
        assert!(known.headers.contains_key("x-request-id"));
        ada.head(STATE).header("if-none-match", tag).send().await.expect(304);
    }
    ada.get(STATE).header("if-match", "W/\"2\"").send().await.problem(412, "precondition_failed");
    let put = ada.put(STATE, large("def ")).header("if-match", "W/\"1\"").send().await.expect(200);
    assert_eq!(put.etag(), "\"2\"");
    ada.get(STATE).header("if-none-match", "W/\"1\"").send().await.expect(200);
    // A session's expiry is told with what has not changed, too.
    ada.put("/sessions/s1", r#"{"data":1}"#).send().await.expect(201);
    let known = ada.get("/sessions/s1").header("if-none-match", "\"1\"").send().await.expect(304);
    assert!(known.header("session-expires").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_begins_where_it_is_set_to() {
    for (above, is_zipped) in [("0", false), ("100000000", false), ("10", true)] {
        let app = app_with(&[("server.compress_above_bytes", above)]).await;
        let answer = app.anonymous().get("/limits").header("accept-encoding", "gzip").send().await.expect(200);
        assert_eq!(answer.header("content-encoding").is_some(), is_zipped, "{above}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_compressed_is_refused() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    let zipped = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    for encodings in [
        &["gzip"][..],
        &["x-gzip"],
        &["br"],
        &["zstd"],
        &["deflate"],
        &["identity", "gzip"],
        &["gzip, identity"],
        &["identity, identity"],
        &["GZIP"],
        &[""],
    ] {
        for call in [
            ada.put(STATE, zipped),
            ada.merge(STATE, zipped),
            ada.post("/sessions", zipped),
            ada.put("/variables/global/x", "{\"value\":1}"),
        ] {
            let call = encodings.iter().fold(call, |call, encoding| call.header("content-encoding", encoding));
            call.send().await.problem(415, "unsupported_media_type");
        }
    }
    ada.get("/variables/global/x").send().await.expect(404);
    ada.put("/variables/global/x", "{\"value\":1}").header("content-encoding", "identity").send().await.expect(201);
}
