//! The marking of a Petri net: which tokens lie on which place.

use super::document::{self, Fault, FaultKind, Kind, MAX_FAULTS};
use super::id::check_name;
use super::version::Version;

/// Most coloured tokens on one place.
pub const MAX_TOKENS: usize = 10_000;

/// Checks the marking in a validated document: an object that maps each place to a count of plain tokens (an integer 0 ... 2^53-1) or
/// to an array of coloured tokens (any JSON each).
///
/// # Errors
/// The faults, at most 20, each with its pointer below `#/marking`.
pub fn check(marking: &str) -> Result<(), Vec<Fault>> {
    if document::kind(marking) != Kind::Object {
        return Err(vec![Fault::member("marking", FaultKind::InvalidType { expected: "an object of places" })]);
    }
    let faults: Vec<Fault> = document::members(marking)
        .filter_map(|(place, tokens)| {
            let kind = check_name(&place).map_err(FaultKind::InvalidName).and_then(|()| check_tokens(tokens)).err()?;
            let mut pointer = String::from("#/marking");
            document::push_segment(&mut pointer, &place);
            Some(Fault { pointer, kind })
        })
        .take(MAX_FAULTS)
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn check_tokens(tokens: &str) -> Result<(), FaultKind> {
    match document::kind(tokens) {
        Kind::Number => match tokens.parse::<i64>() {
            Ok(0..=Version::MAX) => Ok(()),
            Err(_) if tokens.contains(['.', 'e', 'E']) => Err(FaultKind::InvalidType { expected: "an integer or an array of tokens" }),
            _ => Err(FaultKind::OutOfRange { minimum: 0, maximum: Version::MAX }),
        },
        Kind::Array if document::elements(tokens).nth(MAX_TOKENS).is_some() => Err(FaultKind::TooMany { limit: MAX_TOKENS }),
        Kind::Array => Ok(()),
        _ => Err(FaultKind::InvalidType { expected: "an integer or an array of tokens" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_coloured_tokens_are_markings() {
        for good in ["{}", r#"{"p":0}"#, r#"{"p":9007199254740991,"q":[]}"#, r#"{"a/b":[1,null,{"c":"red"}]}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let full = format!(r#"{{"p":[{}0]}}"#, "0,".repeat(MAX_TOKENS - 1));
        assert_eq!(check(&full), Ok(()));
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        let first = |text: &str| check(text).unwrap_err().remove(0);
        assert_eq!(first("[]").pointer, "#/marking");
        assert_eq!(
            first(r#"{"p1":-1}"#),
            Fault { pointer: "#/marking/p1".into(), kind: FaultKind::OutOfRange { minimum: 0, maximum: Version::MAX } }
        );
        assert!(matches!(first(r#"{"p":1.5}"#).kind, FaultKind::InvalidType { .. }));
        assert!(matches!(first(r#"{"p":9007199254740992}"#).kind, FaultKind::OutOfRange { .. }));
        assert!(matches!(first(r#"{"p":18446744073709551615}"#).kind, FaultKind::OutOfRange { .. }));
        assert!(matches!(first(r#"{"p":"1"}"#).kind, FaultKind::InvalidType { .. }));
        assert!(matches!(first(r#"{"..":1}"#).kind, FaultKind::InvalidName(_)));
        assert!(matches!(first(r#"{"a\nb":1}"#).kind, FaultKind::InvalidName(_)));
        let over = format!(r#"{{"p":[{}0]}}"#, "0,".repeat(MAX_TOKENS));
        assert_eq!(first(&over).kind, FaultKind::TooMany { limit: MAX_TOKENS });
    }
}
