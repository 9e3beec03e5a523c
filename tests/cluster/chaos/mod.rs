//! Three servers, clients that never rest, faults drawn from a seed, and one judge.

mod load;
mod oracle;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;

use self::load::{HOT, KEYS, Load};
use self::schedule::Scene;
pub(super) use self::schedule::Fault;
use super::flavour::Flavour;
use super::ground::{Database, Ground};
use super::process::Process;
use super::{say, within};
use crate::support::documents::{Random, fresh_seed};
use crate::support::postgres_cluster::Cluster;

/// How long both runs of the suite last together, in seconds.
const SECONDS: &str = "NWORKFLOW_TEST_CHAOS_SECONDS";
/// The seed of the run that is not the same each time, when it shall be.
const SEED: &str = "NWORKFLOW_TEST_SEED";
/// An entry of the second tier lives so long here: what stays behind after the worst must be gone within it.
const TIER_TTL_MS: u64 = 8000;
/// An entry of a local tier, after that.
const LOCAL_TTL_MS: u64 = 4000;

/// How a run is made.
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) seed: u64,
    pub(super) lasts: Duration,
    pub(super) faults: &'a [Fault],
    /// Shortest and longest pause between two faults, in milliseconds.
    pub(super) pauses: (u64, u64),
    /// Whether a write that the second tier cannot be told of is refused.
    pub(super) strict: bool,
}

pub(super) async fn run(run: Run<'_>) {
    let Run { name, seed, lasts, faults, pauses, strict } = run;
    say(name, format!("seed {seed} begins, {lasts:?}, strict {strict}"));
    let ground = Ground::over(Flavour::Redis, Database::Own(Cluster::start_new()))
        .await
        .set("dragonfly.state_ttl_ms", TIER_TTL_MS)
        .set("cache.local_ttl_ms", LOCAL_TTL_MS)
        .set("dragonfly.strict", strict);
    let processes = Process::start_all(&ground).await;
    let lives: Vec<Arc<AtomicUsize>> = processes.iter().map(|_| Arc::default()).collect();
    let clients: Vec<_> = processes.iter().map(|process| process.client.clone()).collect();
    let mut scene = Scene { ground, processes, lives: lives.clone(), excuses: Vec::new(), recoveries: Vec::new() };
    let mut random = Random::new(seed);
    let began = Instant::now();
    let load = Load::start(seed, &clients, &lives, &Lifecycle::new());
    let mut struck: Vec<Fault> = Vec::new();
    while began.elapsed() < lasts {
        // Each kind once before any comes again.
        let left: Vec<Fault> = faults.iter().copied().filter(|fault| !struck.contains(fault)).collect();
        if left.is_empty() {
            struck.clear();
            continue;
        }
        let fault = left[random.below(left.len())];
        struck.push(fault);
        tokio::time::sleep(Duration::from_millis(pauses.0 + random.next() % (pauses.1 - pauses.0 + 1))).await;
        scene.strike(fault, &mut random).await;
    }
    let acknowledged = load.acknowledged.load(Ordering::SeqCst);
    let story = load.finish().await;
    scene.recover().await;
    let log = oracle::change_log(&scene.ground.database.superuser_url()).await;
    let (figures, history) = oracle::judge(&story, log, &scene.excuses, began);

    // After quiet time every cached answer equals the database.
    let mut behind_at_once = 0;
    let quiet = Instant::now();
    for key in 0..KEYS + HOT {
        let (path, last) = (load::path(key), history.last(key));
        let mut is_first = true;
        within(Duration::from_millis(TIER_TTL_MS + LOCAL_TTL_MS + 2000), "the caches agree with the database", async || {
            let agrees = scene.told(&path).await.iter().all(|told| *told == last);
            behind_at_once += usize::from(!agrees && is_first);
            is_first = false;
            agrees
        })
        .await;
    }
    let agree_after = quiet.elapsed();
    let sampler: usize = scene.processes.iter().map(|process| process.said("a cache tells what was replaced").len()).sum();
    let panics: usize = scene.processes.iter().map(|process| process.said("panicked").len()).sum();
    let mut recoveries: BTreeMap<Fault, (usize, Duration)> = BTreeMap::new();
    for (fault, took) in &scene.recoveries {
        let known = recoveries.entry(*fault).or_default();
        *known = (known.0 + 1, known.1.max(*took));
    }
    let recoveries: Vec<_> = recoveries.iter().map(|(fault, (count, took))| format!("{fault:?} {count}x {:.1}s", took.as_secs_f64())).collect();
    say(
        name,
        format!(
            "seed {seed}: {figures}; keys behind in the quiet {behind_at_once}, all right after {agree_after:?}; sampler {sampler}, panics {panics}; longest recoveries: {}",
            recoveries.join(", ")
        ),
    );
    for example in &figures.examples {
        say(name, example);
    }
    assert_eq!(acknowledged.min(1), 1);
    assert_eq!(panics, 0, "seed {seed}");
    figures.assert_good(seed);
}

fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(60, |seconds| seconds.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var(SEED).map_or_else(|_| fresh_seed() % 1_000_000, |seed| seed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_from_a_fixed_seed() {
    let lasts = Duration::from_secs(seconds() / 2);
    run(Run { name: "chaos (fixed seed)", seed: 5, lasts, faults: &Fault::ALL, pauses: (1000, 5000), strict: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_from_a_random_seed() {
    let lasts = Duration::from_secs(seconds() / 2);
    run(Run { name: "chaos (random seed)", seed: seed(), lasts, faults: &Fault::ALL, pauses: (1000, 5000), strict: false }).await;
}
