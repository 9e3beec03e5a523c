//! Whether an answer is as it must be, and if not, why.

use nworkflow_state::error::Code;
use nworkflow_state::http::auth::challenge;
use serde_json::Value;

use super::declared::{BOB, Declared, OWN};
use crate::api::app::Answer;

/// Whether the answer is this refusal. HEAD has no body, so there the status and the challenge tell.
pub(super) fn is_refused(answer: &Answer, status: u16, code: Code) -> Result<(), String> {
    let code_is_right = answer.body.is_empty() || answer.verdict().1 == code.name();
    let wanted = (status == 401).then(|| challenge(code));
    if answer.status.as_u16() == status && code_is_right && answer.header("www-authenticate") == wanted {
        Ok(())
    } else {
        Err(format!("expected {status} {}, got {:?} with {:?}", code.name(), answer.verdict(), answer.header("www-authenticate")))
    }
}

pub(super) fn is_success(answer: &Answer) -> Result<(), String> {
    if answer.status.is_success() { Ok(()) } else { Err(format!("expected a success, got {} {}", answer.status, answer.text())) }
}

/// Everything of an answer that a client sees, apart from the request's id and times.
pub(super) fn seen(answer: &Answer) -> String {
    seen_without(answer, "")
}

/// The same without a header.
fn seen_without(answer: &Answer, header: &str) -> String {
    let id = answer.header("x-request-id").unwrap();
    let mut body = answer.text().replace(id, "ID");
    if let (true, Ok(Value::Object(mut members))) = (answer.status.is_success(), serde_json::from_str(&body)) {
        members.retain(|name, _| !name.ends_with("_at"));
        body = Value::Object(members).to_string();
    }
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| ![header, "date", "x-request-id", "session-expires"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    format!("{} {headers:?} {body}", answer.status)
}

/// Whether the caller saw nothing that is there: the same as before it was there, and 404, or an empty page, or a thing of its own.
pub(super) fn saw_nothing(operation: &Declared, before: &Answer, after: &Answer) -> Result<(), String> {
    const EMPTY_PAGE: &str = "{\"items\":[]}";
    const NONE_DELETED: &str = "{\"deleted\":0}";
    let nothing = match (after.status.as_u16(), operation.method.as_str()) {
        // Also a counter of its own, and a batch that finds other versions than it names.
        (404, _) | (201, "PUT" | "POST") | (200, "POST") | (412, "PATCH") => true,
        (200, "DELETE") => after.text() == NONE_DELETED,
        (200, "GET") => after.text() == EMPTY_PAGE,
        (200, "HEAD") => after.header("content-length") == Some(EMPTY_PAGE.len().to_string().as_str()),
        _ => false,
    };
    if nothing && seen(before) == seen(after) { Ok(()) } else { Err(format!("before: {}; after: {}", seen(before), seen(after))) }
}

/// Whether another user's thing is refused like an own one that is absent, where an own one can be.
pub(super) fn looks_absent(operation: &Declared, answer: &Answer, own: &Answer) -> Result<(), String> {
    // No tier is asked about another user's scope, whatever is in it. A session that is not there names none either.
    let header = if operation.has_session() { "" } else { "cache-status" };
    let (answer, own_path) = (seen_without(answer, header), operation.path(Some(OWN)));
    let own = seen_without(own, header).replace(&own_path, &operation.path(Some(BOB)));
    if own == answer || !own.starts_with("404") { Ok(()) } else { Err(format!("own: {own}; another's: {answer}")) }
}

/// Whether the call did not reach the store.
pub(super) fn is_untouched(before: usize, after: usize) -> Result<(), String> {
    if before == after { Ok(()) } else { Err(format!("{} calls of the store", after.abs_diff(before))) }
}

pub(super) fn is_refused_with(answer: &Answer, status: u16) -> Result<(), String> {
    if answer.status.as_u16() == status { Ok(()) } else { Err(format!("expected {status}, got {}", answer.status)) }
}
