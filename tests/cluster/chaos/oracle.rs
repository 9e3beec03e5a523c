//! What must be true, given what the clients were told and what the change log of the database says.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};
use uuid::Uuid;

use super::load::{Read, Story, Verdict};
use crate::cluster::client::From;
use crate::cluster::quantile;

/// How long a server may tell what another one has replaced: the time after which one that hears nothing puts its own tier off, and what a
/// busy machine needs to notice.
pub(super) const BOUND: Duration = Duration::from_millis(2000);
/// How long a server that cannot reach the second tier may leave something old there for others: faults of the link last a few seconds.
const LONGEST_UNTOLD: Duration = Duration::from_secs(10);

/// A version of a key.
#[derive(Debug)]
struct Version {
    operation: Uuid,
    is_deletion: bool,
    begun: Instant,
    acknowledged: Option<Instant>,
}

/// All keys with all their versions, the first of which is 1.
pub(super) struct History(BTreeMap<usize, Vec<Version>>);

/// A row of the change log: key, version, operation, request.
pub(super) type Row = (usize, i64, i16, Uuid);

/// The rows of keys that begin with this letter.
pub(super) async fn change_log(url: &str, letter: char) -> Vec<Row> {
    let mut connection = url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let rows = sqlx::query("SELECT k2, version, op, request_id FROM change_log WHERE kind = 1 AND left(k2, 1) = $1 ORDER BY k2, version");
    let rows = rows.bind(letter.to_string()).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| (row.get::<String, _>(0)[1..].parse().unwrap(), row.get(1), row.get(2), row.get(3))).collect()
}

/// The figures of a run.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) acknowledged: usize,
    pub(super) refused: usize,
    pub(super) not_done: usize,
    pub(super) unknown: usize,
    pub(super) unknown_applied: usize,
    pub(super) reads: usize,
    pub(super) cached: usize,
    pub(super) unanswered: usize,
    pub(super) lost: usize,
    pub(super) wrong_version: usize,
    pub(super) duplicates: usize,
    pub(super) broken_promises: usize,
    pub(super) gaps: usize,
    /// Strong reads of what was replaced before they began.
    pub(super) strong_stale: usize,
    /// Reads of what nobody had written when they ended.
    pub(super) ghosts: usize,
    /// Cached reads of what was replaced longer ago than the bound, at a time at which nothing excuses it.
    pub(super) beyond_bound: usize,
    /// The same while a server that could not tell the second tier of its writes had not told it yet.
    pub(super) excused: usize,
    /// Cached reads of what was replaced before they began.
    pub(super) stale: usize,
    pub(super) cached_p99: Duration,
    pub(super) longest_stale: Duration,
    pub(super) longest_excused: Duration,
    /// What a client had written by way of the same server was not there.
    pub(super) own_writes_missing: usize,
    /// A client was told something older than before by the same server; within the bound that may happen.
    pub(super) backwards: usize,
    pub(super) examples: Vec<String>,
}

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let writes = self.acknowledged + self.refused + self.not_done + self.unknown;
        write!(
            f,
            "{} ops: writes {writes} (ok {} refused {} failed {} unknown {}, of them applied {}), reads {} (cached {}, unanswered {}); \
             lost {} duplicates {} wrong version {} applied though refused or failed {} gaps {}; strong reads stale {} ghosts {} own writes missing {}; \
             cached reads p99 {:?}, stale {} longest {:?}, beyond the bound of {BOUND:?} {}, while a writer was cut off {} longest {:?}; backwards on one server {}",
            writes + self.reads,
            self.acknowledged,
            self.refused,
            self.not_done,
            self.unknown,
            self.unknown_applied,
            self.reads,
            self.cached,
            self.unanswered,
            self.lost,
            self.duplicates,
            self.wrong_version,
            self.broken_promises,
            self.gaps,
            self.strong_stale,
            self.ghosts,
            self.own_writes_missing,
            self.cached_p99,
            self.stale,
            self.longest_stale,
            self.beyond_bound,
            self.excused,
            self.longest_excused,
            self.backwards,
        )
    }
}

impl Figures {
    /// With `strict` no read may be behind by more than the bound. Without, a write that its server could not tell the second tier of is told
    /// when it can be (docs/consistency.md): then the figure says how long that took, and it must not take the life of an entry.
    pub(super) fn assert_good(&self, seed: u64, strict: bool) {
        assert!(self.longest_stale < LONGEST_UNTOLD, "seed {seed}: {self}\n{}", self.examples.join("\n"));
        let bad = [
            self.lost,
            self.duplicates,
            self.wrong_version,
            self.broken_promises,
            self.gaps,
            self.strong_stale,
            self.ghosts,
            if strict { self.beyond_bound } else { 0 },
            self.own_writes_missing,
        ];
        assert_eq!(bad, [0; 9], "seed {seed}: {self}\n{}", self.examples.join("\n"));
        assert!(self.acknowledged > 0 && self.cached > 0, "seed {seed}: the run tries too little: {self}");
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 12 {
            self.examples.push(text());
        }
    }
}

/// Times at which a server could not tell the second tier of what it wrote, or had not yet.
pub(super) type Excuses = Vec<(Instant, Instant)>;

pub(super) fn judge(story: &Story, log: Vec<Row>, excuses: &[(Instant, Instant)], began: Instant) -> (Figures, History) {
    let mut figures = Figures { unanswered: story.unanswered, ..Figures::default() };
    let mut rows_of: HashMap<Uuid, Vec<&Row>> = HashMap::new();
    for row in &log {
        rows_of.entry(row.3).or_default().push(row);
    }
    for write in &story.writes {
        let rows = rows_of.get(&write.id).map_or(&[][..], Vec::as_slice);
        figures.duplicates += rows.len().saturating_sub(1);
        match write.verdict {
            Verdict::Acknowledged(version) => {
                figures.acknowledged += 1;
                figures.lost += usize::from(rows.is_empty());
                let right = |row: &&&Row| row.0 == write.key && version.is_none_or(|version| version == row.1);
                figures.wrong_version += rows.len() - rows.iter().filter(right).count();
                if rows.is_empty() {
                    figures.example(|| format!("lost: {write:?}"));
                }
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
    let times: HashMap<Uuid, (Instant, Option<Instant>)> = story
        .writes
        .iter()
        .map(|write| (write.id, (write.begun, matches!(write.verdict, Verdict::Acknowledged(_)).then_some(write.ended))))
        .collect();
    let mut history: BTreeMap<usize, Vec<Version>> = BTreeMap::new();
    for (key, version, operation, id) in log {
        let versions = history.entry(key).or_default();
        figures.gaps += usize::from(version != versions.len() as i64 + 1);
        let (begun, acknowledged) = times.get(&id).copied().expect("the log has a write that nobody sent");
        versions.push(Version { operation: id, is_deletion: operation == 3, begun, acknowledged });
    }
    let history = History(history);
    for read in &story.reads {
        history.judge(read, excuses, began, &mut figures);
    }
    let mut waits: Vec<_> = story.reads.iter().filter(|read| read.from != From::Store).map(|read| read.ended - read.begun).collect();
    waits.sort();
    figures.cached_p99 = quantile(&waits, 0.99);
    (figures, history)
}

impl History {
    /// The last version of each key, and its operation; none when it is deleted.
    pub(super) fn last(&self, key: usize) -> Option<(i64, String)> {
        let versions = self.0.get(&key)?;
        let last = versions.last()?;
        (!last.is_deletion).then(|| (versions.len() as i64, last.operation.to_string()))
    }

    fn judge(&self, read: &Read, excuses: &[(Instant, Instant)], began: Instant, figures: &mut Figures) {
        figures.reads += 1;
        figures.cached += usize::from(matches!(read.from, From::Local | From::Second));
        let none = Vec::new();
        let versions = self.0.get(&read.key).unwrap_or(&none);
        let begun_before = |index: usize| versions[index].begun < read.ended;
        // What it tells: a version, or for a 404 the latest deletion that may be meant; 0 when it may never have been there.
        let told = match &read.found {
            Some((version, operation)) => {
                let index = usize::try_from(*version - 1).unwrap();
                let is_real = versions.get(index).is_some_and(|known| known.operation.to_string() == *operation && !known.is_deletion);
                if !is_real || !begun_before(index) {
                    figures.ghosts += 1;
                    figures.example(|| format!("ghost: {read:?}"));
                    return;
                }
                *version
            }
            None => {
                (0..versions.len()).rev().find(|index| versions[*index].is_deletion && begun_before(*index)).map_or(0, |i| i as i64 + 1)
            }
        };
        // The first version above it that was acknowledged: since then it is replaced.
        let replaced = versions.iter().skip(usize::try_from(told).unwrap()).filter_map(|version| version.acknowledged).min();
        let behind = replaced.and_then(|at| read.begun.checked_duration_since(at)).unwrap_or_default();
        if told < read.written {
            figures.own_writes_missing += 1;
            figures.example(|| format!("own write missing, told {told}: {read:?} at {:?}", read.begun - began));
        }
        figures.backwards += usize::from(!read.strong && told < read.seen);
        if behind.is_zero() {
            return;
        }
        if read.strong || read.from == From::Store && read.found.is_some() {
            figures.strong_stale += 1;
            figures.example(|| format!("strong read behind by {behind:?}, told {told}: {read:?} at {:?}", read.begun - began));
            return;
        }
        figures.stale += 1;
        // That a read of the store shares a load which began before it is no excuse: loads are shared within a ticket only.
        let is_excused = excuses.iter().any(|(from, until)| read.begun >= *from && read.begun <= *until);
        if behind <= BOUND {
            figures.longest_stale = figures.longest_stale.max(behind);
        } else if is_excused {
            figures.excused += 1;
            figures.longest_excused = figures.longest_excused.max(behind);
        } else {
            figures.beyond_bound += 1;
            figures.longest_stale = figures.longest_stale.max(behind);
            figures.example(|| format!("stale by {behind:?}, told {told}: {read:?} at {:?}", read.begun - began));
        }
    }
}
