//! Patches of one resource: read, apply, compare and set, again when another writer was quicker.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::memory::{COMPARE_AND_SET_ATTEMPTS, Calling, Memory, absent, exactly, exhausted, finish, never};
use super::resource::{Render, Resource};
use super::{Done, WriteRequest};
use crate::deadline;
use crate::domain::document;
use crate::domain::patch::{self, PatchFault, PatchKind, PatchLimits};
use crate::error::{Code, Error, Result};
use crate::places;
use crate::store::{Outcome, Store, WriteContext};

/// Greatest patch, with what it applies to, that is applied where the request is handled: some tenths of a millisecond of work.
const MAX_INLINE_BYTES: usize = 64 * 1024;

/// A patch as it came: validated JSON, and how it is to be read.
#[derive(Debug, Clone)]
pub struct Patch {
    /// How it is written.
    pub kind: PatchKind,
    /// Its text.
    pub text: Arc<str>,
    /// What the patched write representation may have, and what the patch may cost.
    pub limits: PatchLimits,
}

/// A resource that can be patched.
pub(super) trait Patchable: Resource {
    /// The write representation of a record, which the patch is applied to.
    fn target(record: &Self::Record) -> Cow<'_, str>;

    /// Reads the patched write representation.
    ///
    /// # Errors
    /// It is not one, or says what cannot be kept.
    fn patched(record: &Self::Record, patch: &Patch, text: &str) -> Result<Self::Document>;

    /// Any document. It is offered under an expectation that never holds, to ask for the stored answer of a key.
    fn any_document() -> Self::Document;
}

impl Memory {
    /// Patches one resource. Without `If-Match` the compare-and-set is tried five times.
    ///
    /// # Errors
    /// It is not there, the patch does not apply, its result is not valid, a failed precondition, a reused key, too many other writers, or
    /// whatever keeps the store from answering.
    pub(super) async fn patch<R: Patchable>(
        &self,
        request: &WriteRequest,
        resource: R,
        patch: Patch,
        render: Render<R::Record>,
    ) -> Result<Done<R::Record>> {
        let precondition = request.precondition.clone();
        let has_key = request.idempotency.is_some();
        let written = resource.clone();
        let attempt = self.run(request, move |store, context| -> Calling<Result<Outcome<R::Record>>> {
            Box::pin(async move {
                for _ in 0..COMPARE_AND_SET_ATTEMPTS {
                    let record = resource.load(&*store).await?.live();
                    let version = record.as_ref().map(R::version);
                    let document = match &record {
                        _ if !precondition.is_met_by(version) => Err(Error::precondition_failed(version)),
                        None => Err(absent(R::ABSENT)),
                        Some(record) => apply::<R>(record, &patch).await,
                    };
                    let document = match document {
                        Ok(document) => document,
                        // An equal request may have changed the resource before; then its answer stands.
                        Err(error) if has_key => return Ok(stored_answer(&resource, &*store, &context).await?.ok_or(error)),
                        Err(error) => return Ok(Err(error)),
                    };
                    match resource.save(&*store, &context, exactly(version), &document).await? {
                        Outcome::Refused { .. } => {}
                        outcome => return Ok(Ok(outcome)),
                    }
                }
                Ok(Err(exhausted()))
            })
        });
        let done = finish(attempt.await??, R::version, R::ABSENT, render)?;
        self.keep(&written, &done);
        Ok(done)
    }
}

/// The stored answer of the request's key, or that the key stands for another request.
async fn stored_answer<R: Patchable>(
    resource: &R,
    store: &dyn Store,
    context: &WriteContext,
) -> crate::store::Result<Option<Outcome<R::Record>>> {
    Ok(match resource.save(store, context, never(), &R::any_document()).await? {
        outcome @ (Outcome::Replayed(_) | Outcome::KeyReused) => Some(outcome),
        _ => None,
    })
}

/// Applies the patch until the deadline; a large one on a thread of its own, which no other request waits for.
async fn apply<R: Patchable>(record: &R::Record, patch: &Patch) -> Result<R::Document> {
    let until = deadline::current();
    if R::target(record).len() + patch.text.len() <= MAX_INLINE_BYTES {
        return apply_until::<R>(record, patch, until);
    }
    let (record, patch) = (record.clone(), patch.clone());
    let applying = places::compute(move || apply_until::<R>(&record, &patch, until));
    applying.await.unwrap_or_else(|error| Err(Error::new(Code::Internal, "Something went wrong in the server.").with_cause(error)))
}

fn apply_until<R: Patchable>(record: &R::Record, patch: &Patch, until: Option<Instant>) -> Result<R::Document> {
    let is_late = || until.is_some_and(|until| until <= Instant::now());
    let text = patch::apply(patch.kind, &R::target(record), &patch.text, patch.limits, &is_late).map_err(refused)?;
    // What a patch makes of two valid documents can nest deeper than either.
    let text = document::validate(text.as_bytes())?;
    R::patched(record, patch, text).map_err(|error| taken_by_null(patch, error))
}

/// A member that is missing was taken away; by a merge patch perhaps in the belief that it would become `null`.
fn taken_by_null(patch: &Patch, mut error: Error) -> Error {
    if error.code == Code::MissingMember && patch.kind == PatchKind::Merge {
        error.detail.push_str(" A merge patch removes a member that it sets to null; to store null, send a JSON Patch or a PUT.");
    }
    error
}

fn refused(fault: PatchFault) -> Error {
    let detail = format!("The patch was not applied: {fault}.");
    match fault {
        PatchFault::Malformed(faults) => faults.into(),
        PatchFault::TestFailed { .. } => Error::new(Code::PatchTestFailed, detail),
        PatchFault::NotApplicable { .. } => Error::new(Code::PatchNotApplicable, detail),
        PatchFault::TooDeep { .. } => Error::new(Code::DocumentTooDeep, detail).with_limit(document::MAX_DEPTH as u64),
        PatchFault::TooCostly { limit } => Error::new(Code::PatchTooCostly, detail).with_limit(limit),
        PatchFault::TooHeavy { limit } => Error::new(Code::PatchTooCostly, detail).with_limit(limit as u64),
        PatchFault::Late => Error::new(Code::DeadlineExceeded, "The deadline passed before the patch was applied. Nothing was written."),
        PatchFault::TooLarge { limit } => Error::new(Code::BodyTooLarge, detail).with_limit(limit as u64),
    }
}
