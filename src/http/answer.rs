//! Answers: representations with their headers.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::conditional::etag;
use super::extract::ReadHeaders;
use crate::domain::version::Version;
use crate::error::{Code, Error, Result};
use crate::service::Done;

/// What a path segment keeps as it is: the unreserved characters of RFC 3986, and the colon of scopes.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A path of these segments, percent-encoded.
pub(super) fn path(segments: &[&str]) -> String {
    segments.iter().fold(String::new(), |mut path, segment| {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
        path
    })
}

/// Stored JSON text as it is, inside a representation.
///
/// # Errors
/// The store holds something else.
pub(super) fn raw(text: &str) -> Result<&RawValue> {
    serde_json::from_str(text).map_err(|error| Error::new(Code::Internal, "Something went wrong in the server.").with_cause(error))
}

/// A 200 with a JSON representation.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn json(representation: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(representation)
        .map_err(|error| Error::new(Code::Internal, "Something went wrong in the server.").with_cause(error))?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// A list or another read without an entity tag.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn list(representation: &impl Serialize) -> Result<Response> {
    let mut response = json(representation)?;
    read_headers(response.headers_mut(), false);
    Ok(response)
}

/// What a read found. `If-Match` on a resource that is not there fails: 412 instead of 404.
///
/// # Errors
/// Nothing was found, or the precondition failed.
pub(super) fn found<R>(headers: &ReadHeaders, result: Result<R>) -> Result<R> {
    result.map_err(|error| {
        let is_absent = error.code.status() == 404 && headers.precondition.if_match.is_some();
        if is_absent { Error::precondition_failed(None) } else { error }
    })
}

/// One resource that was read: 200, 304 when the client has it, 412 when `If-Match` names another version.
///
/// # Errors
/// The precondition failed, or the representation does not serialise.
pub(super) fn read(headers: &ReadHeaders, version: Version, representation: &impl Serialize) -> Result<Response> {
    if headers.freshness.min_version.is_some_and(|wanted| version < wanted) {
        let mut error = Error::new(Code::VersionNotReached, "The version is older than X-Min-Version.");
        error.current_version = Some(version);
        return Err(error);
    }
    let precondition = &headers.precondition;
    let only_if_match = crate::domain::version::Precondition { if_match: precondition.if_match.clone(), if_none_match: None };
    if !only_if_match.is_met_by(Some(version)) {
        return Err(Error::precondition_failed(Some(version)));
    }
    let mut response = if precondition.is_met_by(Some(version)) { json(representation)? } else { StatusCode::NOT_MODIFIED.into_response() };
    read_headers(response.headers_mut(), headers.freshness.from_store);
    response.headers_mut().insert(ETAG, etag(version));
    Ok(response)
}

/// Headers of every read. Without a cache tier each one goes to the store: asked for, or for want of a cached copy.
fn read_headers(headers: &mut HeaderMap, bypass: bool) {
    let status = if bypass { "nworkflow-store; fwd=bypass" } else { "nworkflow-store; fwd=miss" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert("cache-status", HeaderValue::from_static(status));
}

/// The answer to a write: its status with the representation, or 204 when the client wants none or there is none.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn written<'done, R, V: Serialize>(
    done: &'done Done<R>,
    minimal: Option<bool>,
    location: &str,
    representation: impl FnOnce(&'done R) -> Result<V>,
) -> Result<Response> {
    let status = StatusCode::from_u16(done.status).unwrap_or(StatusCode::OK);
    let mut response = match &done.record {
        Some(_) if minimal == Some(true) => StatusCode::NO_CONTENT.into_response(),
        Some(record) => {
            let mut response = json(&representation(record)?)?;
            *response.status_mut() = status;
            response
        }
        None => status.into_response(),
    };
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(ETAG, etag(done.version));
        if let Some(minimal) = minimal {
            headers
                .insert("preference-applied", HeaderValue::from_static(if minimal { "return=minimal" } else { "return=representation" }));
        }
    }
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(location)
    {
        headers.insert(LOCATION, location);
    }
    if done.replayed {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}
