//! Checkpoints: taken, gone back to, continued elsewhere, deleted.

use nworkflow_state::domain::checkpoint::NewCheckpoint;
use nworkflow_state::domain::id::ExecutionId;
use nworkflow_state::error::Code;
use serde_json::json;

use super::operation::{EXECUTIONS, Guard};
use super::reference::{Checkpoint, Key};
use super::verdict::{Verdict, agree, change, deletion};
use super::world::{World, checkpoint};
use crate::model::{plain, request, tokens};

impl World {
    pub(super) async fn create_checkpoint(&mut self, execution: usize, id: usize, own: Option<i64>) -> Verdict {
        let document = own.map(tokens);
        let marking = match own {
            Some(number) => Some(json!({ "a": number })),
            None => self.model.states.get(&execution).map(|live| live.marking.clone()),
        };
        let expected = if self.model.checkpoints.contains_key(&(execution, id)) {
            Err(Code::CheckpointExists)
        } else {
            marking.as_ref().map(|_| 201).ok_or(Code::StateNotFound)
        };
        let new = NewCheckpoint { label: None, metadata: "{}".into(), document };
        let done = agree(self.services.checkpoints.create(&plain(&self.caller), checkpoint(execution, id), new).await, expected)?;
        if let (Some(done), Some(marking)) = (done, marking) {
            self.model.grow(Key::Checkpoint(execution, id), done.version)?;
            self.model.checkpoints.insert((execution, id), Checkpoint { version: done.version, marking });
        }
        Ok(())
    }

    pub(super) async fn restore(&mut self, execution: usize, id: usize, guard: Guard) -> Verdict {
        let kept = self.model.checkpoints.get(&(execution, id)).cloned();
        // With neither the checkpoint nor the version, either answer is right.
        let guard = if kept.is_some() { guard } else { Guard::None };
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = self.model.precondition(guard, &Key::State(execution), live);
        let request = request(&self.caller, precondition);
        let done = self.services.checkpoints.restore(&request, checkpoint(execution, id)).await;
        let done = agree(done, change(kept.is_some(), met, Code::CheckpointNotFound))?;
        match (done, kept) {
            (Some(done), Some(kept)) => self.state_written(execution, done.version, kept.marking),
            _ => Ok(()),
        }
    }

    pub(super) async fn fork(&mut self, execution: usize, id: usize, into: usize) -> Verdict {
        let kept = self.model.checkpoints.get(&(execution, id)).cloned();
        let taken = self.model.history.get(&into).is_some_and(|count| *count > 0) || self.model.checkpoints_of(into) > 0;
        let expected = match (&kept, taken) {
            (None, _) => Err(Code::CheckpointNotFound),
            (Some(_), true) => Err(Code::ExecutionExists),
            (Some(_), false) => Ok(201),
        };
        let target = ExecutionId::parse(EXECUTIONS[into]).unwrap();
        let done = agree(self.services.checkpoints.fork(&plain(&self.caller), checkpoint(execution, id), target).await, expected)?;
        match (done, kept) {
            (Some(done), Some(kept)) => self.state_written(into, done.version, kept.marking),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_checkpoint(&mut self, execution: usize, id: usize, guard: Guard) -> Verdict {
        let live = self.model.checkpoints.get(&(execution, id)).map(|kept| kept.version);
        let (precondition, met) = self.model.precondition(guard, &Key::Checkpoint(execution, id), live);
        let expected = deletion(live.is_some(), guard, met, Code::CheckpointNotFound);
        let request = request(&self.caller, precondition);
        if let Some(done) = agree(self.services.checkpoints.delete(&request, checkpoint(execution, id)).await, expected)? {
            self.model.grow(Key::Checkpoint(execution, id), done.version)?;
            self.model.checkpoints.remove(&(execution, id));
        }
        Ok(())
    }
}
