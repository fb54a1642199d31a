//! The bytes of a connection at the broker: as they are or by TLS, and a copy of the first ones for the ledger.

use super::state::Shared;
use super::tls::TlsFault;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How long a broker that has refused a handshake listens on, so that its alert is not lost in a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Whatever carries requests.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Shakes hands if the broker listens by TLS. `None`: the connection is over.
pub(crate) async fn open(shared: &Arc<Shared>, broker: i32, stream: TcpStream) -> Option<Box<dyn Socket>> {
    let (tls, fault, left) = {
        let mut state = shared.lock();
        let left = state.settings.raw_bytes;
        let tls = state.tls.as_mut().map(|tls| (tls.config(broker), tls.faults.get(&broker).cloned()));
        let (tls, fault) = tls.unzip();
        (tls, fault.flatten(), left)
    };
    let number = if left == 0 { 0 } else { shared.lock().security.connected(broker) };
    let mut tap = Tap { stream, shared: Arc::clone(shared), number, left, writable: usize::MAX };
    let Some(config) = tls else { return Some(Box::new(tap)) };
    match fault {
        None => {}
        Some(TlsFault::Stall(bytes)) => tap.writable = bytes,
        Some(fault) => {
            misbehave(tap, fault).await;
            return None;
        }
    }
    match TlsAcceptor::from(config).accept(tap).into_fallible().await {
        Ok(stream) => {
            let connection = stream.get_ref().1;
            let name = connection.server_name().map(str::to_owned);
            let shown = connection.peer_certificates().and_then(|chain| chain.first()).map(|one| one.to_vec());
            let mut state = shared.lock();
            let seen = state.security.of(broker);
            seen.tls_handshakes += 1;
            seen.server_names.push(name);
            seen.client_certificates.extend(shown);
            drop(state);
            shared.ring();
            Some(Box::new(stream))
        }
        Err((error, mut tap)) => {
            shared.lock().security.of(broker).tls_failures.push(error.to_string());
            shared.ring();
            let _ = tap.shutdown().await;
            let _ = tokio::time::timeout(LINGER, drain(tap)).await;
            None
        }
    }
}

async fn misbehave(mut tap: Tap, fault: TlsFault) {
    let mut first = [0; 1];
    if tap.read(&mut first).await.is_ok_and(|read| read > 0) {
        if let TlsFault::Garbage(bytes) = &fault {
            let _ = tap.write_all(bytes).await;
        }
        if !matches!(fault, TlsFault::Close) {
            drain(tap).await;
        }
    }
}

/// Reads and ignores until the client gives up.
pub(crate) async fn drain(mut stream: impl Socket) {
    let mut sink = vec![0; 16 << 10];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

/// A socket whose first bytes are noted.
struct Tap {
    stream: TcpStream,
    shared: Arc<Shared>,
    number: u64,
    /// Bytes still to note.
    left: usize,
    /// Bytes that may still be written; the others wait for ever.
    writable: usize,
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, into);
        if this.left > 0 && matches!(polled, Poll::Ready(Ok(()))) {
            let new = into.filled().get(before..).unwrap_or_default();
            let noted = &new[..new.len().min(this.left)];
            if !noted.is_empty() {
                this.left -= noted.len();
                this.shared.lock().security.arrived(this.number, noted);
                this.shared.ring();
            }
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.writable == 0 {
            // Nothing wakes it: the connection ends when the broker does.
            return Poll::Pending;
        }
        let allowed = bytes.get(..this.writable).unwrap_or(bytes);
        let polled = Pin::new(&mut this.stream).poll_write(cx, allowed);
        if let Poll::Ready(Ok(written)) = &polled
            && this.writable != usize::MAX
        {
            this.writable -= written;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
