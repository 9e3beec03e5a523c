//! Reads whose callers go away at any moment: what they leave behind answers the next one right.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::service::variables::VariableFilter;
use serde_json::Value;

use super::{CACHED, FROM_STORE, Random, newcomer, plain, report, state, tokens, value, variable};
use crate::api::app::TestApp;

const KEYS: usize = 20;
const TASKS: u64 = 8;

/// One read of one key of a tenant, and whether it is what that tenant wrote there.
async fn read(app: &TestApp, caller: &Arc<Principal>, number: usize, kind: usize) -> bool {
    let (tenant, freshness) = (caller.tenant.as_str(), if kind.is_multiple_of(3) { CACHED } else { FROM_STORE });
    let scope = Scope::Global;
    match kind {
        0..4 => {
            let found = app.services.variables.get(caller, variable(scope, &format!("v{number}")), freshness).await.unwrap();
            let body: Value = serde_json::from_slice(&found.body).unwrap();
            body["value"] == format!("{tenant} {number}")
        }
        4..6 => {
            let found = app.services.states.get(caller, state(&format!("{tenant}-{number}")), freshness).await.unwrap();
            let body: Value = serde_json::from_slice(&found.body).unwrap();
            body["execution_id"] == format!("{tenant}-{number}") && body["marking"]["a"] == number
        }
        _ => {
            let page = app.services.variables.list(caller, &scope, VariableFilter::default(), None, 100).await.unwrap();
            page.items.len() == KEYS && page.items.iter().all(|record| record.value.starts_with(&format!("\"{tenant} ")))
        }
    }
}

async fn yields(turns: usize) {
    if turns == usize::MAX {
        std::future::pending::<()>().await;
    }
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// D8.
async fn dropped_reads_leave_nothing_behind(app: TestApp) {
    let most = crate::support::size(10_000, 100_000);
    let callers = [newcomer(), newcomer(), newcomer()];
    for caller in &callers {
        let tenant = caller.tenant.as_str();
        for number in 0..KEYS {
            let text = format!("\"{tenant} {number}\"");
            app.services.variables.put(&plain(caller), variable(Scope::Global, &format!("v{number}")), value(text)).await.unwrap();
            let tokens = tokens(i64::try_from(number).unwrap());
            app.services.states.put(&plain(caller), state(&format!("{tenant}-{number}")), tokens).await.unwrap();
        }
    }
    let (app, callers) = (Arc::new(app), Arc::new(callers));
    let (dropped, finished) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (app, callers) = (Arc::clone(&app), Arc::clone(&callers));
        let (dropped, finished) = (Arc::clone(&dropped), Arc::clone(&finished));
        let lifecycle = app.lifecycle.clone();
        tasks.push(lifecycle.spawn(async move {
            let mut random = Random(task);
            while dropped.load(Ordering::Relaxed) < most {
                let (caller, number, kind) = (&callers[random.below(callers.len())], random.below(KEYS), random.below(7));
                // From a few turns of the scheduler to several hundred: a drop hits every await of a read.
                let magnitude = random.below(10);
                // Some are waited for, however slow the store.
                let turns = if random.below(10) == 0 { usize::MAX } else { random.below(1 << magnitude) };
                tokio::select! {
                    biased;
                    right = read(&app, caller, number, kind) => {
                        assert!(right, "{}: a foreign or wrong row", caller.tenant);
                        finished.fetch_add(1, Ordering::Relaxed);
                    }
                    () = yields(turns) => {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Every connection of the pool at once, twice over, and every kind of read.
    let mut reads = Vec::new();
    for round in 0..7 * KEYS {
        let (app, caller) = (Arc::clone(&app), Arc::clone(&callers[round % callers.len()]));
        let lifecycle = app.lifecycle.clone();
        reads.push(lifecycle.spawn(async move { read(&app, &caller, round % KEYS, round % 7).await }));
    }
    let mut right = 0;
    for read in reads {
        assert!(read.await.unwrap(), "a foreign or wrong row after the drops");
        right += 1;
    }
    let figures = app.services.operations.figures().await;
    report(&format!(
        "D8: {}: {} reads dropped, {} finished beside them, {right} right afterwards, foreign rows 0, {} connections",
        figures.backend,
        dropped.load(Ordering::Relaxed),
        finished.load(Ordering::Relaxed),
        figures.store.connections
    ));
    assert!(figures.connected && finished.load(Ordering::Relaxed) > 100, "both ends of the race happen");
}

crate::api::on_both_stores!(dropped_reads_leave_nothing_behind);
