//! A request that is sent again, with its idempotency key, to another server while the first one is still at work.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Client, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::say;

/// A request: its method and path, its body, and a precondition.
struct Asked {
    method: Method,
    path: String,
    body: serde_json::Value,
    if_match: Option<i64>,
}

async fn send(client: &Client, asked: &Asked, key: &str) -> Answer {
    let mut request = client.request(asked.method.clone(), &asked.path).header("idempotency-key", key);
    if let Some(version) = asked.if_match {
        request = request.header("if-match", format!("\"{version}\""));
    }
    if asked.method != Method::DELETE {
        request = request.header("content-type", "application/json").body(asked.body.to_string());
    }
    Client::send(request).await
}

/// What there is before the request, and the request.
async fn prepare(client: &Client, kind: &str, round: usize) -> Asked {
    let name = format!("{kind}-{round}");
    let execution = format!("/workflows/w/executions/{name}");
    let (variable, session) = (format!("/variables/global/{name}"), format!("/sessions/{name}"));
    let put = |path: String, body: serde_json::Value| async move {
        let request = client.request(Method::PUT, &path).header("content-type", "application/json").body(body.to_string());
        Client::send(request).await.acknowledged()
    };
    let document = json!({"marking": {"p": 1}});
    let asked = |method, path: String, body, if_match| Asked { method, path, body, if_match };
    match kind {
        "put" => {
            let version = put(state(&name), document.clone()).await;
            asked(Method::PUT, state(&name), document, Some(version))
        }
        "delete" => {
            put(state(&name), document).await;
            asked(Method::DELETE, state(&name), json!(null), None)
        }
        "remove" => {
            put(state(&name), document).await;
            asked(Method::DELETE, execution, json!(null), None)
        }
        "variable" => {
            let version = put(variable.clone(), json!({"value": 1})).await;
            asked(Method::PUT, variable, json!({"value": 2}), Some(version))
        }
        "increment" => {
            let version = put(variable.clone(), json!({"value": 1})).await;
            asked(Method::POST, format!("{variable}/increment"), json!({"by": 1}), Some(version))
        }
        "batch" => {
            let version = put(variable, json!({"value": 1})).await;
            let body = json!({"set": {&name: 2}, "if_versions": {&name: version}});
            asked(Method::PATCH, "/variables/global".to_owned(), body, None)
        }
        "session" => asked(Method::POST, "/sessions".to_owned(), json!({"session_id": name, "data": 1}), None),
        "extend" => {
            let version = put(session.clone(), json!({"data": 1})).await;
            asked(Method::POST, format!("{session}/extend"), json!({"additional_seconds": 10}), Some(version))
        }
        "end" => {
            put(session.clone(), json!({"data": 1})).await;
            asked(Method::DELETE, session, json!(null), None)
        }
        "checkpoint" => {
            put(state(&name), document).await;
            asked(Method::POST, format!("{execution}/checkpoints"), json!({"checkpoint_id": "c"}), None)
        }
        _ => panic!("{kind}"),
    }
}

const KINDS: [&str; 10] = ["put", "delete", "remove", "variable", "increment", "batch", "session", "extend", "end", "checkpoint"];

/// The same request by way of two servers at once is one write with one answer: the second one is never refused for what the first one did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_by_way_of_another_server_is_never_refused_for_the_first_ones_effect() {
    const ROUNDS: usize = 12;
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = [Node::start(&ground, 0).await, Node::start(&ground, 1).await];
    let (mut refused, mut same, mut waits) = (Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        for kind in KINDS {
            let asked = prepare(&nodes[0].client, kind, round).await;
            let key = format!("{kind}-{round}");
            let (first, second) = tokio::join!(send(&nodes[0].client, &asked, &key), async {
                tokio::time::sleep(Duration::from_millis((round % 4) as u64)).await;
                send(&nodes[1].client, &asked, &key).await
            });
            for answer in [&first, &second] {
                match (answer.status, answer.code()) {
                    (200 | 201 | 204, _) => {}
                    (409, "idempotency_in_flight") | (503, "overloaded") => waits += 1,
                    _ => refused.push(format!("{kind}: {} {}", answer.status, answer.code())),
                }
            }
            same += usize::from((first.status, &first.body) == (second.status, &second.body));
        }
    }
    let pairs = ROUNDS * KINDS.len();
    say("D5 retry_elsewhere", format!("{pairs} pairs: refused {}, told to wait {waits}, the same answer {same}", refused.len()));
    assert!(refused.is_empty(), "{refused:?}");
    assert!(same > pairs / 2, "{same}");
}
