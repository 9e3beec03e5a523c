//! Sessions: their time, their reach, their lives.

use nworkflow_state::domain::session::{DEFAULT_TTL_SECONDS, Reach, SessionDocument, SessionQuery, SessionRecord};
use nworkflow_state::domain::variable::{BatchOutcome, Number, Scope, VariableBatch};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::change::{ChangeKind, ChangeOperation};
use nworkflow_state::store::{IncrementOutcome, Lookup, Outcome, StoreError, VariableQuery, WriteContext};

use super::bench::{Bench, applied, lasting, live, name, plain, replayed, session, under_key, user, variable, version};
use super::states::ODD;

const ALL: Reach = Reach::All;

fn own(id: &str) -> Reach {
    Reach::Own(user(id))
}

/// The same but for its data, which lists leave out.
fn listed(record: &SessionRecord) -> SessionRecord {
    SessionRecord { data: "null".into(), ..record.clone() }
}

pub(super) async fn versions_grow_over_deletion(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    assert_eq!(bench.session(&writer, &id).await, Lookup::Absent);
    let document = SessionDocument { data: ODD[0].into(), ttl_seconds: None, sliding: true, max_ttl_seconds: Some(7200) };
    let (created, one) =
        applied(bench.store.put_session(&writer, &id, &own("grace"), &user("grace"), Expected::Any, &document).await.unwrap());
    assert!(created);
    assert_eq!((one.version, one.life, one.owner.as_str(), &*one.data), (version(1), version(1), "grace", ODD[0]));
    assert_eq!((one.ttl_seconds, one.sliding, one.max_ttl_seconds), (DEFAULT_TTL_SECONDS, true, Some(7200)));
    assert_eq!((one.created_at, one.written_expires_at), (one.updated_at, one.expires_at));
    assert_eq!(one.expires_at, one.updated_at.plus_seconds(DEFAULT_TTL_SECONDS));
    assert_eq!(live(bench.session(&writer, &id).await), one);

    let two = bench.put_session(&writer, &id, &lasting(60)).await;
    assert_eq!((two.version, two.life, two.owner.as_str()), (version(2), version(1), "grace"), "a live one keeps life and owner");
    assert_eq!((two.created_at, two.sliding, two.max_ttl_seconds), (one.created_at, false, None), "the rest is replaced");
    assert_eq!(two.expires_at, two.updated_at.plus_seconds(60));
    assert_eq!(live(bench.session(&writer, &id).await), two);

    let deleted = applied(bench.store.delete_session(&writer, &id, &ALL, Expected::Any).await.unwrap()).1;
    assert_eq!(deleted.version, version(3));
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(3)));
    let (created, four) =
        applied(bench.store.put_session(&writer, &id, &own("ada"), &user("ada"), Expected::Absent, &lasting(60)).await.unwrap());
    assert!(created, "a new life, of whoever begins it");
    assert_eq!((four.version, four.life, four.owner.as_str()), (version(4), version(4), "ada"));
    assert_eq!(four.created_at, four.updated_at);
    assert!(four.created_at > two.updated_at);

    bench.clock.advance_seconds(61);
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(4)));
    let five = bench.put_session(&writer, &id, &lasting(60)).await;
    assert_eq!((five.version, five.life, five.owner.as_str()), (version(5), version(5), "f:1:ada"), "also over an expired one");
}

pub(super) async fn bytes_are_kept(bench: &Bench) {
    let writer = bench.writer();
    for (number, odd) in ODD.iter().chain(&["null", "-0", "1E2", "false"]).enumerate() {
        let id = session(&format!("s{number}"));
        let saved = bench.put_session(&writer, &id, &SessionDocument { data: (*odd).into(), ..lasting(60) }).await;
        assert_eq!(&*saved.data, *odd);
        assert_eq!(live(bench.session(&writer, &id).await), saved);
    }
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    let id = session(&"s".repeat(128));
    bench.put_session(&writer, &id, &SessionDocument { data: large.as_str().into(), ..lasting(60) }).await;
    assert_eq!(*live(bench.session(&writer, &id).await).data, *large);
}

pub(super) async fn replayed_as_they_were(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    let document = SessionDocument { data: ODD[0].into(), ttl_seconds: Some(60), sliding: true, max_ttl_seconds: Some(120) };
    let (put, extend) = (under_key(&writer, 1, 1), under_key(&writer, 2, 1));
    let first = bench.put_session(&put, &id, &document).await;
    let longer = applied(bench.store.extend_session(&extend, &id, &ALL, Expected::Any, 10).await.unwrap()).1;
    bench.clock.advance_seconds(120);
    let replay = replayed(bench.store.put_session(&put, &id, &ALL, &user("x"), Expected::Any, &document).await.unwrap());
    assert_eq!((replay.status, replay.version, replay.record), (201, version(1), Some(first)), "also when its time is over");
    let replay = replayed(bench.store.extend_session(&extend, &id, &ALL, Expected::Any, 10).await.unwrap());
    assert_eq!((replay.status, replay.version, replay.record), (200, version(2), Some(longer)));
    let reused = bench.store.extend_session(&under_key(&writer, 1, 2), &id, &ALL, Expected::Any, 10).await.unwrap();
    assert_eq!(reused, Outcome::KeyReused);
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(2)));
}

pub(super) async fn gone_at_their_instant(bench: &Bench) {
    let writer = bench.writer();
    let query = SessionQuery { reach: Reach::All, after: None, limit: 1000 };
    let mut records: Vec<SessionRecord> = Vec::new();
    for number in 0..200 {
        records.push(bench.put_session(&writer, &session(&format!("s{number:03}")), &lasting(600)).await);
    }
    assert!(records.windows(2).all(|pair| pair[0].expires_at < pair[1].expires_at), "each has an instant of its own");
    bench.clock.advance_seconds(540);
    for record in &records {
        assert_eq!(bench.session(&writer, &record.id).await, Lookup::Live(record.clone()));
    }
    assert_eq!(bench.store.list_sessions(&writer.tenant, &query).await.unwrap().items.len(), 200);
    // The time to live, and that of the calls since the last one was written: all are over, by minutes or by less than a millisecond.
    let last = bench.put_session(&writer, &session("last"), &lasting(60)).await;
    bench.clock.advance_seconds(60);
    assert_eq!(bench.session(&writer, &last.id).await, Lookup::Gone(version(1)));
    for record in &records {
        assert_eq!(bench.session(&writer, &record.id).await, Lookup::Gone(version(1)));
    }
    assert!(bench.store.list_sessions(&writer.tenant, &query).await.unwrap().items.is_empty());
    assert_eq!(bench.store.extend_session(&writer, &last.id, &ALL, Expected::Any, 60).await.unwrap(), Outcome::Absent);
    assert_eq!(bench.store.touch_session(&writer.tenant, &last.id).await.unwrap(), None);
}

pub(super) async fn within_reach(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    let put = |reach: Reach, expected| {
        let (writer, id) = (&writer, &id);
        async move { bench.store.put_session(writer, id, &reach, &user("grace"), expected, &lasting(60)).await.unwrap() }
    };
    let one = applied(put(own("grace"), Expected::Any).await).1;
    let foreign = own("ada");
    assert_eq!(bench.store.get_session(&writer.tenant, &id, &foreign).await.unwrap(), Lookup::Absent);
    assert_eq!(bench.store.get_session(&writer.tenant, &id, &own("grace")).await.unwrap(), Lookup::Live(one.clone()));
    for expected in [Expected::Any, Expected::Absent, Expected::Present, Expected::Exactly(version(1)), Expected::Exactly(version(2))] {
        assert_eq!(put(foreign.clone(), expected).await, Outcome::Absent, "{expected:?}");
        let unknown = bench.store.delete_session(&writer, &session("unknown"), &foreign, expected).await.unwrap();
        assert_eq!(bench.store.delete_session(&writer, &id, &foreign, expected).await.unwrap(), unknown, "{expected:?}: as unknown");
        let unknown = bench.store.extend_session(&writer, &session("unknown"), &foreign, expected, 60).await.unwrap();
        assert_eq!(unknown, Outcome::Absent);
        assert_eq!(bench.store.extend_session(&writer, &id, &foreign, expected, 60).await.unwrap(), unknown, "{expected:?}: as unknown");
    }
    assert_eq!(live(bench.session(&writer, &id).await), one, "untouched");
    assert_eq!(put(own("grace"), Expected::Exactly(version(2))).await, Outcome::Refused { current: Some(version(1)) });
    applied(put(ALL, Expected::Exactly(version(1))).await);

    applied(bench.store.delete_session(&writer, &id, &own("grace"), Expected::Any).await.unwrap());
    assert_eq!(bench.store.get_session(&writer.tenant, &id, &foreign).await.unwrap(), Lookup::Absent, "its tombstone neither");
    assert_eq!(bench.store.get_session(&writer.tenant, &id, &own("grace")).await.unwrap(), Lookup::Gone(version(3)));
    let (created, four) =
        applied(bench.store.put_session(&writer, &id, &foreign, &user("ada"), Expected::Any, &lasting(60)).await.unwrap());
    assert_eq!((created, four.version, four.owner.as_str()), (true, version(4), "ada"), "an id that is free");
}

pub(super) async fn writes_and_the_clock(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    let one = bench.put_session(&writer, &id, &SessionDocument { max_ttl_seconds: Some(100), ..lasting(60) }).await;
    bench.clock.advance_seconds(50);
    let without = SessionDocument { ttl_seconds: None, max_ttl_seconds: Some(100), ..lasting(1) };
    let two = bench.put_session(&writer, &id, &without).await;
    assert_eq!((two.expires_at, two.written_expires_at, two.ttl_seconds), (one.expires_at, one.expires_at, 60), "the clock goes on");
    let three = bench.put_session(&writer, &id, &SessionDocument { max_ttl_seconds: Some(100), ..lasting(60) }).await;
    assert_eq!(three.expires_at, one.created_at.plus_seconds(100), "restarted, under the cap");
    let four = bench.put_session(&writer, &id, &SessionDocument { max_ttl_seconds: None, ..lasting(200) }).await;
    assert_eq!((four.expires_at, four.ttl_seconds), (four.updated_at.plus_seconds(200), 200));
    let five = bench.put_session(&writer, &id, &SessionDocument { max_ttl_seconds: Some(70), ..without }).await;
    assert_eq!((five.expires_at, five.ttl_seconds), (one.created_at.plus_seconds(70), 200), "a cap that came down");
    assert_eq!(live(bench.session(&writer, &id).await), five);
    bench.clock.advance_seconds(21);
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(5)));
}

/// However often a session is extended, its end can be told.
pub(super) async fn ends_within_the_calendar(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    bench.put_session(&writer, &id, &lasting(3600)).await;
    let mut last = None;
    for _ in 0..805 {
        let extended = bench.store.extend_session(&writer, &id, &ALL, Expected::Any, 315_360_000).await.unwrap();
        last = Some(applied(extended).1.expires_at);
    }
    assert_eq!(last.map(|last| last.to_string()).as_deref(), Some("9999-12-30T00:00:00.000000Z"));
    assert_eq!(Some(live(bench.session(&writer, &id).await).expires_at), last);
    let touched = bench.store.touch_session(&writer.tenant, &id).await;
    assert!(matches!(touched, Ok(None | Some(_)) | Err(StoreError::Contended(_))), "{touched:?}");
}

pub(super) async fn extended(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    let extend = |expected, seconds| {
        let (writer, id) = (&writer, &id);
        async move { bench.store.extend_session(writer, id, &Reach::All, expected, seconds).await.unwrap() }
    };
    assert_eq!(extend(Expected::Any, 60).await, Outcome::Absent);
    let one = bench.put_session(&writer, &id, &SessionDocument { max_ttl_seconds: Some(100), data: "[1.0]".into(), ..lasting(60) }).await;
    assert_eq!(extend(Expected::Exactly(version(2)), 30).await, Outcome::Refused { current: Some(version(1)) });
    let (created, two) = applied(extend(Expected::Exactly(version(1)), 30).await);
    assert!(!created);
    assert_eq!((two.version, two.life, &two.data, two.ttl_seconds), (version(2), version(1), &one.data, 60));
    assert_eq!((two.expires_at, two.written_expires_at), (one.expires_at.plus_seconds(30), one.expires_at.plus_seconds(30)));
    assert!(two.updated_at > one.updated_at);
    assert_eq!(live(bench.session(&writer, &id).await), two);
    let three = applied(extend(Expected::Any, 30).await).1;
    assert_eq!(three.expires_at, one.created_at.plus_seconds(100), "under the cap");
    bench.clock.advance_seconds(101);
    assert_eq!(extend(Expected::Any, 1000).await, Outcome::Absent, "never revived");
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(3)));
    let log: Vec<_> = bench.inspector.log(&writer.tenant).await.into_iter().map(|row| (row.kind, row.operation, row.keys)).collect();
    let keys = || ["s".to_owned(), String::new(), String::new()];
    let kind = ChangeKind::Session as i16;
    let (created, replaced) = (ChangeOperation::Created as i16, ChangeOperation::Replaced as i16);
    assert_eq!(log, [(kind, created, keys()), (kind, replaced, keys()), (kind, replaced, keys())]);
}

pub(super) async fn touched(bench: &Bench) {
    let (writer, id) = (bench.writer(), session("s"));
    let touch = || bench.store.touch_session(&writer.tenant, &id);
    assert_eq!(touch().await.unwrap(), None);
    bench.put_session(&writer, &id, &lasting(60)).await;
    assert_eq!(touch().await.unwrap(), None, "it does not slide");
    let sliding = SessionDocument { sliding: true, max_ttl_seconds: Some(100), ..lasting(60) };
    let two = bench.put_session(&writer, &id, &sliding).await;
    bench.watcher.committed(&writer.tenant);
    bench.clock.advance_seconds(30);
    let end = touch().await.unwrap().expect("it lives");
    assert!(end >= two.expires_at.plus_seconds(30) && end < two.expires_at.plus_seconds(40), "{end} after {}", two.expires_at);
    assert_eq!(live(bench.session(&writer, &id).await), SessionRecord { expires_at: end, ..two.clone() }, "and nothing else");
    bench.clock.advance_seconds(30);
    assert_eq!(touch().await.unwrap(), Some(two.created_at.plus_seconds(100)), "under the cap");
    bench.clock.advance_seconds(-50);
    assert_eq!(touch().await.unwrap(), Some(two.created_at.plus_seconds(100)), "never back");
    bench.clock.advance_seconds(50);
    assert_eq!(bench.inspector.log(&writer.tenant).await.len(), 2);
    assert_eq!(bench.watcher.committed(&writer.tenant), []);
    let kept = bench.put_session(&writer, &id, &SessionDocument { ttl_seconds: None, ..sliding }).await;
    assert_eq!((kept.expires_at, kept.written_expires_at), (two.created_at.plus_seconds(100), two.created_at.plus_seconds(100)));
    bench.clock.advance_seconds(50);
    assert_eq!(touch().await.unwrap(), None, "expired");
    assert_eq!(bench.session(&writer, &id).await, Lookup::Gone(version(3)));
}

pub(super) async fn listed_within_reach(bench: &Bench) {
    let writer = bench.writer();
    let mut records = Vec::new();
    for (id, owner) in [("a", "ada"), ("b", "grace"), ("c", "ada"), ("d", "ada"), ("e", "grace")] {
        let document = SessionDocument { data: "[1]".into(), ..lasting(60) };
        let outcome = bench.store.put_session(&writer, &session(id), &ALL, &user(owner), Expected::Any, &document).await;
        records.push(applied(outcome.unwrap()).1);
    }
    bench.put_session(&writer, &session("dead"), &lasting(60)).await;
    applied(bench.store.delete_session(&writer, &session("dead"), &ALL, Expected::Any).await.unwrap());
    bench.put_session(&writer, &session("bb"), &lasting(10)).await;
    bench.clock.advance_seconds(11);
    let list = |reach: Reach, after: Option<&'static str>, limit| {
        let tenant = &writer.tenant;
        async move {
            let page = bench.store.list_sessions(tenant, &SessionQuery { reach, after: after.map(session), limit }).await.unwrap();
            (page.items, page.more)
        }
    };
    let expect = |ids: &[&str]| records.iter().filter(|record| ids.contains(&record.id.as_str())).map(listed).collect::<Vec<_>>();
    assert_eq!(list(ALL, None, 10).await, (expect(&["a", "b", "c", "d", "e"]), false));
    assert_eq!(list(ALL, None, 2).await, (expect(&["a", "b"]), true));
    assert_eq!(list(ALL, Some("b"), 3).await, (expect(&["c", "d", "e"]), false));
    assert_eq!(list(own("ada"), None, 2).await, (expect(&["a", "c"]), true));
    assert_eq!(list(own("ada"), Some("c"), 2).await, (expect(&["d"]), false));
    assert_eq!(list(own("nobody"), None, 2).await, (Vec::new(), false));
}

/// A session that is used again inherits nothing of the one before.
pub(super) async fn lives_inherit_nothing(bench: &Bench) {
    for expired in [false, true] {
        let (writer, id) = (bench.writer(), session("s"));
        let scope = Scope::Session(id.clone());
        let key = variable(scope.clone(), "v");
        let first = bench.put_session(&writer, &id, &lasting(60)).await;
        let put = |life, expected| bench.store.put_variable(&writer, &key, Some(life), expected, &PLAIN);
        let (_, one) = applied(put(first.life, Expected::Any).await.unwrap());
        bench.put_session(&writer, &id, &lasting(60)).await;
        assert_eq!(bench.store.get_variable(&writer.tenant, &key, Some(first.life)).await.unwrap(), Lookup::Live(one.clone()), "same life");
        if expired {
            bench.clock.advance_seconds(61);
        } else {
            applied(bench.store.delete_session(&writer, &id, &ALL, Expected::Any).await.unwrap());
        }
        let second = bench.put_session(&writer, &id, &lasting(60)).await;
        assert!(second.life > first.life);
        let life = Some(second.life);
        assert_eq!(bench.store.get_variable(&writer.tenant, &key, life).await.unwrap().live(), None);
        assert!(bench.store.list_variables(&writer.tenant, &scope, life, &everything()).await.unwrap().items.is_empty());
        let scopes = [(scope.clone(), life), (Scope::Global, None)];
        assert!(bench.store.effective_variables(&writer.tenant, &scopes, &everything()).await.unwrap().items.is_empty());
        assert_eq!(bench.store.delete_variable(&writer, &key, life, Expected::Any).await.unwrap(), Outcome::Absent);
        assert_eq!(put(second.life, Expected::Present).await.unwrap(), Outcome::Refused { current: None });
        assert_eq!(applied(bench.store.delete_variables(&writer, &scope, life, 10).await.unwrap()).1.deleted, 0);
        let batch =
            VariableBatch { delete: vec![name("v")], if_versions: vec![(name("v"), Some(one.version))], ..VariableBatch::default() };
        let refused = bench.store.write_variables(&writer, &scope, life, &batch).await.unwrap();
        assert_eq!(refused, BatchOutcome::Refused(vec![(name("v"), None)]));
        match bench.store.increment_variable(&writer, &key, life, Expected::Absent, Number::Integer(5)).await.unwrap() {
            IncrementOutcome::Done(Outcome::Applied { created: true, record }) => {
                assert_eq!((&*record.value, record.version), ("5", version(2)));
                assert_eq!(record.created_at, record.updated_at);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.store.get_variable(&writer.tenant, &key, Some(first.life)).await.unwrap().live(), None, "nor the other way");
    }
}

static PLAIN: std::sync::LazyLock<nworkflow_state::domain::variable::VariableDocument> = std::sync::LazyLock::new(|| plain("7"));

fn everything() -> VariableQuery {
    VariableQuery { limit: 1000, max_bytes: usize::MAX, ..VariableQuery::default() }
}

pub(super) async fn times_grow_against_the_clock(bench: &Bench) {
    let (writer, id): (WriteContext, _) = (bench.writer(), session("s"));
    let one = bench.put_session(&writer, &id, &lasting(60)).await;
    bench.clock.advance_seconds(-3600);
    let two = bench.put_session(&writer, &id, &lasting(60)).await;
    assert_eq!(two.updated_at.as_microseconds(), one.updated_at.as_microseconds() + 1);
    applied(bench.store.delete_session(&writer, &id, &ALL, Expected::Any).await.unwrap());
    let four = bench.put_session(&writer, &id, &lasting(60)).await;
    assert_eq!(four.updated_at.as_microseconds(), two.updated_at.as_microseconds() + 2);
    assert_eq!((four.created_at, Some(four.life)), (four.updated_at, Version::new(4)));
}
