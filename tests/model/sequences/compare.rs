//! What the services read against what the model has.

use nworkflow_state::domain::checkpoint::CheckpointKey;
use nworkflow_state::error::Code;
use nworkflow_state::service::checkpoints::CheckpointFilter;
use nworkflow_state::service::effective::EffectiveFilter;
use nworkflow_state::service::executions::ExecutionFilter;
use nworkflow_state::service::variables::VariableFilter;
use serde_json::json;

use super::operation::{CHECKPOINTS, EXECUTIONS, NAMES, Operation, Reading, Role, SCOPES, SESSIONS, Sight, scope_of};
use super::verdict::{Verdict, agree_code, parsed, read, same};
use super::world::{World, checkpoint};
use crate::model::{session, state, workflow};

impl World {
    /// What the operation can have changed.
    pub(super) async fn compare_touched(&self, operation: &Operation, reading: Reading) -> Verdict {
        match *operation {
            // They compare by themselves, or change nothing that a reader sees.
            Operation::ClearCache | Operation::Effective { .. } => Ok(()),
            Operation::Advance { .. } | Operation::Sweep { .. } => {
                self.compare_session_list().await?;
                for id in 0..SESSIONS.len() {
                    self.compare_variable_list(scope_of(id)).await?;
                }
                self.compare_effective(None).await
            }
            Operation::PutState { execution, .. }
            | Operation::PatchState { execution, .. }
            | Operation::DeleteState { execution, .. }
            | Operation::Restore { execution, .. } => self.compare_state(execution, reading).await,
            Operation::Fork { into, .. } => self.compare_state(into, reading).await,
            Operation::CreateCheckpoint { execution, id, .. } | Operation::DeleteCheckpoint { execution, id, .. } => {
                self.compare_checkpoint(execution, id, reading).await
            }
            Operation::DeleteExecution { execution, .. } => self.compare_execution(execution, reading).await,
            Operation::CreateSession { .. }
            | Operation::PutSession { .. }
            | Operation::PatchSession { .. }
            | Operation::Extend { .. }
            | Operation::DeleteSession { .. }
            | Operation::GetSession { .. } => self.compare_session_list().await,
            Operation::PutVariable { scope, name, .. }
            | Operation::PatchVariable { scope, name, .. }
            | Operation::Increment { scope, name, .. }
            | Operation::DeleteVariable { scope, name, .. } => self.compare_variable(scope, name, reading).await,
            Operation::Batch { scope, roles, .. } => {
                for (name, _) in roles.iter().enumerate().filter(|(_, role)| **role != Role::Untouched) {
                    self.compare_variable(scope, name, reading).await?;
                }
                Ok(())
            }
            Operation::DeleteScope { scope } => self.compare_scope(scope, reading).await,
        }
    }

    pub(super) async fn compare_sight(&self, sight: Sight, reading: Reading) -> Verdict {
        match sight {
            Sight::Executions => self.compare_execution_lists().await,
            Sight::Checkpoints => self.compare_checkpoint_list().await,
            Sight::Sessions => self.compare_session_list().await,
            Sight::State(execution) => self.compare_state(execution, reading).await,
            Sight::History(execution) => self.compare_history(execution).await,
            Sight::Checkpoint(execution, id) => self.compare_checkpoint(execution, id, reading).await,
            Sight::Life(id) => self.compare_life(id, reading).await,
            Sight::Variable(scope, name) => self.compare_variable(scope, name, reading).await,
            Sight::Scope(scope) => self.compare_variable_list(scope).await,
            Sight::Effective(session) => self.compare_effective(session).await,
        }
    }

    pub(super) async fn compare_everything(&mut self) -> Verdict {
        self.calm();
        for reading in [Reading::Cached, Reading::FromStore] {
            for execution in 0..EXECUTIONS.len() {
                self.compare_execution(execution, reading).await?;
            }
            for id in 0..SESSIONS.len() {
                self.compare_life(id, reading).await?;
            }
            for scope in 0..SCOPES {
                self.compare_scope(scope, reading).await?;
            }
        }
        self.compare_session_list().await?;
        self.compare_execution_lists().await?;
        self.compare_checkpoint_list().await?;
        for session in [None, Some(0), Some(1)] {
            self.compare_effective(session).await?;
        }
        Ok(())
    }

    async fn compare_execution(&self, execution: usize, reading: Reading) -> Verdict {
        self.compare_state(execution, reading).await?;
        for id in 0..CHECKPOINTS.len() {
            self.compare_checkpoint(execution, id, reading).await?;
        }
        self.compare_history(execution).await
    }

    async fn compare_state(&self, execution: usize, reading: Reading) -> Verdict {
        let live = self.model.states.get(&execution);
        let freshness = reading.freshness(live.map(|live| live.version));
        let found = self.services.states.get(&self.caller, state(EXECUTIONS[execution]), freshness).await;
        read("state", found, live.map(|live| (live.version, "marking", &live.marking)), Code::StateNotFound)
    }

    async fn compare_checkpoint(&self, execution: usize, id: usize, reading: Reading) -> Verdict {
        let kept = self.model.checkpoints.get(&(execution, id));
        let freshness = reading.freshness(kept.map(|kept| kept.version));
        let found = self.services.checkpoints.get(&self.caller, checkpoint(execution, id), freshness).await;
        let whole = kept.map(|kept| json!({ "marking": kept.marking, "status": "running", "metadata": {}, "schema_version": 1 }));
        let expected = kept.zip(whole.as_ref()).map(|(kept, whole)| (kept.version, "state", whole));
        read("checkpoint", found, expected, Code::CheckpointNotFound)
    }

    async fn compare_history(&self, execution: usize) -> Verdict {
        let history = self.services.states.history(&self.caller, &state(EXECUTIONS[execution]), false, None, 1000).await;
        let count = history.as_ref().map_or(0, |page| page.items.len());
        let expected = self.model.history.get(&execution).copied().unwrap_or_default();
        same("versions in the history", i64::try_from(count).unwrap(), expected)?;
        let ordered = history.is_ok_and(|page| page.items.is_sorted_by(|one, next| one.version > next.version));
        same("history, newest first", ordered, expected > 0)
    }

    /// A variable's read reads the session too, and does not touch it.
    async fn compare_life(&self, id: usize, reading: Reading) -> Verdict {
        let found = self.services.variables.get(&self.caller, self.variable(scope_of(id), 0), reading.freshness(None)).await;
        let there = !found.is_err_and(|error| error.code == Code::SessionNotFound);
        same(&format!("whether {} lives", SESSIONS[id]), there, self.model.sessions.contains_key(&id))
    }

    async fn compare_session_list(&self) -> Verdict {
        let list = self.services.sessions.list(&self.caller, None, 100).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.items.iter().map(|record| (record.id.as_str(), record.version, record.expires_at)).collect();
        let expected: Vec<_> = self.model.sessions.iter().map(|(id, live)| (SESSIONS[*id], live.version, live.expires_at)).collect();
        same("list of sessions", found, expected)
    }

    async fn compare_variable(&self, scope: usize, name: usize, reading: Reading) -> Verdict {
        let code = if self.model.scope_lives(scope) { Code::VariableNotFound } else { Code::SessionNotFound };
        let live = self.model.variables.get(&(scope, name));
        let freshness = reading.freshness(live.map(|live| live.version));
        let found = self.services.variables.get(&self.caller, self.variable(scope, name), freshness).await;
        let expected = live.map(|live| (live.version, "value", &live.value));
        read(&format!("{} of scope {scope}", NAMES[name]), found, expected, code)
    }

    async fn compare_variable_list(&self, scope: usize) -> Verdict {
        let list = self.services.variables.list(&self.caller, &self.scope(scope), VariableFilter::default(), None, 100).await;
        let expected = if self.model.scope_lives(scope) { Ok(()) } else { Err(Code::SessionNotFound) };
        let Some(page) = agree_code(list, expected)? else { return Ok(()) };
        let found: Vec<_> = page.items.iter().map(|record| (record.key.name.as_str(), record.version, parsed(&record.value))).collect();
        let here = self.model.variables.iter().filter(|((of, _), _)| *of == scope);
        let expected: Vec<_> = here.map(|((_, of), live)| (NAMES[*of], live.version, live.value.clone())).collect();
        same("list of variables", found, expected)
    }

    pub(super) async fn compare_scope(&self, scope: usize, reading: Reading) -> Verdict {
        for name in 0..NAMES.len() {
            self.compare_variable(scope, name, reading).await?;
        }
        self.compare_variable_list(scope).await
    }

    async fn compare_execution_lists(&self) -> Verdict {
        let list = self.services.executions.list(&self.caller, &workflow(), ExecutionFilter::default(), None, 100).await;
        let list = list.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.items.iter().map(|item| (item.key.execution.as_str(), item.version)).collect();
        let expected: Vec<_> = self.model.states.iter().map(|(execution, live)| (EXECUTIONS[*execution], live.version)).collect();
        same("list of executions", found, expected)?;
        let workflows = self.services.executions.workflows(&self.caller, None, 100).await.map_err(|error| error.to_string())?;
        same("list of workflows", workflows.items.len(), usize::from(!self.model.states.is_empty()))
    }

    async fn compare_checkpoint_list(&self) -> Verdict {
        let list = self.services.checkpoints.list(&self.caller, CheckpointFilter::default(), None, 100).await;
        let list = list.map_err(|error| error.to_string())?;
        same("checkpoints, newest first", list.items.is_sorted_by(|one, next| one.created_at >= next.created_at), true)?;
        let place = |item: &CheckpointKey| (item.state.execution.as_str().to_owned(), item.checkpoint.as_str().to_owned());
        let mut found: Vec<_> = list.items.iter().map(|item| (place(&item.key), item.version)).collect();
        found.sort();
        let kept = self.model.checkpoints.iter();
        let expected: Vec<_> = kept.map(|((execution, id), kept)| (place(&checkpoint(*execution, *id)), kept.version)).collect();
        same("list of checkpoints", found, expected)
    }

    pub(super) async fn compare_effective(&self, session_id: Option<usize>) -> Verdict {
        let filter = EffectiveFilter {
            session: session_id.map(|id| session(SESSIONS[id])),
            user: Some(self.caller.subject.clone()),
            workflow: Some(workflow()),
            names: Vec::new(),
        };
        let lives = session_id.is_none_or(|id| self.model.sessions.contains_key(&id));
        let list = self.services.effective.list(&self.caller, filter, None, 100).await;
        let Some(page) = agree_code(list, if lives { Ok(()) } else { Err(Code::SessionNotFound) })? else { return Ok(()) };
        let found: Vec<_> = page.items.iter().map(|record| (record.key.clone(), record.version)).collect();
        let order = session_id.map(scope_of).into_iter().chain([2, 1, 0]);
        let first = |of| order.clone().find_map(|scope| self.model.variables.get(&(scope, of)).map(|live| (scope, live.version)));
        let expected = (0..NAMES.len()).filter_map(|of| first(of).map(|(scope, version)| (self.variable(scope, of), version))).collect();
        same("effective variables", found, expected)
    }
}
