//! What must be true of the store, given what the clients were told.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::PathBuf;

use futures_util::StreamExt as _;
use nworkflow_state::store::sqlite::DATABASE_FILE;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};
use uuid::Uuid;

use super::load::{Kind, Operation, Sender, Verdict};
use super::server::Target;
use crate::support::postgres_cluster::pause;

/// How often a write whose outcome is unknown is sent again before the test gives up.
const TRIES: usize = 500;
const DELETED: i16 = 3;
/// The scope of variables that no client writes.
const CANARY: &str = "workflow:canary";

/// Where the change log is.
pub(super) enum Tables {
    File(PathBuf),
    Url(String),
}

/// A row of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    operation: i16,
    version: i64,
    resource: (i16, String, String),
    id: Uuid,
}

const SELECT: &str = "SELECT kind, op, version, k1, k2, request_id FROM change_log";

impl Tables {
    async fn log(&self) -> Vec<Row> {
        macro_rules! rows {
            ($options:expr, $small:ty) => {{
                let rows = sqlx::query(SELECT).fetch_all(&mut $options.connect().await.unwrap()).await.unwrap();
                let small = |row: &_, column: usize| i16::try_from(sqlx::Row::get::<$small, _>(row, column)).unwrap();
                rows.iter()
                    .map(|row| Row {
                        operation: small(row, 1),
                        version: row.get(2),
                        resource: (small(row, 0), row.get(3), row.get(4)),
                        id: row.get(5),
                    })
                    .collect()
            }};
        }
        match self {
            Self::File(folder) => rows!(SqliteConnectOptions::new().filename(folder.join(DATABASE_FILE)).read_only(true), i64),
            Self::Url(url) => rows!(url.parse::<PgConnectOptions>().unwrap(), i16),
        }
    }

    /// For a file: SQLite's own check of it.
    pub(super) async fn check_integrity(&self) {
        let Self::File(folder) = self else { return };
        let mut connection = SqliteConnectOptions::new().filename(folder.join(DATABASE_FILE)).connect().await.unwrap();
        let verdict: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// The figures of a run.
#[derive(Debug, Default)]
struct Figures {
    acknowledged: usize,
    refused: usize,
    not_done: usize,
    unknown: usize,
    unknown_applied: usize,
    lost: usize,
    wrong: usize,
    duplicates: usize,
    broken_promises: usize,
}

/// Holds what the clients were told against the change log.
fn compare(operations: &[Operation], log: &[Row]) -> Figures {
    let mut of_operation: HashMap<Uuid, Vec<&Row>> = HashMap::new();
    for row in log {
        of_operation.entry(row.id).or_default().push(row);
    }
    let mut figures = Figures::default();
    for operation in operations {
        let rows = of_operation.remove(&operation.id).unwrap_or_default();
        figures.duplicates += rows.len().saturating_sub(1);
        match operation.verdict {
            Verdict::Acknowledged { version, .. } => {
                figures.acknowledged += 1;
                figures.lost += usize::from(rows.is_empty());
                // A deletion was answered without its version.
                let right = |row: &&&Row| row.resource.0 == operation.kind as i16 && (version == 0 || row.version == version);
                figures.wrong += rows.len() - rows.iter().filter(right).count();
            }
            Verdict::Refused => {
                figures.refused += 1;
                figures.broken_promises += rows.len();
            }
            Verdict::NotDone => {
                figures.not_done += 1;
                figures.broken_promises += rows.len();
            }
            Verdict::Unknown => {
                figures.unknown += 1;
                figures.unknown_applied += rows.len().min(1);
            }
        }
    }
    // What a test writes beside the clients is in a scope of its own.
    of_operation.retain(|_, rows| rows.iter().any(|row| row.resource.1 != CANARY));
    assert!(of_operation.is_empty(), "the log has writes that nobody sent: {of_operation:?}");
    figures
}

/// The rows of each resource by version, which must be 1, 2, 3, ...
fn by_resource(log: &[Row]) -> BTreeMap<(i16, String, String), Vec<&Row>> {
    let mut resources: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in log.iter().filter(|row| row.resource.1 != CANARY) {
        resources.entry(row.resource.clone()).or_default().push(row);
    }
    for (resource, rows) in &mut resources {
        rows.sort_by_key(|row| row.version);
        let versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
        assert_eq!(versions, (1..=i64::try_from(rows.len()).unwrap()).collect::<Vec<_>>(), "{resource:?}: a gap or a duplicate");
    }
    resources
}

/// That heads and history, read over HTTP, are what the log says.
async fn check_resources(log: &[Row], sender: &Sender, target: &Target) {
    for ((kind, scope, name), rows) in by_resource(log) {
        let is_state = kind == Kind::State as i16;
        let path = if is_state { format!("/workflows/{scope}/executions/{name}/state") } else { format!("/variables/workflow:w/{name}") };
        let last = rows[rows.len() - 1];
        let (status, head) = sender.get(target, &path).await;
        if last.operation == DELETED {
            assert_eq!(status, 404, "{path}");
        } else {
            assert_eq!((status, head["version"].as_i64()), (200, Some(last.version)), "{path}");
            let member = if is_state { "metadata" } else { "value" };
            assert_eq!(head[member]["op"], last.id.to_string(), "{path}");
        }
        if is_state {
            check_history(&rows, &path, sender, target).await;
        }
    }
}

async fn check_history(rows: &[&Row], path: &str, sender: &Sender, target: &Target) {
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = sender.get(target, &format!("{path}/history?order=asc&limit=1000{cursor}")).await;
        assert_eq!(status, 200);
        listed.extend(
            page["items"].as_array().unwrap().iter().map(|item| (item["version"].as_i64().unwrap(), item["operation"] == "delete")),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(listed, rows.iter().map(|row| (row.version, row.operation == DELETED)).collect::<Vec<_>>(), "{path}");
    let bodies = futures_util::stream::iter(rows.iter().filter(|row| row.operation != DELETED)).map(|row| async move {
        let (status, state) = sender.get(target, &format!("{path}/history/{}", row.version)).await;
        assert_eq!((status, state["metadata"]["op"].as_str()), (200, Some(&*row.id.to_string())), "{path} {}", row.version);
    });
    bodies.buffer_unordered(8).collect::<()>().await;
}

/// Sends every write of unknown outcome, and some that were acknowledged, again under its key, and notes what it now is.
async fn send_again(operations: &mut [Operation], log: &[Row], sender: &Sender, target: &Target) -> usize {
    let mut replays = 0;
    for (number, operation) in operations.iter_mut().enumerate() {
        let is_unknown = operation.verdict == Verdict::Unknown;
        let is_sample = matches!(operation.verdict, Verdict::Acknowledged { .. }) && number.is_multiple_of(10);
        if !is_unknown && !is_sample {
            continue;
        }
        let there = log.iter().find(|row| row.id == operation.id);
        let mut verdict = sender.write(target, operation).await;
        for _ in 0..TRIES {
            if !matches!(verdict, Verdict::NotDone | Verdict::Unknown) {
                break;
            }
            pause();
            verdict = sender.write(target, operation).await;
        }
        match (there, verdict) {
            (Some(row), Verdict::Acknowledged { version, replayed: true }) if version == 0 || version == row.version => replays += 1,
            // It had not happened: now it has, or its precondition fails.
            (None, Verdict::Acknowledged { replayed: false, .. } | Verdict::Refused) if is_unknown => {}
            _ => panic!("sent again: {verdict:?}, in the log: {there:?}, {operation:?}"),
        }
        operation.verdict = verdict;
    }
    replays
}

/// Judges a run, sends again what is unknown, and judges again. The server must be ready.
pub(super) async fn judge(name: &str, seed: u64, rounds: usize, mut operations: Vec<Operation>, tables: &Tables, target: &Target) {
    let sender = Sender::new();
    let log = tables.log().await;
    let figures = compare(&operations, &log);
    let say = |text: String| {
        // Past the test harness: whoever reads the run must see what it did.
        let _ = writeln!(std::io::stdout(), "crash: {name}: {text}");
    };
    let total = operations.len();
    say(format!("seed {seed}, {rounds} rounds, {total} operations, {figures:?}"));
    let assert_good = |figures: &Figures| {
        let bad = [figures.lost, figures.wrong, figures.duplicates, figures.broken_promises];
        assert_eq!(bad, [0; 4], "seed {seed}: {figures:?}");
    };
    assert_good(&figures);
    assert!(figures.acknowledged > 0 && figures.refused > 0, "the run tries too little");
    check_resources(&log, &sender, target).await;

    let replays = send_again(&mut operations, &log, &sender, target).await;
    let log = tables.log().await;
    let figures = compare(&operations, &log);
    assert_eq!(figures.unknown, 0);
    assert_good(&figures);
    check_resources(&log, &sender, target).await;
    tables.check_integrity().await;
    say(format!("sent again: {replays} replays, one effect each"));
}
