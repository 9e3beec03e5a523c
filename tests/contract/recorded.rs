//! A store that passes every call on and remembers which methods were called.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::support::store_methods::store_methods;
use crate::support::store_methods::types::*;

/// The methods that were called, of all stores that share it.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashSet<&'static str>>);

impl Calls {
    fn add(&self, method: &'static str) {
        self.0.lock().unwrap().insert(method);
    }

    /// The methods that were not called.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let called = self.0.lock().unwrap();
        METHODS.iter().copied().filter(|method| !called.contains(method)).collect()
    }
}

pub(super) struct Recorded<S> {
    store: S,
    calls: Arc<Calls>,
}

impl<S> Recorded<S> {
    pub(super) fn new(store: S, calls: &Arc<Calls>) -> Self {
        Self { store, calls: Arc::clone(calls) }
    }
}

/// The delegation and the list of its methods, from the same lines: the trait has no default methods, so a line that is missing here
/// does not compile, and one that is here is asked for.
macro_rules! recorded {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)+) => {
        const METHODS: &[&str] = &["backend", "figures", "close", $(stringify!($method)),+];

        #[async_trait]
        impl<S: Store> Store for Recorded<S> {
            fn backend(&self) -> Backend {
                self.calls.add("backend");
                self.store.backend()
            }

            fn figures(&self) -> StoreFigures {
                self.calls.add("figures");
                self.store.figures()
            }

            async fn close(&self) {
                self.calls.add("close");
                self.store.close().await;
            }

            $(async fn $method(&self, $($name: $type),*) -> $answer {
                self.calls.add(stringify!($method));
                self.store.$method($($name),*).await
            })+
        }
    };
}

store_methods!(recorded);
