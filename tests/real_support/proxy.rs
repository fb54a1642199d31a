//! Between a client and a broker: a network that can lose answers, and deliver requests late.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proto_tests::real::{RealCluster, RealConfig};

/// A cluster of one broker that clients reach only through here.
pub struct Proxied {
    pub cluster: Arc<RealCluster>,
    proxy: Arc<Proxy>,
    address: String,
}

#[derive(Default)]
struct Proxy {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    broker: String,
    answers_lost: bool,
    connections: Vec<TcpStream>,
    links: Vec<Arc<Link>>,
}

/// One connection of a client, and the one to the broker that goes with it.
#[derive(Default)]
struct Link {
    held: Mutex<bool>,
    released: Condvar,
    /// Bytes that the broker answered since the requests were held.
    answered: AtomicUsize,
}

impl Link {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.answered.store(0, Ordering::Relaxed);
        self.released.notify_all();
    }

    fn wait(&self) {
        drop(self.released.wait_while(self.held.lock().unwrap(), |held| *held).unwrap());
    }
}

/// Requests on the connections of a moment, stopped on their way. They arrive although the client is long dead.
pub struct Held(Vec<Arc<Link>>);

impl Held {
    /// Lets them go on.
    pub fn release(&self) {
        self.0.iter().for_each(|link| link.hold(false));
    }

    /// Bytes that the broker has answered to them.
    pub fn answered(&self) -> usize {
        self.0.iter().map(|link| link.answered.load(Ordering::Relaxed)).sum()
    }
}

impl Proxied {
    pub fn start(config: RealConfig) -> Proxied {
        Proxied::start_listeners(config, ["PLAINTEXT"]).into_iter().next().unwrap()
    }

    /// One network for each of these listeners of the same broker.
    pub fn start_listeners<const N: usize>(config: RealConfig, listeners: [&str; N]) -> [Proxied; N] {
        // One start at a time: two at once could choose the same free ports.
        static STARTING: Mutex<()> = Mutex::new(());
        let _turn = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let sockets = listeners.map(|listener| (listener, TcpListener::bind("127.0.0.1:0").unwrap()));
        let mut advertised: Vec<_> =
            sockets.iter().map(|(name, socket)| format!("{name}://{}", socket.local_addr().unwrap())).collect();
        if !listeners.contains(&"PLAINTEXT") {
            // Kafka wants one for the traffic among brokers, of which there is none.
            advertised.push("PLAINTEXT://127.0.0.1:9".to_owned());
        }
        let config = config.brokers(1).config("advertised.listeners", &advertised.join(","));
        let cluster = Arc::new(RealCluster::start(config).unwrap());
        sockets.map(|(name, listener)| {
            let address = listener.local_addr().unwrap().to_string();
            let proxy = Arc::new(Proxy::default());
            proxy.state.lock().unwrap().broker = match name {
                "PLAINTEXT" => cluster.address(1).to_owned(),
                other => cluster.bootstrap_of(other).remove(0),
            };
            let serving = proxy.clone();
            std::thread::spawn(move || listener.incoming().flatten().for_each(|client| serving.connect(client)));
            Proxied { cluster: cluster.clone(), proxy, address }
        })
    }

    /// What clients are told as bootstrap server, and as the broker's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on requests reach the broker and its answers vanish.
    pub fn lose_answers(&self) {
        self.proxy.state.lock().unwrap().answers_lost = true;
    }

    /// From now on what clients send over the connections they have stays on the way; new connections work.
    pub fn hold_requests(&self) -> Held {
        let links = self.proxy.state.lock().unwrap().links.clone();
        links.iter().for_each(|link| link.hold(true));
        Held(links)
    }

    /// Ends all connections; new ones work.
    pub fn mend(&self) {
        let mut state = self.proxy.state.lock().unwrap();
        state.answers_lost = false;
        state.connections.drain(..).for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
        state.links.clear();
    }
}

impl Proxy {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state.lock().unwrap();
        // Refused while the broker is down: the client's side ends as well.
        let Ok(broker) = TcpStream::connect(&state.broker) else { return };
        // Handshakes are short messages to and fro: to wait for more of each would take most of the time.
        for end in [&client, &broker] {
            end.set_nodelay(true).unwrap();
        }
        state.connections.extend([client.try_clone().unwrap(), broker.try_clone().unwrap()]);
        let (requests, answers) = ((client.try_clone().unwrap(), broker.try_clone().unwrap()), (broker, client));
        let link = Arc::new(Link::default());
        state.links.push(link.clone());
        drop(state);
        let (back, same) = (self.clone(), link.clone());
        std::thread::spawn(move || pass_requests(requests.0, requests.1, &link));
        std::thread::spawn(move || back.pass_answers(answers.0, answers.1, &same));
    }

    fn pass_answers(&self, mut from: TcpStream, mut to: TcpStream, link: &Link) {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            link.answered.fetch_add(count, Ordering::Relaxed);
            // That the client is gone is for the other direction to find out: it may have requests on the way.
            let _ = self.state.lock().unwrap().answers_lost || to.write_all(&bytes[..count]).is_err();
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

fn pass_requests(mut from: TcpStream, mut to: TcpStream, link: &Link) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        link.wait();
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The broker reads what is still on the way, then closes.
    let _ = to.shutdown(Shutdown::Write);
}
