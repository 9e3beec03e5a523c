//! The process from outside: exit codes, what is printed where, signals.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_nworkflow-state");
/// Longest wait for bytes of the server.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const STATE: &str = r#"{"marking":{"p":1}}"#;

/// A folder to run the program in, with nothing of this process's environment.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder can be made"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program can be started")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.0.path()
    }

    fn log_file(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn start_command(&self, mut command: Command) -> Server {
        let log = File::create(self.log_file()).expect("the log can be written");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the program can be started");
        let output = BufReader::new(child.stdout.take().expect("the output is piped"));
        Server { child, output, printed: String::new(), log: self.log_file() }
    }

    /// `dev` on ports of its own, ready.
    pub(crate) fn dev(&self, arguments: &[&str]) -> Server {
        self.dev_with(arguments, &[])
    }

    /// As [`Place::dev`], with an environment.
    pub(crate) fn dev_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let ports = ["dev", "--set", "server.listen=127.0.0.1:0", "--set", "server.metrics_listen=127.0.0.1:0"];
        let mut command = self.command(&[&ports[..], arguments].concat());
        command.envs(environment.iter().copied());
        let mut server = self.start_command(command);
        server.wait_until_ready();
        server
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    printed: String,
    log: PathBuf,
}

impl Server {
    /// Reads the output to the line that is printed last. The program bounds the time for that itself.
    fn wait_until_ready(&mut self) {
        while !self.printed.contains("Ctrl-C") {
            let count = self.output.read_line(&mut self.printed).expect("the output can be read");
            assert_ne!(count, 0, "the server ended before it was ready: {}", self.log());
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    pub(crate) fn printed_after(&self, label: &str) -> &str {
        let rest = self.printed.split_once(label).unwrap_or_else(|| panic!("{label} is not printed: {}", self.printed)).1;
        rest.lines().next().expect("a line follows").trim()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.printed_after("Address:").strip_prefix("http://").and_then(|text| text.parse().ok()).expect("an address is printed")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
        stream
    }

    /// A write whose body is not all there yet.
    pub(crate) fn begin_write(&self) -> TcpStream {
        let mut stream = self.connect();
        let token = self.printed_after("Token:");
        let head = format!(
            "PUT /workflows/order/executions/1/state HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            STATE.len()
        );
        stream.write_all(head.as_bytes()).expect("the server takes a head");
        // The answer to `expect` shows that the request is at work.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).expect("the server wants the body");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    /// SIGSTOP, until the process has stopped: its state is then T.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.id());
        let begin = Instant::now();
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(begin.elapsed() < PATIENCE, "the server does not stop");
            std::thread::yield_now();
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh can be started").success());
    }

    /// Polls the log, which the server writes line by line.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if self.log().contains(text) {
                return;
            }
            assert!(self.child.try_wait().expect("the server is a child").is_none(), "the server ended: {}", self.log());
            pause();
        }
        panic!("the log does not say {text:?}: {}", self.log());
    }

    pub(crate) fn wait_until_closed(&self) {
        let address = self.address();
        for _ in 0..PATIENCE.as_millis() / 10 {
            if TcpStream::connect(address).is_err() {
                return;
            }
            pause();
        }
        panic!("the server still listens: {}", self.log());
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if let Some(status) = self.child.try_wait().expect("the server is a child") {
                return status;
            }
            pause();
        }
        panic!("the server does not end: {}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The step of a bounded poll of another process.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, says: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "something is printed beside the error {error}");
    for part in says {
        assert!(error.contains(part), "the error does not say {part:?}: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

#[track_caller]
fn assert_prints(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "", "the command complains");
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

#[test]
fn wrong_settings_end_every_command_with_code_2() {
    let place = Place::new();
    for arguments in [&["serve"][..], &["dev"], &["token"], &["migrate"], &["config", "check"], &["config"]] {
        let output = place.command(arguments).env("NWORKFLOW__SERVER__LISTN", "127.0.0.1:1").output().expect("the program can be started");
        assert_fails(&output, 2, &["nworkflow-state: NWORKFLOW__SERVER__LISTN", "did you mean NWORKFLOW__SERVER__LISTEN?"]);
    }
    assert_fails(&place.run(&["config", "--config", "missing.toml"]), 2, &["missing.toml cannot be read"]);
    assert_fails(&place.run(&["config", "--set", "server.docs"]), 2, &["section.key=value"]);
    assert_fails(&place.run(&["dev", "--set", "server.listen=0.0.0.0:8080"]), 2, &["server.listen is 0.0.0.0:8080", "loopback"]);
    assert_fails(&place.run(&["unknown"]), 2, &["unknown"]);
}

#[test]
fn a_flag_stands_over_the_environment_and_the_data_directory_has_its_own() {
    let place = Place::new();
    let mut command = place.command(&["config", "print", "--set", "server.max_connections=7", "--data-dir", "elsewhere"]);
    let printed = assert_prints(&command.env("NWORKFLOW__SERVER__MAX_CONNECTIONS", "6").output().expect("the program can be started"));
    let settings: toml::Table = printed.parse().expect("the settings are TOML");
    assert_eq!(settings["server"]["max_connections"].as_integer(), Some(7));
    assert_eq!(settings["data_dir"].as_str(), Some("elsewhere"));
}

#[test]
fn printed_settings_show_no_secret() {
    let place = Place::new();
    let mut command = place.command(&["config", "print"]);
    command.env("NWORKFLOW__DATABASE__URL", "postgres://user:hunter2@db/state").env("NWORKFLOW__DRAGONFLY__URL", "redis://:hunter2@cache");
    let printed = assert_prints(&command.output().expect("the program can be started"));
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("url = \"***\""), "{printed}");
}

#[test]
fn settings_can_be_checked() {
    let place = Place::new();
    assert_eq!(assert_prints(&place.run(&["config", "check"])), "ok\n");
    let issuer = |tenant: &str| {
        let mut command = place.command(&["config", "check"]);
        command
            .env("NWORKFLOW__AUTH__ISSUERS__ACME__ISSUER", "https://sso.invalid/realms/acme")
            .env("NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENCE", "nworkflow-state")
            .env("NWORKFLOW__AUTH__ISSUERS__ACME__TENANT", tenant);
        command.output().expect("the program can be started")
    };
    assert_eq!(assert_prints(&issuer("realm")), "ok\n");
    assert_fails(&issuer("realms"), 2, &["acme"]);
    for (name, setting) in [("URL", "database.url"), ("MIGRATE_URL", "database.migrate_url")] {
        for (url, why) in [("postgres://u:hunter2@db:99999/state", "port"), ("postgres://u:hunter2@db/state?sslmode=maybe", "maybe")] {
            let mut command = place.command(&["config", "check"]);
            command.env("NWORKFLOW__DATABASE__URL", "postgres://u@db/state").env(format!("NWORKFLOW__DATABASE__{name}"), url);
            let output = command.output().expect("the program can be started");
            assert_fails(&output, 2, &[setting, "is not a URL like", why]);
            assert!(!format!("{output:?}").contains("hunter2"));
        }
    }
}

#[test]
fn a_token_needs_the_key_of_dev_and_says_so() {
    let place = Place::new();
    assert_fails(&place.run(&["token"]), 1, &["nworkflow-state: ", "development key", "nworkflow-state dev"]);
    assert_fails(&place.run(&["token", "--ttl", "0"]), 2, &["--ttl"]);
    assert_fails(&place.run(&["token", "--tenant", "a/b"]), 2, &["--tenant"]);
    assert!(!place.0.path().join("data").exists(), "asking for a token makes nothing");
}

#[test]
fn serve_needs_an_issuer() {
    assert_fails(&Place::new().run(&["serve"]), 2, &["auth.issuers.NAME.issuer", "nworkflow-state dev"]);
    let development = ["serve", "--set", "auth.development=true"];
    assert_fails(&Place::new().run(&development), 2, &["auth.development is set", "nworkflow-state dev"]);
}

#[test]
fn the_api_document_needs_nothing() {
    let place = Place::new();
    for (arguments, version) in [(&["openapi"][..], "3.1."), (&["openapi", "--version", "3.0"], "3.0.")] {
        let document: serde_json::Value = serde_json::from_str(&assert_prints(&place.run(arguments))).expect("the document is JSON");
        assert!(document["openapi"].as_str().is_some_and(|text| text.starts_with(version)), "{}", document["openapi"]);
    }
}

#[test]
fn what_dev_prints_works_when_pasted() {
    let place = Place::new();
    let mut server = place.dev(&[]);
    let token = server.printed_after("Token:").to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let commands: Vec<&str> = server.printed.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(commands.len(), 3);
    assert!(commands.iter().all(|command| command.contains(&token)), "a command needs the shell of another");

    let pasted = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).env("no_proxy", "*").output().expect("sh can be started");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the answer is UTF-8")
    };
    let saved = pasted(commands[0]);
    assert!(saved.contains(r#""marking":{"received":1}"#) && saved.contains(r#""version":1"#), "{saved}");
    assert_eq!(pasted(commands[1]), saved);
    let listed = pasted(commands[2]);
    assert!(listed.lines().count() == 2 && listed.contains(r#"{"items":[{"scope":"workflow:order","name":"limit","value":42"#), "{listed}");

    let other = assert_prints(&place.run(&["token", "--tenant", "acme", "--role", "nworkflow-reader", "--ttl", "60"]));
    assert!(other.ends_with('\n') && other.trim_end().split('.').count() == 3 && other.lines().count() == 1, "{other}");
    assert!(!server.log().contains(&token), "the log holds a token");

    server.signal("TERM");
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    assert!(server.log().contains(r#""drained":true"#), "{}", server.log());
}

#[test]
fn a_write_at_work_ends_before_the_server_does() {
    let place = Place::new();
    let mut server = place.dev(&[]);
    let mut client = server.begin_write();
    server.signal("TERM");
    server.wait_for_log("the server stops");
    server.wait_until_closed();
    client.write_all(STATE.as_bytes()).expect("the server takes the body");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the server answers");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
}

#[test]
fn what_does_not_end_in_time_is_cut_and_told() {
    let place = Place::new();
    let mut server = place.dev(&["--set", "server.drain_timeout_ms=100", "--set", "server.stop_timeout_ms=200"]);
    let _client = server.begin_write();
    server.signal("TERM");
    assert_eq!(server.wait_for_end().code(), Some(1));
    assert!(server.log().contains("requests at work are cut"), "{}", server.log());
}

#[test]
fn a_second_signal_does_not_wait() {
    let place = Place::new();
    let mut server = place.dev(&["--set", "server.drain_timeout_ms=86400000", "--set", "server.stop_timeout_ms=86400000"]);
    let _client = server.begin_write();
    server.signal("INT");
    server.wait_for_log("the server stops");
    server.signal("INT");
    assert_eq!(server.wait_for_end().code(), Some(1));
    assert!(server.log().contains(r#""second_signal":true"#), "{}", server.log());
}

#[test]
fn a_server_that_waits_for_its_database_can_be_stopped() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let url = format!("postgres://nobody@{}/nothing?sslmode=disable", silent.local_addr().expect("the listener has an address"));
    let mut command = place.command(&["dev", "--set", "server.listen=127.0.0.1:0"]);
    command.env("NWORKFLOW__DATABASE__URL", url);
    let mut server = place.start_command(command);
    let _connection = silent.accept().expect("the server connects");
    let begin = std::time::Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_end().code(), Some(1));
    assert!(server.log().contains("SIGTERM came before"), "{}", server.log());
    // It would give the database up by itself after a while.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn a_taken_port_is_named() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = taken.local_addr().expect("the listener has an address");
    let listen = format!("server.listen={address}");
    let output = place.run(&["dev", "--set", &listen, "--set", "server.metrics_listen=", "--set", "log.level=off"]);
    assert_fails(&output, 1, &[&format!("cannot listen on {address} (server.listen)"), "another process"]);
}

#[test]
fn a_taken_metrics_port_stops_serve_but_not_dev() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let metrics = format!("server.metrics_listen={}", taken.local_addr().expect("the listener has an address"));
    let server = place.dev(&["--set", &metrics]);
    assert!(server.log().contains("the port of the metrics is taken"), "{}", server.log());

    let place = Place::new();
    let issuer = "auth.issuers.acme.issuer=http://127.0.0.1:1/realms/acme";
    let settings = ["server.listen=127.0.0.1:0", &metrics, issuer, "auth.issuers.acme.audience=a", "auth.issuers.acme.tenant=realm"];
    let flags = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["serve", "--set", "log.level=off"].into_iter().chain(flags).collect();
    assert_fails(&place.run(&arguments), 1, &["(server.metrics_listen)", "another process"]);
}

#[test]
fn settings_that_this_version_does_not_use_are_told() {
    let place = Place::new();
    let server = place.dev(&["--set", "dragonfly.url=redis://127.0.0.1:1", "--set", "secrets.key_command=true"]);
    let log = server.log();
    assert!(log.contains("[dragonfly] is set") && log.contains("[secrets] is set"), "{log}");
}

#[test]
fn a_server_without_descriptors_waits_for_some() {
    let place = Place::new();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 64; exec "$@""#, "sh", BINARY, "dev"]);
    command.args(["--set", "server.listen=127.0.0.1:0", "--set", "server.metrics_listen="]);
    let mut server = place.start_command({
        command.env_clear().current_dir(place.0.path());
        command
    });
    server.wait_until_ready();
    let held: Vec<TcpStream> = (0..80).map(|_| server.connect()).collect();
    server.wait_for_log(r#""pause_ms":80"#);
    drop(held);
    let mut client = server.connect();
    client.write_all(b"GET /health/ready HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("the server takes a head");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the server answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Between the first try and the fourth there were pauses of 10, 20 and 40 ms: the loop does not spin.
    let log = server.log();
    let time_of = |pause: &str| {
        let line = log.lines().find(|line| line.contains(pause)).expect("the pause is in the log");
        let line: serde_json::Value = serde_json::from_str(line).expect("the log is JSON");
        line["timestamp"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a line has its time").as_millisecond()
    };
    let passed = time_of(r#""pause_ms":80"#) - time_of(r#""pause_ms":10,"#);
    assert!(passed >= 65, "four tries within {passed} ms");
}

/// Answers every request on a loopback port with the same bytes, for as long as the test runs.
fn answering(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("the listener has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("the listener accepts");
            let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            assert!(head > 0);
            // The client may have hung up.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn doctor_of_issuer(head: &str, body: &str) -> Output {
    let length = body.len();
    let address = answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n{head}\r\n{body}"));
    let place = Place::new();
    let mut command = place.command(&["doctor"]);
    command
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__ISSUER", "https://sso.invalid/realms/acme")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__JWKS_URL", format!("http://{address}/keys"))
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENCE", "nworkflow-state")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__TENANT", "realm")
        .env("NWORKFLOW__LOG__LEVEL", "off");
    command.output().expect("the program can be started")
}

#[track_caller]
fn assert_diagnosis(output: &Output, code: i32, lines: &[&str]) {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for line in lines {
        assert!(printed.lines().any(|have| have.contains(line)), "no line says {line:?}:\n{printed}");
    }
}

#[test]
fn health_tells_by_its_exit_code_whether_the_server_is_ready() {
    let place = Place::new();
    let server = place.dev(&[]);
    let listen = format!("server.listen={}", server.address());
    let printed = assert_prints(&place.run(&["health", "--set", &listen]));
    assert!(printed.contains(r#""status":"ready""#), "{printed}");
    drop(server);
    assert_fails(&place.run(&["health", "--set", &listen]), 1, &["is not ready"]);
}

#[test]
fn doctor_finds_nothing_wrong_where_nothing_is() {
    let place = Place::new();
    let fresh = ["ok     configuration", "note   data directory", "note   embedded database", "note   issuers"];
    assert_diagnosis(&place.run(&["doctor"]), 0, &fresh);
    assert!(!place.0.path().join("data").exists(), "a look makes nothing");
    let mut server = place.dev(&[]);
    assert_diagnosis(&place.run(&["doctor"]), 0, &["note   embedded database: ./data is in use"]);
    server.signal("TERM");
    server.wait_for_end();
    assert_diagnosis(&place.run(&["doctor"]), 0, &["ok     embedded database", "ok     data directory"]);
    // A token of `dev` is looked at with the key of `dev`.
    let token = assert_prints(&place.run(&["token", "--tenant", "acme", "--role", "nworkflow-reader"]));
    let lines = [
        "ok     token tenant: acme",
        "ok     token permissions: the roles \"nworkflow-reader\" grant states:read",
        "ok     token: accepted",
    ];
    assert_diagnosis(&place.run(&["doctor", "--token", &token]), 0, &lines);
    assert_diagnosis(&Place::new().run(&["doctor", "--token", &token]), 1, &["WRONG  token: no issuer is known that could have made it"]);
}

#[test]
fn doctor_says_what_is_wrong() {
    let place = Place::new();
    let mut command = place.command(&["doctor"]);
    command.env("NWORKFLOW__SERVER__LISTN", "1");
    let output = command.output().expect("the program can be started");
    assert_diagnosis(&output, 1, &["WRONG  configuration: NWORKFLOW__SERVER__LISTN"]);

    let mut command = place.command(&["doctor"]);
    command.env("NWORKFLOW__DATABASE__URL", "postgres://user:hunter2@127.0.0.1:1/state");
    let output = command.output().expect("the program can be started");
    assert_diagnosis(&output, 1, &["WRONG  postgresql: PostgreSQL at 127.0.0.1:1/state does not answer"]);
    assert!(!format!("{output:?}").contains("hunter2"));

    let folder = place.0.path().join("data");
    std::fs::create_dir(&folder).expect("the folder can be made");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("the owner may change it");
    assert_diagnosis(&place.run(&["doctor"]), 1, &["WRONG  data directory: everybody may write to ./data"]);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("the owner may change it");
    std::fs::write(folder.join("development-key"), "no key").expect("the file can be written");
    assert_diagnosis(&place.run(&["doctor"]), 1, &["WRONG  data directory: ", "development-key"]);
}

#[test]
fn doctor_looks_at_the_keys_and_the_clock_of_issuers() {
    let keys =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    assert_diagnosis(&doctor_of_issuer("", keys), 0, &["ok     issuer acme: 1 usable keys; it does not tell its time"]);
    let past = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_diagnosis(&doctor_of_issuer(past, keys), 1, &["WRONG  issuer acme: 1 usable keys, but its clock is", "s behind ours"]);
    assert_diagnosis(&doctor_of_issuer("", "<html>"), 1, &["WRONG  issuer acme: its keys cannot be fetched"]);
}
