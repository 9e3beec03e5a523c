//! Requests that come twice.

use futures_util::future::join_all;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::variable::{Expiry, VariableDocument};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{IDEMPOTENCY_SECONDS, Lookup, Outcome, Replay};

use super::bench::{Bench, Kind, SMALL, applied, document, global, replayed, state, under_key, version};

pub(super) async fn an_equal_request_is_replayed(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        let put = |key| {
            let context = under_key(&writer, key, 1);
            async move { bench.put(kind, &context, "k", Expected::Any).await }
        };
        let replay = |status, number, record| Outcome::Replayed(Replay { status, version: version(number), record });
        assert_eq!(put(1).await, Outcome::Applied { created: true, record: version(1) });
        assert_eq!(put(1).await, replay(201, 1, Some(version(1))), "{kind:?} created");
        assert_eq!(put(2).await, Outcome::Applied { created: false, record: version(2) });
        assert_eq!(put(2).await, replay(200, 2, Some(version(2))), "{kind:?} replaced");
        assert_eq!(put(1).await, replay(201, 1, Some(version(1))), "{kind:?} the first again");
        let delete = under_key(&writer, 3, 1);
        let first = bench.delete(kind, &delete, "k", Expected::Any).await;
        assert_eq!(first, Outcome::Applied { created: false, record: version(3) });
        assert_eq!(bench.delete(kind, &delete, "k", Expected::Any).await, replay(204, 3, None), "{kind:?} deleted");
        assert_eq!(bench.get(kind, &writer, "k").await, Lookup::Gone(version(3)), "{kind:?}: replays write nothing");
        assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 3);
        assert_eq!(bench.inspector.log(&writer.tenant).await.len(), 3);
    }
}

pub(super) async fn a_state_is_replayed_as_it_was(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let sent = document("{\"marking\":{\"p\" : [1E2]},\"status\":\"waiting\",\"metadata\":{\"b\":1,\"a\":-0}}");
    let keyed = under_key(&writer, 1, 1);
    let first = applied(bench.store.put_state(&keyed, &key, Expected::Any, &sent, Operation::Put).await.unwrap()).1;
    bench.put_state(&writer, &key, SMALL).await;
    let replay = replayed(bench.store.put_state(&keyed, &key, Expected::Any, &sent, Operation::Put).await.unwrap());
    assert_eq!((replay.status, replay.record), (201, Some(first)));
}

pub(super) async fn a_variable_is_replayed_as_it_was(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("v"));
    let sent = VariableDocument { value: "{\"p\" : [1E2, \"\\u0041\"]}".into(), description: Some("first".into()), expiry: Expiry::In(60) };
    let keyed = under_key(&writer, 1, 1);
    let first = applied(bench.store.put_variable(&keyed, &key, None, Expected::Any, &sent).await.unwrap()).1;
    bench.put_variable(&writer, &key, "2").await;
    bench.clock.advance_seconds(120);
    let replay = replayed(bench.store.put_variable(&keyed, &key, None, Expected::Any, &sent).await.unwrap());
    assert_eq!((replay.status, replay.record), (201, Some(first)), "also when its time is over");
}

pub(super) async fn a_replay_survives_deletion(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let keyed = under_key(&writer, 1, 1);
    let first = bench.put_state(&keyed, &key, SMALL).await;
    bench.delete_state(&writer, &key).await;
    let replay = replayed(bench.store.put_state(&keyed, &key, Expected::Any, &document(SMALL), Operation::Put).await.unwrap());
    assert_eq!(replay.record, Some(first));
    assert_eq!(bench.state(&writer, &key).await, Lookup::Gone(version(2)), "nothing comes back to life");
}

pub(super) async fn another_request_is_refused(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        bench.put(kind, &under_key(&writer, 1, 1), "k", Expected::Any).await;
        let other = under_key(&writer, 1, 2);
        assert_eq!(bench.put(kind, &other, "k", Expected::Any).await, Outcome::KeyReused);
        assert_eq!(bench.delete(kind, &other, "k", Expected::Any).await, Outcome::KeyReused);
        let impossible = Expected::Exactly(version(9));
        assert_eq!(bench.put(kind, &other, "k", impossible).await, Outcome::KeyReused, "the key comes before the precondition");
        assert_eq!(bench.get(kind, &writer, "k").await, Lookup::Live(version(1)));
    }
}

pub(super) async fn a_key_belongs_to_its_tenant(bench: &Bench) {
    for kind in Kind::ALL {
        let (one, other) = (bench.writer(), bench.writer());
        let created = Outcome::Applied { created: true, record: version(1) };
        assert_eq!(bench.put(kind, &under_key(&one, 1, 1), "k", Expected::Any).await, created);
        assert_eq!(bench.put(kind, &under_key(&other, 1, 2), "k", Expected::Any).await, created);
        assert_eq!(bench.inspector.idempotency_rows(&one.tenant).await, 1);
        assert_eq!(bench.inspector.idempotency_rows(&other.tenant).await, 1);
    }
}

pub(super) async fn a_refused_write_leaves_the_key_free(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        let keyed = under_key(&writer, 1, 1);
        assert_eq!(bench.put(kind, &keyed, "k", Expected::Present).await, Outcome::Refused { current: None });
        assert_eq!(bench.delete(kind, &keyed, "k", Expected::Any).await, Outcome::Absent);
        assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 0);
        let other = under_key(&writer, 1, 2);
        assert_eq!(bench.put(kind, &other, "k", Expected::Any).await, Outcome::Applied { created: true, record: version(1) });
    }
}

pub(super) async fn a_key_is_forgotten_after_a_day(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        let (keyed, other) = (under_key(&writer, 1, 1), under_key(&writer, 1, 2));
        bench.put(kind, &keyed, "k", Expected::Any).await;
        bench.clock.advance_seconds(IDEMPOTENCY_SECONDS - 60);
        replayed(bench.put(kind, &keyed, "k", Expected::Any).await);
        bench.clock.advance_seconds(61);
        assert_eq!(bench.put(kind, &other, "k", Expected::Any).await, Outcome::Applied { created: false, record: version(2) });
        assert_eq!(replayed(bench.put(kind, &other, "k", Expected::Any).await).version, version(2), "the new answer took its place");
        assert_eq!(bench.put(kind, &keyed, "k", Expected::Any).await, Outcome::KeyReused);
        assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 1);
    }
}

pub(super) async fn parallel_requests_write_once(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        let keyed = under_key(&writer, 1, 1);
        let outcomes = join_all((0..50).map(|_| bench.put(kind, &keyed, "k", Expected::Any))).await;
        let count = |wanted: fn(&Outcome<_>) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
        assert_eq!(count(|outcome| matches!(outcome, Outcome::Applied { created: true, .. })), 1, "{kind:?}");
        assert_eq!(count(|outcome| matches!(outcome, Outcome::Replayed(replay) if replay.record == Some(replay.version))), 49, "{kind:?}");
        assert_eq!(bench.get(kind, &writer, "k").await, Lookup::Live(version(1)));
        assert_eq!(bench.inspector.log(&writer.tenant).await.len(), 1);
    }
}
