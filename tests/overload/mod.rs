//! More work than the server can do, and clients that hold on to what they have got: what is refused is refused at once and truthfully, what
//! is taken is done in time, and nothing is left over.
//!
//! The database is made slow and the limits small, so that the figures are about the server's control and not about the machine. Each test
//! says the figure that it has measured: `overload: NAME figure=...` on the standard output.

mod batches;
mod bombs;
mod connections;
mod curve;
mod deadlines;
mod drain;
mod places;
mod pool;
mod process_figures;
mod shares;
mod slow;
mod told;

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use crate::api::app::Answer;

const STATE: &str = "/workflows/order/executions/e1/state";

/// Past the test harness: whoever reads the run must see what was measured.
fn say(name: &str, figure: impl Display) {
    let _ = writeln!(std::io::stdout(), "overload: {name} figure={figure}");
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Asserts that an answer is a success, or the refusal of a server that has too much to do.
#[track_caller]
fn is_success(answer: &Answer) -> bool {
    let (status, code) = answer.verdict();
    let is_refusal = matches!((status, code.as_str()), (503, "overloaded" | "queue_full") | (504, "deadline_exceeded"));
    assert!(answer.status.is_success() || is_refusal, "{answer:?}");
    assert!(status != 503 || answer.header("retry-after").is_some(), "{answer:?}");
    answer.status.is_success()
}
