//! The bytes of a connection: in the clear, or by TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::{self, ReadAhead};
use crate::error::TlsFailure;

/// An open stream.
///
/// What is written to TLS is encrypted at once and sent by a flush: whoever writes knows which bytes may be on their way
/// before any of them is.
#[derive(Debug)]
pub(super) enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Tls>),
}

/// A stream by TLS.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TlsStream<ReadAhead>,
    /// This side has a certificate to show.
    certificate: bool,
}

impl Tls {
    pub(super) fn new(stream: TlsStream<ReadAhead>, certificate: bool) -> Tls {
        Tls { stream, certificate }
    }

    /// Encrypts as much as there is room for. Zero: only with a flush there is room again.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.get_mut().1.writer().write_vectored(slices)
    }
}

impl Stream {
    /// Whether bytes were written that the socket has not got: they wait for a flush.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.stream.get_ref().1.wants_write(),
        }
    }

    /// Which failure of TLS `error` is, if it is one. A write may have failed because the other side ended the connection:
    /// its alert, which says why, is then still to be read.
    pub(super) async fn why_broken(&mut self, error: &io::Error) -> Option<TlsFailure> {
        let Stream::Tls(tls) = self else { return None };
        if let Some(failure) = tls::why_broken(error, tls.certificate) {
            return Some(failure);
        }
        let last = poll_fn(|cx| {
            let mut byte = [0; 1];
            match Pin::new(&mut tls.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
                // The socket is dead: what has not come does not come.
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(None),
            }
        });
        tls::why_broken(&last.await?, tls.certificate)
    }

    /// Whether the certificate was shown, or the session of an earlier connection was resumed.
    #[cfg(test)]
    pub(super) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.stream.get_ref().1.handshake_kind(),
        }
    }

    /// Tells the other side that nothing more comes, if that is possible at once.
    pub(super) async fn say_goodbye(&mut self) {
        if let Stream::Tls(tls) = self {
            poll_fn(|cx| {
                let _ = Pin::new(&mut tls.stream).poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(tls) => match Pin::new(&mut tls.stream).poll_read(cx, into) {
                // The end without close_notify: a frame cut short is noticed by its length.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                outcome => outcome,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// By TLS, many small parts make few large records.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(tls) => loop {
                let written = tls.encrypt(slices)?;
                if written > 0 || slices.iter().all(|slice| slice.is_empty()) {
                    return Poll::Ready(Ok(written));
                }
                ready!(Pin::new(&mut tls.stream).poll_flush(cx))?;
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}
