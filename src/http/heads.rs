//! The bytes of the request's head that a connection is at, as they came.
//!
//! A head that the HTTP library refuses never becomes a request. What can be read of it all the same (method, path, origin) is only known to
//! whoever has seen the bytes, and knows where they begin: behind the head before, whose end is its empty line, and behind that one's body, whose
//! length the library has told, or whose chunks say it (`chunks.rs`). The same bytes show what the library does not: line ends without a return, and a
//! length beside chunks. Where it is not known where a head begins, nothing is remembered on that connection any more, and it is closed.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::chunks::Chunks;

/// Shared by the stream, which sees the bytes, and the service, which sees what the library has made of them.
#[derive(Clone)]
pub(super) struct Heads(Arc<Mutex<Position>>);

struct Position {
    /// The first bytes of the present head, and of what follows it.
    bytes: Vec<u8>,
    /// The most that is remembered.
    limit: usize,
    /// Bytes that came, remembered or not.
    seen: u64,
    /// Line feeds among them.
    lines: usize,
    /// Bytes of a body that are still to come before the next head.
    body: u64,
    /// The body before the next head, when it comes in chunks.
    chunks: Option<Chunks>,
    /// Whether it is not known where the head begins.
    is_lost: bool,
}

/// Why a request is not believed as the library shows it, an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A line of the head ends without a return (RFC 9112 section 2.2).
    BareLineFeed,
    /// The head has a length beside chunks (RFC 9112 section 6.1).
    LengthBesideChunks,
    /// The target has a fragment, which the library cuts off (RFC 9112 section 3.2 has none).
    Fragment,
    /// The body is said to come in chunks, and what has come of it is none (RFC 9112 section 7.1).
    NoChunks,
    /// It is not known where this head, or the next one, begins.
    Lost,
}

/// What can be read of a head that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readable {
    /// Whether there is a method.
    pub(super) has_method: bool,
    /// Whether the request line has not come to its end.
    pub(super) is_within_target: bool,
    /// Bytes of the target, as far as it has come.
    pub(super) target: usize,
    /// Lines behind the request line.
    pub(super) headers: usize,
    /// Bytes of the whole head, when all of it has come.
    pub(super) size: Option<usize>,
}

impl Heads {
    /// Nothing has come yet. `limit`: bytes of a head that are remembered.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Position { bytes: Vec::new(), limit, seen: 0, lines: 0, body: 0, chunks: None, is_lost: false })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Position) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These bytes came. How many of them the library may see: those behind are no chunks, though they stand where chunks must be. It would take
    /// some of them for a trailer, and so the next request's head.
    pub(super) fn came(&self, bytes: &[u8]) -> usize {
        self.with(|position| position.came(bytes))
    }

    /// Whether the client may still be sending what nobody has read: the connection ends behind what was no request, or no chunk. What is left of
    /// a request's body has been waited for by then.
    pub(super) fn is_cut_off(&self) -> bool {
        self.with(|position| position.is_lost || !position.bytes.is_empty())
    }

    /// The head has become a request, with a body of this length (`None`: in chunks). What is wrong with it, if anything.
    pub(super) fn became_request(&self, body: Option<u64>) -> Option<Doubt> {
        self.with(|position| position.pass(body))
    }

    /// A request of whatever can be read of the present head: its method, target and headers, each when it is well-formed.
    pub(super) fn read(&self) -> (Request<()>, Readable) {
        self.with(|position| position.read())
    }
}

impl Position {
    fn came(&mut self, all: &[u8]) -> usize {
        if self.is_lost {
            return all.len();
        }
        let of_body = usize::try_from(self.body).unwrap_or(usize::MAX).min(all.len());
        self.body -= of_body as u64;
        let mut bytes = &all[of_body..];
        if let Some(chunks) = &mut self.chunks {
            match chunks.pass(bytes) {
                Ok(passed) => bytes = &bytes[passed..],
                Err(passed) => {
                    self.lose();
                    return of_body + passed;
                }
            }
            if chunks.is_over() {
                self.chunks = None;
            }
        }
        self.seen += bytes.len() as u64;
        self.lines += feeds(bytes);
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(self.limit - self.bytes.len())]);
        all.len()
    }

    fn lose(&mut self) {
        (self.is_lost, self.chunks, self.bytes) = (true, None, Vec::new());
        (self.seen, self.lines) = (0, 0);
    }

    fn pass(&mut self, body: Option<u64>) -> Option<Doubt> {
        let Some(head) = end_of_head(&self.bytes) else {
            self.lose();
            return Some(Doubt::Lost);
        };
        let mut doubt = doubt(&self.bytes[..head]);
        let is_whole = self.seen == self.bytes.len() as u64;
        match body.map(|body| (head as u64).saturating_add(body)) {
            // More is to come of the body.
            Some(next) if next >= self.seen => (self.body, self.bytes) = (next - self.seen, Vec::new()),
            Some(next) if is_whole => {
                self.bytes.drain(..usize::try_from(next).unwrap_or(usize::MAX).min(self.bytes.len()));
            }
            None if is_whole => {
                let behind = self.bytes.split_off(head);
                (self.bytes, self.seen, self.lines, self.chunks) = (Vec::new(), 0, 0, Some(Chunks::new()));
                if self.came(&behind) < behind.len() {
                    doubt = doubt.or(Some(Doubt::NoChunks));
                }
            }
            _ => self.lose(),
        }
        (self.seen, self.lines) = (self.bytes.len() as u64, feeds(&self.bytes));
        doubt.or(self.is_lost.then_some(Doubt::Lost))
    }

    fn read(&self) -> (Request<()>, Readable) {
        let start = self.bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(self.bytes.len());
        let head = &self.bytes[start..];
        let mut lines = head.split_inclusive(|byte| *byte == b'\n');
        let (first, is_whole) = whole_line(lines.next().unwrap_or_default());
        let method = first.split(|byte| *byte == b' ').next().filter(|method| method.len() < first.len());
        let method = method.and_then(|method| Method::from_bytes(method).ok());
        let readable = Readable {
            has_method: method.is_some(),
            is_within_target: !self.is_lost && !is_whole,
            target: first.split(|byte| *byte == b' ').nth(1).map_or(0, <[u8]>::len),
            headers: self.lines.saturating_sub(feeds(&self.bytes[..start]) + 1),
            size: end_of_head(head),
        };
        let target = target(first).filter(|_| is_whole && readable.has_method);
        let mut request = Request::new(());
        *request.method_mut() = method.unwrap_or_else(unknown_method);
        // A target without a path, as that of CONNECT: nothing is said of what could not be read.
        *request.uri_mut() = target.unwrap_or_else(|| Uri::from(Authority::from_static("unknown")));
        for (line, _) in lines.map(whole_line).take_while(|(line, is_whole)| *is_whole && !line.is_empty()) {
            if let Some((name, value)) = header(line) {
                // What does not fit into the map is not read.
                let _ = request.headers_mut().try_append(name, value);
            }
        }
        (request, readable)
    }
}

/// What stands for a method that cannot be read, in the log.
fn unknown_method() -> Method {
    Method::from_bytes(b"UNKNOWN").unwrap_or_default()
}

fn feeds(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// The line without its end, and whether it has one.
fn whole_line(line: &[u8]) -> (&[u8], bool) {
    match line.strip_suffix(b"\n") {
        Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
        None => (line, false),
    }
}

/// Where the first empty line behind the request line ends. Empty lines in front of it do not count, as for the library.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    let mut has_begun = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        match whole_line(line) {
            (_, false) => return None,
            ([], true) if has_begun => return Some(end),
            ([], true) => {}
            _ => has_begun = true,
        }
    }
    None
}

/// What two readers may read differently in a whole head, and the library does not show.
fn doubt(head: &[u8]) -> Option<Doubt> {
    let request_line = head.split(|byte| *byte == b'\n').find(|line| !matches!(line, [] | [b'\r'])).unwrap_or_default();
    let has_fragment = request_line.contains(&b'#');
    let (mut has_length, mut has_coding) = (false, false);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\r\n") {
            return Some(Doubt::BareLineFeed);
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        has_length |= name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes());
        has_coding |= name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str().as_bytes());
    }
    let beside = (has_length && has_coding).then_some(Doubt::LengthBesideChunks);
    beside.or(has_fragment.then_some(Doubt::Fragment))
}

/// The target of a request line that is one.
fn target(line: &[u8]) -> Option<Uri> {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let (target, version) = (words.next()?, words.next()?);
    (words.next().is_none() && version.starts_with(b"HTTP/")).then(|| Uri::try_from(target).ok())?
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(bytes: &[u8]) -> Heads {
        let heads = Heads::new(1024);
        heads.came(bytes);
        heads
    }

    fn told(heads: &Heads) -> (String, String, bool) {
        let (request, readable) = heads.read();
        let method = if readable.has_method { request.method().to_string() } else { String::new() };
        (method, request.uri().path().to_owned(), readable.is_within_target)
    }

    #[test]
    fn whatever_is_well_formed_can_be_read() {
        for (head, method, path, is_within_target) in [
            ("HEAD /a?b HTTP/1.1\r\nHost: a\r\n", "HEAD", "/a", false),
            ("\r\n\nGET /a HTTP/1.1\nHost", "GET", "/a", false),
            ("GET /a b HTTP/1.1\r\n", "GET", "", false),
            ("GET /a", "GET", "", true),
            ("GET /a\r\n", "GET", "", false),
            ("GET  /a HTTP/1.1\r\n", "GET", "", false),
            ("GE", "", "", true),
            ("", "", "", true),
            ("\0\r\n", "", "", false),
            ("G@T /a HTTP/1.1\r\n", "", "", false),
            ("GET http://h/a HTTP/1.1\r\n", "GET", "/a", false),
        ] {
            assert_eq!(told(&heads(head.as_bytes())), (method.to_owned(), path.to_owned(), is_within_target), "{head:?}");
        }
        let (request, readable) =
            heads(b"PUT /a HTTP/1.1\r\nOrigin: b\r\nbad line\r\n c: d\r\nx y: z\r\nE:\tf \r\nG: \r\n\r\nH: i\r\nlast").read();
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!((names.len(), readable.headers), (3, 8), "{names:?}");
        assert_eq!(
            (&request.headers()["origin"], &request.headers()["e"], &request.headers()["g"]),
            (&"b".parse().unwrap(), &"f".parse().unwrap(), &"".parse().unwrap())
        );
    }

    #[test]
    fn the_next_head_begins_behind_the_body_of_the_one_before() {
        let first = "\r\nPUT /1 HTTP/1.1\r\nA: b\r\n\r\n";
        let second = "HEAD /2 HTTP/1.1\r\nC: d\r\n";
        // However the bytes come: in one piece, or in any two.
        let stream = format!("{first}12345{second}");
        for cut in first.len()..stream.len() {
            let heads = heads(&stream.as_bytes()[..cut]);
            heads.became_request(Some(5));
            heads.came(&stream.as_bytes()[cut..]);
            assert_eq!(told(&heads), ("HEAD".to_owned(), "/2".to_owned(), false), "{cut}");
            assert_eq!(heads.read().1.headers, 1);
        }
        let heads = heads(stream.replace("12345", "").as_bytes());
        heads.became_request(Some(0));
        assert_eq!(told(&heads).1, "/2");
        heads.came(b"\r\n");
        heads.became_request(Some(u64::MAX));
        heads.came(second.as_bytes());
        assert_eq!(told(&heads).0, "");
    }

    #[test]
    fn the_next_head_begins_behind_the_chunks() {
        let body = "a\r\nHEAD /b \r\n\r\n0\r\nT: u\r\n\r\n";
        let first = "PUT /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream = format!("{first}{body}HEAD /2 HTTP/1.1\r\nC: d\r\n");
        for cut in first.len()..stream.len() {
            let heads = heads(&stream.as_bytes()[..cut]);
            assert_eq!(heads.became_request(None), None);
            heads.came(&stream.as_bytes()[cut..]);
            assert_eq!(told(&heads), ("HEAD".to_owned(), "/2".to_owned(), false), "{cut}");
        }
    }

    #[test]
    fn what_the_library_does_not_show_is_told() {
        for (head, doubt) in [
            ("GET /1 HTTP/1.1\r\nA: b\r\n\r\n", None),
            ("\r\nGET /1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n\n", None),
            ("GET /1 HTTP/1.1\nA: b\r\n\r\n", Some(Doubt::BareLineFeed)),
            ("GET /1 HTTP/1.1\r\nA: b\n\r\n", Some(Doubt::BareLineFeed)),
            ("GET /1 HTTP/1.1\r\nA: b\r\n\n", Some(Doubt::BareLineFeed)),
            ("GET /1 HTTP/1.1\r\ncontent-length: 0\r\nTRANSFER-ENCODING: chunked\r\n\r\n", Some(Doubt::LengthBesideChunks)),
        ] {
            assert_eq!(heads(head.as_bytes()).became_request(Some(0)), doubt, "{head:?}");
        }
    }

    #[test]
    fn where_nobody_knows_nothing_is_read() {
        let lost = |heads: &Heads| {
            heads.came(b"HEAD /3 HTTP/1.1\r\n");
            told(heads) == (String::new(), String::new(), false) && heads.0.lock().unwrap().bytes.capacity() == 0
        };
        let chunks = heads(b"PUT /1 HTTP/1.1\r\n\r\n5\r\n123");
        assert_eq!(chunks.became_request(None), None);
        chunks.came(b"456\r\n0\r\n\r\n");
        assert!(lost(&chunks));
        assert_eq!(chunks.became_request(Some(0)), Some(Doubt::Lost));
        // A head longer than what is remembered, and another one behind it.
        let long = heads(format!("GET /1 HTTP/1.1\r\nA: {}\r\n\r\nGET /2", "x".repeat(2000)).as_bytes());
        assert_eq!(long.became_request(Some(0)), Some(Doubt::Lost));
        assert!(lost(&long));
        let behind = heads(format!("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(2000)).as_bytes());
        behind.became_request(Some(0));
        assert!(lost(&behind));
        // Of a long body nothing is needed.
        let body = heads(format!("PUT /1 HTTP/1.1\r\n\r\n{}", "\n".repeat(2000)).as_bytes());
        body.became_request(Some(3000));
        body.came("\n".repeat(1000).as_bytes());
        body.came(b"HEAD /2 HTTP/1.1\r\n");
        assert_eq!(told(&body), ("HEAD".to_owned(), "/2".to_owned(), false));
    }
}
