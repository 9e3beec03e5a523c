//! As much of the Redis protocol, versions 2 and 3, as the tests need beside the client library that is under test.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reply or a push. Types that a test does not tell apart are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    /// A simple or bulk string, and what version 3 has of numbers, booleans and verbatim strings, as it was sent.
    Text(Vec<u8>),
    Error(String),
    /// An array, a set, or the keys and values of a map in turn.
    Items(Vec<Value>),
    Push(Vec<Value>),
}

impl Value {
    pub(crate) fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Text(text.as_ref().to_vec())
    }

    /// The text of a string.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// Whether a subscriber was sent this: a message of a channel, not the answer to SUBSCRIBE.
    pub(crate) fn is_message(&self) -> bool {
        match self {
            Self::Items(items) | Self::Push(items) => {
                let kind = items.first();
                items.len() > 2 && ["message", "smessage", "pmessage"].iter().any(|name| kind == Some(&Self::text(name)))
            }
            _ => false,
        }
    }
}

/// The first value in `bytes` and its length there; none while it is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>> {
    let mut cursor = 0;
    Ok(value(bytes, &mut cursor)?.map(|value| (value, cursor)))
}

fn value(bytes: &[u8], cursor: &mut usize) -> Result<Option<Value>> {
    let Some(end) = bytes[*cursor..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = &bytes[*cursor..*cursor + end];
    *cursor += end + 2;
    let Some((kind, rest)) = line.split_first() else { return Err(malformed(line)) };
    let number = || std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| malformed(line));
    Ok(match kind {
        b'_' => Some(Value::Null),
        b':' => Some(Value::Integer(number()?)),
        b'+' | b',' | b'(' | b'#' => Some(Value::text(rest)),
        b'-' => Some(Value::Error(String::from_utf8_lossy(rest).into_owned())),
        b'$' | b'=' | b'!' => match usize::try_from(number()?) {
            Err(_) => Some(Value::Null),
            Ok(length) => bytes.get(*cursor..*cursor + length + 2).map(|content| {
                *cursor += length + 2;
                Value::text(&content[..length])
            }),
        },
        b'*' | b'~' | b'>' => match usize::try_from(number()?) {
            Err(_) => Some(Value::Null),
            Ok(count) => items(bytes, cursor, count)?.map(if *kind == b'>' { Value::Push } else { Value::Items }),
        },
        b'%' => items(bytes, cursor, 2 * usize::try_from(number()?).map_err(|_| malformed(line))?)?.map(Value::Items),
        _ => return Err(malformed(line)),
    })
}

fn items(bytes: &[u8], cursor: &mut usize, count: usize) -> Result<Option<Vec<Value>>> {
    let mut items = Vec::new();
    for _ in 0..count {
        let Some(item) = value(bytes, cursor)? else { return Ok(None) };
        items.push(item);
    }
    Ok(Some(items))
}

fn malformed(line: &[u8]) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not the Redis protocol: {:?}", String::from_utf8_lossy(line)))
}

/// A command as a client sends it.
pub(crate) fn encode<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that waits for each answer. It blocks its thread: for the commands of a test itself, which take microseconds.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Box::new(stream), received: Vec::new() })
    }

    pub(crate) fn unix(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Box::new(stream), received: Vec::new() })
    }

    pub(crate) fn command<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Value> {
        self.stream.write_all(&encode(words))?;
        self.read()
    }

    /// The next reply, or the next message of a subscription.
    pub(crate) fn read(&mut self) -> Result<Value> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some((value, length)) = parse(&self.received)? {
                self.received.drain(..length);
                return Ok(value);
            }
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_both_versions_is_read_to_its_end_and_never_before_it() {
        let text = |text: &str| Value::text(text);
        let cases = [
            ("+OK\r\n", text("OK")),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            (":-7\r\n", Value::Integer(-7)),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            ("$-1\r\n", Value::Null),
            ("*-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            (",1.5\r\n", text("1.5")),
            ("#t\r\n", text("t")),
            ("=5\r\ntxt:a\r\n", text("txt:a")),
            ("*2\r\n$1\r\na\r\n*0\r\n", Value::Items(vec![text("a"), Value::Items(vec![])])),
            ("%1\r\n+k\r\n:1\r\n", Value::Items(vec![text("k"), Value::Integer(1)])),
            (">2\r\n+subscribe\r\n+c\r\n", Value::Push(vec![text("subscribe"), text("c")])),
        ];
        for (sent, expected) in cases {
            let followed = format!("{sent}+next\r\n");
            assert_eq!(parse(followed.as_bytes()).unwrap(), Some((expected, sent.len())), "{sent:?}");
            for end in 0..sent.len() {
                assert_eq!(parse(&sent.as_bytes()[..end]).unwrap(), None, "the first {end} bytes of {sent:?}");
            }
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n").unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn only_what_a_channel_sends_is_a_message() {
        let parsed = |sent: &str| parse(sent.as_bytes()).unwrap().unwrap().0;
        assert!(parsed("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n").is_message());
        assert!(parsed(">4\r\n+pmessage\r\n+p\r\n+c\r\n+m\r\n").is_message());
        assert!(!parsed(">3\r\n+subscribe\r\n+c\r\n:1\r\n").is_message());
        assert!(!parsed("$7\r\nmessage\r\n").is_message());
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(encode(&["GET", "ä"]), "*2\r\n$3\r\nGET\r\n$2\r\nä\r\n".as_bytes());
    }
}
