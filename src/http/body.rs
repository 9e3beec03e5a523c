//! Request bodies: read within limits of size and time; and, for a request that was refused early, read to its end so that the client
//! gets the answer instead of a reset connection.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::extract::single_header;
use crate::error::{Code, Error, Result};

/// Reads a body of at most `limit` bytes within `timeout`.
///
/// # Errors
/// It is larger, slower, or broke off.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize, timeout: Duration) -> Result<Bytes> {
    let too_large = || Error::new(Code::BodyTooLarge, format!("The body is larger than {limit} bytes.")).with_limit(limit as u64);
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    // Not more than the limit, see above.
    let announced = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    match tokio::time::timeout(timeout, collect(Limited::new(body, limit), announced)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Error::new(Code::InvalidRequest, "The body broke off, or its chunks are malformed.").with_cause(error)),
        Err(_) => Err(Error::new(Code::BodyTimeout, format!("The body did not arrive within {} ms.", timeout.as_millis()))),
    }
}

/// The whole of a body, which is in memory once: in the buffer that it was read into when it came at once, else in one of the announced size.
/// What was announced and does not come takes no memory: the system gives it page by page, as it is written.
async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B, announced: usize) -> Result<Bytes, B::Error> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve_exact(announced.max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// The media type that a body is announced as: `None` when it is not announced. JSON is UTF-8, and comes as it is.
///
/// # Errors
/// The header is there twice, or names another character set; the body has a content encoding.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<String>> {
    let unsupported = |detail: &str| Error::new(Code::UnsupportedMediaType, detail);
    // Nothing is ever inflated here: a few bytes could become any number.
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("The body must come without a Content-Encoding."));
    }
    let Some(content_type) = single_header(headers, CONTENT_TYPE.as_str())? else { return Ok(None) };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let foreign_charset = parts.filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let value = value.trim_matches('"');
        name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") && !value.eq_ignore_ascii_case("utf8")
    });
    if foreign_charset { Err(unsupported("The body must be UTF-8.")) } else { Ok(Some(essence)) }
}

/// A request body that two hold: the handler, which may drop it half read, and the edge, which then reads the rest.
#[derive(Clone)]
pub(super) struct SharedBody {
    body: Arc<Mutex<Body>>,
    asked: Arc<AtomicBool>,
}

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self { body: Arc::new(Mutex::new(body)), asked: Arc::default() }
    }

    /// Whether anyone has begun to read it. That is when a client that sent `Expect: 100-continue` is told to go on.
    pub(super) fn was_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Reads and drops what the handler left, at most `limit` bytes and within `timeout`.
    pub(super) async fn drain(self, limit: usize, timeout: Duration) {
        let rest = async {
            let mut left = limit;
            let mut body = self;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(timeout, rest).await;
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.asked.store(true, Ordering::Relaxed);
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
