//! Time: a point in time as it is stored and shown, and where it comes from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, the resolution of the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_microseconds(microseconds: i64) -> Self {
        Self(microseconds)
    }

    /// Reads RFC 3339; digits beyond microseconds are cut off. The last days of the year 9999 are one moment, which is always to come.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // The library reads more than RFC 3339, such as times with a zone in brackets.
        let plain = text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+TZtz ".contains(&byte));
        // The library would take the second 60 for the 59th.
        if !plain || Self::names_leap_second(text) {
            return None;
        }
        let time = text.parse::<jiff::Timestamp>().ok().or_else(|| is_in_last_days(text).then_some(jiff::Timestamp::MAX));
        // A whole second: parts of the last one can be read and not shown.
        time.map(|time| Self(time.as_microsecond().min(jiff::Timestamp::MAX.as_second() * 1_000_000)))
    }

    /// Whether the text is a time of day with the second 60. RFC 3339 has such times; clocks do not.
    #[must_use]
    pub fn names_leap_second(text: &str) -> bool {
        let time = text.get(10..).and_then(|rest| rest.strip_prefix(['T', 't', ' ']));
        let time = time.or_else(|| text.get(8..).and_then(|rest| rest.strip_prefix(['T', 't', ' '])));
        time.is_some_and(|time| time.bytes().filter(u8::is_ascii_digit).skip(4).take(2).eq(*b"60"))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_microseconds(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment moved by a number of seconds; stays at the ends of the range.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The beginning of this moment's hour, UTC.
    #[must_use]
    pub const fn hour(self) -> Self {
        Self(self.0 - self.0.rem_euclid(3_600_000_000))
    }
}

/// Whether the text is a time of the last days that RFC 3339 can write, which the library no longer counts: it wants room for every
/// offset around them.
fn is_in_last_days(text: &str) -> bool {
    jiff::fmt::temporal::Pieces::parse(text).is_ok_and(|pieces| {
        pieces.date() >= jiff::civil::date(9999, 12, 30) && pieces.time().is_some() && pieces.to_numeric_offset().is_some()
    })
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, always six digits of fraction: `2026-11-22T10:15:30.123456Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The clock of this process and an offset that only tests move.
///
/// Stores take *stored* times from the database's clock (the embedded database has none but this one) and add
/// [`Clock::offset_microseconds`], so that a test can move time without waiting for it.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// A clock without an offset.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time now, offset included.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's clock is read")]
    pub fn now(&self) -> Timestamp {
        let system = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        Timestamp(system.saturating_add(self.offset_microseconds()))
    }

    /// The offset in microseconds; 0 outside tests.
    #[must_use]
    pub fn offset_microseconds(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Moves this clock and all its clones. For tests.
    pub fn advance_seconds(&self, seconds: i64) {
        self.advance_microseconds(seconds.saturating_mul(1_000_000));
    }

    /// Moves this clock and all its clones by parts of a second. For tests of what ends at an instant.
    pub fn advance_microseconds(&self, microseconds: i64) {
        self.offset.fetch_add(microseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_of_fraction() {
        assert_eq!(Timestamp::from_microseconds(1_000_000).to_string(), "1970-01-01T00:00:01.000000Z");
        assert_eq!(Timestamp::from_microseconds(1_763_806_530_123_456).to_string(), "2025-11-22T10:15:30.123456Z");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let time = Timestamp::from_microseconds(1_763_806_530_123_456);
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("2025-11-22T11:15:30.123456+01:00"), Some(time));
        // Beyond what the library counts, and within what RFC 3339 can write.
        let last = Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap();
        assert!(last > Timestamp::parse("9999-12-29T23:59:59.999999Z").unwrap() && last.to_string().starts_with("9999-12-30T"));
        for same in ["9999-12-31T23:59:59-23:59", "9999-12-30T22:00:00.5Z"] {
            assert_eq!(Timestamp::parse(same), Some(last), "{same}");
        }
        for bad in ["9999-12-31", "9999-12-31T23:59:59", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
        for bad in [
            "",
            "now",
            "2025-11-22",
            "1763806530",
            "2025-13-22T00:00:00Z",
            "2025-11-22T00:00:00Z[Europe/Berlin]",
            "2026-01-01T00:00:60Z",
            "2016-12-31t23:59:60.5z",
            "2016-12-31 23:59:60+00:00",
            "20161231T235960Z",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_hour_begins_before_its_moments() {
        let time = Timestamp::from_microseconds(-1);
        assert_eq!(time.hour().as_microseconds(), -3_600_000_000);
    }
}
