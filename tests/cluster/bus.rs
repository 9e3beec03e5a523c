//! The bus is cut, loses messages, or is not listened to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;

use super::client::{Client, From, state};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::{quantile, say, spread, until};
use crate::support::redis::resp::Value;
use crate::support::tcp_proxy::{Direction, Mode, TcpProxy};

/// Time after which a server that hears nothing has put its local tier off: the setting, the pause between two looks, and a machine that may have
/// other things to do. The figures that are printed are what is promised.
const BOUND: Duration = Duration::from_millis(1500 + 100 + 3000);

/// One writer of a key and one reader of it, each without pause. The answer is how long the reader was behind at worst.
async fn longest_behind(writer: &Client, reader: &Client, path: &str, until: Arc<AtomicBool>) -> (Duration, usize) {
    let written = std::sync::Mutex::new(Vec::new());
    let (mut longest, mut reads) = (Duration::ZERO, 0);
    let writing = async {
        while !until.load(Ordering::SeqCst) {
            let version = writer.put(path).await.acknowledged();
            written.lock().unwrap().push((version, Instant::now()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reading = async {
        while !until.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let version = reader.get(path).await.version;
            reads += 1;
            let newer = written.lock().unwrap().iter().find(|(written, _)| *written > version).map(|(_, at)| *at);
            longest = longest.max(newer.and_then(|at| begun.checked_duration_since(at)).unwrap_or_default());
        }
    };
    tokio::join!(writing, reading);
    (longest, reads)
}

/// C6: the connections of one server to the second tier break, in each of the ways in which connections do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_is_cut() {
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let lifecycle = Lifecycle::new();
    for how in ["reset", "stall", "half-open", "silence of the bus alone"] {
        let (mut off_after, mut back_after) = (Vec::new(), Vec::new());
        let over = Arc::new(AtomicBool::new(false));
        let watching = {
            let (writer, reader, path, over) =
                (nodes[0].client.clone(), nodes[1].client.clone(), state(format!("c6-{}", &how[..3])), Arc::clone(&over));
            lifecycle.spawn(async move { longest_behind(&writer, &reader, &path, over).await })
        };
        for _ in 0..3 {
            let way = ground.to_tier(1);
            let losses = nodes[1].bus().losses;
            let begin = Instant::now();
            match how {
                "reset" => way.reset(),
                "stall" => way.set_both(Mode::Stall),
                "half-open" => way.half_open(),
                // Every message is dropped, and no reply: nothing but the bus is away.
                _ => way.set(Direction::ToClient, Mode::DropMessages(1, 1)),
            }
            until("the local tier goes off", async || !nodes[1].local().enabled || nodes[1].bus().losses > losses).await;
            off_after.push(begin.elapsed());
            way.set_both(Mode::Pass);
            if how == "half-open" {
                way.reset();
            }
            back_after.push(nodes[1].settles().await);
        }
        over.store(true, Ordering::SeqCst);
        let (longest, reads) = watching.await.unwrap();
        let slowest = off_after.iter().max().copied().unwrap();
        say(
            &format!("C6 bus_cut ({how})"),
            format!(
                "local tier off after {}; on again after {}; {reads} reads meanwhile, the longest behind {longest:?}",
                spread(off_after),
                spread(back_after)
            ),
        );
        assert!(slowest < BOUND, "{how}: {slowest:?}");
        assert!(longest < BOUND, "{how}: {longest:?}");
    }
}

/// How many words of writes were lost. A lost heartbeat says nothing that the next one does not say.
fn lost_words(way: &TcpProxy) -> usize {
    let is_of_write = |message: &Value| match message {
        Value::Items(parts) | Value::Push(parts) => parts.last().is_some_and(|line| line.to_text().contains(" write ")),
        _ => false,
    };
    way.lost().iter().filter(|message| is_of_write(message)).count()
}

/// C7: one message in a hundred is lost on the way to one server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_lost() {
    const WAVES: usize = 12;
    const KEYS: usize = 60;
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let paths: Vec<_> = (0..KEYS).map(|number| state(format_args!("c7-{number}"))).collect();
    for path in &paths {
        nodes[0].client.put(path).await.acknowledged();
    }
    let way = ground.to_tier(1);
    way.set(Direction::ToClient, Mode::DropMessages(100, 11));
    let (mut stale, mut longest, mut waves_hit, mut waves_found) = (0, Duration::ZERO, 0, 0);
    for _ in 0..WAVES {
        for path in &paths {
            until("it is in the local tier", async || nodes[1].client.get(path).await.from == From::Local).await;
        }
        let (dropped, gaps) = (lost_words(way), nodes[1].bus().gaps);
        let mut versions = Vec::new();
        for path in &paths {
            versions.push((nodes[0].client.put(path).await.acknowledged(), Instant::now()));
        }
        let dropped = lost_words(way) - dropped;
        let begin = Instant::now();
        // A heartbeat covers what was said, and a while later what is missing is missed.
        for (path, (version, acknowledged)) in paths.iter().zip(&versions) {
            until("it is not behind any more", async || {
                let begun = Instant::now();
                let is_behind = nodes[1].client.get(path).await.version < *version;
                if is_behind {
                    (stale, longest) = (stale + 1, longest.max(begun - *acknowledged));
                }
                !is_behind
            })
            .await;
        }
        if dropped > 0 {
            waves_hit += 1;
            let waited =
                tokio::time::timeout(Duration::from_millis(2500), until("it is missed", async || nodes[1].bus().gaps > gaps)).await;
            waves_found += usize::from(waited.is_ok());
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    let (counts, bus) = (way.counts(), nodes[1].bus());
    way.set(Direction::ToClient, Mode::Pass);
    say(
        "C7 bus_drop_messages",
        format!(
            "{} of {} messages dropped in {waves_hit} of {WAVES} waves, noticed in {waves_found}; gaps {} doubts {}; reads behind {stale}, the longest {longest:?}",
            counts.dropped, counts.messages, bus.gaps, bus.doubts
        ),
    );
    assert!(waves_hit > 0 && bus.gaps > 0);
    assert_eq!(waves_hit, waves_found);
    assert!(longest < BOUND, "{longest:?}");
}

/// C23: one server does not read what it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_does_not_listen() {
    const LASTS: Duration = Duration::from_secs(3);
    let ground = Ground::new(Flavour::Redis).await;
    let nodes = Node::start_all(&ground).await;
    let write_for = async |lasts: Duration| {
        let (begin, mut took) = (Instant::now(), Vec::new());
        while begin.elapsed() < lasts {
            let path = state(format_args!("c23-{}", took.len() % 50));
            let (one, other) = tokio::join!(nodes[0].client.put(&path), nodes[1].client.put(&path));
            for answer in [one, other] {
                answer.acknowledged();
                took.push(answer.took);
            }
        }
        took
    };
    let mut usual = write_for(LASTS / 2).await;
    ground.to_tier(2).set(Direction::ToClient, Mode::Hold);
    let begin = Instant::now();
    let off = async {
        until("its local tier is off", async || !nodes[2].local().enabled).await;
        begin.elapsed()
    };
    let (mut slow, off_after) = tokio::join!(write_for(LASTS), off);
    ground.to_tier(2).set(Direction::ToClient, Mode::Pass);
    let back_after = nodes[2].settles().await;
    usual.sort();
    slow.sort();
    let (before, during) = (quantile(&usual, 0.99), quantile(&slow, 0.99));
    say(
        "C23 slow_subscriber",
        format!(
            "writes of the others p99 {before:?} before, {during:?} while ({} writes); its local tier off after {off_after:?}, on again {back_after:?} after it",
            slow.len()
        ),
    );
    assert!(off_after < BOUND, "{off_after:?}");
    assert!(during < before + Duration::from_secs(1), "{before:?} {during:?}");
}
