//! Answers: representations with their headers.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http::header::{AGE, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::conditional::etag;
use super::extract::ReadHeaders;
use crate::domain::version::Precondition;
use crate::error::{Code, Error, Result};
use crate::service::{Done, Rendered, Representation, Source, Tier};

/// What a path segment keeps as it is: the unreserved characters of RFC 3986, and the colon of scopes.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The store was asked, because no cache knew.
const STORE_MISS: &str = "nworkflow-store; fwd=miss";
/// The store was asked, because the request wants that.
const STORE_BYPASS: &str = "nworkflow-store; fwd=bypass";

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
    Ok(response)
}

/// A list or another read without an entity tag.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn list(representation: &impl Serialize) -> Result<Response> {
    let mut response = json(representation)?;
    cache_status(response.headers_mut(), Tier::Store { asked: false }.into());
    Ok(response)
}

/// What a read found. `If-Match` on a resource that is not there fails: 412 instead of 404.
///
/// # Errors
/// Nothing was found, or the precondition failed.
fn found<R>(headers: &ReadHeaders, result: Result<R>) -> Result<R> {
    result.map_err(|error| {
        let is_absent = error.code.status() == 404 && headers.precondition.if_match.is_some();
        if is_absent { Error::precondition_failed(None).with_source(error.source) } else { error }
    })
}

/// One resource that was read: 200, 304 when the client has it, 412 when `If-Match` names another version.
///
/// # Errors
/// The resource is not there, older than asked, or the precondition failed.
pub(super) fn read(headers: &ReadHeaders, result: Result<Representation>) -> Result<Response> {
    let representation = found(headers, result)?;
    let (precondition, version) = (&headers.precondition, representation.version);
    if headers.freshness.min_version.is_some_and(|wanted| version < wanted) {
        let mut error = Error::new(Code::VersionNotReached, "The version is older than X-Min-Version.");
        error.current_version = Some(version);
        return Err(error.with_source(Some(representation.source)));
    }
    let only_if_match = Precondition { if_match: precondition.if_match.clone(), if_none_match: None };
    if !only_if_match.is_met_by(Some(version)) {
        return Err(Error::precondition_failed(Some(version)).with_source(Some(representation.source)));
    }
    let mut response =
        if precondition.is_met_by(Some(version)) { body(representation.body) } else { StatusCode::NOT_MODIFIED.into_response() };
    cache_status(response.headers_mut(), representation.source);
    response.headers_mut().insert(ETAG, etag(version));
    Ok(response)
}

fn body(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Which tier answered (RFC 9211), and whether the store could not be asked: with the seconds since it last answered, as old as the answer can
/// be at most.
pub(super) fn cache_status(headers: &mut HeaderMap, source: Source) {
    let is_away = source.store_away_seconds.is_some();
    let status = match source.tier {
        Tier::Local if is_away => "nworkflow-local; hit; detail=store-away",
        Tier::Local => "nworkflow-local; hit",
        Tier::Second if is_away => "nworkflow-dragonfly; hit; detail=store-away",
        Tier::Second => "nworkflow-dragonfly; hit",
        Tier::Store { asked: true } => STORE_BYPASS,
        Tier::Store { asked: false } => STORE_MISS,
    };
    headers.insert("cache-status", HeaderValue::from_static(status));
    if let Some(seconds) = source.store_away_seconds {
        headers.insert(AGE, HeaderValue::from(seconds));
    }
}

/// Of a request that asks for the store: nobody has looked into a cache for it.
pub(super) fn asked_the_store(headers: &mut HeaderMap) {
    if headers.get("cache-status").is_some_and(|status| status == STORE_MISS) {
        headers.insert("cache-status", HeaderValue::from_static(STORE_BYPASS));
    }
}

/// The answer to a write of one resource: its status with the representation, or 204 when the client wants none or there is none.
pub(super) fn written<R>(done: Done<R>, minimal: Option<bool>) -> Response {
    let status = StatusCode::from_u16(done.status).unwrap_or(StatusCode::OK);
    let mut response = match &done.rendered {
        Some(_) if minimal == Some(true) => StatusCode::NO_CONTENT.into_response(),
        Some(rendered) => {
            let mut response = body(rendered.body.clone());
            *response.status_mut() = status;
            response
        }
        None => status.into_response(),
    };
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(ETAG, etag(done.version));
        preference_applied(headers, minimal);
    }
    if let Some(rendered) = done.rendered.filter(|_| status == StatusCode::CREATED)
        && let Ok(location) = HeaderValue::from_str(&rendered.location)
    {
        headers.insert(LOCATION, location);
    }
    replayed(headers, done.replayed);
    response
}

/// The answer to a write of several resources: 200 with what was done, or 204 when the client wants nothing back.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn done(representation: &impl Serialize, minimal: Option<bool>, is_replay: bool) -> Result<Response> {
    let mut response = if minimal == Some(true) { StatusCode::NO_CONTENT.into_response() } else { json(representation)? };
    preference_applied(response.headers_mut(), minimal);
    replayed(response.headers_mut(), is_replay);
    Ok(response)
}

fn preference_applied(headers: &mut HeaderMap, minimal: Option<bool>) {
    if let Some(minimal) = minimal {
        headers.insert("preference-applied", HeaderValue::from_static(if minimal { "return=minimal" } else { "return=representation" }));
    }
}

fn replayed(headers: &mut HeaderMap, is_replay: bool) {
    if is_replay {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
}

/// What a representation takes beside the documents in it, about.
const FRAME_BYTES: usize = 512;

/// A representation with its path, for the services. `documents`: the bytes of the documents in it, so that its buffer need not grow.
///
/// # Errors
/// The representation does not serialise.
pub(super) fn rendered(representation: &impl Serialize, documents: usize, location: String) -> Result<Rendered> {
    let mut body = Vec::with_capacity(documents + FRAME_BYTES);
    serde_json::to_writer(&mut body, representation)
        .map_err(|error| Error::new(Code::Internal, "Something went wrong in the server.").with_cause(error))?;
    Ok(Rendered { body: body.into(), location })
}
