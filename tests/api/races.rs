//! Many clients at once, clients that leave, deadlines, overload, and handlers that die.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::app::{Answer, Call, Caller, DOCUMENT, Options, TestApp};
use super::on_both_stores;
use crate::support::faulty::Behaviour;

on_both_stores!(
    a_hundred_writers_leave_no_gap,
    one_writer_wins_each_version,
    one_creator_wins,
    lists_of_tags_compare_and_set_under_contention,
    no_update_is_lost,
    clients_that_leave_break_nothing,
    a_write_goes_on_behind_its_deadline,
    a_read_ends_at_its_deadline,
    too_many_requests_are_shed,
    a_panic_is_an_answer,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const VARIABLE: &str = "/variables/workflow:order/v";
const TARGETS: [&str; 2] = [STATE, VARIABLE];

fn body(path: &str, number: usize) -> String {
    if path.ends_with("/state") { json!({"marking": {"p": number}}) } else { json!({"value": number}) }.to_string()
}

fn number(answer: &Answer) -> u64 {
    let json = answer.json();
    [&json["marking"]["p"], &json["value"]].into_iter().find_map(Value::as_u64).unwrap()
}

fn version(answer: &Answer) -> u64 {
    answer.json()["version"].as_u64().unwrap()
}

fn put(caller: &Caller, path: &str, number: usize) -> Call {
    caller.put(path, body(path, number))
}

/// Sends a write until the store has a place for it. Such an answer promises that nothing was written.
async fn insist(call: impl Fn() -> Call) -> Answer {
    for _ in 0..200 {
        let answer = call().send().await;
        if !matches!(answer.verdict().1.as_str(), "store_unavailable" | "queue_full" | "overloaded") {
            return answer;
        }
    }
    panic!("the store has no place for the write");
}

async fn a_hundred_writers_leave_no_gap(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        let answers = join_all((0..100).map(|writer| {
            let ada = ada.clone();
            async move { (writer, insist(|| put(&ada, path, writer)).await) }
        }))
        .await;
        let mut last = (0, 0);
        let mut versions = BTreeSet::new();
        for (writer, answer) in answers {
            assert!(matches!(answer.status.as_u16(), 200 | 201), "{answer:?}");
            assert_eq!(number(&answer), u64::try_from(writer).unwrap(), "the answer is the writer's own");
            assert_eq!(version(&answer) == 1, answer.status == 201);
            last = last.max((version(&answer), number(&answer)));
            versions.insert(version(&answer));
        }
        assert_eq!(versions, (1..=100).collect(), "{path}");
        let head = ada.get(path).send().await.expect(200);
        assert_eq!((version(&head), number(&head)), last, "the last version is there");
    }
    let items = ada.get(&format!("{STATE}/history?order=asc&limit=200")).send().await.expect(200).json()["items"].clone();
    let kept: Vec<u64> = items.as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect();
    assert_eq!(kept, (1..=100).collect::<Vec<_>>());
}

async fn one_writer_wins_each_version(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        put(&ada, path, 0).send().await.expect(201);
        for round in 1..=20_u64 {
            let tag = format!("\"{round}\"");
            let calls = (0..10).map(|writer| {
                let (ada, tag) = (&ada, &tag);
                async move { insist(|| put(ada, path, writer).header("if-match", tag)).await }
            });
            let answers = join_all(calls).await;
            let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
            assert_eq!(winners.len(), 1, "{path} {round}: {answers:?}");
            assert_eq!(version(winners[0]), round + 1);
            for loser in answers.iter().filter(|answer| answer.status != 200) {
                assert_eq!(loser.verdict(), (412, "precondition_failed".to_owned()));
                assert_eq!(loser.json()["current_version"], round + 1, "{path}: {}", loser.text());
            }
            let head = ada.get(path).send().await.expect(200);
            assert_eq!(number(&head), number(winners[0]));
        }
    }
}

async fn one_creator_wins(app: TestApp) {
    let ada = app.admin("acme");
    for round in 0..10 {
        for path in [format!("/workflows/order/executions/r{round}/state"), format!("/variables/workflow:order/r{round}")] {
            let calls = (0..10).map(|writer| {
                let (ada, path) = (&ada, &path);
                async move { insist(|| put(ada, path, writer).header("if-none-match", "*")).await }
            });
            let mut statuses: Vec<u16> = join_all(calls).await.iter().map(|answer| answer.status.as_u16()).collect();
            statuses.sort_unstable();
            assert_eq!(statuses, [[201].as_slice(), &[412; 9]].concat(), "{path}");
        }
    }
}

async fn lists_of_tags_compare_and_set_under_contention(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        put(&ada, path, 0).send().await.expect(201);
        let mut current = 1;
        for round in 0..10 {
            let tags = format!("\"{current}\", \"{}\", \"9007199254740991\"", current + 1);
            let calls = (0..10).map(|writer| {
                let (ada, tags) = (&ada, &tags);
                async move { insist(|| put(ada, path, writer).header("if-match", tags)).await }
            });
            let answers = join_all(calls).await;
            let mut won: Vec<u64> = answers.iter().filter(|answer| answer.status == 200).map(version).collect();
            won.sort_unstable();
            // The list names two versions, so it lets at most two writers through, one after the other.
            assert!(won == [current + 1] || won == [current + 1, current + 2], "{path} {round}: {won:?}");
            for loser in answers.iter().filter(|answer| answer.status != 200) {
                assert!(matches!(loser.status.as_u16(), 409 | 412), "{loser:?}");
            }
            let head = ada.get(path).send().await.expect(200);
            current = version(&head);
            assert_eq!(Some(&current), won.last());
        }
    }
}

async fn no_update_is_lost(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        put(&ada, path, 0).send().await.expect(201);
        let counters = (0..8).map(|counter| {
            let ada = &ada;
            async move {
                for _ in 0..6 {
                    loop {
                        let read = ada.get(path).send().await.expect(200);
                        let next = usize::try_from(number(&read)).unwrap() + 1;
                        // Half of them send a list, which the service compares and sets.
                        let tag = if counter % 2 == 0 { read.etag().to_owned() } else { format!("{}, \"9007199254740991\"", read.etag()) };
                        let written = insist(|| put(ada, path, next).header("if-match", &tag)).await;
                        if written.status == 200 {
                            break;
                        }
                        assert!(matches!(written.status.as_u16(), 409 | 412), "{written:?}");
                    }
                }
            }
        });
        join_all(counters).await;
        let head = ada.get(path).send().await.expect(200);
        assert_eq!((number(&head), version(&head)), (48, 49), "{path}");
    }
}

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// After everything was sent, in order.
    Closing,
    /// After everything was sent, with a reset.
    Resetting,
    /// In the middle of the body.
    HalfWay,
}

async fn leave(address: SocketAddr, token: &str, path: &str, body: &str, how: Leave) {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    if matches!(how, Leave::Resetting) {
        stream.set_zero_linger().unwrap();
    }
    let body = if matches!(how, Leave::HalfWay) { &body[..body.len() / 2] } else { body };
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await.unwrap();
    drop(stream);
}

async fn clients_that_leave_break_nothing(app: TestApp) {
    const CLIENTS: usize = 300;
    let server = app.beside(Options::default()).await;
    let token = server.token("acme", "admin", &["nworkflow-admin"]);
    put(&server.admin("acme"), STATE, 0).send().await.expect(201);
    let ways = [Leave::Closing, Leave::Resetting, Leave::HalfWay];
    let paths: Vec<String> =
        (0..CLIENTS)
            .map(|client| {
                if client % 2 == 0 {
                    format!("/workflows/w/executions/e{client}/state")
                } else {
                    format!("/variables/workflow:w/v{client}")
                }
            })
            .collect();
    let whole = |client: usize| {
        let text = format!("{client}-{}", "x".repeat(2000));
        if client.is_multiple_of(2) { json!({"marking": {"p": [text]}}) } else { json!({"value": [text]}) }
    };
    for batch in (0..CLIENTS).collect::<Vec<_>>().chunks(20) {
        // All write the shared key as well, so that one that is torn would hold up the others.
        let leaving = batch.iter().flat_map(|&client| {
            let (body, how) = (whole(client).to_string(), ways[client % 3]);
            [&*paths[client], STATE].map(|path| {
                let (token, body) = (&token, if path == STATE { self::body(STATE, client) } else { body.clone() });
                async move { leave(server.address, token, path, &body, how).await }
            })
        });
        join_all(leaving).await;
        server.admin("acme").get("/limits").send().await.expect(200);
    }
    let ada = server.admin("acme");
    insist(|| put(&ada, VARIABLE, 1)).await.expect(201);
    // Every request at work and every write that it began has ended then.
    server.lifecycle.stop();
    server.lifecycle.finished().await;

    let ada = app.admin("acme");
    let mut there = 0;
    for (client, path) in paths.iter().enumerate() {
        let found = ada.get(path).send().await;
        if found.status == 404 {
            continue;
        }
        let (found, sent) = (found.expect(200).json(), whole(client));
        assert!(!matches!(ways[client % 3], Leave::HalfWay), "half a request was written: {path}");
        assert_eq!(found["version"], 1);
        let (member, _) = sent.as_object().unwrap().iter().next().unwrap();
        assert_eq!(found[member], sent[member], "{path}");
        there += 1;
    }
    let shared = ada.get(&format!("{STATE}/history?order=asc&limit=1000")).send().await.expect(200).json();
    let versions: Vec<u64> = shared["items"].as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "the shared key has no gap");
    assert!(there > 0, "no write of a client that left was ever done: the test tries nothing");
}

async fn a_write_goes_on_behind_its_deadline(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        // What the store has not begun by then it does not begin.
        app.faults.set(Behaviour::Hold);
        let late = put(&ada, path, 6).header("x-request-timeout-ms", "300").send();
        let (late, ()) = tokio::join!(late, app.faults.wait_for_calls(1));
        late.problem(504, "deadline_exceeded");
        app.faults.set(Behaviour::Pass);
        app.faults.wait_until_idle().await;
        ada.get(path).send().await.expect(404);

        app.faults.set(Behaviour::HoldWriteAnswers);
        let late = put(&ada, path, 7).header("x-request-timeout-ms", "300").send();
        let (late, ()) = tokio::join!(late, app.faults.wait_for_calls(1));
        let late = late.problem(504, "deadline_exceeded");
        assert!(late.json()["detail"].as_str().unwrap().contains("300 ms"));
        app.faults.set(Behaviour::Pass);
        app.faults.wait_until_idle().await;
        let found = ada.get(path).send().await.expect(200);
        assert_eq!((number(&found), version(&found)), (7, 1), "the write goes on");

        // With a millisecond it may end before the store is asked, or not. Either way it is whole.
        app.faults.set(Behaviour::Hold);
        for writer in 100..120 {
            put(&ada, path, writer).header("x-request-timeout-ms", "1").send().await.problem(504, "deadline_exceeded");
        }
        app.faults.set(Behaviour::Pass);
        app.faults.wait_until_idle().await;
        let last = version(&put(&ada, path, 200).send().await.expect(200));
        assert!((2..=22).contains(&last), "{last}");
    }
}

async fn a_read_ends_at_its_deadline(app: TestApp) {
    let ada = app.admin("acme");
    put(&ada, STATE, 1).send().await.expect(201);
    app.faults.set(Behaviour::Hold);
    for path in [STATE, "/workflows/order/executions/e1/state/history", VARIABLE, "/variables/workflow:order"] {
        ada.get(path)
            .header("cache-control", "no-cache")
            .header("x-request-timeout-ms", "20")
            .send()
            .await
            .problem(504, "deadline_exceeded");
    }
    let short = app.beside(Options::default().set("server.request_timeout_ms", "20")).await;
    short.admin("acme").get(STATE).send().await.problem(504, "deadline_exceeded");
    short.admin("acme").get(STATE).header("x-request-timeout-ms", "60000").send().await.problem(504, "deadline_exceeded");
    app.faults.set(Behaviour::Pass);
    short.admin("acme").get("/limits").send().await.expect(200);
    ada.get(STATE).send().await.expect(200);
}

async fn too_many_requests_are_shed(app: TestApp) {
    let server = app.beside(Options::default().set("server.max_in_flight", "4")).await;
    let ada = server.admin("acme");
    app.faults.set(Behaviour::Hold);
    let at_work: Vec<_> =
        (0..4).map(|client| server.lifecycle.spawn(put(&ada, &format!("/variables/workflow:w/{client}"), client).send())).collect();
    app.faults.wait_for_calls(4).await;
    for path in [STATE, VARIABLE, "/limits"] {
        let shed = ada.get(path).unchecked().send().await.problem(503, "overloaded");
        assert_eq!((shed.header("retry-after"), &shed.json()["limit"]), (Some("1"), &json!(4)));
    }
    put(&ada, STATE, 1).send().await.problem(503, "overloaded");
    server.anonymous().get(STATE).send().await.problem(503, "overloaded");
    // The client of a large body reads the answer, too.
    let large = json!({"marking": {}, "metadata": {"large": "x".repeat(2_000_000)}}).to_string();
    for _ in 0..5 {
        ada.put(STATE, large.clone()).send().await.problem(503, "overloaded");
    }
    for probe in ["/health/live", "/health/ready"] {
        server.anonymous().get(probe).send().await.expect(200);
        let codes = &DOCUMENT["paths"][probe]["get"]["responses"]["503"]["x-codes"];
        assert!(codes.as_array().is_none_or(|codes| !codes.contains(&json!("overloaded"))), "{probe}: {codes}");
    }
    app.faults.set(Behaviour::Pass);
    for answer in join_all(at_work).await {
        answer.unwrap().expect(201);
    }
    ada.get(STATE).send().await.problem(404, "state_not_found");
    put(&ada, STATE, 1).send().await.expect(201);
}

async fn a_panic_is_an_answer(app: TestApp) {
    let ada = app.admin("acme");
    for path in TARGETS {
        app.faults.set(Behaviour::Panic("swordfish"));
        let keyed = || put(&ada, path, 1).header("idempotency-key", path);
        for call in [keyed(), keyed(), put(&ada, path, 1), ada.get(path), ada.delete(path)] {
            let answer = call.send().await.problem(500, "internal");
            let all = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
            assert!(!all.contains("swordfish") && !all.contains("panic"), "{all}");
        }
        assert_eq!(app.anonymous().get("/health/ready").unchecked().send().await.status, 500);
        app.anonymous().get("/health/live").send().await.expect(200);
        app.faults.set(Behaviour::Pass);
        keyed().send().await.expect(201);
        app.anonymous().get("/health/ready").send().await.expect(200);
    }
}
