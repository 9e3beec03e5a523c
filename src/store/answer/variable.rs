//! The answer of a write to a variable.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{corrupt, read, version, write};
use crate::domain::clock::Timestamp;
use crate::domain::variable::{VariableKey, VariableRecord};
use crate::store::Result;

/// What stands in a replayed record for the value of a secret, which is never shown.
const WITHHELD: &str = "null";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariableAnswer<'a> {
    version: i64,
    /// The value's JSON text within a JSON string, so that it comes back byte for byte, white space included.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    secret: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    created_at: i64,
    updated_at: i64,
    updated_by: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl<'a> VariableAnswer<'a> {
    pub(super) fn of(record: &'a VariableRecord) -> Self {
        Self {
            version: record.version.get(),
            value: (!record.secret).then(|| (&*record.value).into()),
            secret: record.secret,
            description: record.description.as_deref().map(Into::into),
            created_at: record.created_at.as_microseconds(),
            updated_at: record.updated_at.as_microseconds(),
            updated_by: record.updated_by.as_str().into(),
            expires_at: record.expires_at.map(Timestamp::as_microseconds),
        }
    }

    pub(super) fn into_record(self, key: VariableKey) -> Result<VariableRecord> {
        let value = match (self.value, self.secret) {
            (Some(value), false) => value.as_ref().into(),
            (None, true) => WITHHELD.into(),
            _ => return Err(corrupt("answer has a value and is secret, or neither".into())),
        };
        Ok(VariableRecord {
            key,
            version: version(self.version)?,
            value,
            secret: self.secret,
            description: self.description.map(Cow::into_owned),
            created_at: Timestamp::from_microseconds(self.created_at),
            updated_at: Timestamp::from_microseconds(self.updated_at),
            updated_by: self.updated_by.into_owned(),
            expires_at: self.expires_at.map(Timestamp::from_microseconds),
        })
    }
}

/// The text to keep for a variable that was written.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_variable(record: &VariableRecord) -> Result<String> {
    write(&VariableAnswer::of(record))
}

/// The record that was kept for the variable `key`. A secret comes back with `null` for its value.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_variable`] wrote.
pub fn to_variable(key: &VariableKey, text: &str) -> Result<VariableRecord> {
    read::<VariableAnswer<'_>>(text)?.into_record(key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::VariableName;
    use crate::domain::variable::Scope;
    use crate::domain::version::Version;
    use crate::store::StoreError;

    fn record(value: &str, secret: bool) -> VariableRecord {
        VariableRecord {
            key: VariableKey { scope: Scope::Global, name: VariableName::parse("größe").unwrap() },
            version: Version::new(7).unwrap(),
            value: value.into(),
            secret,
            description: Some("in \"cm\"\n\u{1F980}".into()),
            created_at: Timestamp::from_microseconds(-1),
            updated_at: Timestamp::from_microseconds(1_700_000_000_000_001),
            updated_by: "f:1:ada\\".into(),
            expires_at: None,
        }
    }

    #[test]
    fn a_record_comes_back_byte_for_byte() {
        for value in ["null", "\"\"", r#"{"b" : 1E2 ,"a":[-0,"\u0041\\ud83e"]}"#, "\"\u{1F980}\u{2028}\"", "[\n\t1.0 ]"] {
            let mut record = record(value, false);
            assert_eq!(to_variable(&record.key, &from_variable(&record).unwrap()).unwrap(), record);
            (record.description, record.expires_at) = (None, Some(Timestamp::from_microseconds(i64::MAX)));
            assert_eq!(to_variable(&record.key, &from_variable(&record).unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn a_secret_is_never_kept() {
        let secret = record("\"swordfish\"", true);
        let text = from_variable(&secret).unwrap();
        assert!(!text.contains("swordfish"));
        assert_eq!(to_variable(&secret.key, &text).unwrap(), VariableRecord { value: "null".into(), ..secret });
    }

    #[test]
    fn a_corrupt_answer_is_seen_and_not_quoted() {
        let record = record("\"swordfish\"", false);
        let good = from_variable(&record).unwrap();
        let without_value = r#"{"version":1,"secret":false,"created_at":1,"updated_at":1,"updated_by":"a"}"#;
        let of_no_version = good.replace("\"version\":7", "\"version\":0");
        let cut = &good[..good.len() - 1];
        let wrong_type = good.replace("\"secret\":false", "\"secret\":\"swordfish\"");
        for bad in ["", "{}", "null", without_value, &of_no_version, cut, &wrong_type] {
            let error = to_variable(&record.key, bad).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { table: "idempotency", .. }), "{bad}");
            assert!(!error.to_string().contains("swordfish"), "{error}");
        }
    }
}
