//! JSON Merge Patch (RFC 7396), written from the bytes of document and patch without a tree of either.
//!
//! Where both have an object, the patch's members are indexed by eight bytes each while the document's are gone through. What the document
//! does not have is copied in one pass that leaves out members that are `null`.

use super::PatchFault;
use super::index::{Index, Taken, member};
use super::work::{Spent, Work};
use crate::domain::document::{self, Kind};

/// Applies a merge patch; the result has at most `limit` bytes.
pub(super) fn apply(target: &str, patch: &str, limit: usize, work: &mut Work<'_>) -> Result<String, PatchFault> {
    let limits = work.limits();
    // The result is no longer than both, and pages that stay unwritten take no memory.
    let text = String::with_capacity(limit.min(target.len().saturating_add(patch.len())));
    let mut merge = Merge { text, limit, work };
    merge.value(Some(target), patch).map_err(|refusal| match refusal {
        Refusal::Spent(spent) => limits.fault(spent),
        Refusal::TooLarge => PatchFault::TooLarge { limit },
    })?;
    let mut text = merge.text;
    text.shrink_to_fit();
    Ok(text)
}

enum Refusal {
    Spent(Spent),
    TooLarge,
}

impl From<Spent> for Refusal {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

/// The result as far as it is written.
struct Merge<'w, 't> {
    text: String,
    limit: usize,
    work: &'w mut Work<'t>,
}

impl Merge<'_, '_> {
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
        let index = Index::read(patch, self.work)?;
        let memory = index.memory();
        let mut taken = Taken::none(index.len());
        let mut is_first = true;
        self.push("{")?;
        for (raw, value) in document::raw_members(target) {
            self.work.steps(1)?;
            let found = index.find(patch, &document::unescape(raw), self.work);
            if let Some((entry, _)) = found {
                taken.take(entry);
            }
            match found.and_then(|(_, start)| member(patch, start as usize)).map(|(_, change)| change) {
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
        for start in index.rest(&taken) {
            let Some((raw, value)) = member(patch, start) else { continue };
            if document::kind(value) != Kind::Null {
                self.name(raw, &mut is_first)?;
                self.value(None, value)?;
            }
        }
        self.work.release(memory);
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
