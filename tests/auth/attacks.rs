//! Forged, stolen and broken tokens.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::error::Code;
use nworkflow_state::http::auth::{TENANT_HEADER, challenge};
use serde_json::json;

use super::{Rig, bearer};
use crate::support::issuer::TestIssuer;
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

fn hmac_signed(token: &TokenBuilder, secret: &[u8], algorithm: hmac::Algorithm) -> String {
    let signature = hmac::sign(&hmac::Key::new(algorithm, secret), token.message().as_bytes());
    token.with_signature(signature.as_ref())
}

/// Adds the ASN.1 around a signature of two 32-byte numbers.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut value = bytes.to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        [vec![2, u8::try_from(value.len()).unwrap()], value].concat()
    };
    let body = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
}

/// Every attack by name, with the token. All of them are signed with the right key where the attack is not about the signature.
pub(crate) fn forged(
    issuer: &TestIssuer,
    other_realm: &TestIssuer,
    clock: &Clock,
    ec: &SigningKey,
    canary: &str,
) -> Vec<(&'static str, String)> {
    let token = || issuer.token();
    let key = issuer.key();
    let now = clock.now().as_seconds();
    let foreign = SigningKey::rsa("foreign").named(&key.kid);
    let good = token().build();
    let parts: Vec<&str> = good.split('.').collect();
    let hs256 = token().header("alg", "HS256");
    let hs512 = TokenBuilder::refresh_token(issuer.issuer(), &key, clock).header("alg", "HS512");
    let modulus = URL_SAFE_NO_PAD.decode(key.jwk()["n"].as_str().unwrap()).unwrap();
    let by_ec = || TokenBuilder::user(issuer.issuer(), ec, clock);
    let ec_signature = ec.sign(by_ec().message().as_bytes());
    let claims = token().claims_text();
    let claims = claims.trim_end_matches('}');
    let with_member = |member: &str| token().raw_claims(&format!("{claims},{member}}}")).build();
    let header = format!("{{\"alg\":\"RS256\",\"kid\":\"{}\"", key.kid);
    let with_header = |member: &str| token().raw_header(&format!("{header},{member}}}")).build();
    let evil = format!("{canary}/evil");
    let exp_as = |text: &str| token().claim("exp", "EXP").map_claims(|claims| claims.replace("\"EXP\"", text)).build();
    let none = |name: &str| token().header("alg", name);

    vec![
        // Algorithm and signature.
        ("alg none, empty signature", format!("{}.", none("none").message())),
        ("alg none, a signature", none("none").build()),
        ("alg None", format!("{}.", none("None").message())),
        ("alg nOnE", none("nOnE").build()),
        ("alg a number", token().header("alg", 1).build()),
        ("alg absent", token().without_header("alg").build()),
        ("alg ES512", token().header("alg", "ES512").build()),
        ("empty signature", format!("{}.{}.", parts[0], parts[1])),
        ("signature cut off", format!("{}.{}", parts[0], parts[1])),
        (
            "signature of another token",
            format!("{}.{}.{}", parts[0], token().tenant("evil").message().split('.').nth(1).unwrap(), parts[2]),
        ),
        ("one bit of the signature", {
            let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
            signature[7] ^= 1;
            token().with_signature(&signature)
        }),
        ("signature shortened", token().with_signature(&[1, 2, 3])),
        ("HS256 with the public key in PEM", hmac_signed(&hs256, key.public_pem().as_bytes(), hmac::HMAC_SHA256)),
        ("HS256 with the modulus", hmac_signed(&hs256, &modulus, hmac::HMAC_SHA256)),
        ("HS256 with the modulus in base64url", hmac_signed(&hs256, key.jwk()["n"].as_str().unwrap().as_bytes(), hmac::HMAC_SHA256)),
        ("refresh token, HS512, key not published", hmac_signed(&hs512.clone().header("kid", "6f1c7c1e"), b"secret", hmac::HMAC_SHA512)),
        ("refresh token, signed like an access token", TokenBuilder::refresh_token(issuer.issuer(), &key, clock).build()),
        ("RS256 relabelled PS256", token().header("alg", "PS256").build()),
        ("RS256 relabelled RS512", token().header("alg", "RS512").build()),
        ("RS512 with a key of RS256", token().header("alg", "RS512").signed_with(&key.clone().using("RS512")).build()),
        ("PS256 with a key of RS256", token().header("alg", "PS256").signed_with(&key.clone().using("PS256")).build()),
        ("ES256 with an RSA key's id", by_ec().header("kid", key.kid.as_str()).build()),
        ("RS256 with an EC key's id", token().header("kid", ec.kid.as_str()).build()),
        ("ES384 with a key of P-256", by_ec().header("alg", "ES384").build()),
        ("ES256 with zeros", by_ec().with_signature(&[0; 64])),
        ("ES256 in DER", by_ec().with_signature(&der(&ec_signature))),
        ("foreign key under our id", token().signed_with(&foreign).build()),
        // Key ids.
        ("kid with a path", token().header("kid", "../../../../etc/passwd").build()),
        ("kid with SQL", token().header("kid", "' or 1=1--").build()),
        ("kid with NUL", with_header("\"typ\":\"JWT\\u0000\"")),
        ("kid is NUL", token().raw_header("{\"alg\":\"RS256\",\"kid\":\"\\u0000\"}").build()),
        ("kid not UTF-8", {
            let header = URL_SAFE_NO_PAD.encode(b"{\"alg\":\"RS256\",\"kid\":\"\xff\"}");
            format!("{header}.{}.{}", parts[1], parts[2])
        }),
        ("kid absent", token().without_header("kid").build()),
        ("kid empty", token().header("kid", "").build()),
        ("kid a number", token().header("kid", 1).build()),
        ("kid of 1 MiB", token().header("kid", "k".repeat(1 << 20)).build()),
        ("kid twice", with_header(&format!("\"kid\":\"{}\"", key.kid))),
        ("kid of the encryption key", token().header("kid", "enc-1").build()),
        // Header members that point somewhere or change the meaning.
        ("jku, unknown kid", token().header("jku", evil.as_str()).header("kid", "evil").signed_with(&foreign).build()),
        ("x5u", token().header("x5u", evil.as_str()).signed_with(&foreign).build()),
        ("embedded jwk", token().header("jwk", foreign.jwk()).signed_with(&foreign).build()),
        ("embedded x5c", token().header("x5c", json!(["MIIB"])).signed_with(&foreign).build()),
        ("crit b64", token().header("crit", json!(["b64"])).header("b64", false).build()),
        ("crit empty", token().header("crit", json!([])).build()),
        ("b64 without crit", token().header("b64", false).build()),
        ("typ logout+jwt", token().header("typ", "logout+jwt").build()),
        ("typ dpop+jwt", token().header("typ", "dpop+jwt").build()),
        ("typ a number", token().header("typ", 1).build()),
        ("header not an object", token().raw_header("[]").build()),
        ("header not JSON", token().raw_header("{").build()),
        // Other tokens of the same issuer.
        ("ID token", TokenBuilder::id_token(issuer.issuer(), &key, clock).build()),
        ("ID token with our audience", TokenBuilder::id_token(issuer.issuer(), &key, clock).claim("aud", "nworkflow-state").build()),
        ("offline token", token().claim("typ", "Offline").build()),
        ("logout token", TokenBuilder::logout_token(issuer.issuer(), &key, clock).build()),
        ("lightweight token", TokenBuilder::lightweight(issuer.issuer(), &key, clock).build()),
        ("typ bearer in lower case", token().claim("typ", "bearer").build()),
        ("typ absent", token().without("typ").build()),
        ("typ array", token().claim("typ", json!(["Bearer"])).build()),
        ("typ DPoP", token().claim("typ", "DPoP").claim("cnf", json!({"jkt": "x"})).build()),
        ("nonce", token().claim("nonce", "n-0S6").build()),
        ("at_hash", token().claim("at_hash", "x").build()),
        ("cnf jkt as plain bearer", token().claim("cnf", json!({"jkt": "x"})).build()),
        ("cnf x5t as plain bearer", token().claim("cnf", json!({"x5t#S256": "x"})).build()),
        ("cnf null", token().claim("cnf", json!(null)).build()),
        // Issuer.
        ("another realm of the host", other_realm.token().build()),
        ("another realm, our key", token().claim("iss", other_realm.issuer()).build()),
        ("iss prefix", token().claim("iss", format!("{}.evil", issuer.issuer())).build()),
        ("iss with a slash", token().claim("iss", format!("{}/", issuer.issuer())).build()),
        ("iss in upper case", token().claim("iss", issuer.issuer().to_uppercase()).build()),
        ("iss array", token().claim("iss", json!(["http://evil.example", issuer.issuer()])).build()),
        ("iss absent", token().without("iss").build()),
        ("iss a number", token().claim("iss", 5).build()),
        ("iss is the canary", token().claim("iss", evil.as_str()).build()),
        // Audience.
        ("aud absent", token().without("aud").build()),
        ("aud account", token().claim("aud", "account").build()),
        ("aud others", token().claim("aud", json!(["account", "workflow-ui"])).build()),
        ("aud prefix", token().claim("aud", "nworkflow-state2").build()),
        ("aud a number", token().claim("aud", 123).build()),
        ("aud an object", token().claim("aud", json!({"nworkflow-state": true})).build()),
        ("aud null", token().claim("aud", json!(null)).build()),
        ("aud empty", token().claim("aud", json!([])).build()),
        ("aud with a number beside ours", token().claim("aud", json!(["nworkflow-state", 1])).build()),
        ("aud nested", token().claim("aud", json!([["nworkflow-state"]])).build()),
        // Times.
        ("exp absent", token().without("exp").build()),
        ("exp a string", token().claim("exp", (now + 300).to_string()).build()),
        ("exp negative", token().claim("exp", -1).build()),
        ("exp zero", token().claim("exp", 0).build()),
        ("exp a fraction", token().claim("exp", json!(now as f64 + 300.5)).build()),
        ("exp with an exponent", exp_as("1e10")),
        ("exp 2^63", token().claim("exp", 1u64 << 63).build()),
        ("exp NaN", exp_as("NaN")),
        ("exp with a plus", exp_as("+9999999999")),
        ("exp -0", exp_as("-0")),
        ("exp null", token().claim("exp", json!(null)).build()),
        ("exp an array", token().claim("exp", json!([now + 300])).build()),
        ("nbf future", token().claim("nbf", now + 60).build()),
        ("nbf a string", token().claim("nbf", "9999999999").build()),
        ("nbf an object", token().claim("nbf", json!({})).build()),
        ("iat future", token().claim("iat", now + 60).build()),
        ("iat a string", token().claim("iat", "1").build()),
        // Who.
        ("sub absent", token().without("sub").build()),
        ("sub me", token().subject("me").build()),
        ("sub empty", token().subject("").build()),
        ("sub a number", token().claim("sub", 7).build()),
        ("sub with a control", token().subject("a\nb").build()),
        ("sub too long", token().subject(&"a".repeat(256)).build()),
        ("azp a number", token().claim("azp", 7).build()),
        ("tenant an array", token().claim("tenant_id", json!(["acme"])).build()),
        ("tenant with a slash", token().tenant("acme/../evil").build()),
        ("tenant a number", token().claim("tenant_id", 7).build()),
        ("tenant ..", token().tenant("..").build()),
        ("realm_access a string", token().claim("realm_access", "nworkflow-admin").build()),
        ("roles a string", token().claim("realm_access", json!({"roles": "nworkflow-admin"})).build()),
        ("resource_access an array", token().claim("resource_access", json!([])).build()),
        // Duplicate members.
        ("sub twice", with_member("\"sub\":\"b\"")),
        ("sub twice, once escaped", with_member("\"s\\u0075b\":\"b\"")),
        ("exp twice", with_member("\"exp\":9999999999")),
        ("tenant twice", with_member("\"tenant_id\":\"evil\"")),
        ("realm_access twice", with_member("\"realm_access\":{\"roles\":[]},\"realm_access\":{\"roles\":[\"admin\"]}")),
        ("roles twice within", with_member("\"realm_access\":{\"roles\":[],\"roles\":[\"admin\"]}")),
        // Shape.
        ("payload an array", token().raw_claims("[]").build()),
        ("payload a string", token().raw_claims("\"x\"").build()),
        ("payload not JSON", token().raw_claims("{\"a\":").build()),
        ("payload empty", token().raw_claims("").build()),
        ("payload with a BOM", token().raw_claims(&format!("\u{feff}{}", token().claims_text())).build()),
        ("payload with NUL", with_member("\"x\":\"\\u0000\"")),
        ("payload nested deep", with_member(&format!("\"x\":{}{}", "[".repeat(5000), "]".repeat(5000)))),
        ("five parts", format!("{good}.a.b")),
        ("JWE-like", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d".to_owned()),
        ("four parts", format!("{good}.x")),
        ("one part", "abc".to_owned()),
        ("dots alone", "..".to_owned()),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("standard alphabet", format!("+/{}.{}.{}", parts[0], parts[1], parts[2])),
        ("white space within", format!("{}. {}.{}", parts[0], parts[1], parts[2])),
        ("20 KiB", token().claim("x", "y".repeat(20 * 1024)).build()),
        ("10 MiB", "a".repeat(10 << 20)),
    ]
}

#[tokio::test]
async fn no_forged_token_is_accepted_and_none_causes_a_request() {
    let clock = Clock::new();
    let canary = TestIssuer::start_realm("canary", clock.clone()).await;
    let other_realm = TestIssuer::start_realm("other", clock.clone()).await;
    let rig = Rig::start().await;
    let ec = SigningKey::p256("ec-1");
    rig.issuer.publish(vec![
        rig.issuer.key().jwk(),
        ec.jwk(),
        json!({"kid": "enc-1", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}),
    ]);
    // The tokens below are good but for the attack: these two prove it.
    assert_eq!(rig.code(&TokenBuilder::user(rig.issuer.issuer(), &ec, &rig.clock).build()).await, None);
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);

    let attacks = forged(&rig.issuer, &other_realm, &rig.clock, &ec, canary.issuer());
    assert!(attacks.len() > 100);
    for (name, token) in &attacks {
        // Twice: a refusal must not become an acceptance by being remembered.
        for _ in 0..2 {
            let error = rig.call(token).await.expect_err(name);
            assert_eq!(error.code, Code::TokenInvalid, "{name}: {error}");
            assert_eq!(challenge(error.code), "Bearer error=\"invalid_token\"");
            for leak in ["f1c4f64e", "rsa-1", "ada", "evil", "etc/passwd", rig.issuer.issuer()] {
                assert!(!error.detail.contains(leak), "{name} tells {leak}: {}", error.detail);
            }
        }
    }
    let counted = |issuer: &TestIssuer| issuer.key_requests() + issuer.discovery_requests() + issuer.other_requests();
    assert_eq!((counted(&canary), counted(&other_realm)), (0, 0));
    // The start and the one fetch that the EC key's id was allowed.
    assert_eq!((rig.issuer.key_requests(), rig.issuer.discovery_requests(), rig.issuer.other_requests()), (2, 1, 0));
    assert_eq!(rig.code(&rig.issuer.token().build()).await, None);
}

#[tokio::test]
async fn an_expired_token_says_so() {
    let rig = Rig::start().await;
    for seconds in [-11, -3600] {
        assert_eq!(rig.code(&rig.issuer.token().expires_in(seconds).build()).await, Some(Code::TokenExpired));
    }
    // Only behind a signature that fits: otherwise the answer would tell about a forged token.
    let forged = rig.issuer.token().expires_in(-60).signed_with(&SigningKey::rsa("foreign")).build();
    assert_eq!(rig.code(&forged).await, Some(Code::TokenInvalid));
}

#[tokio::test]
async fn an_unknown_key_and_a_bad_signature_look_alike() {
    let rig = Rig::start().await;
    let token = || rig.issuer.token();
    let details = [
        token().header("kid", "nobody"),
        token().signed_with(&SigningKey::rsa("foreign")),
        token().header("kid", "enc-1"),
        token().header("alg", "ES256"),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for token in details {
        let error = rig.call(&token.build()).await.unwrap_err();
        seen.insert((error.code, error.detail, error.limit));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test]
async fn details_tell_the_operator_what_to_do() {
    let rig = Rig::start().await;
    let token = || rig.issuer.token();
    for (token, words) in [
        (token().without("aud"), "aud does not contain nworkflow-state: add an Audience mapper"),
        (token().claim("aud", "account"), "aud does not contain nworkflow-state: add an Audience mapper"),
        (token().without("sub"), "client scope basic"),
        (token().claim("typ", "ID"), "send the access token"),
        (token().without("tenant_id"), "no claim tenant_id"),
    ] {
        let error = rig.call(&token.build()).await.unwrap_err();
        assert!(error.detail.contains(words), "{}", error.detail);
    }
    let padded = rig.call(&format!("{}=", token().build())).await.unwrap_err();
    assert!(padded.detail.contains("signature is not base64url"), "{}", padded.detail);
    let long = rig.call(&"a".repeat(16_385)).await.unwrap_err();
    assert_eq!(long.limit, Some(16_384));
}

#[tokio::test]
async fn headers_that_a_proxy_may_read_differently_are_refused() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().build();
    let mut two = bearer(&token);
    two.append(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let mut mixed = HeaderMap::new();
    mixed.insert(AUTHORIZATION, "Basic YTpi".parse().unwrap());
    mixed.append(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let mut unicode = HeaderMap::new();
    unicode.insert(AUTHORIZATION, http::HeaderValue::from_bytes("Bearer tökén".as_bytes()).unwrap());
    for headers in [two, mixed, unicode] {
        assert_eq!(rig.authenticator.authenticate(&headers).await.unwrap_err().code, Code::TokenInvalid);
    }
    // What looks like the cache's key of token and selection is only a token with a space in it.
    rig.call_as(&token, "acme").await.unwrap();
    for glued in [format!("{token} acme"), format!("{token}\u{1}acme").replace('\u{1}', "\t")] {
        assert_eq!(rig.code(&glued).await, Some(Code::TokenInvalid));
    }
    let mut tenants = bearer(&token);
    tenants.append(TENANT_HEADER, "acme".parse().unwrap());
    tenants.append(TENANT_HEADER, "acme".parse().unwrap());
    assert_eq!(rig.authenticator.authenticate(&tenants).await.unwrap_err().code, Code::TenantForbidden);
}
