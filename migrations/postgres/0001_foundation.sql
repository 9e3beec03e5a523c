-- All tables of the store. Rules that hold for each of them:
--   * The key begins with tenant_id, and every statement names it, so that the tables can be distributed by it.
--   * Texts are compared by bytes (collate "C"): cursors and prefix ranges rely on it, and no library update changes it.
--   * No index holds a column that every write changes, else no update of the row is heap-only. Hence the hour buckets
--     listed_at and sweep_at beside updated_at and expires_at.
--   * Row level security at the end of this file, forced on the owner too.
-- "expected" and "applied" carry a write's precondition into ON CONFLICT and its outcome out of RETURNING; they mean nothing at rest.

CREATE TABLE tenant (
    tenant_id        text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    -- New keys start above it: it is raised before tombstones are removed, so that versions grow over removal too.
    version_floor    int8 NOT NULL DEFAULT 0,
    floor_raised_at  timestamptz,
    PRIMARY KEY (tenant_id)
);

-- The head of an execution's state. Small, so that an update stays in its page; the body is in state_version.
CREATE TABLE execution_state (
    tenant_id          text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    workflow_id        text COLLATE "C" NOT NULL,
    execution_id       text COLLATE "C" NOT NULL,
    -- This incarnation; history and checkpoints hang on it. Deleting the execution gives the head a new one.
    state_id           int8 GENERATED ALWAYS AS IDENTITY,
    version            int8 NOT NULL,
    -- The first version of this life: equal to version exactly when the last write created it, also over a tombstone.
    created_version    int8 NOT NULL,
    expected           int8,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    listed_at          timestamptz NOT NULL,
    sweep_at           timestamptz,
    forked_version     int8,
    schema_version     int4,
    applied            bool NOT NULL DEFAULT true,
    deleted            bool NOT NULL DEFAULT false,
    status             text COLLATE "C" NOT NULL,
    -- The origin of a forked life; here as well as in each version, because a write takes it from under the row's lock.
    forked_workflow    text COLLATE "C",
    forked_execution   text COLLATE "C",
    forked_checkpoint  text COLLATE "C"
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX execution_state_listed ON execution_state (tenant_id, workflow_id, listed_at, state_id);
CREATE INDEX execution_state_sweep ON execution_state (sweep_at) WHERE sweep_at IS NOT NULL;
-- Made last: while the table is small the planner finds the listing as cheap as the key, and takes the newer of the two.
ALTER TABLE execution_state ADD PRIMARY KEY (tenant_id, workflow_id, execution_id);

-- One row per version, inserted only: the history, and the only place of the body (the write representation).
CREATE TABLE state_version (
    tenant_id          text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    state_id           int8 NOT NULL,
    version            int8 NOT NULL,
    -- When the life began that this version belongs to.
    created_at         timestamptz NOT NULL,
    -- When this version was written.
    at                 timestamptz NOT NULL,
    size               int8 NOT NULL,
    forked_version     int8,
    operation          int2 NOT NULL,
    deleted            bool NOT NULL DEFAULT false,
    actor              text COLLATE "C" NOT NULL,
    status             text COLLATE "C" NOT NULL,
    transition         text COLLATE "C",
    checkpoint         text COLLATE "C",
    forked_workflow    text COLLATE "C",
    forked_execution   text COLLATE "C",
    forked_checkpoint  text COLLATE "C",
    body               text COMPRESSION lz4,
    PRIMARY KEY (tenant_id, state_id, version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE TABLE checkpoint (
    tenant_id      text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    state_id       int8 NOT NULL,
    checkpoint_id  text COLLATE "C" NOT NULL,
    version        int8 NOT NULL,
    state_version  int8,
    created_at     timestamptz NOT NULL,
    sweep_at       timestamptz,
    size           int8 NOT NULL,
    deleted        bool NOT NULL DEFAULT false,
    created_by     text COLLATE "C" NOT NULL,
    label          text,
    metadata       text,
    body           text COMPRESSION lz4,
    PRIMARY KEY (tenant_id, state_id, checkpoint_id)
);
CREATE INDEX checkpoint_listed ON checkpoint (tenant_id, created_at, checkpoint_id);
CREATE INDEX checkpoint_sweep ON checkpoint (sweep_at) WHERE sweep_at IS NOT NULL;

CREATE TABLE session (
    tenant_id           text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    session_id          text COLLATE "C" NOT NULL,
    subject             text COLLATE "C" NOT NULL,
    version             int8 NOT NULL,
    created_version     int8 NOT NULL,
    expected            int8,
    ttl_ms              int8 NOT NULL,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    max_expires_at      timestamptz,
    -- The truth, which sliding touches move; never indexed.
    expires_at          timestamptz NOT NULL,
    -- What the last write set: it belongs to the version, and so to the body.
    written_expires_at  timestamptz NOT NULL,
    sweep_at            timestamptz NOT NULL,
    applied             bool NOT NULL DEFAULT true,
    deleted             bool NOT NULL DEFAULT false,
    sliding             bool NOT NULL,
    data                text COMPRESSION lz4,
    PRIMARY KEY (tenant_id, session_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX session_sweep ON session (sweep_at);
CREATE INDEX session_owner ON session (tenant_id, subject, session_id);

CREATE TABLE variable (
    tenant_id        text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    -- global 1, workflow 2, session 3, user 4
    scope_kind       int2 NOT NULL,
    scope_id         text COLLATE "C" NOT NULL,
    name             text COLLATE "C" NOT NULL,
    version          int8 NOT NULL,
    created_version  int8 NOT NULL,
    expected         int8,
    -- The created_version of the session that a session variable belongs to; it lives only while they are equal.
    session_life     int8,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    expires_at       timestamptz,
    sweep_at         timestamptz,
    applied          bool NOT NULL DEFAULT true,
    deleted          bool NOT NULL DEFAULT false,
    secret           bool NOT NULL DEFAULT false,
    updated_by       text COLLATE "C" NOT NULL,
    description      text,
    value            text COMPRESSION lz4,
    PRIMARY KEY (tenant_id, scope_kind, scope_id, name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX variable_sweep ON variable (sweep_at) WHERE sweep_at IS NOT NULL;

-- The answers of writes that had an Idempotency-Key. A state's is read back by state_id and version, others are in answer.
CREATE TABLE idempotency (
    tenant_id    text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    idem         uuid NOT NULL,
    fingerprint  uuid NOT NULL,
    version      int8 NOT NULL,
    state_id     int8,
    at           timestamptz NOT NULL,
    sweep_at     timestamptz NOT NULL,
    status       int2 NOT NULL,
    answer       text COMPRESSION lz4,
    PRIMARY KEY (tenant_id, idem)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX idempotency_sweep ON idempotency (sweep_at);

-- One row per applied write. Readers stop below the oldest transaction at work: (xid, seq) is the position, a gap in seq means nothing.
-- Of one key, seq follows the versions, because it is drawn under the row's lock; xid need not: a transaction has it from its first row,
-- or from the sequence of state_id, and may wait for the lock afterwards. Such two end up below the same oldest transaction.
CREATE SEQUENCE change_log_seq;
CREATE TABLE change_log (
    tenant_id   text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq         int8 NOT NULL DEFAULT nextval('change_log_seq'),
    at          timestamptz NOT NULL,
    version     int8 NOT NULL,
    request_id  uuid,
    -- state 1, variable 2, session 3, checkpoint 4
    kind        int2 NOT NULL,
    -- created 1, replaced 2, deleted 3
    op          int2 NOT NULL,
    k1          text COLLATE "C" NOT NULL,
    k2          text COLLATE "C" NOT NULL,
    k3          text COLLATE "C",
    actor       text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, xid, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER SEQUENCE change_log_seq OWNED BY change_log.seq;

-- Incarnations whose history and checkpoints wait for the sweeper.
CREATE TABLE removed_state (
    tenant_id  text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    state_id   int8 NOT NULL,
    queued_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, state_id)
);

-- The second wall behind the tenant_id of every statement. A setting that is missing, or empty as it is after a SET LOCAL has ended,
-- means no rows. The sub-select is evaluated once per statement instead of once per row.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenant', 'execution_state', 'state_version', 'checkpoint', 'session', 'variable', 'idempotency',
                                'change_log', 'removed_state'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_isolation ON %I
            USING (tenant_id = (SELECT NULLIF(current_setting(''app.tenant'', true), '''')))
            WITH CHECK (tenant_id = (SELECT NULLIF(current_setting(''app.tenant'', true), '''')))', name);
    END LOOP;
END
$$;
-- Background jobs walk the tenants, so all rows of this table can be read; written is the own one only.
CREATE POLICY tenant_read ON tenant FOR SELECT USING (true);
