//! Refusals that the HTTP library writes by itself, as problems.
//!
//! A head that is no HTTP never becomes a request, so no layer sees it: the library answers with a bare status line and closes. Every answer of
//! ours carries `X-Request-Id` and those do not, which is how they are told apart on their way to the socket. They are logged here, too.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{manners, problem};
use crate::domain::clock::Clock;
use crate::domain::id::uuid_v7;

/// No answer of the library itself is longer.
const MAX_BARE_BYTES: usize = 256;

/// A stream that replaces bare refusals.
pub(super) struct Refusals<S> {
    stream: S,
    peer: SocketAddr,
    /// What is written instead, and how much of it has been.
    pending: Option<(Vec<u8>, usize)>,
}

impl<S> Refusals<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream, peer, pending: None }
    }
}

/// The status of an answer that the library has made by itself.
fn bare_status(bytes: &[u8]) -> Option<StatusCode> {
    if bytes.len() > MAX_BARE_BYTES || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let status = StatusCode::from_bytes(head.strip_prefix("HTTP/1.")?.get(2..5)?.as_bytes()).ok()?;
    let is_ours = head.to_ascii_lowercase().contains("\r\nx-request-id:");
    (status.is_client_error() && !is_ours).then_some(status)
}

/// The same refusal as a problem, for a request that has neither path nor id.
fn problem_of(status: StatusCode, peer: SocketAddr) -> Vec<u8> {
    let error = problem::of_bare_status(status);
    let request_id = uuid_v7(Clock::new().now()).to_string();
    let body = problem::body(&error, "", &request_id);
    tracing::info!(%request_id, %peer, status = status.as_u16(), code = error.code.name(), "request");
    let reason = status.canonical_reason().unwrap_or("Refused");
    let protection: String = manners::ALWAYS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\nx-request-id: {request_id}\r\n{protection}content-security-policy: {}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        status.as_u16(),
        problem::PROBLEM_JSON,
        manners::DATA_POLICY,
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

impl<S: AsyncWrite + Unpin> Refusals<S> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, written)) = &mut self.pending {
            let more = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[*written..]))?;
            *written += more;
            if *written >= bytes.len() || more == 0 {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusals<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Refusals<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        let Some(status) = bare_status(bytes) else { return Pin::new(&mut self.stream).poll_write(context, bytes) };
        self.pending = Some((problem_of(status, self.peer), 0));
        let _ = self.poll_pending(context)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) if bare_status(only).is_some() => {
                let only = only.to_vec();
                self.poll_write(context, &only)
            }
            _ => {
                ready!(self.poll_pending(context))?;
                Pin::new(&mut self.stream).poll_write_vectored(context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_library_wrote_is_replaced() {
        assert_eq!(bare_status(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), Some(StatusCode::BAD_REQUEST));
        assert_eq!(bare_status(b"HTTP/1.0 431 Request Header Fields Too Large\r\n\r\n").map(|status| status.as_u16()), Some(431));
        for other in
            ["HTTP/1.1 404 Not Found\r\nX-Request-Id: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "", "{}"]
        {
            assert_eq!(bare_status(other.as_bytes()), None, "{other}");
        }
    }
}
