//! Forged tokens and odd headers as whole requests.

use nworkflow_state::store::Backend;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BODY, STATE};
use crate::api::app::{Options, TestApp};
use crate::api::raw;
use crate::api::site::Site;
use crate::auth::attacks::forged;
use crate::support::issuer::TestIssuer;
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

/// Longest token that fits into a request whose headers the server reads at all.
const FITS: usize = 32_000;
const INVALID: Option<&str> = Some("Bearer error=\"invalid_token\"");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_token_reaches_the_store_or_an_address_of_its_own() {
    let site = Site::on(Backend::Sqlite).await;
    let canary = TestIssuer::start_realm("canary", site.app.clock.clone()).await;
    let other_realm = TestIssuer::start_realm("other", site.app.clock.clone()).await;
    let ec = SigningKey::p256("ec-1");
    site.issuer.publish(vec![site.issuer.key().jwk(), ec.jwk()]);
    // These two prove that nothing but the forgery is wrong below: they get as far as the permissions.
    for good in [site.issuer.token().build(), TokenBuilder::user(site.issuer.issuer(), &ec, &site.app.clock).build()] {
        site.app.bearer(good).get(STATE).send().await.problem(403, "permission_missing");
    }
    let fetched = site.issuer.key_requests();

    let attacks = forged(&site.issuer, &other_realm, &site.app.clock, &ec, canary.issuer());
    let (fit, huge): (Vec<_>, Vec<_>) = attacks.into_iter().partition(|(_, token)| token.len() <= FITS);
    assert!(fit.len() > 100 && !huge.is_empty());
    for (name, token) in &fit {
        let caller = site.app.bearer(token.clone());
        for call in [caller.get(STATE), caller.put(STATE, BODY), caller.get("/metrics")] {
            let answer = call.send().await;
            assert_eq!((answer.verdict(), answer.header("www-authenticate")), ((401, "token_invalid".to_owned()), INVALID), "{name}");
        }
        let probe = caller.head(STATE).send().await;
        assert_eq!((probe.status.as_u16(), probe.header("www-authenticate")), (401, INVALID), "{name}");
    }
    for (name, token) in &huge {
        let answer = raw::get(site.app.address, STATE, token).await;
        // A head that is larger than what is read at all is answered before it has arrived, so the answer may be lost on the way.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{name}: {answer}");
    }
    assert_eq!(site.store.calls(), 0);
    let counted = |issuer: &TestIssuer| issuer.key_requests() + issuer.discovery_requests() + issuer.other_requests();
    assert_eq!((counted(&canary), counted(&other_realm)), (0, 0));
    assert_eq!((site.issuer.key_requests(), site.issuer.other_requests()), (fetched, 0));
    site.admin("acme").get(STATE).send().await.problem(404, "state_not_found");
    assert_eq!(site.store.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_20_kib_is_told_its_limit() {
    let site = Site::on(Backend::Sqlite).await;
    let long = site.issuer.token().claim("x", "y".repeat(20 * 1024 * 3 / 4)).build();
    assert!((20 * 1024..24 * 1024).contains(&long.len()), "{}", long.len());
    let answer = site.app.bearer(long).get(STATE).send().await.problem(401, "token_invalid");
    assert_eq!((&answer.json()["limit"], answer.header("www-authenticate")), (&json!(16_384), INVALID));
    // One that is not too long says who belongs to many groups.
    let groups = site.issuer.token().realm_roles(&["nworkflow-reader"]).claim("groups", vec!["g".repeat(100); 100]).build();
    assert!((13_000..=16_384).contains(&groups.len()), "{}", groups.len());
    site.app.bearer(groups).get(STATE).send().await.problem(404, "state_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_header_carries_a_token() {
    let site = Site::on(Backend::Sqlite).await;
    let token = site.token("acme", "ada", &["nworkflow-admin"]);
    let (good, bearer) = (site.app.bearer(token.clone()), format!("Bearer {token}"));
    let two = [
        good.get(STATE).header("authorization", &bearer),
        good.get(STATE).header("authorization", "Basic YTpi"),
        site.app.anonymous().get(STATE).header("authorization", "Basic YTpi").header("authorization", &bearer),
        site.app.anonymous().get(STATE).header("authorization", &format!("{bearer}, {bearer}")),
    ];
    for call in two {
        let answer = call.send().await.problem(401, "token_invalid");
        assert_eq!(answer.header("www-authenticate"), INVALID);
    }
    let elsewhere = [
        site.app.anonymous().get(&format!("{STATE}?access_token={token}")),
        site.app.anonymous().get(STATE).header("cookie", &format!("Authorization={bearer}; access_token={token}")),
        site.app.anonymous().get(STATE).header("x-authorization", &bearer).header("proxy-authorization", &bearer),
        site.app.anonymous().get(STATE).header("x-forwarded-user", "admin").header("x-tenant-id", "acme"),
        site.app.anonymous().get(STATE).header("authorization", "Basic YTpi"),
        site.app.anonymous().get(STATE).header("authorization", &format!("DPoP {token}")),
        site.app.anonymous().get(STATE).header("authorization", "Bearer"),
    ];
    for call in elsewhere {
        let answer = call.send().await.problem(401, "token_missing");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(site.store.calls(), 0);
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let call = site.app.anonymous().get(STATE).header("authorization", &format!("{scheme} {token}"));
        call.send().await.problem(404, "state_not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_token_takes_no_place_from_others() {
    let app = TestApp::sqlite_with(Options::default().set("server.max_in_flight", "1")).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = "HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(format!("PUT {STATE} {head}").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "token_missing").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // Its body is still waited for, and the only place is free.
    let metrics = app.admin("acme").get("/metrics").send().await.expect(200);
    assert!(metrics.text().contains("nworkflow_http_requests_in_flight 1\n"), "{}", metrics.text());
    stream.write_all(&[b' '; 1000]).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    read_until(&mut stream, "HTTP/1.1 200 ").await;
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(text) {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    answer
}
