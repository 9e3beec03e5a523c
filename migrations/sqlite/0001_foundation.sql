-- The tables of the embedded store: names and columns as in PostgreSQL, whose migrations stand beside this one.
--
-- Times are microseconds since 1970-01-01T00:00:00Z. Hashes and request ids are 16 bytes. Text compares by bytes (BINARY).
-- Bodies stand last in their rows: what is read without them then never walks through their overflow pages.
-- Tables are rowid tables: WITHOUT ROWID halves the rate of the history and triples its size.

CREATE TABLE tenant (
    tenant_id       TEXT    NOT NULL PRIMARY KEY,
    version_floor   INTEGER NOT NULL DEFAULT 0,   -- versions of removed tombstones are not above it; new keys begin behind it
    floor_raised_at INTEGER
) STRICT;

-- The head of an execution: what changes with every version, without the body.
CREATE TABLE execution_state (
    state_id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: history and checkpoints hang on it
    tenant_id         TEXT    NOT NULL,
    workflow_id       TEXT    NOT NULL,
    execution_id      TEXT    NOT NULL,
    version           INTEGER NOT NULL,
    created_version   INTEGER NOT NULL,           -- equal to version: that write began this life
    created_at        INTEGER NOT NULL,           -- of this life
    updated_at        INTEGER NOT NULL,
    listed_at         INTEGER NOT NULL,           -- hour of updated_at
    sweep_at          INTEGER,                    -- set by the delete of an execution only
    schema_version    INTEGER NOT NULL,
    deleted           INTEGER NOT NULL DEFAULT 0,
    status            TEXT    NOT NULL,
    forked_workflow   TEXT,                       -- origin of a forked life; each of its versions repeats it
    forked_execution  TEXT,
    forked_version    INTEGER,
    forked_checkpoint TEXT,
    UNIQUE (tenant_id, workflow_id, execution_id)
) STRICT;
CREATE INDEX execution_state_listed ON execution_state (tenant_id, workflow_id, listed_at, state_id);
CREATE INDEX execution_state_sweep ON execution_state (sweep_at) WHERE sweep_at IS NOT NULL;

-- One row for each version, deletions included; the only place of a body. Insert only.
CREATE TABLE state_version (
    tenant_id         TEXT    NOT NULL,
    state_id          INTEGER NOT NULL,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,           -- of the life that the version belongs to
    at                INTEGER NOT NULL,
    operation         INTEGER NOT NULL,
    size              INTEGER NOT NULL,           -- bytes of the body; 0 for a delete
    deleted           INTEGER NOT NULL DEFAULT 0,
    status            TEXT    NOT NULL,
    actor             TEXT    NOT NULL,
    transition        TEXT,
    checkpoint        TEXT,
    forked_workflow   TEXT,
    forked_execution  TEXT,
    forked_version    INTEGER,
    forked_checkpoint TEXT,
    body              TEXT,                       -- the write representation; NULL for a delete
    PRIMARY KEY (tenant_id, state_id, version)
) STRICT;

CREATE TABLE checkpoint (
    tenant_id     TEXT    NOT NULL,
    state_id      INTEGER NOT NULL,
    checkpoint_id TEXT    NOT NULL,
    version       INTEGER NOT NULL,               -- grows over delete and re-creation
    state_version INTEGER,
    created_at    INTEGER NOT NULL,
    sweep_at      INTEGER,
    size          INTEGER NOT NULL,
    deleted       INTEGER NOT NULL DEFAULT 0,
    label         TEXT,
    created_by    TEXT    NOT NULL,
    metadata      TEXT,
    body          TEXT,
    PRIMARY KEY (tenant_id, state_id, checkpoint_id)
) STRICT;
CREATE INDEX checkpoint_listed ON checkpoint (tenant_id, created_at, checkpoint_id);
CREATE INDEX checkpoint_sweep ON checkpoint (sweep_at) WHERE sweep_at IS NOT NULL;

CREATE TABLE session (
    tenant_id          TEXT    NOT NULL,
    session_id         TEXT    NOT NULL,
    subject            TEXT    NOT NULL,
    version            INTEGER NOT NULL,
    created_version    INTEGER NOT NULL,          -- names this life: the session's variables store it
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    ttl_ms             INTEGER NOT NULL,
    max_expires_at     INTEGER,
    written_expires_at INTEGER NOT NULL,          -- what the last write set
    expires_at         INTEGER NOT NULL,          -- after sliding touches
    sweep_at           INTEGER NOT NULL,          -- hour
    sliding            INTEGER NOT NULL,
    deleted            INTEGER NOT NULL DEFAULT 0,
    data               TEXT,
    PRIMARY KEY (tenant_id, session_id)
) STRICT;
CREATE INDEX session_owner ON session (tenant_id, subject, session_id);
CREATE INDEX session_sweep ON session (sweep_at);

CREATE TABLE variable (
    tenant_id       TEXT    NOT NULL,
    scope_kind      INTEGER NOT NULL,
    scope_id        TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    created_version INTEGER NOT NULL,
    session_life    INTEGER,                      -- created_version of the session whose variable it is
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    expires_at      INTEGER,
    sweep_at        INTEGER,                      -- hour
    secret          INTEGER NOT NULL DEFAULT 0,
    deleted         INTEGER NOT NULL DEFAULT 0,
    updated_by      TEXT    NOT NULL,
    description     TEXT,
    value           TEXT,                         -- NULL for a tombstone
    PRIMARY KEY (tenant_id, scope_kind, scope_id, name)
) STRICT;
CREATE INDEX variable_sweep ON variable (sweep_at) WHERE sweep_at IS NOT NULL;

CREATE TABLE idempotency (
    tenant_id   TEXT    NOT NULL,
    idem        BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    version     INTEGER NOT NULL,
    status      INTEGER NOT NULL,                 -- HTTP
    state_id    INTEGER,                          -- whose version is the answer; NULL: the answer is kept here
    at          INTEGER NOT NULL,
    sweep_at    INTEGER NOT NULL,                 -- hour
    answer      TEXT,
    PRIMARY KEY (tenant_id, idem)
) STRICT;
CREATE INDEX idempotency_sweep ON idempotency (sweep_at);

-- Append-only. One writer, so the order of seq is the order of commits; AUTOINCREMENT, because a plain rowid comes back after the
-- newest rows are pruned.
CREATE TABLE change_log (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    op         INTEGER NOT NULL,
    request_id BLOB    NOT NULL,
    k1         TEXT    NOT NULL,
    k2         TEXT    NOT NULL,
    actor      TEXT    NOT NULL
) STRICT;
CREATE INDEX change_log_tenant ON change_log (tenant_id, seq);

-- Incarnations of executions whose history and checkpoints wait for the sweeper.
CREATE TABLE removed_state (
    tenant_id TEXT    NOT NULL,
    state_id  INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, state_id)
) STRICT;
