//! The API over real sockets and both stores.

pub mod app;
mod auth_coverage;
mod bad_input;
mod checkpoints;
mod executions;
mod faults;
mod headers;
mod idempotency;
mod identity;
mod openapi;
mod patches;
mod races;
pub mod raw;
mod round_trip;
mod scopes;
mod sessions;
mod site;
mod states;
mod statistics;
mod variables;

/// Runs each test once for each store, with a server of its own.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::api::app::TestApp::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::api::app::TestApp::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;
