//! Whoever calls a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Local,
    Second,
    Store,
    /// The answer does not say: it is of a write, or an error.
    Untold,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of the entity tag; 0 when there is none.
    pub(super) version: i64,
    pub(super) from: From,
    pub(super) body: Value,
    pub(super) took: Duration,
}

impl Answer {
    pub(super) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The version of a write that succeeded.
    #[track_caller]
    pub(super) fn acknowledged(&self) -> i64 {
        assert!(matches!(self.status, 200 | 201), "{self:?}");
        self.version
    }
}

/// A client of one server.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Arc<str>,
    token: Arc<str>,
}

/// The path of a state.
pub(super) fn state(name: impl std::fmt::Display) -> String {
    format!("/workflows/w/executions/{name}/state")
}

impl Client {
    pub(super) fn new(base: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).tcp_nodelay(true).build().unwrap();
        Self { http, base: base.into(), token: token.into() }
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends a request; an error when there is no whole answer.
    pub(super) async fn try_send(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let begin = Instant::now();
        let answer = request.send().await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let from = match header("cache-status").split(';').next() {
            Some("nworkflow-local") => From::Local,
            Some("nworkflow-dragonfly") => From::Second,
            Some("nworkflow-store") => From::Store,
            _ => From::Untold,
        };
        let (status, version) = (answer.status().as_u16(), header("etag").trim_matches('"').parse().unwrap_or(0));
        let body = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        Ok(Answer { status, version, from, body, took: begin.elapsed() })
    }

    pub(super) async fn send(request: RequestBuilder) -> Answer {
        Self::try_send(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    /// A read that no cache may answer.
    pub(super) async fn get_strong(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path).header("cache-control", "no-cache")).await
    }

    /// A read of a version, or a later one.
    pub(super) async fn get_at_least(&self, path: &str, version: i64) -> Answer {
        Self::send(self.request(Method::GET, path).header("x-min-version", version.to_string())).await
    }

    pub(super) async fn put(&self, path: &str) -> Answer {
        Self::send(self.write(path, "")).await
    }

    /// The request for a state with this in it.
    pub(super) fn write(&self, path: &str, operation: &str) -> RequestBuilder {
        let document = json!({"marking": {"p": 1}, "metadata": {"op": operation}});
        self.request(Method::PUT, path).header("content-type", "application/json").body(document.to_string())
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request(Method::DELETE, path)).await
    }
}
