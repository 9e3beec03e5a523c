//! Pure types and rules. Nothing here knows a runtime, a database, HTTP or a cache.

pub mod batch;
pub mod checkpoint;
pub mod clock;
pub mod commit;
pub mod diagnosis;
pub mod document;
pub(crate) mod fuzzing;
pub mod id;
pub mod marking;
pub mod page;
pub mod patch;
mod patch_reference;
pub mod principal;
pub mod retry;
pub mod session;
pub mod state;
pub mod store_life;
pub mod tier;
pub mod variable;
pub mod version;
