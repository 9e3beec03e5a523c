//! Answers held against what the model expects; a difference is told in words.

use std::fmt::Debug;

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::version::Version;
use nworkflow_state::error::{Code, Error};
use nworkflow_state::service::{Done, Representation};
use serde_json::{Value, json};

use super::operation::Guard;

/// A difference, in words.
pub(super) type Verdict<T = ()> = Result<T, String>;

pub(super) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(super) fn same<T: PartialEq + Debug>(what: &str, actual: T, expected: T) -> Verdict {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?} where the model has {expected:?}")) }
}

pub(super) fn within(what: &str, moment: Timestamp, begin: Timestamp, end: Timestamp) -> Verdict {
    if moment >= begin && moment <= end { Ok(()) } else { Err(format!("{what}: {moment}, not between {begin} and {end}")) }
}

/// A write ended as expected; what it did, when it did anything.
pub(super) fn agree<R: Debug>(actual: Result<Done<R>, Error>, expected: Result<u16, Code>) -> Verdict<Option<Done<R>>> {
    match (actual, expected) {
        (Ok(done), Ok(status)) if done.status == status && !done.replayed => Ok(Some(done)),
        (Err(error), Err(code)) if error.code == code => Ok(None),
        (actual, expected) => Err(format!("answered {actual:?} where the model says {expected:?}")),
    }
}

pub(super) fn agree_code<R: Debug>(actual: Result<R, Error>, expected: Result<(), Code>) -> Verdict<Option<R>> {
    match (actual, expected) {
        (Ok(done), Ok(())) => Ok(Some(done)),
        (Err(error), Err(code)) if error.code == code => Ok(None),
        (actual, expected) => Err(format!("answered {actual:?} where the model says {expected:?}")),
    }
}

/// What a read must give: version and one member of the body, or the code.
pub(super) fn read(what: &str, found: Result<Representation, Error>, expected: Option<(Version, &str, &Value)>, code: Code) -> Verdict {
    match (found, expected) {
        (Ok(found), Some((version, member, content))) => {
            let body: Value = serde_json::from_slice(&found.body).unwrap();
            same(&format!("{what} ({:?}), version", found.source.tier), found.version, version)?;
            same(&format!("{what}, version in the body"), &body["version"], &json!(version.get()))?;
            same(&format!("{what} ({:?}), {member}", found.source.tier), &body[member], content)
        }
        (Err(error), None) if error.code == code => Ok(()),
        (found, expected) => Err(format!("{what}: read {found:?} where the model has {expected:?}")),
    }
}

/// What a write answers that changes what is there.
pub(super) fn change(lives: bool, met: bool, absent: Code) -> Result<u16, Code> {
    match (met, lives) {
        (false, _) => Err(Code::PreconditionFailed),
        (true, false) => Err(absent),
        (true, true) => Ok(200),
    }
}

/// What a write answers that creates or replaces.
pub(super) fn replacement(lives: bool, met: bool) -> Result<u16, Code> {
    match (met, lives) {
        (false, _) => Err(Code::PreconditionFailed),
        (true, false) => Ok(201),
        (true, true) => Ok(200),
    }
}

/// What the deletion of a resource answers.
pub(super) fn deletion(lives: bool, guard: Guard, met: bool, absent: Code) -> Result<u16, Code> {
    match (lives, guard) {
        (false, Guard::None | Guard::Absent) => Err(absent),
        _ if met => Ok(204),
        _ => Err(Code::PreconditionFailed),
    }
}
