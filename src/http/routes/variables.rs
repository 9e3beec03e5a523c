//! `/variables/{scope}/{name}`: set, read, patch, increment, delete.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::clock::Timestamp;
use crate::domain::document::Object;
use crate::domain::principal::Permission;
use crate::domain::variable::{Number, VariableInput, VariableRecord};
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, ReadHeaders, VariablePath};
use crate::http::operation::{Api, Operation};
use crate::http::routes::patches::{JsonPatch, VariableMergePatch};
use crate::http::write::{NoBody, SmallBody, SmallPatch, Write};
use crate::service::Rendered;

const READ: &[Permission] = &[Permission::VariablesRead];
const WRITE: &[Permission] = &[Permission::VariablesWrite];
/// What a path with scope and name can be refused for.
const PATH: &[Code] = &[Code::InvalidScope, Code::InvalidName, Code::InvalidPath];
/// What a variable's body can be refused for, beside what every JSON body can.
const DOCUMENT: &[Code] = &[Code::OutOfRange, Code::TextTooLong, Code::SecretsNotConfigured];
pub(super) const FOR_OTHERS: &str = "for the scope of another user";
pub(super) const FOR_GLOBAL: &str = "for the scope global";

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(
        routes!(put_variable),
        Operation::guarded(WRITE)
            .also(Permission::VariablesGlobalWrite, FOR_GLOBAL)
            .also(Permission::Delegate, FOR_OTHERS)
            .writes()
            .takes_json()
            .refuses(PATH)
            .refuses(DOCUMENT)
            .refuses(&[Code::ScopeNotFound, Code::SessionNotFound]),
    )
    .route(
        routes!(get_variable),
        Operation::guarded(READ)
            .also(Permission::Delegate, FOR_OTHERS)
            .reads_one("headVariable")
            .refuses(PATH)
            .refuses(&[Code::VariableNotFound, Code::SessionNotFound]),
    )
    .route(
        routes!(delete_variable),
        Operation::guarded(WRITE)
            .also(Permission::VariablesGlobalWrite, FOR_GLOBAL)
            .also(Permission::Delegate, FOR_OTHERS)
            .writes()
            .refuses(PATH)
            .refuses(&[Code::VariableNotFound, Code::SessionNotFound]),
    )
    .route(
        routes!(patch_variable),
        Operation::guarded(WRITE)
            .also(Permission::VariablesGlobalWrite, FOR_GLOBAL)
            .also(Permission::Delegate, FOR_OTHERS)
            .writes()
            .takes_patch()
            .refuses(PATH)
            .refuses(DOCUMENT)
            .refuses(&[Code::VariableNotFound, Code::SessionNotFound]),
    )
    .route(
        routes!(increment_variable),
        Operation::guarded(WRITE)
            .also(Permission::VariablesGlobalWrite, FOR_GLOBAL)
            .also(Permission::Delegate, FOR_OTHERS)
            .writes()
            .takes_optional_json()
            .refuses(PATH)
            .refuses(&[Code::OutOfRange, Code::NotANumber, Code::ScopeNotFound, Code::SessionNotFound]),
    )
}

/// A variable to set. Members that are left out take their defaults, whatever the present version has.
#[derive(ToSchema)]
#[schema(example = json!({"value": {"rate": 0.19, "country": "DE"}, "description": "VAT of this workflow"}))]
#[expect(dead_code, reason = "describes what domain::variable::VariableInput reads")]
struct VariableWrite {
    /// Any JSON; `null` is a value. The bytes are kept. Needed unless the variable is secret and stays so: then it keeps the value that it has.
    #[schema(required = false, value_type = serde_json::Value)]
    value: Option<serde_json::Value>,
    /// Whether the value is kept encrypted and never shown. Refused while the server has no encryption key.
    #[schema(required = false, nullable = false)]
    secret: Option<bool>,
    /// What the variable is for, at most 1024 bytes.
    #[schema(required = false, nullable = false, max_length = 1024)]
    description: Option<String>,
    /// Seconds until the variable is gone, 1 to ten years. Left out: it stays.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<i64>,
}

/// A number to add.
#[derive(ToSchema)]
#[schema(example = json!({"by": 1}))]
#[expect(dead_code, reason = "describes the body of increment_variable")]
struct Increment {
    /// The number; an integer of i64 or a floating-point number. Default: 1.
    #[schema(required = false, nullable = false)]
    by: Option<f64>,
}

/// A variable.
#[derive(Serialize, ToSchema)]
#[schema(as = Variable, example = json!({
    "scope": "workflow:order", "name": "tax", "value": {"rate": 0.19, "country": "DE"}, "secret": false, "description": "VAT of this workflow", "version": 1,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "updated_by": "ada"
}))]
pub(super) struct VariableView<'a> {
    /// The scope; `user:me` is answered with the real id.
    #[schema(max_length = 265)]
    scope: String,
    /// The name.
    #[schema(max_length = 256)]
    name: &'a str,
    /// The value, byte for byte as it was set; left out when it is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = serde_json::Value)]
    value: Option<&'a RawValue>,
    /// Whether the value is secret.
    secret: bool,
    /// What the variable is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, max_length = 1024)]
    description: Option<&'a str>,
    /// The version, which is also the entity tag.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// When this life of the variable began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When this version was written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Who wrote it.
    #[schema(max_length = 255)]
    updated_by: &'a str,
    /// When it will be gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, value_type = String, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl<'a> VariableView<'a> {
    pub(super) fn of(record: &'a VariableRecord) -> Result<Self> {
        Ok(Self {
            scope: record.key.scope.to_string(),
            name: record.key.name.as_str(),
            value: if record.secret { None } else { Some(answer::raw(&record.value)?) },
            secret: record.secret,
            description: record.description.as_deref(),
            version: record.version.get(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            updated_by: &record.updated_by,
            expires_at: record.expires_at,
        })
    }
}

/// The representation of a variable, for the services.
pub(in crate::http) fn render(record: &VariableRecord) -> Result<Rendered> {
    let location = answer::path(&["variables", &record.key.scope.to_string(), record.key.name.as_str()]);
    answer::rendered(&VariableView::of(record)?, record.value.len(), location)
}

/// Set a variable
///
/// Replaces value, description and time to live as a whole. The value comes back byte for byte.
#[utoipa::path(put, path = "/variables/{scope}/{name}", operation_id = "putVariable", tag = "Variables",
    request_body(content = VariableWrite, content_type = "application/json"),
    responses((status = 200, description = "Replaced", body = VariableView), (status = 201, description = "Created", body = VariableView)))]
async fn put_variable(
    FromState(state): FromState<AppState>,
    VariablePath(key): VariablePath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    let input = write.read(VariableInput::parse).await?;
    Ok(answer::written(state.services.variables.put(&write.request, key, input).await?, write.minimal))
}

/// Patch a variable
///
/// The patch applies to what a set takes: `value`, `description`, `ttl_seconds` (of a variable that has one: the seconds that it had to live
/// when it was written) and `secret`. A time to live that the patch does not name goes on. What is not touched keeps its bytes. A merge patch cannot store `null`; a JSON Patch can.
#[utoipa::path(patch, path = "/variables/{scope}/{name}", operation_id = "patchVariable", tag = "Variables",
    request_body(content(
        (VariableMergePatch = "application/merge-patch+json"),
        (VariableMergePatch = "application/json"),
        (JsonPatch = "application/json-patch+json", example = json!([{"op": "test", "path": "/value/country", "value": "DE"}, {"op": "replace", "path": "/value/rate", "value": 0.21}])))),
    responses((status = 200, description = "Patched", body = VariableView)))]
async fn patch_variable(
    FromState(state): FromState<AppState>,
    VariablePath(key): VariablePath,
    mut write: Write<SmallPatch>,
) -> Result<Response> {
    let patch = write.patch().await?;
    Ok(answer::written(state.services.variables.patch(&write.request, key, patch).await?, write.minimal))
}

/// Increment a variable
///
/// Adds a number, atomically: concurrent increments are all counted. Integers stay integers; an absent variable begins with the number.
#[utoipa::path(post, path = "/variables/{scope}/{name}/increment", operation_id = "incrementVariable", tag = "Variables",
    request_body(content = Increment, content_type = "application/json"),
    responses((status = 200, description = "Incremented", body = VariableView)))]
async fn increment_variable(
    FromState(state): FromState<AppState>,
    VariablePath(key): VariablePath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    let by = write.read_or_empty(increment).await?;
    Ok(answer::written(state.services.variables.increment(&write.request, key, by).await?, write.minimal))
}

fn increment(body: &str) -> Result<Number> {
    let mut object = Object::read(body)?;
    let mut faults = Vec::new();
    let by = object.read_member("by", Number::parse, &mut faults).unwrap_or(Number::Integer(1));
    faults.extend(object.unknown());
    if faults.is_empty() { Ok(by) } else { Err(Error::from(faults)) }
}

/// Read a variable
///
/// One whose time to live has passed is gone at that instant.
#[utoipa::path(get, path = "/variables/{scope}/{name}", operation_id = "getVariable", tag = "Variables",
    responses((status = 200, description = "The variable", body = VariableView)))]
async fn get_variable(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    VariablePath(key): VariablePath,
    headers: ReadHeaders,
) -> Result<Response> {
    answer::read(&headers, state.services.variables.get(&caller, key, headers.freshness).await)
}

/// Delete a variable
///
/// A later one of the same name continues the versions.
#[utoipa::path(delete, path = "/variables/{scope}/{name}", operation_id = "deleteVariable", tag = "Variables",
    responses((status = 204, description = "Deleted")))]
async fn delete_variable(FromState(state): FromState<AppState>, VariablePath(key): VariablePath, write: Write<NoBody>) -> Result<Response> {
    Ok(answer::written(state.services.variables.delete(&write.request, key).await?, write.minimal))
}
