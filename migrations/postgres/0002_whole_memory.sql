-- Checkpoints are listed over all executions, over those of a workflow, and over those of an id, each newest first: their keys stand beside
-- them, so that each list has its index, and finds the heads by their keys. Tombstones are in none of them.
-- No version of the server has written a checkpoint before this migration, so there is nothing to fill in.
ALTER TABLE checkpoint
    ADD COLUMN workflow_id   text COLLATE "C" NOT NULL,
    ADD COLUMN execution_id  text COLLATE "C" NOT NULL;

DROP INDEX checkpoint_listed;
CREATE INDEX checkpoint_listed ON checkpoint (tenant_id, created_at, state_id, checkpoint_id) WHERE NOT deleted;
CREATE INDEX checkpoint_of_workflow ON checkpoint (tenant_id, workflow_id, created_at, state_id, checkpoint_id) WHERE NOT deleted;
CREATE INDEX checkpoint_of_execution ON checkpoint (tenant_id, execution_id, created_at, state_id, checkpoint_id) WHERE NOT deleted;

-- Versions of an id grow over the removal of its execution too: checkpoints of this incarnation begin above those of the ones before.
ALTER TABLE execution_state ADD COLUMN checkpoint_floor int8 NOT NULL DEFAULT 0;

-- The sweeper walks the tenants, and of each it wants the rows that are due: without the tenant in front it would read past those of
-- all others, once per tenant. The hours are few, so an entry still takes a few bytes.
DROP INDEX execution_state_sweep, checkpoint_sweep, session_sweep, variable_sweep, idempotency_sweep;
CREATE INDEX execution_state_sweep ON execution_state (tenant_id, sweep_at) WHERE sweep_at IS NOT NULL;
CREATE INDEX checkpoint_sweep ON checkpoint (tenant_id, sweep_at) WHERE sweep_at IS NOT NULL;
CREATE INDEX session_sweep ON session (tenant_id, sweep_at);
CREATE INDEX variable_sweep ON variable (tenant_id, sweep_at) WHERE sweep_at IS NOT NULL;
CREATE INDEX idempotency_sweep ON idempotency (tenant_id, sweep_at);

-- Made last, as in the migration before: while a table is small the planner finds any index that begins with the tenant as cheap as the
-- key, and takes the newest of them.
ALTER TABLE execution_state DROP CONSTRAINT execution_state_pkey, ADD PRIMARY KEY (tenant_id, workflow_id, execution_id);
ALTER TABLE checkpoint DROP CONSTRAINT checkpoint_pkey, ADD PRIMARY KEY (tenant_id, state_id, checkpoint_id);
ALTER TABLE session DROP CONSTRAINT session_pkey, ADD PRIMARY KEY (tenant_id, session_id);
ALTER TABLE variable DROP CONSTRAINT variable_pkey, ADD PRIMARY KEY (tenant_id, scope_kind, scope_id, name);
ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey, ADD PRIMARY KEY (tenant_id, idem);
