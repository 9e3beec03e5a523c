//! Crashes: the server and its database are killed under load, and every promise that was made to a client is held against what is left.

#[path = "crash/load.rs"]
mod load;
#[path = "crash/oracle.rs"]
mod oracle;
#[path = "crash/server.rs"]
mod server;

use std::process::Command;

use nworkflow_state::lifecycle::Lifecycle;
use reqwest::Method;

use load::{Load, Sender};
use oracle::{Tables, judge};
use server::{Server, Target};

use crate::support::documents::{Random, fresh_seed};
use crate::support::postgres::{APP, TestDatabase};
use crate::support::postgres_cluster::{Cluster, pause};

/// Set to a seed, the runs are made with it.
const SEED: &str = "NWORKFLOW_TEST_SEED";

fn seed() -> u64 {
    std::env::var(SEED).map_or_else(|_| fresh_seed() % 1_000_000, |seed| seed.parse().unwrap())
}

/// Kills the server, again and again, while clients write.
async fn kill_the_server(name: &str, rounds: usize, database_url: Option<String>, tables: Option<Tables>) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Server::new(database_url);
    let tables = tables.unwrap_or_else(|| Tables::File(server.data_dir()));
    let mut load = Load::start(seed, &Lifecycle::new());
    for _ in 0..rounds {
        load.goes_to(&server.start());
        load.progress(20 + random.below(100)).await;
        server.kill();
        load.pauses();
    }
    let operations = load.finish().await;
    tables.check_integrity().await;
    let target = server.start();
    judge(name, seed, rounds, operations, &tables, &target).await;
    server.kill();
    tables.check_integrity().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_server_is_killed() {
    kill_the_server("server on SQLite killed", 10, None, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_on_postgres_is_killed() {
    let database = TestDatabase::migrated().await;
    let tables = Tables::Url(database.url("postgres"));
    kill_the_server("server on PostgreSQL killed", 10, Some(database.url(APP)), Some(tables)).await;
}

/// The status, the code and the Retry-After of a GET.
async fn probe(sender: &Sender, target: &Target, path: &str) -> (u16, String, Option<String>) {
    let answer = sender.request(target, Method::GET, path).send().await.unwrap();
    let (status, after) = (answer.status().as_u16(), answer.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned()));
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned(), after)
}

/// Waits until a GET is answered with this status.
async fn wait_for(sender: &Sender, target: &Target, path: &str, status: u16) {
    for _ in 0..2000 {
        if probe(sender, target, path).await.0 == status {
            return;
        }
        pause();
    }
    panic!("{path} is never answered with {status}");
}

/// PostgreSQL kills all its sessions when one of them is killed, and recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_postgres_is_killed() {
    const ROUNDS: usize = 6;
    let seed = seed();
    let mut random = Random::new(seed);
    let cluster = Cluster::start_new();
    let mut server = Server::new(Some(cluster.url()));
    let target = server.start();
    let mut load = Load::start(seed, &Lifecycle::new());
    load.goes_to(&target);
    for _ in 0..ROUNDS {
        load.progress(20 + random.below(100)).await;
        cluster.kill_backend();
    }
    load.progress(50).await;
    let operations = load.finish().await;
    assert!(server.is_running(), "the server did not live through it: {}", server.log_text());
    judge("a session of PostgreSQL killed", seed, ROUNDS, operations, &Tables::Url(cluster.url()), &target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_of_postgres_is_killed() {
    const ROUNDS: usize = 4;
    let seed = seed();
    let mut random = Random::new(seed);
    let sender = Sender::new();
    let mut cluster = Cluster::start_new();
    let mut server = Server::new(Some(cluster.url()));
    let target = server.start();
    let mut load = Load::start(seed, &Lifecycle::new());
    load.goes_to(&target);
    for _ in 0..ROUNDS {
        load.progress(20 + random.below(100)).await;
        cluster.crash();
        for path in ["/workflows/w/executions/e1/state", "/variables/workflow:w", "/health/ready"] {
            let (status, code, retry_after) = probe(&sender, &target, path).await;
            assert_eq!((status, &*code, retry_after.as_deref()), (503, "store_unavailable", Some("1")), "{path}");
        }
        assert_eq!(probe(&sender, &target, "/health/live").await.0, 200);
        cluster.start();
        wait_for(&sender, &target, "/health/ready", 200).await;
    }
    load.progress(50).await;
    let operations = load.finish().await;
    assert!(server.is_running(), "the server did not live through it: {}", server.log_text());
    judge("the whole of PostgreSQL killed", seed, ROUNDS, operations, &Tables::Url(cluster.url()), &target).await;
}

/// A limit on the size of files stands for a full disk: writes fail, reads go on, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_full() {
    const ROUNDS: usize = 3;
    let seed = seed();
    let mut random = Random::new(seed);
    let sender = Sender::new();
    let mut server = Server::new(None);
    let target = server.start();
    let mut load = Load::start(seed, &Lifecycle::new());
    load.goes_to(&target);
    let limit = |server: &Server, bytes: &str| {
        let arguments = [format!("--fsize={bytes}:unlimited"), format!("--pid={}", server.process())];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    };
    let canary = "/variables/workflow:canary/v";
    let put = || sender.request(&target, Method::PUT, canary).header("content-type", "application/json").body(r#"{"value":1}"#).send();
    assert_eq!(put().await.unwrap().status(), 201);
    for _ in 0..ROUNDS {
        load.progress(20 + random.below(100)).await;
        // The log of the database is larger by now, so it takes nothing more.
        limit(&server, "65536");
        let refused = put().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers().get("retry-after").map(|after| after.as_bytes())), (503, Some(&b"1"[..])));
        assert_eq!(probe(&sender, &target, canary).await.0, 200, "reads go on");
        assert_eq!(probe(&sender, &target, "/health/live").await.0, 200);
        limit(&server, "unlimited");
    }
    load.progress(50).await;
    let operations = load.finish().await;
    assert!(server.is_running(), "the server did not live through it: {}", server.log_text());
    let tables = Tables::File(server.data_dir());
    judge("the disk full", seed, ROUNDS, operations, &tables, &target).await;
    server.kill();
    tables.check_integrity().await;
}
