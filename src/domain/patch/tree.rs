//! A document of which only the opened containers are a tree.

use std::borrow::Cow;

use super::elements::Elements;
use super::members::Members;
use super::work::{Spent, Work};
use crate::domain::document::{self, Kind};

/// A value: its bytes, or a container that was opened to change it.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Raw(&'a str),
    Object(Box<Members<'a>>),
    Array(Box<Elements<'a>>),
}

/// What a value is when it is opened.
pub(super) enum Opened<'n, 'a> {
    Object(&'n mut Members<'a>),
    Array(&'n mut Elements<'a>),
    /// Neither: it has no parts.
    Scalar,
}

/// How large a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of its text.
    pub(super) bytes: usize,
    /// Levels of containers that were opened: what recursion goes through.
    pub(super) height: usize,
    /// Bytes of memory that a copy of it takes, at most.
    pub(super) memory: usize,
    /// Bytes of memory that are its own beside that: what copies of it share.
    pub(super) shared: usize,
}

impl Extent {
    /// One more part of a container, with so many bytes in front of it and one behind.
    pub(super) fn add(&mut self, front: usize, part: Self) {
        self.bytes = self.bytes.saturating_add(front + part.bytes + 1);
        self.height = self.height.max(part.height + 1);
        self.memory = self.memory.saturating_add(part.memory);
        self.shared = self.shared.saturating_add(part.shared);
    }
}

impl<'a> Node<'a> {
    /// Opens a container.
    pub(super) fn open(&mut self, work: &mut Work<'_>) -> Result<Opened<'_, 'a>, Spent> {
        if let Node::Raw(raw) = *self {
            match document::kind(raw) {
                Kind::Object => *self = Node::Object(Box::new(Members::read(raw, work)?)),
                Kind::Array => *self = Node::Array(Box::new(Elements::read(raw, work)?)),
                _ => {}
            }
        }
        Ok(match self {
            Node::Raw(_) => Opened::Scalar,
            Node::Object(members) => Opened::Object(members),
            Node::Array(elements) => Opened::Array(elements),
        })
    }

    /// How large it is. Takes steps for what was changed in each container that was opened.
    pub(super) fn extent(&self, work: &mut Work<'_>) -> Result<Extent, Spent> {
        let mut extent = match self {
            Node::Raw(raw) => return Ok(Extent { bytes: raw.len(), height: 0, memory: 0, shared: 0 }),
            Node::Object(members) => members.extent(work)?,
            Node::Array(elements) => elements.extent(work)?,
        };
        // The byte behind the last part is the closing bracket.
        extent.bytes = extent.bytes.max(2);
        Ok(extent)
    }

    /// The text, of so many bytes.
    pub(super) fn into_text(self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        self.write(&mut text);
        debug_assert_eq!(text.len(), bytes);
        text
    }

    pub(super) fn write(&self, text: &mut String) {
        match self {
            Node::Raw(raw) => text.push_str(raw),
            Node::Object(members) => members.write(text),
            Node::Array(elements) => elements.write(text),
        }
    }

    /// The text of a value that is compared.
    pub(super) fn text(&self, bytes: usize) -> Cow<'a, str> {
        match self {
            Node::Raw(raw) => Cow::Borrowed(raw),
            node => {
                let mut text = String::with_capacity(bytes);
                node.write(&mut text);
                debug_assert_eq!(text.len(), bytes);
                Cow::Owned(text)
            }
        }
    }
}
