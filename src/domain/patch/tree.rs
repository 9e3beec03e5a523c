//! A document of which only the opened containers are a tree.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::domain::document::{self, Kind, quote};

/// Up to this many members are searched one by one.
const LINEAR_MEMBERS: usize = 16;

/// A value: its bytes, or a container that was opened to change it.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Raw(&'a str),
    Object(Vec<Member<'a>>),
    Array(Vec<Node<'a>>),
}

/// A member of an opened object. `raw` is its name as it was written, quotes and escapes included.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    raw: Cow<'a, str>,
    pub(super) value: Node<'a>,
}

impl<'a> Node<'a> {
    /// The members, when this is an object; opens it.
    pub(super) fn members(&mut self) -> Option<&mut Vec<Member<'a>>> {
        if let Node::Raw(raw) = *self
            && document::kind(raw) == Kind::Object
        {
            let members = document::raw_members(raw).map(|(name, value)| Member { raw: Cow::Borrowed(name), value: Node::Raw(value) });
            *self = Node::Object(members.collect());
        }
        match self {
            Node::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, when this is an array; opens it.
    pub(super) fn elements(&mut self) -> Option<&mut Vec<Node<'a>>> {
        if let Node::Raw(raw) = *self
            && document::kind(raw) == Kind::Array
        {
            *self = Node::Array(document::elements(raw).map(Node::Raw).collect());
        }
        match self {
            Node::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Bytes of the text.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Raw(raw) => raw.len(),
            Node::Object(members) => 2 + members.iter().map(|member| member.raw.len() + member.value.len() + 2).sum::<usize>(),
            Node::Array(elements) => 2 + elements.iter().map(|element| element.len() + 1).sum::<usize>(),
        }
    }

    pub(super) fn into_text(self) -> String {
        let mut text = String::with_capacity(self.len());
        self.write(&mut text);
        text
    }

    pub(super) fn write(&self, text: &mut String) {
        match self {
            Node::Raw(raw) => text.push_str(raw),
            Node::Object(members) => {
                text.push('{');
                for (index, member) in members.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    text.push_str(&member.raw);
                    text.push(':');
                    member.value.write(text);
                }
                text.push('}');
            }
            Node::Array(elements) => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    element.write(text);
                }
                text.push(']');
            }
        }
    }
}

/// The place of a member in an opened object.
pub(super) fn position(members: &[Member<'_>], name: &str) -> Option<usize> {
    members.iter().position(|member| document::unescape(&member.raw) == name)
}

/// Sets a member: in its place when it is there, else at the end.
pub(super) fn set<'a>(members: &mut Vec<Member<'a>>, name: &str, value: Node<'a>) {
    match position(members, name) {
        Some(index) => members[index].value = value,
        None => members.push(Member { raw: Cow::Owned(quote(name)), value }),
    }
}

/// Applies a merge patch.
pub(super) fn merge<'a>(target: &mut Node<'a>, patch: &'a str) {
    if document::kind(patch) != Kind::Object {
        *target = Node::Raw(patch);
        return;
    }
    if target.members().is_none() {
        *target = Node::Object(Vec::new());
    }
    let Some(members) = target.members() else { return };
    let places = Places::of(members, patch);
    // A patch names a member once: the places of the others stay what they are until the end.
    let mut removed = HashSet::new();
    for (raw, value) in document::raw_members(patch) {
        let place = places.find(members, &document::unescape(raw));
        match (place, document::kind(value)) {
            (Some(index), Kind::Null) => drop(removed.insert(index)),
            (None, Kind::Null) => {}
            (Some(index), _) => merge(&mut members[index].value, value),
            (None, _) => {
                let mut fresh = Node::Raw("null");
                merge(&mut fresh, value);
                members.push(Member { raw: Cow::Borrowed(raw), value: fresh });
            }
        }
    }
    if !removed.is_empty() {
        let mut index = 0..;
        members.retain(|_| index.next().is_none_or(|index| !removed.contains(&index)));
    }
}

/// Where the members of an object are. Patches of many members look them up: a search for each would take the product of both sizes.
enum Places {
    Search,
    Table(HashMap<String, usize>),
}

impl Places {
    fn of(members: &[Member<'_>], patch: &str) -> Self {
        if members.len() <= LINEAR_MEMBERS || document::raw_members(patch).nth(LINEAR_MEMBERS).is_none() {
            return Self::Search;
        }
        let named = members.iter().enumerate().map(|(index, member)| (document::unescape(&member.raw).into_owned(), index));
        Self::Table(named.collect())
    }

    fn find(&self, members: &[Member<'_>], name: &str) -> Option<usize> {
        match self {
            Self::Search => position(members, name),
            Self::Table(places) => places.get(name).copied(),
        }
    }
}
