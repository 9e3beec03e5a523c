//! Tokens that are accepted, and what is read from them.

use http::header::AUTHORIZATION;
use nworkflow_state::config::TokenProfile;
use nworkflow_state::domain::principal::Permission;
use nworkflow_state::error::Code;
use nworkflow_state::http::auth::challenge;
use serde_json::json;

use super::{Rig, bearer};
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

#[tokio::test]
async fn a_users_token_becomes_a_principal() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().realm_roles(&["nworkflow-reader", "offline_access"]);
    let principal = rig.call(&token.build()).await.unwrap();
    assert_eq!(principal.tenant.as_str(), "acme");
    assert_eq!(principal.subject.as_str(), "f1c4f64e-2a77-4a37-8b52-6ecb2f1f2f0a");
    assert_eq!(&*principal.issuer, rig.issuer.issuer());
    assert_eq!(principal.client.as_deref(), Some("workflow-ui"));
    assert_eq!(principal.actor, None);
    assert!(principal.may(Permission::StatesRead) && !principal.may(Permission::StatesWrite));
    assert!((299..=300).contains(&(principal.expires_at.as_seconds() - rig.clock.now().as_seconds())));
}

#[tokio::test]
async fn a_service_account_needs_no_session_and_no_client_id() {
    let rig = Rig::start().await;
    let token = TokenBuilder::service_account(rig.issuer.issuer(), &rig.issuer.key(), &rig.clock).build();
    let principal = rig.call(&token).await.unwrap();
    assert!(principal.may(Permission::Delegate) && !principal.may(Permission::Admin));
    assert_eq!(principal.client.as_deref(), Some("workflow-engine"));
}

#[tokio::test]
async fn variations_that_real_tokens_have_are_accepted() {
    let rig = Rig::start().await;
    let now = rig.clock.now().as_seconds();
    let token = || rig.issuer.token();
    for (name, token) in [
        ("header at+jwt", token().header("typ", "at+jwt")),
        ("header application/at+jwt", token().header("typ", "Application/AT+JWT")),
        ("no header typ", token().without_header("typ")),
        ("aud among others", token().claim("aud", json!(["account", "nworkflow-state"]))),
        ("no azp", token().without("azp")),
        ("no iat", token().without("iat")),
        ("nbf past", token().claim("nbf", now)),
        ("expired within the leeway", token().expires_in(-5)),
        ("nbf within the leeway", token().claim("nbf", now + 9)),
        ("iat within the leeway", token().claim("iat", now + 9)),
        ("federated user", token().subject("f:3e0b:ext|ada")),
        ("jku that leads nowhere is ignored", token().header("jku", "http://127.0.0.1:1/keys")),
        ("null organization with a claim rule", token().claim("organization", json!(null))),
    ] {
        let result = rig.call(&token.build()).await;
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

#[tokio::test]
async fn every_listed_algorithm_verifies() {
    let rig = Rig::start().await;
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        rig.issuer.rotate(SigningKey::rsa("rsa-2").named(algorithm).using(algorithm));
    }
    for key in [SigningKey::p256("ES256"), SigningKey::p384("ES384"), SigningKey::ed25519("EdDSA")] {
        rig.issuer.rotate(key);
    }
    let any = SigningKey::rsa("rsa-2").named("any");
    let mut jwk = any.jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let mut keys = vec![jwk];
    let signers = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|name| SigningKey::rsa("rsa-2").named(name).using(name));
    let others = [SigningKey::p256("ES256"), SigningKey::p384("ES384"), SigningKey::ed25519("EdDSA")];
    keys.extend(signers.iter().chain(&others).map(SigningKey::jwk));
    rig.issuer.publish(keys);
    for key in signers.iter().chain(&others) {
        let token = TokenBuilder::user(rig.issuer.issuer(), key, &rig.clock).build();
        assert!(rig.call(&token).await.is_ok(), "{}", key.algorithm);
    }
    // A key that names no algorithm serves all of its family.
    for algorithm in ["RS256", "PS512"] {
        let token = TokenBuilder::user(rig.issuer.issuer(), &any.clone().using(algorithm), &rig.clock).build();
        assert!(rig.call(&token).await.is_ok(), "any: {algorithm}");
    }
}

#[tokio::test]
async fn the_scheme_is_compared_without_case_and_spaces_around_the_token_do_not_count() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().build();
    for scheme in ["bearer ", "BEARER ", "Bearer   "] {
        let mut headers = bearer("x");
        headers.insert(AUTHORIZATION, format!("{scheme}{token}").parse().unwrap());
        assert!(rig.authenticator.authenticate(&headers).await.is_ok(), "{scheme}");
    }
}

#[tokio::test]
async fn without_a_bearer_token_there_is_a_challenge_without_a_reason() {
    let rig = Rig::start().await;
    for value in [None, Some("Basic YTpi"), Some("Bearer"), Some("Bearer "), Some("Bearertoken"), Some("")] {
        let mut headers = http::HeaderMap::new();
        if let Some(value) = value {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        let error = rig.authenticator.authenticate(&headers).await.unwrap_err();
        assert_eq!(error.code, Code::TokenMissing, "{value:?}");
        assert_eq!(challenge(error.code), "Bearer");
    }
    for code in [Code::TokenInvalid, Code::TokenExpired, Code::TenantMissing] {
        assert_eq!(challenge(code), "Bearer error=\"invalid_token\"");
    }
}

#[tokio::test]
async fn a_list_of_clients_is_a_door() {
    let rig = Rig::start_with(|issuer| issuer.clients = vec!["workflow-ui".to_owned(), "engine".to_owned()]).await;
    let token = || rig.issuer.token();
    assert!(rig.call(&token().build()).await.is_ok());
    assert!(rig.call(&token().without("azp").claim("client_id", "engine").build()).await.is_ok());
    for (name, token) in [
        ("another azp", token().claim("azp", "admin-cli")),
        ("a good azp, another client_id", token().claim("client_id", "admin-cli")),
        ("no client", token().without("azp")),
    ] {
        assert_eq!(rig.code(&token.build()).await, Some(Code::TokenInvalid), "{name}");
    }
}

#[tokio::test]
async fn the_profile_of_rfc_9068_wants_its_header_and_reads_one_claim() {
    let rig = Rig::start_with(|issuer| issuer.profile = TokenProfile::Rfc9068).await;
    let token = || TokenBuilder::rfc9068(rig.issuer.issuer(), &rig.issuer.key(), &rig.clock);
    let principal = rig.call(&token().build()).await.unwrap();
    assert!(principal.may(Permission::StatesRead) && !principal.may(Permission::StatesWrite));
    assert_eq!(principal.client.as_deref(), Some("s6BhdRkqt3"));
    // Keycloak's claims mean nothing here, and neither does the scope.
    let other = token().realm_roles(&["nworkflow-admin"]).claim("scope", "admin states:write").build();
    assert!(!rig.call(&other).await.unwrap().may(Permission::StatesWrite));
    for (name, token) in [
        ("JWT", token().header("typ", "JWT")),
        ("no typ", token().without_header("typ")),
        ("ID token", token().header("typ", "JWT").claim("nonce", "n")),
        ("at+jwt with a nonce", token().claim("nonce", "n")),
        ("roles as a string", token().claim("roles", "nworkflow-admin")),
        ("roles with a number", token().claim("roles", json!(["a", 1]))),
    ] {
        assert_eq!(rig.code(&token.build()).await, Some(Code::TokenInvalid), "{name}");
    }
}

#[tokio::test]
async fn the_actor_of_an_impersonation_is_read_for_the_log() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().claim("act", json!({"sub": "admin-7", "iss": "x"})).build();
    assert_eq!(rig.call(&token).await.unwrap().actor.as_deref(), Some("admin-7"));
    for act in [json!("admin"), json!({"sub": 7}), json!({"sub": "a\nb"}), json!(null)] {
        assert_eq!(rig.code(&rig.issuer.token().claim("act", act).build()).await, Some(Code::TokenInvalid));
    }
}

#[tokio::test]
async fn a_token_is_looked_up_until_it_ends() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().expires_in(50).build();
    let hits = || rig.authenticator.counters().cache_hits();
    let first = rig.call(&token).await.unwrap();
    let second = rig.call(&token).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    assert_eq!(hits(), 1);
    // The cache ends with the token; its leeway is still granted, by a new check each time.
    rig.clock.advance_seconds(52);
    assert!(rig.call(&token).await.is_ok());
    assert!(rig.call(&token).await.is_ok());
    assert_eq!(hits(), 1);
    rig.clock.advance_seconds(9);
    assert_eq!(rig.code(&token).await, Some(Code::TokenExpired));

    let long = rig.issuer.token().expires_in(3600).build();
    rig.call(&long).await.unwrap();
    rig.clock.advance_seconds(45);
    rig.call(&long).await.unwrap();
    assert_eq!(hits(), 2);
    rig.clock.advance_seconds(16);
    rig.call(&long).await.unwrap();
    assert_eq!(hits(), 2);
}

#[tokio::test]
async fn the_cache_can_be_off() {
    let rig = Rig::start_both(|_, config| config.token_cache_entries = 0).await;
    let token = rig.issuer.token().build();
    assert!(rig.call(&token).await.is_ok() && rig.call(&token).await.is_ok());
    assert_eq!((rig.authenticator.counters().accepted(), rig.authenticator.counters().cache_hits()), (2, 0));
}

#[tokio::test]
async fn requests_are_counted_by_their_answer() {
    let rig = Rig::start().await;
    let counters = rig.authenticator.counters();
    rig.call(&rig.issuer.token().build()).await.unwrap();
    rig.code("x").await;
    rig.code(&rig.issuer.token().expires_in(-60).build()).await;
    rig.code(&rig.issuer.token().without("tenant_id").build()).await;
    rig.call_as(&rig.issuer.token().build(), "other").await.unwrap_err();
    rig.authenticator.authenticate(&http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(counters.accepted(), 1);
    for code in nworkflow_state::http::auth::REFUSALS {
        assert_eq!(counters.refused(code), 1, "{code:?}");
    }
    assert_eq!((counters.fetches_succeeded(), counters.fetches_failed()), (1, 0));
}
