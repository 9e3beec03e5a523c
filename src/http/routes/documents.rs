//! What the server says about itself: the API document in two versions and a page for each error code.

use axum::extract::State as FromState;
use axum::response::{Html, IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use utoipa_axum::routes;

use crate::error::Code;
use crate::http::AppState;
use crate::http::extract::CodePath;
use crate::http::operation::{Api, Operation};

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(routes!(get_openapi), Operation::open())
        .route(routes!(get_openapi_30), Operation::open())
        .route(routes!(list_errors), Operation::open())
        .route(routes!(get_error), Operation::open().refuses(&[Code::ErrorNotFound, Code::InvalidPath]))
}

fn document(text: bytes::Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Get the API document
///
/// OpenAPI 3.1, as this server has its routes.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "Documents",
    responses((status = 200, description = "The document", content_type = "application/json", body = std::collections::BTreeMap<String, serde_json::Value>)))]
async fn get_openapi(FromState(state): FromState<AppState>) -> Response {
    document(state.documents.openapi_31.clone())
}

/// Get the API document for tools that read OpenAPI 3.0
#[utoipa::path(get, path = "/openapi-3.0.json", operation_id = "getOpenApi30", tag = "Documents",
    responses((status = 200, description = "The document", content_type = "application/json", body = std::collections::BTreeMap<String, serde_json::Value>)))]
async fn get_openapi_30(FromState(state): FromState<AppState>) -> Response {
    document(state.documents.openapi_30.clone())
}

/// List the error codes
#[utoipa::path(get, path = "/errors", operation_id = "listErrors", tag = "Documents",
    responses((status = 200, description = "A page with all codes", content_type = "text/html", body = String)))]
async fn list_errors() -> Html<String> {
    let rows = Code::ALL.iter().map(|code| {
        format!(
            "<tr><td>{}</td><td><a href=\"/errors/{name}\"><code>{name}</code></a></td><td>{}</td><td>{}</td></tr>\n",
            code.status(),
            code.title(),
            code.retry().name(),
            name = code.name()
        )
    });
    page(
        "Error codes",
        &format!(
            "<h1>Error codes</h1>\n<table>\n<tr><th>Status</th><th>Code</th><th>Title</th><th>Send again?</th></tr>\n{}</table>",
            rows.collect::<String>()
        ),
    )
}

/// Explain an error code
///
/// The page that the member `type` of a problem leads to.
#[utoipa::path(get, path = "/errors/{code}", operation_id = "getError", tag = "Documents",
    responses((status = 200, description = "A page about the code", content_type = "text/html", body = String)))]
async fn get_error(CodePath(code): CodePath) -> Html<String> {
    let text = format!(
        "<h1>{}</h1>\n<p>Status {}, code <code>{}</code></p>\n<h2>What it means</h2>\n<p>{}</p>\n<h2>What to do</h2>\n<p>{}</p>\n<h2>May it be sent again?</h2>\n<p>{}: {}</p>\n<p><a href=\"/errors\">All codes</a></p>",
        code.title(),
        code.status(),
        code.name(),
        code.meaning(),
        code.action(),
        capitalised(code.retry().name()),
        code.retry().sentence()
    );
    page(code.name(), &text)
}

fn capitalised(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// Titles and texts come from the table of codes, never from a request: there is nothing to escape.
fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body{{font:16px/1.5 system-ui;margin:3rem auto;max-width:50rem;padding:0 1rem}}td,th{{padding:.2rem .8rem .2rem 0;vertical-align:top;text-align:left}}</style></head>\n<body>\n{body}\n</body></html>\n"
    ))
}
