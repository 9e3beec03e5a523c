//! A request that writes: its caller, preconditions, idempotency key, preference and body, read in the order in which they are refused.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use tokio::time::Instant;
use uuid::Uuid;

use super::extract::{RequestId, caller, single_header};
use super::{AppState, body, conditional};
use crate::deadline;
use crate::domain::document;
use crate::domain::patch::{PatchKind, PatchLimits};
use crate::error::{Code, Error, Result};
use crate::places;
use crate::service::{IdempotencyKey, Patch, WriteRequest};

/// Greatest body that is read where the request is handled: some tenths of a millisecond of work.
const MAX_INLINE_BYTES: usize = 64 * 1024;
/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// What a PATCH takes, as the header `Accept-Patch` says it.
pub(super) const ACCEPT_PATCH: &str = "application/merge-patch+json, application/json-patch+json";

/// What the body of an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// A patch; bare `application/json` is a merge patch.
    Patch,
    /// Nothing: what comes is dropped.
    Nothing,
}

/// Which body an operation takes.
pub(super) trait BodyKind: Send {
    /// What it is.
    const MEDIA: Media;

    /// The greatest size in bytes.
    fn limit(state: &AppState) -> usize {
        state.config.limits.body_bytes
    }
}

macro_rules! body_kinds {
    ($($(#[$doc:meta])* $name:ident = $media:ident $($limit:ident)?;)*) => {
        $($(#[$doc])*
        pub(super) struct $name;

        impl BodyKind for $name {
            const MEDIA: Media = Media::$media;

            $(fn limit(state: &AppState) -> usize {
                state.config.limits.$limit
            })?
        })*
    };
}

body_kinds! {
    /// The body of a state or checkpoint.
    StateBody = Json state_body_bytes;
    /// A patch of a state.
    StatePatch = Patch state_body_bytes;
    /// Any other body.
    SmallBody = Json;
    /// A patch of anything else.
    SmallPatch = Patch;
    /// No body.
    NoBody = Nothing;
}

/// A request that writes, with a body of kind `B`.
pub(super) struct Write<B> {
    /// For the service.
    pub(super) request: WriteRequest,
    /// Whether the client wants no representation back (`Prefer: return=minimal`).
    pub(super) minimal: Option<bool>,
    body: Bytes,
    patch: PatchKind,
    limits: PatchLimits,
    kind: PhantomData<B>,
}

impl<B: BodyKind> Write<B> {
    /// Validates the body as one JSON document and reads it. A large one is read on a thread of its own: it takes too long for one that
    /// other requests wait for. The body is gone then, so that it is not held beside what was made of it: once only.
    ///
    /// # Errors
    /// What [`document::validate`] or `read` finds.
    pub(super) async fn read<T, E>(&mut self, read: fn(&str) -> Result<T, E>) -> Result<T>
    where
        T: Send + 'static,
        E: Send + 'static,
        Error: From<E>,
    {
        let body = std::mem::take(&mut self.body);
        if body.len() <= MAX_INLINE_BYTES {
            return Ok(read(document::validate(&body)?)?);
        }
        let reading = places::compute(move || -> Result<T> { Ok(read(document::validate(&body)?)?) });
        reading.await.unwrap_or_else(|error| Err(Error::new(Code::Internal, "Something went wrong in the server.").with_cause(error)))
    }

    /// The same, where no body at all stands for an empty object.
    ///
    /// # Errors
    /// What [`document::validate`] or `read` finds.
    pub(super) async fn read_or_empty<T, E>(&mut self, read: fn(&str) -> Result<T, E>) -> Result<T>
    where
        T: Send + 'static,
        E: Send + 'static,
        Error: From<E>,
    {
        if self.body.is_empty() {
            self.body = Bytes::from_static(b"{}");
        }
        self.read(read).await
    }

    /// The body as a patch.
    ///
    /// # Errors
    /// What [`document::validate`] finds.
    pub(super) async fn patch(&mut self) -> Result<Patch> {
        let text = self.read(|body| Ok::<Arc<str>, Error>(body.into())).await?;
        Ok(Patch { kind: self.patch, text, limits: self.limits })
    }
}

/// Checks the media type, and tells how a patch is written.
fn check_media(media: Media, headers: &HeaderMap) -> Result<PatchKind> {
    if media == Media::Nothing {
        return Ok(PatchKind::Merge);
    }
    let announced = body::media_type(headers)?;
    match (media, announced.as_deref()) {
        (_, None | Some("application/json")) | (Media::Patch, Some("application/merge-patch+json")) => Ok(PatchKind::Merge),
        (Media::Patch, Some("application/json-patch+json")) => Ok(PatchKind::Operations),
        (Media::Patch, _) => Err(Error::new(Code::UnsupportedMediaType, format!("A patch must be {ACCEPT_PATCH}."))),
        _ => Err(Error::new(Code::UnsupportedMediaType, "The body must be application/json.")),
    }
}

impl<B: BodyKind> FromRequest<AppState> for Write<B> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let (parts, incoming) = request.into_parts();
        let caller = caller(&parts)?;
        let precondition = conditional::precondition(&parts.headers)?;
        let key = idempotency_key(&parts)?;
        let minimal = return_preference(&parts);
        let patch = check_media(B::MEDIA, &parts.headers)?;
        let limits = &state.config.limits;
        let limits =
            PatchLimits { bytes: B::limit(state), steps_per_byte: limits.patch_steps_per_byte, memory_bytes: limits.patch_memory_bytes };
        let body = body::read(&parts.headers, incoming, limits.bytes, state.config.server.body_read_timeout_ms.into()).await?;
        // The body's time is over; the rest is for what it asks for.
        deadline::bring_forward(Instant::now() + Duration::from(state.config.server.request_timeout_ms));
        let idempotency = key.map(|key| IdempotencyKey { fingerprint: fingerprint(&parts, &body), key: key.to_owned() });
        let request_id = parts.extensions.get::<RequestId>().map_or(Uuid::nil(), |id| id.uuid);
        Ok(Self {
            request: WriteRequest { caller, request_id, precondition, idempotency },
            minimal,
            body,
            patch,
            limits,
            kind: PhantomData,
        })
    }
}

/// The header `Idempotency-Key`; quotes around it (the form of structured fields) are not part of the key.
pub(super) fn idempotency_key(parts: &Parts) -> Result<Option<&str>> {
    let Some(value) = single_header(&parts.headers, "idempotency-key")? else { return Ok(None) };
    let key = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let printable = key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if key.is_empty() || value.len() > MAX_KEY_BYTES || !printable {
        return Err(Error::new(Code::InvalidHeader, format!("Idempotency-Key must be 1 to {MAX_KEY_BYTES} printable ASCII characters."))
            .with_limit(MAX_KEY_BYTES as u64));
    }
    Ok(Some(key))
}

/// The preference `return` of RFC 7240: minimal (true) or representation (false). The first one counts.
pub(super) fn return_preference(parts: &Parts) -> Option<bool> {
    let values = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default().trim();
        let (name, value) = preference.split_once('=')?;
        match value.trim().trim_matches('"') {
            "minimal" if name.trim().eq_ignore_ascii_case("return") => Some(true),
            "representation" if name.trim().eq_ignore_ascii_case("return") => Some(false),
            _ => None,
        }
    })
}

/// 128 bits of SHA-256 over method, path, query, content type, preconditions and body, each with its length in front.
fn fingerprint(parts: &Parts, body: &[u8]) -> Uuid {
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    add(parts.method.as_str().as_bytes());
    add(parts.uri.path().as_bytes());
    add(parts.uri.query().unwrap_or_default().as_bytes());
    for name in [CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH] {
        let values: Vec<&[u8]> = parts.headers.get_all(&name).iter().map(http::HeaderValue::as_bytes).collect();
        add(&values.join(&b','));
    }
    add(body);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Uuid::from_bytes(bytes)
}
