//! S3: what a client may not set it cannot set by sending it along. The cases come from the API document: every body, every level of it that
//! has members of its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::app::{Caller, DOCUMENT, TestApp};
use crate::api::on_both_stores;

on_both_stores!(what_a_client_may_not_set_is_refused);

/// What an attacker would like to set, and what nobody has ever heard of.
const WANTED: &[&str] = &[
    "tenant_id",
    "tenant",
    "version",
    "created_at",
    "updated_at",
    "updated_by",
    "created_by",
    "owner",
    "expires_at",
    "is_secret",
    "workflow_id",
    "execution_id",
    "session_id",
    "scope",
    "name",
    "id",
    "incarnation",
    "forked_from",
    "operation",
    "roles",
    "admin",
    "__proto__",
    "constructor",
    "",
];

/// The schema behind references.
fn resolved(mut schema: &'static Value) -> &'static Value {
    while let Some(reference) = schema["$ref"].as_str() {
        schema = &DOCUMENT["components"]["schemas"][reference.rsplit('/').next().unwrap()];
    }
    schema
}

/// The objects of this schema whose members are its own: the pointer to each with an example of all around it.
fn levels(schema: &'static Value, pointer: &str, found: &mut Vec<(String, Vec<String>)>) {
    let schema = resolved(schema);
    let takes_others = schema.get("additionalProperties").is_some_and(|others| others != &json!(false));
    let is_free = takes_others || (schema.get("properties").is_none() && schema["type"] != "object");
    if is_free {
        return;
    }
    let members: Vec<String> = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    found.push((pointer.to_owned(), members));
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        levels(member, &format!("{pointer}/{name}"), found);
    }
}

fn path_of(template: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "path");
    parameters.fold(template.to_owned(), |path, parameter| {
        let example = &parameter["example"];
        let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &text)
    })
}

/// A body with all that leads to this level.
fn body_at(example: &Value, pointer: &str) -> Value {
    let mut body = example.clone();
    let mut at = &mut body;
    for name in pointer.split('/').skip(1) {
        at = at.as_object_mut().unwrap().entry(name).or_insert_with(|| if name == "state" { json!({"marking": {}}) } else { json!({}) });
    }
    body
}

/// Everything that the tenant has.
async fn everything(ada: &Caller) -> BTreeMap<&'static str, Value> {
    let mut all = BTreeMap::new();
    for path in [
        "/workflows/order/executions",
        "/workflows/order/executions/e1/state/history",
        "/sessions",
        "/checkpoints",
        "/variables/workflow:order",
        "/workflows/order/executions/e1/state",
        "/sessions/s1",
        "/variables/workflow:order/tax",
    ] {
        all.insert(path, ada.get(path).send().await.json());
    }
    all
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

async fn what_a_client_may_not_set_is_refused(app: TestApp) {
    let ada = app.admin("acme");
    ada.put("/workflows/order/executions/e1/state", r#"{"marking":{"review":1}}"#).send().await.expect(201);
    ada.put("/sessions/s1", r#"{"data":{"step":1}}"#).send().await.expect(201);
    ada.put("/variables/workflow:order/tax", r#"{"value":1}"#).send().await.expect(201);
    ada.post("/workflows/order/executions/e1/checkpoints", r#"{"checkpoint_id":"before-payment"}"#).send().await.expect(201);
    let before = everything(&ada).await;
    let (mut tried, mut bodies) = (0, 0);
    for (template, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            for (media_type, media) in operation.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten() {
                bodies += 1;
                let method = reqwest::Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
                let path = path_of(template, operation);
                let send = |body: Value| ada.call(method.clone(), &path).header("content-type", media_type).body(body.to_string()).send();
                if media_type == "application/json-patch+json" {
                    for name in WANTED.iter().filter(|name| !members_of(template).contains(name)) {
                        let pointer = format!("/{}", escaped(name));
                        let problem = send(json!([{"op": "add", "path": pointer, "value": 3}])).await.problem(400, "unknown_member").json();
                        assert_eq!(problem["errors"][0]["pointer"], format!("#{pointer}"), "{verb} {path} {name}");
                        tried += 1;
                    }
                    continue;
                }
                let mut found = Vec::new();
                levels(&media["schema"], "", &mut found);
                assert!(!found.is_empty(), "{verb} {template} {media_type}: no level of its body is closed");
                for (level, members) in found {
                    for name in WANTED.iter().filter(|name| !members.iter().any(|own| own == *name)) {
                        let mut body = body_at(&media["example"], &level);
                        let object: &mut Map<String, Value> = body.pointer_mut(&level).unwrap().as_object_mut().unwrap();
                        object.insert((*name).to_owned(), json!(3));
                        let problem = send(body.clone()).await.problem(400, "unknown_member").json();
                        let pointers: Vec<&Value> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
                        let expected = json!(format!("#{level}/{}", escaped(name)));
                        assert!(pointers.contains(&&expected), "{verb} {path} {body}: {problem}");
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(bodies >= 19 && tried > 300, "{bodies} bodies, {tried} members");
    assert_eq!(everything(&ada).await, before, "something was stored");
}

/// The members that a patch of this resource may touch.
fn members_of(template: &str) -> &'static [&'static str] {
    match template {
        "/sessions/{session_id}" => &["data", "sliding", "ttl_seconds", "max_ttl_seconds"],
        "/variables/{scope}/{name}" => &["value", "secret", "description", "ttl_seconds"],
        _ => &["marking", "metadata", "status", "schema_version"],
    }
}
