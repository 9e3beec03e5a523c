//! The issuers: whether their keys can be fetched and used, by the code that the server does it with, and whether their clocks agree with
//! ours.

use std::time::{Duration, Instant};

use crate::config::{AuthConfig, Config, IssuerConfig};
use crate::domain::clock::Clock;
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::http::auth::{Authenticator, DevelopmentIssuer, IssuerStatus};
use crate::lifecycle::Lifecycle;

/// The pause between two looks at the keys.
const PAUSE: Duration = Duration::from_millis(50);
/// Time beyond that of one fetch.
const SLACK: Duration = Duration::from_secs(1);

/// Looks at the issuers and, when there is one, at a token.
pub(super) async fn examine(config: &Config, token: Option<&str>) -> Vec<Diagnosis> {
    let lifecycle = Lifecycle::new();
    let mut found = Vec::new();
    let mut development = None;
    if config.auth.issuers.is_empty() {
        found.push(Diagnosis::note("issuers", "none is configured: `dev` runs with its own, `serve` does not start"));
        development = token.and_then(|_| DevelopmentIssuer::load(&config.data_dir).ok());
        if development.is_none() {
            let advice =
                "Set auth.issuers.NAME.issuer, .audience and .tenant, or start `nworkflow-state dev` once with this data directory.";
            found.extend(token.map(|_| Diagnosis::wrong("token", "no issuer is known that could have made it").advise(advice)));
            return found;
        }
    }
    let is_development = development.is_some();
    match Authenticator::new(&config.auth, development, Clock::new(), &lifecycle) {
        Err(error) => found.push(Diagnosis::wrong("issuers", error.to_string())),
        Ok(authenticator) => {
            let statuses = settled(&authenticator, &config.auth).await;
            if !is_development {
                found.extend(issuers(config, &statuses).await);
            }
            if let Some(token) = token {
                found.extend(authenticator.explain(token).await);
            }
        }
    }
    lifecycle.stop();
    found
}

async fn issuers(config: &Config, statuses: &[IssuerStatus]) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    for status in statuses {
        let mut finding = keys_finding(status, config.auth.issuers.get(&status.name));
        if let (Verdict::Fine, Some(issuer)) = (finding.verdict, config.auth.issuers.get(&status.name)) {
            finding = clock_finding(finding, issuer, &config.auth).await;
        }
        found.push(finding);
    }
    found
}

/// The keys' state once each first fetch has ended, well or not.
async fn settled(authenticator: &Authenticator, config: &AuthConfig) -> Vec<IssuerStatus> {
    let begin = Instant::now();
    let patience = Duration::from(config.jwks_timeout_ms) + SLACK;
    loop {
        let statuses = authenticator.status();
        let done = statuses.iter().all(|status| status.keys > 0 || status.failure.is_some());
        if done || begin.elapsed() > patience {
            return statuses;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn keys_finding(status: &IssuerStatus, issuer: Option<&IssuerConfig>) -> Diagnosis {
    let subject = format!("issuer {}", status.name);
    match (&status.failure, status.keys) {
        (Some(failure), _) => {
            let advice = wrong_scheme(failure, &status.name, issuer).unwrap_or_else(|| advice(failure, &status.name));
            Diagnosis::wrong(subject, format!("its keys cannot be fetched: {failure}")).advise(advice)
        }
        (None, 0) => Diagnosis::wrong(subject, "its keys did not come in time")
            .advise("See that the issuer answers from this machine, or raise auth.jwks_timeout_ms."),
        (None, keys) => Diagnosis::fine(subject, format!("{keys} usable keys")),
    }
}

/// What to do when one side speaks TLS and the other one does not.
fn wrong_scheme(failure: &str, name: &str, issuer: Option<&IssuerConfig>) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| failure.contains(word));
    let key = if issuer.is_some_and(|issuer| !issuer.jwks_url.is_empty()) { "jwks_url" } else { "issuer" };
    let setting = format!("auth.issuers.{name}.{key}");
    // The alert that TLS answers plain HTTP with is no HTTP; some hang up instead.
    if says(&["(http://"]) && says(&["invalid HTTP version", "reset by peer"]) {
        return Some(format!(
            "{setting} begins with http, and what answers there speaks no plain HTTP, but maybe TLS: begin it with https then. If the issuer does speak \
             plain HTTP, see why it hangs up."
        ));
    }
    says(&["InvalidContentType"]).then(|| {
        format!(
            "{setting} begins with https, and what answers there speaks plain HTTP: name the issuer's port for TLS, or, on a loopback host alone, \
             begin it with http."
        )
    })
}

fn advice(failure: &str, name: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| failure.contains(word));
    if says(&["not of the issuer"]) {
        return format!(
            "Set auth.issuers.{name}.issuer to what the issuer calls itself, byte for byte (Keycloak: its setting hostname decides). If this machine reaches \
             it by another name, set auth.issuers.{name}.jwks_url too."
        );
    }
    if says(&["auth.jwks_max_bytes"]) {
        return format!(
            "Raise auth.jwks_max_bytes above the size of that answer, if it is the issuer's: retired keys that it still publishes make it \
             large. If it is not, correct auth.issuers.{name}.issuer or .jwks_url."
        );
    }
    if says(&["jwks_uri"]) {
        return format!(
            "Set auth.issuers.{name}.jwks_url to the address of the issuer's key set (Keycloak: the issuer, then /protocol/openid-connect/certs), or have the \
             issuer name it in jwks_uri, with https."
        );
    }
    if says(&["no usable key"]) {
        return "Have the issuer publish a key for signatures with RS256, PS256, ES256, ES384 or EdDSA; keys for encryption, secret ones and those \
                without an id do not count."
            .to_owned();
    }
    if says(&["status 404", "is not a JSON object", "has no array keys", "discovery document", "key set"]) {
        return format!(
            "Correct auth.issuers.{name}.issuer or .jwks_url: what answers there is no issuer. Keycloak's is https://HOST/realms/REALM, with the name of the \
             realm as it was written, and its keys are below that at /protocol/openid-connect/certs."
        );
    }
    if says(&["certificate", "UnknownIssuer"]) {
        return "Have the system know the authority that signed the issuer's certificate: its bundle, or the environment variable SSL_CERT_FILE."
            .to_owned();
    }
    "Start the issuer, or see that this machine may reach it: name, port, firewall, and HTTPS_PROXY in the environment.".to_owned()
}

/// Compares the issuer's clock, as its answer's head shows it, with ours: beyond the leeway fresh tokens look as if of the future.
async fn clock_finding(keys: Diagnosis, issuer: &IssuerConfig, config: &AuthConfig) -> Diagnosis {
    let Diagnosis { subject, detail, .. } = keys;
    match skew_seconds(issuer, config).await {
        Some(skew) if skew.unsigned_abs() > config.leeway_seconds => Diagnosis::wrong(
            subject,
            format!(
                "{detail}, but its clock is {} s {} ours, more than auth.leeway_seconds ({}): fresh tokens look as if of the future, or old ones are believed too long",
                skew.unsigned_abs(),
                if skew > 0 { "before" } else { "behind" },
                config.leeway_seconds
            ),
        )
        .advise("Set both clocks by NTP."),
        Some(_) => Diagnosis::fine(subject, format!("{detail}, and its clock agrees with ours")),
        None => Diagnosis::fine(subject, format!("{detail}; it does not tell its time")),
    }
}

/// Seconds by which the issuer's clock is ahead of ours.
async fn skew_seconds(issuer: &IssuerConfig, config: &AuthConfig) -> Option<i64> {
    let discovery = format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/'));
    let url = if issuer.jwks_url.is_empty() { &discovery } else { &issuer.jwks_url };
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(config.jwks_timeout_ms.into()).build().ok()?;
    let answer = client.get(url).send().await.ok()?;
    let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    Some(theirs.saturating_sub(Clock::new().now().as_seconds()))
}
