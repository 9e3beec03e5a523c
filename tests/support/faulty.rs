//! A store that fails, panics or holds its calls back when a test says so, in front of a real one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use nworkflow_state::store::StoreError;
use tokio::sync::watch;

use super::store_methods::store_methods;
use super::store_methods::types::*;

/// Longest wait for calls to come in or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of the calls from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// They go through.
    Pass,
    /// They fail before the real store sees them.
    Fail(fn() -> StoreError),
    /// The real store does them, and their answer is lost.
    LoseAnswer(fn() -> StoreError),
    /// They panic with this message.
    Panic(&'static str),
    /// They wait in front of the real store for another behaviour, and then go through. A ping does not wait.
    Hold,
    /// The real store does them, and the answers of reads of one resource wait for another behaviour. Everything else goes through.
    HoldAnswers,
    /// The real store does them, and all other answers than those wait for another behaviour.
    HoldWriteAnswers,
}

/// What happens between a read of one resource and its reader.
type Interlude = Arc<dyn Fn(Arc<dyn Store>) -> BoxFuture<'static, ()> + Send + Sync>;

/// The switch of a [`FaultyStore`]. Clones are the same switch.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Shared>);

struct Shared {
    behaviour: watch::Sender<Behaviour>,
    begun: watch::Sender<usize>,
    at_work: watch::Sender<usize>,
    held: watch::Sender<usize>,
    interlude: Mutex<Option<Interlude>>,
}

/// A call at work, until it ends in whatever way.
struct AtWork<'a>(&'a Shared);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.send_modify(|count| *count -= 1);
    }
}

impl Faults {
    pub(crate) fn set(&self, behaviour: Behaviour) {
        self.0.begun.send_replace(0);
        self.0.held.send_replace(0);
        self.0.behaviour.send_replace(behaviour);
    }

    /// Waits until so many calls have come in since the behaviour was set.
    pub(crate) async fn wait_for_calls(&self, count: usize) {
        let mut begun = self.0.begun.subscribe();
        let waited = tokio::time::timeout(PATIENCE, begun.wait_for(|begun| *begun >= count)).await;
        assert!(matches!(waited, Ok(Ok(_))), "the store is called {} times, not {count}", *self.0.begun.borrow());
    }

    /// Calls that have come in since the behaviour was set.
    pub(crate) fn calls(&self) -> usize {
        *self.0.begun.borrow()
    }

    /// Waits until so many answers are held since the behaviour was set.
    pub(crate) async fn wait_for_held(&self, count: usize) {
        let mut held = self.0.held.subscribe();
        let waited = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= count)).await;
        assert!(matches!(waited, Ok(Ok(_))), "the store holds {} answers, not {count}", *self.0.held.borrow());
    }

    /// From now on this happens in the real store behind each read of one resource, before its reader has the answer: whatever the reader
    /// then does with it comes too late.
    pub(crate) fn after_reads(&self, interlude: impl Fn(Arc<dyn Store>) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        *self.0.interlude.lock().unwrap() = Some(Arc::new(interlude));
    }

    fn interlude(&self) -> Option<Interlude> {
        self.0.interlude.lock().unwrap().clone()
    }

    async fn hold_answer(&self) {
        let mut next = self.0.behaviour.subscribe();
        self.0.held.send_modify(|held| *held += 1);
        let _ = next.wait_for(|behaviour| !matches!(behaviour, Behaviour::HoldAnswers | Behaviour::HoldWriteAnswers)).await;
    }

    /// Waits until no call is at work.
    pub(crate) async fn wait_until_idle(&self) {
        let mut at_work = self.0.at_work.subscribe();
        let waited = tokio::time::timeout(PATIENCE, at_work.wait_for(|count| *count == 0)).await;
        assert!(matches!(waited, Ok(Ok(_))), "{} calls do not end", *self.0.at_work.borrow());
    }

    fn begin(&self) -> AtWork<'_> {
        self.0.at_work.send_modify(|count| *count += 1);
        AtWork(&self.0)
    }

    async fn enter(&self, is_ping: bool) -> Behaviour {
        self.0.begun.send_modify(|begun| *begun += 1);
        let behaviour = *self.0.behaviour.borrow();
        if is_ping || !matches!(behaviour, Behaviour::Hold) {
            return behaviour;
        }
        let mut next = self.0.behaviour.subscribe();
        let _ = next.wait_for(|behaviour| !matches!(behaviour, Behaviour::Hold)).await;
        Behaviour::Pass
    }
}

pub(crate) struct FaultyStore {
    store: Arc<dyn Store>,
    faults: Faults,
}

impl FaultyStore {
    pub(crate) fn new(store: Arc<dyn Store>) -> (Self, Faults) {
        let shared = Shared {
            behaviour: watch::Sender::new(Behaviour::Pass),
            begun: watch::Sender::new(0),
            at_work: watch::Sender::new(0),
            held: watch::Sender::new(0),
            interlude: Mutex::default(),
        };
        let faults = Faults(Arc::new(shared));
        (Self { store, faults: faults.clone() }, faults)
    }
}

macro_rules! faulty {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for FaultyStore {
            fn backend(&self) -> Backend {
                self.store.backend()
            }

            fn figures(&self) -> StoreFigures {
                self.store.figures()
            }

            $(async fn $method(&self, $($name: $type),*) -> $answer {
                let _at_work = self.faults.begin();
                let behaviour = self.faults.enter(stringify!($method) == "ping").await;
                match behaviour {
                    Behaviour::Pass | Behaviour::Hold => {
                        let answer = self.store.$method($($name),*).await;
                        if stringify!($method).starts_with("get_") && let Some(interlude) = self.faults.interlude() {
                            interlude(Arc::clone(&self.store)).await;
                        }
                        answer
                    }
                    Behaviour::HoldAnswers => {
                        let answer = self.store.$method($($name),*).await;
                        if stringify!($method).starts_with("get_") {
                            self.faults.hold_answer().await;
                        }
                        answer
                    }
                    Behaviour::HoldWriteAnswers => {
                        let answer = self.store.$method($($name),*).await;
                        if !stringify!($method).starts_with("get_") && stringify!($method) != "ping" {
                            self.faults.hold_answer().await;
                        }
                        answer
                    }
                    Behaviour::Fail(error) => Err(error()),
                    Behaviour::LoseAnswer(error) => {
                        let _lost = self.store.$method($($name),*).await;
                        Err(error())
                    }
                    Behaviour::Panic(message) => panic!("{message}"),
                }
            })+

            async fn close(&self) {
                self.store.close().await;
            }
        }
    };
}

store_methods!(faulty);
