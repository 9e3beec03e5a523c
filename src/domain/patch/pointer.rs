//! Pointers into a document (RFC 6901).

use std::borrow::Cow;

use crate::domain::document::MAX_DEPTH;

/// A pointer that can lead somewhere: its escapes hold, and it leads no deeper than documents nest. What is opened on the way is gone
/// through by recursion.
pub(super) struct Pointer<'a>(Cow<'a, str>);

/// What is wrong with a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is none, and why.
    Malformed(&'static str),
    /// It leads deeper than documents nest.
    TooDeep,
}

impl<'a> Pointer<'a> {
    /// Reads a pointer, and makes nothing of what it names: a text of slashes alone has as many segments as bytes.
    pub(super) fn read(text: Cow<'a, str>) -> Result<Self, Unusable> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(Unusable::Malformed("the path does not begin with a slash"));
        }
        if !text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
            return Err(Unusable::Malformed("the path holds ~ without 0 or 1"));
        }
        if text.bytes().filter(|byte| *byte == b'/').count() > MAX_DEPTH { Err(Unusable::TooDeep) } else { Ok(Self(text)) }
    }

    /// The first segment; `None`: this is the whole document.
    pub(super) fn first(&self) -> Option<Cow<'_, str>> {
        self.0.split('/').nth(1).map(unescape)
    }

    /// The segments. They are parts of the patch where nothing is escaped in it.
    pub(super) fn segments(self) -> Vec<Cow<'a, str>> {
        match self.0 {
            Cow::Borrowed(text) => text.split('/').skip(1).map(unescape).collect(),
            Cow::Owned(text) => text.split('/').skip(1).map(|segment| Cow::Owned(unescape(segment).into_owned())).collect(),
        }
    }
}

fn unescape(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') { Cow::Owned(segment.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(segment) }
}

/// An index of an existing element.
pub(super) fn index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || (!segment.starts_with('0') && !segment.is_empty());
    if canonical && segment.bytes().all(|byte| byte.is_ascii_digit()) { segment.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_borrowed_where_nothing_is_escaped() {
        let segments = Pointer::read(Cow::Borrowed("/a/b~1c/~01//d")).map(Pointer::segments).unwrap_or_default();
        assert_eq!(segments, ["a", "b/c", "~1", "", "d"]);
        let borrowed: Vec<bool> = segments.iter().map(|segment| matches!(segment, Cow::Borrowed(_))).collect();
        assert_eq!(borrowed, [true, false, false, true, true]);
        assert_eq!(Pointer::read(Cow::Borrowed("")).map(Pointer::segments), Ok(Vec::new()));
    }

    #[test]
    fn a_pointer_is_counted_before_anything_is_made_of_it() {
        for unit in ["/", "/a", "/~0"] {
            let fault = |count: usize| Pointer::read(Cow::Owned(unit.repeat(count))).err();
            assert_eq!((fault(MAX_DEPTH), fault(MAX_DEPTH + 1)), (None, Some(Unusable::TooDeep)), "{unit}");
        }
        for (text, reason) in [("a", "slash"), ("/~", "~"), ("/~2", "~"), ("/a~/0", "~"), ("/~0~", "~")] {
            let fault = Pointer::read(Cow::Borrowed(text)).err();
            assert!(matches!(fault, Some(Unusable::Malformed(why)) if why.contains(reason)), "{text}: {fault:?}");
        }
    }
}
