//! The state of an execution: a marking with its status and metadata, and the history of its versions.

use std::sync::Arc;

use super::clock::Timestamp;
use super::document::{self, Fault, FaultKind, Kind, Object};
use super::id::{ExecutionId, WorkflowId};
use super::marking;
use super::version::Version;

/// Longest status, in bytes.
pub const MAX_STATUS_BYTES: usize = 32;
/// The grammar of a status.
pub const STATUS_GRAMMAR: &str = "[a-z][a-z_]{0,31}";

/// Names one execution's state within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateKey {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The execution of it.
    pub execution: ExecutionId,
}

/// What a client writes: the marking and what goes with it, as one JSON text.
///
/// The text is the *write representation* with its defaults filled in, `{"marking":...,"status":...,"metadata":...,"schema_version":...}`;
/// marking and metadata hold the very bytes that came in. It is what the stores keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDocument {
    text: Arc<str>,
    status: Arc<str>,
    schema_version: i32,
}

/// The parts of a [`StateDocument`], borrowed from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateParts<'a> {
    /// The marking's bytes.
    pub marking: &'a str,
    /// The metadata's bytes.
    pub metadata: &'a str,
}

impl StateDocument {
    /// Reads a validated request body.
    ///
    /// # Errors
    /// Everything that is wrong with it: missing and unknown members, wrong types, ranges, names.
    pub fn parse(body: &str) -> Result<Self, Vec<Fault>> {
        let mut object = Object::read(body).map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        let marking = object.take("marking");
        match marking {
            Some(marking) => faults.extend(marking::check(marking).err().unwrap_or_default()),
            None => faults.push(Fault::member("marking", FaultKind::MissingMember)),
        }
        let status = match object.take("status").map(parse_status).unwrap_or(Ok("running".into())) {
            Ok(status) => status,
            Err(kind) => {
                faults.push(Fault::member("status", kind));
                String::new()
            }
        };
        let metadata = object.take("metadata").unwrap_or("{}");
        if document::kind(metadata) != Kind::Object {
            faults.push(Fault::member("metadata", FaultKind::InvalidType { expected: "an object" }));
        }
        let schema_version = match object.take("schema_version").map_or(Ok(1), parse_schema_version) {
            Ok(schema_version) => schema_version,
            Err(kind) => {
                faults.push(Fault::member("schema_version", kind));
                1
            }
        };
        faults.extend(object.unknown());
        match marking {
            Some(marking) if faults.is_empty() => Ok(Self::compose(marking, &status, metadata, schema_version)),
            _ => Err(faults),
        }
    }

    /// The document of a net without tokens.
    #[must_use]
    pub fn empty() -> Self {
        Self::compose("{}", "running", "{}", 1)
    }

    fn compose(marking: &str, status: &str, metadata: &str, schema_version: i32) -> Self {
        let schema_version_text = schema_version.to_string();
        // Of the exact size at once: it may be large.
        let text = [
            r#"{"marking":"#,
            marking,
            r#","status":""#,
            status,
            r#"","metadata":"#,
            metadata,
            r#","schema_version":"#,
            &schema_version_text,
            "}",
        ]
        .concat();
        Self { text: text.into(), status: status.into(), schema_version }
    }

    /// Reads what a store kept. `None` when the text is not a write representation: the row is corrupt.
    #[must_use]
    pub fn from_stored(text: String) -> Option<Self> {
        if document::kind(&text) != Kind::Object {
            return None;
        }
        let mut object = Object::read(&text).ok()?;
        object.take("marking")?;
        object.take("metadata")?;
        let status = parse_status(object.take("status")?).ok()?;
        let schema_version = parse_schema_version(object.take("schema_version")?).ok()?;
        Some(Self { status: status.into(), schema_version, text: text.into() })
    }

    /// The write representation.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The write representation, shared: for whoever would copy it otherwise.
    #[must_use]
    pub fn shared_text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The status word.
    #[must_use]
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The version of the schema that the marking and metadata follow, as the client counts it.
    #[must_use]
    pub fn schema_version(&self) -> i32 {
        self.schema_version
    }

    /// Marking and metadata.
    #[must_use]
    pub fn parts(&self) -> StateParts<'_> {
        let mut parts = StateParts { marking: "{}", metadata: "{}" };
        for (name, value) in document::members(&self.text) {
            match &*name {
                "marking" => parts.marking = value,
                "metadata" => parts.metadata = value,
                _ => {}
            }
        }
        parts
    }
}

/// Whether a text is a status word.
#[must_use]
pub fn is_status(status: &str) -> bool {
    status.starts_with(|first: char| first.is_ascii_lowercase())
        && status.len() <= MAX_STATUS_BYTES
        && status.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn parse_status(raw: &str) -> Result<String, FaultKind> {
    if document::kind(raw) != Kind::String {
        return Err(FaultKind::InvalidType { expected: "a string" });
    }
    let status = document::unescape(raw);
    if is_status(&status) { Ok(status.into_owned()) } else { Err(FaultKind::InvalidValue { grammar: STATUS_GRAMMAR }) }
}

fn parse_schema_version(raw: &str) -> Result<i32, FaultKind> {
    if document::kind(raw) != Kind::Number || raw.contains(['.', 'e', 'E']) {
        return Err(FaultKind::InvalidType { expected: "an integer" });
    }
    match raw.parse::<i32>() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(FaultKind::OutOfRange { minimum: 1, maximum: i64::from(i32::MAX) }),
    }
}

/// One version of a state, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    /// Whose state it is.
    pub key: StateKey,
    /// The version.
    pub version: Version,
    /// Marking, status, metadata, schema version.
    pub document: StateDocument,
    /// When this life of the execution began.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
    /// Who wrote this version.
    pub updated_by: String,
    /// Where this execution was forked from.
    pub forked_from: Option<ForkedFrom>,
}

/// The origin of a forked execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkedFrom {
    /// Workflow of the origin.
    pub workflow: WorkflowId,
    /// Execution of the origin.
    pub execution: ExecutionId,
    /// Version of the origin that was copied.
    pub version: Option<Version>,
    /// Checkpoint of the origin that was copied.
    pub checkpoint: Option<String>,
}

/// What made a version. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Operation {
    /// A whole state was saved.
    Put = 1,
    /// A patch was applied.
    Patch = 2,
    /// A transition fired.
    Transition = 3,
    /// A checkpoint was restored.
    Restore = 4,
    /// The execution was forked from another.
    Fork = 5,
    /// An earlier version was made current again.
    Revert = 6,
    /// The state was deleted.
    Delete = 7,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 7] = [Self::Put, Self::Patch, Self::Transition, Self::Restore, Self::Fork, Self::Revert, Self::Delete];

    /// The operation that is stored as this number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| *operation as i16 == number)
    }

    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Transition => "transition",
            Self::Restore => "restore",
            Self::Fork => "fork",
            Self::Revert => "revert",
            Self::Delete => "delete",
        }
    }
}

/// What is known about a state at a moment in the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateAt {
    /// This version was in force.
    Live(StateRecord),
    /// The state was deleted then, or not yet there, or that version is no longer kept.
    Absent,
    /// The moment has not come yet by the store's clock.
    Future,
}

/// One execution in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionItem {
    /// Which execution.
    pub key: StateKey,
    /// Its version.
    pub version: Version,
    /// Its status.
    pub status: String,
    /// When its life began.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// In which order executions are listed, and where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionOrder {
    /// By id; behind this one.
    Id(Option<ExecutionId>),
    /// The newest hour of change first, stable within it; behind this place.
    Recent(Option<RecentPosition>),
}

/// A place in the list of executions by recent change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentPosition {
    /// The hour of the last change.
    pub listed_at: Timestamp,
    /// A number of the store's for the execution.
    pub incarnation: i64,
}

/// Which executions of a workflow to list. Deleted ones are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionQuery {
    /// Only of this status.
    pub status: Option<String>,
    /// Only written after this moment, exactly.
    pub updated_after: Option<Timestamp>,
    /// The order and where to begin.
    pub order: ExecutionOrder,
    /// Most items.
    pub limit: usize,
}

/// A page of executions; the position of its last item when the order is by recent change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionPage {
    /// The items.
    pub items: Vec<ExecutionItem>,
    /// Whether more follow.
    pub more: bool,
    /// The place of the last item, with [`ExecutionOrder::Recent`].
    pub position: Option<RecentPosition>,
}

/// Most versions, and most checkpoints, that the deletion of an execution counts, and most checkpoints that the observer is told of. It
/// removes all of them.
pub const MAX_COUNTED: i64 = 10_000;

/// What the deletion of an execution took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedExecution {
    /// The version of the deletion.
    pub version: Version,
    /// Versions in its history, counted up to [`MAX_COUNTED`].
    pub versions: i64,
    /// Its checkpoints, counted up to [`MAX_COUNTED`].
    pub checkpoints: i64,
}

/// One line of a state's history: a version without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// The version.
    pub version: Version,
    /// What made it.
    pub operation: Operation,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Status of the version; a delete keeps the last one.
    pub status: String,
    /// Bytes of the body; 0 for a delete.
    pub size: i64,
    /// The transition that fired, if one did.
    pub transition: Option<String>,
    /// The checkpoint that was restored or forked, if one was.
    pub checkpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in_and_bytes_kept() {
        let document = StateDocument::parse(r#"{"marking": {"p" : 1 , "q":[ 1.0,"\u0041"]}}"#).unwrap();
        assert_eq!(document.text(), r#"{"marking":{"p" : 1 , "q":[ 1.0,"\u0041"]},"status":"running","metadata":{},"schema_version":1}"#);
        assert_eq!(document.parts(), StateParts { marking: r#"{"p" : 1 , "q":[ 1.0,"\u0041"]}"#, metadata: "{}" });
        assert_eq!(StateDocument::from_stored(document.text().to_owned()), Some(document));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let faults = StateDocument::parse(r#"{"status":"Running","metadata":[],"schema_version":0,"version":3}"#).unwrap_err();
        let pointers: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["#/marking", "#/status", "#/metadata", "#/schema_version", "#/version"]);
        assert!(StateDocument::parse("[]").is_err());
        assert!(StateDocument::parse(r#"{"marking":{},"status":null}"#).is_err());
        assert!(StateDocument::parse(r#"{"marking":{},"schema_version":1.0}"#).is_err());
    }

    #[test]
    fn a_corrupt_row_is_seen() {
        assert_eq!(StateDocument::from_stored("[]".into()), None);
        assert_eq!(StateDocument::from_stored(r#"{"marking":{}}"#.into()), None);
    }
}
