//! Reading columns: whatever does not hold what this version writes is corrupt, and named without its value.

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};

use crate::domain::clock::Timestamp;
use crate::domain::version::Version;
use crate::store::{Result, StoreError};

/// One row, and the table that it is said to come from.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) const fn of(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { row, table }
    }

    /// A column of any type; `Option` where it may be NULL.
    pub(super) fn get<T>(&self, column: &'static str) -> Result<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    /// A truth value.
    pub(super) fn flag(&self, column: &'static str) -> Result<bool> {
        Ok(self.get::<i64>(column)? != 0)
    }

    /// A version.
    pub(super) fn version(&self, column: &'static str) -> Result<Version> {
        Version::new(self.get(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// A time.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_microseconds)
    }

    /// A time that may be missing.
    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_microseconds))
    }

    /// The error of a column that cannot be what this version wrote.
    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, detail: format!("column {column} does not hold what it must") }
    }
}
