-- Checkpoints are listed over all executions: their keys stand beside them, so that a list needs no second index on the heads.
-- No version of the server has written a checkpoint before this migration, so there is nothing to fill in.
ALTER TABLE checkpoint
    ADD COLUMN workflow_id   text COLLATE "C" NOT NULL,
    ADD COLUMN execution_id  text COLLATE "C" NOT NULL;

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
