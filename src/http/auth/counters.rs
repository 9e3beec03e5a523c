//! What authentication counts, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Code;

/// The codes under which a request is refused here.
pub const REFUSALS: [Code; 5] = [Code::TokenMissing, Code::TokenInvalid, Code::TokenExpired, Code::TenantMissing, Code::TenantForbidden];

/// Counts since the start of the process. They only grow.
#[derive(Debug, Default)]
pub struct AuthCounters {
    accepted: AtomicU64,
    cache_hits: AtomicU64,
    fetches_succeeded: AtomicU64,
    fetches_failed: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
}

impl AuthCounters {
    /// Requests that were given a principal.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Those of them whose token was found in the cache.
    #[must_use]
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }

    /// Fetches of an issuer's keys that brought usable keys.
    #[must_use]
    pub fn fetches_succeeded(&self) -> u64 {
        self.fetches_succeeded.load(Ordering::Relaxed)
    }

    /// Fetches of an issuer's keys that failed.
    #[must_use]
    pub fn fetches_failed(&self) -> u64 {
        self.fetches_failed.load(Ordering::Relaxed)
    }

    /// Requests that were refused under the code, one of [`REFUSALS`]; 0 for any other.
    #[must_use]
    pub fn refused(&self, code: Code) -> u64 {
        self.refusals(code).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn count_accepted(&self, from_cache: bool) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if from_cache {
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_refused(&self, code: Code) {
        if let Some(count) = self.refusals(code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_fetch(&self, succeeded: bool) {
        let count = if succeeded { &self.fetches_succeeded } else { &self.fetches_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn refusals(&self, code: Code) -> Option<&AtomicU64> {
        let index = REFUSALS.iter().position(|refusal| *refusal == code)?;
        self.refused.get(index)
    }
}
