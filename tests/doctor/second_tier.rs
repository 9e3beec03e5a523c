//! The second cache tier: connection, login, TLS, rights, speed, memory, cluster.

use std::time::Duration;

use nworkflow_state::cache::dragonfly::ACL_RULES;

use super::{Doctor, Report};
use crate::support::postgres::{APP, TestDatabase};
use crate::support::redis::cluster::RedisCluster;
use crate::support::redis::{Acl, Options, RedisServer};
use crate::support::tcp_proxy::{Mode, TcpProxy};

/// What it says about this tier, beside a database that is well.
async fn report(change: impl FnOnce(Doctor) -> Doctor) -> Report {
    let database = TestDatabase::migrated().await;
    // Many tests share few cores: what is tested here is not how quick the server is.
    let doctor = Doctor::new()
        .database(database.url(APP))
        .set("DRAGONFLY__OPERATION_TIMEOUT_MS", "20000")
        .set("DRAGONFLY__CONNECT_TIMEOUT_MS", "5000");
    change(doctor).run().await
}

fn settings(settings: &[&str]) -> Options {
    Options { settings: settings.iter().map(|line| (*line).to_owned()).collect(), ..Options::default() }
}

#[tokio::test]
async fn a_tier_that_is_ready_is_well_and_what_it_does_when_it_is_full_is_told() {
    let server = RedisServer::start(settings(&["maxmemory 64mb", "maxmemory-policy allkeys-lru"]));
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await;
    found.well(&[
        "ok     second cache tier: Redis 7",
        "ok     second cache tier speed",
        "ok     second cache tier memory: maxmemory 67108864, policy allkeys-lru",
    ]);

    let server = RedisServer::start(Options::default());
    report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await.well(&["note   second cache tier memory: maxmemory is not set"]);

    let server = RedisServer::start(settings(&["maxmemory 64mb", "maxmemory-policy noeviction"]));
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await;
    found.wrong("second cache tier memory", &["noeviction", "refuses all writes when it is full"], "maxmemory-policy allkeys-lru");
}

#[tokio::test]
async fn no_connection_is_told_apart_by_its_reason() {
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", "redis://127.0.0.1:1")).await;
    found.wrong("second cache tier", &["127.0.0.1:1", "failed"], "Start it, or correct host and port");

    let server = RedisServer::start(Options { password: Some("right".into()), ..Options::default() });
    for url in [format!("redis://{}", server.address()), format!("redis://:hunter2@{}", server.address())] {
        let found = report(|doctor| doctor.set("DRAGONFLY__URL", url)).await;
        found.wrong("second cache tier", &[], "Correct user and password");
        assert!(!found.printed.contains("hunter2"));
    }

    let server = RedisServer::start(Options { tls: true, ..Options::default() });
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await;
    found.wrong("second cache tier", &[], "dragonfly.ca_file");
    let ca = server.ca_file();
    let trusting = |doctor: Doctor| doctor.set("DRAGONFLY__URL", server.url()).set("DRAGONFLY__CA_FILE", ca.to_str().unwrap());
    report(trusting).await.well(&["ok     second cache tier: Redis 7"]);
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", format!("redis://{}", server.address()))).await;
    found.wrong("second cache tier", &[], "rediss://");

    let server = RedisServer::start(Options::default());
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", format!("rediss://{}", server.address()))).await;
    found.wrong("second cache tier", &[], "does not speak TLS");
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_with_all_that_are_needed() {
    let user = |rules: String| Options { acl: Some(Acl { user: "app".into(), password: "word".into(), rules }), ..Options::default() };
    let server = RedisServer::start(user(ACL_RULES.to_owned()));
    report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await.well(&["ok     second cache tier: Redis 7"]);
    for missing in ["+publish", "+evalsha", "+set", "+info", "~m1:*", "&m1:*"] {
        let server = RedisServer::start(user(ACL_RULES.replacen(&format!("{missing} "), "", 1)));
        let found = report(|doctor| doctor.set("DRAGONFLY__URL", server.url())).await;
        found.wrong("second cache tier", &[], &format!("ACL SETUSER ... on >... {ACL_RULES}"));
    }
}

#[tokio::test]
async fn a_server_that_is_too_slow_is_told() {
    let server = RedisServer::start(Options::default());
    let proxy = TcpProxy::start(server.address()).await;
    proxy.set_both(Mode::Delay(Duration::from_millis(30), Duration::ZERO));
    let slow =
        |doctor: Doctor| doctor.set("DRAGONFLY__URL", format!("redis://{}", proxy.address())).set("DRAGONFLY__OPERATION_TIMEOUT_MS", "10");
    report(slow).await.wrong("second cache tier speed", &["dragonfly.operation_timeout_ms is 10"], "Put it nearer");
}

#[tokio::test]
async fn a_cluster_and_its_setting_must_agree() {
    let cluster = tokio::task::spawn_blocking(|| RedisCluster::start(&Options::default())).await.unwrap();
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", cluster.urls()[0].clone())).await;
    assert_eq!(found.code, Some(1), "{}", found.printed);
    assert!(found.printed.contains("Set dragonfly.cluster") || found.printed.contains("set dragonfly.cluster"), "{}", found.printed);
    let urls = cluster.urls().join(",");
    report(|doctor| doctor.set("DRAGONFLY__URL", urls).set("DRAGONFLY__CLUSTER", "true"))
        .await
        .well(&["ok     second cache tier: Redis 7"]);
    let server = RedisServer::start(Options::default());
    let found = report(|doctor| doctor.set("DRAGONFLY__URL", server.url()).set("DRAGONFLY__CLUSTER", "true")).await;
    found.wrong("second cache tier", &[], "unset dragonfly.cluster");
}
