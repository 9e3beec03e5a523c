//! `/variables/{scope}` and `/effective-variables`: lists of variables, batches, and the end of a scope.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::id::{MAX_NAME_BYTES, SessionId, UserId, VariableName, WorkflowId, check_name};
use crate::domain::principal::Permission;
use crate::domain::variable::{BatchFault, VariableBatch, VariableRecord};
use crate::error::{Code, Error, FieldError, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, ScopePath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::routes::variables::{FOR_GLOBAL, FOR_OTHERS, VariableView};
use crate::http::write::{NoBody, SmallBody, Write};
use crate::service::effective::EffectiveFilter;
use crate::service::variables::VariableFilter;

const READ: &[Permission] = &[Permission::VariablesRead];
const WRITE: &[Permission] = &[Permission::VariablesWrite];
const PATH: &[Code] = &[Code::InvalidScope, Code::InvalidPath, Code::ScopeNotFound, Code::SessionNotFound];

pub(in crate::http) fn add(api: Api) -> Api {
    let writes =
        || Operation::guarded(WRITE).also(Permission::VariablesGlobalWrite, FOR_GLOBAL).also(Permission::Delegate, FOR_OTHERS).acts();
    api.route(
        routes!(list_variables),
        Operation::guarded(READ).also(Permission::Delegate, FOR_OTHERS).reads().refuses(PATH).refuses(&[Code::InvalidCursor]),
    )
    .route(
        routes!(write_variables),
        writes().takes_json().refuses(PATH).refuses(&[
            Code::InvalidName,
            Code::DuplicateName,
            Code::OutOfRange,
            Code::TooManyElements,
            Code::PreconditionFailed,
        ]),
    )
    .route(routes!(delete_variables), writes().refuses(PATH))
    .route(
        routes!(list_effective_variables),
        Operation::guarded(READ).also(Permission::Delegate, FOR_OTHERS).reads().refuses(&[
            Code::InvalidCursor,
            Code::ScopeNotFound,
            Code::SessionNotFound,
        ]),
    )
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

/// Several variables to set and delete as one.
#[derive(ToSchema)]
#[schema(example = json!({"set": {"tax": 0.21, "currency": "EUR"}, "delete": ["draft"], "if_versions": {"tax": 1, "currency": 0}}))]
#[expect(dead_code, reason = "describes what domain::variable::VariableBatch reads")]
struct VariableBatchWrite {
    /// Names and their new values. Descriptions and times to live of variables that exist stay.
    #[schema(required = false, nullable = false, value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    set: Option<serde_json::Value>,
    /// Names to delete; absent ones are passed over.
    #[schema(required = false, nullable = false, max_items = 1000)]
    delete: Option<Vec<String>>,
    /// Versions that must be so for anything to be written; 0: absent.
    #[schema(required = false, nullable = false)]
    if_versions: Option<std::collections::BTreeMap<String, i64>>,
}

/// What a batch wrote.
#[derive(Serialize, ToSchema)]
#[schema(as = VariableBatchResult, example = json!({"set": [{
    "scope": "workflow:order", "name": "tax", "value": 0.21, "secret": false, "version": 2,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:20:00.000001Z", "updated_by": "ada"
}], "deleted": ["draft"]}))]
struct BatchView<'a> {
    /// The variables that were set.
    set: Vec<VariableView<'a>>,
    /// The names that were there and were deleted.
    deleted: Vec<&'a str>,
}

/// What the end of a scope took away.
#[derive(Serialize, ToSchema)]
#[schema(as = ScopeDeletion, example = json!({"deleted": 12}))]
struct ScopeDeletionView {
    /// Variables that this call deleted, at most 10 000.
    #[schema(minimum = 0, maximum = 10_000)]
    deleted: u64,
    /// `true` when some are left: call again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    more: Option<bool>,
}

/// A page of effective variables.
#[derive(Serialize, ToSchema)]
#[schema(as = EffectiveVariablePage, example = json!({"items": [{"name": "tax", "value": 0.19, "secret": false, "origin": "workflow:order", "version": 1}]}))]
struct EffectivePageView<'a> {
    /// The variables in the byte order of their names.
    items: Vec<EffectiveView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

/// A variable that is in force, with the scope that it comes from.
#[derive(Serialize, ToSchema)]
#[schema(as = EffectiveVariable, example = json!({"name": "tax", "value": 0.19, "secret": false, "origin": "workflow:order", "version": 1}))]
struct EffectiveView<'a> {
    /// The name.
    #[schema(max_length = 256)]
    name: &'a str,
    /// The value, byte for byte; left out when it is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = serde_json::Value)]
    value: Option<&'a serde_json::value::RawValue>,
    /// Whether the value is secret.
    secret: bool,
    /// The scope that it comes from.
    origin: String,
    /// The version there.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
}

impl<'a> EffectiveView<'a> {
    fn of(record: &'a VariableRecord) -> Result<Self> {
        Ok(Self {
            name: record.key.name.as_str(),
            value: if record.secret { None } else { Some(answer::raw(&record.value)?) },
            secret: record.secret,
            origin: record.key.scope.to_string(),
            version: record.version.get(),
        })
    }
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
    let prefix = query.one("prefix")?.unwrap_or_default();
    // A prefix may be `.`, which no name is; anything else that no name begins with is a mistake.
    if !matches!(prefix, "" | "." | "..")
        && let Err(error) = check_name(prefix)
    {
        return Err(Error::new(Code::InvalidParameter, format!("The parameter prefix {error}.")).with_limit(MAX_NAME_BYTES as u64));
    }
    let filter = VariableFilter { prefix: prefix.to_owned(), names: query.names()? };
    let page = state.services.variables.list(&caller, &scope, filter, query.one("cursor")?, query.limit()?).await?;
    let items = page.items.iter().map(VariableView::of).collect::<Result<_>>()?;
    answer::list(&VariablePageView { items, next_cursor: page.next_cursor.as_deref() })
}

/// Write several variables of a scope
///
/// All of it or nothing, at most 1000 names. With `if_versions` only when all versions are as expected; else 412 with the names that differ.
#[utoipa::path(patch, path = "/variables/{scope}", operation_id = "writeVariables", tag = "Variables",
    request_body(content = VariableBatchWrite, content_type = "application/json"),
    responses((status = 200, description = "Written", body = BatchView)))]
async fn write_variables(
    FromState(state): FromState<AppState>,
    ScopePath(scope): ScopePath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    let batch = write.read(|body| VariableBatch::parse(body).map_err(refused)).await?;
    let (record, replayed) = state.services.variables.batch(&write.request, scope, batch).await?;
    let set = record.set.iter().map(VariableView::of).collect::<Result<_>>()?;
    answer::done(&BatchView { set, deleted: record.deleted.iter().map(VariableName::as_str).collect() }, write.minimal, replayed)
}

fn refused(fault: BatchFault) -> Error {
    match fault {
        BatchFault::Document(faults) => faults.into(),
        BatchFault::DuplicateName(pointer) => {
            let mut error = Error::new(Code::DuplicateName, format!("{pointer} names a variable a second time."));
            error.errors = vec![FieldError { pointer, code: Code::DuplicateName, detail: "is there a second time".into() }];
            error
        }
    }
}

/// Delete the variables of a scope
///
/// At most 10 000 in one call; `more` says that some are left.
#[utoipa::path(delete, path = "/variables/{scope}", operation_id = "deleteVariables", tag = "Variables",
    responses((status = 200, description = "Deleted", body = ScopeDeletionView)))]
async fn delete_variables(FromState(state): FromState<AppState>, ScopePath(scope): ScopePath, write: Write<NoBody>) -> Result<Response> {
    let (deletion, replayed) = state.services.variables.delete_scope(&write.request, scope).await?;
    answer::done(&ScopeDeletionView { deleted: deletion.deleted, more: deletion.more.then_some(true) }, write.minimal, replayed)
}

/// List the effective variables
///
/// What is in force where a workflow runs for a user in a session: session over user over workflow over global scope, each variable with its
/// origin. A scope whose parameter is left out is not looked at. A value of `null` hides what lies below it.
#[utoipa::path(get, path = "/effective-variables", operation_id = "listEffectiveVariables", tag = "Variables",
    params(
        ("workflow_id" = Option<String>, Query, description = "The workflow.", max_length = 128, nullable = false),
        ("session_id" = Option<String>, Query, description = "The session.", max_length = 128, nullable = false),
        ("user_id" = Option<String>, Query, description = "The user, or `me` for the caller; another than the caller with the permission `delegate`.", max_length = 255, nullable = false),
        ("name" = Option<Vec<String>>, Query, description = "Only these names; repeat the parameter, at most 1000 times.", max_items = 1000, nullable = false),
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of variables", body = EffectivePageView)))]
async fn list_effective_variables(FromState(state): FromState<AppState>, Caller(caller): Caller, query: Query) -> Result<Response> {
    let user = match query.one("user_id")? {
        Some("me") => Some(caller.subject.clone()),
        _ => query.id("user_id", UserId::parse)?,
    };
    let filter = EffectiveFilter {
        session: query.id("session_id", SessionId::parse)?,
        user,
        workflow: query.id("workflow_id", WorkflowId::parse)?,
        names: query.names()?,
    };
    let page = state.services.effective.list(&caller, filter, query.one("cursor")?, query.limit()?).await?;
    let items = page.items.iter().map(EffectiveView::of).collect::<Result<_>>()?;
    answer::list(&EffectivePageView { items, next_cursor: page.next_cursor.as_deref() })
}
