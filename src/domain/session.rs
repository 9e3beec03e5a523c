//! Sessions: JSON data with a time to live, belonging to a user.

use std::sync::Arc;

use super::clock::Timestamp;
use super::document::{self, Fault, FaultKind, Object};
use super::id::{SessionId, UserId};
use super::variable::parse_ttl_seconds;
use super::version::Version;

/// Seconds that a session lives unless told otherwise.
pub const DEFAULT_TTL_SECONDS: i64 = 3600;
/// What no session outlives, however often it is extended: 9999-12-30T00:00:00Z. RFC 3339 has no room for later years.
pub const LAST_EXPIRY: Timestamp = Timestamp::from_microseconds(253_402_128_000_000_000);
/// A read of a sliding session moves its expiry at most once in this part of its time to live.
pub const TOUCH_PART: i64 = 10;

/// What a client writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDocument {
    /// The bytes of the data, any JSON.
    pub data: Arc<str>,
    /// Seconds to live from now on. `None`: a new session gets 3600, a live one keeps its clock.
    pub ttl_seconds: Option<i64>,
    /// Whether reads extend it.
    pub sliding: bool,
    /// Seconds after its creation that it never outlives.
    pub max_ttl_seconds: Option<i64>,
}

/// A request body, read: the session and what only a POST may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInput {
    /// The member `session_id`, of a POST.
    pub id: Option<SessionId>,
    /// The member `owner`, of a POST; `None` also for `me`, which is the caller as if nobody had been named.
    pub owner: Option<UserId>,
    /// The rest.
    pub document: SessionDocument,
}

impl SessionInput {
    /// Reads a validated request body. `names`: whether `session_id` and `owner` are members of it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(body: &str, names: bool) -> Result<Self, Vec<Fault>> {
        let mut object = Object::read(body).map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        let (id, owner) = if names {
            let id = object.read_member("session_id", |raw| parse_id(raw, SessionId::parse), &mut faults);
            (id, object.read_member("owner", |raw| parse_id(raw, parse_owner), &mut faults).flatten())
        } else {
            (None, None)
        };
        let data = object.take("data");
        if data.is_none() {
            faults.push(Fault::member("data", FaultKind::MissingMember));
        }
        let ttl_seconds = object.read_member("ttl_seconds", parse_ttl_seconds, &mut faults);
        let sliding = object.read_member("sliding", document::boolean, &mut faults).unwrap_or(false);
        let max_ttl_seconds = object.read_member("max_ttl_seconds", parse_ttl_seconds, &mut faults);
        faults.extend(object.unknown());
        match data {
            Some(data) if faults.is_empty() => {
                Ok(Self { id, owner, document: SessionDocument { data: data.into(), ttl_seconds, sliding, max_ttl_seconds } })
            }
            _ => Err(faults),
        }
    }
}

fn parse_id<T>(raw: &str, parse: fn(&str) -> Result<T, super::id::InvalidIdentifier>) -> Result<T, FaultKind> {
    parse(&document::text(raw, usize::MAX)?).map_err(FaultKind::InvalidId)
}

fn parse_owner(text: &str) -> Result<Option<UserId>, super::id::InvalidIdentifier> {
    if text == "me" { Ok(None) } else { UserId::parse(text).map(Some) }
}

/// A session, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The user that it belongs to.
    pub owner: UserId,
    /// The version.
    pub version: Version,
    /// The first version of this life: the session's variables carry it, and live only while it is equal.
    pub life: Version,
    /// The bytes of the data.
    pub data: Arc<str>,
    /// Seconds to live that the last write with a time to live asked for.
    pub ttl_seconds: i64,
    /// Whether reads extend it.
    pub sliding: bool,
    /// Seconds after its creation that it never outlives.
    pub max_ttl_seconds: Option<i64>,
    /// When this life began.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
    /// When it will be gone, as the last write set it. It belongs to the version.
    pub written_expires_at: Timestamp,
    /// When it will be gone, touches included.
    pub expires_at: Timestamp,
}

/// Whose sessions a caller reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The caller's own.
    Own(UserId),
    /// All of the tenant.
    All,
}

impl Reach {
    /// Whether a session of this owner is within reach.
    #[must_use]
    pub fn covers(&self, owner: &UserId) -> bool {
        match self {
            Self::Own(user) => user == owner,
            Self::All => true,
        }
    }
}

/// Which sessions to list, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    /// Whose.
    pub reach: Reach,
    /// Only ids behind this one.
    pub after: Option<SessionId>,
    /// Most items.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_names_neither_id_nor_owner() {
        let body = r#"{"session_id":"s1","owner":"ada","data":null,"ttl_seconds":60,"sliding":true}"#;
        let input = SessionInput::parse(body, true).unwrap();
        assert_eq!((input.id.as_ref().map(SessionId::as_str), input.owner.as_ref().map(UserId::as_str)), (Some("s1"), Some("ada")));
        assert_eq!(SessionInput::parse(body, false).unwrap_err().len(), 2);
        assert_eq!(SessionInput::parse(r#"{"data":[1.0]}"#, false).unwrap().document.data.as_ref(), "[1.0]");
    }

    #[test]
    fn everything_wrong_is_said() {
        for bad in [
            r#"{"ttl_seconds":60}"#,
            r#"{"data":1,"ttl_seconds":0}"#,
            r#"{"data":1,"max_ttl_seconds":315360001}"#,
            r#"{"data":1,"sliding":1}"#,
            r#"{"data":1,"version":1}"#,
        ] {
            assert_eq!(SessionInput::parse(bad, true).unwrap_err().len(), 1, "{bad}");
        }
        assert_eq!(SessionInput::parse(r#"{"session_id":"..","owner":"a\n","data":1}"#, true).unwrap_err().len(), 2);
        assert_eq!(SessionInput::parse(r#"{"owner":"me","data":1}"#, true).unwrap().owner, None);
    }
}
