//! States, and the end of an execution.

use nworkflow_state::domain::version::Version;
use nworkflow_state::error::Code;
use serde_json::{Value, json};

use super::operation::{EXECUTIONS, Guard};
use super::reference::{Key, State};
use super::verdict::{Verdict, agree, change, deletion, replacement, same};
use super::world::{World, merge};
use crate::model::{request, state, tokens};

impl World {
    pub(super) async fn put_state(&mut self, execution: usize, number: i64, guard: Guard) -> Verdict {
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = self.model.precondition(guard, &Key::State(execution), live);
        let request = request(&self.caller, precondition);
        let done = self.services.states.put(&request, state(EXECUTIONS[execution]), tokens(number)).await;
        let Some(done) = agree(done, replacement(live.is_some(), met))? else { return Ok(()) };
        self.state_written(execution, done.version, json!({ "a": number }))
    }

    pub(super) async fn patch_state(&mut self, execution: usize, number: i64, guard: Guard) -> Verdict {
        let live = self.model.states.get(&execution).cloned();
        let (precondition, met) = self.model.precondition(guard, &Key::State(execution), live.as_ref().map(|live| live.version));
        let request = request(&self.caller, precondition);
        let patch = merge(format!(r#"{{"marking":{{"b":{number}}}}}"#));
        let done = self.services.states.patch(&request, state(EXECUTIONS[execution]), patch).await;
        let done = agree(done, change(live.is_some(), met, Code::StateNotFound))?;
        let (Some(done), Some(State { mut marking, .. })) = (done, live) else { return Ok(()) };
        marking["b"] = json!(number);
        self.state_written(execution, done.version, marking)
    }

    pub(super) async fn delete_state(&mut self, execution: usize, guard: Guard) -> Verdict {
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = self.model.precondition(guard, &Key::State(execution), live);
        let request = request(&self.caller, precondition);
        let done = self.services.states.delete(&request, state(EXECUTIONS[execution])).await;
        let done = agree(done, deletion(live.is_some(), guard, met, Code::StateNotFound))?;
        let Some(done) = done else { return Ok(()) };
        self.model.grow(Key::State(execution), done.version)?;
        self.model.states.remove(&execution);
        *self.model.history.entry(execution).or_default() += 1;
        Ok(())
    }

    pub(super) fn state_written(&mut self, execution: usize, version: Version, marking: Value) -> Verdict {
        self.model.grow(Key::State(execution), version)?;
        self.model.states.insert(execution, State { version, marking });
        *self.model.history.entry(execution).or_default() += 1;
        Ok(())
    }

    pub(super) async fn delete_execution(&mut self, execution: usize, guard: Guard) -> Verdict {
        let versions = self.model.history.get(&execution).copied().unwrap_or_default();
        let checkpoints = i64::try_from(self.model.checkpoints_of(execution)).unwrap();
        let there = versions > 0 || checkpoints > 0;
        // With neither the execution nor the version, either answer is right.
        let guard = if there { guard } else { Guard::None };
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = self.model.precondition(guard, &Key::State(execution), live);
        let request = request(&self.caller, precondition);
        let done = self.services.executions.delete(&request, state(EXECUTIONS[execution])).await;
        if let Some(done) = agree(done, change(there, met, Code::ExecutionNotFound))? {
            let removed = done.record.unwrap();
            same("removed versions and checkpoints", (removed.versions, removed.checkpoints), (versions, checkpoints))?;
            self.model.grow(Key::State(execution), done.version)?;
            self.model.states.remove(&execution);
            self.model.history.remove(&execution);
            self.model.checkpoints.retain(|(owner, _), _| *owner != execution);
        }
        Ok(())
    }
}
