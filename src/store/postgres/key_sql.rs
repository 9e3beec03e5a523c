//! The parts of the write statements that deal with idempotency keys. Parameter 1 is the tenant, 3 the seconds for which a key is kept.

/// Looks the idempotency keys of `i` up, at the time of `m`. A key that is too old counts as absent, swept or not.
macro_rules! seen_keys {
    () => {
        "LEFT JOIN LATERAL (SELECT d.version, d.status, d.fingerprint, d.state_id, d.answer FROM idempotency d WHERE d.tenant_id = $1
           AND d.idem = i.idem AND d.at > m.at - $3::int8 * interval '1 second' LIMIT 1) k ON true"
    };
}

/// Inserts the idempotency rows of the applied writes `r`. An expired row counts as absent, and is taken over.
macro_rules! keep_keys {
    ($status:literal, $state_id:literal) => {
        concat!(
            "INSERT INTO idempotency AS d (tenant_id, idem, fingerprint, version, status, state_id, at, sweep_at)
             SELECT $1, r.idem, r.fingerprint, r.version, ",
            $status,
            ", ",
            $state_id,
            ", m.at, date_trunc('hour', m.at + $3::int8 * interval '1 second') + interval '1 hour'
             FROM r CROSS JOIN moment m WHERE r.applied AND r.idem IS NOT NULL ORDER BY r.idem
             ON CONFLICT (tenant_id, idem) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, version = EXCLUDED.version,
                 status = EXCLUDED.status, state_id = EXCLUDED.state_id, answer = NULL, at = EXCLUDED.at, sweep_at = EXCLUDED.sweep_at
             WHERE d.at <= EXCLUDED.at - $3::int8 * interval '1 second'
             RETURNING d.idem"
        )
    };
}

/// Looks one key up: $4 is the key, $5 the fingerprint that an equal request has; $2 is the clock's offset.
pub(super) const FIND: &str = "
    SELECT d.version, d.status, d.state_id, d.answer, d.fingerprint = $5 AS is_equal FROM idempotency d
    WHERE d.tenant_id = $1 AND d.idem = $4
      AND d.at > clock_timestamp() + $2::int8 * interval '1 microsecond' - $3::int8 * interval '1 second'";

/// Keeps answers. Arrays from $4: key, fingerprint, version, status, state, answer; $2 is the clock's offset. Answers the keys that it
/// kept: one that is missing was stored by another transaction meanwhile.
pub(super) const KEEP: &str = "
    WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at)
    INSERT INTO idempotency AS d (tenant_id, idem, fingerprint, version, status, state_id, answer, at, sweep_at)
    SELECT $1, u.idem, u.fingerprint, u.version, u.status, u.state_id, u.answer, m.at,
           date_trunc('hour', m.at + $3::int8 * interval '1 second') + interval '1 hour'
    FROM unnest($4::uuid[], $5::uuid[], $6::int8[], $7::int2[], $8::int8[], $9::text[])
        AS u(idem, fingerprint, version, status, state_id, answer)
      CROSS JOIN moment m
    ORDER BY u.idem
    ON CONFLICT (tenant_id, idem) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, version = EXCLUDED.version,
        status = EXCLUDED.status, state_id = EXCLUDED.state_id, answer = EXCLUDED.answer, at = EXCLUDED.at, sweep_at = EXCLUDED.sweep_at
    WHERE d.at <= EXCLUDED.at - $3::int8 * interval '1 second'
    RETURNING d.idem";

pub(super) use {keep_keys, seen_keys};
