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
struct Flight<E> {
    result: OnceCell<Result<Arc<Entry>, E>>,
    /// Readers that wait for it, the one that does the work included. Changed under the lock of the list only.
    seats: AtomicUsize,
}

/// The loads at work. There are no more of them than readers.
#[derive(Debug)]
pub struct Flights<E> {
    flights: Mutex<HashMap<FlightKey, Arc<Flight<E>>>>,
}

impl<E> Default for Flights<E> {
    fn default() -> Self {
        Self { flights: Mutex::default() }
    }
}

impl<E: Clone> Flights<E> {
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
    pub async fn load<L, F>(&self, key: &Key, ticket: Ticket, life: ScopeLife, loader: L) -> Result<Arc<Entry>, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Arc<Entry>, E>>,
    {
        let seat = self.board(FlightKey { key: key.clone(), changes: ticket.changes, life });
        seat.flight.result.get_or_init(loader).await.clone()
    }

    fn board(&self, key: FlightKey) -> Seat<'_, E> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Flight { result: OnceCell::new(), seats: AtomicUsize::new(0) });
        let flight = Arc::clone(flights.entry(key.clone()).or_insert_with(new));
        flight.seats.fetch_add(1, Ordering::Relaxed);
        Seat { flights: self, key, flight }
    }
}

/// A reader's part in a flight. The first to leave after the landing, or the last to leave before it, takes the flight off the list.
struct Seat<'a, E> {
    flights: &'a Flights<E>,
    key: FlightKey,
    flight: Arc<Flight<E>>,
}

impl<E> Drop for Seat<'_, E> {
    fn drop(&mut self) {
        let mut flights = self.flights.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = self.flight.seats.fetch_sub(1, Ordering::Relaxed) == 1;
        let is_listed = flights.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.flight));
        if is_listed && (is_last || self.flight.result.initialized()) {
            flights.remove(&self.key);
        }
    }
}
