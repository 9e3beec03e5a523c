//! The compact form of a token (RFC 7515 section 7.1), read before anything of it is believed.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use crate::domain::document::{self, Kind};
use crate::error::Error;

use super::bearer::invalid;
use super::claims::{Claims, text_of};

/// The algorithms that a signature may have. Nothing with a shared secret, and not `none`.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What the header's `typ` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderType {
    Absent,
    Jwt,
    /// `at+jwt` of RFC 9068, with or without `application/`.
    AccessToken,
    Other,
}

/// A token whose parts can be read. Nothing of it is verified.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    pub(super) header_type: HeaderType,
    payload: String,
}

impl Token {
    /// Reads header and payload. The members `jku`, `jwk`, `x5u`, `x5c` of the header are ignored: keys come from the configuration.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(invalid("The token has not three parts: it is no signed JWT in compact form."));
        };
        let header = object(header, "header")?;
        let payload = object(payload, "payload")?;
        if decode(signature).is_none() {
            return Err(invalid("The token's signature is not base64url without padding."));
        }
        let header = Claims::read(&header);
        // RFC 7515 section 4.1.11: who does not understand a critical extension refuses the token. None is understood here.
        if header.raw("crit").is_some() || header.raw("b64").is_some() {
            return Err(invalid("The token's header asks for an extension of JWS: there is none that this server knows."));
        }
        let algorithm = header.raw("alg").and_then(text_of).and_then(|name| Algorithm::from_str(&name).ok());
        let algorithm = algorithm.filter(|algorithm| ALGORITHMS.contains(algorithm)).ok_or_else(|| {
            invalid("The token's algorithm is not accepted: sign with RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA.")
        })?;
        let kid = header.raw("kid").and_then(text_of).filter(|kid| !kid.is_empty());
        let kid = kid.ok_or_else(|| invalid("The token's header has no key id (kid)."))?.into_owned();
        let header_type = match header.raw("typ") {
            None => HeaderType::Absent,
            Some(raw) => text_of(raw).map_or(HeaderType::Other, |text| header_type(&text)),
        };
        Ok(Self { algorithm, kid, header_type, payload })
    }

    /// The claims, not verified.
    pub(super) fn claims(&self) -> Claims<'_> {
        Claims::read(&self.payload)
    }
}

fn header_type(text: &str) -> HeaderType {
    if text.eq_ignore_ascii_case("JWT") {
        HeaderType::Jwt
    } else if text.eq_ignore_ascii_case("at+jwt") || text.eq_ignore_ascii_case("application/at+jwt") {
        HeaderType::AccessToken
    } else {
        HeaderType::Other
    }
}

/// Without padding, without white space, and with the unused bits of the last character zero: a part has one spelling.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// A part as a JSON object whose members are all different, so that no two readers of it see two values.
fn object(part: &str, name: &str) -> Result<String, Error> {
    let bytes = decode(part).ok_or_else(|| invalid(format!("The token's {name} is not base64url without padding.")))?;
    let text = document::validate(&bytes).map_err(|fault| invalid(format!("The token's {name} {}.", fault.kind)))?;
    if document::kind(text) == Kind::Object {
        Ok(text.to_owned())
    } else {
        Err(invalid(format!("The token's {name} is not a JSON object.")))
    }
}
