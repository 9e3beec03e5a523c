//! What servers tell each other: one line of text each, parts separated by spaces.
//!
//! | line | meaning |
//! |---|---|
//! | `ORIGIN NUMBER write VERSION KEY` | this version of the key is written, or has been |
//! | `ORIGIN NUMBER clear` | the second tier was emptied on purpose: empty yours |
//! | `ORIGIN SETTLED alive SENT` | a heartbeat: all my messages up to this number have been sent; when, by my own clock |

use crate::cache::key::Key;
use crate::cache::key_text;
use crate::domain::version::Version;

/// A message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The process that sent it.
    pub origin: String,
    /// Its number; of a heartbeat the last number that is settled.
    pub number: u64,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A version of a key.
    Write {
        /// The key.
        key: Key,
        /// The version.
        version: Version,
    },
    /// Everything.
    Clear,
    /// A heartbeat.
    Alive {
        /// A moment of the process that sent it: milliseconds on a clock that means nothing to others.
        sent: u64,
    },
}

/// The line of a write of the key with this text.
#[must_use]
pub fn write(origin: &str, number: u64, key: &str, version: i64) -> String {
    format!("{origin} {number} write {version} {key}")
}

/// The line that empties all local tiers.
#[must_use]
pub fn clear(origin: &str, number: u64) -> String {
    format!("{origin} {number} clear")
}

/// A heartbeat.
#[must_use]
pub fn alive(origin: &str, settled: u64, sent: u64) -> String {
    format!("{origin} {settled} alive {sent}")
}

/// Reads a line; `None` when it is not one of these.
#[must_use]
pub fn read(line: &[u8]) -> Option<Message> {
    let line = std::str::from_utf8(line).ok()?;
    let parts: Vec<&str> = line.split(' ').collect();
    let [origin, number, rest @ ..] = parts.as_slice() else { return None };
    let content = match rest {
        ["write", version, key] => Content::Write { key: key_text::read(key)?, version: Version::new(version.parse().ok()?)? },
        ["clear"] => Content::Clear,
        ["alive", sent] => Content::Alive { sent: sent.parse().ok()? },
        _ => return None,
    };
    Some(Message { origin: (*origin).to_owned(), number: number.parse().ok()?, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let key = key_text::read("acme:global:a%20b").unwrap();
        let version = Version::new(7).unwrap();
        let read = |line: &str| read(line.as_bytes()).map(|message| (message.origin, message.number, message.content));
        assert_eq!(read(&write("me", 3, "acme:global:a%20b", 7)), Some(("me".to_owned(), 3, Content::Write { key, version })));
        assert_eq!(read(&clear("me", 3)), Some(("me".to_owned(), 3, Content::Clear)));
        assert_eq!(read(&alive("me", 0, 9)), Some(("me".to_owned(), 0, Content::Alive { sent: 9 })));
        for bad in [
            "",
            "me",
            "me 1",
            "me x clear",
            "me 1 write 0 acme:global:a",
            "me 1 write 7 acme",
            "me 1 clear more",
            "me 1 other",
            "me 1 alive",
            "me 1 alive x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
