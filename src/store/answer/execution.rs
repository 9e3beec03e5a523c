//! The answers of writes to an execution that are not states: a checkpoint that was made, an execution that was removed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{corrupt, read, version, write};
use crate::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointRecord};
use crate::domain::clock::Timestamp;
use crate::domain::id::CheckpointId;
use crate::domain::state::{RemovedExecution, StateDocument, StateKey};
use crate::store::Result;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointAnswer<'a> {
    checkpoint_id: Cow<'a, str>,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Cow<'a, str>>,
    metadata: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_version: Option<i64>,
    created_at: i64,
    created_by: Cow<'a, str>,
    size: i64,
    document: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovedExecutionAnswer {
    version: i64,
    versions: i64,
    checkpoints: i64,
}

/// The text to keep for a checkpoint that was made.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_checkpoint(record: &CheckpointRecord) -> Result<String> {
    let item = &record.item;
    write(&CheckpointAnswer {
        checkpoint_id: item.key.checkpoint.as_str().into(),
        version: item.version.get(),
        label: item.label.as_deref().map(Into::into),
        metadata: (&*item.metadata).into(),
        state_version: item.state_version.map(|version| version.get()),
        created_at: item.created_at.as_microseconds(),
        created_by: item.created_by.as_str().into(),
        size: item.size,
        document: record.document.text().into(),
    })
}

/// The record that was kept for a checkpoint of the execution `state`, with the id of then: the server may have made it.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_checkpoint`] wrote.
pub fn to_checkpoint(state: &StateKey, text: &str) -> Result<CheckpointRecord> {
    let answer: CheckpointAnswer<'_> = read(text)?;
    let document = StateDocument::from_stored(answer.document.into_owned()).ok_or_else(|| corrupt("answer has no state".into()))?;
    let checkpoint = CheckpointId::parse(&answer.checkpoint_id).map_err(|_| corrupt("answer has a checkpoint id that is none".into()))?;
    let item = CheckpointItem {
        key: CheckpointKey { state: state.clone(), checkpoint },
        version: version(answer.version)?,
        label: answer.label.map(Cow::into_owned),
        metadata: answer.metadata.as_ref().into(),
        state_version: answer.state_version.map(version).transpose()?,
        created_at: Timestamp::from_microseconds(answer.created_at),
        created_by: answer.created_by.into_owned(),
        size: answer.size,
    };
    Ok(CheckpointRecord { item, document })
}

/// The text to keep for an execution that was removed.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_removed_execution(record: RemovedExecution) -> Result<String> {
    write(&RemovedExecutionAnswer { version: record.version.get(), versions: record.versions, checkpoints: record.checkpoints })
}

/// What was kept for an execution that was removed.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_removed_execution`] wrote.
pub fn to_removed_execution(text: &str) -> Result<RemovedExecution> {
    let answer: RemovedExecutionAnswer = read(text)?;
    Ok(RemovedExecution { version: version(answer.version)?, versions: answer.versions, checkpoints: answer.checkpoints })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ExecutionId, WorkflowId};
    use crate::domain::version::Version;
    use crate::store::StoreError;

    fn key() -> CheckpointKey {
        let state = StateKey { workflow: WorkflowId::parse("order").unwrap(), execution: ExecutionId::parse("e").unwrap() };
        CheckpointKey { state, checkpoint: CheckpointId::parse("c").unwrap() }
    }

    #[test]
    fn a_checkpoint_comes_back_byte_for_byte() {
        let document = StateDocument::parse("{\"marking\":{\"p\" : [1E2]},\"metadata\": {\"\\u0041\":-0}}").unwrap();
        let mut item = CheckpointItem {
            key: key(),
            version: Version::new(3).unwrap(),
            label: Some("before \"pay\"".into()),
            metadata: "{ \"a\" : 1.0 }".into(),
            state_version: Version::new(8),
            created_at: Timestamp::from_microseconds(5),
            created_by: "ada".into(),
            size: 42,
        };
        for _ in 0..2 {
            let record = CheckpointRecord { item: item.clone(), document: document.clone() };
            let text = from_checkpoint(&record).unwrap();
            assert_eq!(to_checkpoint(&key().state, &text).unwrap(), record);
            for bad in ["", "{}", &text.replace("marking", "markinG"), &text.replace("\"version\":3", "\"version\":0")] {
                assert!(matches!(to_checkpoint(&key().state, bad), Err(StoreError::Corrupt { table: "idempotency", .. })), "{bad}");
            }
            (item.label, item.state_version) = (None, None);
        }
    }

    #[test]
    fn a_removal_comes_back() {
        let removed = RemovedExecution { version: Version::new(12).unwrap(), versions: 10_000, checkpoints: 0 };
        assert_eq!(to_removed_execution(&from_removed_execution(removed).unwrap()).unwrap(), removed);
        assert!(matches!(to_removed_execution("{}"), Err(StoreError::Corrupt { .. })));
    }
}
