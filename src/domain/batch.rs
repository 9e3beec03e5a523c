//! Batches: several variables of one scope, written as one.

use std::collections::HashSet;
use std::sync::Arc;

use super::document::{self, Fault, FaultKind, Kind, Object};
use super::id::VariableName;
use super::variable::VariableRecord;
use super::version::Version;

/// Most names in one batch or filter.
pub const MAX_BATCH_NAMES: usize = 1000;

/// Why a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchFault {
    /// What is wrong with the document.
    Document(Vec<Fault>),
    /// A name is set or deleted twice: its pointer.
    DuplicateName(String),
}

/// Several variables of one scope, written as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableBatch {
    /// Names and the bytes of their new values. Descriptions and times to live of variables that exist stay.
    pub set: Vec<(VariableName, Arc<str>)>,
    /// Names to delete; those that are not there are passed over.
    pub delete: Vec<VariableName>,
    /// What is expected of versions; `None`: absent. A name need not be set or deleted.
    pub if_versions: Vec<(VariableName, Option<Version>)>,
}

impl VariableBatch {
    /// Reads a validated request body `{set?, delete?, if_versions?}`.
    ///
    /// # Errors
    /// Everything that is wrong with it, or the first name that is there twice.
    pub fn parse(body: &str) -> Result<Self, BatchFault> {
        let document = |fault| BatchFault::Document(vec![fault]);
        let mut object = Object::read(body).map_err(document)?;
        let (mut batch, mut faults) = (Self::default(), Vec::new());
        if let Some(set) = object.take("set") {
            read_names(set, "set", &mut faults, |name, value| {
                batch.set.push((name, value.into()));
                Ok(())
            });
        }
        if let Some(versions) = object.take("if_versions") {
            read_names(versions, "if_versions", &mut faults, |name, value| {
                batch.if_versions.push((name, parse_expected(value)?));
                Ok(())
            });
        }
        if let Some(delete) = object.take("delete") {
            if document::kind(delete) == Kind::Array {
                for (index, raw) in document::elements(delete).enumerate() {
                    let name = document::text(raw, usize::MAX).and_then(|name| VariableName::parse(&name).map_err(FaultKind::InvalidName));
                    match name {
                        Ok(name) => batch.delete.push(name),
                        Err(kind) => faults.push(Fault { pointer: format!("#/delete/{index}"), kind }),
                    }
                }
            } else {
                faults.push(Fault::member("delete", FaultKind::InvalidType { expected: "an array of names" }));
            }
        }
        faults.extend(object.unknown());
        faults.extend(batch.too_many());
        if !faults.is_empty() {
            return Err(BatchFault::Document(faults));
        }
        let mut seen: HashSet<&VariableName> = batch.set.iter().map(|(name, _)| name).collect();
        match batch.delete.iter().position(|name| !seen.insert(name)) {
            Some(index) => Err(BatchFault::DuplicateName(format!("#/delete/{index}"))),
            None => Ok(batch),
        }
    }

    /// The parts that have more names than a batch may have, or the whole when it is all of them together.
    fn too_many(&self) -> Vec<Fault> {
        let kind = FaultKind::TooMany { limit: MAX_BATCH_NAMES };
        let parts = [("set", self.set.len()), ("delete", self.delete.len()), ("if_versions", self.if_versions.len())];
        let long: Vec<Fault> =
            parts.iter().filter(|(_, count)| *count > MAX_BATCH_NAMES).map(|(part, _)| Fault::member(part, kind.clone())).collect();
        let names = self.set.iter().map(|(name, _)| name).chain(&self.delete).chain(self.if_versions.iter().map(|(name, _)| name));
        if long.is_empty() && names.collect::<HashSet<_>>().len() > MAX_BATCH_NAMES {
            return vec![Fault { pointer: "#".into(), kind }];
        }
        long
    }
}

/// Reads an object whose members are variables' names.
fn read_names(object: &str, member: &str, faults: &mut Vec<Fault>, mut read: impl FnMut(VariableName, &str) -> Result<(), FaultKind>) {
    if document::kind(object) != Kind::Object {
        faults.push(Fault::member(member, FaultKind::InvalidType { expected: "an object of names" }));
        return;
    }
    for (name, value) in document::members(object) {
        let done = VariableName::parse(&name).map_err(FaultKind::InvalidName).and_then(|parsed| read(parsed, value));
        if let Err(kind) = done {
            faults.push(Fault::member(&name, kind).below(member));
        }
    }
}

/// A version, or 0 for none.
fn parse_expected(raw: &str) -> Result<Option<Version>, FaultKind> {
    if document::kind(raw) != Kind::Number || raw.contains(['.', 'e', 'E']) {
        return Err(FaultKind::InvalidType { expected: "an integer" });
    }
    match raw.parse::<i64>() {
        Ok(0) => Ok(None),
        Ok(number) => Version::new(number).map(Some).ok_or(FaultKind::OutOfRange { minimum: 0, maximum: Version::MAX }),
        Err(_) => Err(FaultKind::OutOfRange { minimum: 0, maximum: Version::MAX }),
    }
}

/// What a batch wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchRecord {
    /// The variables that were set, in the order of the request.
    pub set: Vec<VariableRecord>,
    /// The names that were there and were deleted, in the order of the request.
    pub deleted: Vec<VariableName>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All of it was written.
    Applied(BatchRecord),
    /// These names have other versions than expected (with the versions that they have); nothing was written.
    Refused(Vec<(VariableName, Option<Version>)>),
    /// The stored answer of an equal request.
    Replayed(BatchRecord),
    /// The idempotency key was used by another request.
    KeyReused,
}
