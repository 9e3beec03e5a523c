//! The statements that write sessions: as those of states (see `state_sql`), with these differences. A session that has expired counts as
//! absent. One that is live and belongs to somebody else is `absent` to whoever reaches only his own, whatever he expects. The answers of
//! put and extend are kept beside the idempotency key in a second statement, because no history would give them back.
//!
//! Parameters 1 to 3 are the tenant, the clock's offset in microseconds, and the seconds for which an idempotency key is kept. `reach` is
//! the user whose sessions are reached; NULL: all.
//!
//! `expected` carries two things into ON CONFLICT, because that sees no other columns than the table's: the precondition (-2: none),
//! doubled, and in the lowest bit whether a time to live was asked for.

use super::key_sql::{keep_keys, seen_keys};

/// Whether the locked row `x` exists for the client.
macro_rules! live {
    () => {
        "(NOT x.deleted AND x.expires_at > EXCLUDED.updated_at)"
    };
}

/// The precondition on it.
macro_rules! met {
    () => {
        concat!(
            "CASE EXCLUDED.expected >> 1 WHEN -2 THEN true WHEN 0 THEN NOT ",
            live!(),
            " WHEN -1 THEN ",
            live!(),
            " ELSE ",
            live!(),
            " AND x.version = EXCLUDED.expected >> 1 END"
        )
    };
}

/// The new value of a column when it is met, else the old one.
macro_rules! when_met {
    ($column:literal, $($value:expr),+) => {
        concat!($column, " = CASE WHEN ", met!(), " THEN ", $($value,)+ " ELSE x.", $column, " END, ")
    };
}

/// The time of this version.
macro_rules! time {
    () => {
        "greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond')"
    };
}

/// When this life began.
macro_rules! beginning {
    () => {
        concat!("CASE WHEN ", live!(), " THEN x.created_at ELSE ", time!(), " END")
    };
}

/// What the session never outlives.
macro_rules! cap {
    () => {
        concat!(beginning!(), " + (EXCLUDED.max_expires_at - EXCLUDED.created_at)")
    };
}

/// When it will be gone: a live one keeps its clock unless a time to live was asked for.
macro_rules! expiry {
    () => {
        concat!(
            "least(CASE WHEN ",
            live!(),
            " AND EXCLUDED.expected & 1 = 0 THEN x.expires_at ELSE ",
            time!(),
            " + EXCLUDED.ttl_ms * interval '1 millisecond' END, ",
            cap!(),
            ")"
        )
    };
}

/// The hour in which the sweeper looks at a session that is to end at this moment.
macro_rules! sweep_hour {
    ($moment:expr) => {
        concat!("date_trunc('hour', ", $moment, ") + interval '1 hour'")
    };
}

/// The columns of a record.
macro_rules! record {
    ($table:literal) => {
        concat!(
            $table,
            ".session_id, ",
            $table,
            ".subject, ",
            $table,
            ".version, ",
            $table,
            ".created_version, ",
            $table,
            ".ttl_ms, ",
            $table,
            ".created_at, ",
            $table,
            ".updated_at, ",
            $table,
            ".max_expires_at, ",
            $table,
            ".expires_at, ",
            $table,
            ".written_expires_at, ",
            $table,
            ".sliding"
        )
    };
}
pub(super) use record;

/// Arrays from $4: row number, session, expected, actor, request, key, fingerprint, reach, owner, seconds to live, seconds of the cap,
/// whether it slides, data; then $17, the seconds to live of a session that asks for none.
pub(super) const PUT: &str = concat!(
    "WITH moment AS MATERIALIZED (
      SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at,
             1 + coalesce((SELECT version_floor FROM tenant WHERE tenant_id = $1), 0) AS first),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::text[], $6::int8[], $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::text[], $12::text[],
                           $13::int8[], $14::int8[], $15::bool[], $16::text[])
        AS u(n, id, expected, actor, request_id, idem, fingerprint, reach, owner, ttl, max_ttl, sliding, data)),
    seen AS MATERIALIZED (
      SELECT i.n, i.id, i.expected, i.fingerprint, i.reach, i.owner, i.ttl, i.max_ttl, i.sliding, i.data, x.version AS cv,
             x.version IS NULL OR x.deleted OR x.expires_at <= m.at AS cd,
             coalesce(NOT x.deleted AND x.expires_at > m.at AND x.subject <> i.reach, false) AS is_foreign,
             k.version AS kv, k.status AS ks, k.fingerprint AS kf, k.answer AS ka
      FROM i CROSS JOIN moment m
        LEFT JOIN LATERAL (SELECT y.version, y.deleted, y.expires_at, y.subject FROM session y WHERE y.tenant_id = $1
          AND y.session_id = CASE WHEN i.expected IS NOT NULL OR i.reach IS NOT NULL THEN i.id END LIMIT 1) x ON true ",
    seen_keys!(),
    "),
    h AS (
      INSERT INTO session AS x (tenant_id, session_id, subject, version, created_version, expected, ttl_ms, created_at, updated_at,
                                max_expires_at, expires_at, written_expires_at, sweep_at, sliding, data)
      SELECT $1, s.id, s.owner, m.first, m.first, coalesce(s.expected, -2) * 2 + CASE WHEN s.ttl IS NULL THEN 0 ELSE 1 END, coalesce(s.ttl, $17) * 1000,
             m.at, m.at, m.at + s.max_ttl * interval '1 second', e.at, e.at, ",
    sweep_hour!("e.at"),
    ", s.sliding, s.data
      FROM seen s CROSS JOIN moment m
        CROSS JOIN LATERAL (SELECT m.at + least(coalesce(s.ttl, $17), s.max_ttl) * interval '1 second' AS at) e
      WHERE s.kv IS NULL AND NOT s.is_foreign
        AND CASE WHEN s.expected IS NULL THEN true WHEN s.expected = 0 THEN s.cd
                 WHEN s.expected = -1 THEN NOT s.cd ELSE NOT s.cd AND s.cv = s.expected END
      ORDER BY s.id
      ON CONFLICT (tenant_id, session_id) DO UPDATE SET ",
    when_met!("version", "x.version + 1"),
    when_met!("created_version", "CASE WHEN ", live!(), " THEN x.created_version ELSE x.version + 1 END"),
    when_met!("subject", "CASE WHEN ", live!(), " THEN x.subject ELSE EXCLUDED.subject END"),
    when_met!("created_at", beginning!()),
    when_met!("updated_at", time!()),
    when_met!("ttl_ms", "CASE WHEN ", live!(), " AND EXCLUDED.expected & 1 = 0 THEN x.ttl_ms ELSE EXCLUDED.ttl_ms END"),
    when_met!("max_expires_at", cap!()),
    when_met!("expires_at", expiry!()),
    when_met!("written_expires_at", expiry!()),
    when_met!("sweep_at", "CASE WHEN ", live!(), " THEN x.sweep_at ELSE ", sweep_hour!(expiry!()), " END"),
    when_met!("sliding", "EXCLUDED.sliding"),
    when_met!("data", "EXCLUDED.data"),
    "applied = ",
    met!(),
    ", deleted = x.deleted AND NOT ",
    met!(),
    ", expected = NULL
      RETURNING ",
    record!("x"),
    ", x.applied, x.deleted),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.actor, i.request_id FROM h JOIN i ON i.id = h.session_id ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 3, CASE WHEN version = created_version THEN 1 ELSE 2 END, session_id, '', version, request_id, actor, updated_at
      FROM r WHERE applied ORDER BY n)
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN s.is_foreign THEN 'absent'
                -- It was made by somebody else since the snapshot: the next attempt sees it.
                WHEN r.applied AND r.version <> r.created_version AND r.subject <> s.reach THEN 'raced'
                WHEN r.applied THEN CASE WHEN r.version = r.created_version THEN 'created' ELSE 'replaced' END
                WHEN NOT r.deleted AND r.expires_at > m.at AND r.subject <> s.reach THEN 'absent'
                ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv
                WHEN r.n IS NOT NULL THEN CASE WHEN r.applied OR NOT (r.deleted OR r.expires_at <= m.at) THEN r.version END
                WHEN NOT s.cd THEN s.cv END AS version,
           s.ks AS stored_status, s.ka AS answer, r.subject, r.created_version, r.ttl_ms, r.created_at, r.updated_at, r.max_expires_at,
           r.expires_at, r.written_expires_at, r.sliding, s.data, pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s CROSS JOIN moment m LEFT JOIN r ON r.n = s.n ORDER BY s.n"
);

/// Arrays from $4: row number, session, expected, actor, request, key, fingerprint, reach, seconds to add; then $13, what no session
/// outlives.
///
/// The rows are locked first, in order; the locked row decides. It is written by ON CONFLICT too (see `state_sql`), to which `ttl_ms`
/// carries the seconds. Whatever is expected of a session that is not there: it is not there.
pub(super) const EXTEND: &str = concat!(
    "WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::text[], $6::int8[], $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::text[], $12::int8[])
        AS u(n, id, expected, actor, request_id, idem, fingerprint, reach, additional)),
    seen AS MATERIALIZED (
      SELECT i.n, i.id, i.expected, i.fingerprint, i.reach, k.version AS kv, k.status AS ks, k.fingerprint AS kf, k.answer AS ka
      FROM i CROSS JOIN moment m ",
    seen_keys!(),
    "),
    lk AS MATERIALIZED (
      SELECT s.n, s.id, s.expected, x.version, x.deleted OR x.expires_at <= m.at OR coalesce(x.subject <> s.reach, false) AS gone
      FROM (SELECT * FROM seen WHERE kv IS NULL ORDER BY id) s CROSS JOIN moment m CROSS JOIN LATERAL (
        SELECT y.version, y.deleted, y.expires_at, y.subject FROM session y WHERE y.tenant_id = $1 AND y.session_id = s.id LIMIT 1
        FOR NO KEY UPDATE) x),
    h AS (
      INSERT INTO session AS x (tenant_id, session_id, subject, version, created_version, ttl_ms, created_at, updated_at, expires_at,
                                written_expires_at, sweep_at, sliding)
      SELECT $1, lk.id, '', lk.version, lk.version, i.additional, m.at, m.at, m.at, m.at, m.at, false
      FROM lk JOIN i ON i.n = lk.n CROSS JOIN moment m
      WHERE NOT lk.gone AND (lk.expected IS NULL OR lk.expected IN (-1, lk.version)) ORDER BY lk.id
      ON CONFLICT (tenant_id, session_id) DO UPDATE SET version = x.version + 1, applied = true,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond'),
        expires_at = least(x.expires_at + EXCLUDED.ttl_ms * interval '1 second', x.max_expires_at, $13),
        written_expires_at = least(x.expires_at + EXCLUDED.ttl_ms * interval '1 second', x.max_expires_at, $13)
      RETURNING x.data, ",
    record!("x"),
    "),
    r AS MATERIALIZED (SELECT h.*, i.n, i.actor, i.request_id FROM h JOIN i ON i.id = h.session_id ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 3, 2, session_id, '', version, request_id, actor, updated_at FROM r ORDER BY n)
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN r.n IS NOT NULL THEN 'replaced'
                WHEN lk.n IS NULL OR lk.gone THEN 'absent' ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv WHEN r.n IS NOT NULL THEN r.version WHEN NOT lk.gone THEN lk.version END AS version,
           s.ks AS stored_status, s.ka AS answer, r.subject, r.created_version, r.ttl_ms, r.created_at, r.updated_at, r.max_expires_at,
           r.expires_at, r.written_expires_at, r.sliding, r.data, pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s LEFT JOIN lk ON lk.n = s.n LEFT JOIN r ON r.n = s.n ORDER BY s.n"
);

/// Arrays from $4: row number, session, expected, actor, request, key, fingerprint, reach.
///
/// One that is out of reach is as one that is not there. The tombstone keeps no data; it is swept an hour after the last idempotency key
/// that may name it.
pub(super) const DELETE: &str = concat!(
    "WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::text[], $6::int8[], $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::text[])
        AS u(n, id, expected, actor, request_id, idem, fingerprint, reach)),
    seen AS MATERIALIZED (
      SELECT i.n, i.id, i.expected, i.idem, i.fingerprint, i.reach, k.version AS kv, k.status AS ks, k.fingerprint AS kf
      FROM i CROSS JOIN moment m ",
    seen_keys!(),
    "),
    lk AS MATERIALIZED (
      SELECT s.n, s.id, s.expected, x.version, x.deleted OR x.expires_at <= m.at OR coalesce(x.subject <> s.reach, false) AS gone
      FROM (SELECT * FROM seen WHERE kv IS NULL ORDER BY id) s CROSS JOIN moment m CROSS JOIN LATERAL (
        SELECT y.version, y.deleted, y.expires_at, y.subject FROM session y WHERE y.tenant_id = $1 AND y.session_id = s.id LIMIT 1
        FOR NO KEY UPDATE) x),
    h AS (
      INSERT INTO session AS x (tenant_id, session_id, subject, version, created_version, ttl_ms, created_at, updated_at, expires_at,
                                written_expires_at, sweep_at, sliding)
      SELECT $1, lk.id, '', lk.version, lk.version, 0, m.at, m.at, m.at, m.at,
             date_trunc('hour', m.at + $3::int8 * interval '1 second') + interval '1 hour', false
      FROM lk CROSS JOIN moment m
      WHERE NOT lk.gone AND (lk.expected IS NULL OR lk.expected IN (-1, lk.version)) ORDER BY lk.id
      ON CONFLICT (tenant_id, session_id) DO UPDATE SET version = x.version + 1, deleted = true, applied = true, data = NULL,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond'), sweep_at = EXCLUDED.sweep_at
      RETURNING x.session_id, x.version, x.updated_at),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.actor, i.request_id, i.idem, i.fingerprint, true AS applied FROM h JOIN i ON i.id = h.session_id ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 3, 3, session_id, '', version, request_id, actor, updated_at FROM r ORDER BY n),
    k AS (",
    keep_keys!("204", "NULL::int8"),
    ")
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN r.n IS NOT NULL THEN CASE WHEN s.idem IS NOT NULL AND k.idem IS NULL THEN 'raced' ELSE 'deleted' END
                WHEN lk.n IS NULL OR lk.gone THEN CASE WHEN s.expected IS NULL OR s.expected = 0 THEN 'absent' ELSE 'refused' END
                ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv WHEN r.n IS NOT NULL THEN r.version WHEN NOT lk.gone THEN lk.version END AS version,
           s.ks AS stored_status, r.updated_at, pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s LEFT JOIN lk ON lk.n = s.n LEFT JOIN r ON r.n = s.n LEFT JOIN k ON k.idem = s.idem ORDER BY s.n"
);

/// Moves the expiry of $3, never back. $2 is the clock's offset.
pub(super) const TOUCH: &str = "
    UPDATE session x SET expires_at = greatest(x.expires_at, least(m.at + x.ttl_ms * interval '1 millisecond', x.max_expires_at))
    FROM (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at) m
    WHERE x.tenant_id = $1 AND x.session_id = $3 AND x.sliding AND NOT x.deleted AND x.expires_at > m.at
    RETURNING x.expires_at";
