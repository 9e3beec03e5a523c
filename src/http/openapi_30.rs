//! The document for tools that read OpenAPI 3.0 only: what 3.1 says differently is said the old way, and each operation has one kind of
//! body and one kind of success, because that is all that their generators know. What it leaves out is optional, so it is true as far as it goes.

use serde_json::{Map, Value, json};

use super::openapi_headers::CSRF_TOKEN;

/// Converts a 3.1 document of ours. Not a general converter: it knows what our documents hold.
pub(super) fn convert(mut document: Value) -> Value {
    document["openapi"] = json!("3.0.3");
    if let Some(license) = document.pointer_mut("/info/license").and_then(Value::as_object_mut) {
        license.remove("identifier");
    }
    walk(&mut document);
    let schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    let items = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for operation in items.filter_map(Value::as_object_mut).flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        one_success(operation);
        one_body(operation);
        no_pages(operation);
        no_repeated_example(operation, &schemas);
    }
    no_unused_schema(&mut document);
    document
}

/// An answer with a representation and one without are two types, which a generated method cannot both return (progenitor stops, others
/// answer `any`). Without `Prefer`, nobody gets the second one.
fn one_success(operation: &mut Map<String, Value>) {
    if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
        parameters.retain(|parameter| parameter["name"] != "Prefer");
        // An argument of every method that reads, and no program sets it: the clients that know the handshake know the header.
        parameters.retain(|parameter| parameter["name"] != CSRF_TOKEN);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    if responses.contains_key("200") || responses.contains_key("201") {
        responses.remove("204");
    }
    for headers in responses.values_mut().filter_map(|response| response.get_mut("headers")?.as_object_mut()) {
        headers.remove("Preference-Applied");
    }
}

/// Of several media types of a body, JSON: progenitor stops at a second one, others take the first or forget the type.
fn one_body(operation: &mut Map<String, Value>) {
    let Some(body) = operation.get_mut("requestBody").and_then(Value::as_object_mut) else { return };
    let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) else { return };
    if !content.contains_key("application/json") || content.len() == 1 {
        return;
    }
    let others: Vec<String> = content.keys().filter(|kind| *kind != "application/json").map(|kind| format!("`{kind}`")).collect();
    content.retain(|kind, _| kind == "application/json");
    let note = format!("Also {}: see the document in OpenAPI 3.1.", others.join(" and "));
    let description = body.get("description").and_then(Value::as_str).map_or_else(|| note.clone(), |own| format!("{own} {note}"));
    body.insert("description".into(), description.into());
}

/// Of a page for people only the sentence stays: there is no way to say `text/html` that no generator warns at.
fn no_pages(operation: &mut Map<String, Value>) {
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for response in responses.filter_map(Value::as_object_mut) {
        if response.get("content").is_some_and(|content| content.get("text/html").is_some()) {
            response.remove("content");
            let description = response.get("description").and_then(Value::as_str).unwrap_or("A page");
            let description = format!("{description}, as `text/html`");
            response.insert("description".into(), description.into());
        }
    }
}

/// The schema of a body has an example already; openapi-generator warns that it ignores the second one.
fn no_repeated_example(operation: &mut Map<String, Value>, schemas: &Value) {
    let content = operation.get_mut("requestBody").and_then(|body| body.get_mut("content")?.as_object_mut());
    for media in content.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        let schema = media.get("schema").and_then(|schema| schema.get("$ref")?.as_str()?.rsplit('/').next());
        let example = schema.and_then(|name| schemas.get(name)?.get("example"));
        if example.is_some() && media.get("example") == example {
            media.remove("example");
        }
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(object) => {
            nullable(object);
            constants(object);
            conditions(object);
            memberless(object);
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

/// An object without members that takes no others stops the generator of SAP's Cloud SDK: any object, then.
fn memberless(schema: &mut Map<String, Value>) {
    if schema.get("type").is_some_and(|kind| kind == "object") && !schema.contains_key("properties") {
        schema.retain(|keyword, member| keyword != "additionalProperties" || *member != Value::Bool(false));
    }
}

/// Schemas to which nothing refers any more would become classes that nobody can use.
fn no_unused_schema(document: &mut Value) {
    loop {
        let text = document.to_string();
        let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else { return };
        let before = schemas.len();
        schemas.retain(|name, _| text.contains(&format!("\"#/components/schemas/{name}\"")));
        if schemas.len() == before {
            return;
        }
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
