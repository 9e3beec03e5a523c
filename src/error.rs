//! The one error of the services: what went wrong, under a stable code, in words for the client; and, apart from that, its cause for
//! the log.
//!
//! **Adding a code:** add a line to the table below. Status, title and help page come from it; the operations that can answer it name
//! it in their declaration (`http/routes`), and the API document follows.

use std::fmt;

use crate::domain::document::{Fault, FaultKind, MAX_FAULTS};
use crate::domain::tier::Source;
use crate::domain::version::Version;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $title:literal, $help:literal;)*) => {
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

            /// What it means and what a client does about it.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", 400, "The request is not HTTP", "The request line or a header is malformed, or two headers disagree about the length of the body. The connection is closed.";
    InvalidJson = "invalid_json", 400, "The body is not valid JSON", "Send one JSON value in UTF-8 without a byte order mark. The detail names the byte at which the parser stopped.";
    DuplicateMember = "duplicate_member", 400, "An object names a member twice", "Two readers of such an object may see two values, so it is refused. Send each member once.";
    NulNotAllowed = "nul_not_allowed", 400, "A string holds the character U+0000", "The character cannot be stored. Remove it.";
    LoneSurrogate = "lone_surrogate", 400, "A string holds half of a surrogate pair", "A \\u escape between D800 and DFFF means a character only as part of a pair. Send the pair or the character itself.";
    UnknownMember = "unknown_member", 400, "The body has a member that the resource does not have", "The pointer names it. Members that the server sets (versions, times, owners) cannot be written.";
    InvalidId = "invalid_id", 400, "An id does not follow its grammar", "Ids are 1 to 128 characters of A-Z a-z 0-9 . _ ~ - and neither . nor .. are ids.";
    InvalidName = "invalid_name", 400, "A name does not follow its grammar", "Names are 1 to 256 bytes of UTF-8 without control, bidirectional-control and zero-width characters; . and .. are not names. In a path, / travels as %2F.";
    InvalidScope = "invalid_scope", 400, "The scope does not follow its grammar", "A scope is global, workflow:ID, session:ID, user:ID or user:me.";
    InvalidParameter = "invalid_parameter", 400, "A query parameter has an impossible value", "The detail names the parameter and what it may be.";
    InvalidCursor = "invalid_cursor", 400, "The cursor does not belong to this list", "A cursor fits the list, filter and tenant that it came from. Start again without a cursor.";
    InvalidEtag = "invalid_etag", 400, "If-Match or If-None-Match cannot be read", "Send \"VERSION\", W/\"VERSION\", a list of them, or *.";
    InvalidHeader = "invalid_header", 400, "A request header has an impossible value", "The detail names the header and what it may be.";
    PreconditionNotAllowed = "precondition_not_allowed", 400, "A precondition makes no sense here", "The operation changes no single resource, so If-Match and If-None-Match cannot guard it.";
    DuplicateName = "duplicate_name", 400, "A name is there twice", "A batch sets or deletes each name once.";
    InvalidPath = "invalid_path", 400, "The path is not percent-encoded UTF-8", "Encode each path segment as UTF-8, percent-encoded.";
    TokenMissing = "token_missing", 401, "No bearer token", "Send Authorization: Bearer TOKEN, once.";
    TokenInvalid = "token_invalid", 401, "The token is not accepted", "The detail says which check failed. Get a token of a configured issuer, for this server's audience.";
    TokenExpired = "token_expired", 401, "The token has expired", "Get a new token.";
    TenantMissing = "tenant_missing", 401, "The token names no tenant", "The issuer must put the tenant into the token: the detail says where it was looked for.";
    PermissionMissing = "permission_missing", 403, "A permission is missing", "The detail names the permission. Roles that hold it are configured under auth.roles.";
    TenantForbidden = "tenant_forbidden", 403, "The token does not belong to the tenant", "X-Tenant-Id only selects among the organizations that the token names.";
    RouteNotFound = "route_not_found", 404, "No such route", "The API document at /openapi.json lists all routes.";
    StateNotFound = "state_not_found", 404, "No such state", "The execution has no state: it was never saved, or was deleted.";
    VersionNotFound = "version_not_found", 404, "No such version", "The state never had this version, the version is a deletion, or it is no longer kept.";
    ExecutionNotFound = "execution_not_found", 404, "No such execution", "The execution has no state, no history and no checkpoint.";
    CheckpointNotFound = "checkpoint_not_found", 404, "No such checkpoint", "The execution has no checkpoint of this id.";
    VariableNotFound = "variable_not_found", 404, "No such variable", "The scope has no variable of this name, or none that you may see.";
    SessionNotFound = "session_not_found", 404, "No such session", "The session does not exist, has expired, or is not yours.";
    ScopeNotFound = "scope_not_found", 404, "No such scope", "The scope does not exist or is not yours.";
    ErrorNotFound = "error_not_found", 404, "No such error code", "The index at /errors lists all codes.";
    MethodNotAllowed = "method_not_allowed", 405, "The route does not have this method", "The header Allow lists the methods.";
    BodyTimeout = "body_timeout", 408, "The body did not arrive in time", "Send the whole body at once.";
    Conflict = "conflict", 409, "Other writers were quicker each time", "Read the resource again and retry.";
    CheckpointExists = "checkpoint_exists", 409, "The checkpoint id is taken", "Choose another id, or let the server make one.";
    ExecutionExists = "execution_exists", 409, "The execution exists", "A fork begins a new execution: choose an id that has no state, no history and no checkpoint.";
    SessionExists = "session_exists", 409, "The session id is taken", "Choose another id, or let the server make one.";
    PatchTestFailed = "patch_test_failed", 409, "A test of the patch failed", "The detail names the operation. Read the resource again and decide anew.";
    NotANumber = "not_a_number", 409, "The variable is not a number", "Only a variable whose value is a number can be incremented.";
    IdempotencyInFlight = "idempotency_in_flight", 409, "A request with this Idempotency-Key is still running", "Retry after the time in Retry-After.";
    PreconditionFailed = "precondition_failed", 412, "The precondition failed", "The member current_version is the version that the resource has; it is absent when the resource is.";
    VersionNotReached = "version_not_reached", 412, "The store has no such recent version", "X-Min-Version asks for a version that was never written here.";
    BodyTooLarge = "body_too_large", 413, "The body is too large", "The member limit is the greatest size in bytes.";
    UriTooLong = "uri_too_long", 414, "The path and query are too long", "The member limit is the greatest size in bytes.";
    UnsupportedMediaType = "unsupported_media_type", 415, "The media type is not supported", "Send application/json in UTF-8, without Content-Encoding.";
    InvalidType = "invalid_type", 422, "A member has the wrong type", "The pointer names the member and the detail the type.";
    InvalidValue = "invalid_value", 422, "A member has an impossible value", "The pointer names the member and the detail what it may be.";
    OutOfRange = "out_of_range", 422, "A number is out of range", "The pointer names the member and the detail its range.";
    NumberOutOfRange = "number_out_of_range", 422, "A number cannot be represented", "Integers fit i64 or u64, other numbers f64: a reader would silently change anything else. Send such a number as a string.";
    MissingMember = "missing_member", 422, "A required member is missing", "The pointer names it.";
    DocumentTooDeep = "document_too_deep", 422, "The document nests too deep", "The member limit is the greatest depth.";
    TooManyElements = "too_many_elements", 422, "An array or object has too many elements", "The pointer names it; the member limit is the greatest number.";
    TextTooLong = "text_too_long", 422, "A text is too long", "The pointer names it; the member limit is the greatest size in bytes of UTF-8.";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The Idempotency-Key was used for another request", "A key stands for one request: method, path, query, content type, preconditions and body. Use a new key.";
    SecretsNotConfigured = "secrets_not_configured", 422, "Secret variables are not configured", "The server has no encryption key, so it refuses to keep secrets.";
    PatchNotApplicable = "patch_not_applicable", 422, "The patch cannot be applied", "The detail names the operation and why. Nothing was changed.";
    HeadersTooLarge = "headers_too_large", 431, "The request headers are too large", "The member limit is the greatest size in bytes of all headers together.";
    Internal = "internal", 500, "Something went wrong in the server", "Retry; if it stays, tell the operator the request id.";
    StoreUnavailable = "store_unavailable", 503, "The database does not answer", "Nothing was written. Retry after the time in Retry-After.";
    OutcomeUnknown = "outcome_unknown", 503, "It is unknown whether the write happened", "The connection to the database broke during the commit. Send the request again with the same Idempotency-Key, or read the resource.";
    Overloaded = "overloaded", 503, "The server has too much to do", "Nothing was done. Retry after the time in Retry-After.";
    ShuttingDown = "shutting_down", 503, "The server is shutting down", "Nothing was done. Retry: another server answers.";
    DeadlineExceeded = "deadline_exceeded", 504, "The deadline passed", "A read had no effect; a write may still complete. Send it again with the same Idempotency-Key.";
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
        let retry_after_seconds = matches!(code.status(), 503).then_some(1);
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
        assert!(Code::ALL.iter().all(|code| code.help().ends_with('.') && !code.title().ends_with('.')));
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
