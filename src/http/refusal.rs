//! Refusals that the HTTP library writes by itself, as problems.
//!
//! A head that is no HTTP never becomes a request, so no layer sees it: the library answers with a bare status line and closes. Every answer of
//! ours carries `X-Request-Id` and those do not, which is how they are told apart on their way to the socket. Whatever can be read of such a
//! head (`heads.rs`) goes through the same layers as a request, to a router whose one handler refuses: so the answer says what any other one says.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{self, Body};
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt as _;

use super::admission::{DRAIN_BYTES, DRAIN_TIMEOUT};
use super::heads::{Heads, Readable};
use super::{AppState, admission};
use crate::config::ServerConfig;
use crate::error::{Code, Error};

/// No answer of the library itself is longer.
const MAX_BARE_BYTES: usize = 256;
/// No problem that is made here is longer: only a path of its request can make it long.
const MAX_PROBLEM_BYTES: usize = 1024 * 1024;

/// Why a head was refused, for the handler that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    status: StatusCode,
    readable: Readable,
}

/// The handler of all refusals.
pub(super) async fn refuse(State(state): State<AppState>, refused: Option<Extension<Refused>>) -> Response {
    let Some(Extension(Refused { status, readable })) = refused else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = refusal(status, readable, &state.config.server).into_response();
    if !readable.has_method {
        // It may have been a read.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The library's own bounds lie above those of the settings, so a limit of the settings was passed whenever it refuses a size.
fn refusal(status: StatusCode, readable: Readable, server: &ServerConfig) -> Error {
    match status.as_u16() {
        414 => admission::uri_too_long(server),
        431 if readable.is_within_target || readable.target > server.max_uri_bytes => admission::uri_too_long(server),
        431 if readable.headers > server.max_headers => admission::too_many_headers(server),
        // The whole head has come and is none too large, so it announces what is.
        431 if readable.size.is_some_and(|size| size <= server.max_header_bytes) => {
            Error::new(Code::InvalidRequest, "The header Content-Length is no length that a body can have.")
        }
        431 => admission::headers_too_large(server),
        _ => Error::new(Code::InvalidRequest, "The request is not well-formed HTTP/1.1."),
    }
}

/// What refusals are made of.
#[derive(Clone)]
pub(super) struct Maker {
    /// A router with [`refuse`] as its only handler.
    pub(super) router: Router,
    pub(super) peer: SocketAddr,
    pub(super) heads: Heads,
}

impl Maker {
    /// The bytes to write instead of the library's: its own head, with what the layers say in it, and a problem.
    async fn problem(self, bare: String, status: StatusCode) -> Vec<u8> {
        let (request, readable) = self.heads.read();
        let mut request: Request = request.map(|()| Body::empty());
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(Refused { status, readable });
        let (parts, body) = match self.router.oneshot(request).await {
            Ok(response) => response.into_parts(),
        };
        let Ok(body) = body::to_bytes(body, MAX_PROBLEM_BYTES).await else { return bare.into_bytes() };
        if !parts.status.is_client_error() {
            return bare.into_bytes();
        }
        let mut lines = bare.trim_end().split("\r\n");
        let version = lines.next().and_then(|line| line.split(' ').next()).unwrap_or("HTTP/1.1");
        let mut answer = format!("{version} {}\r\n", parts.status).into_bytes();
        // Those about the connection, and the date.
        for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("content-length:")) {
            answer.extend_from_slice(line.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        for (name, value) in &parts.headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        if !parts.headers.contains_key(CONTENT_LENGTH) {
            answer.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        answer.extend_from_slice(b"\r\n");
        // To HEAD there is none.
        answer.extend_from_slice(&body);
        answer
    }
}

/// What is written instead of a bare answer.
enum Pending {
    Made(Pin<Box<dyn Future<Output = Vec<u8>> + Send>>),
    /// And how much of it has been.
    Written(Vec<u8>, usize),
}

/// A stream that replaces bare refusals.
pub(super) struct Refusals<S> {
    stream: S,
    /// Without it the answers stay as they are.
    maker: Option<Maker>,
    pending: Option<Pending>,
    /// Chunks are malformed: nothing more is read.
    is_broken: bool,
    linger: Option<Linger>,
}

/// The end of a connection whose client may still be sending.
struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<S> Refusals<S> {
    pub(super) fn new(stream: S, maker: Option<Maker>) -> Self {
        Self { stream, maker, pending: None, is_broken: false, linger: None }
    }
}

/// The status of an answer that the library has made by itself, and its text.
fn bare_answer(bytes: &[u8]) -> Option<(StatusCode, &str)> {
    if bytes.len() > MAX_BARE_BYTES || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let status = StatusCode::from_bytes(head.strip_prefix("HTTP/1.")?.get(2..5)?.as_bytes()).ok()?;
    let is_ours = head.to_ascii_lowercase().contains("\r\nx-request-id:");
    (status.is_client_error() && !is_ours).then_some((status, head))
}

impl<S: AsyncWrite + Unpin> Refusals<S> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pending) = &mut self.pending {
            match pending {
                Pending::Made(answer) => *pending = Pending::Written(ready!(answer.as_mut().poll(context)), 0),
                Pending::Written(bytes, written) => {
                    let more = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[*written..]))?;
                    *written += more;
                    if *written >= bytes.len() || more == 0 {
                        self.pending = None;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Refusals<S> {
    /// Reads on behind the answer, for a while: a connection that is closed over unread bytes is reset, and with it goes the answer
    /// (RFC 9112 section 9.6).
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger { until: Box::pin(sleep(DRAIN_TIMEOUT)), left: DRAIN_BYTES });
        let mut place = [MaybeUninit::uninit(); 8192];
        while linger.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut place);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() && linger.left > buffer.filled().len() => linger.left -= buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusals<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let no_chunks = || Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the chunks of a body are malformed")));
        if self.is_broken {
            return no_chunks();
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Some(maker) = &self.maker else { return Poll::Ready(Ok(())) };
        let came = buffer.filled().len() - before;
        let good = maker.heads.came(&buffer.filled()[before..]);
        if good < came {
            buffer.set_filled(before + good);
            self.is_broken = true;
            if good == 0 {
                return no_chunks();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Refusals<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        let Some((maker, (status, bare))) = self.maker.as_ref().zip(bare_answer(bytes)) else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        self.pending = Some(Pending::Made(Box::pin(maker.clone().problem(bare.to_owned(), status))));
        let _ = self.poll_pending(context)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) if bare_answer(only).is_some() => {
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
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.maker.as_ref().is_some_and(|maker| maker.heads.is_cut_off()) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_library_wrote_is_replaced() {
        let status = |bytes: &str| bare_answer(bytes.as_bytes()).map(|(status, _)| status.as_u16());
        assert_eq!(status("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), Some(400));
        assert_eq!(status("HTTP/1.0 431 Request Header Fields Too Large\r\n\r\n"), Some(431));
        for other in
            ["HTTP/1.1 404 Not Found\r\nX-Request-Id: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "", "{}"]
        {
            assert_eq!(status(other), None, "{other}");
        }
    }
}
