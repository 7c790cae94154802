//! One connection: requests of a client, one after the other, as long as it reads what it is sent.

use crate::app::App;
use crate::failure::Failure;
use anemll_codes as codes;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

/// How long a head of a request may take to come, and a connection may wait for its next request.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may leave unread what it is sent.
const READ: Duration = Duration::from_secs(30);
/// Bytes that are kept for a connection, at most.
const BUFFER: usize = 64 << 10;

/// Serves a connection until it ends, or until `ending` says so and its answer is sent.
pub(crate) async fn serve(stream: TcpStream, app: Arc<App>, mut ending: watch::Receiver<bool>) {
    app.metrics.connections.fetch_add(1, Ordering::Relaxed);
    // Small events shall go at once; where that cannot be, they go later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service);
    let result = tokio::select! {
        result = &mut connection => result,
        // It changes once, or its sender is gone: the server ends in both cases.
        _ = ending.changed() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection broke off: {error}");
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        // One that waits for its next request, or never sent any, expects no answer.
        if error.is_timeout() && !read_buf.is_empty() {
            // Who is gone hears nothing.
            let _ = io.into_inner().stream.try_write(&slow());
        }
    }
    app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
}

/// What a client is told whose head of a request does not come to its end.
fn slow() -> Vec<u8> {
    let message = format!("the head of the request did not come within {} s", HEAD.as_secs());
    let failure = Failure::new(StatusCode::REQUEST_TIMEOUT, codes::REQUEST_SLOW, message);
    let body = format!("{}\n", failure.body());
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// A stream that fails when its reader takes nothing for a while.
struct Impatient {
    stream: TcpStream,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, waiting: None }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(READ)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.bounded(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.bounded(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        this.bounded(context, polled)
    }
}
