//! The declaration of an operation: who may call it and what it can refuse. Declared once, where the route is added; the guard enforces
//! it, the API document publishes it (`http/openapi.rs`), and the tests hold every answer they ever see against it.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::AppState;
use super::write::ACCEPT_PATCH;
use crate::domain::principal::{Permission, Principal};
use crate::error::{Code, Error, Result};
use crate::places;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a token.
    Open,
    /// Principals that hold all of these permissions.
    Guarded(&'static [Permission]),
}

/// One operation beside its handler. Build it with [`Operation::open`] or [`Operation::guarded`].
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who may call it.
    pub access: Access,
    /// Permissions that some requests need beside those: which, and when.
    pub also: Vec<(Permission, &'static str)>,
    /// The codes that it can answer.
    pub codes: Vec<Code>,
    /// Whether it takes `If-Match` and `If-None-Match`.
    pub conditional: bool,
    /// Whether it takes `Idempotency-Key` and `Prefer`.
    pub writes: bool,
    /// Whether it takes `Cache-Control: no-cache` and `X-Min-Version`.
    pub reads_fresh: bool,
    /// Whether it reads a list.
    pub lists: bool,
    /// The id of the HEAD operation beside it.
    pub head: Option<&'static str>,
    /// Of a PATCH: the media types that it takes.
    pub accept_patch: Option<&'static str>,
    /// Whether the body may be left out.
    pub optional_body: bool,
    /// Whether its answers tell in `Session-Expires` when the session will be gone.
    pub tells_expiry: bool,
    /// Whether it counts as a request of its tenant.
    pub is_counted: bool,
}

/// What the edge itself can refuse.
const EDGE: &[Code] = &[
    Code::InvalidHeader,
    // A head or a body that is no HTTP, or a body that breaks off.
    Code::InvalidRequest,
    Code::UriTooLong,
    Code::HeadersTooLarge,
    Code::Internal,
    Code::Overloaded,
    Code::DeadlineExceeded,
];
/// What the guard can refuse.
const GUARD: &[Code] = &[
    Code::TokenMissing,
    Code::TokenInvalid,
    Code::TokenExpired,
    Code::TenantMissing,
    Code::TenantForbidden,
    Code::PermissionMissing,
    Code::TooManyRequests,
];
/// What every write can refuse.
const WRITE: &[Code] = &[
    Code::InvalidEtag,
    Code::BodyTimeout,
    Code::Conflict,
    Code::IdempotencyInFlight,
    Code::IdempotencyKeyReused,
    Code::PreconditionFailed,
    Code::BodyTooLarge,
    Code::StoreUnavailable,
    Code::QueueFull,
    Code::CacheUnavailable,
    Code::OutcomeUnknown,
];
/// What every write that is about no single resource can refuse.
const ACT: &[Code] = &[
    Code::InvalidEtag,
    Code::PreconditionNotAllowed,
    Code::BodyTimeout,
    Code::IdempotencyInFlight,
    Code::IdempotencyKeyReused,
    Code::BodyTooLarge,
    Code::StoreUnavailable,
    Code::QueueFull,
    Code::CacheUnavailable,
    Code::OutcomeUnknown,
];
/// What every JSON body can be refused for.
const JSON: &[Code] = &[
    Code::InvalidJson,
    Code::DuplicateMember,
    Code::NulNotAllowed,
    Code::LoneSurrogate,
    Code::UnknownMember,
    Code::UnsupportedMediaType,
    Code::InvalidType,
    Code::NumberOutOfRange,
    Code::MissingMember,
    Code::DocumentTooDeep,
];

impl Operation {
    fn new(access: Access) -> Self {
        Self {
            access,
            also: Vec::new(),
            codes: EDGE.to_vec(),
            conditional: false,
            writes: false,
            reads_fresh: false,
            lists: false,
            head: None,
            accept_patch: None,
            optional_body: false,
            tells_expiry: false,
            is_counted: true,
        }
    }

    /// An operation that needs no token.
    #[must_use]
    pub fn open() -> Self {
        Self::new(Access::Open)
    }

    /// An operation that needs all of these permissions.
    #[must_use]
    pub fn guarded(permissions: &'static [Permission]) -> Self {
        Self::new(Access::Guarded(permissions)).refuses(GUARD)
    }

    /// It is for whoever watches the server, and so counts as nobody's request.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.is_counted = false;
        self.codes.retain(|code| *code != Code::TooManyRequests);
        self
    }

    /// It tells whether the server is well, so it is answered also when no place is free.
    #[must_use]
    pub fn probes(mut self) -> Self {
        self.codes.retain(|code| *code != Code::Overloaded);
        self
    }

    /// Some requests need this permission as well; `when` completes the sentence "needed ...". The service checks it.
    #[must_use]
    pub fn also(mut self, permission: Permission, when: &'static str) -> Self {
        self.also.push((permission, when));
        self
    }

    /// Adds codes that the operation can answer.
    #[must_use]
    pub fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    /// A write of one resource: preconditions, idempotency key, preference.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.writes = true;
        self.conditional = true;
        self.refuses(WRITE)
    }

    /// It takes a JSON body.
    #[must_use]
    pub fn takes_json(self) -> Self {
        self.refuses(JSON)
    }

    /// It takes a JSON body, or none.
    #[must_use]
    pub fn takes_optional_json(mut self) -> Self {
        self.optional_body = true;
        self.takes_json()
    }

    /// Its answers tell when the session will be gone.
    #[must_use]
    pub fn tells_expiry(mut self) -> Self {
        self.tells_expiry = true;
        self
    }

    /// A write that is about no single resource: an idempotency key and a preference, but no preconditions.
    #[must_use]
    pub fn acts(mut self) -> Self {
        self.writes = true;
        self.refuses(ACT)
    }

    /// It takes a patch.
    #[must_use]
    pub fn takes_patch(mut self) -> Self {
        self.accept_patch = Some(ACCEPT_PATCH);
        self.takes_json().refuses(&[
            Code::PatchTestFailed,
            Code::PatchNotApplicable,
            Code::PatchTooCostly,
            Code::TooManyElements,
            Code::InvalidValue,
        ])
    }

    /// A read of one resource: preconditions, freshness, and a HEAD operation beside it.
    #[must_use]
    pub fn reads_one(mut self, head: &'static str) -> Self {
        self.conditional = true;
        self.reads_fresh = true;
        self.head = Some(head);
        self.refuses(&[Code::InvalidEtag, Code::PreconditionFailed, Code::VersionNotReached, Code::StoreUnavailable, Code::QueueFull])
    }

    /// A read of a list.
    #[must_use]
    pub fn reads(mut self) -> Self {
        self.lists = true;
        self.refuses(&[Code::InvalidParameter, Code::StoreUnavailable, Code::QueueFull])
    }
}

/// Routes with their declarations. The only way to add a route of the API.
pub(super) struct Api {
    router: OpenApiRouter<AppState>,
    operations: Vec<(Method, String, Operation)>,
}

impl Api {
    /// An API without routes.
    #[must_use]
    pub(super) fn new(router: OpenApiRouter<AppState>) -> Self {
        Self { router, operations: Vec::new() }
    }

    /// Adds one handler (one `routes!(handler)`) with its declaration.
    #[must_use]
    pub(super) fn route(mut self, (schemas, paths, methods): UtoipaMethodRouter<AppState>, mut operation: Operation) -> Self {
        if paths.paths.values().any(|item| item.patch.is_some()) {
            operation.accept_patch.get_or_insert("application/json");
        }
        for (path, item) in &paths.paths {
            let by_method = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
                (Method::PATCH, &item.patch),
            ];
            for (method, _) in by_method.into_iter().filter(|(_, declared)| declared.is_some()) {
                self.operations.push((method, path.clone(), operation.clone()));
            }
        }
        let (access, is_counted, accept_patch) = (operation.access, operation.is_counted, operation.accept_patch);
        let methods = methods.route_layer(from_fn(move |request: Request, next: Next| async move {
            guard(access, is_counted, request, next).await.map(|answer| with_accept_patch(answer, accept_patch))
        }));
        self.router = self.router.routes((schemas, paths, methods));
        self
    }

    /// The router, the document as the handlers describe it, and the declarations.
    pub(super) fn into_parts(self) -> (axum::Router<AppState>, utoipa::openapi::OpenApi, Vec<(Method, String, Operation)>) {
        let (router, document) = self.router.split_for_parts();
        (router, document, self.operations)
    }
}

/// Who makes a request, once the guard knows. The edge holds it as well, so that its log line names the caller also when the handler
/// gave no answer: it panicked, or its time was over.
#[derive(Debug, Clone, Default)]
pub(super) struct Identified(Arc<OnceLock<Arc<Principal>>>);

impl Identified {
    fn set(&self, principal: Arc<Principal>) {
        // A request passes one guard, so nothing is there yet.
        let _ = self.0.set(principal);
    }

    /// The caller, when the token was good.
    pub(super) fn get(&self) -> Option<&Principal> {
        self.0.get().map(|principal| &**principal)
    }
}

/// Whoever sent a patch in another media type is told which ones are taken (RFC 5789 section 2.2).
fn with_accept_patch(mut answer: Response, accept_patch: Option<&'static str>) -> Response {
    if let Some(accept_patch) = accept_patch.filter(|_| answer.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE) {
        answer.headers_mut().insert("accept-patch", HeaderValue::from_static(accept_patch));
    }
    answer
}

/// Lets a request pass to its handler when its token is good and holds the declared permissions, and its tenant has not too many others at
/// work. No store is touched and no body is read before.
async fn guard(access: Access, is_counted: bool, mut request: Request, next: Next) -> Result<Response> {
    let Access::Guarded(permissions) = access else { return Ok(next.run(request).await) };
    let Some(Extension(state)) = request.extensions().get::<Extension<AppState>>().cloned() else {
        return Err(Error::new(Code::Internal, "Something went wrong in the server.").with_cause("the guard has no authenticator"));
    };
    let principal = state.authenticator.authenticate(request.headers()).await?;
    if let Some(identified) = request.extensions().get::<Identified>() {
        identified.set(Arc::clone(&principal));
    }
    // Until all work of the request has ended.
    let _at_work = if is_counted {
        let entered = state.shares.enter(&principal.tenant, Instant::now());
        places::hold(entered.inspect_err(|excess| state.metrics.record_excess(excess.name()))?)
    } else {
        None
    };
    if let Some(missing) = permissions.iter().find(|permission| !principal.may(**permission)) {
        return Err(Error::new(Code::PermissionMissing, format!("The permission {} is missing.", missing.name())));
    }
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}
