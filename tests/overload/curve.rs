//! O1 and O3: what is done of what is asked for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use nworkflow_state::config::Milliseconds;

use super::slow::Slow;
use super::{is_success, p99, say};
use crate::api::app::Caller;
use crate::support::size;

/// What came of a load.
struct Outcome {
    /// Answers with what was asked for, each second.
    goodput: f64,
    p99: Duration,
}

/// So many requests a second, whatever becomes of those before.
async fn offer(caller: &Caller, rate: f64, time: Duration) -> Outcome {
    let count = (rate * time.as_secs_f64()).ceil().max(1.0) as u32;
    let begin = tokio::time::Instant::now();
    let answers = join_all((0..count).map(|number| async move {
        tokio::time::sleep_until(begin + Duration::from_secs_f64(f64::from(number) / rate)).await;
        let begin = Instant::now();
        let answer = caller.get("/workflows").unchecked().send().await;
        is_success(&answer).then(|| begin.elapsed())
    }))
    .await;
    let good: Vec<Duration> = answers.into_iter().flatten().collect();
    Outcome { goodput: good.len() as f64 / begin.elapsed().as_secs_f64().max(time.as_secs_f64()), p99: p99(good) }
}

/// O1: with five times more than it can do a server does as much as it can, and as quickly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_load_is_no_less_work() {
    const TIME: Duration = Duration::from_secs(3);
    let slow = Slow::start(&[("server.max_in_flight", "4")], |config| config.pool_size = 4).await;
    let ada = slow.app.admin("acme");
    ada.get("/workflows").send().await.expect(200);
    slow.delay(Duration::from_millis(200));
    // All connections there are, before anything is measured; and then what four clients get done, one request after the other.
    join_all((0..4).map(|_| ada.get("/workflows").send())).await;
    let begin = Instant::now();
    let done = join_all((0..4).map(|_| async {
        let mut done = 0;
        while begin.elapsed() < TIME {
            done += u32::from(is_success(&ada.get("/workflows").unchecked().send().await));
        }
        done
    }))
    .await;
    let capacity = f64::from(done.into_iter().sum::<u32>()) / begin.elapsed().as_secs_f64();
    let mut curve = Vec::new();
    for factor in [0.5, 1.0, 2.0, 5.0] {
        curve.push((factor, offer(&ada, capacity * factor, TIME).await));
    }
    let points: Vec<String> =
        curve.iter().map(|(factor, outcome)| format!("{factor}x: {:.1}/s p99 {} ms", outcome.goodput, outcome.p99.as_millis())).collect();
    say("goodput_curve", format!("capacity {capacity:.1}/s; {}", points.join("; ")));
    let peak = curve.iter().map(|(_, outcome)| outcome.goodput).fold(0.0, f64::max);
    let (least, most) = (&curve[0].1, &curve[3].1);
    assert!(most.goodput >= 0.8 * peak, "goodput falls under load: {points:?}");
    assert!(most.p99 <= least.p99 * 2, "what is taken takes longer: {points:?}");
}

/// O3: when each question takes half a second more, few wait, and the others hear so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_database_is_not_waited_for_by_all() {
    const SLOWER: Duration = Duration::from_millis(500);
    let slow = Slow::start(&[], |config| {
        (config.pool_size, config.pool_queue, config.queue_capacity) = (4, 8, 8);
        config.pool_wait_ms = Milliseconds(200);
    })
    .await;
    let ada = slow.app.admin("acme");
    join_all((0..4).map(|_| ada.get("/workflows").send())).await;
    slow.delay(SLOWER);
    let (app, begin) = (&slow.app, tokio::time::Instant::now());
    let requests = join_all((0..120_u32).map(|number| {
        let ada = ada.clone();
        async move {
            tokio::time::sleep_until(begin + Duration::from_millis(10) * number).await;
            let state = format!("/workflows/w/executions/{number}/state");
            let call = if number % 2 == 0 { ada.put(&state, r#"{"marking":{}}"#) } else { ada.get("/workflows") };
            let begin = Instant::now();
            let answer = call.send().await;
            let depth = app.store.figures().queue_depth;
            (is_success(&answer), answer.verdict(), begin.elapsed(), depth)
        }
    }))
    .await;
    let good = requests.iter().filter(|(is_success, ..)| *is_success).count();
    let refused: Vec<_> = requests.iter().filter(|(is_success, ..)| !is_success).collect();
    let deepest = requests.iter().map(|(.., depth)| *depth).max().unwrap();
    let slowest = p99(refused.iter().map(|(_, _, took, _)| *took).collect());
    say(
        "pg_slow",
        format!("{good} done, {} refused, p99 of refusals {} ms, deepest queue {deepest} of 8", refused.len(), slowest.as_millis()),
    );
    // Full queues are told at once; who waits in one is told after the pool's wait, and that the database is busy, not away.
    let waited = refused.iter().filter(|(_, verdict, ..)| *verdict == (503, "overloaded".to_owned())).count();
    assert!(waited > 0 && refused.iter().all(|(_, (status, _), ..)| *status == 503), "{refused:?}");
    assert!(good > 0 && refused.len() > 20 && deepest <= 8);
    // 250 ms on a machine that does nothing else. Elsewhere it must only be clear that nobody waited for an answer of the database, which took longer.
    let bound = if size(0, 1) == 1 { Duration::from_millis(250) } else { SLOWER };
    assert!(slowest < bound, "a refusal is no answer that was waited for: {slowest:?}");
    // Reads and writes, each as it says.
    slow.delay(Duration::ZERO);
    ada.get("/workflows").send().await.expect(200);
}
