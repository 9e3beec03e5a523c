//! The query string, read strictly: invalid UTF-8 is an error, unknown parameters are not.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::domain::clock::Timestamp;
use crate::domain::id::{InvalidIdentifier, VariableName};
use crate::domain::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::domain::variable::MAX_BATCH_NAMES as MAX_NAMES;
use crate::domain::version::Version;
use crate::error::{Code, Error, Result};

/// The parameters of a request, in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part behind `?`.
    ///
    /// # Errors
    /// The query is not percent-encoded UTF-8.
    pub(super) fn parse(query: &str) -> Result<Self> {
        // The decoder would leave them as they are, and two readers would read two values.
        if has_broken_escape(query) {
            return Err(Error::new(Code::InvalidParameter, "A % in the query is not followed by two hexadecimal digits; % itself is %25."));
        }
        let decode = |text: &str| -> Result<String> {
            let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
            let decoded = percent_decode_str(&spaced).decode_utf8();
            decoded.map(Cow::into_owned).map_err(|_| Error::new(Code::InvalidParameter, "The query is not percent-encoded UTF-8."))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_>>()?))
    }

    /// All parameters: name and value.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a parameter.
    pub(super) fn all<'query, 'name>(&'query self, name: &'name str) -> impl Iterator<Item = &'query str> + use<'query, 'name> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The one value of a parameter.
    ///
    /// # Errors
    /// The parameter is there twice.
    pub(super) fn one<'query>(&'query self, name: &str) -> Result<Option<&'query str>> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Error::new(Code::InvalidParameter, format!("The parameter {name} is there twice.")));
        }
        Ok(first)
    }

    /// The parameter `limit`: 50 when absent, at most 1000.
    ///
    /// # Errors
    /// It is not a positive integer.
    pub(super) fn limit(&self) -> Result<usize> {
        let Some(text) = self.one("limit")? else { return Ok(DEFAULT_LIMIT) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.bytes().all(|byte| byte == b'0');
        if !digits {
            return Err(Error::new(Code::InvalidParameter, "The parameter limit must be a positive integer."));
        }
        // A number that does not even fit is above the maximum too.
        Ok(text.parse().unwrap_or(MAX_LIMIT).min(MAX_LIMIT))
    }

    /// A parameter that is a version.
    ///
    /// # Errors
    /// It is not a version.
    pub(super) fn version(&self, name: &str) -> Result<Option<Version>> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        version(text).map(Some).ok_or_else(|| {
            Error::new(Code::InvalidParameter, format!("The parameter {name} must be an integer between 1 and {}.", Version::MAX))
        })
    }
}

impl Query {
    /// A parameter that is a time (RFC 3339).
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        if Timestamp::names_leap_second(text) {
            let detail = format!("The parameter {name} names the second 60: leap seconds are not counted here, so seconds are 00 to 59.");
            return Err(Error::new(Code::InvalidParameter, detail));
        }
        let invalid =
            || Error::new(Code::InvalidParameter, format!("The parameter {name} must be a time such as 2026-11-22T10:15:30.123456Z."));
        Timestamp::parse(text).map(Some).ok_or_else(invalid)
    }

    /// A parameter that follows the grammar of an identifier.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn id<T>(&self, name: &str, parse: fn(&str) -> std::result::Result<T, InvalidIdentifier>) -> Result<Option<T>> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        parse(text).map(Some).map_err(|error| Error::new(Code::InvalidParameter, format!("The parameter {name} {error}.")))
    }

    /// The parameters `name`, at most 1000 of them.
    ///
    /// # Errors
    /// One is not a name, or there are too many.
    pub(super) fn names(&self) -> Result<Vec<VariableName>> {
        let invalid = |error: InvalidIdentifier| Error::new(Code::InvalidParameter, format!("The parameter name {error}."));
        let names: Vec<VariableName> =
            self.all("name").take(MAX_NAMES + 1).map(|name| VariableName::parse(name).map_err(invalid)).collect::<Result<_>>()?;
        if names.len() > MAX_NAMES {
            let detail = format!("The parameter name is there more than {MAX_NAMES} times.");
            return Err(Error::new(Code::InvalidParameter, detail).with_limit(MAX_NAMES as u64));
        }
        Ok(names)
    }
}

/// Whether a `%` is there without two hexadecimal digits behind it.
pub(super) fn has_broken_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|rest| !rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// A version in decimal digits.
pub(super) fn version(text: &str) -> Option<Version> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok().and_then(Version::new) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_repeated() {
        let query = Query::parse("name=a%2Fb&name=c+d&&prefix&_=1700").unwrap();
        assert_eq!(query.all("name").collect::<Vec<_>>(), ["a/b", "c d"]);
        assert_eq!(query.one("prefix").unwrap(), Some(""));
        assert!(query.one("name").is_err());
        for bad in ["a=%ff", "a=%zz", "a=%4", "a=%", "%=a", "a=%%41", "a&b=1%2", "a=%+1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Query::parse("a=100%25").unwrap().one("a").unwrap(), Some("100%"));
    }

    #[test]
    fn limits_are_clamped_not_guessed() {
        let limit = |text: &str| Query::parse(&format!("limit={text}")).unwrap().limit().ok();
        assert_eq!(Query::default().limit().ok(), Some(50));
        assert_eq!([limit("1"), limit("1000"), limit("99999999999999999999")], [Some(1), Some(1000), Some(1000)]);
        assert_eq!([limit("0"), limit("-1"), limit(""), limit("ten"), limit("1.5")], [None; 5]);
    }

    #[test]
    fn versions_are_digits() {
        assert_eq!(version("7").map(Version::get), Some(7));
        assert!(["", "0", "07", "-1", "+1", "1.0", "9007199254740992"].iter().all(|text| version(text).is_none()));
    }
}
