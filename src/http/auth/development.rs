//! An issuer of this server's own, for trying it without an identity provider.
//!
//! Its key pair is made on first start and kept in the data directory. Its tokens look like Keycloak's and are verified by the code that
//! verifies those; only the key's way to the verifier is shorter.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::domain::clock::Clock;
use crate::domain::id::{TenantId, UserId};

use super::issuer::AuthConfigError;
use super::jwks::{self, ParsedKeys};

/// The claim `iss` of development tokens.
pub const DEVELOPMENT_ISSUER: &str = "urn:nworkflow-state:development";
/// The claim `aud` of development tokens.
pub const DEVELOPMENT_AUDIENCE: &str = "nworkflow-state";
/// The key's file within the data directory: PKCS#8 in PEM (RFC 7468), mode 0600.
pub const DEVELOPMENT_KEY_FILE: &str = "development-key";
/// The claim that names the tenant.
pub(super) const TENANT_CLAIM: &str = "tenant_id";

/// No key of this issuer is longer.
const MAX_FILE_BYTES: u64 = 4096;
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why there is no development key, in words for the one who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentKeyError {
    /// There is no file.
    #[error("there is no development key at {}: start `nworkflow-state dev` once with this data directory, which makes one", .0.display())]
    Absent(PathBuf),
    /// Others than the owner may read or write the file.
    #[error("the development key {} is open to others (mode {mode:o}): delete it to have a new one made, or chmod 600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("{} holds no Ed25519 key in PKCS#8: delete it to have a new one made", .0.display())]
    Damaged(PathBuf),
    /// The file system refused.
    #[error("the development key {} cannot be read or written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The library for cryptography refused, which means that the system has no randomness.
    #[error("no development key or token can be made")]
    Crypto,
}

/// What a development token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevelopmentClaims {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub subject: UserId,
    /// The roles, as realm roles.
    pub roles: Vec<String>,
    /// Seconds until it expires.
    pub ttl_seconds: u64,
}

impl DevelopmentClaims {
    /// Seconds for which a token lives unless told otherwise: 12 hours.
    pub const DEFAULT_TTL_SECONDS: u64 = 12 * 3600;
    /// The tenant unless told otherwise.
    pub const DEFAULT_TENANT: &str = "dev";
    /// The user unless told otherwise.
    pub const DEFAULT_SUBJECT: &str = "developer";
    /// The role unless told otherwise.
    pub const DEFAULT_ROLE: &str = "nworkflow-admin";
}

impl Default for DevelopmentClaims {
    #[expect(clippy::expect_used, reason = "the two constants keep their grammar, which a test checks")]
    fn default() -> Self {
        Self {
            tenant: TenantId::parse(Self::DEFAULT_TENANT).expect("a constant"),
            subject: UserId::parse(Self::DEFAULT_SUBJECT).expect("a constant"),
            roles: vec![Self::DEFAULT_ROLE.to_owned()],
            ttl_seconds: Self::DEFAULT_TTL_SECONDS,
        }
    }
}

/// The issuer with its key pair. Never shows it.
pub struct DevelopmentIssuer {
    encoding: EncodingKey,
    kid: String,
    public: Vec<u8>,
}

impl std::fmt::Debug for DevelopmentIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevelopmentIssuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The claims of Keycloak's access token that a development token has.
#[derive(Serialize)]
struct TokenClaims<'a> {
    exp: i64,
    iat: i64,
    jti: String,
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    typ: &'static str,
    azp: &'static str,
    realm_access: RealmAccess<'a>,
    tenant_id: &'a str,
    preferred_username: &'a str,
}

#[derive(Serialize)]
struct RealmAccess<'a> {
    roles: &'a [String],
}

impl DevelopmentIssuer {
    /// The issuer whose key is in the data directory; makes both when they are not there.
    ///
    /// Two processes that start at once end with one key: the file appears whole, under its name, once.
    ///
    /// # Errors
    /// The file cannot be read or written, is open to others, or holds something else.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, DevelopmentKeyError> {
        match Self::load(data_dir) {
            Err(DevelopmentKeyError::Absent(path)) => {
                create(data_dir, &path)?;
                Self::load(data_dir)
            }
            loaded => loaded,
        }
    }

    /// The issuer whose key is in the data directory.
    ///
    /// # Errors
    /// There is no file (with a hint), it cannot be read, is open to others, or holds something else.
    pub fn load(data_dir: &Path) -> Result<Self, DevelopmentKeyError> {
        let path = data_dir.join(DEVELOPMENT_KEY_FILE);
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DevelopmentKeyError::Absent(path.clone()),
            _ => DevelopmentKeyError::File { path: path.clone(), source },
        };
        let file = fs::File::open(&path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        check_mode(&path, &metadata)?;
        let mut text = String::new();
        let read = file.take(MAX_FILE_BYTES).read_to_string(&mut text);
        read.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => DevelopmentKeyError::Damaged(path.clone()),
            _ => fail(source),
        })?;
        let damaged = || DevelopmentKeyError::Damaged(path.clone());
        let body = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END)).ok_or_else(damaged)?;
        let body: String = body.chars().filter(|character| !character.is_ascii_whitespace()).collect();
        let pkcs8 = STANDARD.decode(body).map_err(|_| damaged())?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| damaged())?;
        let public = pair.public_key().as_ref().to_vec();
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, &public));
        Ok(Self { encoding: EncodingKey::from_ed_der(&pkcs8), kid, public })
    }

    /// Signs a token that begins to live now.
    ///
    /// # Errors
    /// [`DevelopmentKeyError::Crypto`]
    pub fn sign(&self, claims: &DevelopmentClaims, clock: &Clock) -> Result<String, DevelopmentKeyError> {
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| DevelopmentKeyError::Crypto)?;
        let now = clock.now().as_seconds();
        let claims = TokenClaims {
            exp: now.saturating_add(super::seconds(claims.ttl_seconds)),
            iat: now,
            jti: URL_SAFE_NO_PAD.encode(random),
            iss: DEVELOPMENT_ISSUER,
            aud: DEVELOPMENT_AUDIENCE,
            sub: claims.subject.as_str(),
            typ: "Bearer",
            azp: "development",
            realm_access: RealmAccess { roles: &claims.roles },
            tenant_id: claims.tenant.as_str(),
            preferred_username: claims.subject.as_str(),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(|_| DevelopmentKeyError::Crypto)
    }

    /// The public key as a key set, as an issuer on the net would publish it.
    #[must_use]
    pub fn key_set(&self) -> String {
        let key = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.kid, "x": URL_SAFE_NO_PAD.encode(&self.public),
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }

    pub(super) fn keys(&self) -> Result<ParsedKeys, AuthConfigError> {
        jwks::parse(self.key_set().as_bytes()).map_err(|why| AuthConfigError(format!("the development key: {why}")))
    }
}

/// Writes a new key beside its place and links it there, which fails when another process was quicker.
fn create(data_dir: &Path, path: &Path) -> Result<(), DevelopmentKeyError> {
    let fail = |source: io::Error| DevelopmentKeyError::File { path: path.to_owned(), source };
    let random = SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| DevelopmentKeyError::Crypto)?;
    let mut suffix = [0; 8];
    random.fill(&mut suffix).map_err(|_| DevelopmentKeyError::Crypto)?;
    let pem = format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", wrap(&STANDARD.encode(pkcs8.as_ref())));

    fs::create_dir_all(data_dir).map_err(fail)?;
    let temporary = data_dir.join(format!("{DEVELOPMENT_KEY_FILE}.{}", URL_SAFE_NO_PAD.encode(suffix)));
    let written = new_private_file(&temporary).and_then(|mut file| {
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
        _ => removed.map_err(fail)?,
    }
    fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(fail)
}

/// Lines of 64 characters, as RFC 7468 wants them.
fn wrap(text: &str) -> String {
    let mut lines = String::new();
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines
}

#[cfg(unix)]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

/// A key that others could read or replace may be theirs already, so it is not repaired in silence.
#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), DevelopmentKeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    if !metadata.is_file() {
        return Err(DevelopmentKeyError::Damaged(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(DevelopmentKeyError::Open { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _metadata: &fs::Metadata) -> Result<(), DevelopmentKeyError> {
    Ok(())
}
