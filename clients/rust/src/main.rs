//! Uses the client that progenitor makes of the API document, and checks what the server answers.

use std::env::var;

use client::Client;
use client::types::{Problem, SessionCreate, StateMergePatch, StateWrite, VariableBatchWrite};
use futures_util::TryStreamExt as _;
use progenitor_client::{ByteStream, Error};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

mod client {
    progenitor::generate_api!(spec = "../../openapi/openapi-3.0.json", interface = Builder);
}

/// The problem with which the server refuses. Its media type is `application/problem+json`, of which progenitor hands out the bytes.
async fn refusal<Answer>(answer: Result<Answer, Error<ByteStream>>) -> Problem {
    match answer {
        Err(Error::ErrorResponse(problem)) => {
            let bytes = problem.into_inner_stream().try_collect::<Vec<_>>().await.expect("the whole answer").concat();
            serde_json::from_slice(&bytes).expect("a problem")
        }
        Err(other) => panic!("not an answer: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn read<Body: serde::de::DeserializeOwned>(value: Value) -> Body {
    serde_json::from_value(value).expect("a body that the document allows")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let token = format!("Bearer {}", var("TOKEN").expect("TOKEN"));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, token.parse().expect("a token"))]);
    let http = reqwest::Client::builder().default_headers(headers).build().expect("an HTTP client");
    let client = Client::new_with_client(&var("API").expect("API"), http);
    let mut calls = 0;
    let mut call = || {
        calls += 1;
        client.clone()
    };

    let body: StateWrite = read(json!({"marking": {"received": 1}}));
    let saved = call().put_state().workflow_id("rust").execution_id("e1").body(body).send().await.expect("a state is saved");
    assert_eq!(Value::Object(saved.marking.clone()), json!({"received": 1}));
    assert_eq!(*saved.status, "running");
    let version = saved.version.get();

    let body: StateWrite = read(json!({"marking": {"lost": 1}}));
    let next = format!("\"{}\"", version + 1);
    let refused = refusal(call().put_state().workflow_id("rust").execution_id("e1").if_match(next).body(body).send().await).await;
    assert_eq!(refused.status, 412);
    assert_eq!(*refused.code, "precondition_failed");
    assert_eq!(refused.current_version.map(|version| version.get()), Some(version));

    let body: StateMergePatch = read(json!({"status": "waiting"}));
    let present = format!("\"{version}\"");
    let patched = call().patch_state().workflow_id("rust").execution_id("e1").if_match(present).body(body).send().await.expect("patched");
    assert_eq!((patched.status.as_str(), patched.version.get()), ("waiting", version + 1));

    let scope = "workflow:rust";
    let body: VariableBatchWrite = read(json!({"set": {"currency": "EUR", "rates": [0.07, 0.19], "rounding": {"digits": 2}}}));
    let written = call().write_variables().scope(scope).body(body).send().await.expect("a batch is written");
    let names: Vec<&str> = written.set.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["currency", "rates", "rounding"]);

    let first = call().list_variables().scope(scope).limit(2).send().await.expect("a page");
    let values: Vec<_> = first.items.iter().filter_map(|variable| variable.value.clone()).collect();
    assert_eq!(values, [json!("EUR"), json!([0.07, 0.19])]);
    let cursor = first.next_cursor.clone().expect("a second page follows");
    let second = call().list_variables().scope(scope).limit(2).cursor(cursor).send().await.expect("a page");
    let values: Vec<_> = second.items.iter().filter_map(|variable| variable.value.clone()).collect();
    assert_eq!(values, [json!({"digits": 2})]);
    assert_eq!(second.next_cursor, None);

    let body: SessionCreate = read(json!({"data": {"basket": ["book"]}, "ttl_seconds": 60}));
    let session = call().create_session().body(body).send().await.expect("a session begins");
    assert_eq!(session.data, Some(json!({"basket": ["book"]})));
    call().delete_session().session_id(session.session_id.to_string()).send().await.expect("the session ends");

    call().delete_state().workflow_id("rust").execution_id("e1").send().await.expect("the state is deleted");
    let gone = refusal(call().get_state().workflow_id("rust").execution_id("e1").send().await).await;
    assert_eq!(*gone.code, "state_not_found");

    println!("client rust: ok, {calls} calls");
}
