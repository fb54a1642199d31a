//! Sockets: one listener per broker, one task per connection, requests answered in order as a real broker does.

use super::api::{self, Outcome};
use super::sasl::Session;
use super::socket::{self, Socket};
use super::state::Shared;
use bytes::{Buf, Bytes, BytesMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// `socket.request.max.bytes` of a real broker.
const MAX_REQUEST: usize = 100 << 20;
/// How often sessions and rebalances look at the clock.
const TICK: Duration = Duration::from_millis(10);

/// What the cluster's thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Listen again; on the old port if it can be had.
    Start {
        broker: i32,
        done: std::sync::mpsc::Sender<std::io::Result<()>>,
    },
    /// Cut all connections and close the port.
    Stop {
        broker: i32,
        keep_port: bool,
        done: std::sync::mpsc::Sender<()>,
    },
    /// Cut all connections, keep listening.
    Cut {
        broker: i32,
        done: std::sync::mpsc::Sender<()>,
    },
    Shutdown,
}

/// A broker that listens, or holds its port without listening.
#[derive(Default)]
struct Port {
    accepting: Option<Accepting>,
    held: Option<TcpSocket>,
}

struct Accepting {
    task: JoinHandle<()>,
    stop: mpsc::UnboundedSender<(bool, oneshot::Sender<()>)>,
}

/// Runs until `Shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut ports: std::collections::BTreeMap<i32, Port> = std::collections::BTreeMap::new();
    let ticker = tokio::spawn(tick(Arc::clone(&shared)));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Start { broker, done } => {
                let port = ports.entry(broker).or_default();
                let _ = done.send(start(&shared, broker, port));
            }
            Command::Stop { broker, keep_port, done } => {
                let port = ports.entry(broker).or_default();
                stop(port).await;
                port.held = None;
                if keep_port {
                    let address = shared.lock().brokers.get(&broker).map(|broker| broker.address);
                    port.held = address.and_then(|address| bind(address).ok());
                }
                let _ = done.send(());
            }
            Command::Cut { broker, done } => {
                if let Some(accepting) = ports.get(&broker).and_then(|port| port.accepting.as_ref()) {
                    ask_to_cut(accepting, true).await;
                }
                let _ = done.send(());
            }
            Command::Shutdown => break,
        }
    }
    ticker.abort();
    for port in ports.values_mut() {
        stop(port).await;
    }
}

fn start(shared: &Arc<Shared>, broker: i32, port: &mut Port) -> std::io::Result<()> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let known = shared.lock().brokers.get(&broker).map_or(any, |broker| broker.address);
    let socket = match port.held.take() {
        Some(held) => held,
        None => bind(known).or_else(|_| bind(any))?,
    };
    let listener = match socket.listen(1024) {
        Ok(listener) => listener,
        // Somebody took the port meanwhile: metadata will name another.
        Err(_) => bind(any)?.listen(1024)?,
    };
    let address = listener.local_addr()?;
    let (stop, stopped) = mpsc::unbounded_channel();
    if let Some(state) = shared.lock().brokers.get_mut(&broker) {
        state.address = address;
    }
    let task = tokio::spawn(accept(Arc::clone(shared), broker, listener, stopped));
    port.accepting = Some(Accepting { task, stop });
    Ok(())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn stop(port: &mut Port) {
    if let Some(accepting) = port.accepting.take() {
        ask_to_cut(&accepting, false).await;
        let _ = accepting.task.await;
    }
}

async fn ask_to_cut(accepting: &Accepting, go_on: bool) {
    let (done, cut) = oneshot::channel();
    if accepting.stop.send((go_on, done)).is_ok() {
        let _ = cut.await;
    }
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        interval.tick().await;
        let changed = shared.lock().tick(shared.clock.now_ms());
        if changed {
            shared.ring();
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    broker: i32,
    listener: TcpListener,
    mut stop: mpsc::UnboundedReceiver<(bool, oneshot::Sender<()>)>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            asked = stop.recv() => {
                connections.shutdown().await;
                let Some((go_on, done)) = asked else { return };
                if !go_on {
                    drop(listener);
                    let _ = done.send(());
                    return;
                }
                let _ = done.send(());
            }
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(Arc::clone(&shared), broker, stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    broker: i32,
}

impl Counted {
    fn new(shared: Arc<Shared>, broker: i32) -> Self {
        if let Some(state) = shared.lock().brokers.get_mut(&broker) {
            state.connections += 1;
        }
        shared.ring();
        Self { shared, broker }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(state) = self.shared.lock().brokers.get_mut(&self.broker) {
            state.connections = state.connections.saturating_sub(1);
        }
        self.shared.ring();
    }
}

async fn connection(shared: Arc<Shared>, broker: i32, stream: TcpStream) {
    let _counted = Counted::new(Arc::clone(&shared), broker);
    let Some(mut stream) = socket::open(&shared, broker, stream).await else { return };
    let session = Arc::new(Session::default());
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        let Some(frame) = read_frame(&mut stream, &mut buffer).await else { return };
        match api::answer(&shared, broker, &session, frame).await {
            Outcome::Nothing => {}
            Outcome::Close => return,
            Outcome::Hang => return socket::drain(stream).await,
            Outcome::Write(bytes) => {
                if write(&mut stream, &bytes).await.is_err() {
                    return;
                }
            }
            Outcome::WriteAndClose(bytes) => {
                let _ = write(&mut stream, &bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Outcome::Pieces { bytes, size, pause } => {
                if write_pieces(&mut stream, &bytes, size, pause).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The next request without its length; `None` when the connection is over or the length is absurd.
async fn read_frame(stream: &mut impl Socket, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*head)).ok().filter(|len| *len <= MAX_REQUEST)?;
            if buffer.len() >= 4 + len {
                buffer.advance(4);
                return Some(buffer.split_to(len).freeze());
            }
            // Grows as bytes arrive: the length alone allocates nothing.
            buffer.reserve((4 + len - buffer.len()).min(1 << 20));
        } else {
            buffer.reserve(64 << 10);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// TLS keeps bytes back until it is flushed.
async fn write(stream: &mut impl Socket, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn write_pieces(stream: &mut impl Socket, bytes: &[u8], size: usize, pause: Duration) -> std::io::Result<()> {
    for piece in bytes.chunks(size.max(1)) {
        stream.write_all(piece).await?;
        stream.flush().await?;
        if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
    }
    Ok(())
}
