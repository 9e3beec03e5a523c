//! HTTP: routes, identity, problems, the API document. The outermost room.
//!
//! A request passes the edge (`edge.rs`: id, log line; `manners.rs`: browsers, compression; `admission.rs`: limits, deadline), then the guard of its route (`operation.rs`: token and
//! permissions, before any store is touched), then its handler (`routes/`), which calls one service.

mod addresses;
mod admission;
mod answer;
pub mod auth;
mod body;
mod chunks;
mod conditional;
mod edge;
mod extract;
pub(crate) mod fuzzing;
mod heads;
mod manners;
mod openapi;
mod openapi_30;
mod openapi_grammar;
mod openapi_headers;
mod operation;
mod peer;
mod problem;
mod query;
mod refusal;
pub mod routes;
pub mod server;
mod shares;
mod stall;
mod write;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use http::Method;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::auth::Authenticator;
use self::server::Site;
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::service::{Renderers, Services};
use crate::telemetry::Metrics;

pub use openapi::Documents;
pub use operation::{Access, Operation};
pub use shares::Shares;

/// What handlers and layers share. Clones are the same state.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// The parts of an [`AppState`].
pub struct Shared {
    /// The use cases.
    pub services: Services,
    /// Verifies tokens.
    pub authenticator: Arc<Authenticator>,
    /// The settings.
    pub config: Config,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The time, for request ids.
    pub clock: Clock,
    /// The API document.
    pub documents: Documents,
    /// Which patches a path takes, by its template.
    pub patches: BTreeMap<String, &'static str>,
    /// Places for requests at work.
    pub places: Arc<Semaphore>,
    /// Waits for tasks that go on behind an answer.
    pub lifecycle: Lifecycle,
    /// What of them each tenant may have.
    pub shares: Arc<Shares>,
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    /// A state of these parts.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

/// The routes of the API, apart from a running server.
pub struct Surface {
    /// The routes, without their state.
    pub router: Router<AppState>,
    /// The API document.
    pub documents: Documents,
    /// Every operation with its declaration.
    pub operations: Vec<(Method, String, Operation)>,
}

impl Surface {
    /// Which patches a path takes, by its template.
    #[must_use]
    pub fn patches(&self) -> BTreeMap<String, &'static str> {
        let patches = self.operations.iter().filter(|(method, ..)| method == Method::PATCH);
        patches.filter_map(|(_, path, operation)| Some((path.clone(), operation.accept_patch?))).collect()
    }
}

/// Puts the routes together. `metrics_here` adds `/metrics` to the API's own port.
///
/// # Errors
/// The API document does not serialise.
pub fn surface(metrics_here: bool) -> Result<Surface, serde_json::Error> {
    let api = operation::Api::new(OpenApiRouter::with_openapi(openapi::frame()));
    let api = routes::states::add(api);
    let api = routes::executions::add(api);
    let api = routes::checkpoints::add(api);
    let api = routes::sessions::add(api);
    let api = routes::scopes::add(api);
    let api = routes::variables::add(api);
    let api = routes::statistics::add(api);
    let api = routes::operations::add(api, metrics_here);
    let api = routes::documents::add(api);
    let (router, document, operations) = api.into_parts();
    let documents = Documents::build(&document, &operations)?;
    Ok(Surface { router, documents, operations })
}

/// How records become representations, for the services.
#[must_use]
pub fn renderers() -> Renderers {
    Renderers {
        state: routes::states::render,
        checkpoint: routes::checkpoints::render,
        session: routes::sessions::render,
        variable: routes::variables::render,
    }
}

/// The API's port: routes, fallbacks, edge.
pub fn router(routes: Router<AppState>, state: AppState) -> Site {
    let server = &state.config.server;
    let routes = if server.docs { routes.merge(docs()) } else { routes };
    // The last one is the outermost.
    let routes = routes
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(manners::compression(server))
        .layer(from_fn(manners::negotiate))
        .layer(from_fn_with_state(state.clone(), admission::admission));
    let refusals = Router::new().fallback(refusal::refuse);
    Site { router: outermost(routes, &state), refusals: Some(outermost(refusals, &state)) }
}

/// What every answer of the API's port passes last, also that to a request that no route was asked for.
fn outermost(mut routes: Router<AppState>, state: &AppState) -> Router {
    if let Some(rules) = manners::cross_origin_rules(&state.config.server) {
        // Also what is refused below can be read by those who may read.
        routes = routes.layer(from_fn_with_state(rules, manners::cross_origin));
    }
    routes.layer(from_fn_with_state(state.clone(), edge::edge)).with_state(state.clone())
}

/// Swagger UI, from the binary, on this server's own document.
fn docs() -> Router<AppState> {
    // Without this the page asks a validator on the internet for a badge.
    let config = utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none");
    SwaggerUi::new("/docs").config(config).into()
}

/// The metrics' own port.
pub fn metrics_router(state: AppState) -> Site {
    let routes = Router::new()
        .route("/metrics", axum::routing::get(routes::operations::get_metrics))
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(from_fn_with_state(state.clone(), admission::admission))
        .layer(Extension(admission::ForOperators));
    let [router, refusals] = [routes, Router::new().fallback(refusal::refuse)]
        .map(|routes| routes.layer(from_fn_with_state(state.clone(), edge::edge)).with_state(state.clone()));
    Site { router, refusals: Some(refusals) }
}
