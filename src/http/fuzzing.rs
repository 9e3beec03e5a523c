//! What fuzzing asserts of the readers of queries and headers. Called by `crate::fuzzing`, never by the server.

use axum::extract::FromRequestParts as _;
use futures_util::FutureExt as _;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::extract::ReadHeaders;
use super::query::{self, Query};
use super::{answer, body, conditional, write};
use crate::domain::id::{VariableName, WorkflowId};
use crate::domain::page::MAX_LIMIT;
use crate::domain::version::{Tags, Version};

/// A query is decoded without loss, and no reader of a parameter panics or leaves its range.
pub(crate) fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(query) = Query::parse(text) else { return };
    let pairs: Vec<String> = query
        .pairs()
        .map(|(name, value)| format!("{}={}", utf8_percent_encode(name, NON_ALPHANUMERIC), utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let again = Query::parse(&pairs.join("&"));
    assert_eq!(again.ok().map(|again| again.pairs().map(own).collect::<Vec<_>>()), Some(query.pairs().map(own).collect()));
    assert!(
        query.limit().is_ok_and(|limit| (1..=MAX_LIMIT).contains(&limit))
            || query.one("limit").map(|limit| limit.is_some()).unwrap_or(true)
    );
    if let Ok(Some(version)) = query.version("version") {
        assert!((1..=Version::MAX).contains(&version.get()));
    }
    let _ = query.time("at");
    let _ = query.id("workflow_id", WorkflowId::parse);
    if let Ok(names) = query.names() {
        assert!(names.iter().map(VariableName::as_str).eq(query.all("name")));
        for name in &names {
            let path = answer::path(&[name.as_str()]);
            assert_eq!(percent_encoding::percent_decode_str(&path[1..]).decode_utf8().as_deref(), Ok(name.as_str()));
        }
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Headers in lines `name: value`, as the readers find them in a request: entity tags are versions, at most a hundred, and are read as
/// they are written.
pub(crate) fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = at.map(|at| (&line[..at], &line[at + 1..])) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let _ = body::media_type(&headers);
    if let Ok(precondition) = conditional::precondition(&headers) {
        for (name, tags) in [(IF_MATCH, &precondition.if_match), (IF_NONE_MATCH, &precondition.if_none_match)] {
            assert_eq!(tags.is_some(), headers.contains_key(&name));
            let Some(Tags::Versions(versions)) = tags else { continue };
            assert!((1..=100).contains(&versions.len()));
            let mut written = HeaderMap::new();
            for version in versions {
                written.append(name.clone(), conditional::etag(*version));
            }
            let again = conditional::precondition(&written).ok();
            let again = again.and_then(|again| if name == IF_MATCH { again.if_match } else { again.if_none_match });
            assert_eq!(again.as_ref(), tags.as_ref());
        }
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = headers;
    if let Ok(Some(key)) = write::idempotency_key(&parts) {
        assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    let _ = write::return_preference(&parts);
    let read = ReadHeaders::from_request_parts(&mut parts, &()).now_or_never();
    if let Some(Ok(read)) = read
        && let Some(version) = read.freshness.min_version
    {
        assert!(query::version(&version.to_string()) == Some(version));
    }
}
