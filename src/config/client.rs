//! Settings of connections and metadata, shared by the producers and consumers of one client.

use std::time::Duration;

use super::security::{SECURITY, SecurityProperties};
use super::{ConfigError, MAX_MILLIS, Raw, SaslConfig, SecurityProtocol, Setting, Settings, TlsConfig};

/// How a client connects and learns where topics are. The defaults are the Java client's (4.1) unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientConfig {
    /// `bootstrap.servers`: addresses `host:port` to start from, in any order. No default. One is enough while its broker
    /// is up; two or three survive the loss of one; more cost nothing.
    pub bootstrap_servers: Vec<String>,
    /// `client.id`: what the brokers' logs, metrics and quotas call this client. Default `indelible`.
    pub client_id: String,
    /// `client.rack`: where this client runs, for fetching from the nearest replica (KIP-392). Default none: from the
    /// leader. Fetching from a follower saves traffic between racks and sees records a little later.
    pub client_rack: Option<String>,
    /// `request.timeout.ms`: how long a request may stay unanswered before its connection is closed. Default 30 s. Less
    /// notices a dead broker earlier and breaks off slow but living ones, which costs a retry; more waits longer.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long an operation such as `build` or `create_topics` tries in all. Default 60 s.
    pub default_api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`: how long one address may take to connect and to answer the handshake, at the
    /// first attempt. Default 10 s; doubled at each further failure up to the maximum below.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`. Default 30 s.
    pub connection_setup_timeout_max: Duration,
    /// `reconnect.backoff.ms`: the wait before a broker is connected to again after the first failure, doubled at each
    /// further one, with a jitter of a fifth. Default 50 ms. Less is a load on a broker that starts; more delays recovery.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// `retry.backoff.ms`: the wait before a failed request is repeated, doubled at each further failure. Default 100 ms.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`. Default 1 s.
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`: metadata is asked for again at this age although nothing went wrong, which finds new
    /// partitions and brokers. Default 5 min. Less finds them earlier, for one small request each time.
    pub metadata_max_age: Duration,
    /// `metadata.recovery.strategy`: what to do when no known broker answers. Default [`MetadataRecovery::Rebootstrap`].
    pub metadata_recovery: MetadataRecovery,
    /// `metadata.recovery.rebootstrap.trigger.ms`: after so long without any metadata the bootstrap addresses are asked
    /// first, before brokers that hang (KIP-1102). Default 5 min.
    pub rebootstrap_trigger: Duration,
    /// `connections.max.idle.ms`: a connection without traffic for so long is closed. Default 9 min, just below the
    /// brokers' own 10, so that no request runs into a closing connection. Zero keeps connections.
    pub connections_max_idle: Duration,
    /// `send.buffer.bytes`: the kernel's buffer for outgoing bytes. Default none: the kernel tunes it.
    pub send_buffer: Option<usize>,
    /// `receive.buffer.bytes`: the kernel's buffer for incoming bytes. Default none: the kernel tunes it, unlike Java's
    /// 64 KiB, which limits throughput over long distances.
    pub receive_buffer: Option<usize>,
    /// `client.dns.lookup`. Default [`DnsLookup::UseAllDnsIps`].
    pub dns_lookup: DnsLookup,
    /// `allow.auto.create.topics`: whether a broker that is set up so may create a topic because it is asked for. Default
    /// false, unlike Java's: a mistyped name is an error here, not a new topic.
    pub allow_auto_create_topics: bool,
    /// `max.response.bytes` (ours): the largest answer accepted. Default 100 MiB. Bounds what a hostile or broken broker
    /// can make this client hold for each connection; below `fetch.max.bytes` fetches of large batches fail.
    pub max_response_bytes: usize,
    /// `security.protocol`: how brokers are spoken to. Default none: by TLS when [`ClientConfig::tls`] is there, with SASL
    /// when [`ClientConfig::sasl`] is, in the clear without either.
    pub security_protocol: Option<SecurityProtocol>,
    /// TLS. Default none.
    pub tls: Option<TlsConfig>,
    /// SASL. Default none.
    pub sasl: Option<SaslConfig>,
    /// The properties `ssl.*` and `sasl.*`, until all are there.
    pub(crate) given: SecurityProperties,
}

/// What to do when no known broker answers (KIP-899).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRecovery {
    /// Start over from the bootstrap addresses. Survives a cluster whose brokers have all got new addresses.
    #[default]
    Rebootstrap,
    /// Keep asking the known brokers.
    None,
}

/// Which of a name's addresses are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsLookup {
    /// All, in turn, until one answers.
    #[default]
    UseAllDnsIps,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap_servers: Vec::new(),
            client_id: "indelible".to_owned(),
            client_rack: None,
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            connection_setup_timeout: Duration::from_secs(10),
            connection_setup_timeout_max: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(5 * 60),
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: Duration::from_secs(5 * 60),
            connections_max_idle: Duration::from_secs(9 * 60),
            send_buffer: None,
            receive_buffer: None,
            dns_lookup: DnsLookup::UseAllDnsIps,
            allow_auto_create_topics: false,
            max_response_bytes: 100 << 20,
            security_protocol: None,
            tls: None,
            sasl: None,
            given: SecurityProperties::default(),
        }
    }
}

impl ClientConfig {
    /// Sets the property `name` from its text, as [`crate::ClientBuilder::property`] does. The error of a property that
    /// belongs to a producer or a consumer says so, which sorts a list of properties.
    ///
    /// # Errors
    /// [`ConfigError`]: no such property, one of another place, one that is not supported, or a value that does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        self.set_property(name, value)
    }

    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for an address that is no `host:port`, [`ConfigError::Conflict`] when there is none, and when
    /// the settings of TLS and SASL do not fit together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.bootstrap_servers.is_empty() {
            return Err(ConfigError::Conflict(
                "property \"bootstrap.servers\" is empty: give at least one address as host:port".to_owned(),
            ));
        }
        for server in &self.bootstrap_servers {
            if split_address(server).is_none() {
                let raw = Raw { name: "bootstrap.servers", value: server, shown: server };
                return Err(raw.expected(ADDRESSES));
            }
        }
        self.security().map(drop)
    }
}

const ADDRESSES: &str = "addresses as host:port with a port from 1 to 65535, [::1]:9092 for IPv6";

/// Host and port of `host:port`, with an optional protocol before it as in a broker's `advertised.listeners`; IPv6 in
/// brackets.
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, address)| address);
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// The kernel's buffers: -1 leaves them to the kernel, as in Java.
fn buffer(raw: &Raw<'_>) -> Result<Option<usize>, ConfigError> {
    let bytes = raw.number("bytes (-1: the system's default)", -1..=1i64 << 30)?;
    Ok(usize::try_from(bytes).ok().filter(|bytes| *bytes > 0))
}

/// A setting in milliseconds with its least value.
macro_rules! millis {
    ($name:literal, $field:ident, $least:literal) => {
        Setting {
            name: $name,
            set: |config: &mut ClientConfig, raw| raw.millis($least..=MAX_MILLIS).map(|value| config.$field = value),
        }
    };
}

impl Settings for ClientConfig {
    const PLACE: &'static str = "client";
    const TABLES: &'static [&'static [Setting<Self>]] = &[CONNECTIONS, SECURITY];
}

const CONNECTIONS: &[Setting<ClientConfig>] = &[
    Setting {
        name: "bootstrap.servers",
        set: |config, raw| {
            let servers = raw.list();
            if servers.is_empty() || servers.iter().any(|server| split_address(server).is_none()) {
                return Err(raw.expected(ADDRESSES));
            }
            config.bootstrap_servers = servers;
            Ok(())
        },
    },
    Setting { name: "client.id", set: |config, raw| raw.non_empty().map(|id| config.client_id = id) },
    Setting {
        name: "client.rack",
        set: |config, raw| {
            config.client_rack = Some(raw.text().to_owned()).filter(|rack| !rack.is_empty());
            Ok(())
        },
    },
    Setting {
        name: "client.dns.lookup",
        set: |config, raw| {
            let words = [("use_all_dns_ips", DnsLookup::UseAllDnsIps)];
            raw.one_of(&words).map(|lookup| config.dns_lookup = lookup)
        },
    },
    millis!("request.timeout.ms", request_timeout, 1),
    millis!("default.api.timeout.ms", default_api_timeout, 1),
    millis!("socket.connection.setup.timeout.ms", connection_setup_timeout, 1),
    millis!("socket.connection.setup.timeout.max.ms", connection_setup_timeout_max, 1),
    millis!("reconnect.backoff.ms", reconnect_backoff, 0),
    millis!("reconnect.backoff.max.ms", reconnect_backoff_max, 0),
    millis!("retry.backoff.ms", retry_backoff, 0),
    millis!("retry.backoff.max.ms", retry_backoff_max, 0),
    millis!("metadata.max.age.ms", metadata_max_age, 1),
    millis!("metadata.recovery.rebootstrap.trigger.ms", rebootstrap_trigger, 0),
    Setting {
        name: "metadata.recovery.strategy",
        set: |config, raw| {
            let words = [("rebootstrap", MetadataRecovery::Rebootstrap), ("none", MetadataRecovery::None)];
            raw.one_of(&words).map(|strategy| config.metadata_recovery = strategy)
        },
    },
    Setting {
        name: "connections.max.idle.ms",
        set: |config, raw| {
            let millis = raw.number("milliseconds (-1: never)", -1..=MAX_MILLIS as i64)?;
            config.connections_max_idle = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
            Ok(())
        },
    },
    Setting { name: "send.buffer.bytes", set: |config, raw| buffer(raw).map(|bytes| config.send_buffer = bytes) },
    Setting { name: "receive.buffer.bytes", set: |config, raw| buffer(raw).map(|bytes| config.receive_buffer = bytes) },
    Setting {
        name: "allow.auto.create.topics",
        set: |config, raw| raw.boolean().map(|allow| config.allow_auto_create_topics = allow),
    },
    Setting {
        name: "max.response.bytes",
        set: |config, raw| raw.bytes(64 << 10..=i32::MAX as usize).map(|bytes| config.max_response_bytes = bytes),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_protocol_and_brackets() {
        assert_eq!(split_address("localhost:9092"), Some(("localhost", 9092)));
        assert_eq!(split_address(" PLAINTEXT://k:1 "), Some(("k", 1)));
        assert_eq!(split_address("[::1]:9092"), Some(("::1", 9092)));
        for bad in ["localhost", "localhost:", ":9092", "::1:9092", "h:0", "h:70000", "[::1:9092"] {
            assert_eq!(split_address(bad), None, "{bad}");
        }
    }
}
