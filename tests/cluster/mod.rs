//! Several servers over one database and one second cache tier, and everything between them that can break.
//!
//! Each test says the figure that it has measured: `cluster: NAME figure=...` on the standard output.

mod away;
mod bus;
mod chaos;
mod client;
mod clock;
mod crashes;
mod flavour;
mod ground;
mod lives;
mod node;
mod process;
mod promises;
mod retries;
mod rights;
mod sampled;
mod store;
mod storms;
mod tier_faults;

use std::fmt::Display;
use std::io::Write as _;
use std::time::{Duration, Instant};

use self::flavour::{Flavour, on_every_tier};

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The step of a poll.
const STEP: Duration = Duration::from_millis(5);

/// Past the test harness: whoever reads the run must see what was measured.
fn say(name: &str, figure: impl Display) {
    let _ = writeln!(std::io::stdout(), "cluster: {name} figure={figure}");
}

/// Polls until it is so, and says how long that took.
#[track_caller]
fn until<'a>(what: &'a str, is: impl AsyncFnMut() -> bool + 'a) -> impl Future<Output = Duration> + 'a {
    within(PATIENCE, what, is)
}

/// Polls until it is so, for at most this long.
async fn within(limit: Duration, what: &str, mut is: impl AsyncFnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is().await {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
    begin.elapsed()
}

/// The share of values that are not above the answer, of values that are sorted.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// p50/p99/max in milliseconds.
fn spread(mut values: Vec<Duration>) -> String {
    values.sort();
    let of = |share| quantile(&values, share).as_secs_f64() * 1e3;
    format!("p50 {:.1} p99 {:.1} max {:.1} ms of {}", of(0.5), of(0.99), of(1.0), values.len())
}

on_every_tier! {
    Redis as on_redis: promises::staleness_of_another_server as staleness,
        promises::what_was_written_is_read as written,
        promises::a_deleted_key_stays_deleted as deleted,
        promises::what_was_absent_is_found_once_it_is_made as absent,
        tier_faults::a_fill_that_a_write_overtakes as fill,
        tier_faults::a_late_put_after_everything_is_forgotten as late_put,
        tier_faults::the_second_tier_comes_back_with_an_old_snapshot as snapshot,
        tier_faults::what_others_wrote_is_removed as foreign,
        tier_faults::the_second_tier_stalls as stall;
    Guarded as on_guarded: promises::staleness_of_another_server as staleness,
        promises::what_was_written_is_read as written,
        promises::a_deleted_key_stays_deleted as deleted,
        promises::what_was_absent_is_found_once_it_is_made as absent,
        tier_faults::a_fill_that_a_write_overtakes as fill,
        tier_faults::a_late_put_after_everything_is_forgotten as late_put,
        tier_faults::the_second_tier_comes_back_with_an_old_snapshot as snapshot,
        tier_faults::what_others_wrote_is_removed as foreign;
    Valkey as on_valkey: promises::staleness_of_another_server as staleness,
        promises::what_was_written_is_read as written,
        promises::a_deleted_key_stays_deleted as deleted,
        promises::what_was_absent_is_found_once_it_is_made as absent,
        tier_faults::a_fill_that_a_write_overtakes as fill,
        tier_faults::a_late_put_after_everything_is_forgotten as late_put,
        tier_faults::the_second_tier_comes_back_with_an_old_snapshot as snapshot,
        tier_faults::what_others_wrote_is_removed as foreign;
    Cluster as on_cluster: promises::staleness_of_another_server as staleness,
        promises::what_was_written_is_read as written,
        promises::a_deleted_key_stays_deleted as deleted,
        promises::what_was_absent_is_found_once_it_is_made as absent,
        tier_faults::a_fill_that_a_write_overtakes as fill,
        tier_faults::a_late_put_after_everything_is_forgotten as late_put,
        tier_faults::the_second_tier_comes_back_with_an_old_snapshot as snapshot,
        tier_faults::what_others_wrote_is_removed as foreign;
}
