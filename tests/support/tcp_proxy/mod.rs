//! A TCP proxy that does to a connection what networks and dying hosts do. It knows no protocol, but for one mode: deleting messages of Redis'
//! channels.
//!
//! Modes are set per direction and can be changed at any time, also for connections that are open. Beside them there are things that happen once,
//! to every connection that is open: [`TcpProxy::reset`] and [`TcpProxy::half_open`].

mod pump;
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nworkflow_state::lifecycle::Lifecycle;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::pump::{Broken, pump};
use super::port;
use super::redis::resp::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Each byte arrives later by this, and by up to that much more; the order stays.
    Delay(Duration, Duration),
    /// Nothing arrives and nothing is lost: it does when the mode ends, as after a partition that TCP outlives.
    Hold,
    /// What is sent is taken and lost, and so is the end of the connection. One that lost something can never be right again, and is reset when
    /// the mode ends.
    Stall,
    /// So many bytes a second.
    Throttle(u64),
    /// A connection passes on so many bytes from now, or from its beginning, and is closed then.
    CutAfter(u64),
    /// Every message of a channel is lost by a chance of one in so many, drawn from this seed; replies are not. For a connection on which the mode
    /// begins between two frames.
    DropMessages(u64, u64),
}

/// What has passed since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) open: u64,
    pub(crate) bytes_to_server: u64,
    pub(crate) bytes_to_client: u64,
    /// Of channels, in [`Mode::DropMessages`]; those that were dropped are among them.
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    messages: AtomicU64,
    dropped: AtomicU64,
    lost: Mutex<Vec<Value>>,
}

/// One direction of all connections.
struct Lane {
    mode: watch::Sender<Mode>,
    bytes: AtomicU64,
}

impl Lane {
    fn new() -> Self {
        Self { mode: watch::Sender::new(Mode::Pass), bytes: AtomicU64::new(0) }
    }
}

/// What happens once, to all connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    Reset,
    HalfOpen,
}

struct Shared {
    server: SocketAddr,
    to_server: Lane,
    to_client: Lane,
    strike: watch::Sender<Strike>,
    counters: Counters,
}

/// Listens until it is dropped.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Lifecycle,
    connections: Lifecycle,
}

impl TcpProxy {
    /// One that passes everything on.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let shared = Shared {
            server,
            to_server: Lane::new(),
            to_client: Lane::new(),
            strike: watch::Sender::new(Strike::Reset),
            counters: Counters::default(),
        };
        let address = SocketAddr::new(server.ip(), port::free());
        let mut proxy = Self { address, shared: Arc::new(shared), listening: Lifecycle::new(), connections: Lifecycle::new() };
        proxy.accept().await;
        proxy
    }

    /// Where clients connect, the same for its whole life.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, direction: Direction, mode: Mode) {
        self.lane(direction).mode.send_replace(mode);
    }

    pub(crate) fn set_both(&self, mode: Mode) {
        self.set(Direction::ToServer, mode);
        self.set(Direction::ToClient, mode);
    }

    /// Resets the open connections, at both ends.
    pub(crate) fn reset(&self) {
        self.shared.strike.send_replace(Strike::Reset);
    }

    /// Closes the open connections towards the server, and leaves the clients in the belief that theirs stand: what they send is taken and lost.
    pub(crate) fn half_open(&self) {
        self.shared.strike.send_replace(Strike::HalfOpen);
    }

    /// Refuses new connections; open ones stay.
    pub(crate) async fn refuse(&self) {
        self.listening.stop();
        self.listening.finished().await;
    }

    /// Takes connections again.
    pub(crate) async fn accept(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listening = Lifecycle::new();
        let (stopped, shared, connections) = (self.listening.soft().clone(), Arc::clone(&self.shared), self.connections.clone());
        self.listening.spawn(async move {
            loop {
                let (client, _) = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let (stopped, shared) = (connections.soft().clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        () = connection(client, &shared) => {}
                    }
                });
            }
        });
    }

    pub(crate) fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let [accepted, open, messages, dropped] =
            [&counters.accepted, &counters.open, &counters.messages, &counters.dropped].map(|counter| counter.load(Ordering::SeqCst));
        let [bytes_to_server, bytes_to_client] =
            [Direction::ToServer, Direction::ToClient].map(|direction| self.lane(direction).bytes.load(Ordering::SeqCst));
        Counts { accepted, open, bytes_to_server, bytes_to_client, messages, dropped }
    }

    /// The messages that were dropped, whole.
    pub(crate) fn lost(&self) -> Vec<Value> {
        self.shared.counters.lost.lock().unwrap().clone()
    }

    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::ToServer => &self.shared.to_server,
            Direction::ToClient => &self.shared.to_client,
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.listening.stop();
        self.connections.stop();
    }
}

/// Counts a connection while it lives.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.accepted.fetch_add(1, Ordering::SeqCst);
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(&counters.open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries the bytes of a connection until it ends by itself, breaks, or is struck.
async fn connection(mut client: TcpStream, shared: &Shared) {
    let mut strikes = shared.strike.subscribe();
    let _open = Open::new(&shared.counters);
    let Ok(mut server) = TcpStream::connect(shared.server).await else { return reset(client) };
    // What is not delayed on purpose must not be delayed by the kernel.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let carried = async {
        let upwards = pump(from_client, to_server, &shared.to_server, &shared.counters);
        let downwards = pump(from_server, to_client, &shared.to_client, &shared.counters);
        tokio::try_join!(upwards, downwards)
    };
    let strike = tokio::select! {
        ended = carried => match ended {
            Ok(_) | Err(Broken::Cut) => return,
            Err(Broken::Reset) => Strike::Reset,
        },
        strike = next(&mut strikes) => strike,
    };
    match strike {
        Strike::Reset => {
            reset(client);
            reset(server);
        }
        Strike::HalfOpen => {
            drop(server);
            let mut lost = vec![0; 16 * 1024];
            loop {
                tokio::select! {
                    read = client.read(&mut lost) => if !read.is_ok_and(|count| count > 0) { return },
                    strike = next(&mut strikes) => if strike == Strike::Reset { return reset(client) },
                }
            }
        }
    }
}

async fn next(strikes: &mut watch::Receiver<Strike>) -> Strike {
    // The sender lives as long as the connections.
    strikes.changed().await.unwrap();
    *strikes.borrow_and_update()
}

/// Closes with RST instead of FIN.
fn reset(stream: TcpStream) {
    // It fails only when the other end has reset it already.
    let _unless_broken = stream.set_zero_linger();
    drop(stream);
}
