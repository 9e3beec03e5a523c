//! What migrations of both backends have in common: what is pending, and the report of a run.

use sqlx::migrate::Migrator;

/// What a run of the migrations did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationReport {
    /// The versions that this run applied, in order; empty when another process was quicker or nothing was pending.
    pub applied: Vec<i64>,
    /// The role that was granted what the server needs, where there are roles.
    pub granted_to: Option<String>,
}

/// How the database stands to the migrations that this binary knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All are applied, perhaps newer ones too: those come from a newer server, and are made so that this one works beside it.
    Current,
    /// These versions are not applied.
    Pending(Vec<i64>),
    /// This version was applied with another text.
    Changed(i64),
}

/// Compares the migrations that the binary knows with those that were applied, given as version and checksum.
#[must_use]
pub fn standing(migrator: &Migrator, applied: &[(i64, Vec<u8>)]) -> Standing {
    let mut pending = Vec::new();
    for migration in migrator.iter().filter(|migration| !migration.migration_type.is_down_migration()) {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            Some((version, checksum)) if checksum[..] != migration.checksum[..] => return Standing::Changed(*version),
            Some(_) => {}
            None => pending.push(migration.version),
        }
    }
    if pending.is_empty() { Standing::Current } else { Standing::Pending(pending) }
}
