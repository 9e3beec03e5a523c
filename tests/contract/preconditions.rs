//! Every precondition against every situation of a key, with the outcome and the version that is told.

use nworkflow_state::domain::variable::{Expiry, VariableDocument};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{Lookup, Outcome, WriteContext};

use super::bench::{Bench, Kind, applied, global, lasting, plain, session, version};

/// What a key has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    /// Nothing.
    Never,
    /// Versions 1 and 2.
    Live,
    /// Version 1 and the tombstone 2.
    Deleted,
    /// Versions 1 and 2, whose time is over.
    Expired,
}

/// What is to be told: the write is applied, or refused (with the live version when there is one), or there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Applied,
    Refused,
    Nothing,
}

const PUT_LIVE: [Told; 6] = [Told::Applied, Told::Refused, Told::Applied, Told::Applied, Told::Refused, Told::Refused];
const PUT_OTHERWISE: [Told; 6] = [Told::Applied, Told::Applied, Told::Refused, Told::Refused, Told::Refused, Told::Refused];
const DELETE_LIVE: [Told; 6] = PUT_LIVE;
const DELETE_OTHERWISE: [Told; 6] = [Told::Nothing, Told::Nothing, Told::Refused, Told::Refused, Told::Refused, Told::Refused];

/// In the order of the tables above; 2 is the last version wherever there is one.
fn expectations() -> [Expected; 6] {
    let exactly = |number| Expected::Exactly(version(number));
    [Expected::Any, Expected::Absent, Expected::Present, exactly(2), exactly(1), exactly(3)]
}

pub(super) async fn of_states(bench: &Bench) {
    for situation in [Situation::Never, Situation::Live, Situation::Deleted] {
        all_of(bench, Kind::State, situation).await;
    }
}

pub(super) async fn of_sessions(bench: &Bench) {
    for situation in [Situation::Never, Situation::Live, Situation::Deleted, Situation::Expired] {
        all_of(bench, Kind::Session, situation).await;
    }
}

pub(super) async fn of_variables(bench: &Bench) {
    for situation in [Situation::Never, Situation::Live, Situation::Deleted, Situation::Expired] {
        all_of(bench, Kind::Variable, situation).await;
    }
}

async fn all_of(bench: &Bench, kind: Kind, situation: Situation) {
    let live = situation == Situation::Live;
    let (last, lookup) = match situation {
        Situation::Never => (0, Lookup::Absent),
        Situation::Live => (2, Lookup::Live(version(2))),
        Situation::Deleted | Situation::Expired => (2, Lookup::Gone(version(2))),
    };
    let current = live.then(|| version(2));
    for is_put in [true, false] {
        let table = match (is_put, live) {
            (true, true) => PUT_LIVE,
            (true, false) => PUT_OTHERWISE,
            (false, true) => DELETE_LIVE,
            (false, false) => DELETE_OTHERWISE,
        };
        for (expected, told) in expectations().into_iter().zip(table) {
            let case = format!("{kind:?} {situation:?} put {is_put} {expected:?}");
            let writer = bench.writer();
            bring_about(bench, kind, situation, &writer).await;
            assert_eq!(bench.get(kind, &writer, "k").await, lookup, "{case}: before");
            let outcome = match is_put {
                true => bench.put(kind, &writer, "k", expected).await,
                false => bench.delete(kind, &writer, "k", expected).await,
            };
            let next = version(last + 1);
            let (wanted, then): (Outcome<Version>, Lookup<Version>) = match told {
                Told::Applied if is_put => (Outcome::Applied { created: !live, record: next }, Lookup::Live(next)),
                Told::Applied => (Outcome::Applied { created: false, record: next }, Lookup::Gone(next)),
                Told::Refused => (Outcome::Refused { current }, lookup.clone()),
                Told::Nothing => (Outcome::Absent, lookup.clone()),
            };
            assert_eq!(outcome, wanted, "{case}");
            assert_eq!(bench.get(kind, &writer, "k").await, then, "{case}: after");
        }
    }
}

async fn bring_about(bench: &Bench, kind: Kind, situation: Situation, writer: &WriteContext) {
    match situation {
        Situation::Never => {}
        Situation::Live => {
            bench.put(kind, writer, "k", Expected::Any).await;
            bench.put(kind, writer, "k", Expected::Any).await;
        }
        Situation::Deleted => {
            bench.put(kind, writer, "k", Expected::Any).await;
            bench.delete(kind, writer, "k", Expected::Any).await;
        }
        Situation::Expired => {
            bench.put(kind, writer, "k", Expected::Any).await;
            if kind == Kind::Session {
                bench.put_session(writer, &session("k"), &lasting(60)).await;
                bench.clock.advance_seconds(61);
                return;
            }
            let short = VariableDocument { expiry: Expiry::In(60), ..plain("1") };
            applied(bench.store.put_variable(writer, &global("k"), None, Expected::Any, &short).await.unwrap());
            bench.clock.advance_seconds(61);
        }
    }
}
