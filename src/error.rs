//! The one error of the services: what went wrong, under a stable code, in words for the client; and, apart from that, its cause for
//! the log.
//!
//! **Adding a code:** add a line to the table below: name, status, title, whether a retry is safe, what it means, what a client does. Its page
//! and docs/errors.md (`make docs`) come from it; the operations that can answer it name it in their declaration (`http/routes`), and the API
//! document follows.

use std::fmt;

use crate::domain::document::{Fault, FaultKind, MAX_FAULTS};
use crate::domain::tier::Source;
use crate::domain::version::Version;

pub use crate::domain::retry::Retry;

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:literal, $title:literal, $retry:ident, $meaning:literal, $action:literal;)*) => {
        /// A stable error code: the member `code` of a problem and the last segment of its `type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All codes, by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it is sent.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// One line that is the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What a client does about it.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action),* }
            }

            /// Whether it may send the request again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry),* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", 400, "The request is not HTTP", Changed, "The request line or a header is malformed, the body has two lengths, its chunks are malformed, or it broke off on its way. The connection is closed.", "Correct the client or the proxy before it.";
    InvalidJson = "invalid_json", 400, "The body is not valid JSON", Changed, "The body is not one JSON value in UTF-8 without a byte order mark, and the detail names the byte at which the parser stopped.", "Send valid JSON.";
    DuplicateMember = "duplicate_member", 400, "An object names a member twice", Changed, "Two readers of such an object may see two values, so it is refused.", "Send each member once.";
    NulNotAllowed = "nul_not_allowed", 400, "A string holds the character U+0000", Changed, "The character cannot be stored.", "Remove it.";
    LoneSurrogate = "lone_surrogate", 400, "A string holds half of a surrogate pair", Changed, "A \\u escape between D800 and DFFF means a character only as part of a pair.", "Send the pair or the character itself.";
    UnknownMember = "unknown_member", 400, "The body has a member that the resource does not have", Changed, "The pointer names it. Members that the server sets (versions, times, owners) cannot be written.", "Leave it out, or correct its name.";
    InvalidId = "invalid_id", 400, "An id does not follow its grammar", Changed, "Ids are 1 to 128 characters of A-Z a-z 0-9 . _ ~ - and neither . nor .. are ids.", "Send another id.";
    InvalidName = "invalid_name", 400, "A name does not follow its grammar", Changed, "Names are 1 to 256 bytes of UTF-8 without control, bidirectional-control and zero-width characters; . and .. are not names.", "Send another name. In a path, / travels as %2F.";
    InvalidScope = "invalid_scope", 400, "The scope does not follow its grammar", Changed, "A scope is global, workflow:ID, session:ID, user:ID or user:me.", "Send one of these.";
    InvalidParameter = "invalid_parameter", 400, "A query parameter has an impossible value", Changed, "The detail names the parameter and what it may be.", "Correct the parameter.";
    InvalidCursor = "invalid_cursor", 400, "The cursor does not belong to this list", Changed, "A cursor fits the list, filter and tenant that it came from.", "Start again without a cursor.";
    InvalidEtag = "invalid_etag", 400, "If-Match or If-None-Match cannot be read", Changed, "An entity tag is \"VERSION\" or W/\"VERSION\".", "Send a tag as the header ETag had it, a list of them, or *.";
    InvalidHeader = "invalid_header", 400, "A request header has an impossible value", Changed, "The detail names the header and what it may be.", "Correct the header.";
    PreconditionNotAllowed = "precondition_not_allowed", 400, "A precondition makes no sense here", Changed, "The operation changes no single resource, so If-Match and If-None-Match cannot guard it.", "Leave the header out; a batch takes if_versions.";
    DuplicateName = "duplicate_name", 400, "A name is there twice", Changed, "A batch sets or deletes each name once.", "Send each name once.";
    InvalidPath = "invalid_path", 400, "The path is not percent-encoded UTF-8", Changed, "A path is UTF-8, percent-encoded.", "Encode each segment of the path by itself.";
    TokenMissing = "token_missing", 401, "No bearer token", Changed, "The request has no header Authorization with a bearer token.", "Send Authorization: Bearer TOKEN, once.";
    TokenInvalid = "token_invalid", 401, "The token is not accepted", Changed, "The detail says which check of the token failed.", "Get an access token of a configured issuer, for this server's audience. For the operator: nworkflow-state doctor --token-file FILE shows every check.";
    TokenExpired = "token_expired", 401, "The token has expired", Changed, "The time in the token's claim exp has passed.", "Get a new token and send the request again.";
    TenantMissing = "tenant_missing", 401, "The token names no tenant", Changed, "The token is good, but names no tenant: the detail says where it was looked for.", "Have the issuer put the tenant into the token.";
    PermissionMissing = "permission_missing", 403, "A permission is missing", Changed, "The detail names the permission. Roles that hold it are configured under auth.roles.", "Ask for a role that holds it, and get a new token.";
    TenantForbidden = "tenant_forbidden", 403, "The token does not belong to the tenant", Changed, "X-Tenant-Id only selects among the organizations that the token names.", "Leave the header out, or name one of them.";
    RouteNotFound = "route_not_found", 404, "No such route", Changed, "No route of the server has this path.", "Look the path up in the document at /openapi.json.";
    StateNotFound = "state_not_found", 404, "No such state", Changed, "The execution has no state: it was never saved, or was deleted.", "Save it, or go on without it.";
    VersionNotFound = "version_not_found", 404, "No such version", Changed, "The state never had this version, the version is a deletion, or it is no longer kept.", "Ask the history which versions there are.";
    ExecutionNotFound = "execution_not_found", 404, "No such execution", Changed, "The execution has no state, no history and no checkpoint.", "Correct the ids, or go on without it.";
    CheckpointNotFound = "checkpoint_not_found", 404, "No such checkpoint", Changed, "The execution has no checkpoint of this id.", "Ask the list of checkpoints which there are.";
    VariableNotFound = "variable_not_found", 404, "No such variable", Changed, "The scope has no variable of this name, or none that you may see.", "Set it, or go on without it.";
    SessionNotFound = "session_not_found", 404, "No such session", Changed, "The session does not exist, has expired, or is not yours; which of these is not told.", "Begin a new session.";
    ScopeNotFound = "scope_not_found", 404, "No such scope", Changed, "The scope does not exist or is not yours; which of these is not told.", "Correct the scope.";
    ErrorNotFound = "error_not_found", 404, "No such error code", Changed, "There is no error code of this name.", "The index at /errors lists all codes.";
    MethodNotAllowed = "method_not_allowed", 405, "The route does not have this method", Changed, "The header Allow lists the methods of the route.", "Use one of them.";
    BodyTimeout = "body_timeout", 408, "The body did not arrive in time", Safe, "The body was announced and did not come within the server's time. Nothing was written.", "Send the whole body at once.";
    Conflict = "conflict", 409, "Other writers were quicker each time", Safe, "A patch without If-Match was tried five times, and each time another writer had changed the resource meanwhile. Nothing was written.", "Send it again, after a pause that grows and varies.";
    CheckpointExists = "checkpoint_exists", 409, "The checkpoint id is taken", Changed, "The execution has a checkpoint of this id, and checkpoints do not change.", "Choose another id, or let the server make one.";
    ExecutionExists = "execution_exists", 409, "The execution exists", Changed, "A fork begins a new execution, and this one has a state, a history or a checkpoint.", "Choose another id.";
    SessionExists = "session_exists", 409, "The session id is taken", Changed, "A live session has this id.", "Choose another id, or let the server make one.";
    PatchTestFailed = "patch_test_failed", 409, "A test of the patch failed", AfterReading, "The detail names the operation of the patch. Nothing was written.", "Read the resource again and decide anew.";
    NotANumber = "not_a_number", 409, "The variable is not a number", Changed, "Only a variable whose value is a number can be incremented.", "Set it to a number first.";
    IdempotencyInFlight = "idempotency_in_flight", 409, "A request with this Idempotency-Key is still running", Safe, "A request with the same key is at work, and this one waited for it in vain.", "Send the same request again after the time in Retry-After: it is answered as the first one was.";
    PreconditionFailed = "precondition_failed", 412, "The precondition failed", AfterReading, "The member current_version is the version that the resource has; it is absent when the resource is. Nothing was written.", "Read the resource again, make the change on what it is now, and send that with its new entity tag.";
    VersionNotReached = "version_not_reached", 412, "The store has no such recent version", Safe, "X-Min-Version asks for a version that the store does not have. It was never written here, or not yet.", "Send it again a moment later; when it stays, the version comes from another store.";
    BodyTooLarge = "body_too_large", 413, "The body is too large", Changed, "The member limit is the greatest size in bytes.", "Send less, or have the operator raise the limit.";
    UriTooLong = "uri_too_long", 414, "The path and query are too long", Changed, "The member limit, where it is there, is the greatest size in bytes.", "Send fewer or shorter parameters.";
    UnsupportedMediaType = "unsupported_media_type", 415, "The media type is not supported", Changed, "Bodies are application/json in UTF-8, without Content-Encoding; the header Accept-Patch lists the media types of patches.", "Send one of these.";
    InvalidType = "invalid_type", 422, "A member has the wrong type", Changed, "The pointer names the member and the detail the type.", "Send a value of this type.";
    InvalidValue = "invalid_value", 422, "A member has an impossible value", Changed, "The pointer names the member and the detail what it may be.", "Send one of the possible values.";
    OutOfRange = "out_of_range", 422, "A number is out of range", Changed, "The pointer names the member and the detail its range.", "Send a number within it.";
    NumberOutOfRange = "number_out_of_range", 422, "A number cannot be represented", Changed, "Integers fit i64 or u64, other numbers f64: a reader would silently change anything else.", "Send such a number as a string.";
    MissingMember = "missing_member", 422, "A required member is missing", Changed, "The pointer names it.", "Send the member.";
    DocumentTooDeep = "document_too_deep", 422, "The document nests too deep", Changed, "The member limit is the greatest depth.", "Send a flatter document.";
    TooManyElements = "too_many_elements", 422, "An array or object has too many elements", Changed, "The pointer names it; the member limit is the greatest number.", "Send fewer, in several requests where that is possible.";
    TextTooLong = "text_too_long", 422, "A text is too long", Changed, "The pointer names it; the member limit is the greatest size in bytes of UTF-8.", "Send a shorter text.";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The Idempotency-Key was used for another request", Changed, "A key stands for one request: method, path, query, content type, preconditions and body. This request differs from the one that the key was used for in the last 24 hours.", "Use a new key for each new request.";
    SecretsNotConfigured = "secrets_not_configured", 422, "Secret variables are not configured", Changed, "The server has no encryption key, or its version does not use one yet, so it refuses to keep secrets.", "Keep the value elsewhere, and ask the operator.";
    PatchNotApplicable = "patch_not_applicable", 422, "The patch cannot be applied", Changed, "The detail names the operation of the patch and why. Nothing was written.", "Read the resource and correct the patch.";
    PatchTooCostly = "patch_too_costly", 422, "The patch takes too much work", Changed, "Its operations look at, move or read more, or take more memory, than a patch and a document of these sizes may: the member limit is the greatest number of steps or of bytes, as the detail says. Nothing was written.", "Send it as several patches, with fewer operations on large arrays and fewer copies, or put the whole document.";
    TooManyRequests = "too_many_requests", 429, "The tenant sends too many requests", Safe, "The tenant has as many requests at work as one tenant may have, or sends more of them each second: the detail says which, the member limit how many. Nothing was written.", "Send it again after the time in Retry-After, then with pauses that grow and vary; or send fewer at the same time.";
    HeadersTooLarge = "headers_too_large", 431, "The request headers are too large", Changed, "The member limit, where it is there, is the greatest size in bytes of all headers together, or their greatest number: the detail says which.", "Send fewer or shorter headers; a token that is too long needs fewer roles in it.";
    Internal = "internal", 500, "Something went wrong in the server", WithKey, "The server has a defect, or its surroundings have. A write may have happened.", "Send it again, a write with the same Idempotency-Key; if it stays, tell the operator the request id.";
    StoreUnavailable = "store_unavailable", 503, "The database does not answer", Safe, "The database does not answer. Nothing was written.", "Send it again after the time in Retry-After, then with pauses that grow and vary.";
    CacheUnavailable = "cache_unavailable", 503, "The second cache tier does not answer", Safe, "The server is configured (dragonfly.strict) to refuse writes of which it cannot tell the cache that all servers share. Nothing was written.", "Send it again after the time in Retry-After, then with pauses that grow and vary.";
    OutcomeUnknown = "outcome_unknown", 503, "It is unknown whether the write happened", WithKey, "The connection to the database broke during the commit: whether the write happened is not known.", "Send it again with the same Idempotency-Key, or read the resource.";
    Overloaded = "overloaded", 503, "The server has too much to do", Safe, "The server has too much to do. Nothing was written.", "Send it again after the time in Retry-After, then with pauses that grow and vary.";
    QueueFull = "queue_full", 503, "Too many requests wait for the database", Safe, "More requests wait for the database than may. This one was not begun.", "Send it again after the time in Retry-After, then with pauses that grow and vary.";
    ShuttingDown = "shutting_down", 503, "The server is shutting down", Safe, "The server was told to stop. Only /health/ready says so, that new requests go elsewhere: others are still answered for server.stop_delay_ms, and those at work are brought to their end.", "Send requests to another server, or to this one when it is ready again.";
    DeadlineExceeded = "deadline_exceeded", 504, "The deadline passed", WithKey, "A read had no effect; a write may still complete.", "Send it again with the same Idempotency-Key, or read the resource.";
}

impl Code {
    /// The code of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

/// One of several things that are wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// RFC 6901 pointer in URI fragment form.
    pub pointer: String,
    /// The code of this one.
    pub code: Code,
    /// In words.
    pub detail: String,
}

/// What a service or the edge answers instead of a result.
///
/// `detail` and the members beside it go to the client; `cause` goes to the log and nowhere else.
#[derive(Debug)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// This occurrence in words, for the client. Never holds a value of a document, a token or an internal name.
    pub detail: String,
    /// The faults of a document, one by one.
    pub errors: Vec<FieldError>,
    /// The version that the resource has, for a failed precondition.
    pub current_version: Option<Version>,
    /// The limit that was passed.
    pub limit: Option<u64>,
    /// Seconds after which a retry makes sense.
    pub retry_after_seconds: Option<u32>,
    /// Where a read found that there is nothing, or not what was asked for.
    pub source: Option<Source>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its detail.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_seconds = matches!(code.status(), 429 | 503).then_some(1);
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            current_version: None,
            limit: None,
            retry_after_seconds,
            source: None,
            cause: None,
        }
    }

    /// A failed precondition on a resource that has this version, or none.
    #[must_use]
    pub fn precondition_failed(current: Option<Version>) -> Self {
        let detail = match current {
            Some(version) => format!("The resource has version {version}."),
            None => "The resource does not exist.".to_owned(),
        };
        Self { current_version: current, ..Self::new(Code::PreconditionFailed, detail) }
    }

    /// Adds the limit that was passed.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Adds the seconds after which a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds where a read found this, for the answer's header.
    #[must_use]
    pub fn with_source(mut self, source: Option<Source>) -> Self {
        self.source = source;
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same error once more, for several who waited for one answer. Its cause is kept as text.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self {
            code: self.code,
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            current_version: self.current_version,
            limit: self.limit,
            retry_after_seconds: self.retry_after_seconds,
            source: self.source,
            cause: None,
        };
        match self.cause() {
            Some(cause) => copy.with_cause(cause),
            None => copy,
        }
    }

    /// The private cause with all its sources, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let mut cause: &dyn std::error::Error = self.cause.as_deref()?;
        let mut text = cause.to_string();
        while let Some(source) = cause.source() {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source;
        }
        Some(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl std::error::Error for Error {}

fn code_of(kind: &FaultKind) -> Code {
    match kind {
        FaultKind::Syntax { .. } => Code::InvalidJson,
        FaultKind::DuplicateMember => Code::DuplicateMember,
        FaultKind::NulNotAllowed => Code::NulNotAllowed,
        FaultKind::LoneSurrogate => Code::LoneSurrogate,
        FaultKind::TooDeep { .. } => Code::DocumentTooDeep,
        FaultKind::NumberOutOfRange => Code::NumberOutOfRange,
        FaultKind::UnknownMember => Code::UnknownMember,
        FaultKind::MissingMember => Code::MissingMember,
        FaultKind::InvalidType { .. } => Code::InvalidType,
        FaultKind::OutOfRange { .. } => Code::OutOfRange,
        FaultKind::InvalidName(_) => Code::InvalidName,
        FaultKind::InvalidId(_) => Code::InvalidId,
        FaultKind::InvalidValue { .. } => Code::InvalidValue,
        FaultKind::TooMany { .. } => Code::TooManyElements,
        FaultKind::TooLong { .. } => Code::TextTooLong,
    }
}

fn limit_of(kind: &FaultKind) -> Option<u64> {
    match kind {
        FaultKind::TooDeep { limit } | FaultKind::TooMany { limit } | FaultKind::TooLong { limit } => u64::try_from(*limit).ok(),
        _ => None,
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        vec![fault].into()
    }
}

impl From<Vec<Fault>> for Error {
    /// The faults as one error, at most 20 of them: under the code of the first that is syntax (400), else of the first.
    fn from(faults: Vec<Fault>) -> Self {
        let leading = faults.iter().find(|fault| code_of(&fault.kind).status() == 400).or(faults.first());
        let Some(leading) = leading else { return Self::new(Code::InvalidJson, "The body cannot be read.") };
        let subject = if leading.pointer == "#" { "The body" } else { leading.pointer.as_str() };
        let mut error = Self::new(code_of(&leading.kind), format!("{subject} {}.", leading.kind));
        error.limit = limit_of(&leading.kind);
        error.errors = faults
            .iter()
            .take(MAX_FAULTS)
            .map(|fault| FieldError { pointer: fault.pointer.clone(), code: code_of(&fault.kind), detail: fault.kind.to_string() })
            .collect();
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted_by_status() {
        let names: std::collections::HashSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.') && code.action().ends_with('.') && !code.title().ends_with('.')));
    }

    #[test]
    fn the_cause_stays_private() {
        let error = Error::new(Code::Internal, "Something went wrong.").with_cause("the secret word");
        assert!(!error.to_string().contains("secret word"));
        assert_eq!(error.cause().as_deref(), Some("the secret word"));
    }

    #[test]
    fn syntax_leads_over_meaning() {
        let faults = vec![Fault::member("marking", FaultKind::MissingMember), Fault::member("x", FaultKind::UnknownMember)];
        let error = Error::from(faults);
        assert_eq!((error.code, error.errors.len()), (Code::UnknownMember, 2));
    }
}
