//! Redis-protocol servers for tests: processes of their own, on a port that stays theirs, which may be paused, killed, and started again on nothing
//! or on an old snapshot. The programs come from `scripts/with-redis`.

pub(crate) mod cluster;
pub(crate) mod resp;
mod tests;
mod tls;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::resp::{Connection, Value};
pub(crate) use self::tls::make_certificates;
use super::port;

/// The harness reaches every server as this user, whatever the test makes of the others.
const HARNESS: &str = "harness";
/// Longest wait for a server to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Binary {
    #[default]
    Redis,
    /// Built without TLS.
    Valkey,
}

impl Binary {
    pub(crate) const ALL: [Self; 2] = [Self::Redis, Self::Valkey];

    fn path(self) -> PathBuf {
        program(match self {
            Self::Redis => "NWORKFLOW_TEST_REDIS_BIN",
            Self::Valkey => "NWORKFLOW_TEST_VALKEY_BIN",
        })
    }
}

/// A program that `scripts/with-redis` names.
pub(crate) fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run `make test`, or `scripts/with-redis cargo test`")).into()
}

/// A user beside whom there is no default user.
#[derive(Debug, Clone)]
pub(crate) struct Acl {
    pub(crate) user: String,
    pub(crate) password: String,
    /// As in ACL SETUSER: `~key* &channel* +get`.
    pub(crate) rules: String,
}

/// What kind of server. By default a Redis that trusts everybody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) binary: Binary,
    pub(crate) tls: bool,
    /// Of the default user; without effect beside `acl`.
    pub(crate) password: Option<String>,
    pub(crate) acl: Option<Acl>,
    /// One node of a cluster; [`cluster::RedisCluster`] makes a whole one.
    pub(crate) cluster: bool,
    /// Further lines of its configuration file.
    pub(crate) settings: Vec<String>,
}

/// What a server wrote to disk at some time.
pub(crate) struct Snapshot(Vec<u8>);

/// A server that is killed when this is dropped.
pub(crate) struct RedisServer {
    folder: TempDir,
    options: Options,
    port: u16,
    bus_port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub(crate) fn start(options: Options) -> Self {
        let mut server = Self { folder: TempDir::new().unwrap(), options, port: port::free(), bus_port: port::free(), child: None };
        if server.options.tls {
            tls::make_certificates(server.folder.path());
        }
        fs::write(server.file("redis.conf"), server.configuration()).unwrap();
        server.run();
        server
    }

    /// Where clients connect, the same for its whole life.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// For the client library, with user and password.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same by way of a proxy.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        let credentials = match (&self.options.acl, &self.options.password) {
            (Some(acl), _) => format!("{}:{}@", acl.user, acl.password),
            (None, Some(password)) => format!(":{password}@"),
            (None, None) => String::new(),
        };
        format!("{scheme}://{credentials}{address}")
    }

    /// The authority that a client of a server with TLS must trust, as PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.file(tls::CA)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Runs a command as a user who may do everything, past TLS and every proxy.
    pub(crate) fn command<A: AsRef<[u8]>>(&self, words: &[A]) -> Value {
        let reply = self.connect().and_then(|mut connection| connection.command(words));
        reply.unwrap_or_else(|error| panic!("{error}; the server's log:\n{}", self.log()))
    }

    /// A connection of that user, for subscriptions.
    pub(crate) fn connect(&self) -> std::io::Result<Connection> {
        let mut connection = Connection::unix(&self.file("socket"))?;
        match connection.command(&["AUTH", HARNESS, HARNESS])? {
            Value::Error(error) => Err(std::io::Error::other(error)),
            _ => Ok(connection),
        }
    }

    /// A line of INFO.
    pub(crate) fn info(&self, field: &str) -> String {
        let info = self.command(&["INFO", "everything"]).to_text();
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {field}:\n{info}")).to_owned()
    }

    pub(crate) fn flush_all(&self) {
        assert_eq!(self.command(&["FLUSHALL"]), Value::text("OK"));
    }

    /// All that it holds now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        assert_eq!(self.command(&["SAVE"]), Value::text("OK"));
        let content = fs::read(self.file("dump.rdb")).unwrap();
        fs::remove_file(self.file("dump.rdb")).unwrap();
        Snapshot(content)
    }

    /// SIGSTOP: connections stay open and are accepted, nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        // The signal is on its way when it is sent; the process has stopped when its state is T.
        let stat = format!("/proc/{}/stat", self.process());
        let begin = Instant::now();
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(begin.elapsed() < PATIENCE, "the server does not stop");
            std::thread::yield_now();
        }
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// SIGKILL, paused or not: connections are reset, new ones refused.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again with nothing in it, after a [`RedisServer::kill`] if it runs.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Starts it again with what it held at another time.
    pub(crate) fn restart_from(&mut self, snapshot: &Snapshot) {
        self.kill();
        fs::write(self.file("dump.rdb"), &snapshot.0).unwrap();
        self.run();
        fs::remove_file(self.file("dump.rdb")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn configuration(&self) -> String {
        let port = self.port;
        let mut lines = vec!["bind 127.0.0.1".to_owned(), "unixsocket socket".into(), "save \"\"".into(), "appendonly no".into()];
        lines.push(format!("user {HARNESS} on >{HARNESS} ~* &* +@all"));
        if self.options.tls {
            lines.extend([format!("port 0\ntls-port {port}"), tls::SETTINGS.into()]);
        } else {
            lines.push(format!("port {port}"));
        }
        if let Some(Acl { user, password, rules }) = &self.options.acl {
            lines.extend(["user default off".into(), format!("user {user} on >{password} {rules}")]);
        } else if let Some(password) = &self.options.password {
            lines.push(format!("requirepass {password}"));
        }
        if self.options.cluster {
            lines.extend([format!("cluster-enabled yes\ncluster-port {}", self.bus_port), "cluster-node-timeout 2000".into()]);
        }
        lines.extend(self.options.settings.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        let mut command = Command::new(self.options.binary.path());
        command.arg("redis.conf").current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let begin = Instant::now();
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "the server is not ready: {ended:?}\n{}", self.log());
            if self.connect().and_then(|mut connection| connection.command(&["PING"])).is_ok_and(|reply| reply == Value::text("PONG")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
