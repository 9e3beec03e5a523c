//! Connections to the second tier: one server, or the nodes of a cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
};

use crate::config::DragonflyConfig;

/// Where the second tier is, and how it is reached.
#[derive(Clone)]
pub struct Address {
    /// The servers to begin with: one, or some nodes of a cluster; each with the certificates that it is to be believed by.
    servers: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    cluster: bool,
    connect_limit: Duration,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("place", &self.place()).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// A connection that many callers share.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, commands: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl Address {
    /// Reads the settings. Connects to nothing.
    ///
    /// # Errors
    /// A sentence for the operator: which setting cannot be used, and why.
    pub fn new(config: &DragonflyConfig) -> Result<Self, String> {
        let servers = if config.url.is_empty() { vec![of_parts(config)?] } else { of_url(config)? };
        let certificates = if config.ca_file.is_empty() {
            None
        } else {
            let root = std::fs::read(&config.ca_file).map_err(|error| format!("dragonfly.ca_file cannot be read: {error}."))?;
            Some(TlsCertificates { client_tls: None, root_cert: Some(root) })
        };
        let trusting = |server| match &certificates {
            Some(certificates) => Client::build_with_tls(server, certificates.clone())
                .map(|client| client.get_connection_info().clone())
                .map_err(|error| format!("dragonfly.ca_file cannot be used: {error}.")),
            None => Ok(server),
        };
        let servers = servers.into_iter().map(trusting).collect::<Result<_, _>>()?;
        Ok(Self { servers, certificates, cluster: config.cluster, connect_limit: config.connect_timeout_ms.into() })
    }

    /// For messages: without user and password.
    #[must_use]
    pub fn place(&self) -> String {
        self.servers.iter().map(|server| server.addr().to_string()).collect::<Vec<_>>().join(",")
    }

    /// A connection for commands. Its own limit for an answer is that of connecting; each caller has a shorter one.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        if self.cluster {
            let connecting = self.cluster_client()?;
            let connected = tokio::time::timeout(self.connect_limit, connecting.get_async_connection()).await;
            return connected.map_err(|_| silent())?.map(Connection::Cluster);
        }
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(self.connect_limit)).set_response_timeout(Some(self.connect_limit));
        self.client(0)?.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
    }

    /// A connection for a subscription: to one server, in a cluster to any node, because messages reach all of them. What it hears goes to
    /// `listener`.
    pub(in crate::cache) async fn listen(&self, listener: impl redis::aio::AsyncPushSender) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_limit))
            .set_response_timeout(Some(self.connect_limit))
            .set_push_sender(listener);
        let mut failure = silent();
        for number in 0..self.servers.len() {
            match self.client(number)?.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// One server of those to begin with, or one that a cluster has named.
    pub(super) fn at(&self, host: &str, port: u16) -> Option<ConnectionInfo> {
        let first = self.servers.first()?.clone();
        let address = match first.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Some(first.set_addr(address))
    }

    /// The servers to begin with.
    pub(super) fn servers(&self) -> &[ConnectionInfo] {
        &self.servers
    }

    /// Longest time for connecting, in milliseconds.
    pub(super) fn connect_limit_milliseconds(&self) -> u64 {
        self.connect_limit.as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Whether it is a cluster.
    pub(super) const fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Whether TLS is spoken with it.
    pub(super) fn is_tls(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.addr(), ConnectionAddr::TcpTls { .. }))
    }

    fn client(&self, number: usize) -> RedisResult<Client> {
        Client::open(self.servers.get(number).cloned().ok_or_else(silent)?)
    }

    fn cluster_client(&self) -> RedisResult<ClusterClient> {
        let mut builder = ClusterClientBuilder::new(self.servers.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.connect_limit)
            .response_timeout(self.connect_limit)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .retries(2);
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        builder.build()
    }
}

fn silent() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

fn of_parts(config: &DragonflyConfig) -> Result<ConnectionInfo, String> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(config.db));
    if !config.username.is_empty() {
        settings = settings.set_username(&config.username);
    }
    if !config.password.is_empty() {
        settings = settings.set_password(config.password.expose());
    }
    let address = ConnectionAddr::Tcp(config.host.clone(), config.port);
    let info = address.into_connection_info().map_err(|_| "dragonfly.host cannot be used.".to_owned())?;
    Ok(finish(info.set_redis_settings(settings)))
}

/// One URL, or several with commas between them: nodes of one cluster.
fn of_url(config: &DragonflyConfig) -> Result<Vec<ConnectionInfo>, String> {
    let urls = config.url.expose().split(',').map(str::trim);
    // The error may quote the URL, and with it the password.
    let read = |url: &str| {
        url.into_connection_info()
            .map(finish)
            .map_err(|_| "dragonfly.url is not a URL like redis://user:password@host:6379/0 or rediss://host:6379.".to_owned())
    };
    urls.map(read).collect()
}

/// RESP3, and no waiting for more to send.
fn finish(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true))
}
