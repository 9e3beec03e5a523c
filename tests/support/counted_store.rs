//! A store that passes every call on and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::support::store_methods::store_methods;
use crate::support::store_methods::types::*;

/// A store that counts the calls that reach the database.
pub(crate) struct CountedStore {
    store: Arc<dyn Store>,
    calls: AtomicUsize,
}

impl CountedStore {
    pub(crate) fn over(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, calls: AtomicUsize::new(0) })
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// The trait has no default methods, so one that is missing here does not compile.
macro_rules! counted {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for CountedStore {
            fn backend(&self) -> Backend {
                self.store.backend()
            }

            fn figures(&self) -> StoreFigures {
                self.store.figures()
            }

            async fn close(&self) {
                self.store.close().await;
            }

            $(async fn $method(&self, $($name: $type),*) -> $answer {
                self.calls.fetch_add(1, Ordering::SeqCst);
                self.store.$method($($name),*).await
            })+
        }
    };
}

store_methods!(counted);
