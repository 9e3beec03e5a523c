//! A thousand sessions that end fractions of a second apart: each is there until its instant and not after, whoever asks and whether or not
//! a sweeper was there.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::session::SessionDocument;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::error::Code;

use super::{CACHED, FROM_STORE, Random, newcomer, plain, report, session, sweep, value, variable};
use crate::api::app::TestApp;

const SESSIONS: usize = 1000;
/// Instants are spread over so many microseconds, beside the time that the writes take.
const STEP_MICROSECONDS: i64 = 25_000;
const TTL_SECONDS: i64 = 600;

#[derive(Default)]
struct Answers {
    asked: usize,
    /// Answers during which a session ended: either is right.
    at_the_instant: usize,
}

impl Answers {
    fn check(&mut self, what: &str, ends: Timestamp, begin: Timestamp, end: Timestamp, lives: bool) {
        self.asked += 1;
        if ends > begin && ends <= end {
            self.at_the_instant += 1;
        } else {
            assert_eq!(lives, ends > end, "{what}: asked between {begin} and {end}, ends {ends}");
        }
    }
}

async fn begin_session(app: &TestApp, caller: &Arc<Principal>, number: usize) -> Timestamp {
    let id = session(&format!("s{number:04}"));
    let document = SessionDocument { data: "{}".into(), ttl_seconds: Some(TTL_SECONDS), sliding: false, max_ttl_seconds: None };
    let done = app.services.sessions.create(&plain(caller), id.clone(), None, document).await.unwrap();
    app.services.variables.put(&plain(caller), variable(Scope::Session(id), "v"), value(number.to_string())).await.unwrap();
    done.record.unwrap().expires_at
}

async fn walk(app: &TestApp, sweeping: bool) -> Answers {
    let caller = newcomer();
    let ends: Vec<Timestamp> = stream::iter(0..SESSIONS).map(|number| begin_session(app, &caller, number)).buffered(16).collect().await;
    let (first, last) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
    // Those that were written in one transaction have one instant.
    assert!(ends.iter().map(|end| end.as_microseconds() % 1_000_000).collect::<HashSet<_>>().len() > SESSIONS / 20, "instants differ");
    app.clock.advance_microseconds(first.as_microseconds() - app.clock.now().as_microseconds() - 4 * STEP_MICROSECONDS);
    let (mut answers, mut random) = (Answers::default(), Random(SESSIONS as u64));
    let mut over = 0;
    while over < 3 {
        if sweeping {
            sweep(app).await;
        }
        let begin = app.clock.now();
        let list = app.services.sessions.list(&caller, None, SESSIONS).await.unwrap();
        let end = app.clock.now();
        assert_eq!(list.next_cursor, None, "one page");
        let there: HashSet<&str> = list.items.iter().map(|record| record.id.as_str()).collect();
        for (number, instant) in ends.iter().enumerate() {
            answers.check("list", *instant, begin, end, there.contains(format!("s{number:04}").as_str()));
        }
        for _ in 0..20 {
            let number = random.below(SESSIONS);
            let freshness = if number % 2 == 0 { FROM_STORE } else { CACHED };
            let id = session(&format!("s{number:04}"));
            let begin = app.clock.now();
            let found = app.services.sessions.get(&caller, id.clone(), freshness).await;
            answers.check("get", ends[number], begin, app.clock.now(), found.is_ok());
            assert!(found.is_ok_and(|found| found.expires_at == ends[number]) || ends[number] <= app.clock.now());
            let begin = app.clock.now();
            let found = app.services.variables.get(&caller, variable(Scope::Session(id), "v"), freshness).await;
            answers.check("variable", ends[number], begin, app.clock.now(), found.is_ok());
            if let Err(error) = found {
                // Never as if the session lived and had no such variable.
                let instant = ends[number] > begin;
                assert!(error.code == Code::SessionNotFound || (instant && error.code == Code::VariableNotFound), "{error:?}");
            }
        }
        over += usize::from(app.clock.now() > last);
        app.clock.advance_microseconds(STEP_MICROSECONDS);
    }
    answers
}

async fn sessions_end_at_their_instants_with_and_without_a_sweeper(app: TestApp) {
    let backend = app.services.operations.levels(true).backend;
    for sweeping in [false, true] {
        let answers = walk(&app, sweeping).await;
        report(&format!(
            "{backend}, sweeper {sweeping}: {} answers as the instants say, {} of them fell on an instant",
            answers.asked, answers.at_the_instant
        ));
        assert!(answers.at_the_instant * 10 < answers.asked, "the steps are small enough to tell");
    }
}

crate::api::on_both_stores!(sessions_end_at_their_instants_with_and_without_a_sweeper);
