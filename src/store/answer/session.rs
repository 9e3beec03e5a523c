//! The answer of a write to a session.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{corrupt, read, version, write};
use crate::domain::clock::Timestamp;
use crate::domain::id::{SessionId, UserId};
use crate::domain::session::SessionRecord;
use crate::store::Result;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionAnswer<'a> {
    session_id: Cow<'a, str>,
    owner: Cow<'a, str>,
    version: i64,
    life: i64,
    data: Cow<'a, str>,
    ttl_seconds: i64,
    sliding: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ttl_seconds: Option<i64>,
    created_at: i64,
    updated_at: i64,
    written_expires_at: i64,
    expires_at: i64,
}

/// The text to keep for a session that was written.
///
/// # Errors
/// [`StoreError::Internal`](crate::store::StoreError::Internal) when it cannot be written as JSON, which no record causes.
pub fn from_session(record: &SessionRecord) -> Result<String> {
    write(&SessionAnswer {
        session_id: record.id.as_str().into(),
        owner: record.owner.as_str().into(),
        version: record.version.get(),
        life: record.life.get(),
        data: (&*record.data).into(),
        ttl_seconds: record.ttl_seconds,
        sliding: record.sliding,
        max_ttl_seconds: record.max_ttl_seconds,
        created_at: record.created_at.as_microseconds(),
        updated_at: record.updated_at.as_microseconds(),
        written_expires_at: record.written_expires_at.as_microseconds(),
        expires_at: record.expires_at.as_microseconds(),
    })
}

/// The record that was kept, with the id of then: the server may have made it.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt) when the text is not one that [`from_session`] wrote.
pub fn to_session(text: &str) -> Result<SessionRecord> {
    let answer: SessionAnswer<'_> = read(text)?;
    Ok(SessionRecord {
        id: SessionId::parse(&answer.session_id).map_err(|_| corrupt("answer has a session id that is none".into()))?,
        owner: UserId::parse(&answer.owner).map_err(|_| corrupt("answer has an owner that is none".into()))?,
        version: version(answer.version)?,
        life: version(answer.life)?,
        data: answer.data.as_ref().into(),
        ttl_seconds: answer.ttl_seconds,
        sliding: answer.sliding,
        max_ttl_seconds: answer.max_ttl_seconds,
        created_at: Timestamp::from_microseconds(answer.created_at),
        updated_at: Timestamp::from_microseconds(answer.updated_at),
        written_expires_at: Timestamp::from_microseconds(answer.written_expires_at),
        expires_at: Timestamp::from_microseconds(answer.expires_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::version::Version;
    use crate::store::StoreError;

    #[test]
    fn a_session_comes_back_byte_for_byte() {
        let mut record = SessionRecord {
            id: SessionId::parse("s1").unwrap(),
            owner: UserId::parse("f:1:ada\"\\").unwrap(),
            version: Version::new(9).unwrap(),
            life: Version::new(7).unwrap(),
            data: "{\"b\" : 1E2 ,\"a\":[-0,\"\\u0041\"]}".into(),
            ttl_seconds: 60,
            sliding: true,
            max_ttl_seconds: Some(3600),
            created_at: Timestamp::from_microseconds(1),
            updated_at: Timestamp::from_microseconds(2),
            written_expires_at: Timestamp::from_microseconds(3),
            expires_at: Timestamp::from_microseconds(4),
        };
        assert_eq!(to_session(&from_session(&record).unwrap()).unwrap(), record);
        (record.sliding, record.max_ttl_seconds) = (false, None);
        let good = from_session(&record).unwrap();
        assert_eq!(to_session(&good).unwrap(), record);
        for bad in [
            "",
            "{}",
            &good.replace("\"life\":7", "\"life\":0"),
            &good.replace("s1", ".."),
            &good.replace(r#"f:1:ada\"\\"#, "me"),
            &good[1..],
        ] {
            assert!(matches!(to_session(bad), Err(StoreError::Corrupt { table: "idempotency", .. })), "{bad}");
        }
    }
}
