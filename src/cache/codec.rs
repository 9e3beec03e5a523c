//! An entry as the payload of a slot: a checksum, the key that it belongs to, what a reader must know, and the body.
//!
//! The second tier is no place of trust: a payload that is cut off, is another key's, or that this program did not write is not read. That
//! it was *not forged* is nothing that this can tell: who may write to the second tier may write answers. Keep it to the servers.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::entry::{Entry, Facts, SessionFacts};
use crate::domain::clock::Timestamp;
use crate::domain::id::UserId;
use crate::domain::version::Version;

/// The layout. Another version of the program that writes another one has another number, and reads this one as foreign.
const LAYOUT: u8 = 1;
/// Bytes of the checksum: enough against accidents.
const CHECKSUM: usize = 8;

const PLAIN: u8 = 0;
const VARIABLE: u8 = 1;
const SESSION: u8 = 2;

/// Writes an entry of the key with this text.
pub(super) fn write(key: &str, entry: &Entry) -> Vec<u8> {
    let body = entry.body().map_or(&[][..], |body| body);
    let mut bytes = Vec::with_capacity(CHECKSUM + 96 + key.len() + body.len());
    bytes.extend_from_slice(&[0; CHECKSUM]);
    bytes.push(LAYOUT);
    text(&mut bytes, key);
    number(&mut bytes, entry.deadline().map_or(i64::MAX, Timestamp::as_microseconds));
    match entry.facts() {
        Facts::Plain => bytes.push(PLAIN),
        Facts::Variable { life } => {
            bytes.push(VARIABLE);
            number(&mut bytes, life.map_or(0, Version::get));
        }
        Facts::Session(facts) => {
            bytes.push(SESSION);
            text(&mut bytes, facts.owner().as_str());
            number(&mut bytes, facts.life().get());
            bytes.push(u8::from(facts.is_sliding()));
            number(&mut bytes, facts.ttl_microseconds());
            number(&mut bytes, facts.latest().map_or(i64::MAX, Timestamp::as_microseconds));
        }
    }
    bytes.extend_from_slice(body);
    let sum = checksum(entry.version(), entry.body().is_some(), &bytes[CHECKSUM..]);
    bytes[..CHECKSUM].copy_from_slice(&sum);
    bytes
}

/// Reads the payload of a slot of the key with this text; `None` when it is not what [`write()`] makes.
pub(super) fn read(key: &str, version: Option<Version>, live: bool, payload: Vec<u8>) -> Option<Entry> {
    let payload = Bytes::from(payload.into_boxed_slice());
    let (sum, rest) = payload.split_at_checked(CHECKSUM)?;
    if sum != checksum(version, live, rest) {
        return None;
    }
    let mut reader = Reader(rest);
    if reader.byte()? != LAYOUT || reader.text()? != key {
        return None;
    }
    let deadline = Some(reader.number()?).filter(|deadline| *deadline != i64::MAX).map(Timestamp::from_microseconds);
    let facts = match reader.byte()? {
        PLAIN => Facts::Plain,
        VARIABLE => {
            let life = reader.number()?;
            Facts::Variable { life: if life == 0 { None } else { Some(Version::new(life)?) } }
        }
        SESSION => {
            let owner = UserId::parse(reader.text()?).ok()?;
            let life = Version::new(reader.number()?)?;
            let sliding = reader.byte()? == 1;
            let ttl_microseconds = reader.number()?;
            let latest = Some(reader.number()?).filter(|latest| *latest != i64::MAX).map(Timestamp::from_microseconds);
            Facts::Session(Box::new(SessionFacts::restore(owner, life, sliding, ttl_microseconds, latest, deadline?)))
        }
        _ => return None,
    };
    // The body is copied: what the local tier keeps owns no more memory than it shows.
    let body = live.then(|| Bytes::copy_from_slice(reader.0));
    (live || reader.0.is_empty()).then(|| Entry::restore(version, body, facts, deadline))
}

/// A payload of these bytes behind the checksum that fits them.
pub(super) fn sealed(version: Option<Version>, live: bool, bytes: &[u8]) -> Vec<u8> {
    [&checksum(version, live, bytes)[..], bytes].concat()
}

/// Over the head of the slot too, which scripts read: a version that was changed must not be believed.
fn checksum(version: Option<Version>, live: bool, bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut context = Context::new(&SHA256);
    context.update(&version.map_or(0, Version::get).to_be_bytes());
    context.update(&[u8::from(live)]);
    context.update(bytes);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&context.finish().as_ref()[..CHECKSUM]);
    sum
}

fn number(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

/// Texts here are at most some hundred bytes long; one that is not is cut, and read as foreign.
fn text(bytes: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::SessionId;
    use crate::domain::session::SessionRecord;

    fn entries() -> Vec<Entry> {
        let version = |number| Version::new(number).unwrap();
        let at = Timestamp::from_microseconds;
        let record = SessionRecord {
            id: SessionId::parse("s").unwrap(),
            owner: UserId::parse("ada").unwrap(),
            version: version(3),
            life: version(2),
            data: "{}".into(),
            ttl_seconds: 100,
            sliding: true,
            max_ttl_seconds: Some(500),
            created_at: at(5),
            updated_at: at(6),
            written_expires_at: at(100_000_007),
            expires_at: at(100_000_007),
        };
        vec![
            Entry::plain(version(7), Bytes::from_static(b"{}")),
            Entry::variable(version(1), Bytes::from_static(b"x"), Some(version(9)), Some(at(77))),
            Entry::variable(version(1), Bytes::from_static(b""), None, None),
            Entry::absent(None),
            Entry::absent(Some(version(4))),
            Entry::absent_variable(Some(version(4)), Some(version(2))),
            Entry::session(&record, Bytes::from_static(b"{\"a\":1}"), record.expires_at),
        ]
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        for entry in entries() {
            let (version, live) = (entry.version(), entry.body().is_some());
            let again = read("acme:session:s", version, live, write("acme:session:s", &entry)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{entry:?}"));
        }
    }

    #[test]
    fn what_is_cut_flipped_or_of_another_key_is_foreign() {
        for entry in entries() {
            let (version, live) = (entry.version(), entry.body().is_some());
            let good = write("acme:session:s", &entry);
            assert!(read("acme:session:t", version, live, good.clone()).is_none());
            assert!(read("acme:session:s", Version::new(77), live, good.clone()).is_none());
            assert!(read("acme:session:s", version, !live, good.clone()).is_none());
            for cut in 0..good.len() {
                assert!(read("acme:session:s", version, live, good[..cut].to_vec()).is_none(), "{cut}");
            }
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(read("acme:session:s", version, live, bad).is_none(), "{bit}");
            }
        }
    }
}
