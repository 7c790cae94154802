//! Bodies of answers: a text that is there, or events that come while the model works.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes that come while the model works.
pub(crate) trait Pieces: Send {
    /// The next bytes; none at the end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;
}

/// The body of an answer.
pub(crate) enum Reply {
    /// All of it; nothing once it was taken.
    Whole(Option<Bytes>),
    /// Server-sent events.
    Events(Box<dyn Pieces>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.poll_next(context).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer of some type, which browsers shall not guess.
pub(crate) fn typed(status: StatusCode, kind: &'static str, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text.
pub(crate) fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Reply> {
    typed(status, kind, Reply::Whole(Some(Bytes::from(text))))
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Reply> {
    text(status, "application/json", format!("{value}\n"))
}
