//! How much the tier holds, and what it says about it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nworkflow_state::cache::{Entry, Key, Wanted};
use nworkflow_state::domain::commit::Resource;
use nworkflow_state::domain::id::{TenantId, VariableName};
use nworkflow_state::domain::variable::{Scope, VariableKey};

use super::{Random, change, fill, key, live, tier, version};

fn variable(name: &str) -> Key {
    let key = VariableKey { scope: Scope::Global, name: VariableName::parse(name).unwrap() };
    Key::new(TenantId::parse("acme").unwrap(), Resource::Variable(key))
}

#[test]
fn random_entries_never_take_more_than_the_capacity_and_the_figures_add_up() {
    let (tier, clock) = tier();
    let mut random = Random(5);
    let keys: Vec<Key> =
        (0..400).map(|number| if number % 2 == 0 { variable(&format!("v{number}")) } else { key(&format!("e{number}")) }).collect();
    let mut versions: HashMap<usize, i64> = HashMap::new();
    let (mut hits, mut misses, mut largest) = (0, 0, 0);
    for step in 0..30_000 {
        let index = random.below(keys.len());
        let key = &keys[index];
        match random.below(20) {
            0 => {
                let next = versions.entry(index).or_insert(0);
                *next += 1;
                tier.before_commit(&change(key, *next));
                tier.committed(&change(key, *next));
            }
            1 if random.one_in(100) => clock.advance_seconds(3),
            2 if random.one_in(500) => {
                tier.clear();
            }
            3..=8 => match tier.get(key, &Wanted::default()) {
                Some(_) => hits += 1,
                None => misses += 1,
            },
            kind => {
                let number = *versions.entry(index).or_insert(1);
                let body = Bytes::from(vec![b'x'; random.below(4_000)]);
                let entry = match (key.resource(), kind) {
                    (Resource::Variable(_), 9) => Entry::absent_variable(Some(version(number)), None),
                    (_, 9) => Entry::absent(Some(version(number))),
                    (Resource::Variable(_), _) => Entry::variable(version(number), body, None, None),
                    _ => Entry::plain(version(number), body),
                };
                fill(&tier, key, Arc::new(entry));
            }
        }
        let figures = tier.statistics();
        largest = largest.max(figures.bytes);
        assert!(figures.bytes <= figures.capacity_bytes, "step {step}: {figures:?}");
        assert!(figures.variables <= figures.entries, "step {step}: {figures:?}");
    }
    let figures = tier.statistics();
    assert!(largest > figures.capacity_bytes * 9 / 10, "the tier was never full: {largest}");
    assert!(figures.evictions > 1_000, "{figures:?}");
    assert_eq!((figures.hits, figures.misses), (hits, misses));
    assert!(hits > 100 && misses > 100);

    // Make room for what is past its time, so that everything that is left can be found.
    let found: Vec<(bool, bool)> = keys
        .iter()
        .filter_map(|key| {
            tier.get(key, &Wanted::default()).map(|entry| (matches!(key.resource(), Resource::Variable(_)), entry.body().is_some()))
        })
        .collect();
    let figures = tier.statistics();
    assert_eq!(figures.entries, found.len());
    assert_eq!(figures.variables, found.iter().filter(|(is_variable, is_there)| *is_variable && *is_there).count());
    assert!(figures.variables > 0);
    assert_eq!(tier.clear(), found.len());
    let figures = tier.statistics();
    assert_eq!((figures.entries, figures.bytes, figures.variables), (0, 0, 0));
}

#[test]
fn an_entry_counts_its_key_its_body_and_itself() {
    let (tier, _) = tier();
    assert!(fill(&tier, &key("e"), live(1)));
    let small = tier.statistics().bytes;
    assert!(small > 200, "an entry cannot be as small as {small} bytes");
    tier.clear();
    assert!(fill(&tier, &key("e"), Arc::new(Entry::plain(version(1), Bytes::from(vec![0; 1_001])))));
    assert_eq!(tier.statistics().bytes, small + 1_000);
    tier.clear();
    assert!(fill(&tier, &key(&"e".repeat(101)), live(1)));
    assert_eq!(tier.statistics().bytes, small + 100);
}

#[test]
fn what_is_too_large_is_not_kept_and_does_not_leave_the_earlier_one() {
    let (tier, _) = tier();
    let key = key("e");
    let with = |number, bytes| Arc::new(Entry::plain(version(number), Bytes::from(vec![0; bytes])));
    assert!(fill(&tier, &key, with(1, 50_000)));
    assert!(!fill(&tier, &key, with(2, 64 * 1024)));
    assert!(tier.get(&key, &Wanted::default()).is_none());
    assert_eq!(tier.statistics().entries, 0);
    // The largest that is taken is kept and found, in every place: nothing is evicted at once.
    let largest = (1..64 * 1024).rev().find(|bytes| fill(&tier, &key, with(3, *bytes))).unwrap();
    assert!(largest > 60_000, "{largest}");
    assert!(tier.get(&key, &Wanted::default()).is_some());
    assert_eq!(tier.statistics().evictions, 0);
}
