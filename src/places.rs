//! The places that the request at work holds: they are free when all of its work has ended, not when nobody waits for it any more.
//!
//! The places belong to the task of the request. Work in a task or on a thread of its own holds them as well when it is given them.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinError;

tokio::task_local! {
    static HELD: Held;
}

/// A share in the places of a request. They are free when the last share is gone.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

/// Does work that holds these places until it has ended or is given up.
pub async fn within<T>(held: Held, work: impl Future<Output = T>) -> T {
    HELD.scope(held, work).await
}

/// The places of the request at work; none where there is none.
#[must_use]
pub fn current() -> Held {
    HELD.try_with(Held::clone).unwrap_or_default()
}

/// Adds a place to those that the request at work holds. Without a request it comes back.
pub fn hold<T: Send + 'static>(place: T) -> Option<T> {
    let mut place = Some(place);
    let _ = HELD.try_with(|held| {
        let place = place.take().map(|place| Box::new(place) as Box<dyn Any + Send>);
        held.0.lock().unwrap_or_else(PoisonError::into_inner).extend(place);
    });
    place
}

/// Computes on a thread of its own, which no other request waits for. Whoever gives up waiting does not end it: it holds the places of the
/// request at work until it has ended.
///
/// # Errors
/// It panicked, or the process ends.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let held = current();
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(held);
        done
    });
    working.await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_place_is_free_when_the_last_of_its_holders_has_ended() {
        assert_eq!(hold(7), Some(7), "outside a request nothing is held");
        let places = Arc::new(Semaphore::new(1));
        let share = within(Held::default(), async {
            assert!(hold(Arc::clone(&places).try_acquire_owned().unwrap()).is_none());
            current()
        })
        .await;
        assert_eq!(places.available_permits(), 0);
        drop(share);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_holds_its_place_while_it_computes() {
        let places = Arc::new(Semaphore::new(1));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (open, gate) = mpsc::channel::<()>();
        let work = within(Held::default(), async {
            hold(Arc::clone(&places).try_acquire_owned().unwrap());
            compute(move || {
                begun.send(()).unwrap();
                gate.recv().unwrap();
            })
            .await
        });
        tokio::select! {
            _ = work => panic!("the gate is closed"),
            begun = has_begun => begun.unwrap(),
        }
        // The request is gone by now.
        assert_eq!(places.available_permits(), 0);
        open.send(()).unwrap();
        let _free = places.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_frees_the_place_as_well() {
        let places = Arc::new(Semaphore::new(1));
        let done = within(Held::default(), async {
            hold(Arc::clone(&places).try_acquire_owned().unwrap());
            compute(|| assert!(std::hint::black_box(false), "it breaks off")).await
        });
        assert!(done.await.is_err());
        let _free = places.acquire().await.unwrap();
    }
}
