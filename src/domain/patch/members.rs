//! The members of an object that was opened to change it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::tree::Node;
use super::work::{Spent, Work};
use crate::domain::document::{self, quote};

/// Up to this many members are searched one by one.
const LINEAR_MEMBERS: usize = 16;
/// So many searches are made one by one before a table is.
const LINEAR_SEARCHES: u8 = 4;

/// A member. `raw` is its name as it was written, quotes and escapes included.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub(super) raw: Cow<'a, str>,
    pub(super) value: Node<'a>,
}

/// Members in their order. One that was removed leaves its place, so that the others keep theirs.
#[derive(Debug, Clone, Default)]
pub(super) struct Members<'a> {
    places: Vec<Option<Member<'a>>>,
    searches: u8,
    /// Where the members are, by name, once there were some searches among many members.
    table: Option<HashMap<Cow<'a, str>, usize>>,
}

fn name<'a>(raw: &Cow<'a, str>) -> Cow<'a, str> {
    match raw {
        Cow::Borrowed(raw) => document::unescape(raw),
        Cow::Owned(raw) => Cow::Owned(document::unescape(raw).into_owned()),
    }
}

impl<'a> Members<'a> {
    /// Those of an object's text.
    pub(super) fn read(object: &'a str) -> Self {
        let members = document::raw_members(object).map(|(name, value)| Some(Member { raw: Cow::Borrowed(name), value: Node::Raw(value) }));
        Self { places: members.collect(), ..Self::default() }
    }

    /// Those that are there.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<'a>> {
        self.places.iter().flatten()
    }

    /// Places, those of removed members included.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// The place of a member.
    pub(super) fn find(&mut self, wanted: &str, work: &mut Work) -> Result<Option<usize>, Spent> {
        if self.table.is_none() && self.places.len() > LINEAR_MEMBERS {
            self.searches = self.searches.saturating_add(1);
            if self.searches > LINEAR_SEARCHES {
                work.steps(self.places.len())?;
                let named = self.places.iter().enumerate().filter_map(|(place, member)| Some((name(&member.as_ref()?.raw), place)));
                self.table = Some(named.collect());
            }
        }
        if let Some(table) = &self.table {
            work.steps(1)?;
            return Ok(table.get(wanted).copied());
        }
        work.steps(self.places.len())?;
        let is_it = |member: &Option<Member<'a>>| member.as_ref().is_some_and(|member| document::unescape(&member.raw) == wanted);
        Ok(self.places.iter().position(is_it))
    }

    /// The value of the member at this place.
    pub(super) fn value(&mut self, place: usize) -> Option<&mut Node<'a>> {
        self.places.get_mut(place)?.as_mut().map(|member| &mut member.value)
    }

    /// Sets a member: in its place when it is there, else at the end. Answers the value that it had.
    pub(super) fn set(&mut self, wanted: &str, value: Node<'a>, work: &mut Work) -> Result<Option<Node<'a>>, Spent> {
        match self.find(wanted, work)?.and_then(|place| self.value(place)) {
            Some(found) => Ok(Some(std::mem::replace(found, value))),
            None => {
                self.push(Cow::Owned(quote(wanted)), value);
                Ok(None)
            }
        }
    }

    /// Adds a member that is not there.
    pub(super) fn push(&mut self, raw: Cow<'a, str>, value: Node<'a>) {
        if let Some(table) = &mut self.table {
            table.insert(name(&raw), self.places.len());
        }
        self.places.push(Some(Member { raw, value }));
    }

    /// Removes the member at this place.
    pub(super) fn remove(&mut self, place: usize) -> Option<Node<'a>> {
        let member = self.places.get_mut(place)?.take()?;
        if let Some(table) = &mut self.table {
            table.remove(&name(&member.raw));
        }
        Some(member.value)
    }
}
