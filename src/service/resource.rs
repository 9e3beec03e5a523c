//! What the one read and write path needs to know of a kind of resource.

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::Entry;
use crate::domain::commit;
use crate::domain::id::TenantId;
use crate::domain::variable::ScopeLife;
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Result};
use crate::store::{self, Lookup, Outcome, Store, Tombstone, WriteContext};

/// A representation, finished: what goes over the wire, and the path of the resource that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The body.
    pub body: Bytes,
    /// The path, percent-encoded.
    pub location: String,
}

/// Makes the representation of a record. The services get theirs from the edge, which knows the wire format.
pub type Render<R> = fn(&R) -> Result<Rendered>;

/// One resource of a tenant: where it is, how it is read, saved and removed.
#[async_trait]
pub(super) trait Resource: Clone + Send + Sync + 'static {
    /// What a read gives.
    type Record: Clone + Send + Sync + 'static;
    /// What a save takes.
    type Document: Clone + Send + Sync + 'static;

    /// The code for a resource that is not there.
    const ABSENT: Code;

    /// The tenant.
    fn tenant(&self) -> &TenantId;

    /// How caches and commit observers name it.
    fn name(&self) -> commit::Resource;

    /// The life of the scope that it is in, when it is in one that has lives.
    fn life(&self) -> ScopeLife {
        None
    }

    /// The version of a record.
    fn version(record: &Self::Record) -> Version;

    /// What a cache keeps of it.
    fn entry(&self, record: &Self::Record, body: Bytes) -> Entry;

    /// What a cache keeps of its absence; `tombstone`: the version of its deletion.
    fn absence(&self, tombstone: Option<Version>) -> Entry {
        Entry::absent(tombstone)
    }

    /// Reads it.
    async fn load(&self, store: &dyn Store) -> store::Result<Lookup<Self::Record>>;

    /// Saves it.
    async fn save(
        &self,
        store: &dyn Store,
        context: &WriteContext,
        expected: Expected,
        document: &Self::Document,
    ) -> store::Result<Outcome<Self::Record>>;

    /// Removes it.
    async fn remove(&self, store: &dyn Store, context: &WriteContext, expected: Expected) -> store::Result<Outcome<Tombstone>>;
}
