//! The embedded store as a file: its folder, its lock, its settings, and what is left of it after the process.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nworkflow_state::config::{self, Source};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::domain::id::{ExecutionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey};
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument, VariableKey};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::sqlite::{DATABASE_FILE, LOCK_FILE, SqliteStore};
use nworkflow_state::store::{Lookup, Outcome, Store, StoreError, SweepLimits, SweepTask, WriteContext};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use uuid::Uuid;

async fn open_with(folder: &Path, lifecycle: &Lifecycle) -> Result<SqliteStore, StoreError> {
    let config = config::load(&Source::default()).unwrap().embedded;
    SqliteStore::open(folder, &config, Clock::new(), lifecycle, Arc::new(NoObserver)).await
}

async fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
    open_with(folder, &Lifecycle::new()).await
}

fn writer() -> WriteContext {
    WriteContext {
        tenant: TenantId::parse("acme").unwrap(),
        actor: UserId::parse("ada").unwrap(),
        request_id: Uuid::from_u128(1),
        idempotency: None,
    }
}

fn key() -> StateKey {
    StateKey { workflow: WorkflowId::parse("order").unwrap(), execution: ExecutionId::parse("o-1").unwrap() }
}

fn document(tokens: usize) -> StateDocument {
    StateDocument::parse(&format!(r#"{{"marking":{{"p":{tokens}}}}}"#)).unwrap()
}

async fn save(store: &SqliteStore, tokens: usize) -> Version {
    match store.put_state(&writer(), &key(), Expected::Any, &document(tokens), Operation::Put).await.unwrap() {
        Outcome::Applied { record, .. } => record.version,
        other => panic!("{other:?}"),
    }
}

/// What a tool sees that opens the file beside the store.
async fn beside(folder: &Path, pragma: &'static str) -> String {
    let mut connection = SqliteConnectOptions::new().filename(folder.join(DATABASE_FILE)).read_only(true).connect().await.unwrap();
    sqlx::query_scalar(pragma).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_second_store_on_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let refusal = match open(folder.path()).await {
        Err(StoreError::Unavailable(source)) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refusal.contains(&*folder.path().to_string_lossy()) && refusal.contains("in use by another nworkflow-state"), "{refusal}");
    assert_eq!(save(&first, 1).await.get(), 1, "the first is not disturbed");
    first.close().await;
    open(folder.path()).await.unwrap().close().await;
}

/// Set, the test below is the second process.
const SECOND_PROCESS: &str = "NWORKFLOW_TEST_SECOND_PROCESS";

#[tokio::test]
async fn a_second_process_on_the_folder_is_refused() {
    if let Some(folder) = std::env::var_os(SECOND_PROCESS) {
        let refused = matches!(open(Path::new(&folder)).await, Err(StoreError::Unavailable(_)));
        std::process::exit(if refused { 23 } else { 0 });
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let second = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::a_second_process_on_the_folder_is_refused"])
            .env(SECOND_PROCESS, folder.path())
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .code()
    };
    assert_eq!(second(), Some(23));
    store.close().await;
    assert_eq!(second(), Some(0), "the lock ends with the store");
    open(folder.path()).await.unwrap().close().await;
}

#[tokio::test]
async fn the_folder_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let store = open(&folder).await.unwrap();
    save(&store, 1).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in [DATABASE_FILE, &format!("{DATABASE_FILE}-wal"), LOCK_FILE] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    store.close().await;
}

#[tokio::test]
async fn the_file_has_its_lasting_settings() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    assert_eq!(beside(folder.path(), "SELECT journal_mode FROM pragma_journal_mode").await, "wal");
    assert_eq!(beside(folder.path(), "SELECT cast(auto_vacuum AS TEXT) FROM pragma_auto_vacuum").await, "2", "incremental");
    let loose = "SELECT coalesce(group_concat(name), 'none') FROM pragma_table_list
                 WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations'";
    assert_eq!(beside(folder.path(), loose).await, "none", "every table is STRICT");
    store.close().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let store = open_with(folder.path(), &lifecycle).await.unwrap();
    save(&store, 1).await;
    save(&store, 2).await;
    let variable = VariableKey { scope: Scope::Global, name: VariableName::parse("v").unwrap() };
    let value = VariableDocument { value: "[1.0]".into(), description: None, expiry: Expiry::Never };
    store.put_variable(&writer(), &variable, None, Expected::Any, &value).await.unwrap();
    let before =
        (store.get_state(&writer().tenant, &key()).await.unwrap(), store.get_variable(&writer().tenant, &variable, None).await.unwrap());
    assert!(matches!(before, (Lookup::Live(_), Lookup::Live(_))));
    // Not closed: the writer ends by itself, and the folder is free some time after.
    drop(store);
    let reopened = async {
        loop {
            match open(folder.path()).await {
                Ok(store) => return store,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let store = tokio::time::timeout(std::time::Duration::from_secs(10), reopened).await.unwrap();
    let after =
        (store.get_state(&writer().tenant, &key()).await.unwrap(), store.get_variable(&writer().tenant, &variable, None).await.unwrap());
    assert_eq!(after, before);
    assert_eq!(save(&store, 3).await.get(), 3);
    store.close().await;
    assert_eq!(beside(folder.path(), "SELECT integrity_check FROM pragma_integrity_check").await, "ok");
    assert_eq!(beside(folder.path(), "SELECT cast(count(*) AS TEXT) FROM state_version").await, "3");
}

#[tokio::test]
async fn the_writer_serves_while_the_process_stops() {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let store = open_with(folder.path(), &lifecycle).await.unwrap();
    lifecycle.stop();
    assert_eq!(save(&store, 1).await.get(), 1);
    store.close().await;
    lifecycle.finished().await;
}

#[tokio::test]
async fn a_write_happens_although_its_caller_went_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let (writer, key, document) = (writer(), key(), document(1));
    for _ in 0..100 {
        let mut write = store.put_state(&writer, &key, Expected::Any, &document, Operation::Put);
        assert!(futures_util::poll!(&mut write).is_pending());
        drop(write);
    }
    assert_eq!(save(&store, 1).await.get(), 101);
    store.close().await;
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let (writer, key, document) = (writer(), key(), document(1));
    // One thread: the writer takes nothing while these are polled for the first time.
    let outcomes =
        futures_util::future::join_all((0..1100).map(|_| store.put_state(&writer, &key, Expected::Any, &document, Operation::Put))).await;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Full))).count();
    let applied = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Applied { .. }))).count();
    assert_eq!((applied, refused), (1024, 76));
    assert_eq!(save(&store, 1).await.get(), 1025, "a refused write leaves nothing");
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(DATABASE_FILE), vec![b'x'; 8192]).unwrap();
    let refusal = open(folder.path()).await;
    assert!(matches!(refusal, Err(StoreError::Corrupt { .. })), "{refusal:?}");
}

#[tokio::test]
async fn a_corrupt_row_is_told_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    save(&store, 1).await;
    let mut connection = SqliteConnectOptions::new().filename(folder.path().join(DATABASE_FILE)).connect().await.unwrap();
    sqlx::query("UPDATE state_version SET body = '[\"swordfish\"]'").execute(&mut connection).await.unwrap();
    let error = store.get_state(&writer().tenant, &key()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "state_version", .. }), "{error:?}");
    assert!(!error.to_string().contains("swordfish"));
    store.close().await;
}

const SWEEP: SweepLimits = SweepLimits { rows: 500, log_seconds: 3600, floor_seconds: 60 };

/// Makes an execution of a thousand versions of ten kilobytes, removes it, and sweeps it.
async fn make_and_remove_much(store: &SqliteStore) {
    let large = StateDocument::parse(&format!(r#"{{"marking":{{"p":["{}"]}}}}"#, "x".repeat(10_000))).unwrap();
    let writes = (0..1000).map(|_| store.put_state(&WRITER, &KEY, Expected::Any, &large, Operation::Put));
    for outcome in futures_util::future::join_all(writes).await {
        assert!(matches!(outcome.unwrap(), Outcome::Applied { .. }));
    }
    assert!(matches!(store.delete_execution(&WRITER, &KEY, Expected::Any).await.unwrap(), Outcome::Applied { .. }));
    while store.sweep(SweepTask::RemovedExecutions, SWEEP).await.unwrap().more {}
}

static WRITER: std::sync::LazyLock<WriteContext> = std::sync::LazyLock::new(writer);
static KEY: std::sync::LazyLock<StateKey> = std::sync::LazyLock::new(key);

async fn pages(folder: &Path) -> (u64, u64) {
    let number = async |pragma| beside(folder, pragma).await.parse().unwrap();
    let all = number("SELECT cast(page_count AS TEXT) FROM pragma_page_count").await;
    (all, number("SELECT cast(freelist_count AS TEXT) FROM pragma_freelist_count").await)
}

#[tokio::test]
async fn space_of_what_was_removed_is_given_back_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    make_and_remove_much(&store).await;
    let (all, free) = pages(folder.path()).await;
    assert!(free > 2000 && free * 10 > all * 9, "{free} of {all}");
    let mut steps = 0;
    loop {
        let step = store.sweep(SweepTask::FreeSpace, SWEEP).await.unwrap();
        assert!(step.rows > 0 && step.rows <= 500 && !step.busy, "{step:?}");
        steps += 1;
        save(&store, steps).await;
        if !step.more {
            break;
        }
    }
    let (all_then, free_then) = pages(folder.path()).await;
    assert!(steps >= 4 && all_then < all / 4, "{all} pages were there, {all_then} in {steps} steps");
    assert!((200..=256).contains(&free_then), "some stay for the next writes: {free_then}");
    assert_eq!(store.sweep(SweepTask::FreeSpace, SWEEP).await.unwrap().rows, 0, "what is little stays");
    assert!(matches!(store.get_state(&WRITER.tenant, &KEY).await.unwrap(), Lookup::Live(_)));
    store.close().await;
    let size = std::fs::metadata(folder.path().join(DATABASE_FILE)).unwrap().len();
    assert!(size < all * 4096 / 4, "the file is smaller: {size}");
    assert_eq!(beside(folder.path(), "SELECT integrity_check FROM pragma_integrity_check").await, "ok");
}

#[tokio::test]
async fn a_file_that_was_not_made_for_it_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new().filename(folder.path().join(DATABASE_FILE)).create_if_missing(true);
    let mut connection = file.connect().await.unwrap();
    sqlx::raw_sql("PRAGMA auto_vacuum = NONE; CREATE TABLE elsewhere (a)").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let store = open(folder.path()).await.unwrap();
    make_and_remove_much(&store).await;
    let before = pages(folder.path()).await;
    assert!(before.1 > 2000, "{before:?}");
    let step = store.sweep(SweepTask::FreeSpace, SWEEP).await.unwrap();
    assert_eq!((step.rows, step.more), (0, false));
    assert_eq!(pages(folder.path()).await, before);
    store.close().await;
}
