//! Three servers, clients that never rest, faults drawn from a seed, and one judge.

mod load;
mod oracle;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;

use self::load::{HOT, KEYS, Load};
use self::schedule::{Fault, Scene};
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

/// What happens to a scene for a while.
struct Act<'a> {
    name: &'a str,
    /// What its keys begin with.
    letter: char,
    seed: u64,
    lasts: Duration,
    faults: &'a [Fault],
    /// Shortest and longest pause between two faults, in milliseconds.
    pauses: (u64, u64),
}

/// Three servers on a database of their own. `strict`: a write that the second tier cannot be told of is refused.
async fn scene(strict: bool) -> Scene {
    let ground = Ground::over(Flavour::Redis, Database::Own(Cluster::start_new()))
        .await
        .set("dragonfly.state_ttl_ms", TIER_TTL_MS)
        .set("cache.local_ttl_ms", LOCAL_TTL_MS)
        .set("dragonfly.strict", strict);
    let processes = Process::start_all(&ground).await;
    let lives = processes.iter().map(|_| Arc::default()).collect();
    Scene { ground, processes, lives, excuses: Vec::new(), recoveries: Vec::new(), strict }
}

async fn play(scene: &mut Scene, act: Act<'_>) {
    let Act { name, letter, seed, lasts, faults, pauses } = act;
    let strict = scene.strict;
    say(name, format!("seed {seed} begins, {lasts:?}, strict {strict}"));
    let clients: Vec<_> = scene.processes.iter().map(|process| process.client.clone()).collect();
    let mut random = Random::new(seed);
    let began = Instant::now();
    (scene.excuses, scene.recoveries) = (Vec::new(), Vec::new());
    let load = Load::start(letter, seed, &clients, &scene.lives, &Lifecycle::new());
    let mut left: Vec<Fault> = Vec::new();
    while began.elapsed() < lasts {
        // Each kind once before any comes again.
        if left.is_empty() {
            left = faults.to_vec();
        }
        let fault = left.swap_remove(random.below(left.len()));
        tokio::time::sleep(Duration::from_millis(pauses.0 + random.next() % (pauses.1 - pauses.0 + 1))).await;
        scene.strike(fault, &mut random).await;
        // Now and then the next one comes before all are over this one. Nobody has to get over an empty tier.
        if fault != Fault::FlushTier && random.percent(70) {
            let over = Instant::now();
            scene.recover().await;
            scene.recoveries.push((fault, over.elapsed()));
        }
    }
    let story = load.finish().await;
    scene.recover().await;
    let log = oracle::change_log(&scene.ground.database.superuser_url(), letter).await;
    // A server that refuses what it cannot tell has no excuse.
    let excuses = if strict { &[][..] } else { &scene.excuses };
    let (figures, history) = oracle::judge(&story, log, excuses, began);

    // After quiet time every cached answer equals the database.
    let mut behind_at_once = 0;
    let quiet = Instant::now();
    for key in 0..KEYS + HOT {
        let (path, last) = (load::path(letter, key), history.last(key));
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
    let said = |text: &str| scene.processes.iter().map(|process| process.said(text).len()).sum::<usize>();
    let (sampler, panics) = (said("a cache tells what was replaced"), said("panicked"));
    let mut recoveries: BTreeMap<Fault, (usize, Duration)> = BTreeMap::new();
    for (fault, took) in &scene.recoveries {
        let known = recoveries.entry(*fault).or_default();
        *known = (known.0 + 1, known.1.max(*took));
    }
    let recoveries: Vec<_> =
        recoveries.iter().map(|(fault, (count, took))| format!("{fault:?} {count}x {:.1}s", took.as_secs_f64())).collect();
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
    assert_eq!(panics, 0, "seed {seed}");
    figures.assert_good(seed, strict);
}

fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(60, |seconds| seconds.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var(SEED).map_or_else(|_| fresh_seed() % 1_000_000, |seed| seed.parse().unwrap())
}

async fn chaos(name: &str, seed: u64, strict: bool) {
    let lasts = Duration::from_secs(seconds() / 2);
    play(&mut scene(strict).await, Act { name, letter: 'k', seed, lasts, faults: &Fault::ALL, pauses: (300, 2000) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_from_a_fixed_seed() {
    chaos("chaos (fixed seed)", 5, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_from_a_random_seed() {
    chaos("chaos (random seed)", seed(), true).await;
}

/// C8, D1, D2, D3, D6: one kind of fault at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kind_of_fault() {
    let mut scene = scene(false).await;
    let lasts = Duration::from_secs(5);
    for (name, letter, faults, pauses) in [
        ("C8 tier_flushed_every_200_ms", 'f', &[Fault::FlushTier], (200, 200)),
        ("D1 server_killed", 'g', &[Fault::KillServer], (300, 1000)),
        ("D2 postgres_crashed", 'h', &[Fault::CrashPostgres], (300, 1000)),
        ("D3 tier_killed", 'i', &[Fault::KillTier], (300, 1000)),
        ("D6 backends_terminated", 'j', &[Fault::KillBackends], (300, 1000)),
    ] {
        play(&mut scene, Act { name, letter, seed: seed(), lasts, faults, pauses }).await;
    }
}
