-- What checkpoints, their lists and their rows in the log need.

ALTER TABLE change_log ADD COLUMN k3 TEXT;

-- Versions of an id grow over the removal of its execution too: checkpoints of this incarnation begin above those of the ones before.
ALTER TABLE execution_state ADD COLUMN checkpoint_floor INTEGER NOT NULL DEFAULT 0;

-- No server has written to it before this migration. Its lists are read by tenant, by workflow and by execution, each newest first; the
-- names are in the row, so that each has its index. Tombstones are in none of them.
DROP TABLE checkpoint;
CREATE TABLE checkpoint (
    tenant_id     TEXT    NOT NULL,
    state_id      INTEGER NOT NULL,
    checkpoint_id TEXT    NOT NULL,
    workflow_id   TEXT    NOT NULL,
    execution_id  TEXT    NOT NULL,
    version       INTEGER NOT NULL,               -- grows over delete and re-creation
    state_version INTEGER,
    created_at    INTEGER NOT NULL,               -- of a tombstone: when it was deleted
    sweep_at      INTEGER,
    size          INTEGER NOT NULL,
    deleted       INTEGER NOT NULL DEFAULT 0,
    label         TEXT,
    created_by    TEXT    NOT NULL,
    metadata      TEXT,
    body          TEXT,
    PRIMARY KEY (tenant_id, state_id, checkpoint_id)
) STRICT;
CREATE INDEX checkpoint_listed ON checkpoint (tenant_id, created_at, state_id, checkpoint_id) WHERE deleted = 0;
CREATE INDEX checkpoint_of_workflow ON checkpoint (tenant_id, workflow_id, created_at, state_id, checkpoint_id) WHERE deleted = 0;
CREATE INDEX checkpoint_of_execution ON checkpoint (tenant_id, execution_id, created_at, state_id, checkpoint_id) WHERE deleted = 0;
CREATE INDEX checkpoint_sweep ON checkpoint (sweep_at) WHERE sweep_at IS NOT NULL;
