//! A TCP proxy in front of PostgreSQL that breaks connections at a chosen moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nworkflow_state::lifecycle::Lifecycle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Fault {
    None,
    /// The connection breaks before it reaches the server.
    BeforeCommit,
    /// The server commits, and the connection breaks before its answer reaches the client.
    AfterCommit,
    /// The same, and nobody reaches the server any more until the proxy is stopped and restarted.
    AfterCommitForLong,
    /// Nothing reaches the server and nothing breaks: the client waits.
    SwallowCommit,
    /// It reaches the server after [`LATE`].
    LateCommit,
}

/// How late a late COMMIT is.
pub(crate) const LATE: Duration = Duration::from_secs(3);

/// A proxy that listens until it is stopped.
pub(crate) struct Proxy {
    address: SocketAddr,
    server: SocketAddr,
    fault: Arc<AtomicUsize>,
    running: Lifecycle,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut proxy =
            Self { address: listener.local_addr().unwrap(), server, fault: Arc::new(AtomicUsize::new(0)), running: Lifecycle::new() };
        proxy.listen(listener);
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Arms a fault; it happens once.
    pub(crate) fn arm(&self, fault: Fault) {
        self.fault.store(fault as usize, Ordering::SeqCst);
    }

    /// Whether an armed fault is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.fault.load(Ordering::SeqCst) != Fault::None as usize
    }

    /// Refuses connections, and breaks those that are open.
    pub(crate) async fn stop(&self) {
        self.running.stop();
        self.running.finished().await;
    }

    /// Listens again, at the same address.
    pub(crate) async fn restart(&mut self) {
        self.listen(TcpListener::bind(self.address).await.unwrap());
    }

    fn listen(&mut self, listener: TcpListener) {
        self.running = Lifecycle::new();
        let (running, server, fault) = (self.running.clone(), self.server, Arc::clone(&self.fault));
        self.running.spawn(async move {
            let stopped = running.soft().clone();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => {
                        let (client, _) = accepted.unwrap();
                        let (whole, fault) = (running.clone(), Arc::clone(&fault));
                        running.spawn(async move {
                            tokio::select! {
                                () = whole.soft().cancelled() => {}
                                _ = carry(client, server, &fault, &whole) => {}
                            }
                        });
                    }
                }
            }
        });
    }
}

/// Carries bytes both ways until an end closes, or the fault strikes.
async fn carry(client: TcpStream, server: SocketAddr, fault: &AtomicUsize, whole: &Lifecycle) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let sent = &up[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                let is_commit = sent.windows(7).any(|window| window == b"COMMIT\0");
                let armed = if is_commit { fault.swap(Fault::None as usize, Ordering::SeqCst) } else { Fault::None as usize };
                if armed == Fault::BeforeCommit as usize {
                    return Ok(());
                }
                if armed == Fault::SwallowCommit as usize {
                    continue;
                }
                if armed == Fault::LateCommit as usize {
                    tokio::time::sleep(LATE).await;
                }
                to_server.write_all(sent).await?;
                if armed == Fault::AfterCommit as usize || armed == Fault::AfterCommitForLong as usize {
                    let _answer = from_server.read(&mut down).await?;
                    if armed == Fault::AfterCommitForLong as usize {
                        whole.stop();
                    }
                    return Ok(());
                }
            }
            read = from_server.read(&mut down) => {
                let sent = &down[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                to_client.write_all(sent).await?;
            }
        }
    }
}
