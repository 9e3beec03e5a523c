//! The servers do to a client what the tests that use them count on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cluster::RedisCluster;
use super::resp::{Connection, Value};
use super::{Acl, Binary, Options, RedisServer};

fn ok() -> Value {
    Value::text("OK")
}

/// What a client without credentials is told.
fn stranger(server: &RedisServer, words: &[&str]) -> Value {
    Connection::tcp(server.address()).unwrap().command(words).unwrap()
}

#[test]
fn each_program_runs_under_a_process_that_ends_with_the_test() {
    for binary in Binary::ALL {
        let server = RedisServer::start(Options { binary, settings: vec!["maxmemory 64mb".into()], ..Options::default() });
        assert_eq!(stranger(&server, &["PING"]), Value::text("PONG"));
        let version = server.info(if binary == Binary::Redis { "redis_version" } else { "valkey_version" });
        assert!(version.starts_with(if binary == Binary::Redis { "7." } else { "9." }), "{version}");
        assert_eq!(server.info("maxmemory"), "67108864");
        let process = format!("/proc/{}", server.process());
        assert!(Path::new(&process).exists());
        drop(server);
        assert!(!Path::new(&process).exists());
    }
}

#[test]
fn a_server_comes_back_at_its_address_empty_or_with_an_old_snapshot_and_under_another_id() {
    for binary in Binary::ALL {
        let mut server = RedisServer::start(Options { binary, ..Options::default() });
        let (url, id) = (server.url(), server.info("master_replid"));
        assert_eq!(server.command(&["SET", "k", "old"]), ok());
        let old = server.snapshot();
        assert_eq!(server.command(&["SET", "k", "new"]), ok());

        server.restart();
        assert_eq!(server.command(&["GET", "k"]), Value::Null);
        assert_ne!(server.info("master_replid"), id);

        server.restart_from(&old);
        assert_eq!(stranger(&server, &["GET", "k"]), Value::text("old"));
        assert_ne!(server.info("master_replid"), id);
        assert_eq!(server.url(), url);

        server.flush_all();
        assert_eq!(server.command(&["GET", "k"]), Value::Null);
        server.restart();
        assert_eq!(server.command(&["GET", "k"]), Value::Null, "the snapshot of before is gone");
    }
}

#[test]
fn a_paused_server_takes_commands_and_answers_them_when_it_is_resumed() {
    let mut server = RedisServer::start(Options::default());
    server.pause();
    let mut waiting = Connection::tcp(server.address()).unwrap();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(waiting.command(&["PING"]).unwrap()));
    assert!(answered.recv_timeout(Duration::from_millis(50)).is_err());
    server.resume();
    assert_eq!(answered.recv().unwrap(), Value::text("PONG"));

    // Killed while it is paused, it neither answers nor keeps its port.
    server.pause();
    server.kill();
    assert!(Connection::tcp(server.address()).is_err());
}

#[test]
fn a_subscriber_hears_what_is_published() {
    let server = RedisServer::start(Options::default());
    let mut subscriber = server.connect().unwrap();
    assert!(!subscriber.command(&["SUBSCRIBE", "c"]).unwrap().is_message());
    assert_eq!(server.command(&["PUBLISH", "c", "hello"]), Value::Integer(1));
    let heard = subscriber.read().unwrap();
    assert!(heard.is_message());
    assert_eq!(heard, Value::Items(["message", "c", "hello"].map(Value::text).to_vec()));
}

#[test]
fn a_password_and_a_user_with_few_rights_are_demanded() {
    for binary in Binary::ALL {
        let server = RedisServer::start(Options { binary, password: Some("secret".into()), ..Options::default() });
        assert_eq!(server.url(), format!("redis://:secret@{}", server.address()));
        let Value::Error(refusal) = stranger(&server, &["PING"]) else { panic!("no password was asked for") };
        assert!(refusal.starts_with("NOAUTH"), "{refusal}");
        assert_eq!(stranger(&server, &["AUTH", "secret"]), ok());

        let acl = Acl { user: "app".into(), password: "word".into(), rules: "~m1:* &m1:* +get +set".into() };
        let server = RedisServer::start(Options { binary, acl: Some(acl), ..Options::default() });
        assert_eq!(server.url(), format!("redis://app:word@{}", server.address()));
        let mut app = Connection::tcp(server.address()).unwrap();
        assert_eq!(app.command(&["AUTH", "app", "word"]).unwrap(), ok());
        assert_eq!(app.command(&["SET", "m1:k", "v"]).unwrap(), ok());
        for refused in [&["GET", "other"][..], &["DEL", "m1:k"], &["PUBLISH", "m1:c", "m"]] {
            let Value::Error(refusal) = app.command(refused).unwrap() else { panic!("{refused:?} was allowed") };
            assert!(refusal.starts_with("NOPERM"), "{refusal}");
        }
        assert_eq!(server.command(&["GET", "m1:k"]), Value::text("v"));
    }
}

#[test]
fn tls_is_spoken_with_a_certificate_that_its_authority_vouches_for() {
    let server = RedisServer::start(Options { tls: true, ..Options::default() });
    assert!(server.url().starts_with("rediss://"));
    let cli = |options: &[&str]| {
        let mut command = Command::new(super::program("NWORKFLOW_TEST_REDIS_BIN").with_file_name("redis-cli"));
        let output = command.args(["-h", "127.0.0.1", "-p"]).arg(server.address().port().to_string()).args(options).arg("ping").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(cli(&["--tls", "--cacert", server.ca_file().to_str().unwrap()]).trim(), "PONG");
    assert!(!cli(&["--tls"]).contains("PONG"), "an unknown authority was trusted");
    assert!(!cli(&[]).contains("PONG"), "an answer without TLS");
}

#[test]
fn a_cluster_serves_each_key_at_one_of_its_nodes() {
    for binary in Binary::ALL {
        let cluster = RedisCluster::start(&Options { binary, ..Options::default() });
        assert_eq!(cluster.urls().len(), 3);
        for key in ["a", "b", "c", "{tag}:x", "{tag}:y"] {
            let holder = cluster.node_of(key).url();
            for node in &cluster.nodes {
                match node.command(&["SET", key, "v"]) {
                    Value::Error(elsewhere) => assert!(elsewhere.starts_with("MOVED") && node.url() != holder, "{elsewhere}"),
                    reply => assert_eq!((reply, node.url()), (ok(), holder.clone())),
                }
            }
        }
    }
}
