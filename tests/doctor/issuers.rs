//! Issuers and tokens: keys, discovery, and every check of a token.

use nworkflow_state::domain::clock::Clock;
use serde_json::json;

use super::Doctor;
use crate::support::issuer::{Behaviour, TestIssuer};
use crate::support::keys::SigningKey;
use crate::support::redis::make_certificates;
use crate::support::tokens::TokenBuilder;

async fn issuer() -> TestIssuer {
    TestIssuer::start(Clock::new()).await
}

#[tokio::test]
async fn an_issuer_without_keys_is_told_apart_by_its_reason() {
    let issuer = issuer().await;
    let report = |behaviour| {
        issuer.behave(behaviour);
        Doctor::new().issuer(&issuer).set("AUTH__JWKS_TIMEOUT_MS", "2000").run()
    };
    report(Behaviour::Serve).await.well(&["ok     issuer acme: 1 usable keys"]);
    report(Behaviour::Away).await.wrong("issuer acme", &["its keys cannot be fetched"], "Start the issuer");
    report(Behaviour::Hang).await.wrong("issuer acme", &["its keys cannot be fetched"], "Start the issuer");
    report(Behaviour::Status(404)).await.wrong("issuer acme", &["status 404"], "https://HOST/realms/REALM");
    let other = json!({"issuer": "https://sso.example/realms/acme", "jwks_uri": issuer.jwks_url()}).to_string();
    let found = report(Behaviour::Discovery(other)).await;
    found.wrong("issuer acme", &["not of the issuer", "https://sso.example/realms/acme"], "auth.issuers.acme.jwks_url");
    let silent = json!({"issuer": issuer.issuer(), "token_endpoint": "https://sso.example/token"}).to_string();
    let found = report(Behaviour::Discovery(silent)).await;
    found.wrong(
        "issuer acme",
        &["discovery document has no member jwks_uri"],
        "Set auth.issuers.acme.jwks_url to the address of the issuer's key set",
    );
    let plain = json!({"issuer": issuer.issuer(), "jwks_uri": "http://sso.example/certs"}).to_string();
    let found = report(Behaviour::Discovery(plain)).await;
    found.wrong("issuer acme", &["\"http://sso.example/certs\", is neither https"], "auth.issuers.acme.jwks_url");
    let large = json!({"keys": [], "padding": "x".repeat(300_000)}).to_string();
    let found = report(Behaviour::Keys(large.clone())).await;
    let has = format!("has {} bytes, more than auth.jwks_max_bytes (262144)", large.len());
    found.wrong("issuer acme", &[&has], "Raise auth.jwks_max_bytes above the size of that answer");
    report(Behaviour::Keys(json!({"keys": []}).to_string())).await.wrong("issuer acme", &["no usable key"], "publish a key for signatures");
    let encryption = json!({"keys": [{"kid": "enc-1", "kty": "RSA", "use": "enc", "n": "AQ", "e": "AQAB"}]}).to_string();
    report(Behaviour::Keys(encryption)).await.wrong("issuer acme", &["enc-1", "its use is not sig"], "publish a key for signatures");
}

/// Something that listens and sends these bytes to whoever sends it any; without bytes it resets the connection.
async fn listener(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 1];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await;
            if !bytes.is_empty() {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
            }
            // Else what is left unread makes it a reset.
        }
    });
    address
}

fn at(issuer: &str) -> Doctor {
    let name = |key: &str| format!("AUTH__ISSUERS__ACME__{key}");
    Doctor::new().set(&name("ISSUER"), issuer).set(&name("AUDIENCE"), "nworkflow-state").set(&name("TENANT"), "claim:tenant_id")
}

#[tokio::test]
async fn a_wrong_scheme_is_told_in_words() {
    let plain = listener(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let found = at(&format!("https://{plain}/realms/acme")).run().await;
    found.wrong("issuer acme", &["cannot be fetched"], "begins with https, and what answers there speaks plain HTTP");
    // The alert "unexpected message" of TLS 1.2, and a server that hangs up on what is no TLS.
    for bytes in [&b"\x15\x03\x03\x00\x02\x02\x0a"[..], &b""[..]] {
        let secure = listener(bytes).await;
        let found = at(&format!("http://{secure}/realms/acme")).run().await;
        found.wrong("issuer acme", &["cannot be fetched"], "begins with http, and what answers there speaks no plain HTTP, but maybe TLS");
    }
    // It is the address of the keys that does not fit.
    let found = at("https://sso.example/realms/acme").set("AUTH__ISSUERS__ACME__JWKS_URL", format!("https://{plain}/certs")).run().await;
    found.wrong("issuer acme", &["cannot be fetched"], "auth.issuers.acme.jwks_url begins with https");
}

/// A server with TLS that nobody trusts; it ends when it is dropped.
struct Untrusted {
    _folder: tempfile::TempDir,
    process: std::process::Child,
    port: u16,
}

impl Drop for Untrusted {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn untrusted() -> Untrusted {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let port = crate::support::port::free();
    let mut command = std::process::Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-cert", "server.pem", "-key", "server.key", "-accept"]).arg(format!("127.0.0.1:{port}"));
    let null = std::process::Stdio::null;
    let process = command.current_dir(folder.path()).stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "openssl s_server does not listen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Untrusted { _folder: folder, process, port }
}

/// The finding says it; nothing is logged beside it (`run` wants no line on the error stream).
#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_told_once() {
    let server = untrusted();
    let found = at(&format!("https://127.0.0.1:{}/realms/acme", server.port)).run().await;
    found.wrong("issuer acme", &["certificate"], "SSL_CERT_FILE");
}

/// What it says about a token of this issuer.
async fn report(issuer: &TestIssuer, token: String) -> super::Report {
    Doctor::new().issuer(issuer).argument("--token").argument(token).run().await
}

#[tokio::test]
async fn a_good_token_is_well_and_its_permissions_are_listed() {
    let issuer = issuer().await;
    let token = issuer.token().realm_roles(&["nworkflow-reader", "offline_access"]).build();
    report(&issuer, token).await.well(&[
        "ok     token form: a signed JWT, algorithm RS256, key \"rsa-1\"",
        "ok     token issuer",
        "ok     token signature",
        "ok     token type",
        "ok     token times: exp is in ",
        "ok     token audience: contains nworkflow-state",
        "ok     token user",
        "ok     token client: \"workflow-ui\"",
        "ok     token tenant: acme",
        "ok     token permissions: the roles \"nworkflow-reader\", \"offline_access\" grant states:read, checkpoints:read",
        "ok     token: accepted, until ",
    ]);
}

#[tokio::test]
async fn the_check_that_a_token_fails_is_named() {
    let (issuer, stranger) = (issuer().await, issuer().await);
    let good = || issuer.token().realm_roles(&["nworkflow-reader"]);
    let both = [stranger.issuer(), issuer.issuer()];
    let foreign = SigningKey::rsa("foreign").named("rsa-1");
    let now = Clock::new().now().as_seconds();
    let cases: Vec<(&str, String, &[&str], &str)> = vec![
        ("token form", "abc".to_owned(), &["three parts"], "Copy the access token whole"),
        ("token issuer", TokenBuilder::user(stranger.issuer(), &issuer.key(), &Clock::new()).build(), &both, "Correct auth.issuers"),
        ("token signature", good().header("kid", "rsa-9").build(), &["publishes no usable key \"rsa-9\""], "Get a new token"),
        ("token signature", good().signed_with(&foreign).build(), &["does not fit the issuer's key"], "Copy the token whole"),
        ("token type", good().claim("typ", "ID").build(), &["The claim typ is not Bearer"], ""),
        ("token times", good().expires_in(-60).build(), &["exp was 6", "auth.leeway_seconds is 10"], "set both by NTP"),
        ("token times", good().claim("iat", now + 600).build(), &["iat is in"], "by NTP"),
        (
            "token audience",
            good().claim("aud", "account").build(),
            &["aud does not contain nworkflow-state", "account"],
            "add a mapper of type Audience",
        ),
        ("token audience", good().without("aud").build(), &["There is no claim aud"], "add a mapper of type Audience"),
        ("token user", good().without("sub").build(), &["no claim sub"], ""),
        ("token tenant", good().without("tenant_id").build(), &["no claim tenant_id"], "Have the issuer put the tenant there"),
        (
            "token permissions",
            issuer.token().realm_roles(&["offline_access"]).build(),
            &["\"offline_access\"", "grant nothing"],
            "Give the user a role",
        ),
        ("token permissions", issuer.token().build(), &["its roles (none) grant nothing"], "Give the user a role"),
    ];
    for (subject, token, says, advises) in cases {
        report(&issuer, token).await.wrong(subject, says, advises);
    }
    let long = good().claim("groups", "x".repeat(20_000)).build();
    report(&issuer, long).await.wrong("token size", &["more than auth.max_token_bytes (16384)"], "put less into it");
}

#[tokio::test]
async fn a_client_that_is_not_listed_is_named_with_the_list() {
    let issuer = issuer().await;
    let report = |token: String| {
        let doctor = Doctor::new().issuer(&issuer).set("AUTH__ISSUERS__ACME__CLIENTS", "console,engine");
        doctor.argument("--token").argument(token).run()
    };
    let good = || issuer.token().realm_roles(&["nworkflow-reader"]);
    let says = &["the claim azp is \"workflow-ui\", which is not in auth.issuers.acme.clients (\"console\", \"engine\")"];
    report(good().build()).await.wrong("token client", says, "Add \"workflow-ui\" to auth.issuers.acme.clients");
    let says = &["the claim client_id is \"other\", which is not in auth.issuers.acme.clients"];
    report(good().claim("azp", "engine").claim("client_id", "other").build()).await.wrong("token client", says, "Add \"other\"");
    let says = &["neither azp nor client_id", "auth.issuers.acme.clients"];
    report(good().without("azp").build()).await.wrong("token client", says, "put the client into the claim azp");
    report(good().claim("azp", "engine").build()).await.well(&["ok     token client: \"engine\""]);
}

#[tokio::test]
async fn settings_without_effect_are_told_and_their_values_not() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let report = Doctor::new().set("SECRETS__KEY", key).run().await;
    report.well(&["note   secrets: secrets.key is set and has no effect", "       -> Keep secrets elsewhere. secrets.key may stay"]);
    assert!(!report.printed.contains(key));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, key).unwrap();
    let report = Doctor::new().set("SECRETS__KEY_FILE", file.path().to_str().unwrap()).run().await;
    report.well(&["note   secrets: secrets.key_file is set and has no effect"]);
    let report = Doctor::new().set("SECRETS__KEY_COMMAND", "/bin/true").run().await;
    report.well(&["note   secrets: secrets.key_command is set and has no effect"]);
    assert!(!Doctor::new().run().await.printed.contains("secrets"));
}

#[tokio::test]
async fn each_setting_that_is_missing_has_a_line_below_the_others() {
    let report = Doctor::new().set("AUTH__ISSUERS__ACME__ISSUER", "https://sso.example/realms/acme").run().await;
    let lines: Vec<&str> = report.printed.lines().collect();
    assert_eq!(
        lines[..2],
        ["WRONG  configuration: auth.issuers.acme.audience is missing", "       auth.issuers.acme.tenant is missing"],
        "{}",
        report.printed
    );
    assert!(lines[2].starts_with("       -> "), "{}", report.printed);
}

#[tokio::test]
async fn all_that_a_token_lacks_is_told_at_once() {
    let issuer = issuer().await;
    let light = TokenBuilder::lightweight(issuer.issuer(), &issuer.key(), &Clock::new()).build();
    let found = report(&issuer, light).await;
    assert_eq!(found.code, Some(1));
    for subject in ["token audience", "token tenant", "token permissions"] {
        assert!(found.printed.contains(&format!("WRONG  {subject}: ")), "{}", found.printed);
    }
}

#[tokio::test]
async fn a_token_comes_from_a_file_and_the_report_for_machines() {
    let issuer = issuer().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let token = issuer.token().realm_roles(&["nworkflow-admin"]).build();
    // As it is copied from a header.
    std::fs::write(&file, format!("Bearer {token}\n")).unwrap();
    let found =
        Doctor::new().issuer(&issuer).argument("--token-file").argument(file.path().to_str().unwrap()).argument("--json").run().await;
    let report: serde_json::Value = serde_json::from_str(&found.printed).unwrap();
    assert_eq!((found.code, &report["well"]), (Some(0), &json!(true)), "{report:#}");
    assert!(!found.printed.contains(&token));
    issuer.behave(Behaviour::Away);
    let found = Doctor::new().issuer(&issuer).argument("--json").run().await;
    let report: serde_json::Value = serde_json::from_str(&found.printed).unwrap();
    assert_eq!((found.code, &report["well"]), (Some(1), &json!(false)), "{report:#}");
    let findings = report["findings"].as_array().unwrap();
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["verdict"] == "wrong").collect();
    assert_eq!((wrong.len(), &wrong[0]["subject"]), (1, &json!("issuer acme")));
    assert!(wrong[0]["advice"].is_string());
}

#[tokio::test]
async fn settings_that_cannot_be_are_told() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("SERVER__LISTN", "127.0.0.1:1", &["there is no such setting", "did you mean NWORKFLOW__SERVER__LISTEN?"]),
        ("DATABASE__POOL_SIZE", "0", &["database.pool_size must be between 1 and 1000"]),
        ("SERVER__DRAIN_TIMEOUT_MS", "90000", &["must not be longer than server.stop_timeout_ms"]),
        ("DATABASE__ROLE", "app", &["database.role is set, but neither database.url nor database.host is"]),
        ("AUTH__ISSUERS__ACME__ISSUER", "http://sso.example/realms/acme", &["auth.issuers.acme"]),
    ];
    for (name, value, says) in cases {
        Doctor::new().set(name, value).run().await.wrong("configuration", says, "");
    }
}
