//! The statements that write states. Each takes many rows and answers each with its own outcome.
//!
//! Parameters 1 to 3 are the tenant, the clock's offset in microseconds, and the seconds for which an idempotency key is kept; then
//! follow arrays, one element per row. No key and no idempotency key may come twice.
//!
//! - A row whose precondition fails in the statement's snapshot (`seen`) is answered from there: no lock, no dead row. One that loses a
//!   race afterwards meets `DO UPDATE` under the row's lock, with its precondition false: the row is written unchanged, because only
//!   then does RETURNING tell the version that is current now. A subquery would still see the snapshot.
//! - The version of the history is that of RETURNING: any version computed before the lock may have been taken meanwhile.
//! - `r` is sorted, so that all heads are locked, in one order, before the first idempotency row is.
//! - LATERAL ... LIMIT 1 keeps the per-row probe of the index even in a plan that was made while the table was empty.
//! - `raced`: another transaction has stored the key since the snapshot. The caller rolls back and begins again.

use super::key_sql::{keep_keys, seen_keys};

/// The precondition on the row `x`, under its lock.
macro_rules! met {
    () => {
        "CASE WHEN EXCLUDED.expected IS NULL THEN true WHEN EXCLUDED.expected = 0 THEN x.deleted
              WHEN EXCLUDED.expected = -1 THEN NOT x.deleted ELSE NOT x.deleted AND x.version = EXCLUDED.expected END"
    };
}

/// The new value of a column when the precondition is met, else the old one.
macro_rules! when_met {
    ($column:literal, $value:literal) => {
        concat!($column, " = CASE WHEN ", met!(), " THEN ", $value, " ELSE x.", $column, " END, ")
    };
}

/// Arrays from $4: row number, workflow, execution, expected, actor, request, key, fingerprint, operation, status, schema version, body.
pub(super) const PUT: &str = concat!(
    "WITH moment AS MATERIALIZED (
      SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at,
             1 + coalesce((SELECT version_floor FROM tenant WHERE tenant_id = $1), 0) AS first),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::uuid[], $10::uuid[], $11::uuid[],
                           $12::int2[], $13::text[], $14::int4[], $15::text[])
        AS u(n, w, e, expected, actor, request_id, idem, fingerprint, operation, status, schema_version, body)),
    seen AS MATERIALIZED (
      SELECT i.n, i.w, i.e, i.expected, i.idem, i.fingerprint, i.status, i.schema_version, x.version AS cv,
             coalesce(x.deleted, true) AS cd, k.version AS kv, k.status AS ks, k.fingerprint AS kf, k.state_id AS ki
      FROM i CROSS JOIN moment m
        LEFT JOIN LATERAL (SELECT y.version, y.deleted FROM execution_state y WHERE y.tenant_id = $1 AND y.workflow_id = i.w
          AND y.execution_id = CASE WHEN i.expected IS NOT NULL THEN i.e END LIMIT 1) x ON true
        ",
    seen_keys!(),
    "),
    h AS (
      INSERT INTO execution_state AS x (tenant_id, workflow_id, execution_id, version, created_version, expected, status, schema_version,
                                        created_at, updated_at, listed_at)
      SELECT $1, s.w, s.e, m.first, m.first, s.expected, s.status, s.schema_version, m.at, m.at, date_trunc('hour', m.at)
      FROM seen s CROSS JOIN moment m
      WHERE s.kv IS NULL AND CASE WHEN s.expected IS NULL THEN true WHEN s.expected = 0 THEN s.cd
                                  WHEN s.expected = -1 THEN NOT s.cd ELSE NOT s.cd AND s.cv = s.expected END
      ORDER BY s.w, s.e
      ON CONFLICT (tenant_id, workflow_id, execution_id) DO UPDATE SET ",
    when_met!("version", "x.version + 1"),
    when_met!("created_version", "CASE WHEN x.deleted THEN x.version + 1 ELSE x.created_version END"),
    when_met!(
        "created_at",
        "CASE WHEN x.deleted THEN greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond') ELSE x.created_at END"
    ),
    when_met!("updated_at", "greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond')"),
    when_met!("listed_at", "greatest(EXCLUDED.listed_at, x.listed_at)"),
    when_met!("sweep_at", "NULL"),
    when_met!("status", "EXCLUDED.status"),
    when_met!("schema_version", "EXCLUDED.schema_version"),
    when_met!("forked_workflow", "CASE WHEN NOT x.deleted THEN x.forked_workflow END"),
    when_met!("forked_execution", "CASE WHEN NOT x.deleted THEN x.forked_execution END"),
    when_met!("forked_version", "CASE WHEN NOT x.deleted THEN x.forked_version END"),
    when_met!("forked_checkpoint", "CASE WHEN NOT x.deleted THEN x.forked_checkpoint END"),
    "applied = ",
    met!(),
    ", deleted = x.deleted AND NOT ",
    met!(),
    ", expected = NULL
      RETURNING x.workflow_id, x.execution_id, x.state_id, x.version, x.created_version, x.created_at, x.updated_at, x.applied, x.deleted,
                x.forked_workflow, x.forked_execution, x.forked_version, x.forked_checkpoint),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.actor, i.request_id, i.idem, i.fingerprint, i.operation, i.status, i.body
      FROM h JOIN i ON i.w = h.workflow_id AND i.e = h.execution_id ORDER BY i.n),
    v AS (
      INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status, body,
                                 forked_workflow, forked_execution, forked_version, forked_checkpoint)
      SELECT $1, state_id, version, created_at, updated_at, octet_length(body), operation, actor, status, body,
             forked_workflow, forked_execution, forked_version, forked_checkpoint
      FROM r WHERE applied),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 1, CASE WHEN version = created_version THEN 1 ELSE 2 END, workflow_id, execution_id, version, request_id, actor, updated_at
      FROM r WHERE applied ORDER BY n),
    k AS (",
    keep_keys!("CASE WHEN r.version = r.created_version THEN 201 ELSE 200 END", "r.state_id"),
    ")
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN r.applied THEN CASE WHEN s.idem IS NOT NULL AND k.idem IS NULL THEN 'raced'
                                         WHEN r.version = r.created_version THEN 'created' ELSE 'replaced' END
                ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv
                WHEN r.n IS NOT NULL THEN CASE WHEN r.applied OR NOT r.deleted THEN r.version END
                WHEN NOT s.cd THEN s.cv END AS version,
           coalesce(s.ki, r.state_id) AS state_id, s.ks AS stored_status, r.created_at, r.updated_at,
           r.forked_workflow, r.forked_execution, r.forked_version, r.forked_checkpoint,
           pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s LEFT JOIN r ON r.n = s.n LEFT JOIN k ON k.idem = s.idem ORDER BY s.n"
);

/// Arrays from $4: row number, workflow, execution, expected, actor, request, key, fingerprint.
///
/// The heads are locked first, in order; the locked row decides. It is written by ON CONFLICT too, although it exists: as an UPDATE that
/// is joined with the locked rows, a plan from the time when the table was small would read all of the tenant's rows.
pub(super) const DELETE: &str = concat!(
    "WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::uuid[], $10::uuid[], $11::uuid[])
        AS u(n, w, e, expected, actor, request_id, idem, fingerprint)),
    seen AS MATERIALIZED (
      SELECT i.*, k.version AS kv, k.status AS ks, k.fingerprint AS kf
      FROM i CROSS JOIN moment m ",
    seen_keys!(),
    "),
    lk AS MATERIALIZED (
      SELECT s.n, s.w, s.e, s.expected, x.version, x.deleted
      FROM (SELECT * FROM seen WHERE kv IS NULL ORDER BY w, e) s CROSS JOIN LATERAL (
        SELECT y.version, y.deleted FROM execution_state y
        WHERE y.tenant_id = $1 AND y.workflow_id = s.w AND y.execution_id = s.e LIMIT 1 FOR NO KEY UPDATE) x),
    h AS (
      INSERT INTO execution_state AS x (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at,
                                        status)
      SELECT $1, lk.w, lk.e, lk.version, lk.version, m.at, m.at, date_trunc('hour', m.at), ''
      FROM lk CROSS JOIN moment m WHERE NOT lk.deleted AND (lk.expected IS NULL OR lk.expected IN (-1, lk.version))
      ON CONFLICT (tenant_id, workflow_id, execution_id) DO UPDATE SET version = x.version + 1, deleted = true, applied = true,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond'),
        listed_at = greatest(EXCLUDED.listed_at, x.listed_at)
      RETURNING x.workflow_id, x.execution_id, x.state_id, x.version, x.created_at, x.updated_at, x.status,
                x.forked_workflow, x.forked_execution, x.forked_version, x.forked_checkpoint),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.actor, i.request_id, i.idem, i.fingerprint, true AS applied
      FROM h JOIN i ON i.w = h.workflow_id AND i.e = h.execution_id ORDER BY i.n),
    v AS (
      INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status, deleted,
                                 forked_workflow, forked_execution, forked_version, forked_checkpoint)
      SELECT $1, state_id, version, created_at, updated_at, 0, $12::int2, actor, status, true,
             forked_workflow, forked_execution, forked_version, forked_checkpoint
      FROM r),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 1, 3, workflow_id, execution_id, version, request_id, actor, updated_at FROM r ORDER BY n),
    k AS (",
    keep_keys!("204", "r.state_id"),
    ")
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN r.n IS NOT NULL THEN CASE WHEN s.idem IS NOT NULL AND k.idem IS NULL THEN 'raced' ELSE 'deleted' END
                WHEN lk.n IS NULL OR lk.deleted THEN CASE WHEN s.expected IS NULL OR s.expected = 0 THEN 'absent' ELSE 'refused' END
                ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv WHEN r.n IS NOT NULL THEN r.version WHEN NOT lk.deleted THEN lk.version END AS version,
           s.ks AS stored_status, r.updated_at, pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s LEFT JOIN lk ON lk.n = s.n LEFT JOIN r ON r.n = s.n LEFT JOIN k ON k.idem = s.idem ORDER BY s.n"
);
