//! What all write statements have in common: the arrays that each takes, and the outcomes that each answers.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::epoch::Mark;
use super::failure::Failure;
use crate::domain::commit::{Change, Resource};
use crate::domain::id::TenantId;
use crate::domain::version::{Expected, Version};
use crate::store::{Outcome, Replay, WriteContext};

/// One array per parameter that every write statement takes, one element per row.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    pub(super) number: Vec<i32>,
    pub(super) expected: Vec<Option<i64>>,
    pub(super) actor: Vec<&'a str>,
    pub(super) request_id: Vec<Uuid>,
    pub(super) idem: Vec<Option<Uuid>>,
    pub(super) fingerprint: Vec<Option<Uuid>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(rows: impl Iterator<Item = (&'a WriteContext, Expected)>) -> Self {
        let mut columns = Self::default();
        for (number, (context, expected)) in (0..).zip(rows) {
            columns.number.push(number);
            columns.expected.push(expected.encode());
            columns.actor.push(context.actor.as_str());
            columns.request_id.push(context.request_id);
            columns.idem.push(context.idempotency.map(|idempotency| idempotency.key));
            columns.fingerprint.push(context.idempotency.map(|idempotency| idempotency.fingerprint));
        }
        columns
    }
}

/// What a statement says of one row, before the records are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Applied { created: bool, version: Version },
    Refused { current: Option<Version> },
    Absent,
    Replayed { status: u16, version: Version },
    KeyReused,
}

impl Verdict {
    /// Reads the columns `outcome`, `version` and `stored_status`.
    pub(super) fn read(row: &PgRow) -> Result<Self, Failure> {
        let outcome: &str = row.try_get("outcome")?;
        let number: Option<i64> = row.try_get("version")?;
        let version = || number.and_then(Version::new).ok_or_else(|| Failure::corrupt(format!("version {number:?} of outcome {outcome}")));
        match outcome {
            "created" => Ok(Self::Applied { created: true, version: version()? }),
            "replaced" | "deleted" => Ok(Self::Applied { created: false, version: version()? }),
            "refused" => Ok(Self::Refused { current: number.map(|_| version()).transpose()? }),
            "absent" => Ok(Self::Absent),
            "replayed" => {
                let status: i16 = row.try_get("stored_status")?;
                let status = u16::try_from(status).map_err(|_| Failure::corrupt(format!("status {status} of a kept answer")))?;
                Ok(Self::Replayed { status, version: version()? })
            }
            "reused" => Ok(Self::KeyReused),
            "raced" => Err(Failure::Raced),
            _ => Err(Failure::corrupt("a statement answered an unknown outcome")),
        }
    }

    /// The outcome of a delete, which has no record to read back.
    pub(super) fn of_delete(self) -> Outcome<crate::store::Tombstone> {
        match self {
            Self::Applied { version, .. } => Outcome::Applied { created: false, record: crate::store::Tombstone { version } },
            Self::Refused { current } => Outcome::Refused { current },
            Self::Absent => Outcome::Absent,
            Self::Replayed { status, version } => Outcome::Replayed(Replay { status, version, record: None }),
            Self::KeyReused => Outcome::KeyReused,
        }
    }
}

/// What the observer is told of a statement's rows: those that were applied.
pub(super) fn changes<R>(
    tenant: &TenantId,
    resources: impl Iterator<Item = Resource>,
    outcomes: &[Outcome<R>],
    version: impl Fn(&R) -> Version,
) -> Vec<Change> {
    let applied = resources.zip(outcomes).filter_map(|(resource, outcome)| match outcome {
        Outcome::Applied { record, .. } => Some(Change { tenant: tenant.clone(), resource, version: version(record) }),
        _ => None,
    });
    applied.collect()
}

/// What a transaction that has applied a write can be told by. Without an applied row it has nothing to commit. Fails unless each of the
/// `expected` rows was answered: one that was not would be committed, and its caller told of another's outcome or of none.
pub(super) fn mark(rows: &[PgRow], expected: usize) -> Result<Option<Mark>, Failure> {
    if rows.len() != expected {
        return Err(Failure::corrupt(format!("{expected} rows were written and {} were answered", rows.len())));
    }
    for row in rows {
        if let Verdict::Applied { .. } = Verdict::read(row)? {
            return Ok(Some(Mark { xid: row.try_get("xid")?, at: row.try_get("updated_at")? }));
        }
    }
    Ok(None)
}

/// A version from a column that always has one.
pub(super) fn version(row: &PgRow, column: &str) -> Result<Version, Failure> {
    let number: i64 = row.try_get(column)?;
    Version::new(number).ok_or_else(|| Failure::corrupt(format!("{column} {number}")))
}

/// Whether a page whose rows tell in `found` how many there were, counting one row more than it may hold, left any out.
pub(super) fn found_more(rows: &[PgRow], items: usize) -> Result<bool, Failure> {
    let found: i64 = rows.first().map(|row| row.try_get("found")).transpose()?.unwrap_or(0);
    Ok(usize::try_from(found).unwrap_or(usize::MAX) > items)
}

/// The LIMIT of a page that is to tell whether more follow.
pub(super) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// The outcome of a delete that finds nothing.
pub(super) fn nothing_to_delete<R>(expected: Expected) -> Outcome<R> {
    if expected.is_met_by(None) { Outcome::Absent } else { Outcome::Refused { current: None } }
}

/// The only outcome of a statement that was given one row.
pub(super) fn single<T>(outcomes: Vec<T>) -> crate::store::Result<T> {
    let count = outcomes.len();
    match outcomes.into_iter().next() {
        Some(outcome) if count == 1 => Ok(outcome),
        _ => Err(crate::store::StoreError::Internal(format!("one row was written and {count} were answered").into())),
    }
}
