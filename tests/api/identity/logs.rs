//! What the program writes into its log, as a process: both identities of a delegation, and nothing of what clients keep secret.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::id::{TenantId, UserId};
use nworkflow_state::http::auth::{DevelopmentClaims, DevelopmentIssuer};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::STATE;
use crate::support::issuer::TestIssuer;
use crate::support::keys::SigningKey;
use crate::support::postgres::{APP, TestDatabase};
use crate::support::tokens::TokenBuilder;

/// Part of everything that must not be told.
const SPILL: &str = "zq7spill";
/// Part of a path, which is told: it shows that the log is complete.
const SHOWN: &str = "zq7shown";

/// The program, running.
struct Process {
    child: Child,
    folder: TempDir,
    base: String,
    client: reqwest::Client,
}

impl Process {
    async fn start(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nworkflow-state"));
        command.args(arguments).args(["--set", "server.listen=127.0.0.1:0", "--set", "server.metrics_listen="]).env_clear();
        command.envs(settings.iter().copied()).current_dir(folder.path());
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut process = Self { child, folder, base: String::new(), client };
        let line = process.wait_for_line(|line| line["message"] == "the server listens").await;
        process.base = format!("http://{}", line["address"].as_str().unwrap());
        let begun = Instant::now();
        while !process
            .client
            .get(format!("{}/health/ready", process.base))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("\"ready\"")
        {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", process.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    async fn wait_for_line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(line) = self.lines().into_iter().find(&wanted) {
                return line;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the log has no such line: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> StatusCode {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        answer.bytes().await.unwrap();
        status
    }

    /// The last request has been logged when a later one has.
    async fn finish(&self, token: &str) -> String {
        let path = format!("/workflows/{SHOWN}/executions/e1/state");
        self.call(Method::GET, &path, &[("authorization", &format!("Bearer {token}"))], "").await;
        self.wait_for_line(|line| line["path"] == path.as_str()).await;
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The secrets that the log holds, in any spelling in which a careless line would hold them.
fn spilled(log: &str, tokens: &[String]) -> Vec<String> {
    let bytes = |text: &str| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned();
    let hex: String = SPILL.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut needles = vec![SPILL.to_owned(), bytes(SPILL), hex];
    for token in tokens {
        // Claims and signature apart: a header alone is no secret, and all tokens of a key have the same.
        needles.extend(token.split('.').skip(1).filter(|part| part.len() > 16).map(|part| part[..part.len().min(40)].to_owned()));
    }
    let lower = log.to_lowercase();
    needles.into_iter().filter(|needle| log.contains(needle.as_str()) || lower.contains(needle.as_str())).collect()
}

/// Sends a secret wherever a client can put one, in requests that succeed and in requests that fail.
async fn talk(process: &Process, good: &str, bad: &[String]) {
    let authorization = format!("Bearer {good}");
    let variable = "/variables/workflow:order/tax";
    let with = |more: &[(&'static str, &'static str)]| {
        let mut headers = vec![("authorization", authorization.clone()), ("content-type", "application/json".to_owned())];
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        headers
    };
    let call = async |method: Method, path: &str, headers: Vec<(&'static str, String)>, body: String| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        process.call(method, path, &headers, body).await.as_u16()
    };
    let put = |path: &'static str, body: String| call(Method::PUT, path, with(&[]), body);
    let state = json!({"marking": {SPILL: [SPILL]}, "metadata": {SPILL: SPILL}}).to_string();
    let value = json!({"value": SPILL, "description": SPILL}).to_string();

    assert_eq!(put(STATE, state.clone()).await, 201);
    assert_eq!(put(variable, value.clone()).await, 201);
    assert_eq!(call(Method::PUT, variable, with(&[("idempotency-key", "zq7spill key")]), value.clone()).await, 200);
    assert_eq!(call(Method::PUT, variable, with(&[("idempotency-key", "zq7spill key")]), value.replace("spill", "spill2")).await, 422);
    assert_eq!(call(Method::GET, STATE, with(&[]), String::new()).await, 200);
    assert_eq!(
        call(Method::GET, "/variables/workflow:order?prefix=zq7spill&name=zq7spill&x=zq7spill", with(&[]), String::new()).await,
        200
    );
    assert_eq!(call(Method::GET, "/variables/workflow:order?cursor=zq7spill", with(&[]), String::new()).await, 400);
    assert_eq!(call(Method::GET, &format!("{STATE}?version=zq7spill&access_token={good}"), with(&[]), String::new()).await, 400);
    for body in [
        format!("{{\"marking\":{{\"p\":\"{SPILL}\"}}}}"),
        format!("{{\"marking\":{{\"{SPILL}\":1,\"{SPILL}\":2}}}}"),
        format!("{{\"{SPILL}\":\"{SPILL}\""),
        format!("\"{SPILL}\\u0000\""),
        format!("{{\"marking\":{{}},\"{SPILL}\":{{}}}}"),
        format!("{{\"marking\":{{}},\"status\":\"{SPILL}\"}}"),
    ] {
        assert!((400..=422).contains(&put(STATE, body.clone()).await), "{body}");
    }
    assert_eq!(put(variable, json!({"value": SPILL, "secret": true}).to_string()).await, 422);
    for (name, value) in [
        ("if-match", "zq7spill"),
        ("if-none-match", "\"zq7spill\""),
        ("x-min-version", "zq7spill"),
        ("x-request-timeout-ms", "zq7spill"),
        ("x-tenant-id", "zq7spill"),
        ("x-request-id", "zq7spill with spaces"),
        ("content-type", "text/zq7spill"),
        ("content-encoding", "zq7spill"),
        ("cookie", "session=zq7spill"),
        ("user-agent", "zq7spill"),
        ("prefer", "return=zq7spill"),
        ("x-zq7spill", "zq7spill"),
        ("authorization", "Basic zq7spill"),
    ] {
        call(Method::GET, STATE, with(&[(name, value)]), String::new()).await;
        call(Method::PUT, STATE, with(&[(name, value)]), state.clone()).await;
    }
    for token in bad {
        let headers = |scheme: &str| vec![("authorization", format!("{scheme} {token}"))];
        assert_eq!(call(Method::GET, STATE, headers("Bearer"), String::new()).await, 401, "{token}");
        call(Method::GET, STATE, headers("Basic"), String::new()).await;
    }
    assert_eq!(call(Method::DELETE, variable, with(&[]), String::new()).await, 204);
    assert_eq!(call(Method::DELETE, STATE, with(&[]), String::new()).await, 204);
}

fn development_token(process: &Process, subject: &str, role: &str) -> String {
    let issuer = DevelopmentIssuer::load(&process.folder.path().join("data")).unwrap();
    let (tenant, subject) = (TenantId::parse("acme").unwrap(), UserId::parse(subject).unwrap());
    issuer.sign(&DevelopmentClaims { tenant, subject, roles: vec![role.to_owned()], ttl_seconds: 3600 }, &Clock::new()).unwrap()
}

#[track_caller]
fn assert_nothing_spilled(log: &str, tokens: &[String]) {
    assert!(log.contains(SHOWN) && log.contains("\"level\":\"TRACE\""), "the log is not that of every level");
    let spilled = spilled(log, tokens);
    let lines: Vec<&str> =
        log.lines().filter(|line| spilled.iter().any(|needle| line.to_lowercase().contains(&needle.to_lowercase()))).collect();
    assert!(spilled.is_empty(), "{spilled:?} in:\n{}", lines.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_level_of_the_log_tells_what_clients_send_to_the_embedded_server() {
    let process = Process::start(&["dev"], &[("NWORKFLOW__LOG__LEVEL", "trace"), ("NWORKFLOW__LOG__FORMAT", "json")]).await;
    let good = development_token(&process, "ada", "nworkflow-admin");
    let (message, _) = good.rsplit_once('.').unwrap();
    let bad = [format!("{message}.{SPILL}"), SPILL.to_owned(), format!("{SPILL}.{SPILL}.{SPILL}")];
    talk(&process, &good, &bad).await;
    let log = process.finish(&good).await;
    assert_nothing_spilled(&log, &[&[good], &bad[..1]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_level_of_the_log_tells_what_clients_of_an_issuer_send_to_postgresql() {
    let clock = Clock::new();
    let (issuer, database) = (TestIssuer::start(clock.clone()).await, TestDatabase::migrated().await);
    let (name, url) = (issuer.issuer().to_owned(), database.url(APP));
    let settings = [
        ("NWORKFLOW__LOG__LEVEL", "trace"),
        ("NWORKFLOW__LOG__FORMAT", "json"),
        ("NWORKFLOW__DATABASE__URL", url.as_str()),
        ("NWORKFLOW__AUTH__ISSUERS__ACME__ISSUER", name.as_str()),
        ("NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENCE", "nworkflow-state"),
        ("NWORKFLOW__AUTH__ISSUERS__ACME__TENANT", "claim:tenant_id"),
    ];
    let process = Process::start(&["serve"], &settings).await;
    let token = || {
        let email = format!("{SPILL}@acme.example");
        issuer.token().claim("email", email).claim("name", SPILL).claim("jti", SPILL).realm_roles(&["nworkflow-admin", SPILL])
    };
    let good = token().build();
    let foreign = SigningKey::rsa("foreign");
    let bad = [
        token().header("kid", SPILL).build(),
        token().header("jku", format!("http://127.0.0.1:1/{SPILL}")).signed_with(&foreign).build(),
        token().claim("iss", format!("http://127.0.0.1:1/{SPILL}")).build(),
        token().claim("aud", SPILL).build(),
        token().claim("exp", SPILL).build(),
        token().expires_in(-60).build(),
        token().claim("tenant_id", format!("{SPILL}/..")).build(),
        token().without("tenant_id").build(),
        token().subject(&format!("{SPILL}\n")).build(),
        token().claim("typ", SPILL).build(),
        TokenBuilder::id_token(issuer.issuer(), &issuer.key(), &clock).claim("nonce", SPILL).build(),
    ];
    talk(&process, &good, &bad).await;
    let log = process.finish(&good).await;
    assert_nothing_spilled(&log, &[&[good][..], &bad].concat());
    drop(process);
}

#[test]
fn a_secret_in_a_log_is_found() {
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ".to_owned();
    let bytes = format!("{:?}", format!("x{SPILL}").as_bytes());
    for line in [SPILL, "ZQ7SPILL", "%22zq7spill", &bytes, "a7a713773706 7a71377370696c6c", &token, "sub eyJzdWIiOiIxMjM0NTY3ODkwIn0"] {
        assert!(!spilled(line, std::slice::from_ref(&token)).is_empty(), "{line}");
    }
    assert!(spilled("{\"kid\":\"rsa-1\",\"path\":\"/zq7shown\"} eyJhbGciOiJSUzI1NiJ9", &[token]).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_use_of_delegation_is_logged_with_both_identities() {
    let process = Process::start(&["dev"], &[("NWORKFLOW__LOG__FORMAT", "json")]).await;
    let bearer = |subject: &str, role: &str| format!("Bearer {}", development_token(&process, subject, role));
    let call = async |method: Method, scope: &str, name: &str, token: &str| {
        let headers = [("authorization", token), ("content-type", "application/json")];
        process.call(method, &format!("/variables/{scope}{name}"), &headers, r#"{"value":1}"#).await.as_u16()
    };
    let engine = bearer("engine-1", "nworkflow-engine");
    for (method, name, status) in [
        (Method::PUT, "/theme", 201),
        (Method::GET, "/theme", 200),
        (Method::HEAD, "/theme", 200),
        (Method::GET, "", 200),
        (Method::DELETE, "/theme", 204),
        // An attempt is a use as well, whatever becomes of it.
        (Method::GET, "/theme", 404),
    ] {
        assert_eq!(call(method, "user:ada", name, &engine).await, status);
    }
    // No use: the own scope under both names, a shared one, and a refusal.
    for scope in ["user:me", "user:engine-1", "global"] {
        assert_eq!(call(Method::PUT, scope, "/theme", &engine).await, if scope == "user:engine-1" { 200 } else { 201 });
    }
    assert_eq!(call(Method::GET, "user:ada", "/theme", &bearer("bob", "nworkflow-writer")).await, 404);
    process.finish(&development_token(&process, "last", "nworkflow-reader")).await;

    let lines = process.lines();
    let uses: Vec<&Value> = lines.iter().filter(|line| line["message"] == "acted for another user").collect();
    assert_eq!(uses.len(), 6, "{uses:?}");
    for line in uses {
        let told = ["level", "tenant", "subject", "on_behalf_of"].map(|member| line[member].as_str().unwrap_or_default());
        assert_eq!(told, ["INFO", "acme", "engine-1", "ada"]);
    }
    // The line of the request itself tells who called, and with which client.
    let requests = lines.iter().filter(|line| line["message"] == "request" && line["subject"] == "engine-1");
    assert!(requests.clone().all(|line| line["client"] == "development") && requests.count() == 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_use_of_another_users_session_is_logged() {
    let process = Process::start(&["dev"], &[("NWORKFLOW__LOG__FORMAT", "json")]).await;
    let bearer = |subject: &str, role: &str| format!("Bearer {}", development_token(&process, subject, role));
    let call = async |token: &str, method: Method, path: &str, id: &str, more: &[(&str, &str)], body: &str| {
        let headers = [&[("authorization", token), ("content-type", "application/json"), ("x-request-id", id)], more].concat();
        process.call(method, path, &headers, body.to_owned()).await.as_u16()
    };
    let (engine, ada, bob) = (bearer("engine-1", "nworkflow-engine"), bearer("ada", "nworkflow-writer"), bearer("bob", "nworkflow-writer"));
    let (data, stale) = (r#"{"data":1}"#, [("if-match", "\"99\"")]);
    assert_eq!(call(&ada, Method::PUT, "/sessions/a", "by-ada", &[], data).await, 201);
    assert_eq!(call(&bob, Method::PUT, "/sessions/b", "by-bob", &[], data).await, 201);
    assert_eq!(call(&engine, Method::PUT, "/sessions/own", "own", &[], data).await, 201);
    let both = ["ada", "bob"].as_slice();
    let mut wanted = Vec::new();
    for (id, method, path, more, body, status, owners) in [
        ("begin", Method::POST, "/sessions", [].as_slice(), r#"{"session_id":"c","data":1,"owner":"ada"}"#, 201, ["ada"].as_slice()),
        ("read", Method::GET, "/sessions/a", &[], "", 200, &["ada"]),
        ("min", Method::GET, "/sessions/a", &[("x-min-version", "99")], "", 412, &["ada"]),
        ("put", Method::PUT, "/sessions/a", &[], data, 200, &["ada"]),
        ("merge", Method::PATCH, "/sessions/a", &[], data, 200, &["ada"]),
        ("extend", Method::POST, "/sessions/a/extend", &[], r#"{"additional_seconds":1}"#, 200, &["ada"]),
        ("variable", Method::PUT, "/variables/session:a/x", &[], r#"{"value":1}"#, 201, &["ada"]),
        ("effective", Method::GET, "/effective-variables?session_id=a", &[], "", 200, &["ada"]),
        ("list", Method::GET, "/sessions", &[], "", 200, both),
        ("page", Method::GET, "/sessions?limit=1", &[], "", 200, &["ada"]),
        // A refusal that tells of the session.
        ("stale-put", Method::PUT, "/sessions/b", &stale, data, 412, &["bob"]),
        ("stale-patch", Method::PATCH, "/sessions/b", &stale, data, 412, &["bob"]),
        ("stale-extend", Method::POST, "/sessions/b/extend", &stale, r#"{"additional_seconds":1}"#, 412, &["bob"]),
        ("stale-delete", Method::DELETE, "/sessions/b", &stale, "", 412, &["bob"]),
        ("delete", Method::DELETE, "/sessions/b", &[("idempotency-key", "k")], "", 204, &["bob"]),
        // No uses: a stored answer, what is not there, and the own session.
        ("again", Method::DELETE, "/sessions/b", &[("idempotency-key", "k")], "", 204, &[]),
        ("gone", Method::DELETE, "/sessions/b", &[], "", 404, &[]),
        ("none", Method::PUT, "/sessions/none", &stale, data, 412, &[]),
        ("own-stale", Method::PUT, "/sessions/own", &stale, data, 412, &[]),
        ("own-read", Method::GET, "/sessions/own", &[], "", 200, &[]),
        ("own-delete", Method::DELETE, "/sessions/own", &[], "", 204, &[]),
    ] {
        assert_eq!(call(&engine, method, path, id, more, body).await, status, "{id}");
        wanted.extend(owners.iter().map(|owner| (id.to_owned(), (*owner).to_owned())));
    }
    // Whoever may not act for others uses nothing.
    assert_eq!(call(&bob, Method::GET, "/sessions/a", "refused", &[], "").await, 404);
    assert_eq!(call(&bob, Method::PUT, "/sessions/a", "refused-put", &stale, data).await, 412);
    assert_eq!(call(&bob, Method::GET, "/sessions", "own-list", &[], "").await, 200);
    process.finish(&development_token(&process, "last", "nworkflow-reader")).await;

    let lines = process.lines();
    let uses = lines.iter().filter(|line| line["message"] == "acted for another user");
    let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = uses.map(|line| ((text(line, "request_id"), text(line, "on_behalf_of")), text(line, "subject"))).collect();
    assert!(told.iter().all(|(_, subject)| subject == "engine-1"), "{told:?}");
    told.sort();
    wanted.sort();
    assert_eq!(told.into_iter().map(|(told, _)| told).collect::<Vec<_>>(), wanted);
}
