//! A limit on clients that take next to nothing of an answer. The time limits of requests end when the answer begins, so without this one
//! a client that never reads, or a byte now and then, would hold its connection, and what the answer holds, for ever.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client takes at least, in each time limit, of an answer that waits for it.
const LEAST_BYTES: usize = 16 * 1024;

/// A stream whose writes fail with [`io::ErrorKind::TimedOut`] once the other side has taken less than [`LEAST_BYTES`] for the given time.
/// The time runs only while there is something to write.
pub(super) struct StallLimit<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Since the time runs.
    taken: usize,
}

impl<S> StallLimit<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None, taken: 0 }
    }
}

/// How much of what there is to write the client has taken.
enum Taken {
    Bytes(usize),
    All,
}

impl<S: AsyncWrite + Unpin> StallLimit<S> {
    /// Looks at the time when a write has to wait; `taken` says how much an ended one has brought on its way.
    fn watch<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>, taken: impl FnOnce(&T) -> Taken) -> Poll<io::Result<T>> {
        match &result {
            Poll::Ready(Ok(done)) => {
                match taken(done) {
                    Taken::Bytes(bytes) => self.taken = self.taken.saturating_add(bytes),
                    Taken::All => self.taken = LEAST_BYTES,
                }
                if self.taken >= LEAST_BYTES {
                    (self.stalled, self.taken) = (None, 0);
                }
                return result;
            }
            Poll::Ready(Err(_)) => return result,
            Poll::Pending => {}
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of the answer"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallLimit<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(result, context, |bytes| Taken::Bytes(*bytes))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(result, context, |bytes| Taken::Bytes(*bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(result, context, |()| Taken::All)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(result, context, |()| Taken::All)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// What becomes of a large answer when its reader takes so much at a time.
    async fn answer(at_once: usize) -> io::Result<()> {
        let (mut reader, writer) = tokio::io::duplex(1024);
        let mut writer = StallLimit::new(writer, LIMIT);
        let read = async {
            let mut buffer = vec![0; at_once];
            while reader.read_exact(&mut buffer).await.is_ok() {
                sleep(LIMIT / 10).await;
            }
        };
        let write = async {
            writer.write_all(&vec![b'x'; 1024 * 1024]).await?;
            writer.flush().await?;
            // The time does not run while there is nothing to write.
            sleep(LIMIT * 2).await;
            writer.write_all(b"more").await
        };
        tokio::select! {
            written = write => written,
            // Long enough for whoever goes on.
            () = sleep(LIMIT * 20) => Err(io::ErrorKind::WouldBlock.into()),
            () = read => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    #[tokio::test]
    async fn a_reader_that_takes_next_to_nothing_is_cut() {
        for at_once in [1, 512] {
            assert_eq!(answer(at_once).await.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut), "{at_once}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_is_not() {
        assert_eq!(answer(64 * 1024).await.map_err(|error| error.kind()), Ok(()));
    }
}
