//! TLS and SASL of a running cluster.

use super::cluster::FakeCluster;
use super::sasl::{FakeSasl, SaslFault};
use super::security::SecuritySeen;
use super::tls::{TlsFault, TlsState};
use crate::certs::Issued;
use std::time::Duration;

impl FakeCluster {
    /// Addresses of all brokers under this host name instead of their IP address.
    pub fn bootstrap_as(&self, host: &str) -> Vec<String> {
        self.brokers().into_iter().map(|broker| format!("{host}:{}", self.address(broker).port())).collect()
    }

    /// Names this host in metadata for one broker from now on.
    pub fn advertise(&self, broker: i32, host: &str) {
        self.shared().lock().settings.advertised.insert(broker, host.to_owned());
    }

    /// The broker shows this certificate to connections made from now on; earlier sessions are not resumed.
    pub fn set_certificate(&self, broker: i32, issued: Issued) {
        self.with_tls(|tls| tls.set_certificate(broker, issued));
    }

    /// Whose certificates clients must show from now on; `None` asks for none.
    pub fn set_client_ca(&self, pem: Option<&str>) {
        self.with_tls(|tls| tls.set_client_ca(pem.map(str::to_owned)));
    }

    /// What the broker does instead of a TLS handshake from now on; `None` is the handshake.
    pub fn set_tls_fault(&self, broker: i32, fault: Option<TlsFault>) {
        self.with_tls(|tls| {
            tls.faults.remove(&broker);
            tls.faults.extend(fault.map(|fault| (broker, fault)));
        });
    }

    /// Adds a user or changes the password. Connections that are authenticated stay so.
    pub fn set_user(&self, name: &str, password: &str) {
        self.with_sasl(|sasl| sasl.set_user(name, password));
    }

    /// Takes a user out. Connections that are authenticated stay so.
    pub fn remove_user(&self, name: &str) {
        self.with_sasl(|sasl| sasl.remove_user(name));
    }

    /// Which tokens are good from now on.
    pub fn set_tokens(&self, tokens: &[&str]) {
        self.with_sasl(|sasl| sasl.set_tokens(tokens));
    }

    /// Which mechanisms are offered from now on.
    pub fn set_mechanisms(&self, mechanisms: &[&str]) {
        self.with_sasl(|sasl| sasl.set_mechanisms(mechanisms));
    }

    /// How long sessions live that begin from now on.
    pub fn set_session_lifetime(&self, lifetime: Option<Duration>) {
        self.with_sasl(|sasl| sasl.set_session_lifetime(lifetime));
    }

    /// Which lie is told from now on.
    pub fn set_sasl_fault(&self, fault: Option<SaslFault>) {
        self.with_sasl(|sasl| sasl.fault = fault);
    }

    /// What the brokers saw of TLS and SASL so far.
    pub fn security(&self) -> SecuritySeen {
        self.shared().lock().security.clone()
    }

    fn with_tls(&self, act: impl FnOnce(&mut TlsState)) {
        self.shared().lock().tls.as_mut().map(act);
        self.shared().ring();
    }

    fn with_sasl(&self, act: impl FnOnce(&mut FakeSasl)) {
        self.shared().lock().settings.sasl.as_mut().map(act);
        self.shared().ring();
    }
}
