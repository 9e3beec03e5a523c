//! Certificates of a server with TLS.

use std::path::Path;
use std::process::Command;

pub(super) const CA: &str = "ca.pem";

/// Clients show no certificate: they have a password.
pub(super) const SETTINGS: &str = "tls-cert-file server.pem\ntls-key-file server.key\ntls-ca-cert-file ca.pem\ntls-auth-clients no";

/// Makes an authority, and a certificate of it for 127.0.0.1. One alone does not do: clients refuse an authority as a server.
pub(crate) fn make_certificates(folder: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
    openssl(folder, &[&key[..], &["-subj", "/CN=authority of a test", "-keyout", "ca.key", "-out", CA]].concat());
    let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"];
    openssl(folder, &[&key[..], &names, &["-CA", CA, "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem"]].concat());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let made = Command::new("openssl").args(["req", "-x509", "-days", "2"]).args(arguments).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}
