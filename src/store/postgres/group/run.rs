//! One group, from its transaction to its answers.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use super::super::failure::Failure;
use super::super::pool;
use super::queue::{Group, Reply, Ticket};
use super::{Grouped, Shared};
use crate::deadline;
use crate::domain::id::TenantId;
use crate::store::StoreError;

type Cause = Box<dyn Error + Send + Sync>;

/// Rows of a failed group that are tried at once, each in a transaction of its own: one that waits for a lock does not delay all others.
const SINGLES: usize = 4;

/// Runs a group and answers its callers. A panic on the way reaches nobody but those callers that are not answered yet: they hear that the
/// outcome is unknown.
pub(super) async fn run<R: Grouped>(shared: Arc<Shared>, group: Group<R>) -> Ticket<R::Key> {
    let Group { tenant, rows, replies, ticket, since } = group;
    if AssertUnwindSafe(answer(&shared, &tenant, rows, replies, since)).catch_unwind().await.is_err() {
        tracing::error!(table = R::TABLE, "a group broke off");
    }
    ticket
}

async fn answer<R: Grouped>(shared: &Shared, tenant: &TenantId, rows: Vec<R>, mut replies: Vec<Reply<R::Answer>>, since: Instant) {
    // The group is of use as long as one of its callers waits.
    let until =
        if replies.iter().any(|reply| reply.deadline.is_none()) { None } else { replies.iter().filter_map(|reply| reply.deadline).max() };
    let failure = match deadline::within(until, attempt(shared, tenant, &rows, since)).await {
        Ok(answers) => {
            replies.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(Ok(answer)));
            return;
        }
        Err(failure) => failure,
    };
    // A pool without a free connection has none for single rows either.
    let is_shared = matches!(failure, Failure::Store(StoreError::Contended(_)));
    let error = failure.into_store_error(R::TABLE);
    if rows.len() == 1 {
        if let Some(reply) = replies.pop() {
            reply.send(Err(error));
        }
    } else if is_shared || is_of_all(&error) {
        tell_all(error, replies);
    } else {
        tracing::debug!(%error, table = R::TABLE, rows = rows.len(), "the rows of a group are tried one by one");
        one_by_one(shared, tenant, rows.into_iter().zip(replies)).await;
    }
}

/// One transaction for these rows, and a second one if the first failed in a way that is likely to pass. `since`: how long they have waited
/// already. Where all wait for places they must hear so in time; and whoever has waited for another thing is not turned away at once.
async fn attempt<R: Grouped>(
    shared: &Shared,
    tenant: &TenantId,
    rows: &[R],
    since: Instant,
) -> std::result::Result<Vec<R::Answer>, Failure> {
    let before = shared.runner.pool.begun();
    let wait = shared.limits.place_wait;
    let until = (since + wait).max(Instant::now() + wait / 10);
    let until = deadline::current().map_or(until, |deadline| deadline.min(until));
    let Ok(Ok(_place)) = tokio::time::timeout_at(until, shared.places.acquire()).await else {
        if deadline::has_passed() {
            return Err(StoreError::Late.into());
        }
        let why = "other groups did not end in time";
        let answers = shared.runner.pool.answers_lately(before);
        return Err(if answers { StoreError::Contended(why.into()) } else { StoreError::Unavailable(why.into()) }.into());
    };
    pool::waiting_until(until, R::run(&shared.runner, tenant, rows)).await
}

/// Whether every row of the group would fail in the same way, or may be written already.
fn is_of_all(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::Refused(_) | StoreError::Full | StoreError::Late
    )
}

/// Nothing of the group was written, because of one of its rows or by chance: every row for itself.
async fn one_by_one<R: Grouped>(shared: &Shared, tenant: &TenantId, rows: impl Iterator<Item = (R, Reply<R::Answer>)> + Send) {
    // Of a database that is gone meanwhile not every row finds that out by its own time limit.
    let is_away = &AtomicBool::new(false);
    let single = async |(row, reply): (R, Reply<R::Answer>)| {
        let answer = if is_away.load(Ordering::Relaxed) {
            Err(StoreError::Unavailable("the database went away before this row's turn".into()))
        } else {
            let alone = deadline::within(reply.deadline, attempt(shared, tenant, std::slice::from_ref(&row), Instant::now()));
            let answers = alone.await.map_err(|failure| failure.into_store_error(R::TABLE));
            answers.and_then(super::super::rows::single)
        };
        if matches!(answer, Err(StoreError::Unavailable(_))) {
            is_away.store(true, Ordering::Relaxed);
        }
        reply.send(answer);
    };
    stream::iter(rows).map(single).buffer_unordered(SINGLES).collect::<()>().await;
}

/// Tells all callers of a group the same.
fn tell_all<T>(error: StoreError, replies: Vec<Reply<T>>) {
    let of_queue: Option<fn() -> StoreError> = match error {
        StoreError::Full => Some(|| StoreError::Full),
        StoreError::Late => Some(|| StoreError::Late),
        _ => None,
    };
    if let Some(error) = of_queue {
        replies.into_iter().for_each(|reply| reply.send(Err(error())));
        return;
    }
    let (kind, cause): (fn(Cause) -> StoreError, Arc<dyn Error + Send + Sync>) = match error {
        StoreError::Unavailable(cause) => (StoreError::Unavailable, cause.into()),
        StoreError::Contended(cause) => (StoreError::Contended, cause.into()),
        StoreError::OutcomeUnknown(cause) => (StoreError::OutcomeUnknown, cause.into()),
        StoreError::Refused(cause) => (StoreError::Refused, cause.into()),
        error => (StoreError::Internal, Arc::new(error)),
    };
    for reply in replies {
        reply.send(Err(kind(Box::new(Arc::clone(&cause)))));
    }
}
