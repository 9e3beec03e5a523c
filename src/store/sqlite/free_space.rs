//! Giving the pages of removed rows back to the file system, a few at a time: SQLite keeps them for later writes, and with them the size
//! that the file once had.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::error::store_error;
use crate::store::{Result, Swept};

/// Free pages that stay, whatever the size of the file: the next writes take them.
const KEPT_PAGES: i64 = 256;
/// As well as one free page in so many of all: a file that is cut at every ebb is grown again at the next flood.
const KEPT_SHARE: i64 = 8;
/// What `PRAGMA auto_vacuum` answers of a file that was made to be cut like this. Any other is left as it is.
const INCREMENTAL: i64 = 2;

/// Cuts at most so many pages off, when more are free than are kept.
pub(super) async fn give_back(connection: &mut SqliteConnection, pages: u32) -> Result<Swept> {
    if number(connection, "PRAGMA auto_vacuum").await? != INCREMENTAL {
        return Ok(Swept::default());
    }
    let free = number(connection, "PRAGMA freelist_count").await?;
    let kept = KEPT_PAGES.max(number(connection, "PRAGMA page_count").await? / KEPT_SHARE);
    let cut = (free - kept).min(pages.into());
    if cut <= 0 {
        return Ok(Swept::default());
    }
    // It answers a row a page, and goes on only while it is asked.
    let vacuum = sqlx::query(AssertSqlSafe(format!("PRAGMA incremental_vacuum({cut})")));
    vacuum.fetch_all(&mut *connection).await.map_err(store_error)?;
    let left = number(connection, "PRAGMA freelist_count").await?;
    let rows = u64::try_from(free - left).unwrap_or(0);
    Ok(Swept { rows, more: rows > 0 && left > kept, busy: false })
}

async fn number(connection: &mut SqliteConnection, pragma: &'static str) -> Result<i64> {
    sqlx::query_scalar(pragma).fetch_one(connection).await.map_err(store_error)
}
