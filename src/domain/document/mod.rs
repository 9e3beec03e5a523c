//! JSON documents kept as the bytes that came in.
//!
//! A document is validated once, by one pass over its bytes, and never turned into a tree: what a client stored comes back byte for
//! byte, and memory stays that of the text. The rules are those of I-JSON (RFC 7493) where they protect a reader: no duplicate member,
//! no lone surrogate, no number that a common parser would silently change; and one rule for the stores: no NUL.

mod validate;
mod walk;

use std::borrow::Cow;
use std::fmt::Write as _;

use super::id::InvalidIdentifier;

pub use validate::validate;
pub use walk::{Kind, elements, kind, members, quote, raw_members, unescape};
pub(in crate::domain) use walk::{end_of_value, next_value};

/// Deepest nesting of arrays and objects, the document itself counted as one level when it is either.
pub const MAX_DEPTH: usize = 64;

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
    /// An id does not follow its grammar.
    #[error("{0}")]
    InvalidId(InvalidIdentifier),
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
    /// The same fault of a document that is the member `name` of a greater one.
    #[must_use]
    pub fn below(self, name: &str) -> Self {
        let outer = Self::member(name, self.kind);
        Self { pointer: format!("{}{}", outer.pointer, self.pointer.trim_start_matches('#')), kind: outer.kind }
    }

    /// A fault of the member `name` of the document's top object.
    #[must_use]
    pub fn member(name: &str, kind: FaultKind) -> Self {
        let mut pointer = String::from("#");
        push_segment(&mut pointer, name);
        Self { pointer, kind }
    }
}

/// Most faults that one answer lists.
pub const MAX_FAULTS: usize = 20;
/// Bytes after which a pointer is cut off.
const MAX_POINTER_BYTES: usize = 512;

/// Appends `/segment` in the fragment form of RFC 6901 section 6: `~` and `/` escaped, then percent-encoded.
///
/// A pointer that grows beyond 512 bytes ends with an ellipsis: names come from the client, and an answer must not be larger than its request.
pub(crate) fn push_segment(pointer: &mut String, segment: &str) {
    if pointer.len() > MAX_POINTER_BYTES {
        return;
    }
    pointer.push('/');
    for byte in segment.bytes() {
        if pointer.len() > MAX_POINTER_BYTES {
            pointer.push('…');
            return;
        }
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

/// The text of a validated value that must be a string of at most `limit` bytes.
///
/// # Errors
/// Another type, or longer.
pub fn text(value: &str, limit: usize) -> Result<String, FaultKind> {
    if kind(value) != Kind::String {
        return Err(FaultKind::InvalidType { expected: "a string" });
    }
    let text = unescape(value);
    if text.len() > limit { Err(FaultKind::TooLong { limit }) } else { Ok(text.into_owned()) }
}

/// A validated value that must be a boolean.
///
/// # Errors
/// Another type.
pub fn boolean(value: &str) -> Result<bool, FaultKind> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(FaultKind::InvalidType { expected: "a boolean" }),
    }
}

/// Most members of an object that are held. No resource has as many, so those of an object with more are unknown ones, and only some are named.
const MAX_HELD: usize = 64;

/// The top object of a request body, whose members are taken one by one; what is left is unknown.
#[derive(Debug)]
pub struct Object<'a> {
    document: &'a str,
    members: Vec<(Cow<'a, str>, &'a str)>,
    /// Whether there are members that are not held. They are looked for in the document, which takes longer, and no memory.
    is_cut: bool,
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
        let members: Vec<_> = members(document).take(MAX_HELD).collect();
        Ok(Self { document, is_cut: members.len() == MAX_HELD, members })
    }

    /// Takes the raw value of a member.
    pub fn take(&mut self, name: &str) -> Option<&'a str> {
        let Some(index) = self.members.iter().position(|(member, _)| member == name) else {
            let mut rest = members(self.document).skip(MAX_HELD);
            return if self.is_cut { rest.find(|(member, _)| member == name).map(|(_, value)| value) } else { None };
        };
        Some(self.members.swap_remove(index).1)
    }

    /// Takes and reads a member; what is wrong with it is added to `faults`.
    pub fn read_member<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, FaultKind>, faults: &mut Vec<Fault>) -> Option<T> {
        parse(self.take(name)?).map_err(|kind| faults.push(Fault::member(name, kind))).ok()
    }

    /// A fault for each member that was not taken, at most 20.
    #[must_use]
    pub fn unknown(self) -> Vec<Fault> {
        self.members.iter().take(MAX_FAULTS).map(|(name, _)| Fault::member(name, FaultKind::UnknownMember)).collect()
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
        for good in ["{}", "[]", "0", "-0", "0.00e-999", "1E2", "\"é\\ud83d\\ude00\"", "[1,2.5e-3,null,true,false]", "18446744073709551615"]
        {
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
        assert_eq!(fault("[0.01e-400]").1, FaultKind::NumberOutOfRange);
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
        members.pop();
        members.extend(["\"n\":0".into(), "\"\\u006d999\":0".into()]);
        assert_eq!(fault(&format!("{{{}}}", members.join(","))), ("#/m999".into(), FaultKind::DuplicateMember), "however it is written");
        members.retain(|member| !member.contains('\\'));
        assert_eq!(fault(&format!("[{{\"a\":{{{}}}}},{{{}, \"n\": 2}}]", members.join(","), members.join(","))).0, "#/1/n");
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
    fn faults_are_few_and_short_whatever_came() {
        let many: Vec<String> = (0..1000).map(|index| format!("\"m{index}\":1")).collect();
        assert_eq!(Object::read(&format!("{{{}}}", many.join(","))).unwrap().unknown().len(), MAX_FAULTS);
        let long = format!("{{\"{}\":1}}", "\u{80}".repeat(100_000));
        let pointer = Object::read(&long).unwrap().unknown().remove(0).pointer;
        assert!(pointer.len() < 600 && pointer.ends_with('…'), "{}", pointer.len());
        let deep = format!("{}\u{0}{}", "{\"".to_owned() + &"n".repeat(300) + "\":", "");
        assert!(validate(deep.repeat(3).as_bytes()).unwrap_err().pointer.len() < 600);
    }

    #[test]
    fn a_member_behind_many_others_is_found() {
        let many: Vec<String> = (0..1000).map(|index| format!("\"m{index}\":{index}")).collect();
        let text = format!("{{{},\"value\":7}}", many.join(","));
        let mut object = Object::read(&text).unwrap();
        assert_eq!(
            (object.take("value"), object.take("m0"), object.take("m999"), object.take("none")),
            (Some("7"), Some("0"), Some("999"), None)
        );
        assert_eq!(object.unknown().len(), MAX_FAULTS);
    }

    #[test]
    fn what_was_not_taken_is_unknown() {
        let mut object = Object::read(r#"{"value":1,"vaule":2}"#).unwrap();
        assert_eq!(object.take("value"), Some("1"));
        assert_eq!(object.unknown(), [Fault { pointer: "#/vaule".into(), kind: FaultKind::UnknownMember }]);
    }
}
