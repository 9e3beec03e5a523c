//! The headers of requests and answers, as the API document describes them.

use http::Method;
use serde_json::{Map, Value, json};

use super::openapi_grammar as grammar;
use super::operation::{Access, Operation};
use crate::domain::id::MAX_ID_BYTES;
use crate::domain::version::Version;

/// What the header `Cache-Status` says.
pub(super) const CACHE_STATUS: &str =
    "Which tier answered (RFC 9211). Not there when a session is not there: it would tell that somebody else has it.";

/// What the header `Age` says.
pub(super) const AGE: &str = "Only while the database does not answer and a cache does (`Cache-Status: ...; detail=store-away`): seconds since the database last answered.";

/// The header of a handshake that clients of SAP begin before a write, on any read.
pub(super) const CSRF_TOKEN: &str = "X-CSRF-Token";

/// What an answer says in it.
pub(super) fn csrf_token() -> Value {
    json!({"description": "Only to `X-CSRF-Token: Fetch`, whatever the status is: a token to send with writes, for clients that insist on one. Nobody looks at it: bearer tokens need no protection by such tokens.", "schema": {"type": "string"}})
}

fn header(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema})
}

fn with_example(mut parameter: Value, example: Value) -> Value {
    parameter["example"] = example;
    parameter
}

pub(super) fn header_parameters(operation: &Operation, method: &Method) -> Vec<Value> {
    let tags = grammar::tags();
    let mut headers = Vec::new();
    if *method == Method::GET {
        let fetch = "`Fetch`, in any case of letters: the answer has a token in the header of the same name. Any other value is ignored.";
        headers.push(with_example(header(CSRF_TOKEN, fetch, &json!({"type": "string"})), json!("Fetch")));
    }
    if operation.conditional {
        headers.push(with_example(
            header(
                "If-Match",
                "Only when the resource has one of these versions: `\"3\"`, a list of at most 100, or `*` for any. Else 412. A version is at most 9007199254740991.",
                &tags,
            ),
            json!("\"3\""),
        ));
        let none = if *method == Method::GET {
            "304 when the resource has one of these versions."
        } else {
            "Only when the resource has none of these versions; `*`: only when it does not exist. Else 412."
        };
        headers.push(with_example(header("If-None-Match", none, &tags), json!("\"2\"")));
    }
    if operation.writes {
        headers.push(header("Idempotency-Key", "1 to 255 printable ASCII characters. An equal request with the same key within 24 hours is answered with the stored answer of the first one.", &grammar::idempotency_key()));
        headers.push(with_example(
            header("Prefer", "`return=minimal`: answer 204 without a representation.", &json!({"type": "string"})),
            json!("return=minimal"),
        ));
    }
    if operation.reads_fresh {
        headers.push(with_example(
            header("Cache-Control", "`no-cache`: read the store, not a cache.", &json!({"type": "string"})),
            json!("no-cache"),
        ));
        headers.push(header(
            "X-Min-Version",
            "Never answer an older version; 412 when there is none as recent.",
            &json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": Version::MAX}),
        ));
    }
    if operation.lists {
        headers.push(with_example(
            header(
                "Cache-Control",
                "`no-cache`: lists are always read from the store; the answer's `Cache-Status` says `fwd=bypass` then.",
                &json!({"type": "string"}),
            ),
            json!("no-cache"),
        ));
    }
    if operation.access != Access::Open {
        headers.push(header(
            "X-Tenant-Id",
            "Selects among the organizations that the token names.",
            &json!({"type": "string", "maxLength": MAX_ID_BYTES}),
        ));
        let timeout = header("X-Request-Timeout-Ms", "Lowers the deadline.", &json!({"type": "integer", "format": "int64", "minimum": 1}));
        headers.push(with_example(timeout, json!(2000)));
    }
    headers
}

pub(super) fn add_success_headers(described: &mut Map<String, Value>, operation: &Operation, method: &Method) {
    let Some(responses) = described.get_mut("responses").and_then(Value::as_object_mut) else { return };
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    if operation.writes && !responses.contains_key("204") {
        responses.insert("204".into(), json!({"description": "Written, with `Prefer: return=minimal`"}));
    }
    if operation.conditional && !operation.writes {
        responses.insert("304".into(), json!({"description": "The client has this version"}));
    }
    let creates = responses.contains_key("201");
    // Without one there is nothing that a preference could leave out.
    let has_representation = creates || responses.contains_key("200");
    let is_read = *method == Method::GET;
    for (status, response) in responses.iter_mut() {
        let mut headers = Map::new();
        headers.insert("X-Request-Id".into(), text("The request's id, also in the server's log."));
        let is_written = status == "201" || status == "204";
        if *method != Method::DELETE && (operation.conditional || (creates && is_written)) {
            headers.insert("ETag".into(), text("The version in quotes; behind `W/` when the answer is compressed."));
        }
        if creates && is_written {
            let when = if status == "201" { "" } else { " Only when it was created." };
            headers.insert("Location".into(), text(&format!("The path of the resource.{when}")));
        }
        if operation.writes {
            if has_representation {
                headers.insert("Preference-Applied".into(), text("The preference that was honoured."));
            }
            headers.insert("Idempotency-Replayed".into(), text("`true` when this is the stored answer of an earlier, equal request."));
        }
        if is_read {
            headers.insert("Cache-Control".into(), text("`private, no-cache`."));
            headers.insert(CSRF_TOKEN.into(), csrf_token());
        }
        if operation.reads_fresh || operation.lists {
            headers.insert("Cache-Status".into(), text(CACHE_STATUS));
        }
        // Lists always come from the store.
        if operation.reads_fresh {
            headers.insert("Age".into(), json!({"description": AGE, "schema": {"type": "integer", "minimum": 0}}));
        }
        if operation.tells_expiry {
            headers.insert(
                "Session-Expires".into(),
                json!({"description": "When the session will be gone, to the microsecond, reads of a sliding one included.", "schema": {"type": "string", "format": "date-time"}}),
            );
        }
        response["headers"] = Value::Object(headers);
    }
}
