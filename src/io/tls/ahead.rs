//! A socket that is read further than asked.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What one read may bring: four whole records. rustls asks for 4 KiB at a time, which would be five system calls for
/// each record of 16 KiB.
const AHEAD: usize = 64 * 1024;
/// Bytes remembered from the beginning, to tell what answered.
const FIRST: usize = 8;

/// Reads ahead for TLS; writes as the socket does.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    socket: TcpStream,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    first: Vec<u8>,
}

impl ReadAhead {
    pub(super) fn new(socket: TcpStream) -> ReadAhead {
        ReadAhead { socket, buffer: vec![0; AHEAD].into(), from: 0, to: 0, first: Vec::with_capacity(FIRST) }
    }

    /// The first bytes that came.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.from == this.to {
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buffer))?;
            (this.from, this.to) = (0, buffer.filled().len());
            if this.first.len() < FIRST {
                let missing = FIRST - this.first.len();
                this.first.extend(buffer.filled().iter().take(missing));
            }
        }
        let ahead = this.buffer.get(this.from..this.to).unwrap_or_default();
        let taken = ahead.len().min(into.remaining());
        into.put_slice(&ahead[..taken]);
        this.from += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
