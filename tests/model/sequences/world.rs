//! The services and the model of one sequence: does a step with both.

use std::sync::Arc;

use nworkflow_state::domain::checkpoint::CheckpointKey;
use nworkflow_state::domain::id::CheckpointId;
use nworkflow_state::domain::patch::{PatchKind, PatchLimits};
use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::variable::{Scope, VariableKey};
use nworkflow_state::service::{Patch, Services};

use super::operation::{CHECKPOINTS, DAY, EXECUTIONS, NAMES, Operation, SESSIONS, Step};
use super::reference::Model;
use super::shape::Shape;
use super::verdict::{Verdict, same};
use crate::api::app::TestApp;
use crate::model::{newcomer, session, state, sweep, variable, workflow};

/// Nothing ends within so many seconds after the beginning of a step: a busy machine must not decide what is still there.
const CALM_SECONDS: i64 = 10;

pub(super) struct World {
    pub(super) app: Arc<TestApp>,
    pub(super) services: Services,
    pub(super) caller: Arc<Principal>,
    pub(super) model: Model,
}

pub(super) fn merge(text: String) -> Patch {
    Patch { kind: PatchKind::Merge, text: text.into(), limits: PatchLimits { bytes: 1 << 20, steps_per_byte: 4, memory_bytes: 1 << 20 } }
}

pub(super) fn checkpoint(execution: usize, id: usize) -> CheckpointKey {
    CheckpointKey { state: state(EXECUTIONS[execution]), checkpoint: CheckpointId::parse(CHECKPOINTS[id]).unwrap() }
}

impl World {
    /// A tenant that has nothing yet.
    pub(super) fn new(app: Arc<TestApp>) -> Self {
        let services = app.services.clone();
        Self { app, services, caller: newcomer(), model: Model::default() }
    }

    pub(super) fn scope(&self, scope: usize) -> Scope {
        match scope {
            0 => Scope::Global,
            1 => Scope::Workflow(workflow()),
            2 => Scope::User(self.caller.subject.clone()),
            of => Scope::Session(session(SESSIONS[of - 3])),
        }
    }

    pub(super) fn variable(&self, scope: usize, name: usize) -> VariableKey {
        variable(self.scope(scope), NAMES[name])
    }

    /// Moves the clock past what would end during the next calls, and lets the model know.
    pub(super) fn calm(&mut self) {
        while self.model.ends_within(self.app.clock.now(), CALM_SECONDS) {
            self.app.clock.advance_seconds(CALM_SECONDS + 1);
        }
        self.model.pass(self.app.clock.now());
    }

    pub(super) async fn step(&mut self, step: &Step) -> Verdict {
        self.calm();
        self.perform(&step.operation).await?;
        self.calm();
        self.compare_touched(&step.operation, step.reading).await?;
        match step.sight {
            Some(sight) => self.compare_sight(sight, step.reading).await,
            None => Ok(()),
        }
    }

    async fn perform(&mut self, operation: &Operation) -> Verdict {
        match *operation {
            Operation::ClearCache => {
                let _entries = self.services.operations.clear_cache();
                Ok(())
            }
            Operation::Effective { session } => self.compare_effective(session).await,
            Operation::Advance { seconds } => {
                self.app.clock.advance_seconds(seconds);
                Ok(())
            }
            Operation::Sweep { days_pass } => {
                if days_pass {
                    self.app.clock.advance_seconds(2 * DAY);
                    sweep(&self.app).await;
                    self.app.clock.advance_seconds(61);
                }
                sweep(&self.app).await;
                Ok(())
            }
            Operation::PutState { execution, number, guard } => self.put_state(execution, number, guard).await,
            Operation::PatchState { execution, number, guard } => self.patch_state(execution, number, guard).await,
            Operation::DeleteState { execution, guard } => self.delete_state(execution, guard).await,
            Operation::CreateCheckpoint { execution, id, own } => self.create_checkpoint(execution, id, own).await,
            Operation::Restore { execution, id, guard } => self.restore(execution, id, guard).await,
            Operation::Fork { execution, id, into } => self.fork(execution, id, into).await,
            Operation::DeleteCheckpoint { execution, id, guard } => self.delete_checkpoint(execution, id, guard).await,
            Operation::DeleteExecution { execution, guard } => self.delete_execution(execution, guard).await,
            Operation::CreateSession { session, ref terms } => self.create_session(session, terms).await,
            Operation::PutSession { session, ref terms, guard } => self.put_session(session, terms, guard).await,
            Operation::PatchSession { session, number, guard } => self.patch_session(session, number, guard).await,
            Operation::Extend { session, seconds, guard } => self.extend(session, seconds, guard).await,
            Operation::DeleteSession { session, guard } => self.delete_session(session, guard).await,
            Operation::GetSession { session, reading } => self.get_session(session, reading).await,
            Operation::PutVariable { scope, name, number, ttl, guard } => self.put_variable((scope, name), number, ttl, guard).await,
            Operation::PatchVariable { scope, name, number, guard } => self.patch_variable((scope, name), number, guard).await,
            Operation::Increment { scope, name, number, guard } => self.increment((scope, name), number, guard).await,
            Operation::DeleteVariable { scope, name, guard } => self.delete_variable((scope, name), guard).await,
            Operation::Batch { scope, roles, number, expects } => self.batch(scope, roles, number, expects).await,
            Operation::DeleteScope { scope } => self.delete_scope(scope).await,
        }
    }

    /// Of executions the shape that chose the steps knows exactly what is there.
    pub(super) fn compare_shape(&self, shape: &Shape) -> Verdict {
        same("states by shape", shape.states.iter().collect::<Vec<_>>(), self.model.states.keys().collect())?;
        same("checkpoints by shape", shape.checkpoints.iter().collect::<Vec<_>>(), self.model.checkpoints.keys().collect())?;
        let history = |execution| self.model.history.get(&execution).copied().unwrap_or_default();
        same("history by shape", shape.history, std::array::from_fn(history))
    }
}
