//! The request headers that say who calls: `Authorization` and `X-Tenant-Id`.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::{Code, Error};

/// The header with which a caller picks one of the organizations that their token names.
pub const TENANT_HEADER: &str = "x-tenant-id";

/// What the headers hold, unverified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) token: &'a str,
    pub(super) selection: Selection<'a>,
}

/// What `X-Tenant-Id` asks for. It selects, it never grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection<'a> {
    /// The header is absent.
    None,
    /// One value.
    Tenant(&'a str),
    /// Several headers, or bytes that no tenant id holds. Told only after the token is verified.
    Unusable,
}

/// Reads the headers.
///
/// The scheme is compared without regard to case (RFC 9110 section 11.1). Two `Authorization` headers are refused whatever they hold:
/// a proxy in front may have looked at the other one.
pub(super) fn read(headers: &HeaderMap, max_token_bytes: usize) -> Result<Credentials<'_>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Error::new(Code::TokenMissing, "Send the header Authorization: Bearer TOKEN."));
    };
    if values.next().is_some() {
        return Err(invalid("There are several Authorization headers: send one."));
    }
    let Ok(value) = value.to_str() else { return Err(invalid("The Authorization header holds characters outside ASCII.")) };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Error::new(Code::TokenMissing, "The Authorization header has no bearer token: send Authorization: Bearer TOKEN."));
    }
    if token.len() > max_token_bytes {
        let limit = u64::try_from(max_token_bytes).unwrap_or(u64::MAX);
        return Err(
            invalid(format!("The token is longer than {max_token_bytes} bytes: have the issuer put less into it.")).with_limit(limit)
        );
    }
    Ok(Credentials { token, selection: selection(headers) })
}

fn selection(headers: &HeaderMap) -> Selection<'_> {
    let mut values = headers.get_all(TENANT_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Selection::None,
        (Some(value), None) => value.to_str().map_or(Selection::Unusable, Selection::Tenant),
        (Some(_), Some(_)) => Selection::Unusable,
    }
}

/// A refusal of the token itself.
pub(super) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Code::TokenInvalid, detail)
}
