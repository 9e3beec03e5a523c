//! By when the answer to the request at work must be there. Whatever the request waits for can ask, however deep below it is.
//!
//! The deadline belongs to the task of the request. Work in a task of its own has none, unless it is given the one of the request.

use std::cell::Cell;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Cell<Option<Instant>>;
}

/// Does work that is of use until then only.
pub async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> T {
    DEADLINE.scope(Cell::new(deadline), work).await
}

/// The deadline of the request at work; `None` where there is none.
#[must_use]
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(Cell::get).ok().flatten()
}

/// Brings the deadline of the request at work forward. One that comes sooner stays.
pub fn bring_forward(to: Instant) {
    // Without a request nobody waits.
    let _ = DEADLINE.try_with(|deadline| deadline.set(Some(deadline.get().map_or(to, |at| at.min(to)))));
}

/// Whether the deadline of the request at work has passed.
#[must_use]
pub fn has_passed() -> bool {
    current().is_some_and(|at| at <= Instant::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_is_only_brought_forward() {
        let (begin, hour) = (Instant::now(), Duration::from_secs(3600));
        bring_forward(begin);
        assert!(current().is_none() && !has_passed(), "outside a request there is none");
        within(Some(begin + hour * 2), async {
            bring_forward(begin + hour * 3);
            assert_eq!(current(), Some(begin + hour * 2));
            bring_forward(begin + hour);
            assert!(current() == Some(begin + hour) && !has_passed());
            bring_forward(begin);
            assert!(has_passed());
        })
        .await;
        assert!(!has_passed());
    }
}
