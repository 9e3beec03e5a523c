//! JSON documents kept as the bytes that came in.
//!
//! A document is validated once, by one pass over its bytes, and never turned into a tree: what a client stored comes back byte for
//! byte, and memory stays that of the text. The rules are those of I-JSON (RFC 7493) where they protect a reader: no duplicate member,
//! no lone surrogate, no number that a common parser would silently change; and one rule for the stores: no NUL.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use super::id::InvalidIdentifier;

/// Deepest nesting of arrays and objects, the document itself counted as one level when it is either.
pub const MAX_DEPTH: usize = 64;

/// Below this many members a linear search for a duplicate is quicker than a set.
const LINEAR_MEMBERS: usize = 16;

/// What is wrong with a document, and where: the pointer is an RFC 6901 pointer in URI fragment form (`#/marking/p1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the fault is.
    pub pointer: String,
    /// What it is.
    pub kind: FaultKind,
}

/// The kinds of faults in a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The bytes are not JSON.
    #[error("is not valid JSON: {reason} at byte {offset}")]
    Syntax {
        /// What the parser wanted.
        reason: &'static str,
        /// Offset of the offending byte from the document's beginning.
        offset: usize,
    },
    /// An object names a member twice, so two readers may see two values.
    #[error("names a member twice")]
    DuplicateMember,
    /// A string holds U+0000, which PostgreSQL cannot keep.
    #[error("holds the character U+0000")]
    NulNotAllowed,
    /// A `\u` escape is half of a surrogate pair and so no character.
    #[error("holds a lone surrogate")]
    LoneSurrogate,
    /// Arrays and objects nest deeper than the limit.
    #[error("nests deeper than {limit} levels")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// An integer outside i64 and u64, or a number beyond f64: readers would round it without a word.
    #[error("is a number outside i64, u64 and f64")]
    NumberOutOfRange,
    /// A member that the resource does not have.
    #[error("is not a member of this resource")]
    UnknownMember,
    /// A member that must be there is not.
    #[error("is missing")]
    MissingMember,
    /// The value has the wrong type.
    #[error("must be {expected}")]
    InvalidType {
        /// The type in words, with its article.
        expected: &'static str,
    },
    /// The number is outside its range.
    #[error("must be between {minimum} and {maximum}")]
    OutOfRange {
        /// Least value allowed.
        minimum: i64,
        /// Greatest value allowed.
        maximum: i64,
    },
    /// A member name that must follow a grammar does not.
    #[error("{0}")]
    InvalidName(InvalidIdentifier),
    /// The value does not follow its grammar.
    #[error("must match {grammar}")]
    InvalidValue {
        /// The grammar as a regular expression or in words.
        grammar: &'static str,
    },
    /// More elements than allowed.
    #[error("has more than {limit} elements")]
    TooMany {
        /// Elements allowed.
        limit: usize,
    },
    /// A text longer than allowed.
    #[error("is longer than {limit} bytes")]
    TooLong {
        /// Bytes of UTF-8 allowed.
        limit: usize,
    },
}

impl Fault {
    /// A fault of the member `name` of the document's top object.
    #[must_use]
    pub fn member(name: &str, kind: FaultKind) -> Self {
        let mut pointer = String::from("#");
        push_segment(&mut pointer, name);
        Self { pointer, kind }
    }
}

/// Appends `/segment` in the fragment form of RFC 6901 section 6: `~` and `/` escaped, then percent-encoded.
pub(crate) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    for byte in segment.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' => {
                pointer.push(byte as char);
            }
            _ => {
                let _ = write!(pointer, "%{byte:02X}");
            }
        }
    }
}

/// Checks that the bytes are one JSON value that keeps the rules of this module, and returns its text without the white space around it.
///
/// # Errors
/// The first fault, with its pointer.
pub fn validate(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        pointer: "#".into(),
        kind: FaultKind::Syntax { reason: "expected UTF-8", offset: error.valid_up_to() },
    })?;
    let mut validator = Validator { text, bytes, position: 0, path: Vec::new() };
    let value = validator.document().map_err(|kind| Fault { pointer: validator.pointer(), kind })?;
    Ok(&text[value])
}

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
    Shallow::new(object).filter_map(|mut item| {
        let name = item.next_value()?;
        let value = item.next_value()?;
        Some((unescape(name), value))
    })
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
        while matches!(bytes.get(*self.position), Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')) {
            *self.position += 1;
        }
        let start = *self.position;
        if matches!(bytes.get(start), None | Some(b'}' | b']')) {
            return None;
        }
        *self.position = end_of_value(bytes, start);
        self.text.get(start..*self.position)
    }
}

/// The end of the validated value that begins at `start`.
fn end_of_value(bytes: &[u8], start: usize) -> usize {
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

/// The top object of a request body, whose members are taken one by one; what is left is unknown.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Object<'a> {
    /// Reads a validated document.
    ///
    /// # Errors
    /// The document is not an object.
    pub fn read(document: &'a str) -> Result<Self, Fault> {
        if kind(document) != Kind::Object {
            return Err(Fault { pointer: "#".into(), kind: FaultKind::InvalidType { expected: "an object" } });
        }
        Ok(Self { members: members(document).collect() })
    }

    /// Takes the raw value of a member.
    pub fn take(&mut self, name: &str) -> Option<&'a str> {
        let index = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(index).1)
    }

    /// A fault for each member that was not taken.
    #[must_use]
    pub fn unknown(self) -> Vec<Fault> {
        self.members.iter().map(|(name, _)| Fault::member(name, FaultKind::UnknownMember)).collect()
    }
}

enum Segment {
    Member(Range<usize>),
    Element(usize),
}

struct Validator<'a> {
    text: &'a str,
    bytes: &'a [u8],
    position: usize,
    path: Vec<Segment>,
}

impl Validator<'_> {
    fn document(&mut self) -> Result<Range<usize>, FaultKind> {
        self.white_space();
        let start = self.position;
        self.value(0)?;
        let end = self.position;
        self.white_space();
        if self.position < self.bytes.len() { Err(self.syntax("expected the end of the document")) } else { Ok(start..end) }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::from("#");
        for segment in &self.path {
            match segment {
                Segment::Member(range) => push_segment(&mut pointer, &unescape(&self.text[range.clone()])),
                Segment::Element(index) => {
                    let _ = write!(pointer, "/{index}");
                }
            }
        }
        pointer
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn syntax(&self, reason: &'static str) -> FaultKind {
        FaultKind::Syntax { reason, offset: self.position }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), FaultKind> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.syntax("expected a value")),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), FaultKind> {
        if depth > MAX_DEPTH {
            return Err(FaultKind::TooDeep { limit: MAX_DEPTH });
        }
        self.position += 1;
        self.white_space();
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), FaultKind> {
        self.enter(depth)?;
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(());
        }
        let mut names = Names::default();
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.syntax("expected a member name"));
            }
            let name = self.string()?;
            self.path.push(Segment::Member(name.clone()));
            if !names.insert(&self.text[name]) {
                return Err(FaultKind::DuplicateMember);
            }
            self.white_space();
            if self.peek() != Some(b':') {
                return Err(self.syntax("expected a colon"));
            }
            self.position += 1;
            self.white_space();
            self.value(depth)?;
            self.path.pop();
            if self.separator(b'}', "expected a comma or the object's end")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), FaultKind> {
        self.enter(depth)?;
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.path.push(Segment::Element(index));
            self.value(depth)?;
            self.path.pop();
            index += 1;
            if self.separator(b']', "expected a comma or the array's end")? {
                return Ok(());
            }
        }
    }

    /// Steps over a comma (false) or the container's end (true).
    fn separator(&mut self, end: u8, expected: &'static str) -> Result<bool, FaultKind> {
        self.white_space();
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                self.white_space();
                Ok(false)
            }
            Some(byte) if byte == end => {
                self.position += 1;
                Ok(true)
            }
            _ => Err(self.syntax(expected)),
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), FaultKind> {
        if self.bytes[self.position..].starts_with(word.as_bytes()) {
            self.position += word.len();
            Ok(())
        } else {
            Err(self.syntax("expected a value"))
        }
    }

    fn string(&mut self) -> Result<Range<usize>, FaultKind> {
        let start = self.position;
        self.position += 1;
        loop {
            match self.peek() {
                None => return Err(self.syntax("expected the string's end")),
                Some(b'"') => {
                    self.position += 1;
                    return Ok(start..self.position);
                }
                Some(b'\\') => self.escape()?,
                Some(0..0x20) => return Err(self.syntax("expected an escape instead of a control character")),
                Some(_) => self.position += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), FaultKind> {
        match self.bytes.get(self.position + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.position += 2;
                Ok(())
            }
            Some(b'u') => match self.code_unit(self.position)? {
                0 => Err(FaultKind::NulNotAllowed),
                0xDC00..=0xDFFF => Err(FaultKind::LoneSurrogate),
                0xD800..=0xDBFF => {
                    let low = self.position + 6;
                    let paired = self.bytes.get(low..low + 2) == Some(b"\\u") && matches!(self.code_unit(low)?, 0xDC00..=0xDFFF);
                    if !paired {
                        return Err(FaultKind::LoneSurrogate);
                    }
                    self.position += 12;
                    Ok(())
                }
                _ => {
                    self.position += 6;
                    Ok(())
                }
            },
            _ => Err(self.syntax("expected an escape sequence")),
        }
    }

    /// The four hexadecimal digits of the escape that begins at `start`.
    fn code_unit(&self, start: usize) -> Result<u32, FaultKind> {
        let digits = self.bytes.get(start + 2..start + 6).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.syntax("expected four hexadecimal digits"));
        }
        Ok(digits.iter().fold(0, |unit, digit| unit * 16 + (*digit as char).to_digit(16).unwrap_or(0)))
    }

    fn digits(&mut self) -> Result<(), FaultKind> {
        let start = self.position;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
        if self.position == start { Err(self.syntax("expected a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), FaultKind> {
        let start = self.position;
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.syntax("expected no leading zero"));
            }
        } else {
            self.digits()?;
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        let number = &self.text[start..self.position];
        let fits = if integer {
            number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()
        } else {
            number.parse::<f64>().is_ok_and(f64::is_finite)
        };
        if fits { Ok(()) } else { Err(FaultKind::NumberOutOfRange) }
    }
}

/// The member names of one object so far.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// Adds the raw name; false when it is there already, also when spelled with other escapes.
    fn insert(&mut self, raw: &'a str) -> bool {
        let name = unescape(raw);
        if self.many.is_empty() {
            if self.few.contains(&name) {
                return false;
            }
            self.few.push(name);
            if self.few.len() > LINEAR_MEMBERS {
                self.many.extend(self.few.drain(..));
            }
            return true;
        }
        self.many.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (String, FaultKind) {
        let fault = validate(text.as_bytes()).expect_err(text);
        (fault.pointer, fault.kind)
    }

    #[test]
    fn good_documents_pass_and_lose_only_outer_white_space() {
        for good in ["{}", "[]", "0", "-0", "1E2", "\"é\\ud83d\\ude00\"", "[1,2.5e-3,null,true,false]", "18446744073709551615"] {
            assert_eq!(validate(format!(" \n{good}\t").as_bytes()), Ok(good));
        }
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(validate(deep.as_bytes()).is_ok());
    }

    #[test]
    fn each_fault_has_its_kind_and_place() {
        assert_eq!(fault(r#"{"a":{"b/c":1,"b\u002fc":2}}"#), ("#/a/b~1c".into(), FaultKind::DuplicateMember));
        assert_eq!(fault(r#"{"a":[0,"x\u0000"]}"#), ("#/a/1".into(), FaultKind::NulNotAllowed));
        assert_eq!(fault(r#"["\ud800"]"#), ("#/0".into(), FaultKind::LoneSurrogate));
        assert_eq!(fault(r#"["\udc00\ud800"]"#).1, FaultKind::LoneSurrogate);
        assert_eq!(fault("[1e400]").1, FaultKind::NumberOutOfRange);
        assert_eq!(fault("18446744073709551616").1, FaultKind::NumberOutOfRange);
        assert_eq!(fault("-9223372036854775809").1, FaultKind::NumberOutOfRange);
        assert_eq!(fault(&"[".repeat(MAX_DEPTH + 1)).1, FaultKind::TooDeep { limit: MAX_DEPTH });
        for broken in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "NaN",
            "tru",
            "\"\t\"",
            "\"\\x\"",
            "\"\\u12\"",
            "[1] 2",
            "\u{FEFF}{}",
            "{\"a\":1,}",
            "'a'",
            "\"",
            "-",
        ] {
            assert!(matches!(fault(broken).1, FaultKind::Syntax { .. }), "{broken:?}");
        }
        assert!(matches!(validate(b"\"\xff\""), Err(Fault { kind: FaultKind::Syntax { .. }, .. })));
    }

    #[test]
    fn many_members_are_checked_as_well_as_few() {
        let mut members: Vec<String> = (0..1000).map(|index| format!("\"m{index}\":{index}")).collect();
        assert!(validate(format!("{{{}}}", members.join(",")).as_bytes()).is_ok());
        members.push("\"m3\":0".into());
        assert_eq!(fault(&format!("{{{}}}", members.join(","))), ("#/m3".into(), FaultKind::DuplicateMember));
    }

    #[test]
    fn a_level_is_walked_without_its_insides() {
        let text = r#"{ "a" : {"x":"}]\"" } ,"b":[1,[2]], "c":-1.5 , "d\n" : "q" }"#;
        let found: Vec<(String, &str)> = members(text).map(|(name, value)| (name.into_owned(), value)).collect();
        let expected = [("a", r#"{"x":"}]\"" }"#), ("b", "[1,[2]]"), ("c", "-1.5"), ("d\n", "\"q\"")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(elements(" [1, \"a,b\" ,{},[ ]]".trim()).collect::<Vec<_>>(), ["1", "\"a,b\"", "{}", "[ ]"]);
        assert_eq!(elements("[]").count() + members("{ }").count(), 0);
    }

    #[test]
    fn what_was_not_taken_is_unknown() {
        let mut object = Object::read(r#"{"value":1,"vaule":2}"#).unwrap();
        assert_eq!(object.take("value"), Some("1"));
        assert_eq!(object.unknown(), [Fault { pointer: "#/vaule".into(), kind: FaultKind::UnknownMember }]);
    }
}
