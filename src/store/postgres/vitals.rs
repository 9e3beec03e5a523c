//! What the database tells of itself to the caches: its clock, and which life of it this is.

use std::time::Instant;

use sqlx::PgConnection;

use crate::domain::clock::Timestamp;
use crate::domain::store_life::{Epoch, StoreLife};

/// The identity of the cluster with the name of the database in it; then the timeline, which every fail-over raises, and the start of the
/// server, which every crash and restore changes.
const LOOK: &str = "
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
           system_identifier || '|' || current_database() || '|' || coalesce(current_schema(), ''),
           substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '|' || extract(epoch FROM pg_postmaster_start_time())
    FROM pg_control_system()";

/// Asks the database on this connection and tells `life`. Fails on a standby, which must not fill a cache.
pub(super) async fn look(connection: &mut PgConnection, life: &StoreLife) -> Result<(), sqlx::Error> {
    let asked = Instant::now();
    let (now, database, this_life): (i64, String, String) = sqlx::query_as(LOOK).fetch_one(connection).await?;
    if life.epoch_is(Epoch { database, life: this_life }) && life.lives() > 1 {
        tracing::warn!("the database has begun another life: all caches are empty");
    }
    life.clock_said(asked, Timestamp::from_microseconds(now));
    Ok(())
}
