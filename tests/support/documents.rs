//! Generated JSON texts: valid, and as odd as the rules allow.

use std::collections::HashSet;
use std::fmt::Write as _;

/// A small generator of pseudo-random numbers (SplitMix64), the same for the same seed everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// Whether a thing of this many per cent happens.
    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// A seed that no two runs share.
pub(crate) fn fresh_seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id())
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "0.0",
    "-0.0",
    "0e0",
    "-0E-0",
    "1",
    "-1",
    "1.0",
    "1.00",
    "1E2",
    "1e2",
    "1E+2",
    "1e-2",
    "100",
    "0.1",
    "0.10",
    "1e1",
    "10",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "1.7976931348623157e308",
    "-1.7976931348623157E+308",
    "5e-324",
    "2.2250738585072014e-308",
    "123456789012345678901234567890.5",
    "0.1234567890123456789012345678901234567890",
    "3.141592653589793238462643383279",
    "1e0000000000000000000001",
    "4.35",
    "0.30000000000000004",
    "1E-7",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "\\u0041",
    "\\u00e9",
    "é",
    "e\u{301}",
    "\\u00E9",
    "ß",
    "\u{1F980}",
    "\\ud83e\\udd80",
    "\\uD83E\\uDD80",
    "\\n",
    "\\t\\r\\b\\f",
    "\\\"",
    "\\\\",
    "\\/",
    "/",
    "\u{7f}",
    "\u{80}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{202e}abc",
    "\u{200b}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{10ffff}",
    "\\u001f",
    "\\u2028",
    "\\uffff",
    "'; DROP TABLE x; --",
    "</script>",
    "%00",
    "\\u007f",
    "null",
    "true",
    "1E2",
    "$1",
    "{}",
    "日本語",
    "👩‍👩‍👧‍👦",
    "مرحبا",
    "__proto__",
    "constructor",
    "~0~1",
    "a b",
    "\u{e000}",
];

const SPACES: &[&str] = &["", "", "", "", "", "", " ", "  ", "\n", "\t", "\r\n", " \t\r\n "];

/// Writes one JSON value of at most `depth` further levels. Nothing stands before or behind it.
pub(crate) fn value(random: &mut Random, depth: usize, into: &mut String) {
    match random.below(if depth == 0 { 6 } else { 10 }) {
        0..=2 => number(random, into),
        3 | 4 => string(random, into),
        5 => into.push_str(random.pick(&["true", "false", "null", "{}", "[]"][..if depth == 0 { 3 } else { 5 }])),
        6 => deep(random, depth, into),
        7 => array(random, depth, into),
        _ => object(random, depth, into),
    }
}

fn space(random: &mut Random, into: &mut String) {
    into.push_str(random.pick(SPACES));
}

fn number(random: &mut Random, into: &mut String) {
    match random.below(4) {
        0 | 1 => into.push_str(random.pick(NUMBERS)),
        2 => write!(into, "{}", random.next()).unwrap(),
        _ => {
            let (whole, fraction) = (random.next() % 1_000_000, random.next());
            let exponent = i32::try_from(random.below(600)).unwrap() - 300;
            write!(into, "{}{whole}.{fraction:020}{}{exponent}", random.pick(&["", "-"]), random.pick(&["e", "E"])).unwrap();
        }
    }
}

fn string(random: &mut Random, into: &mut String) {
    into.push('"');
    into.push_str(&content(random));
    into.push('"');
}

/// What stands between the quotes of a string.
fn content(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        if random.percent(70) {
            text.push_str(random.pick(TEXTS));
            continue;
        }
        // Any character at all, as itself or escaped.
        let any = char::from_u32(u32::try_from(random.below(0x0011_0000)).unwrap()).filter(|any| *any >= ' ' && !matches!(any, '"' | '\\'));
        let any = any.unwrap_or('x');
        if random.percent(50) {
            text.push(any);
        } else {
            let mut units = [0; 2];
            for unit in any.encode_utf16(&mut units) {
                if random.percent(50) { write!(text, "\\u{unit:04x}") } else { write!(text, "\\u{unit:04X}") }.unwrap();
            }
        }
    }
    text
}

fn array(random: &mut Random, depth: usize, into: &mut String) {
    into.push('[');
    let elements = random.below(5);
    for element in 0..elements {
        space(random, into);
        value(random, depth - 1, into);
        space(random, into);
        if element + 1 < elements {
            into.push(',');
        }
    }
    if elements == 0 {
        space(random, into);
    }
    into.push(']');
}

fn object(random: &mut Random, depth: usize, into: &mut String) {
    into.push('{');
    let mut names = HashSet::new();
    space(random, into);
    for _ in 0..random.below(5) {
        let name = format!("\"{}\"", content(random));
        // The same name in other escapes would be the same member.
        if !names.insert(serde_json::from_str::<String>(&name).unwrap()) {
            continue;
        }
        if names.len() > 1 {
            into.push(',');
            space(random, into);
        }
        into.push_str(&name);
        space(random, into);
        into.push(':');
        space(random, into);
        value(random, depth - 1, into);
        space(random, into);
    }
    into.push('}');
}

/// As deep as it goes, now and then.
fn deep(random: &mut Random, depth: usize, into: &mut String) {
    let levels = if random.percent(20) { depth } else { 1 + random.below(depth.min(4)) };
    let mut ends = Vec::new();
    for _ in 0..levels {
        let (begin, end) = if random.percent(50) { ("[", "]") } else { ("{\"\":", "}") };
        into.push_str(begin);
        space(random, into);
        ends.push(end);
    }
    number(random, into);
    ends.iter().rev().for_each(|end| into.push_str(end));
}
