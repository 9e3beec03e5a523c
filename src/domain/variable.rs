//! Variables: a JSON value under a name in one of four scopes.

use std::sync::Arc;

use super::clock::Timestamp;
use super::document::{self, Fault, FaultKind, Kind, Object};
use super::id::{InvalidIdentifier, SessionId, UserId, VariableName, WorkflowId};
use super::version::Version;

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

/// What a client writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableDocument {
    /// The value's bytes as they came in.
    pub value: Arc<str>,
    /// What the variable is for, in the client's words.
    pub description: Option<String>,
    /// Seconds until the variable is gone; `None`: it stays.
    pub ttl_seconds: Option<i64>,
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
        let secret = read_member(&mut object, "secret", parse_boolean, &mut faults);
        let description = read_member(&mut object, "description", parse_description, &mut faults);
        let ttl_seconds = read_member(&mut object, "ttl_seconds", parse_ttl_seconds, &mut faults);
        faults.extend(object.unknown());
        if faults.is_empty() { Ok(Self { value, secret, description, ttl_seconds }) } else { Err(faults) }
    }
}

fn read_member<T>(object: &mut Object<'_>, name: &str, parse: fn(&str) -> Result<T, FaultKind>, faults: &mut Vec<Fault>) -> Option<T> {
    match object.take(name).map(parse)? {
        Ok(value) => Some(value),
        Err(kind) => {
            faults.push(Fault::member(name, kind));
            None
        }
    }
}

fn parse_boolean(raw: &str) -> Result<bool, FaultKind> {
    match raw {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(FaultKind::InvalidType { expected: "a boolean" }),
    }
}

fn parse_description(raw: &str) -> Result<String, FaultKind> {
    if document::kind(raw) != Kind::String {
        return Err(FaultKind::InvalidType { expected: "a string" });
    }
    let text = document::unescape(raw);
    if text.len() > MAX_DESCRIPTION_BYTES { Err(FaultKind::TooLong { limit: MAX_DESCRIPTION_BYTES }) } else { Ok(text.into_owned()) }
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
}
