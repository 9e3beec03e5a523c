//! The statements that write variables: as those of states (see `state_sql`), but for two things. A variable that has expired, or is of
//! another life of its session, counts as absent; and the answer of a put is kept beside the idempotency key, in a second statement,
//! because no history would give it back.
//!
//! Parameters 1 to 3 are the tenant, the clock's offset in microseconds, and the seconds for which an idempotency key is kept.

use super::key_sql::{keep_keys, seen_keys};

/// Whether the locked row `x` exists for the client.
macro_rules! live {
    () => {
        "(NOT x.deleted AND x.session_life IS NOT DISTINCT FROM EXCLUDED.session_life
          AND (x.expires_at IS NULL OR x.expires_at > EXCLUDED.updated_at))"
    };
}

/// The precondition on it.
macro_rules! met {
    () => {
        concat!(
            "CASE WHEN EXCLUDED.expected IS NULL THEN true WHEN EXCLUDED.expected = 0 THEN NOT ",
            live!(),
            " WHEN EXCLUDED.expected = -1 THEN ",
            live!(),
            " ELSE ",
            live!(),
            " AND x.version = EXCLUDED.expected END"
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

/// Arrays from $4: row number, kind of scope, id of scope, name, expected, actor, request, key, fingerprint, scope as in the API,
/// description, seconds to live, value, life of the session.
///
/// Seconds to live are NULL for never, and -1 for as before, which the conflicting row is told by an expiry that nothing else has.
///
/// The sweeper comes back to a variable of a session in the next hour but one, and then whenever its session might have ended.
pub(super) const PUT: &str = concat!(
    "WITH moment AS MATERIALIZED (
      SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at,
             1 + coalesce((SELECT version_floor FROM tenant WHERE tenant_id = $1), 0) AS first),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::int2[], $6::text[], $7::text[], $8::int8[], $9::text[], $10::uuid[], $11::uuid[], $12::uuid[],
                           $13::text[], $14::text[], $15::int8[], $16::text[], $17::int8[])
        AS u(n, sk, si, name, expected, actor, request_id, idem, fingerprint, scope, description, ttl, value, life)),
    seen AS MATERIALIZED (
      SELECT i.n, i.sk, i.si, i.name, i.expected, i.actor, i.fingerprint, i.description, i.ttl, i.value, i.life,
             x.version AS cv,
             x.version IS NULL OR x.deleted OR x.session_life IS DISTINCT FROM i.life OR coalesce(x.expires_at <= m.at, false) AS cd,
             k.version AS kv, k.status AS ks, k.fingerprint AS kf, k.answer AS ka
      FROM i CROSS JOIN moment m
        LEFT JOIN LATERAL (SELECT y.version, y.deleted, y.expires_at, y.session_life FROM variable y WHERE y.tenant_id = $1 AND y.scope_kind = i.sk
          AND y.scope_id = i.si AND y.name = CASE WHEN i.expected IS NOT NULL THEN i.name END LIMIT 1) x ON true ",
    seen_keys!(),
    "),
    h AS (
      INSERT INTO variable AS x (tenant_id, scope_kind, scope_id, name, version, created_version, expected, created_at, updated_at,
                                 expires_at, sweep_at, updated_by, description, session_life, value)
      SELECT $1, s.sk, s.si, s.name, m.first, m.first, s.expected, m.at, m.at,
             CASE WHEN s.ttl = -1 THEN '-infinity' ELSE m.at + s.ttl * interval '1 second' END,
             least(date_trunc('hour', m.at + s.ttl * interval '1 second') + interval '1 hour',
                   CASE WHEN s.sk = 3 THEN date_trunc('hour', m.at) + interval '2 hours' END), s.actor, s.description, s.life, s.value
      FROM seen s CROSS JOIN moment m
      WHERE s.kv IS NULL AND CASE WHEN s.expected IS NULL THEN true WHEN s.expected = 0 THEN s.cd
                                  WHEN s.expected = -1 THEN NOT s.cd ELSE NOT s.cd AND s.cv = s.expected END
      ORDER BY s.sk, s.si, s.name
      ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET ",
    when_met!("version", "x.version + 1"),
    when_met!("created_version", "CASE WHEN ", live!(), " THEN x.created_version ELSE x.version + 1 END"),
    when_met!("created_at", "CASE WHEN ", live!(), " THEN x.created_at ELSE ", time!(), " END"),
    when_met!("updated_at", time!()),
    when_met!(
        "expires_at",
        "CASE WHEN EXCLUDED.expires_at = '-infinity' THEN x.expires_at ELSE ",
        time!(),
        " + (EXCLUDED.expires_at - EXCLUDED.updated_at) END"
    ),
    when_met!("sweep_at", "CASE WHEN EXCLUDED.expires_at = '-infinity' THEN x.sweep_at ELSE EXCLUDED.sweep_at END"),
    when_met!("updated_by", "EXCLUDED.updated_by"),
    when_met!("description", "EXCLUDED.description"),
    when_met!("secret", "EXCLUDED.secret"),
    when_met!("session_life", "EXCLUDED.session_life"),
    when_met!("value", "EXCLUDED.value"),
    "applied = ",
    met!(),
    ", deleted = x.deleted AND NOT ",
    met!(),
    ", expected = NULL
      RETURNING x.scope_kind, x.scope_id, x.name, x.version, x.created_version, x.created_at, x.updated_at, x.expires_at, x.applied,
                x.deleted, x.session_life),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.actor, i.request_id, i.scope, h.session_life IS DISTINCT FROM i.life AS of_another_life
      FROM h JOIN i ON i.sk = h.scope_kind AND i.si = h.scope_id AND i.name = h.name ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 2, CASE WHEN version = created_version THEN 1 ELSE 2 END, scope, name, version, request_id, actor, updated_at
      FROM r WHERE applied ORDER BY n)
    SELECT s.n,
           CASE WHEN s.kv IS NOT NULL THEN CASE WHEN s.kf = s.fingerprint THEN 'replayed' ELSE 'reused' END
                WHEN r.applied THEN CASE WHEN r.version = r.created_version THEN 'created' ELSE 'replaced' END
                ELSE 'refused' END AS outcome,
           CASE WHEN s.kv IS NOT NULL THEN s.kv
                WHEN r.n IS NOT NULL THEN CASE WHEN r.applied OR NOT (r.deleted OR r.of_another_life OR coalesce(r.expires_at <= m.at, false))
                                                THEN r.version END
                WHEN NOT s.cd THEN s.cv END AS version,
           s.ks AS stored_status, s.ka AS answer, r.created_at, r.updated_at, r.expires_at,
           pg_current_xact_id_if_assigned()::text AS xid
    FROM seen s CROSS JOIN moment m LEFT JOIN r ON r.n = s.n ORDER BY s.n"
);

/// Arrays from $4: row number, kind of scope, id of scope, name, expected, actor, request, key, fingerprint, scope as in the API,
/// life of the session.
///
/// The tombstone keeps no value; it is swept an hour after the last idempotency key that may name it.
pub(super) const DELETE: &str = concat!(
    "WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at),
    i AS MATERIALIZED (
      SELECT * FROM unnest($4::int4[], $5::int2[], $6::text[], $7::text[], $8::int8[], $9::text[], $10::uuid[], $11::uuid[], $12::uuid[],
                           $13::text[], $14::int8[])
        AS u(n, sk, si, name, expected, actor, request_id, idem, fingerprint, scope, life)),
    seen AS MATERIALIZED (
      SELECT i.n, i.sk, i.si, i.name, i.expected, i.idem, i.fingerprint, i.life, k.version AS kv, k.status AS ks, k.fingerprint AS kf
      FROM i CROSS JOIN moment m ",
    seen_keys!(),
    "),
    lk AS MATERIALIZED (
      SELECT s.n, s.sk, s.si, s.name, s.expected, x.version,
             x.deleted OR x.session_life IS DISTINCT FROM s.life OR coalesce(x.expires_at <= m.at, false) AS gone
      FROM (SELECT * FROM seen WHERE kv IS NULL ORDER BY sk, si, name) s CROSS JOIN moment m CROSS JOIN LATERAL (
        SELECT y.version, y.deleted, y.expires_at, y.session_life FROM variable y
        WHERE y.tenant_id = $1 AND y.scope_kind = s.sk AND y.scope_id = s.si AND y.name = s.name LIMIT 1 FOR NO KEY UPDATE) x),
    h AS (
      INSERT INTO variable AS x (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, updated_by,
                                 sweep_at)
      SELECT $1, lk.sk, lk.si, lk.name, lk.version, lk.version, m.at, m.at, i.actor,
             date_trunc('hour', m.at + $3::int8 * interval '1 second') + interval '1 hour'
      FROM lk JOIN i ON i.n = lk.n CROSS JOIN moment m
      WHERE NOT lk.gone AND (lk.expected IS NULL OR lk.expected IN (-1, lk.version))
      ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET version = x.version + 1, deleted = true, applied = true,
        value = NULL, description = NULL, expires_at = NULL, sweep_at = EXCLUDED.sweep_at, updated_by = EXCLUDED.updated_by,
        updated_at = greatest(EXCLUDED.updated_at, x.updated_at + interval '1 microsecond')
      RETURNING x.scope_kind, x.scope_id, x.name, x.version, x.updated_at),
    r AS MATERIALIZED (
      SELECT h.*, i.n, i.scope, i.actor, i.request_id, i.idem, i.fingerprint, true AS applied
      FROM h JOIN i ON i.sk = h.scope_kind AND i.si = h.scope_id AND i.name = h.name ORDER BY i.n),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 2, 3, scope, name, version, request_id, actor, updated_at FROM r ORDER BY n),
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
