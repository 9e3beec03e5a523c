//! What the second tier holds under a key: one text, told apart by its first byte.
//!
//! | slot | meaning |
//! |---|---|
//! | `V` version live payload | an entry; `live` is `1`, or `0` for the knowledge that there is nothing |
//! | `M` version | a writer has this version uncommitted or has just committed it: ask the store, keep nothing |
//! | `L` token | one reader is loading: its fill is accepted while this very lease is here |
//!
//! Versions are 20 digits, so that texts compare as numbers do: Lua 5.1 has no integers beyond 2^53.

use crate::domain::version::Version;

/// Digits of a version.
const DIGITS: usize = 20;

/// What is under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing.
    Empty,
    /// An entry, or the knowledge that there is none.
    Value {
        /// The version; `None` when there is no trace of the key.
        version: Option<Version>,
        /// Whether the resource is there.
        live: bool,
        /// Behind the head.
        payload: Vec<u8>,
    },
    /// A write is at work.
    Marker,
    /// A reader is loading.
    Lease,
    /// Nothing that this program writes.
    Foreign,
}

/// A version in 20 digits; zeros for none.
pub(super) fn digits(version: Option<Version>) -> String {
    format!("{:0width$}", version.map_or(0, Version::get), width = DIGITS)
}

impl Slot {
    /// Reads a slot.
    pub(super) fn read(mut bytes: Vec<u8>) -> Self {
        match bytes.first() {
            Some(b'M') => Self::Marker,
            Some(b'L') => Self::Lease,
            Some(b'V') => {
                let head = bytes.get(1..=DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
                let number = head.filter(|head| head.bytes().all(|byte| byte.is_ascii_digit())).and_then(|head| head.parse::<i64>().ok());
                let live = match bytes.get(DIGITS + 1) {
                    Some(b'1') => true,
                    Some(b'0') => false,
                    _ => return Self::Foreign,
                };
                let version = match number {
                    Some(0) => None,
                    Some(number) => match Version::new(number) {
                        Some(version) => Some(version),
                        None => return Self::Foreign,
                    },
                    None => return Self::Foreign,
                };
                bytes.drain(..DIGITS + 2);
                Self::Value { version, live, payload: bytes }
            }
            _ => Self::Foreign,
        }
    }

    /// Writes an entry's slot.
    pub(super) fn value(version: Option<Version>, live: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DIGITS + 2 + payload.len());
        bytes.push(b'V');
        bytes.extend_from_slice(digits(version).as_bytes());
        bytes.push(if live { b'1' } else { b'0' });
        bytes.extend_from_slice(payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_as_it_was_written() {
        for (number, live) in [(0, false), (1, true), (9_007_199_254_740_993, true), (Version::MAX, false)] {
            let version = Version::new(number);
            let slot = Slot::value(version, live, b"payload");
            assert_eq!(Slot::read(slot), Slot::Value { version, live, payload: b"payload".to_vec() });
        }
        assert_eq!(Slot::read(b"M00000000000000000001".to_vec()), Slot::Marker);
        assert_eq!(Slot::read(b"Labc".to_vec()), Slot::Lease);
    }

    #[test]
    fn what_others_wrote_is_foreign() {
        let good = Slot::value(Version::new(7), true, b"x");
        for cut in 1..22 {
            assert_eq!(Slot::read(good[..cut].to_vec()), Slot::Foreign, "{cut}");
        }
        for text in ["", "x", "V", "V0000000000000000000x1", "V000000000000000000012", "V99999999999999999999 1", "V-00000000000000000011"]
        {
            assert_eq!(Slot::read(text.into()), Slot::Foreign, "{text}");
        }
    }
}
