//! A JSON Web Key Set (RFC 7517), reduced to the keys that may verify a token.
//!
//! A key that cannot serve is left out and never spoils the others. Left out are: keys for encryption, shared secrets, RSA below 2048
//! or above 8192 bits, curves and algorithms that the library does not have, keys without an id, and points that are on no curve.
//! **Two different keys under one id are both left out**: which one is meant cannot be told, and trying both would let whoever can add a
//! key shadow another. The same key listed twice counts once.

use std::collections::HashMap;
use std::str::FromStr as _;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::domain::document::{self, Kind};

use super::claims::{Claims, text_of};

const RSA_ALGORITHMS: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// How many keys that cannot be used an error names.
const MAX_REASONS: usize = 4;

/// A public key and what it may be used for.
#[derive(Clone)]
pub(super) struct VerificationKey {
    pub(super) decoding: DecodingKey,
    /// The one algorithm that the key set names, or those of the key's type when it names none.
    algorithms: Vec<Algorithm>,
    material: Vec<Vec<u8>>,
}

impl VerificationKey {
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithms == other.algorithms && self.material == other.material
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// The usable keys by id, and a line about each that is not.
#[derive(Debug, Default)]
pub(super) struct ParsedKeys {
    pub(super) keys: HashMap<String, VerificationKey>,
    pub(super) left_out: Vec<String>,
}

/// Reads a key set.
///
/// # Errors
/// In words: the document is no key set, or has no usable key. Then the keys that were there before stay.
pub(super) fn parse(bytes: &[u8]) -> Result<ParsedKeys, String> {
    let text = document::validate(bytes).map_err(|fault| format!("the key set {}", fault.kind))?;
    if document::kind(text) != Kind::Object {
        return Err("the key set is not a JSON object".to_owned());
    }
    let list = Claims::read(text).raw("keys").filter(|raw| document::kind(raw) == Kind::Array);
    let list = list.ok_or("the key set has no array keys")?;

    let mut parsed = ParsedKeys::default();
    let mut ambiguous = Vec::new();
    for raw in document::elements(list) {
        match key(raw) {
            Ok((kid, key)) => match parsed.keys.get(&kid) {
                Some(other) if *other != key => ambiguous.push(kid),
                _ => drop(parsed.keys.insert(kid, key)),
            },
            Err(why) => parsed.left_out.push(why),
        }
    }
    for kid in ambiguous {
        parsed.keys.remove(&kid);
        parsed.left_out.push(format!("{kid:?}: several keys have this id"));
    }
    if parsed.keys.is_empty() {
        let reasons: Vec<&str> = parsed.left_out.iter().take(MAX_REASONS).map(String::as_str).collect();
        return Err(format!("the key set has no usable key ({} left out) {}", parsed.left_out.len(), reasons.join("; "))
            .trim_end()
            .to_owned());
    }
    Ok(parsed)
}

fn key(raw: &str) -> Result<(String, VerificationKey), String> {
    if document::kind(raw) != Kind::Object {
        return Err("a key is not an object".to_owned());
    }
    let jwk = Claims::read(raw);
    let text = |name: &str| jwk.raw(name).and_then(text_of);
    let kid = text("kid").filter(|kid| !kid.is_empty()).ok_or("a key has no kid")?.into_owned();
    let refuse = |why: &str| format!("{kid:?}: {why}");

    if jwk.raw("use").is_some() && text("use").as_deref() != Some("sig") {
        return Err(refuse("its use is not sig"));
    }
    if jwk.raw("key_ops").is_some_and(|raw| !document::elements(raw).any(|operation| operation == "\"verify\"")) {
        return Err(refuse("its key_ops do not contain verify"));
    }
    let part =
        |name: &str| text(name).and_then(|part| URL_SAFE_NO_PAD.decode(&*part).ok()).ok_or_else(|| refuse("its material is damaged"));
    let (family, decoding, material): (&[Algorithm], _, _) = match (text("kty").as_deref(), text("crv").as_deref()) {
        (Some("RSA"), _) => {
            let (modulus, exponent) = (without_zeros(part("n")?), without_zeros(part("e")?));
            check_rsa(&modulus, &exponent).map_err(refuse)?;
            (RSA_ALGORITHMS, DecodingKey::from_rsa_raw_components(&modulus, &exponent), vec![modulus, exponent])
        }
        (Some("EC"), Some("P-256")) => {
            let point = point(part("x")?, part("y")?, 32);
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).map_err(|_| refuse("its point is not on the curve"))?;
            (&[Algorithm::ES256], DecodingKey::from_ec_der(&point), vec![point])
        }
        (Some("EC"), Some("P-384")) => {
            let point = point(part("x")?, part("y")?, 48);
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point).map_err(|_| refuse("its point is not on the curve"))?;
            (&[Algorithm::ES384], DecodingKey::from_ec_der(&point), vec![point])
        }
        (Some("OKP"), Some("Ed25519")) => {
            let point = part("x")?;
            ParsedPublicKey::new(&ED25519, &point).map_err(|_| refuse("its material is damaged"))?;
            (&[Algorithm::EdDSA], DecodingKey::from_ed_der(&point), vec![point])
        }
        (Some("EC"), Some("P-521")) => return Err(refuse("ES512 is not supported: have the issuer sign with another algorithm")),
        (kty, crv) => {
            let (kty, curve) = (kty.unwrap_or("none"), crv.map(|crv| format!(", crv {crv:?}")).unwrap_or_default());
            return Err(refuse(&format!("its type is not supported (kty {kty:?}{curve})")));
        }
    };
    let algorithms = match jwk.raw("alg") {
        None => family.to_vec(),
        Some(raw) => {
            let name = text_of(raw).unwrap_or_default();
            // RFC 9864 gave EdDSA with this curve a name of its own.
            let named = if name == "Ed25519" { Some(Algorithm::EdDSA) } else { Algorithm::from_str(&name).ok() };
            vec![named.filter(|algorithm| family.contains(algorithm)).ok_or_else(|| refuse(&format!("its alg is {name:?}")))?]
        }
    };
    Ok((kid, VerificationKey { decoding, algorithms, material }))
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.into_iter().skip(zeros).collect()
}

/// The sizes that the library verifies, and an exponent under which a signature is not the message itself.
fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), &'static str> {
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err("its modulus has less than 2048 or more than 8192 bits");
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
    if !odd(modulus) || !odd(exponent) || exponent == [1] || exponent.len() > 4 {
        return Err("its modulus or exponent is not one of RSA");
    }
    Ok(())
}

/// The uncompressed point of SEC 1. Coordinates keep their leading zeros (RFC 7518 section 6.2.1.2), so another length is damage; it
/// leads to a point that the parser refuses.
fn point(x: Vec<u8>, y: Vec<u8>, size: usize) -> Vec<u8> {
    if x.len() != size || y.len() != size {
        return Vec::new();
    }
    [vec![4], x, y].concat()
}
