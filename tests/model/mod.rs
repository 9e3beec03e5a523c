//! The services against what they promise, over random sequences, at the instants of expiry, in storms, and through the cache.

mod cache;
mod cancelled;
mod expiry;
mod sequences;
mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nworkflow_state::config::{self, JobsConfig, Source};
use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::id::{ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::principal::{Permission, Principal};
use nworkflow_state::domain::state::{StateDocument, StateKey};
use nworkflow_state::domain::variable::{Scope, VariableInput, VariableKey};
use nworkflow_state::domain::version::Precondition;
use nworkflow_state::jobs::sweep;
use nworkflow_state::service::{Freshness, WriteRequest};
use uuid::Uuid;

use crate::api::app::TestApp;

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// Someone with all permissions in a tenant that nobody else has.
fn newcomer() -> Arc<Principal> {
    Arc::new(Principal {
        tenant: TenantId::parse(&format!("model-{}", COUNTER.fetch_add(1, Ordering::Relaxed))).unwrap(),
        issuer: "https://issuer.test".into(),
        subject: UserId::parse("ada").unwrap(),
        client: None,
        actor: None,
        permissions: [Permission::Admin].into_iter().collect(),
        expires_at: Timestamp::from_microseconds(i64::MAX),
    })
}

fn request(caller: &Arc<Principal>, precondition: Precondition) -> WriteRequest {
    let request_id = Uuid::from_u128(u128::from(COUNTER.fetch_add(1, Ordering::Relaxed)));
    WriteRequest { caller: Arc::clone(caller), request_id, precondition, idempotency: None }
}

/// A write without preconditions.
fn plain(caller: &Arc<Principal>) -> WriteRequest {
    request(caller, Precondition::default())
}

fn workflow() -> WorkflowId {
    WorkflowId::parse("order").unwrap()
}

fn state(execution: &str) -> StateKey {
    StateKey { workflow: workflow(), execution: ExecutionId::parse(execution).unwrap() }
}

fn session(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

fn name(name: &str) -> VariableName {
    VariableName::parse(name).unwrap()
}

fn variable(scope: Scope, text: &str) -> VariableKey {
    VariableKey { scope, name: name(text) }
}

fn tokens(number: i64) -> StateDocument {
    StateDocument::parse(&format!(r#"{{"marking":{{"a":{number}}}}}"#)).unwrap()
}

fn value(text: impl Into<String>) -> VariableInput {
    VariableInput { value: Some(text.into().into()), secret: None, description: None, ttl_seconds: None }
}

const CACHED: Freshness = Freshness { from_store: false, min_version: None };
const FROM_STORE: Freshness = Freshness { from_store: true, min_version: None };

fn jobs() -> JobsConfig {
    config::load(&Source::default()).unwrap().jobs
}

async fn sweep(app: &TestApp) {
    sweep::run_once(&app.services.housekeeping, &jobs(), &app.lifecycle).await;
}

/// Random numbers that a seed repeats (splitmix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[expect(clippy::print_stdout, reason = "figures of a run are for whoever reads it")]
fn report(line: &str) {
    println!("{line}");
}
