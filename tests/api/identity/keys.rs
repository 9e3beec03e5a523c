//! The issuer's keys over time, as clients of the server see it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nworkflow_state::store::Backend;

use super::{BODY, STATE};
use crate::api::site::Site;
use crate::support::issuer::Behaviour;
use crate::support::keys::SigningKey;
use crate::support::tokens::TokenBuilder;

const CLIENTS: usize = 8;

/// Clients that call until they are told to stop, what they were answered, and how often.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: [AtomicUsize; CLIENTS],
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// Calls with ever new tokens, made by the function, which are all to be answered with this status.
    async fn client(&self, site: &Site, index: usize, status: u16, token: impl Fn(usize) -> String) {
        while !self.stop.load(Ordering::SeqCst) {
            let count = self.answered[index].load(Ordering::SeqCst);
            let answer = site.app.bearer(token(count)).get(STATE).send().await;
            if answer.status.as_u16() != status {
                self.wrong.lock().unwrap().push(answer.text().to_owned());
            }
            self.answered[index].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until every client has made a whole call that began after this one.
    async fn turn(&self, site: &Site) {
        let before = self.answered.each_ref().map(|count| count.load(Ordering::SeqCst));
        let all_went_on = || self.answered.iter().zip(before).all(|(count, before)| count.load(Ordering::SeqCst) >= before + 2);
        site.wait_for("a call of every client", all_went_on).await;
    }

    fn total(&self) -> usize {
        self.answered.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }
}

async fn with_a_state(site: Site) -> Site {
    site.admin("acme").put(STATE, BODY).send().await.expect(201);
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_change_under_load_fail_no_valid_request() {
    let site = with_a_state(Site::on(Backend::Sqlite).await).await;
    let keys: Vec<SigningKey> = ["rsa-2", "rsa-3", "rsa-4", "rsa-5", "rsa-6"].map(SigningKey::rsa).into();
    let load = Load::default();
    // Half of the clients send each token once, the others again and again, which the server then remembers.
    let token = |index: usize, count: usize| {
        let token = site.issuer.token().subject("ada").realm_roles(&["nworkflow-reader"]).expires_in(86_400);
        if index.is_multiple_of(2) { token.claim("jti", format!("{index}-{count}")).build() } else { token.build() }
    };
    let clients = join_all((0..CLIENTS).map(|index| load.client(&site, index, 200, move |count| token(index, count))));
    let rotate = async {
        for key in keys {
            let old = site.issuer.key();
            let of_old = site.token("acme", "ada", &["nworkflow-reader"]);
            load.turn(&site).await;
            site.app.clock.advance_seconds(31);
            site.issuer.rotate(key);
            load.turn(&site).await;
            site.app.bearer(of_old.clone()).get(STATE).send().await.expect(200);

            site.issuer.withdraw(&old.kid);
            site.app.clock.advance_seconds(301);
            let begun = Instant::now();
            while site.app.bearer(of_old.clone()).get(STATE).send().await.status != 401 {
                assert!(begun.elapsed() < Duration::from_secs(10), "a withdrawn key is believed for ever");
            }
            load.turn(&site).await;
        }
        load.stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(clients, rotate);
    assert!(load.wrong.lock().unwrap().is_empty(), "of {} calls failed: {:?}", load.total(), load.wrong.lock().unwrap());
    // The start, and for each change one for the new key, one refresh, and one that the withdrawn key's token asks for.
    assert_eq!(site.issuer.key_requests(), 1 + 5 * 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_realm_that_is_away_is_missed_only_by_new_keys() {
    for behaviour in [Behaviour::Away, Behaviour::Hang, Behaviour::Status(503)] {
        let site = with_a_state(Site::on(Backend::Sqlite).await).await;
        site.issuer.behave(behaviour.clone());
        let known = || site.app.bearer(site.token("acme", "ada", &["nworkflow-reader"]));
        for hour in 1..=23 {
            site.app.clock.advance_seconds(3600);
            let answer = known().get(STATE).send().await;
            assert_eq!(answer.status, 200, "hour {hour}, {behaviour:?}: {}", answer.text());
        }
        site.wait_for("a failed refresh", || site.authenticator.status()[0].failure.is_some()).await;
        let new = TokenBuilder::user(site.issuer.issuer(), &SigningKey::rsa("rsa-2"), &site.app.clock).build();
        site.app.bearer(new).get(STATE).send().await.problem(401, "token_invalid");
        let ready = site.app.anonymous().get("/health/ready").send().await.expect(200).json();
        assert_eq!((&ready["status"], &ready["issuers"][0]["ready"]), (&"ready".into(), &true.into()));

        // A day without the issuer is too much: what it has withdrawn meanwhile is unknown.
        site.app.clock.advance_seconds(3601);
        known().get(STATE).send().await.problem(401, "token_invalid");
        let ready = site.app.anonymous().get("/health/ready").send().await.expect(200).json();
        assert_eq!((&ready["status"], &ready["issuers"][0]["ready"]), (&"degraded".into(), &false.into()));

        site.issuer.behave(Behaviour::Serve);
        site.app.clock.advance_seconds(31);
        let begun = Instant::now();
        while known().get(STATE).send().await.status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the issuer that is back is not found");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_hurts_neither_the_issuer_nor_the_others() {
    const COOLDOWN: i64 = 30;
    // Without the refreshes of the background, which are counted elsewhere.
    let site = with_a_state(Site::sqlite_with(|_, auth| auth.jwks_refresh_seconds = auth.jwks_stale_seconds).await).await;
    let (started, before) = (site.app.clock.now(), site.issuer.key_requests());
    let keys: Vec<SigningKey> = ["rsa-2", "rsa-3", "rsa-4"].map(SigningKey::rsa).into();
    let first = site.issuer.token().subject("ada").realm_roles(&["nworkflow-reader"]).expires_in(86_400);
    let unknown =
        |index: usize, count: usize| site.issuer.token().header("kid", format!("unknown-{index}-{count}")).with_signature(&[1; 256]);
    let load = Load::default();
    let flood = join_all((0..CLIENTS - 2).map(|index| load.client(&site, index, 401, move |count| unknown(index, count))));
    let valid = join_all(
        (CLIENTS - 2..CLIENTS).map(|index| load.client(&site, index, 200, |count| first.clone().claim("jti", format!("{count}")).build())),
    );
    let direct = async {
        load.turn(&site).await;
        for key in keys {
            site.issuer.rotate(key);
            // The flood may have used the allowance just now; it is there again 30 seconds later, whoever takes it.
            for _ in 0..3 {
                load.turn(&site).await;
                site.app.clock.advance_seconds(COOLDOWN / 3);
            }
            site.caller("acme", "ada", &["nworkflow-reader"]).get(STATE).send().await.expect(200);
        }
        load.stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(flood, valid, direct);
    assert!(load.wrong.lock().unwrap().is_empty(), "{:?}", load.wrong.lock().unwrap());
    // The seconds that pass while the test runs count as well.
    let seconds = site.app.clock.now().as_seconds() + 1 - started.as_seconds();
    let fetches = i64::try_from(site.issuer.key_requests() - before).unwrap();
    assert!((3..=seconds / COOLDOWN + 1).contains(&fetches), "{fetches} fetches in {seconds} s and {} calls", load.total());
}
