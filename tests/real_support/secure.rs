//! A cluster that asks who one is, and clients for it.

use indelible::{Client, ClientBuilder, SaslConfig, TlsConfig};
use proto_tests::real::{AUTHORIZER, RealCluster, RealConfig};

pub const PASSWORD: &str = "alice's own secret";

/// Kafka with rules: `alice`, by whatever means she comes, may do everything, others only what rules allow them. So may those
/// whom no listener asks.
pub fn guarded() -> RealConfig {
    RealConfig::default()
        .secure()
        .user("alice", PASSWORD)
        .config("authorizer.class.name", AUTHORIZER)
        .config("super.users", "User:ANONYMOUS;User:alice;User:CN=alice")
}

pub fn tls(cluster: &RealCluster) -> TlsConfig {
    TlsConfig::new().ca_file(cluster.ca_file())
}

/// By this listener, as it wants it.
pub fn by(cluster: &RealCluster, listener: &str, sasl: Option<SaslConfig>) -> ClientBuilder {
    at(cluster, listener, cluster.bootstrap_of(listener), sasl)
}

/// The same, at other addresses.
pub fn at(cluster: &RealCluster, listener: &str, addresses: Vec<String>, sasl: Option<SaslConfig>) -> ClientBuilder {
    let mut builder = Client::builder(addresses);
    if listener != "SASL_PLAINTEXT" {
        let mut tls = tls(cluster);
        if listener == "MUTUAL" {
            let client = cluster.certificates().folder.join("client.pem");
            tls = tls.client_certificate_files(&client, &client);
        }
        builder = builder.tls(tls);
    }
    match sasl {
        Some(sasl) if listener == "SASL_PLAINTEXT" => builder.sasl(sasl.dangerously_allow_cleartext_credentials()),
        Some(sasl) => builder.sasl(sasl),
        None => builder,
    }
}
