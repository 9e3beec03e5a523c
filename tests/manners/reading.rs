//! How exactly a request is read: queries, times, paths; what OPTIONS and lists say.

use reqwest::Method;

use super::{STATE, words};
use crate::api::app::{Caller, DOCUMENT, TestApp};
use crate::api::{on_both_stores, raw};

on_both_stores!(lists_say_that_no_cache_was_asked_for, the_second_sixty_is_refused);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_tell_methods_and_patches() {
    let app = TestApp::sqlite().await;
    let patches = Some("application/merge-patch+json, application/json-patch+json");
    for (path, allow, accept) in [
        (STATE, "PUT,GET,HEAD,PATCH,DELETE,OPTIONS", patches),
        ("/variables/workflow:order/x", "PUT,GET,HEAD,PATCH,DELETE,OPTIONS", patches),
        ("/sessions/s1", "PUT,GET,HEAD,PATCH,DELETE,OPTIONS", patches),
        ("/variables/workflow:order", "GET,HEAD,PATCH,DELETE,OPTIONS", Some("application/json")),
        ("/sessions", "POST,GET,HEAD,OPTIONS", None),
        ("/workflows", "GET,HEAD,OPTIONS", None),
        ("/limits", "GET,HEAD,OPTIONS", None),
    ] {
        let answer = app.anonymous().call(Method::OPTIONS, path).send().await.expect(204);
        let sorted = |text: &str| {
            let mut methods: Vec<String> = text.split(',').map(str::to_owned).collect();
            methods.sort();
            methods
        };
        assert_eq!(sorted(answer.header("allow").unwrap()), sorted(allow), "{path}");
        assert_eq!(answer.header("accept-patch"), accept, "{path}");
        assert!(answer.body.is_empty());
    }
    assert!(app.anonymous().call(Method::POST, STATE).send().await.expect(405).header("accept-patch").is_none());
}

/// Generated clients know the HEAD of few paths, and the OPTIONS of none: the document says at its beginning that all have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_of_the_document_has_options_and_head_where_get_is() {
    let app = TestApp::sqlite().await;
    let (ada, anyone) = (app.admin("acme"), app.anonymous());
    let said = DOCUMENT["info"]["description"].as_str().unwrap();
    assert!(
        said.contains("`HEAD` is answered on every path that has a `get`") && said.contains("`OPTIONS` on every path with 204"),
        "{said}"
    );
    let mut unnamed = 0;
    for (template, item) in DOCUMENT["paths"].as_object().unwrap() {
        let segments = template.split('/').map(|segment| match segment {
            "{scope}" => "global",
            "{version}" => "1",
            "{code}" => "internal",
            _ if segment.starts_with('{') => "x1",
            _ => segment,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let options = anyone.call(Method::OPTIONS, &path).send().await.expect(204);
        let allowed = words(&options, "allow");
        assert!(allowed.contains(&"options".to_owned()), "{template}: {allowed:?}");
        let get = item["get"].is_object().then(|| ada.get(&path));
        let head = ada.head(&path).send().await;
        assert_eq!(allowed.contains(&"head".to_owned()), get.is_some(), "{template}");
        match get {
            Some(get) => assert_eq!(head.status, get.send().await.status, "{template}"),
            None => assert_eq!(head.status, 405, "{template}"),
        }
        unnamed += usize::from(item["get"].is_object() && item["head"].is_null());
    }
    assert!(unnamed > 10, "{unnamed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_escapes_in_a_query_are_refused() {
    let app = TestApp::sqlite().await;
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    for path in ["/workflows", "/sessions", "/checkpoints", "/variables/global", "/effective-variables", "/workflows/w/executions", STATE] {
        for query in ["limit=%zz", "limit=1%", "x=%4", "%=1", "cursor=%%41", "_=1%2", "limit=1&sap-client=%g0", "a=%ff", "a=%c0%ae"] {
            let answer = raw::get(app.address, &format!("{path}?{query}"), &token).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_parameter"), "{path}?{query}: {answer}");
        }
        for query in ["_=1700000000000", "sap-client=100&sap-language=EN", "%24format=json&$top=1", "x=100%25", "&&=&x", "_=a%2Bb+c"] {
            let answer = raw::get(app.address, &format!("{path}?{query}"), &token).await;
            assert!(!answer.starts_with("HTTP/1.1 400 "), "{path}?{query}: {answer}");
        }
    }
}

async fn the_second_sixty_is_refused(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for (path, name) in [(STATE, "at"), ("/workflows/order/executions", "updated_after"), ("/checkpoints", "created_after")] {
        for time in ["2026-01-01T00:00:60Z", "2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5%2B00:00"] {
            let problem = ada.get(&format!("{path}?{name}={time}")).send().await.problem(400, "invalid_parameter").json();
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(name) && detail.contains("second 60"), "{detail}");
        }
        assert_ne!(ada.get(&format!("{path}?{name}=2026-01-01T00:00:59Z")).send().await.status, 400);
    }
}

async fn lists_say_that_no_cache_was_asked_for(app: TestApp) {
    let ada = app.admin("acme");
    ada.put(STATE, r#"{"marking":{}}"#).send().await.expect(201);
    for (path, status) in [
        ("/workflows", 200),
        ("/workflows/order/executions", 200),
        ("/sessions", 200),
        ("/checkpoints", 200),
        ("/workflows/order/executions/e1/checkpoints", 200),
        ("/variables/global", 200),
        ("/effective-variables", 200),
        (&format!("{STATE}/history"), 200),
        (&format!("{STATE}/history/1"), 200),
        (&format!("{STATE}?version=1"), 200),
        (&format!("{STATE}?version=9"), 404),
    ] {
        let status_of = async |caller: &Caller, directive: &str| {
            let answer = caller.get(path).header("cache-control", directive).send().await.expect(status);
            answer.header("cache-status").map(str::to_owned)
        };
        for directive in ["no-cache", "max-age=0, No-Cache", "no-store"] {
            assert_eq!(status_of(&ada, directive).await.as_deref(), Some("nworkflow-store; fwd=bypass"), "{path} {directive}");
        }
        for directive in ["max-age=0", "private"] {
            assert_eq!(status_of(&ada, directive).await.as_deref(), Some("nworkflow-store; fwd=miss"), "{path} {directive}");
        }
    }
}

/// S20: a path leads to the resource that it names, or nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trick_with_a_path_leads_elsewhere() {
    let app = TestApp::sqlite().await;
    let ada = app.admin("acme");
    ada.put("/workflows/order/executions/secret/state", r#"{"marking":{"treasure":1}}"#).send().await.expect(201);
    ada.put("/variables/global/treasure", r#"{"value":"treasure"}"#).send().await.expect(201);
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    let long = format!("/workflows/{}/executions", "a/".repeat(4000));
    let longer = format!("/{}", "x".repeat(8192));
    let tricks = [
        "/workflows/order/executions/other/state/../../secret/state",
        "/workflows/order/executions/other/%2e%2e/secret/state",
        "/workflows/order/executions/other/%2e%2e%2fsecret/state",
        "/workflows/order/executions/..%2fsecret/state",
        "/workflows/order/executions/%2e%2fsecret/state",
        "/workflows/order/executions/./secret/state",
        "/workflows/order//executions/secret/state",
        "//workflows/order/executions/secret/state",
        "/workflows/order/executions/secret/state/",
        "/workflows/order/executions/secret/state%2f",
        "/workflows/order%2Fexecutions%2Fsecret/state",
        "/workflows%2Forder/executions/secret/state",
        "/%77orkflows/order/executions/secret/state",
        "/WORKFLOWS/order/executions/secret/state",
        "/workflows/order/executions/secret/state;x=1",
        "/workflows/order/executions/secret;x=1/state",
        "/workflows/order/executions/secret%00/state",
        "/workflows/order/executions/secret%00.json/state",
        "/workflows/order/executions/%252e%252e%252fsecret/state",
        "/workflows/order/executions/secre%74%20/state",
        "/workflows/order/executions/%c0%ae%c0%ae%c0%afsecret/state",
        "/workflows/order/executions/%e0%80%ae/state",
        "/workflows/order/executions/%f0%80%80%ae/state",
        "/workflows/order/executions/%ef%bc%8esecret/state",
        "/workflows/order/executions/secret\\state",
        "/workflows/order/executions/..\\secret/state",
        "/variables/global/../global/treasure",
        "/variables/global/x%2f..%2ftreasure",
        "/variables/global/%2e%2e%2ftreasure",
        "/variables/GLOBAL/treasure",
        "/variables/global%3A/treasure",
        "/variables/workflow:..%2fglobal/treasure",
        "/docs/../variables/global/treasure",
        "/docs/%2e%2e/variables/global/treasure",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "/health/live/../../variables/global/treasure",
        "/errors/..%2fvariables",
        &long,
        &longer,
    ];
    for target in tricks {
        let answer = raw::get(app.address, target, &token).await;
        let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        assert!(matches!(status, 400 | 404 | 405 | 414), "{target}: {answer}");
        assert!(
            !answer.split("\r\n\r\n").nth(1).unwrap_or_default().contains("\"treasure\":1") && !answer.contains("passwd:"),
            "{target}: {answer}"
        );
    }
    // An escaped letter is the letter, in one segment.
    assert!(raw::get(app.address, "/workflows/order/executions/secre%74/state", &token).await.starts_with("HTTP/1.1 200 "));
}
