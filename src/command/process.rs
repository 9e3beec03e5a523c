//! The life of a serving process: start, signals, shutdown.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::{Failure, Result};
use crate::app::{App, AppOptions, Caches};
use crate::config::{Config, ServerConfig};
use crate::domain::clock::Clock;
use crate::http::server::serve;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry;

/// How long tasks have to end after a second signal, and the store to close when no time is left for it.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Opens the log, from where on every command of this process reports into it.
pub(super) fn open_log(config: &Config) -> Result<()> {
    telemetry::init(&config.log).map_err(|error| Failure::Configuration(error.to_string()))
}

/// Says which settings this version knows but does not act on yet.
pub(super) fn warn_about_unused(config: &Config) {
    if config.dragonfly.is_configured() && config.database.is_embedded() {
        tracing::warn!("[dragonfly] is set, but the database is embedded: there is one server, and its own cache tier is enough");
    }
    if !config.secrets.key.is_empty() || !config.secrets.key_command.is_empty() {
        tracing::warn!("[secrets] is set, but this version keeps no secret variables: they are refused");
    }
}

/// What happens when the port of the metrics is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsPort {
    /// The start fails.
    Required,
    /// The server runs without metrics, and warns.
    Optional,
}

/// A server that has begun to accept connections.
pub(super) struct Server {
    lifecycle: Lifecycle,
    store: Arc<dyn Store>,
    caches: Caches,
    signals: Signals,
    config: ServerConfig,
    /// Where it listens; the port is the real one also when 0 was configured.
    pub(super) address: SocketAddr,
}

impl Server {
    /// Builds the application and opens its ports.
    pub(super) async fn start(config: Config, options: AppOptions, metrics: MetricsPort) -> Result<Self> {
        // First of all, so that no signal is lost on the way.
        let mut signals = Signals::new()?;
        let lifecycle = Lifecycle::new();
        let server = config.server.clone();
        // A start may wait for long: for a database, or for another server that migrates.
        let app = tokio::select! {
            app = App::build(config, options, Clock::new(), lifecycle.clone()) => app?,
            name = signals.next() => {
                lifecycle.stop();
                return Err(Failure::Other(format!("{name} came before the server had begun to serve")));
            }
        };
        match open_ports(&server, app.metrics_router.is_some(), metrics).await {
            Ok(ports) => {
                let address = ports.main_address;
                lifecycle.supervise("http", serve(ports.main, app.router, &server, &lifecycle));
                tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, store = app.store.backend().as_str(), "the server listens");
                if let (Some(listener), Some(router)) = (ports.metrics, app.metrics_router) {
                    lifecycle.supervise("metrics", serve(listener, router, &server, &lifecycle));
                }
                Ok(Self { lifecycle, store: app.store, caches: app.caches, signals, config: server, address })
            }
            Err(failure) => {
                lifecycle.stop();
                app.store.close().await;
                Err(failure)
            }
        }
    }

    /// The life of this server, for work that goes on beside it.
    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Serves until a signal or until a task dies, shuts down, and says how that went.
    ///
    /// The order: readiness turns false, the listeners close after the delay that is set for it, requests at work end, tracked writes end, the store closes. A second
    /// signal or the end of the time cuts what still runs.
    pub(super) async fn run(mut self) -> ExitCode {
        tokio::select! {
            name = self.signals.next() => {
                tracing::info!(signal = name, "the server stops");
                self.lifecycle.announce_stop();
                // Probes see that it is not ready, and whoever sends requests goes elsewhere, before the listener closes.
                let delay = Duration::from(self.config.stop_delay_ms);
                // Without a delay a second signal is for the drain to hear.
                if !delay.is_zero() {
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        _ = self.signals.next() => {}
                        () = self.lifecycle.soft().cancelled() => {}
                    }
                }
            }
            () = self.lifecycle.soft().cancelled() => {}
        }
        self.shut_down().await
    }

    /// As [`Server::run`], from the moment on at which the server stops.
    pub(super) async fn shut_down(mut self) -> ExitCode {
        let begin = Instant::now();
        let stop_timeout = Duration::from(self.config.stop_timeout_ms);
        self.lifecycle.stop();
        let drained = self.drain(begin, stop_timeout).await;
        self.caches.finish().await;
        let left = stop_timeout.saturating_sub(begin.elapsed()).max(LAST_MOMENT);
        let closed = timeout(left, self.store.close()).await.is_ok();
        if !closed {
            tracing::error!("the store did not close in time");
        }
        let failed = self.lifecycle.has_failed();
        tracing::info!(drained, closed, failed, duration_ms = millis(begin.elapsed()), "the server has stopped");
        if drained && closed && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Waits for all tasks; whether nothing had to be cut.
    async fn drain(&mut self, begin: Instant, stop_timeout: Duration) -> bool {
        let drain_timeout = Duration::from(self.config.drain_timeout_ms);
        let second_signal = tokio::select! {
            ended = timeout(drain_timeout, self.lifecycle.finished()) => match ended {
                Ok(()) => return true,
                Err(_) => false,
            },
            _ = self.signals.next() => true,
        };
        tracing::warn!(second_signal, duration_ms = millis(begin.elapsed()), "requests at work are cut");
        self.lifecycle.hard().cancel();
        // Connections are gone now; writes that their clients will not hear of still get the rest of the time.
        let rest = if second_signal { LAST_MOMENT } else { stop_timeout.saturating_sub(begin.elapsed()) };
        tokio::select! {
            ended = timeout(rest, self.lifecycle.finished()) => if ended.is_err() {
                tracing::error!("tasks are given up");
            },
            _ = self.signals.next() => tracing::error!("tasks are given up"),
        }
        false
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Ports {
    main: TcpListener,
    main_address: SocketAddr,
    metrics: Option<TcpListener>,
}

async fn open_ports(config: &ServerConfig, has_metrics: bool, metrics: MetricsPort) -> Result<Ports> {
    let main = open_port("server.listen", config.listen, config.listen_backlog).map_err(|error| Failure::Other(error.message))?;
    let main_address =
        main.local_addr().map_err(|error| Failure::Other(format!("the address of {} cannot be read: {error}", config.listen)))?;
    let metrics = match config.metrics_listen.filter(|_| has_metrics) {
        None => None,
        Some(address) => match open_port("server.metrics_listen", address, config.listen_backlog) {
            Ok(listener) => Some(listener),
            Err(error) if error.in_use && metrics == MetricsPort::Optional => {
                tracing::warn!(%address, "the port of the metrics is taken: the server runs without metrics");
                None
            }
            Err(error) => return Err(Failure::Other(error.message)),
        },
    };
    if let Some(address) = metrics.as_ref().and_then(|listener| listener.local_addr().ok()) {
        tracing::info!(%address, "metrics are at /metrics");
    }
    Ok(Ports { main, main_address, metrics })
}

struct PortError {
    in_use: bool,
    message: String,
}

/// Not [`TcpListener::bind`]: it has a queue of 128. A handshake for which the queue has no room is lost in a way that its client does not
/// notice before it sends something.
fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that starts again is not kept out by what its predecessor's connections left behind.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

fn open_port(setting: &str, address: SocketAddr, backlog: u32) -> std::result::Result<TcpListener, PortError> {
    listen(address, backlog).map_err(|error| {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let advice =
            if in_use { format!("; another process listens there: stop it, or set {setting} to another port") } else { String::new() };
        PortError { in_use, message: format!("cannot listen on {address} ({setting}): {error}{advice}") }
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(format!("signals cannot be received: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
