//! The one pass over a document's bytes that checks every rule.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use super::walk::end_of_value;
use super::{Fault, FaultKind, MAX_DEPTH, push_segment, unescape};

/// Up to this many members a linear search for a duplicate is quicker than anything else.
const LINEAR_MEMBERS: usize = 16;

/// Checks that the bytes are one JSON value that keeps the rules of this module, and returns its text without the white space around it.
///
/// # Errors
/// The first fault, with its pointer. (In an object of many members a name that is there twice counts as a fault of the object's end.)
pub fn validate(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        pointer: "#".into(),
        kind: FaultKind::Syntax { reason: "expected UTF-8", offset: error.valid_up_to() },
    })?;
    let mut validator = Validator { text, bytes, position: 0, path: Vec::new() };
    let value = validator.document().map_err(|kind| Fault { pointer: validator.pointer(), kind })?;
    Ok(&text[value])
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
            if !names.insert(self.text, name) {
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
                return match names.duplicate(self.text) {
                    Some(name) => {
                        self.path.push(Segment::Member(name));
                        Err(FaultKind::DuplicateMember)
                    }
                    None => Ok(()),
                };
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
            // What is too small for f64 would be read as zero.
            let is_zero = number.split(['e', 'E']).next().is_some_and(|digits| !digits.bytes().any(|byte| matches!(byte, b'1'..=b'9')));
            number.parse::<f64>().is_ok_and(|value| value.is_finite() && (value != 0.0 || is_zero))
        };
        if fits { Ok(()) } else { Err(FaultKind::NumberOutOfRange) }
    }
}

/// The member names of one object so far.
///
/// A name takes eight bytes, whatever it is: a member is seven bytes of the document at least (`"ab":1,`), so the memory stays near that of the text. A
/// set of texts would take nine times as much as the body.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: Vec<Place>,
    hasher: Option<RandomState>,
}

/// The hash of a name and where it begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u32,
    start: u32,
}

impl Place {
    /// The name as it is written, with its quotes.
    fn name(self, text: &str) -> Range<usize> {
        let start = self.start as usize;
        start..end_of_value(text.as_bytes(), start)
    }
}

impl<'a> Names<'a> {
    /// Adds a name; false when it is seen to be there already, also when spelled with other escapes. Of many names that is seen at the end.
    fn insert(&mut self, text: &'a str, name: Range<usize>) -> bool {
        let start = name.start;
        let name = unescape(&text[name]);
        if self.few.len() < LINEAR_MEMBERS {
            if self.few.contains(&name) {
                return false;
            }
            self.few.push(name);
            return true;
        }
        if self.few.contains(&name) {
            return false;
        }
        let hash = self.hasher.get_or_insert_with(RandomState::new).hash_one(&name);
        // Half of the hash is enough: what it does not tell apart is compared. No body comes near 4 GiB.
        let (hash, start) = ((hash >> 32) as u32, u32::try_from(start).unwrap_or(u32::MAX));
        self.many.push(Place { hash, start });
        true
    }

    /// A name that is there twice: the second of its places.
    fn duplicate(mut self, text: &str) -> Option<Range<usize>> {
        self.many.sort_unstable();
        let mut names = self.many.as_slice();
        while let Some((first, rest)) = names.split_first() {
            let alike = rest.iter().take_while(|other| other.hash == first.hash);
            let second =
                alike.map(|other| other.name(text)).find(|name| unescape(&text[name.clone()]) == unescape(&text[first.name(text)]));
            if second.is_some() {
                return second;
            }
            names = rest;
        }
        None
    }
}
