//! Key pairs of test issuers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key pair with its id. Two with the same seed name have the same material within a test run.
#[derive(Debug, Clone)]
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    /// The `alg` of token headers and of the JWK.
    pub(crate) algorithm: &'static str,
    material: Arc<Material>,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

/// RSA keys take long to make, so each name's is made once.
static RSA: LazyLock<Mutex<HashMap<String, Arc<Material>>>> = LazyLock::new(Mutex::default);

impl SigningKey {
    /// RS256 with 2048 bits; the name is also the key id.
    pub(crate) fn rsa(name: &str) -> Self {
        Self::rsa_sized(name, KeySize::Rsa2048)
    }

    /// RS256 of a given size.
    pub(crate) fn rsa_sized(name: &str, size: KeySize) -> Self {
        let mut made = RSA.lock().unwrap();
        let material =
            made.entry(format!("{name} {}", size.len())).or_insert_with(|| Arc::new(Material::Rsa(RsaKeyPair::generate(size).unwrap())));
        Self { kid: name.to_owned(), algorithm: "RS256", material: Arc::clone(material) }
    }

    /// ES256.
    pub(crate) fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid: kid.to_owned(), algorithm: "ES256", material: Arc::new(Material::Ec(pair, "P-256")) }
    }

    /// ES384.
    pub(crate) fn p384(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self { kid: kid.to_owned(), algorithm: "ES384", material: Arc::new(Material::Ec(pair, "P-384")) }
    }

    /// EdDSA.
    pub(crate) fn ed25519(kid: &str) -> Self {
        Self { kid: kid.to_owned(), algorithm: "EdDSA", material: Arc::new(Material::Ed(Ed25519KeyPair::generate().unwrap())) }
    }

    /// The same material under another id.
    pub(crate) fn named(mut self, kid: &str) -> Self {
        self.kid = kid.to_owned();
        self
    }

    /// The same material with another algorithm of its family.
    pub(crate) fn using(mut self, algorithm: &'static str) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// A signature over the message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.material {
            Material::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match self.algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("{other} is no algorithm of RSA"),
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut bytes).unwrap();
                bytes
            }
            Material::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Material::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as an issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &*self.material {
            Material::Rsa(pair) => {
                let n = text(pair.public_key().modulus().big_endian_without_leading_zero());
                let e = text(pair.public_key().exponent().big_endian_without_leading_zero());
                json!({"kid": self.kid, "kty": "RSA", "alg": self.algorithm, "use": "sig", "n": n, "e": e, "x5c": ["MIIC"], "x5t": "abc"})
            }
            Material::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kid": self.kid, "kty": "EC", "alg": self.algorithm, "use": "sig", "crv": curve, "x": text(x), "y": text(y)})
            }
            Material::Ed(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kid": self.kid, "kty": "OKP", "alg": self.algorithm, "use": "sig", "crv": "Ed25519", "x": x})
            }
        }
    }

    /// The public RSA key in PEM, which a confused verifier may take for a shared secret.
    pub(crate) fn public_pem(&self) -> String {
        let Material::Rsa(pair) = &*self.material else { panic!("not RSA") };
        let der = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
        let lines: Vec<&str> = der.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}
