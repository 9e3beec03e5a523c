//! Which names lie in a page, as one half-open range of bytes: an index serves a range, but not a pattern.

use super::VariableQuery;

/// Names `>= from` and, when there is one, `< to`, compared by bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRange {
    /// The least text in the range.
    pub from: String,
    /// The least text behind the range; `None`: it is open.
    pub to: Option<String>,
}

impl NameRange {
    /// The names that begin with the query's prefix and lie behind its position.
    #[must_use]
    pub fn of(query: &VariableQuery) -> Self {
        // No name holds a control character, so nothing lies between a name and the same name followed by U+0001.
        let behind = query.after.as_ref().map(|name| format!("{name}\u{1}")).unwrap_or_default();
        Self { from: behind.max(query.prefix.clone()), to: end_of_prefix(&query.prefix) }
    }
}

/// The least text that is greater than every text with this prefix. UTF-8 keeps the order of characters in its bytes, so it is the
/// prefix with its last character replaced by the next one; the greatest character has none, and the one before it takes its place.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::VariableName;

    fn range(prefix: &str, after: Option<&str>) -> (String, Option<String>) {
        let after = after.map(|name| VariableName::parse(name).unwrap());
        let range = NameRange::of(&VariableQuery { prefix: prefix.into(), after, ..VariableQuery::default() });
        (range.from, range.to)
    }

    #[test]
    fn a_range_holds_exactly_its_prefix() {
        assert_eq!(range("", None), (String::new(), None));
        assert_eq!(range("a", None), ("a".into(), Some("b".into())));
        assert_eq!(range("a%", None), ("a%".into(), Some("a&".into())));
        assert_eq!(range("\u{7F}", None).1.as_deref(), Some("\u{80}"));
        assert_eq!(range("\u{D7FF}", None).1.as_deref(), Some("\u{E000}"));
        assert_eq!(range("a\u{10FFFF}\u{10FFFF}", None).1.as_deref(), Some("b"));
        assert_eq!(range("\u{10FFFF}", None).1, None);
    }

    #[test]
    fn a_page_begins_behind_its_position() {
        assert_eq!(range("", Some("a")).0, "a\u{1}");
        assert_eq!(range("b", Some("a")).0, "b");
        assert_eq!(range("b", Some("ba")).0, "ba\u{1}");
        assert_eq!(range("b", Some("c")), ("c\u{1}".into(), Some("c".into())), "an empty range, not the whole prefix again");
    }
}
