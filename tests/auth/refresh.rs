//! The issuer's keys over time: rotation, withdrawal, issuers that are away or hostile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nworkflow_state::config::Milliseconds;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::error::Code;
use serde_json::{Value, json};

use super::Rig;
use crate::support::issuer::{Behaviour, TestIssuer};
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_load_fails_no_valid_request() {
    let rig = Rig::start_both(|_, config| config.token_cache_entries = 0).await;
    let old = rig.issuer.token();
    let stop = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let load = async {
        let one = || async {
            while !stop.load(Ordering::SeqCst) {
                rig.call(&old.build()).await.expect("the old key stays published");
                let now = TokenBuilder::user(rig.issuer.issuer(), &rig.issuer.key(), &rig.clock);
                rig.call(&now.build()).await.expect("the new key is fetched");
                answered.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(one(), one(), one(), one());
    };
    let rotate = async {
        for name in ["rsa-2", "rsa-3", "rsa-4"] {
            let key = SigningKey::rsa(name);
            // Each of the four may have begun one before the last rotation; the fifth has used its key.
            let before = answered.load(Ordering::SeqCst);
            rig.wait_for("load", || answered.load(Ordering::SeqCst) > before + 4).await;
            rig.clock.advance_seconds(31);
            rig.issuer.rotate(key);
        }
        rig.wait_for("load after the last rotation", || answered.load(Ordering::SeqCst) > 40).await;
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(load, rotate);
    assert_eq!(rig.issuer.key_requests(), 4);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_next_refresh_also_from_the_cache() {
    let rig = Rig::start_both(|_, config| config.token_cache_seconds = 3600).await;
    let old = rig.issuer.token().expires_in(100_000).build();
    let old_key = rig.issuer.key();
    rig.issuer.rotate(SigningKey::rsa("rsa-2"));
    rig.issuer.withdraw(&old_key.kid);
    assert_eq!(rig.code(&old).await, None);
    rig.clock.advance_seconds(240);
    assert_eq!(rig.code(&old).await, None);
    assert_eq!(rig.issuer.key_requests(), 1);
    rig.clock.advance_seconds(61);
    rig.wait_for_code(&old, Some(Code::TokenInvalid)).await;
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
    assert!(rig.authenticator.counters().cache_hits() >= 2);
}

#[tokio::test]
async fn a_key_whose_material_changes_under_its_id_takes_its_tokens_with_it() {
    let rig = Rig::start().await;
    let old = rig.issuer.token().expires_in(100_000).build();
    assert_eq!(rig.code(&old).await, None);
    rig.issuer.publish(vec![SigningKey::rsa("rsa-2").named("rsa-1").jwk()]);
    rig.clock.advance_seconds(301);
    rig.code(&old).await;
    rig.wait_for("the refresh", || rig.issuer.key_requests() == 2).await;
    rig.wait_for_code(&old, Some(Code::TokenInvalid)).await;
}

#[tokio::test]
async fn the_keys_stay_while_the_issuer_is_away_and_end_when_they_are_too_old() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().expires_in(200_000).build();
    rig.issuer.behave(Behaviour::Away);
    rig.clock.advance_seconds(301);
    assert_eq!(rig.code(&token).await, None);
    rig.wait_for("a failed refresh", || rig.authenticator.status()[0].failure.is_some()).await;
    assert_eq!(rig.authenticator.status()[0].keys, 1);
    rig.clock.advance_seconds(86_400 - 310);
    assert_eq!(rig.code(&token).await, None);
    rig.clock.advance_seconds(20);
    assert_eq!(rig.code(&token).await, Some(Code::TokenInvalid));
    assert_eq!(rig.authenticator.status()[0].keys, 0);
    // Back again: the cooldown has passed, so the first request is enough.
    rig.issuer.behave(Behaviour::Serve);
    rig.clock.advance_seconds(31);
    rig.wait_for_code(&token, None).await;
    assert_eq!(rig.authenticator.status()[0].failure, None);
}

#[tokio::test]
async fn the_server_starts_without_its_issuer_and_the_first_request_after_it_is_back_is_answered() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    issuer.behave(Behaviour::Away);
    let rig = Rig::over(issuer, clock, |_, _| {});
    rig.wait_for("the failed start", || rig.authenticator.counters().fetches_failed() > 0).await;
    rig.issuer.behave(Behaviour::Serve);
    // The failed fetch of the start has used nothing of the allowance, and the clock has not moved.
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
}

#[tokio::test]
async fn an_issuer_that_was_away_at_the_start_is_found_without_any_request() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    issuer.behave(Behaviour::Status(503));
    let rig = Rig::over(issuer, clock, |_, _| {});
    rig.wait_for("the failed start", || rig.authenticator.counters().fetches_failed() > 0).await;
    let failure = rig.authenticator.status()[0].failure.clone().unwrap_or_default();
    assert!(failure.contains("status 503"), "{failure}");
    rig.issuer.behave(Behaviour::Serve);
    rig.wait_for("the retry", || rig.authenticator.status()[0].keys == 1).await;
    let status = &rig.authenticator.status()[0];
    assert_eq!((status.name.as_str(), status.fetched_seconds_ago, &status.failure), ("test", Some(0), &None));
}

#[tokio::test]
async fn a_request_that_waited_for_a_fetch_of_the_background_still_has_its_own() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    issuer.behave(Behaviour::Hang);
    let rig = Rig::over(issuer, clock, |_, _| {});
    rig.wait_for("the hanging start", || rig.issuer.discovery_requests() == 1).await;
    rig.issuer.behave(Behaviour::Serve);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
    assert_eq!((rig.authenticator.counters().fetches_failed(), rig.authenticator.counters().fetches_succeeded()), (1, 1));
}

#[tokio::test]
async fn an_issuer_that_is_away_is_not_stormed() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    issuer.behave(Behaviour::Away);
    let rig = Rig::over(issuer, clock, |_, _| {});
    let begun = Instant::now();
    rig.wait_for("the failed start", || rig.authenticator.counters().fetches_failed() > 0).await;
    for _ in 0..200 {
        assert_eq!(rig.code(&rig.issuer.token().build()).await, Some(Code::TokenInvalid));
    }
    // The start, one for the requests, and what the background's pauses of 1, 2, ... seconds allow meanwhile.
    let allowed = 4 + begun.elapsed().as_secs();
    assert!(rig.authenticator.counters().fetches_failed() <= allowed, "{}", rig.authenticator.counters().fetches_failed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_costs_one_fetch_and_hurts_nobody() {
    assert_eq!(super::defaults().jwks_cooldown_seconds, 30);
    // The time that the test takes itself counts too: within an allowance of half an hour it is nothing, within 30 seconds it is not.
    const ALLOWANCE: i64 = 1800;
    let rig = Rig::start_both(|_, config| {
        config.jwks_cooldown_seconds = u64::try_from(ALLOWANCE).unwrap();
        config.jwks_refresh_seconds = config.jwks_stale_seconds;
    })
    .await;
    let known = rig.issuer.token().expires_in(80_000).build();
    let flood = || async {
        let calls = (0..1000).map(|index| {
            let token = rig.issuer.token().header("kid", format!("unknown-{index}")).with_signature(&[1; 256]);
            let authenticator = Arc::clone(&rig.authenticator);
            async move { authenticator.authenticate(&super::bearer(&token)).await.unwrap_err().code }
        });
        futures_util::future::join_all(calls).await
    };
    assert!(flood().await.iter().all(|code| *code == Code::TokenInvalid));
    assert_eq!(rig.issuer.key_requests(), 2);

    // A key that is published now has to wait for the allowance, but no longer.
    rig.issuer.rotate(SigningKey::rsa("rsa-2"));
    let fresh = rig.issuer.token().expires_in(80_000).build();
    assert_eq!(rig.code(&fresh).await, Some(Code::TokenInvalid));
    rig.clock.advance_seconds(ALLOWANCE / 2);
    flood().await;
    assert_eq!((rig.code(&fresh).await, rig.issuer.key_requests()), (Some(Code::TokenInvalid), 2));
    assert_eq!(rig.code(&known).await, None);
    rig.clock.advance_seconds(ALLOWANCE / 2);
    let (_, accepted) = tokio::join!(flood(), rig.call(&fresh));
    assert!(accepted.is_ok());
    assert_eq!(rig.issuer.key_requests(), 3);
    for _ in 0..3 {
        rig.clock.advance_seconds(ALLOWANCE);
        flood().await;
        assert_eq!((rig.code(&known).await, rig.code(&fresh).await), (None, None));
    }
    assert_eq!(rig.issuer.key_requests(), 6);
}

#[tokio::test]
async fn a_known_key_never_waits_and_an_unknown_one_waits_for_the_time_limit_at_most() {
    let rig = Rig::start_both(|_, config| config.jwks_timeout_ms = Milliseconds(2000)).await;
    rig.issuer.behave(Behaviour::Hang);
    let known = rig.issuer.token().build();
    let unknown = rig.issuer.token().header("kid", "unknown").build();
    let begun = Instant::now();
    let slow = async { (rig.code(&unknown).await, begun.elapsed()) };
    let quick = async {
        rig.wait_for("the hanging fetch", || rig.issuer.key_requests() == 2).await;
        let code = rig.code(&known).await;
        // Answered while the fetch still hung.
        (code, rig.authenticator.counters().fetches_failed())
    };
    let ((slow_code, slow_time), (quick_code, failed)) = tokio::join!(slow, quick);
    assert_eq!((slow_code, quick_code, failed), (Some(Code::TokenInvalid), None, 0));
    assert!((Duration::from_millis(1990)..Duration::from_secs(8)).contains(&slow_time), "{slow_time:?}");
}

#[tokio::test]
async fn a_request_that_goes_away_takes_no_fetch_with_it() {
    let rig = Rig::start().await;
    rig.issuer.behave(Behaviour::Hang);
    let unknown = rig.issuer.token().header("kid", "unknown").build();
    let dropped = tokio::time::timeout(Duration::from_millis(50), rig.call(&unknown)).await;
    assert!(dropped.is_err());
    rig.wait_for("the fetch's end", || rig.authenticator.counters().fetches_failed() == 1).await;
    rig.issuer.behave(Behaviour::Serve);
    rig.issuer.rotate(SigningKey::rsa("rsa-2"));
    rig.clock.advance_seconds(31);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
}

#[tokio::test]
async fn a_hostile_answer_changes_nothing() {
    let rig = Rig::start().await;
    let canary = TestIssuer::start_realm("canary", rig.clock.clone()).await;
    let known = rig.issuer.token().expires_in(100_000).build();
    let good = rig.issuer.key().jwk();
    let keys = |keys: Vec<Value>| Behaviour::Keys(json!({"keys": keys}).to_string());
    let changed = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let small = SigningKey::rsa("small").jwk()["n"].as_str().unwrap()[..170].to_owned();
    let hostile = [
        Behaviour::Away,
        Behaviour::Hang,
        Behaviour::Dribble,
        Behaviour::Status(500),
        Behaviour::Status(204),
        Behaviour::Redirect(canary.jwks_url()),
        Behaviour::Redirect("file:///etc/passwd".to_owned()),
        Behaviour::Keys("<!doctype html><html></html>".to_owned()),
        Behaviour::Keys(String::new()),
        Behaviour::Keys("[]".to_owned()),
        Behaviour::Keys("{}".to_owned()),
        Behaviour::Keys("{\"keys\":{}}".to_owned()),
        Behaviour::Keys("{\"keys\":[],\"keys\":[]}".to_owned()),
        Behaviour::Keys("[".repeat(10_000)),
        Behaviour::Keys(format!("{{\"keys\":[{good}],\"x\":\"{}\"}}", "x".repeat(262_144))),
        keys(vec![]),
        keys(vec![json!(null), json!(1), json!("x"), json!([])]),
        keys(vec![json!({"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0", "alg": "HS256"})]),
        keys(vec![changed("alg", json!("none"))]),
        keys(vec![changed("alg", json!("HS256"))]),
        keys(vec![changed("alg", json!("RSA-OAEP"))]),
        keys(vec![changed("alg", json!("ES256"))]),
        keys(vec![changed("alg", json!(7))]),
        keys(vec![changed("use", json!("enc"))]),
        keys(vec![changed("use", json!(null))]),
        keys(vec![changed("key_ops", json!(["encrypt"]))]),
        keys(vec![changed("n", json!(small))]),
        keys(vec![changed("n", json!("_".repeat(2731)))]),
        keys(vec![changed("n", json!("not base64url!"))]),
        keys(vec![changed("n", json!(null))]),
        keys(vec![changed("e", json!("AQ"))]),
        keys(vec![changed("e", json!("Ag"))]),
        keys(vec![changed("kid", json!(null))]),
        keys(vec![changed("kid", json!(""))]),
        keys(vec![good.clone(), SigningKey::rsa("rsa-2").named("rsa-1").jwk()]),
        keys(vec![json!({"kty": "EC", "crv": "P-256", "kid": "rsa-1", "x": "AAAA", "y": "AAAA"})]),
        keys(vec![json!({"kty": "EC", "crv": "P-256", "kid": "rsa-1", "x": "A".repeat(43), "y": "A".repeat(43)})]),
        keys(vec![json!({"kty": "EC", "crv": "P-521", "kid": "rsa-1", "x": "A".repeat(88), "y": "A".repeat(88), "alg": "ES512"})]),
        keys(vec![json!({"kty": "OKP", "crv": "Ed25519", "kid": "rsa-1", "x": "AAAA"})]),
        keys(vec![json!({"kty": "OKP", "crv": "X25519", "kid": "rsa-1", "x": "A".repeat(43)})]),
    ];
    for behaviour in hostile {
        let failed = rig.authenticator.counters().fetches_failed();
        rig.issuer.behave(behaviour.clone());
        rig.clock.advance_seconds(301);
        assert_eq!(rig.code(&known).await, None, "{behaviour:?}");
        rig.wait_for("the failed refresh", || rig.authenticator.counters().fetches_failed() > failed).await;
        assert_eq!(rig.code(&known).await, None, "{behaviour:?}");
    }
    assert_eq!(rig.authenticator.counters().fetches_succeeded(), 1);
    assert_eq!((canary.key_requests(), canary.discovery_requests(), canary.other_requests()), (0, 0, 0));
}

#[tokio::test]
async fn an_odd_key_does_not_spoil_the_others() {
    let rig = Rig::start().await;
    let good = rig.issuer.key().jwk();
    let twice = SigningKey::rsa("rsa-2").named("twice");
    let other = SigningKey::rsa("rsa-3").named("twice");
    rig.issuer.publish(vec![
        json!({"kty": "AKP", "kid": "post-quantum", "alg": "ML-DSA-65"}),
        json!({"kty": "EC", "crv": "P-521", "kid": "es512", "alg": "ES512"}),
        twice.jwk(),
        good.clone(),
        other.jwk(),
        good,
    ]);
    for key in [twice, other] {
        let token = TokenBuilder::user(rig.issuer.issuer(), &key, &rig.clock).build();
        assert_eq!(rig.code(&token).await, Some(Code::TokenInvalid));
    }
    rig.wait_for("the refresh", || rig.authenticator.counters().fetches_succeeded() == 2).await;
    assert_eq!(rig.authenticator.status()[0].keys, 1);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
}

#[tokio::test]
async fn the_discovery_document_must_be_the_issuers_and_lead_to_an_address_that_is_allowed() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    let document = |name: &str, certs: &str| Behaviour::Discovery(json!({"issuer": name, "jwks_uri": certs}).to_string());
    let certs = issuer.jwks_url();
    let name = issuer.issuer().to_owned();
    issuer.behave(document("https://other.example", &certs));
    let rig = Rig::over(issuer, clock, |_, _| {});
    rig.wait_for("the failed start", || rig.authenticator.counters().fetches_failed() == 1).await;
    for behaviour in [
        document(&format!("{name}/"), &certs),
        document(&name, "http://192.0.2.1/certs"),
        document(&name, "file:///etc/passwd"),
        document(&name, ""),
        Behaviour::Discovery("<html>".to_owned()),
    ] {
        let failed = rig.authenticator.counters().fetches_failed();
        rig.issuer.behave(behaviour.clone());
        rig.clock.advance_seconds(31);
        assert_eq!(rig.code(&rig.issuer.token().build()).await, Some(Code::TokenInvalid), "{behaviour:?}");
        assert!(rig.authenticator.counters().fetches_failed() > failed);
    }
    assert_eq!(rig.issuer.key_requests(), 0);
    rig.issuer.behave(Behaviour::Serve);
    rig.clock.advance_seconds(31);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
}

#[tokio::test]
async fn an_address_that_discovery_gave_is_asked_for_again_when_it_fails() {
    let rig = Rig::start().await;
    let known = rig.issuer.token().expires_in(3600).build();
    rig.clock.advance_seconds(301);
    rig.code(&known).await;
    rig.wait_for("a refresh", || rig.authenticator.counters().fetches_succeeded() == 2).await;
    assert_eq!(rig.issuer.discovery_requests(), 1);
    rig.issuer.behave(Behaviour::Status(404));
    rig.clock.advance_seconds(301);
    rig.code(&known).await;
    rig.wait_for("a failed refresh", || rig.authenticator.counters().fetches_failed() == 1).await;
    rig.issuer.behave(Behaviour::Serve);
    rig.clock.advance_seconds(31);
    rig.code(&known).await;
    rig.wait_for("the next refresh", || rig.authenticator.counters().fetches_succeeded() == 3).await;
    assert_eq!(rig.issuer.discovery_requests(), 2);
}

#[tokio::test]
async fn a_configured_address_of_the_keys_needs_no_discovery() {
    let clock = Clock::new();
    let issuer = TestIssuer::start(clock.clone()).await;
    let certs = issuer.jwks_url();
    let rig = Rig::over(issuer, clock, |settings, _| settings.jwks_url = certs);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
    assert_eq!((rig.issuer.discovery_requests(), rig.issuer.key_requests()), (0, 1));
}

#[tokio::test]
async fn the_background_ends_with_the_process() {
    let rig = Rig::start().await;
    rig.lifecycle.stop();
    tokio::time::timeout(Duration::from_secs(5), rig.lifecycle.finished()).await.expect("no task stays");
}
