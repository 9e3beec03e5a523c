//! The answers of writes to a whole scope.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::variable::VariableAnswer;
use super::{corrupt, read, write};
use crate::domain::id::VariableName;
use crate::domain::variable::{BatchRecord, Scope, VariableKey};
use crate::store::{Result, ScopeDeletion};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchAnswer<'a> {
    #[serde(borrow)]
    set: Vec<(Cow<'a, str>, VariableAnswer<'a>)>,
    deleted: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeDeletionAnswer {
    deleted: u64,
    more: bool,
}

/// The text to keep for a batch that was written.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_batch(record: &BatchRecord) -> Result<String> {
    write(&BatchAnswer {
        set: record.set.iter().map(|record| (record.key.name.as_str().into(), VariableAnswer::of(record))).collect(),
        deleted: record.deleted.iter().map(|name| name.as_str().into()).collect(),
    })
}

/// What was kept for a batch on `scope`. Secrets come back with `null` for their values.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_batch`] wrote.
pub fn to_batch(scope: &Scope, text: &str) -> Result<BatchRecord> {
    let answer: BatchAnswer<'_> = read(text)?;
    let set = answer.set.into_iter().map(|(text, record)| record.into_record(VariableKey { scope: scope.clone(), name: name(&text)? }));
    Ok(BatchRecord { set: set.collect::<Result<_>>()?, deleted: answer.deleted.iter().map(|text| name(text)).collect::<Result<_>>()? })
}

/// The text to keep for the deletion of a scope.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_scope_deletion(record: ScopeDeletion) -> Result<String> {
    write(&ScopeDeletionAnswer { deleted: record.deleted, more: record.more })
}

/// What was kept for the deletion of a scope.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_scope_deletion`] wrote.
pub fn to_scope_deletion(text: &str) -> Result<ScopeDeletion> {
    let answer: ScopeDeletionAnswer = read(text)?;
    Ok(ScopeDeletion { deleted: answer.deleted, more: answer.more })
}

fn name(text: &str) -> Result<VariableName> {
    VariableName::parse(text).map_err(|_| corrupt("answer has a name that is none".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::variable::VariableRecord;
    use crate::domain::version::Version;
    use crate::store::StoreError;

    fn record(name: &str, value: &str, secret: bool) -> VariableRecord {
        VariableRecord {
            key: VariableKey { scope: Scope::Global, name: VariableName::parse(name).unwrap() },
            version: Version::new(7).unwrap(),
            value: value.into(),
            secret,
            description: None,
            created_at: Timestamp::from_microseconds(1),
            updated_at: Timestamp::from_microseconds(2),
            updated_by: "ada".into(),
            expires_at: Some(Timestamp::from_microseconds(3)),
        }
    }

    #[test]
    fn a_batch_comes_back_in_its_order() {
        let set = vec![record("größe \"1\"", "[ 1.0]", false), record("a", "null", false), record("b", "null", true)];
        let batch = BatchRecord { set, deleted: vec![VariableName::parse("z").unwrap(), VariableName::parse("\\y").unwrap()] };
        assert_eq!(to_batch(&Scope::Global, &from_batch(&batch).unwrap()).unwrap(), batch);
        assert_eq!(to_batch(&Scope::Global, &from_batch(&BatchRecord::default()).unwrap()).unwrap(), BatchRecord::default());
        let secret = BatchRecord { set: vec![record("s", "\"swordfish\"", true)], deleted: Vec::new() };
        assert!(!from_batch(&secret).unwrap().contains("swordfish"));
    }

    #[test]
    fn a_deletion_comes_back() {
        for deletion in [ScopeDeletion { deleted: 0, more: false }, ScopeDeletion { deleted: 10_000, more: true }] {
            assert_eq!(to_scope_deletion(&from_scope_deletion(deletion).unwrap()).unwrap(), deletion);
        }
    }

    #[test]
    fn a_corrupt_answer_is_seen() {
        for bad in ["", "{}", r#"{"set":[],"deleted":[".."]}"#, r#"{"set":[["a",{}]],"deleted":[]}"#] {
            assert!(matches!(to_batch(&Scope::Global, bad), Err(StoreError::Corrupt { .. })), "{bad}");
            assert!(matches!(to_scope_deletion(bad), Err(StoreError::Corrupt { .. })), "{bad}");
        }
    }
}
