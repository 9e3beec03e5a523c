//! Where a body in chunks ends (RFC 9112 section 7.1). Nothing of it is kept: the HTTP library reads the body, this only finds the next head.

/// A body in chunks, as far as it has come.
pub(super) struct Chunks {
    at: At,
    /// Of the chunk: as far as its size is read, then the bytes that are still to come.
    size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Start,
    Size,
    /// Whatever stands between a size and the end of its line.
    Extension,
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    /// The first byte of a line behind the last chunk.
    TrailerStart,
    Trailer,
    TrailerFeed,
    LastFeed,
    End,
}

impl Chunks {
    /// Nothing has come yet.
    pub(super) fn new() -> Self {
        Self { at: At::Start, size: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.at == At::End
    }

    /// How many of these bytes belong to the body.
    ///
    /// # Errors
    /// They are no chunks behind so many.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let mut passed = 0;
        while passed < bytes.len() && !self.is_over() {
            if self.at == At::Data {
                let data = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - passed);
                (self.size, passed) = (self.size - data as u64, passed + data);
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
            } else {
                self.at = self.step(bytes[passed]).ok_or(passed)?;
                passed += 1;
            }
        }
        Ok(passed)
    }

    fn step(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Start | At::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(digit.into())?;
                Some(At::Size)
            }
            (At::Size | At::Extension, b'\r') => Some(At::SizeFeed),
            (At::Size, b';' | b' ' | b'\t') => Some(At::Extension),
            (At::Extension, _) if byte != b'\n' => Some(At::Extension),
            (At::SizeFeed, b'\n') if self.size == 0 => Some(At::TrailerStart),
            (At::SizeFeed, b'\n') => Some(At::Data),
            (At::DataReturn, b'\r') => Some(At::DataFeed),
            (At::DataFeed, b'\n') => Some(At::Start),
            (At::TrailerStart, b'\r') => Some(At::LastFeed),
            (At::Trailer, b'\r') => Some(At::TrailerFeed),
            (At::TrailerStart | At::Trailer, _) if byte != b'\n' => Some(At::Trailer),
            (At::TrailerFeed, b'\n') => Some(At::TrailerStart),
            (At::LastFeed, b'\n') => Some(At::End),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_behind_its_last_line_however_it_comes() {
        for body in ["0\r\n\r\n", "5\r\n1\r\n45\r\n00\r\n\r\n", "A;x=\"y\"\r\n0123456789\r\n0 ;z\r\nT: u\r\nV: w\r\n\r\n"] {
            let stream = format!("{body}GET /");
            for cut in 0..=stream.len() {
                let (first, second) = stream.as_bytes().split_at(cut);
                let mut chunks = Chunks::new();
                let passed = chunks.pass(first).unwrap();
                let more = if passed < first.len() { 0 } else { chunks.pass(second).unwrap() };
                assert_eq!((passed + more, chunks.is_over()), (body.len(), true), "{stream:?} {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        for body in [
            "\r\n",
            "x\r\n",
            "5\n12345",
            "5\r12345",
            "5\r\n123456\r\n",
            "5\r\n12345\n",
            ";\r\n",
            "-1\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0;a\n",
            "0\r\nA: b\n",
            "0\r\nA\r\r",
            "0x5\r\n",
        ] {
            assert!(Chunks::new().pass(body.as_bytes()).is_err(), "{body:?}");
        }
        for (body, good) in [("x", 0), ("0\r\n\n", 3), ("5\r\n12345\n", 8), ("0\r\nA: b\n\r\n", 7)] {
            assert_eq!(Chunks::new().pass(body.as_bytes()), Err(good), "{body:?}");
        }
    }
}
