//! The grammars of ids, names, tags and bodies, as the API document says them: what follows them is taken, what does not is refused.
//!
//! Where a schema cannot say a rule (a limit in bytes, free JSON), the description does, and the schema is the wider one.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::domain::id::{MAX_ID_BYTES, MAX_NAME_BYTES, MAX_USER_ID_BYTES};
use crate::domain::marking::MAX_TOKENS;
use crate::domain::variable::MAX_BATCH_NAMES;
use crate::domain::version::Version;

/// Bytes of a cursor's binding in base64url: no cursor is shorter.
const MIN_CURSOR: usize = 22;

/// An id: `.` and `..` are none.
pub(super) fn id() -> Value {
    json!({"type": "string", "pattern": r"^(\.{0,2}[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\.{3}[A-Za-z0-9._~-]*)$", "minLength": 1, "maxLength": MAX_ID_BYTES})
}

/// What no name holds: controls, bidirectional controls, zero-width characters; the inside of a character class.
const INVISIBLE: &str = r"\u0000-\u001F\u007F-\u009F\u061C\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF";

/// A name: `.` and `..` are none. The limit is of bytes, so that long names beyond ASCII fit the schema and are refused.
pub(super) fn name() -> Value {
    let pattern = format!(r"^(\.{{0,2}}[^.{INVISIBLE}][^{INVISIBLE}]*|\.{{3}}[^{INVISIBLE}]*)$");
    json!({"type": "string", "pattern": pattern, "minLength": 1, "maxLength": MAX_NAME_BYTES})
}

/// A user id, which may hold anything but controls.
fn user() -> Value {
    json!({"type": "string", "pattern": r"^[^\u0000-\u001F\u007F-\u009F]+$", "minLength": 1, "maxLength": MAX_USER_ID_BYTES})
}

/// A scope.
pub(super) fn scope() -> Value {
    let pattern = r"^(global|(workflow|session):(\.{0,2}[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,125}|\.{3}[A-Za-z0-9._~-]{0,125})|user:[^\u0000-\u001F\u007F-\u009F]{1,255})$";
    json!({"type": "string", "pattern": pattern, "minLength": 6, "maxLength": 5 + MAX_USER_ID_BYTES})
}

/// `If-Match` and `If-None-Match`. That there are at most 100 tags is left to the description: many readers of patterns give up on a hundred
/// copies of a group; so is the greatest version, whose pattern would be a screen long.
pub(super) fn tags() -> Value {
    let tag = r#"(W/)?"[1-9][0-9]{0,15}""#;
    json!({"type": "string", "pattern": format!(r"^(\*|{tag}(, *{tag})*)$")})
}

/// `Idempotency-Key`: quotes around it are not part of it, so that two quotes alone are none.
pub(super) fn idempotency_key() -> Value {
    json!({"type": "string", "pattern": r"^([!-~]|[!#-~][!-~]|[!-~][!#-~]|[!-~][ -~]{1,253}[!-~])$", "minLength": 1, "maxLength": 255})
}

/// Completes the schema of a query parameter by its name.
pub(super) fn complete_query(parameter: &mut Value) {
    let grammar = match parameter["name"].as_str() {
        Some("workflow_id" | "execution_id" | "session_id") => id(),
        Some("user_id") => user(),
        Some("prefix") => json!({"pattern": format!("^[^{INVISIBLE}]*$")}),
        Some("cursor") => json!({"pattern": "^[A-Za-z0-9_-]+$", "minLength": MIN_CURSOR}),
        Some("name") => json!({"items": name()}),
        Some("limit") => {
            // A number of any size is taken, and clamped.
            parameter["schema"].as_object_mut().and_then(|schema| schema.remove("format"));
            return;
        }
        _ => return,
    };
    merge(&mut parameter["schema"], grammar);
}

fn merge(schema: &mut Value, more: Value) {
    if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
        schema.extend(more);
    }
}

/// Completes the schemas of all request bodies: other members than theirs are refused, ids and names follow their grammars.
pub(super) fn complete_bodies(document: &mut Value) {
    for name in request_schemas(document) {
        let Some(schema) = document["components"]["schemas"].get_mut(&name).and_then(Value::as_object_mut) else { continue };
        let is_merge = name.ends_with("MergePatch");
        if schema.get("type").is_some_and(|kind| kind == "object") {
            schema.insert("additionalProperties".into(), false.into());
        }
        for (member, described) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            complete_member(member, described, is_merge);
        }
        if name == "PatchOperation" {
            complete_patch_operation(schema);
        }
    }
}

fn complete_member(member: &str, described: &mut Value, is_merge: bool) {
    let names = |values: Value| json!({"propertyNames": name(), "additionalProperties": values});
    match member {
        "workflow_id" | "execution_id" | "checkpoint_id" | "session_id" => merge(described, id()),
        "owner" => merge(described, user()),
        "status" => merge(described, json!({"pattern": "^[a-z][a-z_]{0,31}$"})),
        "marking" => {
            let mut kinds = json!(["integer", "array"]);
            if let Some(kinds) = kinds.as_array_mut().filter(|_| is_merge) {
                kinds.push("null".into());
            }
            let tokens = json!({"type": kinds, "minimum": 0, "maximum": Version::MAX, "items": {}, "maxItems": MAX_TOKENS});
            merge(described, names(tokens));
        }
        "set" => {
            merge(described, names(json!({})));
            described["maxProperties"] = MAX_BATCH_NAMES.into();
        }
        "if_versions" => {
            merge(described, names(json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": Version::MAX})));
            described["maxProperties"] = MAX_BATCH_NAMES.into();
        }
        "delete" => described["items"] = name(),
        _ => {}
    }
    // In a merge patch `null` takes a member away. Those that a resource must have cannot be.
    if is_merge {
        match member {
            "marking" => {}
            "data" | "value" => described["not"] = json!({"type": "null"}),
            _ => {
                if let Some(kind) = described.get("type").cloned() {
                    described["type"] = json!([kind, "null"]);
                }
            }
        }
    }
}

/// Which members an operation needs. A union of six schemas would say it too, and every generator would make six classes of it.
fn complete_patch_operation(schema: &mut Map<String, Value>) {
    let is = |operations: &[&str]| json!({"properties": {"op": {"enum": operations}}});
    schema.insert("if".into(), is(&["move", "copy"]));
    schema.insert("then".into(), json!({"required": ["from"]}));
    schema.insert("else".into(), json!({"if": is(&["add", "replace", "test"]), "then": {"required": ["value"]}}));
}

/// The names of the schemas of request bodies, and of what they hold.
fn request_schemas(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for operation in document["paths"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object).flat_map(Map::values) {
        references(&operation["requestBody"], document, &mut names);
    }
    names
}

fn references(value: &Value, document: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, document, names)),
        Value::Object(members) => {
            for (member, inner) in members {
                match inner.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                    Some(name) if member == "$ref" => {
                        if names.insert(name.to_owned()) {
                            references(&document["components"]["schemas"][name], document, names);
                        }
                    }
                    _ => references(inner, document, names),
                }
            }
        }
        _ => {}
    }
}
