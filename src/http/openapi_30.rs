//! The document for tools that read OpenAPI 3.0 only: the same, with the few things that 3.1 says differently said the old way.

use serde_json::{Map, Value, json};

/// Converts a 3.1 document of ours. Not a general converter: it knows what our documents hold.
pub(super) fn convert(mut document: Value) -> Value {
    document["openapi"] = json!("3.0.3");
    if let Some(license) = document.pointer_mut("/info/license").and_then(Value::as_object_mut) {
        license.remove("identifier");
    }
    walk(&mut document);
    document
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(object) => {
            nullable(object);
            constants(object);
            conditions(object);
            for (name, member) in object.iter_mut() {
                // Examples are users' JSON, not schemas.
                if name != "example" && name != "examples" {
                    walk(member);
                }
            }
        }
        _ => {}
    }
}

/// `"type": ["string", "null"]` is `"type": "string", "nullable": true`. Several types have no other way than a union, which generators
/// make classes of: any value, then.
fn nullable(schema: &mut Map<String, Value>) {
    let Some(types) = schema.get("type").and_then(Value::as_array) else { return };
    let others: Vec<Value> = types.iter().filter(|kind| *kind != "null").cloned().collect();
    let is_nullable = types.iter().any(|kind| kind == "null");
    match others.as_slice() {
        [] => {}
        [only] => drop(schema.insert("type".into(), only.clone())),
        _ => return schema.retain(|keyword, _| keyword == "description"),
    }
    if is_nullable {
        schema.insert("nullable".into(), true.into());
    }
}

/// `const` is an `enum` of one; a list of examples is its first; names of members have no schema.
fn constants(schema: &mut Map<String, Value>) {
    if schema.contains_key("additionalProperties") {
        schema.remove("propertyNames");
    }
    if schema.contains_key("type") || schema.contains_key("const") {
        if let Some(constant) = schema.remove("const") {
            schema.insert("enum".into(), json!([constant]));
        }
        if let Some(example) = schema.get("examples").and_then(Value::as_array).and_then(|examples| examples.first().cloned()) {
            schema.remove("examples");
            schema.insert("example".into(), example);
        }
    }
}

/// Conditions came with 3.1: the descriptions say them too.
fn conditions(schema: &mut Map<String, Value>) {
    let is_condition = |value: &Value| value.is_object();
    if schema.get("if").is_some_and(is_condition) {
        for keyword in ["if", "then", "else"] {
            schema.remove(keyword);
        }
    }
    if schema.get("not").is_some_and(is_condition) {
        schema.remove("not");
    }
}
