//! Tokens that were verified a short while ago.

use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::domain::clock::Timestamp;
use crate::domain::principal::Principal;

/// A principal and how long it may be believed without a new check.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) principal: Arc<Principal>,
    /// Index of the issuer.
    pub(super) issuer: usize,
    /// The key set that verified the token. Another one may have dropped the key.
    pub(super) generation: u64,
    pub(super) fresh_until: Timestamp,
}

/// The whole token and the whole selection, not a hash of them: two tokens can never be taken for one another.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    token: Box<str>,
    selection: Option<Box<str>>,
}

#[derive(Hash)]
struct Lookup<'a> {
    token: &'a str,
    selection: Option<&'a str>,
}

impl Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.token == &*key.token && self.selection == key.selection.as_deref()
    }
}

/// The cache, bounded by its number of entries; with 0 entries there is none.
#[derive(Debug)]
pub(super) struct TokenCache(Option<Cache<Key, Verified>>);

impl TokenCache {
    pub(super) fn new(entries: usize) -> Self {
        Self((entries > 0).then(|| Cache::new(entries)))
    }

    /// What was verified and is still fresh. `generation` gives an issuer's present key set; `None` when it has no usable one.
    pub(super) fn get(
        &self,
        token: &str,
        selection: Option<&str>,
        now: Timestamp,
        generation: impl Fn(usize) -> Option<u64>,
    ) -> Option<Arc<Principal>> {
        let cache = self.0.as_ref()?;
        let lookup = Lookup { token, selection };
        let found = cache.get(&lookup)?;
        if now < found.fresh_until && generation(found.issuer) == Some(found.generation) {
            return Some(found.principal);
        }
        cache.remove(&lookup);
        None
    }

    pub(super) fn insert(&self, token: &str, selection: Option<&str>, verified: Verified) {
        if let Some(cache) = &self.0 {
            cache.insert(Key { token: token.into(), selection: selection.map(Into::into) }, verified);
        }
    }
}
