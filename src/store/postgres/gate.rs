//! Where writers of one key wait for each other. In front of the database each of them would hold a connection while it waits for the
//! row's lock, and one hot row would take them all.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::deadline;

/// Keys are told apart by their stripe. Two keys of one stripe wait for each other without need, so there are many more stripes than
/// writes at work; one takes some 40 bytes.
const STRIPES: usize = 8192;

/// One place per stripe.
#[derive(Debug)]
pub(super) struct Gate {
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
    wait: Duration,
}

/// The places of one write. The next writers enter when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Entered<'a>(#[expect(dead_code, reason = "held for its end")] Vec<MutexGuard<'a, ()>>);

impl Gate {
    /// A gate in front of which a write waits for so long at most.
    pub(super) fn new(wait: Duration) -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(), hasher: RandomState::new(), wait }
    }

    /// Enters with all these keys, in the order of arrival. `None` when the wait was too long, or longer than the request has time.
    pub(super) async fn enter(&self, keys: impl IntoIterator<Item = impl Hash>) -> Option<Entered<'_>> {
        // Sorted, so that two writes of the same keys cannot each wait for the other.
        let mut numbers: Vec<usize> = keys.into_iter().map(|key| self.stripe(&key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let entering = async {
            let mut places = Vec::with_capacity(numbers.len());
            for stripe in numbers.iter().filter_map(|number| self.stripes.get(*number)) {
                places.push(stripe.lock().await);
            }
            Entered(places)
        };
        let until = Instant::now() + self.wait;
        let until = deadline::current().map_or(until, |deadline| deadline.min(until));
        tokio::time::timeout_at(until, entering).await.ok()
    }

    fn stripe(&self, key: &impl Hash) -> usize {
        // The remainder is less than the number of stripes, whatever is cut off before.
        usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_writer_of_a_key_enters_at_a_time() {
        let gate = Gate::new(Duration::from_secs(60));
        let first = gate.enter(["a", "b", "a"]).await.unwrap();
        let mut second = Box::pin(gate.enter(["b"]));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn the_wait_has_an_end_and_leaves_nothing_behind() {
        let gate = Gate::new(Duration::ZERO);
        let first = gate.enter(["a"]).await.unwrap();
        assert!(gate.enter(["a", "b"]).await.is_none());
        assert!(gate.enter(["b"]).await.is_some() || gate.stripe(&"a") == gate.stripe(&"b"));
        drop(first);
        assert!(gate.enter(["a", "b"]).await.is_some());
    }

    #[tokio::test]
    async fn many_keys_in_whatever_order_do_not_lock_each_other_out() {
        let gate = Gate::new(Duration::from_secs(60));
        let keys: Vec<u32> = (0..50).collect();
        let writes = (0..20).map(|round| {
            let (gate, mut keys) = (&gate, keys.clone());
            async move {
                keys.rotate_left(round);
                let entered = gate.enter(keys).await;
                tokio::task::yield_now().await;
                entered.is_some()
            }
        });
        assert!(futures_util::future::join_all(writes).await.into_iter().all(|entered| entered));
    }
}
