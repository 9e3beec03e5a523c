//! Getting an issuer's keys over HTTP.
//!
//! Only configured addresses are called, and the one that the issuer's own discovery document names. There are no redirects, one time
//! limit for the whole and a size limit that holds while the answer arrives.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};

use crate::domain::document::{self, Kind};

use super::claims::{Claims, text_of};
use super::jwks::{self, ParsedKeys};

/// How many characters of another issuer's name an error shows.
const MAX_NAMED: usize = 256;

/// Where the keys are.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    /// The key set itself.
    Keys(Url),
    /// OpenID Connect Discovery 1.0 of this issuer.
    Discovery {
        /// The document's address.
        url: Url,
        /// What its member `issuer` must be.
        issuer: String,
    },
}

impl Endpoint {
    fn url(&self) -> &Url {
        match self {
            Self::Keys(url) | Self::Discovery { url, .. } => url,
        }
    }
}

/// Fetches one issuer's keys.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    endpoint: Endpoint,
    timeout: Duration,
    max_bytes: usize,
    /// The key set's address, until a fetch from it fails.
    discovered: Mutex<Option<Url>>,
}

impl Fetcher {
    pub(super) fn new(endpoint: Endpoint, timeout: Duration, max_bytes: usize) -> Result<Self, String> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(timeout)
            .timeout(timeout)
            .pool_max_idle_per_host(1)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        if is_loopback(endpoint.url()) {
            builder = builder.no_proxy();
        }
        if endpoint.url().scheme() == "http" {
            // Without the certificates of the system, which a minimal image may not have: this issuer needs none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| format!("no HTTP client can be made: {}", chain(&error)))?;
        Ok(Self { client, endpoint, timeout, max_bytes, discovered: Mutex::new(None) })
    }

    /// One fetch, discovery included, within the time limit.
    ///
    /// # Errors
    /// In words, for the operator: what was asked and what came instead of keys.
    pub(super) async fn fetch(&self) -> Result<ParsedKeys, String> {
        let fetched = tokio::time::timeout(self.timeout, self.fetch_keys()).await;
        let result = fetched.unwrap_or_else(|_| Err(format!("no answer from {} within {:?}", self.endpoint.url(), self.timeout)));
        if result.is_err() {
            self.remember(None);
        }
        result
    }

    async fn fetch_keys(&self) -> Result<ParsedKeys, String> {
        let url = match &self.endpoint {
            Endpoint::Keys(url) => url.clone(),
            Endpoint::Discovery { url, issuer } => match self.remembered() {
                Some(url) => url,
                None => {
                    let found = read_discovery(&self.get(url).await?, issuer).map_err(|why| format!("{url}: {why}"))?;
                    self.remember(Some(found.clone()));
                    found
                }
            },
        };
        jwks::parse(&self.get(&url).await?).map_err(|why| format!("{url}: {why}"))
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let request = self.client.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("{url}: status {}", response.status().as_u16()));
        }
        let too_large = |has: &str| format!("{url}: the answer has {has} than auth.jwks_max_bytes ({})", self.max_bytes);
        if let Some(length) =
            response.content_length().filter(|length| usize::try_from(*length).map_or(true, |length| length > self.max_bytes))
        {
            return Err(too_large(&format!("{length} bytes, more")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
            if body.len().saturating_add(chunk.len()) > self.max_bytes {
                return Err(too_large("more bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn remembered(&self) -> Option<Url> {
        self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, url: Option<Url>) {
        *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }
}

fn read_discovery(bytes: &[u8], issuer: &str) -> Result<Url, String> {
    let text = document::validate(bytes).map_err(|fault| format!("the discovery document {}", fault.kind))?;
    if document::kind(text) != Kind::Object {
        return Err("the discovery document is not a JSON object".to_owned());
    }
    let document = Claims::read(text);
    let member = |name: &str| document.raw(name).and_then(text_of);
    let named = member("issuer").unwrap_or_default();
    if named != issuer {
        let named: String = named.chars().take(MAX_NAMED).collect();
        return Err(format!("the discovery document is not of the issuer {issuer}, but of {named:?}"));
    }
    let address = member("jwks_uri").ok_or("the discovery document has no member jwks_uri, which says where the keys are")?;
    check_url(&address).map_err(|why| {
        let address: String = address.chars().take(MAX_NAMED).collect();
        format!("the jwks_uri of the discovery document, {address:?}, {why}")
    })
}

/// An address from which keys may come: https, or http where the host is this machine.
///
/// # Errors
/// In words, as the end of a sentence that begins with the address's name.
pub(super) fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("has a user name, password or fragment".to_owned());
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("is neither https nor http on a loopback host".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An error with its sources, which say more than itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
