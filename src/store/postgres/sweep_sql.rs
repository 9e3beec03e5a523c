//! The statements of housekeeping, each for one tenant and a number of rows. Rows that a request has locked are passed over: they come
//! again. A row that was read is read anew under its lock, so what a request has just brought back to life is not swept.
//!
//! Parameters 1 to 3 are the tenant, the moment, and the number of rows.

/// The time at which a tombstone of now is due: an hour after the last idempotency key that may name it, like one that a request leaves.
macro_rules! tombstone_hour {
    () => {
        "date_trunc('hour', $2 + $4::int8 * interval '1 second') + interval '1 hour'"
    };
}

/// Ends sessions, without a new version: for every reader they have ended already. One that was extended is looked at again when its
/// time is over. $4: seconds that an idempotency key is kept.
pub(super) const EXPIRED_SESSIONS: &str = concat!(
    "WITH due AS MATERIALIZED (
      SELECT x.session_id FROM session x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND NOT x.deleted
      ORDER BY x.sweep_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE session x SET deleted = x.expires_at <= $2, data = CASE WHEN x.expires_at > $2 THEN x.data END,
           sweep_at = CASE WHEN x.expires_at > $2 THEN date_trunc('hour', x.expires_at) + interval '1 hour' ELSE ",
    tombstone_hour!(),
    " END
    FROM due WHERE x.tenant_id = $1 AND x.session_id = due.session_id"
);

/// Ends variables that have expired, and those of sessions that have ended; others are looked at again when that may have happened: of a
/// session, which may be deleted early, within a day.
pub(super) const EXPIRED_VARIABLES: &str = concat!(
    "WITH due AS MATERIALIZED (
      SELECT x.scope_kind, x.scope_id, x.name,
             coalesce(x.expires_at <= $2, false) OR (x.scope_kind = 3 AND s.expires_at IS NULL) AS has_ended,
             date_trunc('hour', least(x.expires_at, CASE WHEN x.scope_kind = 3 THEN least(s.expires_at, $2 + interval '24 hours') END))
               + interval '1 hour' AS next_at
      FROM variable x LEFT JOIN LATERAL (
        SELECT y.expires_at FROM session y WHERE y.tenant_id = $1 AND y.session_id = CASE WHEN x.scope_kind = 3 THEN x.scope_id END
          AND NOT y.deleted AND y.expires_at > $2 AND y.created_version = x.session_life LIMIT 1) s ON true
      WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND NOT x.deleted ORDER BY x.sweep_at LIMIT $3 FOR NO KEY UPDATE OF x SKIP LOCKED)
    UPDATE variable x SET deleted = due.has_ended,
           value = CASE WHEN NOT due.has_ended THEN x.value END,
           description = CASE WHEN NOT due.has_ended THEN x.description END,
           expires_at = CASE WHEN NOT due.has_ended THEN x.expires_at END,
           sweep_at = CASE WHEN NOT due.has_ended THEN due.next_at ELSE ",
    tombstone_hour!(),
    " END
    FROM due
    WHERE x.tenant_id = $1 AND x.scope_kind = due.scope_kind AND x.scope_id = due.scope_id AND x.name = due.name"
);

/// Raises the floor to the highest tombstone that is due. `floor_raised_at` is set from here until the tombstones below the floor have been
/// removed: a floor that rose meanwhile would never be old enough.
pub(super) const RAISE_FLOOR: &str = "
    UPDATE tenant t SET version_floor = greatest(t.version_floor, due.highest), floor_raised_at = $2
    FROM (SELECT max(d.version) AS highest FROM (
            SELECT x.version FROM variable x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted
            UNION ALL SELECT x.version FROM session x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted
            UNION ALL SELECT x.version FROM checkpoint x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted
            UNION ALL SELECT greatest(x.version, x.checkpoint_floor) FROM execution_state x
                      WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted) d) due
    WHERE t.tenant_id = $1 AND t.floor_raised_at IS NULL AND due.highest IS NOT NULL";

/// The floor below which tombstones may go: every statement that began before it was raised, $3 seconds ago, has ended.
pub(super) const FLOOR: &str = "
    SELECT t.version_floor FROM tenant t WHERE t.tenant_id = $1 AND t.floor_raised_at <= $2 - $3::int8 * interval '1 second'";

/// All that could go has gone: the floor may rise again. Those that a request has locked wait until then.
pub(super) const FREE_FLOOR: &str = "UPDATE tenant SET floor_raised_at = NULL WHERE tenant_id = $1";

/// Removes tombstones not above the floor $4.
macro_rules! remove_tombstones {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE tenant_id = $1 AND ctid = ANY (ARRAY(SELECT x.ctid FROM ",
            $table,
            " x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted AND x.version <= $4
               ORDER BY x.sweep_at LIMIT $3 FOR UPDATE SKIP LOCKED))"
        )
    };
}

/// Tombstones on which nothing hangs.
pub(super) const TOMBSTONES: [&str; 3] = [remove_tombstones!("variable"), remove_tombstones!("session"), remove_tombstones!("checkpoint")];

/// Locks heads without a state that may go. Nothing can be hung on a locked head; what hangs on it the next statement sees.
pub(super) const LOCK_HEADS: &str = "
    SELECT x.workflow_id, x.execution_id FROM execution_state x
    WHERE x.tenant_id = $1 AND x.sweep_at <= $2 AND x.deleted AND greatest(x.version, x.checkpoint_floor) <= $4
    ORDER BY x.sweep_at LIMIT $3 FOR UPDATE SKIP LOCKED";

/// Removes those of the locked heads $2, $3 on whose incarnations nothing hangs.
pub(super) const REMOVE_HEADS: &str = "
    DELETE FROM execution_state x USING unnest($2::text[], $3::text[]) AS u(w, e)
    WHERE x.tenant_id = $1 AND x.workflow_id = u.w AND x.execution_id = u.e
      AND NOT EXISTS (SELECT FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = x.state_id)
      AND NOT EXISTS (SELECT FROM checkpoint c WHERE c.tenant_id = $1 AND c.state_id = x.state_id)";

/// The others stay. Those on which only tombstones hang are looked at again, at $4; the others are due again when their last checkpoint is
/// deleted.
pub(super) const KEEP_HEADS: &str = "
    UPDATE execution_state x
    SET sweep_at = CASE WHEN NOT EXISTS (SELECT FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = x.state_id)
                         AND NOT EXISTS (SELECT FROM checkpoint c WHERE c.tenant_id = $1 AND c.state_id = x.state_id AND NOT c.deleted)
                        THEN date_trunc('hour', $4::timestamptz) + interval '1 hour' END
    FROM unnest($2::text[], $3::text[]) AS u(w, e) WHERE x.tenant_id = $1 AND x.workflow_id = u.w AND x.execution_id = u.e";

/// Removes answers that count as absent already.
pub(super) const IDEMPOTENCY_KEYS: &str = "
    DELETE FROM idempotency WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
      SELECT x.ctid FROM idempotency x WHERE x.tenant_id = $1 AND x.sweep_at <= $2 ORDER BY x.sweep_at LIMIT $3 FOR UPDATE SKIP LOCKED))";

/// Removes the oldest rows of the log, as far as they are older than $4 seconds.
pub(super) const CHANGE_LOG: &str = "
    DELETE FROM change_log WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
      SELECT o.ctid FROM (SELECT x.ctid, x.at FROM change_log x WHERE x.tenant_id = $1 ORDER BY x.xid, x.seq LIMIT $3) o
      WHERE o.at <= $2 - $4::int8 * interval '1 second'))";

/// An incarnation that waits for its removal.
pub(super) const REMOVED_STATE: &str = "
    SELECT r.state_id FROM removed_state r WHERE r.tenant_id = $1 ORDER BY r.state_id LIMIT 1 FOR UPDATE SKIP LOCKED";

/// Removes what hangs on the incarnation $2, $3 rows at a time. Nobody reads or writes it.
macro_rules! remove_of_incarnation {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE tenant_id = $1 AND ctid = ANY (ARRAY(SELECT x.ctid FROM ",
            $table,
            " x WHERE x.tenant_id = $1 AND x.state_id = $2 LIMIT $3))"
        )
    };
}

/// Versions, then checkpoints of the incarnation $2.
pub(super) const OF_INCARNATION: [&str; 2] = [remove_of_incarnation!("state_version"), remove_of_incarnation!("checkpoint")];

/// The incarnation $2 is removed.
pub(super) const REMOVED: &str = "DELETE FROM removed_state WHERE tenant_id = $1 AND state_id = $2";
