//! Which step may come next: mostly one that finds something to do, sometimes one that does not.

use std::fmt::Debug;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use super::operation::{
    CHECKPOINTS, EXECUTIONS, Expectation, Guard, NAMES, Operation, Reading, Role, SCOPES, SESSIONS, Sight, Step, Terms, scope_of,
};
use super::shape::Shape;

/// Three times out of four one of those that are there, if any is.
fn mostly<T: Clone + Debug + 'static>(there: Vec<T>, any: BoxedStrategy<T>) -> BoxedStrategy<T> {
    if there.is_empty() { any } else { prop_oneof![3 => select(there), 1 => any].boxed() }
}

fn guards() -> BoxedStrategy<Guard> {
    prop_oneof![
        6 => Just(Guard::None),
        2 => Just(Guard::Current),
        1 => Just(Guard::Present),
        1 => Just(Guard::Absent),
        1 => Just(Guard::Unknown),
        1 => Just(Guard::Earlier),
    ]
    .boxed()
}

fn numbers() -> std::ops::Range<i64> {
    0..1000
}

/// Longer than the seconds that `World::calm` keeps free.
fn seconds() -> std::ops::Range<i64> {
    20..1020
}

fn terms() -> BoxedStrategy<Terms> {
    (numbers(), option::weighted(0.75, seconds()), any::<bool>(), option::weighted(0.2, 500..1500_i64))
        .prop_map(|(number, ttl, sliding, cap)| Terms { number, ttl, sliding, cap })
        .boxed()
}

fn readings() -> BoxedStrategy<Reading> {
    prop_oneof![2 => Just(Reading::Cached), 1 => Just(Reading::Known), 1 => Just(Reading::FromStore)].boxed()
}

fn sights() -> BoxedStrategy<Sight> {
    prop_oneof![
        1 => Just(Sight::Executions),
        1 => Just(Sight::Checkpoints),
        2 => Just(Sight::Sessions),
        3 => (0..EXECUTIONS.len()).prop_map(Sight::State),
        1 => (0..EXECUTIONS.len()).prop_map(Sight::History),
        3 => (0..EXECUTIONS.len(), 0..CHECKPOINTS.len()).prop_map(|(execution, id)| Sight::Checkpoint(execution, id)),
        2 => (0..SESSIONS.len()).prop_map(Sight::Life),
        5 => (0..SCOPES, 0..NAMES.len()).prop_map(|(scope, name)| Sight::Variable(scope, name)),
        2 => (0..SCOPES).prop_map(Sight::Scope),
        1 => option::of(0..SESSIONS.len()).prop_map(Sight::Effective),
    ]
    .boxed()
}

/// Weights and what they weigh.
type Choices = Vec<(u32, BoxedStrategy<Operation>)>;

fn nobody_writes() -> Choices {
    vec![
        (2, Just(Operation::ClearCache).boxed()),
        (4, option::of(0..SESSIONS.len()).prop_map(|session| Operation::Effective { session }).boxed()),
        (6, select(vec![1, 5, 17, 60, 400, 4000]).prop_map(|seconds| Operation::Advance { seconds }).boxed()),
        (2, prop::bool::weighted(0.5).prop_map(|days_pass| Operation::Sweep { days_pass }).boxed()),
    ]
}

fn executions(shape: &Shape) -> Choices {
    let any = || (0..EXECUTIONS.len()).boxed();
    let live = || mostly(shape.live_states(), any());
    let kept = || mostly(shape.kept_checkpoints(), (any(), 0..CHECKPOINTS.len()).boxed());
    let free = mostly(shape.free_executions(), any());
    let taken = mostly(shape.taken_executions(), any());
    vec![
        (10, (any(), numbers(), guards()).prop_map(|(execution, number, guard)| Operation::PutState { execution, number, guard }).boxed()),
        (
            6,
            (live(), numbers(), guards()).prop_map(|(execution, number, guard)| Operation::PatchState { execution, number, guard }).boxed(),
        ),
        (4, (live(), guards()).prop_map(|(execution, guard)| Operation::DeleteState { execution, guard }).boxed()),
        (
            8,
            (live(), 0..CHECKPOINTS.len(), option::weighted(0.33, numbers()))
                .prop_map(|(execution, id, own)| Operation::CreateCheckpoint { execution, id, own })
                .boxed(),
        ),
        (5, (kept(), guards()).prop_map(|((execution, id), guard)| Operation::Restore { execution, id, guard }).boxed()),
        (5, (kept(), free).prop_map(|((execution, id), into)| Operation::Fork { execution, id, into }).boxed()),
        (3, (kept(), guards()).prop_map(|((execution, id), guard)| Operation::DeleteCheckpoint { execution, id, guard }).boxed()),
        (3, (taken, guards()).prop_map(|(execution, guard)| Operation::DeleteExecution { execution, guard }).boxed()),
    ]
}

fn sessions(shape: &Shape) -> Choices {
    let any = || (0..SESSIONS.len()).boxed();
    let live = || mostly(shape.live_sessions(), any());
    vec![
        (6, (any(), terms()).prop_map(|(session, terms)| Operation::CreateSession { session, terms }).boxed()),
        (6, (any(), terms(), guards()).prop_map(|(session, terms, guard)| Operation::PutSession { session, terms, guard }).boxed()),
        (4, (live(), numbers(), guards()).prop_map(|(session, number, guard)| Operation::PatchSession { session, number, guard }).boxed()),
        (4, (live(), seconds(), guards()).prop_map(|(session, seconds, guard)| Operation::Extend { session, seconds, guard }).boxed()),
        (2, (live(), guards()).prop_map(|(session, guard)| Operation::DeleteSession { session, guard }).boxed()),
        (8, (live(), readings()).prop_map(|(session, reading)| Operation::GetSession { session, reading }).boxed()),
    ]
}

fn variables(shape: &Shape) -> Choices {
    // Scopes of sessions that live count for as much as the others.
    let scopes = || mostly((0..3).chain(shape.live_sessions().into_iter().map(scope_of)).collect(), (0..SCOPES).boxed());
    let places = || (scopes(), 0..NAMES.len()).boxed();
    let live = || mostly(shape.live_variables(), places());
    let roles = prop::array::uniform3(select(vec![Role::Untouched, Role::Set, Role::Delete]));
    let expectations = select(vec![Expectation::Live, Expectation::Live, Expectation::Absent, Expectation::Unknown]);
    vec![
        (
            12,
            (places(), option::weighted(0.86, numbers()), option::weighted(0.33, seconds()), guards())
                .prop_map(|((scope, name), number, ttl, guard)| Operation::PutVariable { scope, name, number, ttl, guard })
                .boxed(),
        ),
        (
            5,
            (live(), numbers(), guards())
                .prop_map(|((scope, name), number, guard)| Operation::PatchVariable { scope, name, number, guard })
                .boxed(),
        ),
        (
            6,
            (live(), numbers(), guards())
                .prop_map(|((scope, name), number, guard)| Operation::Increment { scope, name, number, guard })
                .boxed(),
        ),
        (5, (live(), guards()).prop_map(|((scope, name), guard)| Operation::DeleteVariable { scope, name, guard }).boxed()),
        (
            8,
            (scopes(), roles, numbers(), option::weighted(0.4, (0..NAMES.len(), expectations)))
                .prop_map(|(scope, roles, number, expects)| Operation::Batch { scope, roles, number, expects })
                .boxed(),
        ),
        (2, scopes().prop_map(|scope| Operation::DeleteScope { scope }).boxed()),
    ]
}

/// Shrinking goes towards the front of every list.
pub(super) fn steps(shape: &Shape) -> BoxedStrategy<Step> {
    let choices = [nobody_writes(), executions(shape), sessions(shape), variables(shape)].concat();
    (Union::new_weighted(choices), option::of(sights()), readings())
        .prop_map(|(operation, sight, reading)| Step { operation, sight, reading })
        .boxed()
}
