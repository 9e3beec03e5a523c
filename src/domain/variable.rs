//! Variables: a JSON value under a name in one of four scopes.

use std::sync::Arc;

use super::clock::Timestamp;
use super::document::{self, Fault, FaultKind, Kind, Object};
use super::id::{InvalidIdentifier, SessionId, UserId, VariableName, WorkflowId};
use super::version::Version;

pub use super::batch::{BatchFault, BatchOutcome, BatchRecord, MAX_BATCH_NAMES, VariableBatch};

/// Longest description, in bytes of UTF-8.
pub const MAX_DESCRIPTION_BYTES: usize = 1024;
/// Longest time to live: ten years, in seconds.
pub const MAX_TTL_SECONDS: i64 = 315_360_000;

/// Where a variable lives. The same name in two scopes is two variables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole tenant.
    Global,
    /// One workflow, all its executions.
    Workflow(WorkflowId),
    /// One session; its variables live and die with it.
    Session(SessionId),
    /// One user of the tenant.
    User(UserId),
}

/// The kinds of scopes. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ScopeKind {
    /// `global`
    Global = 1,
    /// `workflow:ID`
    Workflow = 2,
    /// `session:ID`
    Session = 3,
    /// `user:ID`
    User = 4,
}

/// Why a path segment is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// The text before the first colon is not a kind of scope.
    #[error("must be global, workflow:ID, session:ID, user:ID or user:me")]
    UnknownKind,
    /// The id behind the colon breaks its grammar.
    #[error("has an id that {0}")]
    InvalidId(#[from] InvalidIdentifier),
}

impl Scope {
    /// Parses a path segment; it is split at its first colon. `user:me` is the caller, `me`.
    ///
    /// # Errors
    /// An unknown kind or an id out of grammar.
    pub fn parse(segment: &str, me: &UserId) -> Result<Self, InvalidScope> {
        match segment.split_once(':') {
            None if segment == "global" => Ok(Self::Global),
            Some(("workflow", id)) => Ok(Self::Workflow(WorkflowId::parse(id)?)),
            Some(("session", id)) => Ok(Self::Session(SessionId::parse(id)?)),
            Some(("user", "me")) => Ok(Self::User(me.clone())),
            Some(("user", id)) => Ok(Self::User(UserId::parse(id)?)),
            _ => Err(InvalidScope::UnknownKind),
        }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> ScopeKind {
        match self {
            Self::Global => ScopeKind::Global,
            Self::Workflow(_) => ScopeKind::Workflow,
            Self::Session(_) => ScopeKind::Session,
            Self::User(_) => ScopeKind::User,
        }
    }

    /// The id behind the colon; empty for the global scope.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Global => "",
            Self::Workflow(id) => id.as_str(),
            Self::Session(id) => id.as_str(),
            Self::User(id) => id.as_str(),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Workflow(id) => write!(f, "workflow:{id}"),
            Self::Session(id) => write!(f, "session:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

/// Names one variable within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VariableKey {
    /// The scope.
    pub scope: Scope,
    /// The name in it.
    pub name: VariableName,
}

/// Which life of a scope is meant: of a session scope the life of its session ([`super::session::SessionRecord::life`]), else `None`.
/// Variables of another life are not there, so that a session whose id is used again inherits nothing.
pub type ScopeLife = Option<Version>;

/// What a client writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableDocument {
    /// The value's bytes as they came in.
    pub value: Arc<str>,
    /// What the variable is for, in the client's words.
    pub description: Option<String>,
    /// When the variable is gone.
    pub expiry: Expiry,
}

/// When a variable that is written will be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// These seconds from now on.
    In(i64),
    /// As before; a new variable: never. Only with [`Expected::Exactly`](super::version::Expected::Exactly).
    Unchanged,
}

/// A request body, read: the document, and whether the value is to be kept encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableInput {
    /// The value; absent when the member was.
    pub value: Option<Arc<str>>,
    /// The member `secret`.
    pub secret: Option<bool>,
    /// The member `description`.
    pub description: Option<String>,
    /// The member `ttl_seconds`.
    pub ttl_seconds: Option<i64>,
}

impl VariableInput {
    /// Reads a validated request body.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, Vec<Fault>> {
        let mut object = Object::read(body).map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        let value = object.take("value").map(Arc::from);
        let secret = object.read_member("secret", document::boolean, &mut faults);
        let description = object.read_member("description", |raw| document::text(raw, MAX_DESCRIPTION_BYTES), &mut faults);
        let ttl_seconds = object.read_member("ttl_seconds", parse_ttl_seconds, &mut faults);
        faults.extend(object.unknown());
        if faults.is_empty() { Ok(Self { value, secret, description, ttl_seconds }) } else { Err(faults) }
    }
}

/// Reads a time to live: an integer, 1 second to ten years.
///
/// # Errors
/// Another type, or out of range.
pub fn parse_ttl_seconds(raw: &str) -> Result<i64, FaultKind> {
    if document::kind(raw) != Kind::Number || raw.contains(['.', 'e', 'E']) {
        return Err(FaultKind::InvalidType { expected: "an integer" });
    }
    match raw.parse::<i64>() {
        Ok(seconds @ 1..=MAX_TTL_SECONDS) => Ok(seconds),
        _ => Err(FaultKind::OutOfRange { minimum: 1, maximum: MAX_TTL_SECONDS }),
    }
}

/// A number to add to a variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Stays an integer as long as the variable is one.
    Integer(i64),
    /// Makes the variable a floating-point number.
    Float(f64),
}

/// Why a variable cannot be incremented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IncrementFault {
    /// The value is not a number.
    #[error("the value is not a number")]
    NotANumber,
    /// The sum is outside i64, or not a finite f64.
    #[error("the sum is out of range")]
    OutOfRange,
}

impl Number {
    /// Reads a validated number; integers outside i64 are refused.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub fn parse(raw: &str) -> Result<Self, FaultKind> {
        if document::kind(raw) != Kind::Number {
            return Err(FaultKind::InvalidType { expected: "a number" });
        }
        if raw.contains(['.', 'e', 'E']) {
            return raw.parse().map(Self::Float).map_err(|_| FaultKind::NumberOutOfRange);
        }
        raw.parse().map(Self::Integer).map_err(|_| FaultKind::OutOfRange { minimum: i64::MIN, maximum: i64::MAX })
    }

    /// The text of the sum of a validated value and this number; `None` as value: the variable is absent.
    ///
    /// # Errors
    /// The value is not a number, or the sum does not fit.
    pub fn add_to(self, value: Option<&str>) -> Result<String, IncrementFault> {
        let value = match value {
            None => Self::Integer(0),
            Some(raw) if document::kind(raw) == Kind::Number => Self::parse(raw).map_err(|_| IncrementFault::OutOfRange)?,
            Some(_) => return Err(IncrementFault::NotANumber),
        };
        match (value, self) {
            (Self::Integer(value), Self::Integer(by)) => value.checked_add(by).map(|sum| sum.to_string()).ok_or(IncrementFault::OutOfRange),
            (value, by) => {
                let sum = value.as_f64() + by.as_f64();
                serde_json::Number::from_f64(sum).map(|sum| sum.to_string()).ok_or(IncrementFault::OutOfRange)
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum with a floating-point number is one")]
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// A variable, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableRecord {
    /// Which variable.
    pub key: VariableKey,
    /// The version.
    pub version: Version,
    /// The value's bytes; of a secret what is kept of it, which is never shown.
    pub value: Arc<str>,
    /// Whether the value is secret.
    pub secret: bool,
    /// What it is for.
    pub description: Option<String>,
    /// When this life of the variable began.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
    /// Who wrote it.
    pub updated_by: String,
    /// When it will be gone.
    pub expires_at: Option<Timestamp>,
}

impl VariableRecord {
    /// The seconds that it had to live when this version was written, rounded up: those that were asked for, until an increment or a
    /// batch, which leave the clock alone, makes them fewer.
    #[must_use]
    pub fn ttl_seconds(&self) -> Option<i64> {
        let microseconds = self.expires_at?.as_microseconds().saturating_sub(self.updated_at.as_microseconds());
        Some(microseconds.saturating_add(999_999).div_euclid(1_000_000).clamp(1, MAX_TTL_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_split_at_its_first_colon() {
        let me = UserId::parse("f:1:ada").unwrap();
        assert_eq!(Scope::parse("user:f:1:ada", &me), Ok(Scope::User(me.clone())));
        assert_eq!(Scope::parse("user:me", &me), Ok(Scope::User(me.clone())));
        assert_eq!(Scope::parse("global", &me).map(|scope| scope.to_string()), Ok("global".into()));
        for bad in ["", "Global", "global:", "global:x", "workflow", "tenant:x", ":", "user"] {
            assert_eq!(Scope::parse(bad, &me), Err(InvalidScope::UnknownKind), "{bad}");
        }
        for bad in ["workflow:", "workflow:..", "workflow:a:b", "session:a/b", "user:", "user:a\n"] {
            assert!(matches!(Scope::parse(bad, &me), Err(InvalidScope::InvalidId(_))), "{bad}");
        }
    }

    #[test]
    fn a_body_is_read_member_by_member() {
        let input = VariableInput::parse(r#"{"value": [1, 2.50] ,"ttl_seconds":60}"#).unwrap();
        assert_eq!((input.value.as_deref(), input.ttl_seconds), (Some("[1, 2.50]"), Some(60)));
        assert_eq!(VariableInput::parse(r#"{"value":null}"#).unwrap().value.as_deref(), Some("null"));
        for bad in [
            r#"{"value":1,"ttl_seconds":0}"#,
            r#"{"value":1,"ttl_seconds":315360001}"#,
            r#"{"secret":"yes"}"#,
            r#"{"description":1}"#,
            r#"{"owner":1}"#,
            "1",
        ] {
            assert_eq!(VariableInput::parse(bad).unwrap_err().len(), 1, "{bad}");
        }
    }

    #[test]
    fn integers_stay_integers_and_nothing_wraps() {
        let add = |value: &str, by: &str| Number::parse(by).unwrap().add_to(Some(value));
        assert_eq!(Number::Integer(5).add_to(None).as_deref(), Ok("5"));
        assert_eq!(add("41", "1").as_deref(), Ok("42"));
        assert_eq!(add("-0", "-3").as_deref(), Ok("-3"));
        assert_eq!(add("1", "0.5").as_deref(), Ok("1.5"));
        assert_eq!(add("1.5", "1").as_deref(), Ok("2.5"));
        assert_eq!(add("9223372036854775807", "1"), Err(IncrementFault::OutOfRange));
        assert_eq!(add("18446744073709551615", "-1"), Err(IncrementFault::OutOfRange));
        assert_eq!(add("1e308", "1e308"), Err(IncrementFault::OutOfRange));
        for text in ["\"1\"", "null", "true", "[1]", "{}"] {
            assert_eq!(add(text, "1"), Err(IncrementFault::NotANumber), "{text}");
        }
    }
}
