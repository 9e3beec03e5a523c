//! `/variables/{scope}` and `/variables/{scope}/{name}`: set, read, delete, list.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::clock::Timestamp;
use crate::domain::id::VariableName;
use crate::domain::principal::Permission;
use crate::domain::variable::{VariableInput, VariableKey, VariableRecord};
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, ReadHeaders, ScopePath, VariablePath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::write::{NoBody, SmallBody, Write};
use crate::service::variables::VariableFilter;

const READ: &[Permission] = &[Permission::VariablesRead];
const WRITE: &[Permission] = &[Permission::VariablesWrite];
/// What a path with scope and name can be refused for.
const PATH: &[Code] = &[Code::InvalidScope, Code::InvalidName, Code::InvalidPath];
/// What a variable's body can be refused for, beside what every JSON body can.
const DOCUMENT: &[Code] = &[Code::OutOfRange, Code::TextTooLong, Code::SecretsNotConfigured];
/// Most names in one filter.
const MAX_NAMES: usize = 1000;

const FOR_OTHERS: &str = "for the scope of another user";
const FOR_GLOBAL: &str = "for the scope global";

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
        routes!(list_variables),
        Operation::guarded(READ).also(Permission::Delegate, FOR_OTHERS).reads().refuses(&[
            Code::InvalidScope,
            Code::InvalidPath,
            Code::InvalidCursor,
            Code::ScopeNotFound,
            Code::SessionNotFound,
        ]),
    )
}

/// A variable to set. Members that are left out take their defaults, whatever the present version has.
#[derive(ToSchema)]
#[schema(example = json!({"value": {"rate": 0.19, "country": "DE"}, "description": "VAT of this workflow"}))]
#[expect(dead_code, reason = "describes what domain::variable::VariableInput reads")]
struct VariableWrite {
    /// Any JSON; `null` is a value. The bytes are kept.
    #[schema(value_type = serde_json::Value)]
    value: serde_json::Value,
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

/// A variable.
#[derive(Serialize, ToSchema)]
#[schema(as = Variable, example = json!({
    "scope": "workflow:order", "name": "tax", "value": {"rate": 0.19, "country": "DE"}, "secret": false, "description": "VAT of this workflow", "version": 1,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "updated_by": "ada"
}))]
struct VariableView<'a> {
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
    fn of(record: &'a VariableRecord) -> Result<Self> {
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

/// A page of variables.
#[derive(Serialize, ToSchema)]
#[schema(as = VariablePage, example = json!({"items": [{
    "scope": "workflow:order", "name": "tax", "value": 0.19, "secret": false, "version": 1,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "updated_by": "ada"
}], "next_cursor": "q83vASNFZ4mrze8BI0VniXRheA"}))]
struct VariablePageView<'a> {
    /// The variables in the byte order of their names.
    items: Vec<VariableView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

fn location(key: &VariableKey) -> String {
    answer::path(&["variables", &key.scope.to_string(), key.name.as_str()])
}

/// Set a variable
///
/// Replaces value, description and time to live as a whole. The value comes back byte for byte.
#[utoipa::path(put, path = "/variables/{scope}/{name}", operation_id = "putVariable", tag = "Variables",
    request_body(content = VariableWrite, content_type = "application/json"),
    responses((status = 200, description = "Replaced", body = VariableView), (status = 201, description = "Created", body = VariableView)))]
async fn put_variable(FromState(state): FromState<AppState>, VariablePath(key): VariablePath, write: Write<SmallBody>) -> Result<Response> {
    let input = write.read(VariableInput::parse).await?;
    let location = location(&key);
    let done = state.services.variables.put(&write.request, key, input).await?;
    answer::written(&done, write.minimal, &location, VariableView::of)
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
    let record = answer::found(&headers, state.services.variables.get(&caller, &key, headers.freshness).await)?;
    answer::read(&headers, record.version, &VariableView::of(&record)?)
}

/// Delete a variable
///
/// A later one of the same name continues the versions.
#[utoipa::path(delete, path = "/variables/{scope}/{name}", operation_id = "deleteVariable", tag = "Variables",
    responses((status = 204, description = "Deleted")))]
async fn delete_variable(FromState(state): FromState<AppState>, VariablePath(key): VariablePath, write: Write<NoBody>) -> Result<Response> {
    let location = location(&key);
    let done = state.services.variables.delete(&write.request, key).await?;
    answer::written(&done, write.minimal, &location, |()| Ok(()))
}

/// List the variables of a scope
///
/// In the byte order of their names, with their values unless secret. A page ends early at 4 MiB: only `next_cursor` says whether more follows.
#[utoipa::path(get, path = "/variables/{scope}", operation_id = "listVariables", tag = "Variables",
    params(
        ("prefix" = Option<String>, Query, description = "Only names that begin so.", max_length = 256, nullable = false),
        ("name" = Option<Vec<String>>, Query, description = "Only these names; repeat the parameter, at most 1000 times.", max_items = 1000, nullable = false),
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of variables", body = VariablePageView)))]
async fn list_variables(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    ScopePath(scope): ScopePath,
    query: Query,
) -> Result<Response> {
    let invalid = |detail: String| Error::new(Code::InvalidParameter, detail);
    let prefix = query.one("prefix")?.unwrap_or_default();
    // A prefix may be `.`, which no name is; anything else that no name begins with is a mistake.
    if !matches!(prefix, "" | "." | "..")
        && let Err(error) = crate::domain::id::check_name(prefix)
    {
        return Err(invalid(format!("The parameter prefix {error}.")));
    }
    let mut names =
        query.all("name").map(|name| VariableName::parse(name).map_err(|error| invalid(format!("The parameter name {error}."))));
    let names: Vec<VariableName> = names.by_ref().take(MAX_NAMES + 1).collect::<Result<_>>()?;
    if names.len() > MAX_NAMES {
        return Err(invalid(format!("The parameter name is there more than {MAX_NAMES} times.")).with_limit(MAX_NAMES as u64));
    }
    let filter = VariableFilter { prefix: prefix.to_owned(), names };
    let page = state.services.variables.list(&caller, &scope, filter, query.one("cursor")?, query.limit()?).await?;
    let items = page.items.iter().map(VariableView::of).collect::<Result<_>>()?;
    answer::list(&VariablePageView { items, next_cursor: page.next_cursor.as_deref() })
}
