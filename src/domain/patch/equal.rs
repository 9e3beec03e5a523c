//! Equality of JSON values, as RFC 6902 section 4.6 defines it for `test`: numbers by value, strings by characters, objects whatever the
//! order of their members.

use super::index::{Index, member};
use super::work::{Spent, Work};
use crate::domain::document::{self, Kind};

/// Takes steps for the members of objects, and memory for eight bytes of each meanwhile. The steps of reading both texts once are the caller's.
pub(super) fn equal(left: &str, right: &str, work: &mut Work<'_>) -> Result<bool, Spent> {
    let kind = document::kind(left);
    if kind != document::kind(right) {
        return Ok(false);
    }
    Ok(match kind {
        Kind::Null => true,
        Kind::Boolean => left == right,
        Kind::String => left == right || document::unescape(left) == document::unescape(right),
        Kind::Number => numbers_equal(left, right),
        Kind::Array => {
            let (mut left, mut right) = (document::elements(left), document::elements(right));
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return Ok(true),
                    (Some(left), Some(right)) => {
                        work.steps(1)?;
                        if !equal(left, right, work)? {
                            return Ok(false);
                        }
                    }
                    _ => return Ok(false),
                }
            }
        }
        Kind::Object => {
            let index = Index::read(right, work)?;
            let is_equal = objects_equal(left, right, &index, work);
            work.release(index.memory());
            return is_equal;
        }
    })
}

fn objects_equal(left: &str, right: &str, index: &Index, work: &mut Work<'_>) -> Result<bool, Spent> {
    let mut count = 0;
    for (name, value) in document::members(left) {
        work.steps(1)?;
        let other = index.find(right, &name, work).and_then(|(_, start)| member(right, start as usize));
        let Some((_, other)) = other else { return Ok(false) };
        if !equal(value, other, work)? {
            return Ok(false);
        }
        count += 1;
    }
    Ok(count == index.len())
}

/// Integers exactly, anything else as f64.
fn numbers_equal(left: &str, right: &str) -> bool {
    match (left.parse::<i128>(), right.parse::<i128>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if left == right),
    }
}
