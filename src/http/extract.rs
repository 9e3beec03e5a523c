//! What handlers take from a request. Every rejection is an [`Error`], so it is answered like any other.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use uuid::Uuid;

use super::query::{self, Query, has_broken_escape};
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::id::{CheckpointId, ExecutionId, InvalidIdentifier, SessionId, VariableName, WorkflowId};
use crate::domain::principal::Principal;
use crate::domain::state::StateKey;
use crate::domain::variable::{InvalidScope, Scope, VariableKey};
use crate::domain::version::Version;
use crate::error::{Code, Error, Result};
use crate::service::Freshness;

/// The verified identity. The guard of the route put it there; without a guard there is none, and the request fails.
pub(super) struct Caller(pub(super) Arc<Principal>);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        caller(parts).map(Self)
    }
}

/// The verified identity of a request.
///
/// # Errors
/// The route has no guard.
pub(super) fn caller(parts: &Parts) -> Result<Arc<Principal>> {
    let principal = parts.extensions.get::<Arc<Principal>>();
    principal.cloned().ok_or_else(|| {
        Error::new(Code::Internal, "Something went wrong in the server.").with_cause("a route without a guard asked for its caller")
    })
}

/// The id of a request: as the client named it, for people, and as a UUID, for the change log.
#[derive(Debug, Clone)]
pub(super) struct RequestId {
    pub(super) text: Arc<str>,
    pub(super) uuid: Uuid,
}

/// The error for a text out of grammar, with the limit when it is too long.
fn invalid(code: Code, what: &str, error: InvalidIdentifier) -> Error {
    let refused = Error::new(code, format!("{what} {error}."));
    match error {
        InvalidIdentifier::TooLong(limit) => refused.with_limit(limit as u64),
        _ => refused,
    }
}

/// The parameters of the route's path, percent-decoded.
struct PathParameters(Vec<(String, String)>);

impl PathParameters {
    async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self> {
        let invalid = || Error::new(Code::InvalidPath, "A segment of the path is not percent-encoded UTF-8.");
        // The decoder would leave them as they are, and two readers would read two names.
        if has_broken_escape(parts.uri.path()) {
            return Err(invalid());
        }
        let parameters = RawPathParams::from_request_parts(parts, state).await.map_err(|_| invalid())?;
        Ok(Self(parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    fn id<T>(&self, name: &str, parse: fn(&str) -> std::result::Result<T, InvalidIdentifier>) -> Result<T> {
        parse(self.get(name)).map_err(|error| invalid(Code::InvalidId, name, error))
    }

    fn state_key(&self) -> Result<StateKey> {
        Ok(StateKey { workflow: self.id("workflow_id", WorkflowId::parse)?, execution: self.id("execution_id", ExecutionId::parse)? })
    }

    fn scope(&self, caller: &Principal) -> Result<Scope> {
        Scope::parse(self.get("scope"), &caller.subject).map_err(|error| match error {
            InvalidScope::InvalidId(error) => invalid(Code::InvalidScope, "the id of scope", error),
            InvalidScope::UnknownKind => Error::new(Code::InvalidScope, format!("scope {error}.")),
        })
    }
}

/// `{workflow_id}` and `{execution_id}`.
pub(super) struct StatePath(pub(super) StateKey);

impl<S: Send + Sync> FromRequestParts<S> for StatePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        PathParameters::read(parts, state).await?.state_key().map(Self)
    }
}

/// `{workflow_id}`.
pub(super) struct WorkflowPath(pub(super) WorkflowId);

impl<S: Send + Sync> FromRequestParts<S> for WorkflowPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        PathParameters::read(parts, state).await?.id("workflow_id", WorkflowId::parse).map(Self)
    }
}

/// `{workflow_id}`, `{execution_id}` and `{checkpoint_id}`.
pub(super) struct CheckpointPath(pub(super) CheckpointKey);

impl<S: Send + Sync> FromRequestParts<S> for CheckpointPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let parameters = PathParameters::read(parts, state).await?;
        let key = CheckpointKey { state: parameters.state_key()?, checkpoint: parameters.id("checkpoint_id", CheckpointId::parse)? };
        Ok(Self(key))
    }
}

/// `{session_id}`.
pub(super) struct SessionPath(pub(super) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        PathParameters::read(parts, state).await?.id("session_id", SessionId::parse).map(Self)
    }
}

/// `{workflow_id}`, `{execution_id}` and `{version}`.
pub(super) struct StateVersionPath(pub(super) StateKey, pub(super) Version);

impl<S: Send + Sync> FromRequestParts<S> for StateVersionPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let parameters = PathParameters::read(parts, state).await?;
        let key = parameters.state_key()?;
        let version = query::version(parameters.get("version"));
        let version = version
            .ok_or_else(|| Error::new(Code::InvalidParameter, format!("version must be an integer between 1 and {}.", Version::MAX)))?;
        Ok(Self(key, version))
    }
}

/// `{scope}`; `user:me` is the caller.
pub(super) struct ScopePath(pub(super) Scope);

impl<S: Send + Sync> FromRequestParts<S> for ScopePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let caller = caller(parts)?;
        PathParameters::read(parts, state).await?.scope(&caller).map(Self)
    }
}

/// `{scope}` and `{name}`.
pub(super) struct VariablePath(pub(super) VariableKey);

impl<S: Send + Sync> FromRequestParts<S> for VariablePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let caller = caller(parts)?;
        let parameters = PathParameters::read(parts, state).await?;
        let scope = parameters.scope(&caller)?;
        let name = VariableName::parse(parameters.get("name")).map_err(|error| invalid(Code::InvalidName, "name", error))?;
        Ok(Self(VariableKey { scope, name }))
    }
}

/// `{code}` of an error page.
pub(super) struct CodePath(pub(super) Code);

impl<S: Send + Sync> FromRequestParts<S> for CodePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let parameters = PathParameters::read(parts, state).await?;
        Code::from_name(parameters.get("code")).map(Self).ok_or_else(|| Error::new(Code::ErrorNotFound, "No such error code."))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// The headers of a conditional read.
pub(super) struct ReadHeaders {
    pub(super) freshness: Freshness,
    pub(super) precondition: crate::domain::version::Precondition,
}

impl<S: Sync> FromRequestParts<S> for ReadHeaders {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let headers = &parts.headers;
        let from_store = asks_store(headers);
        let min_version = match single_header(headers, "x-min-version")? {
            Some(text) => {
                let invalid =
                    || Error::new(Code::InvalidHeader, format!("X-Min-Version must be an integer between 1 and {}.", Version::MAX));
                Some(query::version(text).ok_or_else(invalid)?)
            }
            None => None,
        };
        Ok(Self { freshness: Freshness { from_store, min_version }, precondition: super::conditional::precondition(headers)? })
    }
}

/// Whether only the store's answer will do: `Cache-Control: no-cache` or `no-store`.
pub(super) fn asks_store(headers: &HeaderMap) -> bool {
    // Bytes, and not a text: whatever else is in the header, the directive counts.
    let mut directives = headers.get_all(CACHE_CONTROL).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    directives.any(|directive| {
        let directive = directive.trim_ascii();
        directive.eq_ignore_ascii_case(b"no-cache") || directive.eq_ignore_ascii_case(b"no-store")
    })
}

/// A header that may be there once, as visible ASCII.
///
/// # Errors
/// It is there twice or holds other bytes.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::new(Code::InvalidHeader, format!("The header {name} is there twice.")));
    }
    first.to_str().map(Some).map_err(|_| Error::new(Code::InvalidHeader, format!("The header {name} holds more than visible ASCII.")))
}
