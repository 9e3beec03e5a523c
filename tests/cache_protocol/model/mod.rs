//! An explicit-state model check of the protocol by which two cache tiers and a database agree on one key: every order of the steps of readers,
//! writers, the invalidation channel and the faults is tried. A bad state is one in which all is quiet and a tier is older than the database, or
//! a reader answered less than its own server had acknowledged before.
//!
//! The numbers of states are those that a second model, written in another language, found: a change of this one shows. The largest case is searched
//! for the whole protocol alone, unless `NWORKFLOW_TEST_MODEL` is `full`: what it catches, a smaller one does too.

mod search;
mod state;
mod steps;

use std::time::Instant;

use self::search::{Found, search};
use self::state::{Channel, Faults, Reader, ReaderAt, Slot, State, Version, Writer, WriterAt};
use self::steps::{Cast, Ingredients, Model};
use super::figure;

const SET: &str = "NWORKFLOW_TEST_MODEL";
/// More states than this take seconds without optimisation.
const SMALL: usize = 400_000;

/// Who takes part and what goes wrong.
struct Case {
    name: &'static str,
    cast: Cast,
    faults: Faults,
}

const fn case(name: &'static str, cast: [usize; 3], faults: [u8; 5]) -> Case {
    let [readers, local_writers, remote_writers] = cast;
    let [evictions, crashes, late_puts, lost_messages, local_evictions] = faults;
    let cast = Cast { readers, local_writers, remote_writers };
    Case { name, cast, faults: Faults { evictions, crashes, late_puts, lost_messages, local_evictions } }
}

const CASES: [Case; 9] = [
    case("no fault, two servers write", [2, 0, 2], [0, 0, 0, 0, 0]),
    case("no fault, both write here and there", [2, 1, 1], [0, 0, 0, 0, 0]),
    case("eviction, late put", [1, 1, 1], [1, 0, 1, 0, 1]),
    case("two evictions, two late puts", [1, 0, 2], [2, 0, 2, 0, 0]),
    case("crash, late put", [1, 1, 1], [0, 1, 1, 0, 1]),
    case("crash, late put, two readers", [2, 0, 1], [0, 1, 1, 0, 1]),
    case("lost message", [1, 1, 1], [0, 0, 0, 1, 0]),
    case("eviction and crash", [1, 0, 2], [1, 1, 0, 0, 0]),
    case("eviction, own writer, two readers", [2, 1, 0], [1, 0, 0, 0, 0]),
];

/// A protocol, and for each case how many states it has and how many of them are bad.
struct Variant {
    name: &'static str,
    ingredients: Ingredients,
    expected: [(usize, usize); CASES.len()],
}

/// When the mark is evicted and its writer dies before the put, nothing is left that knows of the write: the value is old until it expires.
const BOUNDED_BY_TTL: usize = 24;

const PROTOCOL: Variant = Variant {
    name: "the protocol",
    ingredients: Ingredients::ALL,
    expected: [
        (323_809, 0),
        (913_100, 0),
        (307_676, 0),
        (179_690, 0),
        (159_782, 0),
        (19_064, 0),
        (78_321, 0),
        (84_581, BOUNDED_BY_TTL),
        (48_077, 0),
    ],
};

const REMOVED: [Variant; 5] = [
    Variant {
        name: "without the second publish",
        ingredients: Ingredients { second_publish: false, ..Ingredients::ALL },
        expected: [
            (288_847, 0),
            (804_360, 0),
            (265_480, 0),
            (162_568, 0),
            (144_514, 0),
            (18_628, 0),
            (67_373, 34),
            (75_709, BOUNDED_BY_TTL),
            (42_392, 0),
        ],
    },
    Variant {
        name: "without the mark",
        ingredients: Ingredients { mark: false, ..Ingredients::ALL },
        expected: [(31_279, 0), (95_606, 0), (36_632, 0), (15_576, 0), (16_609, 80), (3_628, 21), (7_508, 6), (7_865, 30), (11_896, 0)],
    },
    Variant {
        name: "without the lease",
        ingredients: Ingredients { lease: false, ..Ingredients::ALL },
        expected: [
            (315_990, 82),
            (857_512, 140),
            (292_594, 242),
            (171_286, 256),
            (154_376, 168),
            (15_298, 24),
            (76_016, 34),
            (80_378, 170),
            (35_687, 27),
        ],
    },
    Variant {
        name: "without the ticket",
        ingredients: Ingredients { ticket: false, ..Ingredients::ALL },
        expected: [
            (344_351, 240),
            (1_031_311, 5_768),
            (333_846, 506),
            (184_068, 446),
            (172_159, 461),
            (20_046, 100),
            (83_372, 104),
            (86_611, 370),
            (52_769, 337),
        ],
    },
    Variant {
        name: "without the floor",
        ingredients: Ingredients { floor: false, ..Ingredients::ALL },
        expected: [
            (323_809, 0),
            (913_100, 0),
            (307_676, 0),
            (179_690, 0),
            (159_782, 0),
            (19_064, 0),
            (78_321, 0),
            (84_581, BOUNDED_BY_TTL),
            (48_293, 108),
        ],
    },
];

/// Before anything happens, with this in the tiers.
fn first(case: &Case, slot: Slot, local: Version) -> State {
    let reader = |index: usize| Reader { at: ReaderAt::Start, read: 0, clean: index < case.cast.readers, floor: 0 };
    let writers = case.cast.local_writers + case.cast.remote_writers;
    let writer = |index: usize| Writer { at: WriterAt::Update, version: 0, clean: index < writers, intact: false, put_is_late: false };
    State {
        database: 1,
        slot,
        local,
        lock: None,
        channel: Channel::default(),
        readers: [reader(0), reader(1)],
        writers: [writer(0), writer(1)],
        faults: case.faults,
    }
}

/// From empty tiers, a filled second one, and both filled.
fn check(variant: &Variant, case: &Case) -> Found {
    let begin = Instant::now();
    let model = Model { cast: case.cast, ingredients: variant.ingredients };
    let beginnings = [(Slot::Empty, 0), (Slot::Value(1), 0), (Slot::Value(1), 1)];
    let found = beginnings.into_iter().map(|(slot, local)| search(&model, &first(case, slot, local))).fold(Found::default(), Found::and);
    figure(&format!("{}, {}: {} states, {} bad, {:.2} s", variant.name, case.name, found.states, found.bad, begin.elapsed().as_secs_f64()));
    found
}

/// Searches all cases with at most so many states and compares.
fn check_all(variant: &Variant, most: usize) {
    for (case, expected) in CASES.iter().zip(variant.expected) {
        if expected.0 > most {
            figure(&format!("{}, {}: {} states, searched with {SET}=full", variant.name, case.name, expected.0));
            continue;
        }
        let found = check(variant, case);
        let trace = found.trace.unwrap_or_default();
        assert_eq!((found.states, found.bad), expected, "{}, {}: {trace:#?}", variant.name, case.name);
        assert_eq!(trace.is_empty(), found.bad == 0);
    }
}

/// Searches a protocol that lacks something, which must show in some case.
fn check_removed(index: usize) {
    let variant = &REMOVED[index];
    let is_full = std::env::var(SET).is_ok_and(|set| set == "full");
    check_all(variant, if is_full { usize::MAX } else { SMALL });
    let is_worse = |((_, bad), (_, with)): (&(usize, usize), &(usize, usize))| bad > with;
    assert!(variant.expected.iter().zip(&PROTOCOL.expected).any(is_worse));
}

#[test]
fn the_protocol_leaves_nothing_old_behind_under_any_single_fault() {
    check_all(&PROTOCOL, usize::MAX);
}

#[test]
fn a_lost_message_is_caught_without_the_second_publish() {
    check_removed(0);
}

#[test]
fn a_crash_is_caught_without_the_mark() {
    check_removed(1);
}

#[test]
fn an_old_fill_is_caught_without_the_lease() {
    check_removed(2);
}

#[test]
fn an_overtaken_read_is_caught_without_the_ticket() {
    check_removed(3);
}

#[test]
fn an_old_answer_after_an_own_write_is_caught_without_the_floor() {
    check_removed(4);
}
