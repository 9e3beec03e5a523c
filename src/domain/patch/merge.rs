//! JSON Merge Patch (RFC 7396), written from the bytes of document and patch without a tree of either.
//!
//! Where both have an object, the patch's members are indexed by eight bytes each while the document's are gone through. What the document
//! does not have is copied in one pass that leaves out members that are `null`.

use std::hash::{BuildHasher as _, RandomState};

use super::PatchFault;
use super::work::{Spent, Work};
use crate::domain::document::{self, Kind};

/// Applies a merge patch; the result has at most `limit` bytes.
pub(super) fn apply(target: &str, patch: &str, limit: usize, work: &mut Work) -> Result<String, PatchFault> {
    let steps = work.limit();
    // The result is no longer than both, and pages that stay unwritten take no memory.
    let text = String::with_capacity(limit.min(target.len().saturating_add(patch.len())));
    let mut merge = Merge { text, limit, work, hashes: RandomState::new() };
    merge.value(Some(target), patch).map_err(|refusal| match refusal {
        Refusal::Spent => PatchFault::TooCostly { limit: steps },
        Refusal::TooLarge => PatchFault::TooLarge { limit },
    })?;
    let mut text = merge.text;
    text.shrink_to_fit();
    Ok(text)
}

enum Refusal {
    Spent,
    TooLarge,
}

impl From<Spent> for Refusal {
    fn from(_: Spent) -> Self {
        Self::Spent
    }
}

/// The result as far as it is written.
struct Merge<'w> {
    text: String,
    limit: usize,
    work: &'w mut Work,
    /// Keyed by chance, so that nobody can choose names whose hashes are equal.
    hashes: RandomState,
}

impl Merge<'_> {
    fn push(&mut self, text: &str) -> Result<(), Refusal> {
        if self.text.len().saturating_add(text.len()) > self.limit {
            return Err(Refusal::TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    /// A member's name as it was written, with what stands before and behind it.
    fn name(&mut self, raw: &str, is_first: &mut bool) -> Result<(), Refusal> {
        if !std::mem::replace(is_first, false) {
            self.push(",")?;
        }
        self.push(raw)?;
        self.push(":")
    }

    fn value(&mut self, target: Option<&str>, patch: &str) -> Result<(), Refusal> {
        if document::kind(patch) != Kind::Object {
            return self.push(patch);
        }
        match target.filter(|target| document::kind(target) == Kind::Object) {
            Some(target) => self.objects(target, patch),
            None => {
                self.work.read(patch.len())?;
                self.fresh(patch, 0).map(drop)
            }
        }
    }

    fn objects(&mut self, target: &str, patch: &str) -> Result<(), Refusal> {
        self.work.read(target.len())?;
        self.work.read(patch.len())?;
        let mut index = Index::read(patch, &self.hashes, self.work)?;
        let mut is_first = true;
        self.push("{")?;
        for (raw, value) in document::raw_members(target) {
            self.work.steps(1)?;
            match index.take(raw, &self.hashes) {
                None => {
                    self.name(raw, &mut is_first)?;
                    self.push(value)?;
                }
                Some(change) if document::kind(change) == Kind::Null => {}
                Some(change) => {
                    self.name(raw, &mut is_first)?;
                    self.value(Some(value), change)?;
                }
            }
        }
        for start in index.rest() {
            let Some((raw, value)) = member(patch, start) else { continue };
            if document::kind(value) != Kind::Null {
                self.name(raw, &mut is_first)?;
                self.value(None, value)?;
            }
        }
        self.push("}")
    }

    /// The object of the patch that begins at `start`, which the document does not have. Answers its end.
    fn fresh(&mut self, patch: &str, start: usize) -> Result<usize, Refusal> {
        let bytes = patch.as_bytes();
        let mut is_first = true;
        let mut position = document::next_value(bytes, start + 1);
        self.push("{")?;
        while let Some(b'"') = bytes.get(position) {
            let name_end = document::end_of_value(bytes, position);
            let raw = patch.get(position..name_end).unwrap_or_default();
            let value = document::next_value(bytes, name_end);
            let end = match bytes.get(value) {
                Some(b'n') => document::end_of_value(bytes, value),
                Some(b'{') => {
                    self.name(raw, &mut is_first)?;
                    self.fresh(patch, value)?
                }
                _ => {
                    let end = document::end_of_value(bytes, value);
                    self.name(raw, &mut is_first)?;
                    self.push(patch.get(value..end).unwrap_or_default())?;
                    end
                }
            };
            position = document::next_value(bytes, end);
        }
        self.push("}")?;
        Ok(position + 1)
    }
}

/// The name and the value of the member that begins at `start`.
fn member(object: &str, start: usize) -> Option<(&str, &str)> {
    let bytes = object.as_bytes();
    let name_end = document::end_of_value(bytes, start);
    let value = document::next_value(bytes, name_end);
    Some((object.get(start..name_end)?, object.get(value..document::end_of_value(bytes, value))?))
}

/// Where an object's members begin, by the hashes of their names.
struct Index<'a> {
    object: &'a str,
    /// Hash and offset, in the order of the hashes.
    members: Vec<(u32, u32)>,
}

/// The offset of a member that was taken. No body is so long.
const TAKEN: u32 = u32::MAX;

fn hash(raw: &str, hashes: &RandomState) -> u32 {
    // Half of a good hash is one.
    u32::try_from(hashes.hash_one(document::unescape(raw)) >> 32).unwrap_or_default()
}

impl<'a> Index<'a> {
    fn read(object: &'a str, hashes: &RandomState, work: &mut Work) -> Result<Self, Spent> {
        let bytes = object.as_bytes();
        // Counted before, so that there is never more than what is needed.
        let count = document::raw_members(object).count();
        work.steps(count)?;
        let mut members = Vec::with_capacity(count);
        let mut position = document::next_value(bytes, 1);
        while let Some(b'"') = bytes.get(position) {
            let name_end = document::end_of_value(bytes, position);
            let start = u32::try_from(position).map_err(|_| Spent)?;
            members.push((hash(object.get(position..name_end).unwrap_or_default(), hashes), start));
            let value = document::next_value(bytes, name_end);
            position = document::next_value(bytes, document::end_of_value(bytes, value));
        }
        members.sort_unstable();
        Ok(Self { object, members })
    }

    /// The value of the member of this name, once.
    fn take(&mut self, raw: &str, hashes: &RandomState) -> Option<&'a str> {
        if self.members.is_empty() {
            return None;
        }
        let wanted = hash(raw, hashes);
        let first = self.members.partition_point(|(hash, _)| *hash < wanted);
        let equal = self.members.iter_mut().skip(first).take_while(|(hash, _)| *hash == wanted);
        for (_, start) in equal.filter(|(_, start)| *start != TAKEN) {
            if let Some((name, value)) = member(self.object, *start as usize)
                && (name == raw || document::unescape(name) == document::unescape(raw))
            {
                *start = TAKEN;
                return Some(value);
            }
        }
        None
    }

    /// Where those begin that were not taken, in the object's order.
    fn rest(mut self) -> impl Iterator<Item = usize> {
        self.members.retain(|(_, start)| *start != TAKEN);
        self.members.sort_unstable_by_key(|(_, start)| *start);
        self.members.into_iter().map(|(_, start)| start as usize)
    }
}
