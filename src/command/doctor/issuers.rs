//! The issuers: whether their keys can be fetched and used, by the code that the server does it with, and whether their clocks agree with
//! ours.

use std::time::{Duration, Instant};

use super::{Finding, Findings};
use crate::config::{AuthConfig, Config, IssuerConfig};
use crate::domain::clock::Clock;
use crate::http::auth::{Authenticator, IssuerStatus};
use crate::lifecycle::Lifecycle;

/// The pause between two looks at the keys.
const PAUSE: Duration = Duration::from_millis(50);
/// Time beyond that of one fetch.
const SLACK: Duration = Duration::from_secs(1);

pub(super) async fn examine(config: &Config) -> Findings {
    if config.auth.issuers.is_empty() {
        let note = "none is configured: `dev` runs with its own, `serve` does not start".to_owned();
        return vec![("issuers".to_owned(), Finding::Note(note))];
    }
    let lifecycle = Lifecycle::new();
    let statuses = match Authenticator::new(&config.auth, None, Clock::new(), &lifecycle) {
        Ok(authenticator) => settled(&authenticator, &config.auth).await,
        Err(error) => return vec![("issuers".to_owned(), Finding::Wrong(error.to_string()))],
    };
    lifecycle.stop();
    let mut findings = Findings::new();
    for status in statuses {
        let mut finding = keys_finding(&status);
        if let (Finding::Fine(detail), Some(issuer)) = (&finding, config.auth.issuers.get(&status.name)) {
            finding = clock_finding(detail, issuer, &config.auth).await;
        }
        findings.push((format!("issuer {}", status.name), finding));
    }
    findings
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

fn keys_finding(status: &IssuerStatus) -> Finding {
    match (&status.failure, status.keys) {
        (Some(failure), _) => Finding::Wrong(format!("its keys cannot be fetched: {failure}")),
        (None, 0) => Finding::Wrong("its keys did not come in time".to_owned()),
        (None, keys) => Finding::Fine(format!("{keys} usable keys")),
    }
}

/// Compares the issuer's clock, as its answer's head shows it, with ours: beyond the leeway fresh tokens look as if of the future.
async fn clock_finding(detail: &str, issuer: &IssuerConfig, config: &AuthConfig) -> Finding {
    match skew_seconds(issuer, config).await {
        Some(skew) if skew.unsigned_abs() > config.leeway_seconds => Finding::Wrong(format!(
            "{detail}, but its clock is {} s {} ours, more than auth.leeway_seconds ({}): set both clocks by NTP",
            skew.unsigned_abs(),
            if skew > 0 { "before" } else { "behind" },
            config.leeway_seconds
        )),
        Some(_) => Finding::Fine(format!("{detail}, and its clock agrees with ours")),
        None => Finding::Fine(format!("{detail}; it does not tell its time")),
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
