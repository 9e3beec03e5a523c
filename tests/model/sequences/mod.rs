//! Random sequences of everything that the services offer, over both stores, against a model of what must come out.
//!
//! The shape (`shape.rs`) chooses steps that meet something; a world (`world.rs`) does each with the services and with the model
//! (`reference.rs`). A sequence that ends otherwise is made as short and plain as it still fails, and told with its seed.

mod checkpoints;
mod compare;
mod generate;
mod operation;
mod reference;
mod sessions;
mod shape;
mod states;
mod variables;
mod verdict;
mod world;

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine as _, StateMachineTest};
use tokio::runtime::Handle;

use self::operation::Step;
use self::shape::Shape;
use self::verdict::Verdict;
use self::world::World;
use super::report;
use crate::api::app::{Options, TestApp};

const LENGTH: usize = 200;
/// Sequences that are the same in every run.
const FIXED: u32 = 14;
const FIXED_SEED: u64 = 1;
/// Sequences of a seed that nobody chose, or of `PROPTEST_RNG_SEED`.
const RANDOM: u32 = 2;
/// Most tries to make a failing sequence shorter, and their time.
const SHRINK_ATTEMPTS: u32 = 2000;
const SHRINK_MILLISECONDS: u32 = 120_000;

thread_local! {
    /// The server of the test of this thread: a sequence begins with a function that is given nothing.
    static SERVER: RefCell<Option<Arc<TestApp>>> = const { RefCell::new(None) };
}

/// A verdict of the runtime that this thread has left for the test.
#[track_caller]
fn wait_for(verdict: impl Future<Output = Verdict>) {
    if let Err(difference) = Handle::current().block_on(verdict) {
        panic!("{difference}");
    }
}

struct Sequence;

impl StateMachineTest for Sequence {
    type SystemUnderTest = World;
    type Reference = Shape;

    fn init_test(_nothing: &Shape) -> World {
        World::new(SERVER.with_borrow(|server| Arc::clone(server.as_ref().unwrap())))
    }

    fn apply(mut world: World, _shape: &Shape, step: Step) -> World {
        wait_for(world.step(&step));
        world
    }

    fn check_invariants(world: &World, shape: &Shape) {
        wait_for(async { world.compare_shape(shape) });
    }

    fn teardown(mut world: World, _shape: Shape) {
        wait_for(world.compare_everything());
    }
}

fn run(seed: u64, cases: u32) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        // The seed is told, and the code that reads it changes: files of it would grow old.
        failure_persistence: None,
        max_shrink_iters: SHRINK_ATTEMPTS,
        max_shrink_time: SHRINK_MILLISECONDS,
        ..Config::default()
    };
    let done = TestRunner::new(config.clone()).run(&Shape::sequential_strategy(LENGTH), |(shape, steps, seen)| {
        Sequence::test_sequential(config.clone(), shape, steps, seen);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(TestError::Fail(difference, (_, steps, _))) => {
            let lines: String = steps.iter().map(|step| format!("  {step:?}\n")).collect();
            panic!("seed {seed}, after {} steps: {difference}\n{lines}PROPTEST_RNG_SEED={seed} repeats it", steps.len());
        }
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

fn random_sequences_end_as_the_model_says(app: TestApp) {
    let backend = app.services.operations.levels(true).backend;
    let random = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    let begin = Instant::now();
    tokio::task::block_in_place(|| {
        SERVER.set(Some(Arc::new(app)));
        run(FIXED_SEED, FIXED);
        run(random, RANDOM);
        SERVER.set(None);
    });
    let steps = LENGTH * usize::try_from(FIXED + RANDOM).unwrap();
    report(&format!("{backend}: {steps} steps as the model, random seed {random}, {:?}", begin.elapsed()));
}

/// A cache whose entries last: what it answers wrong is seen however long the clock was moved ahead.
fn lasting_cache() -> Options {
    Options::default().set("cache.local_ttl_ms", "600000").set("cache.negative_ttl_ms", "600000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_ends_as_the_model_says() {
    random_sequences_end_as_the_model_says(TestApp::sqlite_with(lasting_cache()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_ends_as_the_model_says() {
    random_sequences_end_as_the_model_says(TestApp::postgres().await);
}
