//! The statements of writes in which the server computes with what is there: batches, increments, the deletion of a scope. Their rows are
//! locked first, in the order of names, and then changed; what was read under the locks stays true until the commit.
//!
//! Parameters 1 to 5 are the tenant, the clock's offset in microseconds, the kind and the id of the scope, and the life of its session.

/// The moment of a statement.
macro_rules! moment {
    () => {
        "WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at)"
    };
}

/// Whether the row `x` exists for the client at the time of `m`.
macro_rules! live {
    ($moment:literal) => {
        concat!("(NOT x.deleted AND x.session_life IS NOT DISTINCT FROM $5 AND (x.expires_at IS NULL OR x.expires_at > ", $moment, "))")
    };
}

/// Locks the rows of the names $6, and of those that $7 says are to be made, even if they are not there yet: such a name gets a row that
/// is deleted and holds the version in front of its first. Only with an insert can a row be locked that is not there, and only in one
/// statement all of them in one order. With $8 the values are read too.
pub(super) const LOCK: &str = concat!(
    moment!(),
    ", i AS MATERIALIZED (SELECT * FROM unnest($6::text[], $7::bool[]) AS u(name, makes))
    INSERT INTO variable AS x (tenant_id, scope_kind, scope_id, name, version, created_version, session_life, created_at, updated_at,
                               sweep_at, deleted, updated_by)
    SELECT $1, $3, $4, i.name, f.version_floor, f.version_floor, $5, m.at, m.at, date_trunc('hour', m.at) + interval '26 hours', true, ''
    FROM i CROSS JOIN moment m
      CROSS JOIN (SELECT coalesce((SELECT version_floor FROM tenant WHERE tenant_id = $1), 0) AS version_floor) f
      LEFT JOIN LATERAL (SELECT true AS is_there FROM variable y WHERE y.tenant_id = $1 AND y.scope_kind = $3 AND y.scope_id = $4
                           AND y.name = i.name LIMIT 1) e ON true
    WHERE i.makes OR e.is_there ORDER BY i.name
    ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET expected = NULL
    RETURNING x.name, x.version, ",
    live!("(SELECT at FROM moment)"),
    " AS is_live, CASE WHEN $8 THEN x.value END AS value"
);

/// Sets locked rows. $6 and $7 are the request and its user, $8 the scope as in the API; arrays from $9: row number, name, whether it is
/// live, value. What belongs to a live one stays.
///
/// The rows are there, and are written by ON CONFLICT all the same: as an UPDATE that is joined with the names, a plan from the time when
/// the table was small would read all of the tenant's rows. `deleted` carries whether one was not live.
pub(super) const SET: &str = concat!(
    moment!(),
    ", i AS MATERIALIZED (SELECT * FROM unnest($9::int4[], $10::text[], $11::bool[], $12::text[]) AS u(n, name, is_live, value)),
    h AS (
      INSERT INTO variable AS x (tenant_id, scope_kind, scope_id, name, version, created_version, session_life, created_at, updated_at,
                                 sweep_at, deleted, updated_by, value)
      SELECT $1, $3, $4, i.name, 1, 1, $5, m.at, m.at, CASE WHEN $3 = 3 THEN date_trunc('hour', m.at) + interval '2 hours' END,
             NOT i.is_live, $7, i.value
      FROM i CROSS JOIN moment m ORDER BY i.name
      ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET version = x.version + 1, applied = true, deleted = false,
        value = EXCLUDED.value, updated_by = EXCLUDED.updated_by, session_life = EXCLUDED.session_life,
        created_version = CASE WHEN EXCLUDED.deleted THEN x.version + 1 ELSE x.created_version END,
        created_at = CASE WHEN EXCLUDED.deleted THEN greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond')
                          ELSE x.created_at END,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond'),
        description = CASE WHEN NOT EXCLUDED.deleted THEN x.description END,
        secret = NOT EXCLUDED.deleted AND x.secret,
        expires_at = CASE WHEN NOT EXCLUDED.deleted THEN x.expires_at END,
        sweep_at = CASE WHEN EXCLUDED.deleted THEN EXCLUDED.sweep_at ELSE x.sweep_at END
      RETURNING x.name, x.version, x.value, x.secret, x.description, x.created_at, x.updated_at, x.updated_by, x.expires_at),
    r AS MATERIALIZED (SELECT h.*, i.n, i.is_live FROM h JOIN i ON i.name = h.name ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 2, CASE WHEN is_live THEN 2 ELSE 1 END, $8, name, version, $6, $7, updated_at FROM r ORDER BY n)
    SELECT r.* FROM r ORDER BY n"
);

/// Deletes locked live rows. $6 and $7 are the request and its user, $8 the scope as in the API, $9 the seconds for which an idempotency
/// key is kept; arrays from $10: row number, name.
pub(super) const DELETE: &str = concat!(
    moment!(),
    ", i AS MATERIALIZED (SELECT * FROM unnest($10::int4[], $11::text[]) AS u(n, name)),
    h AS (
      INSERT INTO variable AS x (tenant_id, scope_kind, scope_id, name, version, created_version, session_life, created_at, updated_at,
                                 sweep_at, updated_by)
      SELECT $1, $3, $4, i.name, 1, 1, $5, m.at, m.at, date_trunc('hour', m.at + $9::int8 * interval '1 second') + interval '1 hour', $7
      FROM i CROSS JOIN moment m ORDER BY i.name
      ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET version = x.version + 1, applied = true, deleted = true,
        value = NULL, description = NULL, expires_at = NULL, updated_by = EXCLUDED.updated_by, sweep_at = EXCLUDED.sweep_at,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond')
      RETURNING x.name, x.version, x.updated_at),
    r AS MATERIALIZED (SELECT h.*, i.n FROM h JOIN i ON i.name = h.name ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 2, 3, $8, name, version, $6, $7, updated_at FROM r ORDER BY n)
    SELECT r.n, r.name, r.version FROM r ORDER BY n"
);

/// Locks the first $6 live rows of the scope and answers their names.
pub(super) const LOCK_SCOPE: &str = concat!(
    moment!(),
    " SELECT x.name FROM variable x CROSS JOIN moment m
    WHERE x.tenant_id = $1 AND x.scope_kind = $3 AND x.scope_id = $4 AND ",
    live!("m.at"),
    " ORDER BY x.name LIMIT $6 FOR NO KEY UPDATE OF x"
);

/// Whether the scope has live rows.
pub(super) const HAS_LIVE: &str = concat!(
    moment!(),
    " SELECT EXISTS (SELECT FROM variable x CROSS JOIN moment m
    WHERE x.tenant_id = $1 AND x.scope_kind = $3 AND x.scope_id = $4 AND ",
    live!("m.at"),
    ")"
);
