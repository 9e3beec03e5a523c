//! Loads that are shared by the readers that wait for them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::entry::Entry;
use super::key::Key;
use super::stripe::Ticket;
use crate::domain::variable::ScopeLife;

/// Which load: of what, after which write, and for which life of its scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FlightKey {
    key: Key,
    changes: u64,
    life: ScopeLife,
}

/// A load at work.
#[derive(Debug)]
struct Flight<E, T> {
    result: OnceCell<Result<T, E>>,
    /// Readers that wait for it, the one that does the work included. Changed under the lock of the list only.
    seats: AtomicUsize,
}

/// What a load has found.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The answer.
    pub entry: Arc<Entry>,
    /// Whether the second tier gave it, and not the store.
    pub from_second_tier: bool,
}

/// The loads at work. There are no more of them than readers.
#[derive(Debug)]
pub struct Flights<E, T = Arc<Entry>> {
    flights: Mutex<HashMap<FlightKey, Arc<Flight<E, T>>>>,
}

impl<E, T> Default for Flights<E, T> {
    fn default() -> Self {
        Self { flights: Mutex::default() }
    }
}

impl<E: Clone, T: Clone> Flights<E, T> {
    /// No loads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The result of a load of the key: of the one that is at work for the same ticket and life, or of `loader`, which then works for all
    /// who come while it does. It reads the store and keeps what it read in the tier, both after this call.
    ///
    /// A reader that is dropped while it loads leaves the work to one of those who wait: they have loaders of their own.
    ///
    /// # Errors
    /// What the loader that did the work answered; everyone who waited gets it.
    pub async fn load<L, F>(&self, key: &Key, ticket: Ticket, life: ScopeLife, loader: L) -> Result<T, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
    {
        let seat = self.board(FlightKey { key: key.clone(), changes: ticket.changes, life });
        seat.flight.result.get_or_init(loader).await.clone()
    }

    fn board(&self, key: FlightKey) -> Seat<'_, E, T> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Flight { result: OnceCell::new(), seats: AtomicUsize::new(0) });
        let flight = Arc::clone(flights.entry(key.clone()).or_insert_with(new));
        flight.seats.fetch_add(1, Ordering::Relaxed);
        Seat { flights: self, key, flight }
    }
}

/// A reader's part in a flight. The first to leave after the landing, or the last to leave before it, takes the flight off the list.
struct Seat<'a, E, T> {
    flights: &'a Flights<E, T>,
    key: FlightKey,
    flight: Arc<Flight<E, T>>,
}

impl<E, T> Drop for Seat<'_, E, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = self.flight.seats.fetch_sub(1, Ordering::Relaxed) == 1;
        let is_listed = flights.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.flight));
        if is_listed && (is_last || self.flight.result.initialized()) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::commit::Resource;
    use crate::domain::id::{SessionId, TenantId};
    use crate::domain::version::Version;

    fn key() -> Key {
        Key::new(TenantId::parse("acme").unwrap(), Resource::Session(SessionId::parse("s").unwrap()))
    }

    fn ticket(changes: u64) -> Ticket {
        Ticket { changes, at: Timestamp::from_microseconds(0) }
    }

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    fn entry(number: i64) -> Loaded {
        Loaded { entry: Arc::new(Entry::plain(version(number), Bytes::new())), from_second_tier: false }
    }

    fn listed(flights: &Flights<(), Loaded>) -> usize {
        flights.flights.lock().unwrap().len()
    }

    /// A load that ends with what it is sent, and fails when the sender is dropped.
    async fn waiting(receiver: oneshot::Receiver<Loaded>) -> Result<Loaded, ()> {
        receiver.await.map_err(drop)
    }

    #[tokio::test]
    async fn readers_with_one_ticket_share_one_load() {
        let key = &key();
        const READERS: usize = 2000;
        let (flights, loads, begun) = (Flights::<(), Loaded>::new(), Cell::new(0), Cell::new(0));
        let (open, gate) = oneshot::channel();
        let (gate, open) = (Cell::new(Some(gate)), Cell::new(Some(open)));
        let readers = (0..READERS).map(|_| async {
            begun.set(begun.get() + 1);
            // The last to come opens the gate: by then all others wait.
            if begun.get() == READERS {
                open.take().unwrap().send(entry(1)).ok().unwrap();
            }
            let load = || {
                loads.set(loads.get() + 1);
                waiting(gate.take().unwrap())
            };
            flights.load(key, ticket(0), None, load).await
        });
        let results = futures_util::future::join_all(readers).await;
        assert!(results.iter().all(|result| result.as_ref().unwrap().entry.version() == Some(version(1))));
        assert_eq!((loads.get(), listed(&flights)), (1, 0));
    }

    #[tokio::test]
    async fn a_later_ticket_and_another_life_load_for_themselves() {
        let key = &key();
        let flights = Flights::<(), Loaded>::new();
        let (send, receive) = oneshot::channel();
        let mut first = pin!(flights.load(key, ticket(0), None, || waiting(receive)));
        assert!(first.as_mut().now_or_never().is_none());

        let after_a_write = flights.load(key, ticket(1), None, || async { Ok(entry(2)) }).now_or_never();
        assert_eq!(after_a_write.unwrap().unwrap().entry.version(), Some(version(2)));
        let other_life = flights.load(key, ticket(0), Some(version(7)), || async { Ok(entry(8)) }).now_or_never();
        assert_eq!(other_life.unwrap().unwrap().entry.version(), Some(version(8)));
        let joins = flights.load(key, ticket(0), None, || async { Ok(entry(9)) }).now_or_never();
        assert!(joins.is_none());

        send.send(entry(1)).ok().unwrap();
        assert_eq!(first.await.unwrap().entry.version(), Some(version(1)));
        assert_eq!(listed(&flights), 0);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_leaves_the_work_to_those_who_wait() {
        let key = &key();
        let flights = Flights::<(), Loaded>::new();
        let (_never, receive) = oneshot::channel();
        let mut leader = Box::pin(flights.load(key, ticket(0), None, || waiting(receive)));
        assert!(leader.as_mut().now_or_never().is_none());
        let mut second = Box::pin(flights.load(key, ticket(0), None, || async { Ok(entry(2)) }));
        let mut third = pin!(flights.load(key, ticket(0), None, || async { Ok(entry(3)) }));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());

        drop(leader);
        // The next in line has its turn but goes away too, without having been polled again.
        drop(second);
        assert_eq!(third.await.unwrap().entry.version(), Some(version(3)));
        assert_eq!(listed(&flights), 0);
    }

    #[tokio::test]
    async fn a_load_that_nobody_waits_for_is_forgotten() {
        let key = &key();
        let flights = Flights::<(), Loaded>::new();
        let (_never, receive) = oneshot::channel();
        let mut leader = Box::pin(flights.load(key, ticket(0), None, || waiting(receive)));
        assert!(leader.as_mut().now_or_never().is_none());
        assert_eq!(listed(&flights), 1);
        drop(leader);
        assert_eq!(listed(&flights), 0);
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_not_kept() {
        let key = &key();
        let flights = Flights::<(), Loaded>::new();
        let (send, receive) = oneshot::channel();
        let mut leader = pin!(flights.load(key, ticket(0), None, || waiting(receive)));
        assert!(leader.as_mut().now_or_never().is_none());
        let mut follower = pin!(flights.load(key, ticket(0), None, || async { Ok(entry(1)) }));
        assert!(follower.as_mut().now_or_never().is_none());
        drop(send);
        assert!(leader.await.is_err());
        assert!(follower.await.is_err());
        assert!(flights.load(key, ticket(0), None, || async { Ok(entry(2)) }).await.is_ok());
        assert_eq!(listed(&flights), 0);
    }

    #[tokio::test]
    async fn a_loader_that_panics_leaves_the_work_to_those_who_wait() {
        let key = &key();
        let flights = Flights::<(), Loaded>::new();
        let (send, receive) = oneshot::channel::<()>();
        let panics = || async {
            drop(receive.await);
            panic!("a loader panics")
        };
        let mut leader = Box::pin(std::panic::AssertUnwindSafe(flights.load(key, ticket(0), None, panics)).catch_unwind());
        assert!(leader.as_mut().now_or_never().is_none());
        let mut follower = pin!(flights.load(key, ticket(0), None, || async { Ok(entry(2)) }));
        assert!(follower.as_mut().now_or_never().is_none());
        drop(send);
        assert!(leader.await.is_err());
        assert_eq!(follower.await.unwrap().entry.version(), Some(version(2)));
        assert_eq!(listed(&flights), 0);
    }
}
