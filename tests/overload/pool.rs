//! O10: all connections are busy, and then they are not.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nworkflow_state::config::Milliseconds;

use super::slow::Slow;
use super::{is_success, say};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_recovers_by_itself() {
    let slow = Slow::start(&[], |config| {
        (config.pool_size, config.pool_queue, config.queue_capacity) = (2, 3, 3);
        config.acquire_timeout_ms = Milliseconds(500);
        config.statement_timeout_ms = Milliseconds(60_000);
        config.lock_timeout_ms = Milliseconds(60_000);
    })
    .await;
    let ada = slow.app.admin("acme");
    ada.get("/workflows").send().await.expect(200);
    let holder = slow.hold().await;
    let calls = (0..20).map(|number| {
        let state = format!("/workflows/w/executions/{number}/state");
        let call = if number % 2 == 0 { ada.get("/workflows") } else { ada.put(&state, r#"{"marking":{}}"#) };
        call.header("x-request-timeout-ms", "2000").send()
    });
    let answers = join_all(calls).await;
    let mut counts = std::collections::BTreeMap::new();
    for answer in &answers {
        assert!(!is_success(answer), "{answer:?}");
        *counts.entry(answer.verdict().1).or_insert(0) += 1;
    }
    assert!(counts.get("queue_full").copied().unwrap_or(0) >= 5, "{counts:?}");
    // Whether the database answers is asked on a connection apart.
    slow.app.anonymous().get("/health/ready").send().await.expect(200);
    Slow::release(holder).await;
    let begin = Instant::now();
    while !is_success(&ada.get("/workflows").send().await) {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not recover");
    }
    let recovery = begin.elapsed();
    join_all((0..4).map(|_| ada.get("/workflows").send())).await.iter().for_each(|answer| assert!(is_success(answer)));
    say("pool_exhaustion", format!("{counts:?}, recovery {} ms", recovery.as_millis()));
}
