//! Identifiers, parsed once at the edge.
//!
//! The grammars are those of the API: short opaque ids from a fixed alphabet, user ids as identity providers issue them, and names
//! that may hold any visible text. Everything is compared by bytes; nothing is normalised.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::clock::Timestamp;

/// Longest id of a workflow, execution, checkpoint, session or tenant, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Longest user id, in bytes of UTF-8.
pub const MAX_USER_ID_BYTES: usize = 255;
/// Longest name of a variable, place or transition, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 256;

/// Why a text is not an identifier. The text itself is never part of the message: it may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentifier {
    /// The text has no bytes.
    #[error("is empty")]
    Empty,
    /// The text is longer than the limit, which is given in bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// The text is `.` or `..`, which clients and proxies rewrite in paths.
    #[error("is a relative path segment")]
    DotSegment,
    /// The user id is `me`, which in a path is whoever calls.
    #[error("is `me`, which stands for the caller and is nobody's id")]
    Me,
    /// A byte is outside `[A-Za-z0-9._~-]`.
    #[error("holds a character outside A-Z a-z 0-9 . _ ~ -")]
    ForbiddenCharacter,
    /// A control, in a text that may hold any other character.
    #[error("holds a control character")]
    ControlCharacter,
    /// A control, bidirectional-control or zero-width character, which a reader could not see.
    #[error("holds a control, bidirectional-control or zero-width character")]
    InvisibleCharacter,
}

/// Checks the grammar of ids: 1 to 128 bytes of `[A-Za-z0-9._~-]`, not `.` and not `..`.
///
/// # Errors
/// The first rule that the text breaks.
pub fn check_id(text: &str) -> Result<(), InvalidIdentifier> {
    check_segment(text, MAX_ID_BYTES)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    if text.bytes().all(allowed) { Ok(()) } else { Err(InvalidIdentifier::ForbiddenCharacter) }
}

/// Checks the grammar of names: 1 to 256 bytes of UTF-8 without invisible characters, not `.` and not `..`.
///
/// # Errors
/// The first rule that the text breaks.
pub fn check_name(text: &str) -> Result<(), InvalidIdentifier> {
    check_segment(text, MAX_NAME_BYTES)?;
    if text.chars().any(is_invisible) { Err(InvalidIdentifier::InvisibleCharacter) } else { Ok(()) }
}

fn check_segment(text: &str, limit: usize) -> Result<(), InvalidIdentifier> {
    match text {
        "" => Err(InvalidIdentifier::Empty),
        "." | ".." => Err(InvalidIdentifier::DotSegment),
        _ if text.len() > limit => Err(InvalidIdentifier::TooLong(limit)),
        _ => Ok(()),
    }
}

/// Controls (category Cc), bidirectional controls and zero-width characters of Unicode.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// The first rule of the grammar that the text breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The text as it came.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A tenant. Every stored row belongs to one, and a request reaches only its own.
    TenantId, check_id);
identifier!(
    /// A workflow: a Petri net that executions run.
    WorkflowId, check_id);
identifier!(
    /// An execution of a workflow.
    ExecutionId, check_id);
identifier!(
    /// A checkpoint of an execution.
    CheckpointId, check_id);
identifier!(
    /// A session.
    SessionId, check_id);
identifier!(
    /// A user as the tenant's issuer names them (the claim `sub`): 1 to 255 bytes of UTF-8 without controls.
    UserId, check_user_id);
identifier!(
    /// The name of a variable.
    VariableName, check_name);

macro_rules! generated {
    ($name:ident) => {
        impl $name {
            /// A new id: a UUIDv7 of this moment, as text. It tells when it was made and is hard to guess, but is no secret.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                Self(uuid_v7(now).to_string().into())
            }
        }
    };
}

generated!(CheckpointId);
generated!(SessionId);

/// A UUIDv7 (RFC 9562) of this moment.
#[must_use]
pub fn uuid_v7(now: Timestamp) -> Uuid {
    let microseconds = u64::try_from(now.as_microseconds()).unwrap_or(0);
    let nanoseconds = u32::try_from(microseconds % 1_000_000).unwrap_or(0) * 1000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, microseconds / 1_000_000, nanoseconds))
}

/// Checks the grammar of user ids. `me` is refused: as a path segment it means the caller.
///
/// # Errors
/// The first rule that the text breaks.
pub fn check_user_id(text: &str) -> Result<(), InvalidIdentifier> {
    match text {
        "" => Err(InvalidIdentifier::Empty),
        "me" => Err(InvalidIdentifier::Me),
        _ if text.len() > MAX_USER_ID_BYTES => Err(InvalidIdentifier::TooLong(MAX_USER_ID_BYTES)),
        _ if text.chars().any(char::is_control) => Err(InvalidIdentifier::ControlCharacter),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_to_their_alphabet() {
        for good in ["a", "A-Z_0.9~", "...", "a".repeat(128).as_str()] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", InvalidIdentifier::Empty),
            (".", InvalidIdentifier::DotSegment),
            ("..", InvalidIdentifier::DotSegment),
            ("a/b", InvalidIdentifier::ForbiddenCharacter),
            ("a:b", InvalidIdentifier::ForbiddenCharacter),
            ("é", InvalidIdentifier::ForbiddenCharacter),
            ("a\0", InvalidIdentifier::ForbiddenCharacter),
        ] {
            assert_eq!(check_id(bad), Err(why), "{bad:?}");
        }
        assert_eq!(check_id(&"a".repeat(129)), Err(InvalidIdentifier::TooLong(128)));
    }

    #[test]
    fn names_hold_visible_text_only() {
        for good in ["order/total", "größe", "a:b", "日本", "-", "a b"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["a\n", "a\u{0}", "\u{202E}evil", "zero\u{200B}width", "\u{FEFF}bom", "\u{85}", "\u{2028}"] {
            assert_eq!(check_name(bad), Err(InvalidIdentifier::InvisibleCharacter), "{bad:?}");
        }
        assert_eq!(check_name(&"é".repeat(129)), Err(InvalidIdentifier::TooLong(256)));
    }

    #[test]
    fn a_user_is_never_called_me() {
        assert_eq!(UserId::parse("me"), Err(InvalidIdentifier::Me));
        assert!(UserId::parse("f:1c:ext|x").is_ok());
    }

    #[test]
    fn a_user_id_holds_anything_but_controls() {
        assert!(UserId::parse("zero\u{200B}width").is_ok() && UserId::parse("\u{202E}x").is_ok());
        for bad in ["a\n", "\u{85}", "\u{0}"] {
            assert_eq!(UserId::parse(bad).map_err(|error| error.to_string()), Err("holds a control character".to_owned()), "{bad:?}");
        }
    }
}
