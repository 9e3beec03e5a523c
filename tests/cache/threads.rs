//! The tier under threads that run at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};

use nworkflow_state::cache::{Key, LocalTier, Wanted};
use nworkflow_state::domain::version::Version;

use super::{change, key, live, tier};

const STEPS: usize = 50_000;

/// What is stored, and what was acknowledged.
#[derive(Default)]
struct Stored {
    version: AtomicI64,
    acknowledged: AtomicI64,
}

fn read(tier: &LocalTier, key: &Key, stored: &Stored) {
    let acknowledged = stored.acknowledged.load(Ordering::SeqCst);
    let read = match tier.get(key, &Wanted::default()) {
        Some(entry) => entry.version().map_or(0, Version::get),
        None => {
            let ticket = tier.ticket(key);
            let version = stored.version.load(Ordering::SeqCst);
            if version > 0 {
                tier.insert(key, ticket, live(version));
            }
            version
        }
    };
    assert!(read >= acknowledged, "read {read} after {acknowledged} was acknowledged");
}

fn write(tier: &LocalTier, key: &Key, stored: &Stored, number: i64) {
    tier.before_commit(&change(key, number));
    stored.version.store(number, Ordering::SeqCst);
    tier.committed(&change(key, number));
    stored.acknowledged.store(number, Ordering::SeqCst);
    if number % 2 == 0 {
        tier.insert_written(key, live(number));
    }
}

#[test]
fn no_reader_is_behind_an_acknowledged_write() {
    let (tier, _) = tier();
    let (key, stored, start) = (key("e"), Stored::default(), Barrier::new(4));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for number in 1..=i64::try_from(STEPS).unwrap() {
                write(&tier, &key, &stored, number);
                // Let the readers keep something now and then.
                if number % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        for clears in [false, false, true] {
            let (tier, key, stored, start) = (&tier, &key, &stored, &start);
            scope.spawn(move || {
                start.wait();
                for step in 0..STEPS {
                    read(tier, key, stored);
                    if clears && step % 1_000 == 0 {
                        tier.clear();
                    }
                }
            });
        }
    });
    let figures = tier.statistics();
    assert_eq!(figures.hits + figures.misses, 3 * STEPS as u64);
    assert!(figures.entries <= 1);
}
