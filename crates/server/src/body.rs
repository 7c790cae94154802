//! Bodies of requests, read within bounds of size, time and memory.

use crate::failure::Failure;
use anemll_codes as codes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of a request, at most. The context of no model holds more.
pub(crate) const LARGEST: usize = 16 << 20;
/// Bytes of a request that is too large which are read before it is told so: many clients listen only
/// when they have sent all.
const LISTENED: usize = 1 << 28;
/// Bytes of all requests that are being read or wait to be understood.
const MOST_TOGETHER: usize = 256 << 20;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that all bodies share.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

/// Bytes of a budget, given back in the end.
struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.budget.0.fetch_add(bytes, Ordering::Relaxed) + bytes <= MOST_TOGETHER
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body, and has `read` made something of it.
///
/// # Errors
/// It is too large, does not come in time, or breaks off; those of `read`.
pub(crate) async fn read<T>(
    mut body: Incoming,
    budget: &Budget,
    read: impl FnOnce(&[u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut share = Share { budget, bytes: 0 };
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    let mut refusal = (said > LARGEST).then(|| too_large(said));
    // One that announces so much is not listened to at all.
    while said <= LISTENED && length <= LISTENED {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Failure::new(
                    StatusCode::BAD_REQUEST,
                    codes::REQUEST_INVALID,
                    format!("the request broke off: {error}"),
                ));
            }
            Err(_) => {
                return Err(Failure::new(
                    StatusCode::REQUEST_TIMEOUT,
                    codes::REQUEST_SLOW,
                    format!("the request did not come within {} s", PATIENCE.as_secs()),
                ));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > LARGEST && refusal.is_none() {
            refusal = Some(too_large(length));
        }
        if refusal.is_some() {
            bytes = Vec::new();
        } else if share.take(data.len()) {
            bytes.extend_from_slice(&data);
        } else {
            refusal = Some(Failure::busy("many large requests come at once", 1));
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => read(&bytes),
    }
}

fn too_large(length: usize) -> Failure {
    let message = format!("the request has {length} bytes or more, and {LARGEST} are read at most");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, codes::REQUEST_TOO_LARGE, message)
        .with_hint("send a shorter prompt; no context holds this one")
}
