//! One level of a validated document at a time, without a tree.

use std::borrow::Cow;

/// The type of a JSON value, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
}

/// The type of a validated value.
#[must_use]
pub fn kind(value: &str) -> Kind {
    match value.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// The text of a validated JSON string.
#[must_use]
pub fn unescape(value: &str) -> Cow<'_, str> {
    let inner = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') { serde_json::from_str(value).map_or(Cow::Borrowed(inner), Cow::Owned) } else { Cow::Borrowed(inner) }
}

/// The members of a validated object, in their order: name and raw value.
pub fn members(object: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    raw_members(object).map(|(name, value)| (unescape(name), value))
}

/// As [`members`], the names as they are written, with quotes and escapes.
pub fn raw_members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    Shallow::new(object).filter_map(|mut item| {
        let name = item.next_value()?;
        let value = item.next_value()?;
        Some((name, value))
    })
}

/// A text as a JSON string.
#[must_use]
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The raw elements of a validated array, in their order.
pub fn elements(array: &str) -> impl Iterator<Item = &str> {
    Shallow::new(array).filter_map(|mut item| item.next_value())
}

/// One level of a validated object or array; each item still holds its parts.
struct Shallow<'a> {
    text: &'a str,
    position: usize,
}

/// The text from an item's first byte on, from which its values are taken one by one.
struct Item<'s, 'a> {
    text: &'a str,
    position: &'s mut usize,
}

impl<'a> Shallow<'a> {
    fn new(container: &'a str) -> Self {
        Self { text: container, position: 1 }
    }

    fn filter_map<T>(mut self, mut read: impl FnMut(Item<'_, 'a>) -> Option<T>) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || read(Item { text: self.text, position: &mut self.position }))
    }
}

impl<'a> Item<'_, 'a> {
    fn next_value(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = next_value(bytes, *self.position);
        *self.position = start;
        if matches!(bytes.get(start), None | Some(b'}' | b']')) {
            return None;
        }
        *self.position = end_of_value(bytes, start);
        self.text.get(start..*self.position)
    }
}

/// Where the next value or name of a container begins, or its closing bracket stands: `position` is inside of it, behind the one before.
pub(in crate::domain) fn next_value(bytes: &[u8], position: usize) -> usize {
    let rest = bytes.get(position..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')).count();
    position + skipped
}

/// The end of the validated value that begins at `start`.
pub(in crate::domain) fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let mut position = start;
    let mut depth = 0usize;
    while let Some(&byte) = bytes.get(position) {
        match byte {
            b'"' => {
                position += 1;
                while let Some(&inner) = bytes.get(position) {
                    match inner {
                        b'\\' => position += 1,
                        b'"' => break,
                        _ => {}
                    }
                    position += 1;
                }
                if depth == 0 {
                    return position + 1;
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { position + 1 } else { position },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return position,
            _ => {}
        }
        position += 1;
    }
    position
}
