//! Errors as `application/problem+json` (RFC 9457), rendered in one place.
//!
//! An [`Error`] becomes a response whose body is still empty and whose extensions hold the error; the edge (`http/edge.rs`), which knows
//! the request's id and path, writes the body. Whatever the framework itself rejects goes the same way.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, auth};
use crate::error::{Code, Error};

/// The media type of problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, and how to tell it apart: `code` is stable, texts may change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/errors/precondition_failed", "title": "The precondition failed", "status": 412, "detail": "The resource has version 4.",
    "instance": "/workflows/order/executions/e1/state", "code": "precondition_failed", "request_id": "0199b2f5-6a4e-7cc1-b0a5-3f6d2f0a9c11", "current_version": 4
}))]
pub(super) struct Problem<'a> {
    /// Path of a page about this code, on this server.
    #[serde(rename = "type")]
    #[schema(max_length = 64)]
    kind: String,
    /// One line, the same for every occurrence.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// This occurrence in words.
    detail: &'a str,
    /// The path of the request; empty when it could not be read or is longer than 2048 bytes.
    instance: &'a str,
    /// The stable code.
    #[schema(pattern = "^[a-z][a-z_]{0,63}$")]
    code: &'static str,
    /// The request's id, as in the header `X-Request-Id` and the log.
    request_id: &'a str,
    /// The faults of the body, one by one, when there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, nullable = false)]
    errors: Vec<ProblemItem<'a>>,
    /// The version that the resource has, when a precondition on it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    current_version: Option<i64>,
    /// The limit that was passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 0)]
    limit: Option<u64>,
}

/// One fault of a body.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"pointer": "#/marking/p1", "code": "out_of_range", "detail": "must be between 0 and 9007199254740991"}))]
pub(super) struct ProblemItem<'a> {
    /// RFC 6901 pointer in URI fragment form.
    pointer: &'a str,
    /// The code of this fault.
    code: &'static str,
    /// In words.
    detail: &'a str,
}

/// The error of a response that is not rendered yet.
#[derive(Clone)]
pub(super) struct Unrendered(pub(super) Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Unrendered(Arc::new(self)));
        response
    }
}

/// The body of an error's problem.
fn body(error: &Error, instance: &str, request_id: &str) -> Vec<u8> {
    let items = error.errors.iter().map(|item| ProblemItem { pointer: &item.pointer, code: item.code.name(), detail: &item.detail });
    let problem = Problem {
        kind: format!("/errors/{}", error.code.name()),
        title: error.code.title(),
        status: error.code.status(),
        detail: &error.detail,
        instance,
        code: error.code.name(),
        request_id,
        errors: items.collect(),
        current_version: error.current_version.map(crate::domain::version::Version::get),
        limit: error.limit,
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// Writes the error's body and headers into its response.
pub(super) fn render(response: &mut Response, error: &Error, instance: &str, request_id: &str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = error.retry_after_seconds {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if error.code.status() == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(auth::challenge(error.code)));
    }
    if let Some(source) = error.source {
        answer::cache_status(headers, source);
    }
    *response.body_mut() = Body::from(body(error, instance, request_id));
}

/// The error for a response that the framework made by itself.
pub(super) fn of_status(status: StatusCode) -> Error {
    let code = match status.as_u16() {
        404 => Code::RouteNotFound,
        405 => Code::MethodNotAllowed,
        408 => Code::BodyTimeout,
        413 => Code::BodyTooLarge,
        414 => Code::UriTooLong,
        415 => Code::UnsupportedMediaType,
        431 => Code::HeadersTooLarge,
        400..=499 => Code::InvalidPath,
        503 => Code::Overloaded,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    };
    Error::new(code, format!("{}.", code.title()))
}
