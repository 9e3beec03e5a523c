//! A document of which only the opened containers are a tree.

use std::borrow::Cow;

use super::members::Members;
use super::work::{Spent, Work};
use crate::domain::document::{self, Kind};

/// A value: its bytes, or a container that was opened to change it.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Raw(&'a str),
    Object(Box<Members<'a>>),
    Array(Vec<Node<'a>>),
}

/// How large a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of its text.
    pub(super) bytes: usize,
    /// Levels of containers that were opened: what recursion goes through.
    pub(super) height: usize,
}

impl<'a> Node<'a> {
    /// The members, when this is an object; opens it.
    pub(super) fn members(&mut self, work: &mut Work) -> Result<Option<&mut Members<'a>>, Spent> {
        if let Node::Raw(raw) = *self
            && document::kind(raw) == Kind::Object
        {
            work.read(raw.len())?;
            *self = Node::Object(Box::new(Members::read(raw)));
        }
        Ok(match self {
            Node::Object(members) => Some(members),
            _ => None,
        })
    }

    /// The elements, when this is an array; opens it.
    pub(super) fn elements(&mut self, work: &mut Work) -> Result<Option<&mut Vec<Node<'a>>>, Spent> {
        if let Node::Raw(raw) = *self
            && document::kind(raw) == Kind::Array
        {
            work.read(raw.len())?;
            *self = Node::Array(document::elements(raw).map(Node::Raw).collect());
        }
        Ok(match self {
            Node::Array(elements) => Some(elements),
            _ => None,
        })
    }

    /// How large it is. Takes a step for each value in a container that was opened.
    pub(super) fn extent(&self, work: &mut Work) -> Result<Extent, Spent> {
        let mut extent = Extent { bytes: 1, height: 1 };
        let mut add = |name: usize, value: &Self, work: &mut Work| {
            let inner = value.extent(work)?;
            // One byte behind each but the last, and the brackets.
            extent.bytes = extent.bytes.saturating_add(name + inner.bytes + 1);
            extent.height = extent.height.max(inner.height + 1);
            Ok(())
        };
        match self {
            Node::Raw(raw) => return Ok(Extent { bytes: raw.len(), height: 0 }),
            Node::Object(members) => {
                work.steps(members.places())?;
                members.iter().try_for_each(|member| add(member.raw.len() + 1, &member.value, work))?;
            }
            Node::Array(elements) => {
                work.steps(elements.len())?;
                elements.iter().try_for_each(|element| add(0, element, work))?;
            }
        }
        extent.bytes = extent.bytes.max(2);
        Ok(extent)
    }

    /// The text, of so many bytes.
    pub(super) fn into_text(self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
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

    /// The text of a value that is compared.
    pub(super) fn text(&self, bytes: usize) -> Cow<'a, str> {
        match self {
            Node::Raw(raw) => Cow::Borrowed(raw),
            node => {
                let mut text = String::with_capacity(bytes);
                node.write(&mut text);
                Cow::Owned(text)
            }
        }
    }
}
