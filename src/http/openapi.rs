//! The API document: what the handlers describe, completed with what their declarations say (`http/operation.rs`), so that guard and
//! document cannot differ. Built from the routes alone, without a database.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use super::openapi_30;
use super::openapi_grammar as grammar;
use super::openapi_headers::{AGE, CACHE_STATUS, CSRF_TOKEN, add_success_headers, csrf_token, header_parameters};
use super::operation::{Access, Operation};
use super::problem::PROBLEM_JSON;
use crate::domain::version::Version;
use crate::error::Code;

/// The document in both versions, as it is served.
#[derive(Debug, Clone)]
pub struct Documents {
    /// OpenAPI 3.1.
    pub openapi_31: Bytes,
    /// OpenAPI 3.0, for tools that read no later one.
    pub openapi_30: Bytes,
}

impl Documents {
    /// Completes and serialises the document.
    ///
    /// # Errors
    /// The handlers' document does not serialise.
    pub fn build(document: &utoipa::openapi::OpenApi, operations: &[(Method, String, Operation)]) -> Result<Self, serde_json::Error> {
        let mut document = serde_json::to_value(document)?;
        for (method, path, operation) in operations {
            complete(&mut document, method, path, operation);
        }
        grammar::complete_bodies(&mut document);
        document["components"]["responses"] = beside_operations();
        let older = openapi_30::convert(document.clone());
        Ok(Self { openapi_31: pretty(&document)?, openapi_30: pretty(&older)? })
    }
}

fn pretty(document: &Value) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    Ok(text.into())
}

/// The frame of the document: what does not belong to one route.
#[must_use]
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
    use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, ServerBuilder, tag::TagBuilder};

    let tag = |name: &str, description: &str| TagBuilder::new().name(name).description(Some(description)).build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token of a configured issuer, for this server's audience. Each operation lists the permissions that its roles must hold as `x-permissions`."))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("nworkflow-state")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "The memory of the nWorkflow engine: workflow states with their history, checkpoints, sessions, and variables in four scopes. \
                     JSON documents are kept as the bytes that came in. Every write makes a new version; versions of a key only grow. \
                     Errors are problems (RFC 9457) with a stable `code`. `HEAD` is answered on every path that has a `get`, as that is, without a body and also where no `head` \
                     stands here; `OPTIONS` on every path with 204 and `Allow`. What a path that no operation has is answered with, or any other method that its \
                     path does not have, stands among the responses of the components. \
                     Headers that answers have beside those of their operation: `X-Content-Type-Options`, `X-Frame-Options`, `Referrer-Policy`, \
                     `Cross-Origin-Resource-Policy` and `Content-Security-Policy` on every answer; `Strict-Transport-Security` on those that went over TLS; \
                     `Access-Control-Allow-Origin` and `Access-Control-Expose-Headers` on those to an allowed `Origin`; `Vary` on any answer may name `accept-encoding` and `origin`; \
                     `Content-Encoding: gzip` on large texts, to clients that offer gzip.",
                ))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").url(Some("https://www.apache.org/licenses/LICENSE-2.0")).build()))
                .build(),
        )
        .servers(Some([ServerBuilder::new().url("/").description(Some("This server")).build()]))
        .tags(Some([
            tag("States", "Workflow states and their history."),
            tag("Checkpoints", "Named copies of states, to come back to."),
            tag("Sessions", "JSON data with a time to live, belonging to a user."),
            tag("Variables", "Variables in the scopes global, workflow, session and user."),
            tag("Operations", "Health, limits and metrics."),
            tag("Documents", "What the server says about itself."),
        ]))
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme("bearer", SecurityScheme::Http(bearer))
                .schema_from::<super::problem::Problem<'_>>()
                .schema_from::<super::problem::ProblemItem<'_>>()
                .build(),
        ))
        .build()
}

fn complete(document: &mut Value, method: &Method, path: &str, operation: &Operation) {
    let schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    let verb = method.as_str().to_ascii_lowercase();
    let Some(entry) = document.pointer_mut(&format!("/paths/{}/{verb}", path.replace('~', "~0").replace('/', "~1"))) else { return };
    let Some(described) = entry.as_object_mut() else { return };

    let mut parameters = path_parameters(path);
    parameters.extend(described.remove("parameters").and_then(|own| own.as_array().cloned()).unwrap_or_default());
    parameters.extend(header_parameters(operation, method));
    parameters.iter_mut().filter(|parameter| parameter["in"] == "query").for_each(grammar::complete_query);
    if !parameters.is_empty() {
        described.insert("parameters".into(), Value::Array(parameters));
    }
    add_access(described, operation);
    add_examples(described, &schemas);
    add_success_headers(described, operation, method);
    add_problems(described, operation, method);
    if operation.optional_body
        && let Some(body) = described.get_mut("requestBody")
    {
        body["required"] = json!(false);
    }
    if let Some(head) = operation.head {
        let probe = head_of(described, head);
        if let Some(item) = document.pointer_mut(&format!("/paths/{}", path.replace('/', "~1"))).and_then(Value::as_object_mut) {
            item.insert("head".into(), probe);
        }
    }
}

fn path_parameters(path: &str) -> Vec<Value> {
    let id = |what: &str, example: &'static str| {
        (format!("The {what}: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`, not `.` and not `..`."), grammar::id(), example)
    };
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let (description, schema, example) = match name {
                "workflow_id" => id("workflow", "order"),
                "execution_id" => id("execution", "e1"),
                "checkpoint_id" => id("checkpoint", "before-payment"),
                "session_id" => id("session", "s1"),
                "version" => ("The version.".to_owned(), json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": Version::MAX}), "1"),
                "scope" => (
                    "`global`, `workflow:ID`, `session:ID`, `user:ID`, or `user:me` for the caller.".to_owned(),
                    grammar::scope(),
                    "workflow:order",
                ),
                "name" => (
                    "1 to 256 bytes of UTF-8 without control, bidirectional-control and zero-width characters, not `.` and not `..`; `/` travels as `%2F`.".to_owned(),
                    grammar::name(),
                    "tax",
                ),
                _ => ("The error code.".to_owned(), json!({"type": "string", "pattern": "^[a-z][a-z_]{0,63}$", "maxLength": 64}), "state_not_found"),
            };
            let example = if name == "version" { json!(1) } else { json!(example) };
            json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema, "example": example})
        })
        .collect()
}

fn add_access(described: &mut Map<String, Value>, operation: &Operation) {
    let Access::Guarded(permissions) = operation.access else {
        described.insert("security".into(), json!([]));
        return;
    };
    described.insert("security".into(), json!([{"bearer": []}]));
    described.insert("x-permissions".into(), permissions.iter().map(|permission| json!(permission.name())).collect());
    let needed: Vec<String> = permissions.iter().map(|permission| format!("`{}`", permission.name())).collect();
    let mut sentence = format!("Needs the permission {}", needed.join(" and "));
    if !operation.also.is_empty() {
        described.insert(
            "x-permissions-conditional".into(),
            operation.also.iter().map(|(permission, when)| json!({"permission": permission.name(), "when": when})).collect(),
        );
        for (permission, when) in &operation.also {
            sentence.push_str(&format!("; `{}` {when}", permission.name()));
        }
    }
    let description = described.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = if description.is_empty() { format!("{sentence}.") } else { format!("{description}\n\n{sentence}.") };
    described.insert("description".into(), description.into());
}

/// Each body's example is that of its schema, unless the operation gives one of its own.
fn add_examples(described: &mut Map<String, Value>, schemas: &Value) {
    let add = |content: Option<&mut Value>| {
        for media in content.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            let name = media.pointer("/schema/$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
            if media.get("example").is_some() {
                continue;
            }
            if let Some(example) = name.and_then(|name| schemas.pointer(&format!("/{name}/example"))) {
                media["example"] = example.clone();
            }
        }
    };
    add(described.get_mut("requestBody").and_then(|body| body.get_mut("content")));
    for response in described.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        add(response.get_mut("content"));
    }
}

fn add_problems(described: &mut Map<String, Value>, operation: &Operation, method: &Method) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in &operation.codes {
        let codes = by_status.entry(code.status()).or_default();
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    for (status, mut codes) in by_status {
        codes.sort_unstable();
        let mut headers =
            json!({"X-Request-Id": {"description": "The request's id, also in the server's log.", "schema": {"type": "string"}}});
        if status == 401 {
            headers["WWW-Authenticate"] = json!({"description": "How to authenticate (RFC 6750).", "schema": {"type": "string"}});
        }
        if matches!(status, 409 | 429 | 503) {
            headers["Retry-After"] =
                json!({"description": "Seconds after which a retry makes sense.", "schema": {"type": "integer", "minimum": 0}});
        }
        if *method == Method::GET {
            headers["Cache-Control"] = json!({"description": "`private, no-cache`.", "schema": {"type": "string"}});
            headers[CSRF_TOKEN] = csrf_token();
            // Who knew that a session or a scope is not there is told to nobody.
            let names_tier = codes.iter().any(|code| !matches!(code, Code::SessionNotFound | Code::ScopeNotFound));
            if (operation.reads_fresh || operation.lists) && matches!(status, 404 | 412) && names_tier {
                headers["Cache-Status"] = json!({"description": CACHE_STATUS, "schema": {"type": "string"}});
                if operation.reads_fresh {
                    headers["Age"] = json!({"description": AGE, "schema": {"type": "integer", "minimum": 0}});
                }
            }
        }
        if let Some(accept_patch) = operation.accept_patch.filter(|_| status == 415) {
            headers["Accept-Patch"] = json!({"description": format!("`{accept_patch}`."), "schema": {"type": "string"}});
        }
        let response = problem_response(status, &codes, headers, "/workflows/order/executions/e1/state");
        if let Some(responses) = described.get_mut("responses").and_then(Value::as_object_mut) {
            responses.insert(status.to_string(), response);
        }
    }
}

fn problem_response(status: u16, codes: &[Code], headers: Value, path: &str) -> Value {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.name(), code.title())).collect();
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let example = codes.first().map(|code| {
        json!({"type": format!("/errors/{}", code.name()), "title": code.title(), "status": status, "detail": code.meaning(), "instance": path,
               "code": code.name(), "request_id": "0199b2f5-6a4e-7cc1-b0a5-3f6d2f0a9c11"})
    });
    json!({
        "description": lines.join("; "), "headers": headers, "x-codes": names,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    })
}

/// The answers that belong to no operation, since there is none to belong to.
fn beside_operations() -> Value {
    let headers = json!({
        "X-Request-Id": {"description": "The request's id, also in the server's log.", "schema": {"type": "string"}},
        "Cache-Control": {"description": "`private, no-cache`, to GET and HEAD.", "schema": {"type": "string"}},
        CSRF_TOKEN: csrf_token()
    });
    let mut with_allow = headers.clone();
    with_allow["Allow"] = json!({"description": "The methods of the path.", "schema": {"type": "string"}});
    json!({
        "RouteNotFound": problem_response(404, &[Code::RouteNotFound], headers, "/workflow"),
        "MethodNotAllowed": problem_response(405, &[Code::MethodNotAllowed], with_allow, "/workflows/order/executions/e1/state"),
    })
}

/// The HEAD operation beside a GET: the same without bodies.
fn head_of(get: &Map<String, Value>, operation_id: &str) -> Value {
    let mut head = get.clone();
    let summary = get.get("summary").and_then(Value::as_str).unwrap_or_default();
    head.insert("operationId".into(), operation_id.into());
    head.insert("summary".into(), format!("Probe: {}", summary.to_lowercase()).into());
    head.insert("description".into(), "The headers of the GET, without a body.".into());
    for response in head.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if let Some(response) = response.as_object_mut() {
            response.remove("content");
        }
    }
    Value::Object(head)
}
