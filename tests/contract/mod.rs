//! What every store promises, tried on every backend: cases that know nothing but the trait.
//!
//! A new method of the trait needs a line in `recorded.rs` (else it does not compile) and a case that calls it (else the run fails).
//! A new backend needs a branch in `backends.rs` and a test function here.

mod backends;
mod batches;
mod bench;
mod checkpoints;
mod concurrency;
mod effective;
mod executions;
mod history;
mod housekeeping;
mod idempotency;
mod isolation;
mod listing;
mod log;
mod moments;
mod observing;
mod preconditions;
mod recorded;
mod sessions;
mod states;
mod variables;
mod watcher;

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use backends::Backend;
use bench::Bench;
use recorded::Calls;

/// Set to a part of a case's name, it runs only those, and does not ask whether every method has a case.
const ONLY: &str = "NWORKFLOW_TEST_CASE";

struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Bench) -> BoxFuture<'a, ()>,
}

macro_rules! cases {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |bench| Box::pin($module::$case(bench)),
        },)+)+]
    };
}

const CASES: &[Case] = cases! {
    states: versions_grow_over_deletion, times_grow_against_the_clock, bytes_are_kept, the_largest_state, the_longest_ids, a_closed_store_fails;
    history: versions_are_read_one_by_one, pages_in_both_directions, nothing_where_nothing_was;
    variables: versions_grow_over_deletion, times_grow_against_the_clock, bytes_are_kept, the_longest_keys,
        gone_at_its_instant, expired_is_absent_to_writes, a_ttl_is_set_anew_by_every_write;
    sessions: versions_grow_over_deletion, times_grow_against_the_clock, bytes_are_kept, replayed_as_they_were, gone_at_their_instant, within_reach,
        writes_and_the_clock, extended, ends_within_the_calendar, touched, listed_within_reach, lives_inherit_nothing;
    batches: set_and_delete_in_one, all_or_nothing, flags_stay, a_batch_is_replayed, a_thousand_names, parallel_batches_are_serial,
        increments, an_increment_is_replayed, a_hundred_increments_at_once, a_scope_is_deleted;
    effective: the_first_scope_wins, what_is_gone_shadows_nothing, page_after_page;
    checkpoints: of_the_current_state, of_a_given_state, an_id_is_taken_once, replayed_as_they_were, restored_onto_a_live_state, restored_onto_nothing,
        forked, forked_as_expected, listed_over_executions, listed_at_one_moment;
    moments: what_was_in_force, among_many_versions;
    executions: workflows_with_a_live_state, in_both_orders, pages_while_rows_change, removed_at_one_commit, checkpoints_versions_grow_over_removal,
        removed_without_a_state, counted_up_to_ten_thousand;
    housekeeping: expired_sessions_become_tombstones, expired_variables_become_tombstones, variables_go_with_their_sessions,
        tombstones_go_in_two_phases, a_steady_stream_is_removed, versions_never_repeat, a_state_with_a_past_stays, an_empty_head_goes,
        removed_executions_lose_their_rows, old_keys_and_log_rows_go, sweepers_do_not_collide;
    observing: each_applied_write_once, nothing_else, figures_are_at_hand;
    preconditions: of_states, of_sessions, of_variables;
    idempotency: an_equal_request_is_replayed, a_state_is_replayed_as_it_was, a_variable_is_replayed_as_it_was, a_replay_survives_deletion,
        another_request_is_refused, a_key_belongs_to_its_tenant, a_refused_write_leaves_the_key_free, a_key_is_forgotten_after_a_day,
        parallel_requests_write_once;
    concurrency: unconditional_writers_leave_no_gap, one_of_many_conditional_writers_wins, one_of_many_creators_wins, keys_do_not_hinder_each_other;
    isolation: of_tenants, of_version_floors, of_scopes, of_executions;
    listing: in_the_order_of_bytes, by_prefix, by_names, page_after_page, within_bytes, without_the_dead;
    log: one_row_for_each_applied_write;
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    run_all(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    run_all(Backend::Postgres).await;
}

/// Runs every case on a store of its own, then tells which failed, and which methods no case called.
async fn run_all(backend: Backend) {
    let only = std::env::var(ONLY).unwrap_or_default();
    let calls = Arc::new(Calls::default());
    let mut failed = Vec::new();
    let mut count = 0;
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let bench = backend.bench(&calls).await;
        if AssertUnwindSafe((case.run)(&bench)).catch_unwind().await.is_err() {
            failed.push(case.name);
        }
        bench.store.close().await;
        count += 1;
    }
    // Past the test harness, which would keep it to itself: whoever reads the run must see what was reached.
    let _ = writeln!(std::io::stdout(), "contract: {count} cases on {}, {} failed", backend.name(), failed.len());
    assert!(failed.is_empty(), "failed on {}: {failed:?}", backend.name());
    assert!(count > 0, "no case matches {ONLY}={only}");
    if only.is_empty() {
        assert_eq!(calls.missing(), Vec::<&str>::new(), "methods of the trait that no case calls");
    }
}
