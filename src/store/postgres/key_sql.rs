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

pub(super) use {keep_keys, seen_keys};
