//! Saving, reading and deleting variables, and their end.

use nworkflow_state::domain::id::{SessionId, UserId, WorkflowId};
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{Lookup, Outcome, WriteContext};

use super::bench::{Bench, applied, global, live, plain, variable, version};
use super::states::ODD;

fn lasting(value: &str, seconds: i64) -> VariableDocument {
    VariableDocument { expiry: Expiry::In(seconds), ..plain(value) }
}

pub(super) async fn versions_grow_over_deletion(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("greeting"));
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Absent);

    let first = VariableDocument { description: Some("what is said \"first\"".into()), ..plain(r#""hello""#) };
    let (created, one) = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &first).await.unwrap());
    assert!(created);
    assert_eq!((one.version, &one.key, &*one.value, one.secret), (version(1), &key, r#""hello""#, false));
    assert_eq!((one.description.as_deref(), one.updated_by.as_str()), (Some("what is said \"first\""), "f:1:ada"));
    assert_eq!((one.created_at, one.expires_at), (one.updated_at, None));
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(one.clone()));

    let grace = WriteContext { actor: UserId::parse("grace").unwrap(), ..writer.clone() };
    let two = bench.put_variable(&grace, &key, "2").await;
    assert_eq!((two.version, &*two.value, two.updated_by.as_str()), (version(2), "2", "grace"));
    assert_eq!((two.description.as_deref(), two.created_at), (None, one.created_at), "a save replaces everything");
    assert!(two.updated_at > one.updated_at);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(two.clone()));

    assert_eq!(bench.delete_variable(&writer, &key).await, version(3));
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Gone(version(3)));

    let (created, four) = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &first).await.unwrap());
    assert!(created, "a new life");
    assert_eq!((four.version, four.created_at), (version(4), four.updated_at));
    assert!(four.created_at > two.updated_at);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(four));
}

pub(super) async fn times_grow_against_the_clock(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("v"));
    let one = bench.put_variable(&writer, &key, "1").await;
    bench.clock.advance_seconds(-3600);
    let two = bench.put_variable(&writer, &key, "2").await;
    assert_eq!(two.updated_at.as_microseconds(), one.updated_at.as_microseconds() + 1);
    bench.delete_variable(&writer, &key).await;
    let four = bench.put_variable(&writer, &key, "4").await;
    assert_eq!(four.updated_at.as_microseconds(), two.updated_at.as_microseconds() + 2);
    assert_eq!(four.created_at, four.updated_at);
}

pub(super) async fn bytes_are_kept(bench: &Bench) {
    let writer = bench.writer();
    for (number, odd) in ODD.iter().chain(&["null", "-0", "1E2", r#""\u0041""#, "false", "[\n]"]).enumerate() {
        let key = global(&format!("v{number}"));
        assert_eq!(&*bench.put_variable(&writer, &key, odd).await.value, *odd);
        assert_eq!(&*live(bench.variable(&writer, &key).await).value, *odd);
    }
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    assert_eq!(*bench.put_variable(&writer, &global("large"), &large).await.value, *large);
    assert_eq!(*live(bench.variable(&writer, &global("large")).await).value, *large);
}

pub(super) async fn the_longest_keys(bench: &Bench) {
    let writer = bench.writer();
    let user = format!("{}abc", "\u{1F980}".repeat(63));
    let name = format!("{}abcd", "\u{1F980}".repeat(63));
    assert_eq!((user.len(), name.len()), (255, 256));
    let scopes = [
        Scope::User(UserId::parse(&user).unwrap()),
        Scope::Workflow(WorkflowId::parse(&"w".repeat(128)).unwrap()),
        Scope::Session(SessionId::parse(&"s".repeat(128)).unwrap()),
    ];
    for scope in scopes {
        let key = variable(scope, &name);
        let saved = bench.put_variable(&writer, &key, "1").await;
        assert_eq!(saved.key, key);
        assert_eq!(live(bench.variable(&writer, &key).await), saved);
    }
}

pub(super) async fn gone_at_its_instant(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("v"));
    let saved = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &lasting("1", 3600)).await.unwrap()).1;
    assert_eq!(saved.expires_at, Some(saved.updated_at.plus_seconds(3600)));
    bench.clock.advance_seconds(3000);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(saved));
    bench.clock.advance_seconds(600);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Gone(version(1)));
}

pub(super) async fn expired_is_absent_to_writes(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("v"));
    let one = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &lasting("1", 60)).await.unwrap()).1;
    bench.clock.advance_seconds(61);
    assert_eq!(bench.store.delete_variable(&writer, &key, None, Expected::Any).await.unwrap(), Outcome::Absent);
    let outcome = bench.store.put_variable(&writer, &key, None, Expected::Exactly(version(1)), &plain("2")).await.unwrap();
    assert_eq!(outcome, Outcome::Refused { current: None });
    let (created, two) = applied(bench.store.put_variable(&writer, &key, None, Expected::Absent, &plain("2")).await.unwrap());
    assert!(created, "a new life");
    assert_eq!((two.version, two.created_at, two.expires_at), (version(2), two.updated_at, None));
    assert!(two.created_at >= one.created_at.plus_seconds(61));
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(two));
}

pub(super) async fn a_ttl_is_set_anew_by_every_write(bench: &Bench) {
    let (writer, key) = (bench.writer(), global("v"));
    applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &lasting("1", 60)).await.unwrap());
    bench.clock.advance_seconds(30);
    let two = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &lasting("2", 60)).await.unwrap()).1;
    assert_eq!(two.expires_at, Some(two.updated_at.plus_seconds(60)));
    bench.clock.advance_seconds(40);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(two));
    let three = bench.put_variable(&writer, &key, "3").await;
    assert_eq!(three.expires_at, None, "a save without a time to live removes it");
    bench.clock.advance_seconds(3600);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Live(three));
}
