//! A store that is away, contended, corrupt or silent, seen by a client and in the log.

use std::cell::RefCell;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Once};

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::StoreError;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use serde_json::{Value, json};

use super::app::{Answer, Call, Caller, Options, TestApp, no_local_tier};
use super::on_both_stores;
use crate::support::faulty::Behaviour;
use crate::support::postgres::{APP, TestDatabase, config_of, server};
use crate::support::proxy::{Fault, Proxy};

on_both_stores!(
    a_store_that_is_away_is_told_and_comes_back,
    contention_is_overload,
    a_full_queue_is_told_as_what_it_is,
    an_unknown_outcome_is_told_and_resolved_by_the_key,
    no_cause_reaches_the_client,
);

const STATE: &str = "/workflows/order/executions/e1/state";
const HISTORY: &str = "/workflows/order/executions/e1/state/history";
const VARIABLE: &str = "/variables/workflow:order/v";
const SCOPE: &str = "/variables/workflow:order";
/// A word that stands for everything that a cause may hold and a client must not see.
const SECRET: &str = "swordfish";

fn unavailable() -> StoreError {
    StoreError::Unavailable(SECRET.into())
}

fn contended() -> StoreError {
    StoreError::Contended(SECRET.into())
}

fn outcome_unknown() -> StoreError {
    StoreError::OutcomeUnknown(SECRET.into())
}

fn internal() -> StoreError {
    StoreError::Internal(SECRET.into())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt { table: "swordfish_table", detail: SECRET.into() }
}

fn put(caller: &Caller, path: &str, number: u64) -> Call {
    let body = if path == VARIABLE { json!({"value": number}) } else { json!({"marking": {"p": number}}) };
    caller.put(path, body.to_string())
}

/// Every operation that asks the store; reads go past the caches.
fn everything(caller: &Caller) -> Vec<Call> {
    vec![
        put(caller, STATE, 7),
        put(caller, STATE, 7).header("if-match", "\"1\""),
        put(caller, STATE, 7).header("if-match", "\"1\", \"2\""),
        put(caller, VARIABLE, 7),
        caller.delete(STATE),
        caller.delete(VARIABLE),
        caller.get(STATE).header("cache-control", "no-cache"),
        caller.get(&format!("{STATE}?version=1")),
        caller.get(HISTORY),
        caller.get(&format!("{HISTORY}/1")),
        caller.get(VARIABLE).header("cache-control", "no-cache"),
        caller.get(SCOPE),
    ]
}

async fn seed(app: &TestApp) -> Caller {
    let ada = app.admin("acme");
    put(&ada, STATE, 1).send().await.expect(201);
    put(&ada, VARIABLE, 1).send().await.expect(201);
    ada
}

/// That everything is as [`seed`] left it.
async fn assert_untouched(caller: &Caller) {
    for path in [STATE, VARIABLE] {
        assert_eq!(caller.get(path).send().await.expect(200).etag(), "\"1\"", "{path}: a failed write left something");
    }
    assert_eq!(caller.get(HISTORY).send().await.expect(200).json()["items"].as_array().unwrap().len(), 1);
}

fn assert_keeps_the_secret(answer: &Answer) {
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert!(!all.contains(SECRET), "{all}");
}

async fn a_store_that_is_away_is_told_and_comes_back(app: TestApp) {
    let ada = seed(&app).await;
    for _ in 0..2 {
        app.faults.set(Behaviour::Fail(unavailable));
        for call in everything(&ada) {
            let answer = call.send().await.problem(503, "store_unavailable");
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_keeps_the_secret(&answer);
        }
        let ready = app.anonymous().get("/health/ready").send().await.problem(503, "store_unavailable");
        assert_eq!(ready.header("retry-after"), Some("1"));
        assert_keeps_the_secret(&ready);
        app.anonymous().get("/health/live").send().await.expect(200);
        app.anonymous().get("/limits").send().await.expect(200);
        app.faults.set(Behaviour::Pass);
        app.anonymous().get("/health/ready").send().await.expect(200);
        assert_untouched(&ada).await;
    }
}

async fn contention_is_overload(app: TestApp) {
    let ada = seed(&app).await;
    app.faults.set(Behaviour::Fail(contended));
    for call in everything(&ada) {
        let answer = call.send().await.problem(503, "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_keeps_the_secret(&answer);
    }
    let keyed = put(&ada, STATE, 7).header("idempotency-key", "k").send().await.problem(409, "idempotency_in_flight");
    assert_eq!(keyed.header("retry-after"), Some("1"));
    assert_keeps_the_secret(&keyed);
    app.faults.set(Behaviour::Pass);
    assert_untouched(&ada).await;
}

/// The database is well: it is not to be said that it does not answer.
async fn a_full_queue_is_told_as_what_it_is(app: TestApp) {
    let ada = seed(&app).await;
    app.faults.set(Behaviour::Fail(|| StoreError::Full));
    for call in everything(&ada) {
        let answer = call.send().await.problem(503, "queue_full");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(!answer.text().contains("does not answer"), "{}", answer.text());
    }
    put(&ada, STATE, 7).header("idempotency-key", "k").send().await.problem(503, "queue_full");
    app.faults.set(Behaviour::Pass);
    assert_untouched(&ada).await;
}

async fn an_unknown_outcome_is_told_and_resolved_by_the_key(app: TestApp) {
    let ada = seed(&app).await;
    for path in [STATE, VARIABLE] {
        // The write happened, and the server does not know.
        app.faults.set(Behaviour::LoseAnswer(outcome_unknown));
        let keyed = || put(&ada, path, 2).header("idempotency-key", path).header("if-match", "\"1\"");
        let told = keyed().send().await.problem(503, "outcome_unknown");
        assert_eq!(told.header("retry-after"), Some("1"));
        assert_keeps_the_secret(&told);
        app.faults.set(Behaviour::Pass);
        let again = keyed().send().await.expect(200);
        assert_eq!((again.header("idempotency-replayed"), again.etag()), (Some("true"), "\"2\""), "no false 412");
        // It did not happen, and the server does not know either.
        app.faults.set(Behaviour::Fail(outcome_unknown));
        let keyed = || put(&ada, path, 3).header("idempotency-key", "3").header("if-match", "\"2\"");
        if path == STATE {
            keyed().send().await.problem(503, "outcome_unknown");
            app.faults.set(Behaviour::Pass);
            let again = keyed().send().await.expect(200);
            assert_eq!((again.header("idempotency-replayed"), again.etag()), (None, "\"3\""));
        }
        app.faults.set(Behaviour::Pass);
    }
}

async fn no_cause_reaches_the_client(app: TestApp) {
    let ada = seed(&app).await;
    for error in [internal as fn() -> StoreError, corrupt] {
        app.faults.set(Behaviour::Fail(error));
        for call in everything(&ada) {
            assert_keeps_the_secret(&call.send().await.problem(500, "internal"));
        }
        app.anonymous().get("/health/live").send().await.expect(200);
        assert_keeps_the_secret(&app.anonymous().get("/health/ready").send().await.problem(503, "store_unavailable"));
        app.faults.set(Behaviour::Pass);
        assert_untouched(&ada).await;
    }
}

/// A server whose database is behind a proxy.
async fn behind_proxy(database: &TestDatabase) -> (Proxy, TestApp) {
    let server = server();
    let address = (server.get_host(), server.get_port()).to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(address).await;
    let url = format!("postgres://{APP}@{}/{}", proxy.address(), database.name());
    let config = DatabaseConfig { pool_size: 4, acquire_timeout_ms: Milliseconds(300), ..config_of(url) };
    let store = PostgresStore::open(&config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
    let local = no_local_tier(&Options::default().config(), Clock::new());
    let app = TestApp::over(Arc::new(store), local, Options::default(), tempfile::tempdir().unwrap(), Clock::new(), Lifecycle::new()).await;
    (proxy, app)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_is_told_and_comes_back() {
    let database = TestDatabase::migrated().await;
    let (mut proxy, app) = behind_proxy(&database).await;
    let ada = seed(&app).await;
    join_all((0..8).map(|_| ada.get(STATE).send())).await;
    for _ in 0..2 {
        proxy.stop().await;
        for answer in join_all(everything(&ada).into_iter().map(Call::send)).await {
            let answer = answer.problem(503, "store_unavailable");
            assert_eq!(answer.header("retry-after"), Some("1"));
            for internal in ["127.0.0.1", "postgres", "sqlx", "os error", APP, database.name()] {
                assert!(!answer.text().to_lowercase().contains(internal), "{}", answer.text());
            }
        }
        app.anonymous().get("/health/ready").send().await.problem(503, "store_unavailable");
        app.anonymous().get("/health/live").send().await.expect(200);
        proxy.restart().await;
        app.anonymous().get("/health/ready").send().await.expect(200);
        assert_untouched(&ada).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_are_not_noticed() {
    let app = TestApp::postgres().await;
    let ada = app.admin("acme");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'test_app'";
    for _ in 0..5 {
        join_all((0..8).map(|_| put(&ada, STATE, 1).send())).await.into_iter().for_each(|put| assert!(put.status.is_success(), "{put:?}"));
        app.database.as_ref().unwrap().execute(end).await;
    }
    assert_eq!(put(&ada, STATE, 1).send().await.expect(200).etag(), "\"41\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_under_way_lose_nothing() {
    let app = TestApp::postgres().await;
    let ada = app.admin("acme");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'test_app'";
    let (mut written, mut told) = (0, 0);
    for round in 0..10 {
        let writers = join_all((0..10).map(|writer| {
            let key = format!("{round}-{writer}");
            let ada = &ada;
            async move {
                let mut told = 0;
                // What a client does that is told to come again.
                loop {
                    let answer = put(ada, STATE, 1).header("idempotency-key", &key).send().await;
                    if answer.status.is_success() {
                        return told;
                    }
                    assert!(matches!(answer.status.as_u16(), 409 | 503) && answer.header("retry-after").is_some(), "{answer:?}");
                    told += 1;
                    assert!(told < 100, "{answer:?}");
                }
            }
        }));
        let (counts, ()) = tokio::join!(writers, app.database.as_ref().unwrap().execute(end));
        written += counts.len();
        told += counts.iter().sum::<i32>();
    }
    let head = ada.get(STATE).send().await.expect(200).json()["version"].as_u64().unwrap();
    assert_eq!(head, written as u64, "each key was written once ({told} times a client was told to come again)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_answered() {
    let database = TestDatabase::migrated().await;
    let (proxy, app) = behind_proxy(&database).await;
    let ada = app.admin("acme");
    for (number, fault) in [Fault::AfterCommit, Fault::BeforeCommit, Fault::AfterCommit].into_iter().enumerate() {
        proxy.arm(fault);
        let answer = put(&ada, STATE, 1).header("idempotency-key", &number.to_string()).send().await;
        assert!(!proxy.is_armed() && answer.status.is_success(), "{fault:?}: {answer:?}");
        assert_eq!(answer.json()["version"], number + 1, "{fault:?}");
        let again = put(&ada, STATE, 1).header("idempotency-key", &number.to_string()).send().await;
        assert_eq!((again.header("idempotency-replayed"), &again.body), (Some("true"), &answer.body), "{fault:?}");
    }
    // With a precondition that the committed write itself has made false.
    proxy.arm(Fault::AfterCommit);
    let answer = put(&ada, STATE, 1).header("if-match", "\"3\"").send().await.expect(200);
    assert_eq!((proxy.is_armed(), answer.etag()), (false, "\"4\""));
}

/// After a crash PostgreSQL gives the ids of lost transactions out again. That a transaction of that id is committed says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_transaction_alone_is_not_believed() {
    let database = TestDatabase::migrated().await;
    let (proxy, app) = behind_proxy(&database).await;
    let ada = app.admin("acme");
    // What stands in the log under the id is not what the server wrote, as if another server had written it.
    database
        .execute(
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN NEW.at = NEW.at - interval '1 second'; RETURN NEW; END $$;
             CREATE TRIGGER other BEFORE INSERT ON change_log FOR EACH ROW EXECUTE FUNCTION other()",
        )
        .await;
    for (path, first) in [(STATE, 1), (VARIABLE, 1)] {
        proxy.arm(Fault::AfterCommit);
        let answer = put(&ada, path, 1).send().await;
        assert!(!proxy.is_armed() && answer.status.is_success(), "{answer:?}");
        assert_eq!(answer.json()["version"], first + 1, "the write was not done again");
    }
    database.execute("DROP TRIGGER other ON change_log").await;
    // Deletions can be told, too.
    for path in [STATE, VARIABLE] {
        proxy.arm(Fault::AfterCommit);
        ada.delete(path).send().await.expect(204);
        assert!(!proxy.is_armed());
        assert_eq!(ada.get(path).send().await.status, 404);
        assert_eq!(put(&ada, path, 1).send().await.expect(201).etag(), "\"4\"", "deleted once");
    }
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The log of what runs on this thread. Its subscriber is the whole process's: one that comes and goes beside the tests on other threads
/// misses lines while the interest in them is computed anew.
struct Log;

impl Log {
    fn open() {
        static OPEN: Once = Once::new();
        OPEN.call_once(|| {
            let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_max_level(tracing::Level::INFO);
            tracing::subscriber::set_global_default(subscriber.with_writer(|| Log).finish()).unwrap();
        });
        LOG.take();
    }

    fn text() -> String {
        String::from_utf8(LOG.take()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One thread, so that everything that the server logs is logged on the one that listens.
#[tokio::test]
async fn the_log_has_one_line_a_request() {
    Log::open();
    let app = TestApp::sqlite().await;
    let ada = seed(&app).await;
    let mut sent = 2;
    for behaviour in [Behaviour::Fail(unavailable), Behaviour::Fail(internal), Behaviour::Fail(corrupt), Behaviour::Panic(SECRET)] {
        app.faults.set(behaviour);
        for call in everything(&ada) {
            call.header("x-request-id", &format!("request-{sent}")).send().await;
            sent += 1;
        }
    }
    app.faults.set(Behaviour::Pass);
    let body = r#"{"marking":{"p":["a word of the body"]}}"#;
    ada.put(STATE, body).header("idempotency-key", "a word of a header").send().await.expect(200);
    ada.get(&format!("{STATE}?hint=a-word-of-the-query")).send().await.expect(200);
    app.anonymous().get("/nowhere").send().await.expect(404);
    app.anonymous().get(STATE).send().await.expect(401);
    ada.put(STATE, "{").send().await.expect(400);
    sent += 5;

    let text = Log::text();
    for word in ["a word of", "a-word-of", "Bearer", "eyJ"] {
        assert!(!text.contains(word), "the log holds {word:?}");
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), sent, "one line a request: {text}");
    for line in &requests {
        for member in ["request_id", "method", "path", "status", "duration_ms"] {
            assert!(!line[member].is_null(), "{member}: {line}");
        }
        let status = line["status"].as_u64().unwrap();
        assert_eq!(line["level"] == "ERROR", status >= 500, "{line}");
        assert_eq!(line["code"] == "", status < 400, "{line}");
        assert_eq!(line["tenant"] == "acme", !matches!(status, 401) && line["path"] != "/nowhere", "{line}");
        // The operator reads why.
        assert_eq!(!line["cause"].as_str().unwrap().is_empty(), status >= 500, "{line}");
    }
    let ids: std::collections::BTreeSet<_> = requests.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), sent);
}
