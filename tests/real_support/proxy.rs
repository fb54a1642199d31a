//! Between a client and a broker: a network that can lose answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use proto_tests::real::{RealCluster, RealConfig};

/// A cluster of one broker that clients reach only through here.
pub struct Proxied {
    pub cluster: RealCluster,
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
}

impl Proxied {
    pub fn start(config: RealConfig) -> Proxied {
        // One start at a time: two at once could choose the same free ports.
        static STARTING: Mutex<()> = Mutex::new(());
        let _turn = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let advertised = format!("PLAINTEXT://{address}");
        let cluster = RealCluster::start(config.brokers(1).config("advertised.listeners", &advertised)).unwrap();
        let proxy = Arc::new(Proxy::default());
        proxy.state.lock().unwrap().broker = cluster.address(1).to_owned();
        let serving = proxy.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| serving.connect(client)));
        Proxied { cluster, proxy, address }
    }

    /// What clients are told as bootstrap server, and as the broker's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on requests reach the broker and its answers vanish.
    pub fn lose_answers(&self) {
        self.proxy.state.lock().unwrap().answers_lost = true;
    }

    /// Ends all connections; new ones work.
    pub fn mend(&self) {
        let mut state = self.proxy.state.lock().unwrap();
        state.answers_lost = false;
        state.connections.drain(..).for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
    }
}

impl Proxy {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state.lock().unwrap();
        // Refused while the broker is down: the client's side ends as well.
        let Ok(broker) = TcpStream::connect(&state.broker) else { return };
        state.connections.extend([client.try_clone().unwrap(), broker.try_clone().unwrap()]);
        let (requests, answers) = ((client.try_clone().unwrap(), broker.try_clone().unwrap()), (broker, client));
        drop(state);
        let (there, back) = (self.clone(), self.clone());
        std::thread::spawn(move || there.pump(requests.0, requests.1, false));
        std::thread::spawn(move || back.pump(answers.0, answers.1, true));
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let lost = answers && self.state.lock().unwrap().answers_lost;
            if !lost && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
