//! Equality of JSON values, as RFC 6902 section 4.6 defines it for `test`: numbers by value, strings by characters, objects whatever the
//! order of their members.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::domain::document::{self, Kind};

pub(super) fn equal(left: &str, right: &str) -> bool {
    let kind = document::kind(left);
    if kind != document::kind(right) {
        return false;
    }
    match kind {
        Kind::Null => true,
        Kind::Boolean => left == right,
        Kind::String => document::unescape(left) == document::unescape(right),
        Kind::Number => numbers_equal(left, right),
        Kind::Array => {
            let (mut left, mut right) = (document::elements(left), document::elements(right));
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some(left), Some(right)) if equal(left, right) => {}
                    _ => return false,
                }
            }
        }
        Kind::Object => {
            let mut rest: HashMap<Cow<'_, str>, &str> = document::members(right).collect();
            document::members(left).all(|(name, value)| rest.remove(&name).is_some_and(|other| equal(value, other))) && rest.is_empty()
        }
    }
}

/// Integers exactly, anything else as f64.
fn numbers_equal(left: &str, right: &str) -> bool {
    match (left.parse::<i128>(), right.parse::<i128>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if left == right),
    }
}
