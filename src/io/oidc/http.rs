//! One request by HTTP/1.1 and its answer, with a limit.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

/// The largest answer, as in the greeting of a broker.
const MAX_ANSWER: usize = 64 * 1024;
/// The largest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// Sends `request` and reads the whole answer. Both ends of the conversation are polled here, so that nothing of it is
/// left when the future is dropped.
///
/// # Errors
/// What hyper says, or that the answer is too large.
pub(super) async fn exchange<S>(stream: S, request: Request<String>) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(Adapter::new(stream)).await.map_err(Broken::http)?;
    let mut connection = pin!(connection);
    let mut ended = false;
    let mut answer = pin!(async move { collect(sender.send_request(request).await.map_err(Broken::http)?).await });
    poll_fn(|cx| {
        // How it ends is told to the other half, too.
        if !ended && connection.as_mut().poll(cx).is_ready() {
            ended = true;
        }
        answer.as_mut().poll(cx)
    })
    .await
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// More than fits.
    TooLarge,
    /// What came is no HTTP, or the connection broke.
    Http(String),
}

impl Broken {
    fn http(error: hyper::Error) -> Broken {
        // The cause says more than "error reading a body from connection".
        match std::error::Error::source(&error) {
            Some(cause) => Broken::Http(format!("{error}: {cause}")),
            None => Broken::Http(error.to_string()),
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::TooLarge => write!(f, "its answer is larger than {} KiB", MAX_ANSWER / 1024),
            Broken::Http(why) => write!(f, "HTTP: {why}"),
        }
    }
}

async fn collect(response: Response<Incoming>) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Broken> {
    let status = response.status();
    let mut body = pin!(response.into_body());
    // Of its full size from the beginning: to grow would leave copies of the token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // Trailers say nothing here.
        let Ok(data) = frame.map_err(Broken::http)?.into_data() else { continue };
        if data.len() > MAX_ANSWER - bytes.len() {
            return Err(Broken::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok((status, bytes))
}

/// Tokio's streams as hyper wants them. hyper-util has the same without a copy, for which it needs `unsafe`.
struct Adapter<S> {
    stream: S,
    buffer: Zeroizing<Vec<u8>>,
}

impl<S> Adapter<S> {
    fn new(stream: S) -> Adapter<S> {
        Adapter { stream, buffer: Zeroizing::new(vec![0; 4096]) }
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Adapter<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Adapter { stream, buffer } = self.get_mut();
        let room = into.remaining().min(buffer.len());
        let Some(room) = buffer.get_mut(..room) else { return Poll::Ready(Ok(())) };
        let mut read = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Adapter<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
