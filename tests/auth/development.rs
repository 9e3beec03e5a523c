//! The issuer of the server's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::id::{TenantId, UserId};
use nworkflow_state::domain::principal::Permission;
use nworkflow_state::error::Code;
use nworkflow_state::http::auth::{
    Authenticator, DEVELOPMENT_ISSUER, DEVELOPMENT_KEY_FILE, DevelopmentClaims, DevelopmentIssuer, DevelopmentKeyError,
};
use nworkflow_state::lifecycle::Lifecycle;

use super::{Rig, bearer, defaults};
use crate::support::issuer::TestIssuer;
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

fn authenticator(issuer: DevelopmentIssuer, clock: &Clock) -> Authenticator {
    Authenticator::new(&defaults(), Some(issuer), clock.clone(), &Lifecycle::new()).unwrap()
}

#[tokio::test]
async fn its_tokens_take_the_same_way_as_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let issuer = DevelopmentIssuer::load_or_create(folder.path()).unwrap();
    let token = issuer.sign(&DevelopmentClaims::default(), &clock).unwrap();
    let claims = DevelopmentClaims {
        tenant: TenantId::parse("acme").unwrap(),
        subject: UserId::parse("ada").unwrap(),
        roles: vec!["nworkflow-reader".to_owned()],
        ttl_seconds: 60,
    };
    let reader = issuer.sign(&claims, &clock).unwrap();
    let authenticator = authenticator(issuer, &clock);

    let principal = authenticator.authenticate(&bearer(&token)).await.unwrap();
    assert_eq!((principal.tenant.as_str(), principal.subject.as_str(), &*principal.issuer), ("dev", "developer", DEVELOPMENT_ISSUER));
    assert!(principal.may(Permission::Admin));
    let seconds = principal.expires_at.as_seconds() - clock.now().as_seconds();
    assert!((12 * 3600 - 2..=12 * 3600).contains(&seconds));
    let principal = authenticator.authenticate(&bearer(&reader)).await.unwrap();
    assert_eq!((principal.tenant.as_str(), principal.subject.as_str()), ("acme", "ada"));
    assert!(principal.may(Permission::StatesRead) && !principal.may(Permission::StatesWrite));

    // Another key under the issuer's name, and the same checks as anywhere.
    let forged = TokenBuilder::user(DEVELOPMENT_ISSUER, &SigningKey::ed25519("x"), &clock).build();
    assert_eq!(authenticator.authenticate(&bearer(&forged)).await.unwrap_err().code, Code::TokenInvalid);
    clock.advance_seconds(71);
    assert_eq!(authenticator.authenticate(&bearer(&reader)).await.unwrap_err().code, Code::TokenExpired);
    clock.advance_seconds(12 * 3600);
    assert_eq!(authenticator.authenticate(&bearer(&token)).await.unwrap_err().code, Code::TokenExpired);
    assert_eq!(authenticator.status()[0].keys, 1);
}

#[tokio::test]
async fn it_is_used_alone_and_is_unknown_to_a_server_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let issuer = DevelopmentIssuer::load_or_create(folder.path()).unwrap();
    let token = issuer.sign(&DevelopmentClaims::default(), &clock).unwrap();
    let remote = TestIssuer::start(clock.clone()).await;
    let mut config = defaults();
    config.issuers.insert("remote".to_owned(), remote.config());
    let authenticator = Authenticator::new(&config, Some(issuer), clock.clone(), &Lifecycle::new()).unwrap();
    assert!(authenticator.authenticate(&bearer(&token)).await.is_ok());
    assert_eq!(authenticator.authenticate(&bearer(&remote.token().build())).await.unwrap_err().code, Code::TokenInvalid);
    assert_eq!(remote.key_requests() + remote.discovery_requests(), 0);

    let rig = Rig::start().await;
    assert_eq!(rig.code(&token).await, Some(Code::TokenInvalid));
}

#[test]
fn the_key_stays_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(matches!(DevelopmentIssuer::load(&data), Err(DevelopmentKeyError::Absent(_))));
    assert!(DevelopmentIssuer::load(&data).unwrap_err().to_string().contains("nworkflow-state dev"));
    assert!(!data.exists());

    let made = DevelopmentIssuer::load_or_create(&data).unwrap();
    let path = data.join(DEVELOPMENT_KEY_FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    assert_eq!(DevelopmentIssuer::load(&data).unwrap().key_set(), made.key_set());
    assert_eq!(DevelopmentIssuer::load_or_create(&data).unwrap().key_set(), made.key_set());
    let private = fs::read_to_string(&path).unwrap();
    assert!(!format!("{made:?}").contains(private.lines().nth(1).unwrap()));

    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(DevelopmentIssuer::load_or_create(&data), Err(DevelopmentKeyError::Open { mode: found, .. }) if found == mode));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for damaged in [&b""[..], b"x", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(DevelopmentIssuer::load_or_create(&data), Err(DevelopmentKeyError::Damaged(_))));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(DevelopmentIssuer::load_or_create(&data).is_err());
}

#[test]
fn processes_that_start_at_once_end_with_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let sets: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| DevelopmentIssuer::load_or_create(folder.path()).unwrap().key_set())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(sets.iter().all(|set| *set == sets[0]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
