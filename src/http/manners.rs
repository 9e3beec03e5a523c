//! What the server says to browsers and to clients of their kind: cross-origin calls, headers that protect pages, compression.
//!
//! Bearer tokens are the only way in: a browser adds none by itself, so a foreign page can do nothing with a signed-in user's browser, and
//! credentials are never allowed across origins.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AGE, ALLOW, AUTHORIZATION, CACHE_CONTROL,
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, ORIGIN, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, VARY, WWW_AUTHENTICATE,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tower::{Layer as _, ServiceExt as _};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::ServerConfig;

/// The header of the handshake that SAP's clients begin before a write.
pub(super) const CSRF_TOKEN: &str = "x-csrf-token";
/// What they are given: they send it back, and nobody looks at it.
pub(super) const NO_CSRF_TOKEN: &str = "not-needed-with-bearer-tokens";

/// How long a browser may remember what it was told about an origin. Longer is cut by all of them.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7200);

/// What is said beside `Access-Control-Allow-Origin`, and without it means nothing.
const FOR_ALLOWED: [HeaderName; 4] =
    [ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE];

/// Said on every answer, whatever it is.
const ALWAYS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// What a browser may do with an answer that is no page: nothing.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// What a page of this server may do: with its own scripts, on this server. Styles are also within the pages.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; \
                           connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Whether a client asks for a token before it writes.
pub(super) fn wants_csrf_token(headers: &HeaderMap) -> bool {
    headers.get(CSRF_TOKEN).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"fetch"))
}

/// Adds the headers that protect whoever reads the answer. A policy that the answer has already stays.
pub(super) fn protect(config: &ServerConfig, is_secure: bool, headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let is_page = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
    if config.hsts_seconds > 0
        && (config.hsts || is_secure)
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={}", config.hsts_seconds))
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, value);
    }
}

/// What scripts of the configured origins may do; `None` when there are none.
pub(super) fn cross_origin_rules(config: &ServerConfig) -> Option<CorsLayer> {
    if config.cors_origins.is_empty() {
        return None;
    }
    let other = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
    let mut allowed = vec![AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, ACCEPT_LANGUAGE, CACHE_CONTROL];
    allowed.extend(other(&[
        "idempotency-key",
        "prefer",
        "x-min-version",
        "x-request-timeout-ms",
        "x-tenant-id",
        "x-request-id",
        "traceparent",
        CSRF_TOKEN,
        "x-requested-with",
        "sap-contextid",
        "sap-passport",
        "sap-cancel-on-close",
    ]));
    let mut exposed = vec![AGE, ETAG, LOCATION, RETRY_AFTER, ALLOW, WWW_AUTHENTICATE];
    exposed.extend(other(&[
        "cache-status",
        "session-expires",
        "idempotency-replayed",
        "preference-applied",
        "accept-patch",
        "x-request-id",
        CSRF_TOKEN,
    ]));
    let origins = config.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let rules = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(allowed)
        .expose_headers(exposed)
        .max_age(PREFLIGHT_AGE)
        .vary([ORIGIN]);
    Some(rules)
}

/// Follows the rules. A browser's question in advance is answered without a token; any other OPTIONS is the routes' to answer. Whom the rules
/// do not allow is not told what they allow others.
pub(super) async fn cross_origin(State(rules): State<CorsLayer>, request: Request, next: Next) -> Response {
    let mut answer = by_rules(rules, request, next).await;
    let headers = answer.headers_mut();
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        for name in FOR_ALLOWED {
            headers.remove(name);
        }
    }
    answer
}

async fn by_rules(rules: CorsLayer, request: Request, next: Next) -> Response {
    if request.method() != Method::OPTIONS {
        return never_fails(rules.layer(next).oneshot(request).await);
    }
    let is_asked_before = request.headers().contains_key(ORIGIN) && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !is_asked_before {
        return as_any_other(&rules, request, next).await;
    }
    let (parts, body) = request.into_parts();
    let own = next.clone().run(Request::from_parts(parts.clone(), body)).await;
    if own.status().is_client_error() {
        // No such path, or nothing that a route would see: there is nothing to allow.
        return own;
    }
    let mut answer = never_fails(rules.layer(next).oneshot(Request::from_parts(parts, Body::empty())).await);
    *answer.status_mut() = StatusCode::NO_CONTENT;
    // What the route says of itself, to whoever asks.
    for name in [ALLOW, HeaderName::from_static("accept-patch")] {
        if let Some(value) = own.headers().get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// OPTIONS that no browser asks in advance. The rules take each for such a question, so they see a GET in its place.
async fn as_any_other(rules: &CorsLayer, request: Request, next: Next) -> Response {
    let mut seen = Request::new(Body::empty());
    seen.headers_mut().clone_from(request.headers());
    let mut request = Some(request);
    let answer = tower::service_fn(move |_: Request| {
        let (next, request) = (next.clone(), request.take());
        async move {
            Ok::<_, std::convert::Infallible>(match request {
                Some(request) => next.run(request).await,
                None => StatusCode::NO_CONTENT.into_response(),
            })
        }
    });
    never_fails(rules.layer(answer).oneshot(seen).await)
}

fn never_fails(answer: Result<Response, std::convert::Infallible>) -> Response {
    match answer {
        Ok(answer) => answer,
    }
}

/// Compresses texts above a size, for clients that offer it.
pub(super) fn compression(config: &ServerConfig) -> CompressionLayer<impl Predicate + Send + Sync + 'static> {
    let least = match config.compress_above_bytes {
        0 => u64::MAX,
        above => above as u64 + 1,
    };
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(least).and(is_text))
}

fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/") || kind.contains("json") || kind.contains("javascript") || kind.contains("svg")
}

/// Around the compression: it sees an offer of gzip or none at all, and what it has changed gets a weak entity tag, since the bytes are
/// others (RFC 9110 section 8.8.1).
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let is_offered = offers_gzip(request.headers());
    // A client that knows the weak tag has the compressed answer.
    let known: Vec<HeaderValue> = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect();
    request.headers_mut().remove(ACCEPT_ENCODING);
    if is_offered {
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    let is_compressed = response.headers().contains_key(CONTENT_ENCODING);
    if let Some(strong) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"')) {
        let weak = format!("W/{strong}");
        let is_known = || known.iter().filter_map(|tags| tags.to_str().ok()).any(|tags| tags.contains(&weak));
        if (is_compressed || (response.status() == StatusCode::NOT_MODIFIED && is_offered && is_known()))
            && let Ok(weak) = HeaderValue::from_str(&weak)
        {
            response.headers_mut().insert(ETAG, weak);
        }
    }
    if is_read || is_compressed {
        vary_by_encoding(response.headers_mut());
    }
    response
}

fn vary_by_encoding(headers: &mut HeaderMap) {
    let is_said = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(15).any(|part| part == b"accept-encoding");
    if !headers.get_all(VARY).iter().any(is_said) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether gzip is offered by its name, and not less than the plain bytes (RFC 9110 section 12.5.3). A star offers it to nobody: whoever
/// wants it says so.
fn offers_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut plain) = (None, None);
    for offer in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let mut parts = offer.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |text| text.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight))).unwrap_or(0.0);
        match coding.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => plain = Some(weight),
            _ => {}
        }
    }
    gzip.is_some_and(|gzip| gzip > 0.0 && plain.is_none_or(|plain| gzip >= plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_when_it_is_offered() {
        let offers = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
            offers_gzip(&headers)
        };
        for text in ["gzip", "br, GZIP", "x-gzip", "gzip;q=0.1", "deflate, gzip;q=1.0, *;q=0.5", "gzip ; q=0.8, identity;q=0.5", "gzip;Q=1"]
        {
            assert!(offers(text), "{text}");
        }
        for text in ["", "*", "br", "identity", "gzip;q=0", "gzip;q=0.000", "gzip;q=x", "gzip;q=0.5, identity", "*;q=0", "identity;q=0"] {
            assert!(!offers(text), "{text}");
        }
        assert!(!offers_gzip(&HeaderMap::new()));
    }
}
