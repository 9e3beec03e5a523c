//! Versions of a key and the preconditions that a write puts on them.

use std::fmt;

/// The version of one key: 1 ... 2^53-1, and only ever growing, also over delete and re-creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i64);

impl Version {
    /// The greatest version, 2^53-1: every JSON reader holds it exactly.
    pub const MAX: i64 = (1 << 53) - 1;

    /// The first version. It also stands for that of an answer which has none, because nothing was changed.
    pub const FIRST: Self = Self(1);

    /// A version, when the number is in range.
    #[must_use]
    pub const fn new(number: i64) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a write expects of the key's present version. The store evaluates it under the row's lock, never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// No condition.
    #[default]
    Any,
    /// The key must not exist (`If-None-Match: *`).
    Absent,
    /// The key must exist (`If-Match: *`).
    Present,
    /// The key must exist at this version (`If-Match: "5"`).
    Exactly(Version),
}

impl Expected {
    /// The condition as the write statements carry it: NULL any, 0 absent, -1 present, else the version.
    #[must_use]
    pub const fn encode(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Absent => Some(0),
            Self::Present => Some(-1),
            Self::Exactly(version) => Some(version.get()),
        }
    }

    /// Whether a key whose live version is `current` (`None`: absent) meets the condition.
    #[must_use]
    pub fn is_met_by(self, current: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Exactly(version) => current == Some(version),
        }
    }
}

/// Versions that a precondition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever version there is.
    Any,
    /// These versions.
    Versions(Vec<Version>),
}

impl Tags {
    fn holds(&self, current: Option<Version>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Versions(versions), Some(current)) => versions.contains(&current),
        }
    }
}

/// The preconditions of a request (RFC 9110 section 13), which compare version numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// `If-Match`: the resource must have one of these.
    pub if_match: Option<Tags>,
    /// `If-None-Match`: the resource must have none of these.
    pub if_none_match: Option<Tags>,
}

impl Precondition {
    /// Whether a resource whose live version is `current` (`None`: absent) meets the preconditions.
    #[must_use]
    pub fn is_met_by(&self, current: Option<Version>) -> bool {
        self.if_match.as_ref().is_none_or(|tags| tags.holds(current)) && self.if_none_match.as_ref().is_none_or(|tags| !tags.holds(current))
    }

    /// The same condition as the stores evaluate it, when it can be said so: no condition, one version, or one `*`. A list of versions
    /// and `If-None-Match` with a version need a compare-and-set.
    #[must_use]
    pub fn as_expected(&self) -> Option<Expected> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Some(Expected::Any),
            (Some(Tags::Any), None) => Some(Expected::Present),
            (Some(Tags::Versions(versions)), None) if versions.len() == 1 => versions.first().copied().map(Expected::Exactly),
            (None, Some(Tags::Any)) => Some(Expected::Absent),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stay_exact_in_json() {
        assert_eq!(Version::new(0), None);
        assert_eq!(Version::new(Version::MAX).map(Version::get), Some(9_007_199_254_740_991));
        assert_eq!(Version::new(Version::MAX + 1), None);
    }

    #[test]
    fn an_absent_key_meets_no_version() {
        let five = Version::new(5);
        assert!(!Expected::Exactly(five.unwrap_or(Version(1))).is_met_by(None));
        assert!(Expected::Absent.is_met_by(None) && !Expected::Absent.is_met_by(five));
        assert!(Expected::Present.is_met_by(five) && !Expected::Present.is_met_by(None));
    }

    #[test]
    fn a_list_of_tags_holds_when_one_does() {
        let [one, two] = [1, 2].map(|number| Version::new(number).unwrap());
        let list = Precondition { if_match: Some(Tags::Versions(vec![one, two])), if_none_match: None };
        assert!(list.is_met_by(Some(two)) && !list.is_met_by(None) && list.as_expected().is_none());
        let not_two = Precondition { if_match: None, if_none_match: Some(Tags::Versions(vec![two])) };
        assert!(not_two.is_met_by(None) && not_two.is_met_by(Some(one)) && !not_two.is_met_by(Some(two)));
        let create = Precondition { if_match: None, if_none_match: Some(Tags::Any) };
        assert_eq!(create.as_expected(), Some(Expected::Absent));
    }
}
