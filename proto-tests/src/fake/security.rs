//! What the brokers saw of TLS and SASL, for assertions.

use std::collections::{BTreeMap, VecDeque};

/// Connections whose first bytes are kept.
const CONNECTIONS_KEPT: usize = 512;

/// TLS and SASL so far, broker by broker.
#[derive(Debug, Clone, Default)]
pub struct SecuritySeen {
    brokers: BTreeMap<i32, BrokerSecurity>,
    /// The first bytes of the last 512 connections as they came over the wire, in order of arrival; empty unless
    /// [`super::Builder::raw_bytes`] says how many.
    pub connections: VecDeque<Arrived>,
    next_connection: u64,
}

/// TLS and SASL at one broker.
#[derive(Debug, Clone, Default)]
pub struct BrokerSecurity {
    /// TLS handshakes that were completed.
    pub tls_handshakes: u64,
    /// Why TLS handshakes failed, as the broker sees it: the client's alert, among others.
    pub tls_failures: Vec<String>,
    /// Names that clients asked for by SNI, none for an address.
    pub server_names: Vec<Option<String>>,
    /// Certificates that clients showed, in DER: the first of each chain.
    pub client_certificates: Vec<Vec<u8>>,
    /// Mechanisms named in SaslHandshake, in order.
    pub mechanisms: Vec<String>,
    /// Authentications that succeeded, re-authentications included.
    pub authenticated: Vec<Authenticated>,
    /// Messages of authentications that failed.
    pub refusals: Vec<String>,
    /// Extensions sent with OAUTHBEARER.
    pub extensions: Vec<(String, String)>,
    /// Connections closed at a request after the end of their session.
    pub expired: u64,
    /// Connections closed at a request that is not allowed before authentication.
    pub refused_unauthenticated: u64,
}

/// One authentication that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Of SASL.
    pub mechanism: String,
    /// Who it is.
    pub principal: String,
    /// On a connection that was authenticated before (KIP-368).
    pub again: bool,
}

/// The beginning of one connection, before TLS takes anything off.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The broker connected to.
    pub broker: i32,
    /// The first bytes from the client.
    pub bytes: Vec<u8>,
    number: u64,
}

impl Arrived {
    /// Whether they begin with a TLS handshake record.
    pub fn is_tls(&self) -> bool {
        self.bytes.starts_with(&[22, 3])
    }

    /// Whether anything was said that is no TLS. A client that is dropped while it connects has said nothing at all.
    pub fn is_in_the_clear(&self) -> bool {
        !self.bytes.is_empty() && !self.is_tls()
    }

    /// Whether `needle` is among them.
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty() && self.bytes.windows(needle.len()).any(|window| window == needle)
    }
}

impl BrokerSecurity {
    pub(crate) fn authenticated(&mut self, one: Authenticated) {
        self.authenticated.push(one);
    }

    /// First authentications of connections.
    pub fn authentications(&self) -> usize {
        self.authenticated.iter().filter(|one| !one.again).count()
    }

    /// Authentications of connections that had one before.
    pub fn reauthentications(&self) -> usize {
        self.authenticated.iter().filter(|one| one.again).count()
    }
}

impl SecuritySeen {
    /// What one broker saw.
    pub fn broker(&self, broker: i32) -> BrokerSecurity {
        self.brokers.get(&broker).cloned().unwrap_or_default()
    }

    /// Sum of a figure over all brokers.
    pub fn sum(&self, figure: impl Fn(&BrokerSecurity) -> usize) -> usize {
        self.brokers.values().map(figure).sum()
    }

    /// All brokers that saw anything.
    pub fn brokers(&self) -> impl Iterator<Item = (i32, &BrokerSecurity)> {
        self.brokers.iter().map(|(id, seen)| (*id, seen))
    }

    pub(crate) fn of(&mut self, broker: i32) -> &mut BrokerSecurity {
        self.brokers.entry(broker).or_default()
    }

    /// A new connection; its number.
    pub(crate) fn connected(&mut self, broker: i32) -> u64 {
        let number = self.next_connection;
        self.next_connection += 1;
        if self.connections.len() == CONNECTIONS_KEPT {
            self.connections.pop_front();
        }
        self.connections.push_back(Arrived { broker, bytes: Vec::new(), number });
        number
    }

    /// More bytes of a connection.
    pub(crate) fn arrived(&mut self, number: u64, bytes: &[u8]) {
        if let Some(one) = self.connections.iter_mut().rev().find(|one| one.number == number) {
            one.bytes.extend_from_slice(bytes);
        }
    }
}
