//! The secure listeners of the harness as another client sees them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and look at the clock")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use proto_tests::real::{HarnessError, RealCluster, RealConfig};

/// kcat asks for metadata over a listener: whether it got them, and what it said.
fn kcat(cluster: &RealCluster, listener: &str, settings: &[(&str, &str)], seconds: &str) -> (bool, String) {
    let mut command = Command::new("kcat");
    command.args(["-L", "-m", seconds, "-b", &cluster.bootstrap_of(listener).join(",")]);
    let protocol = if listener == "MUTUAL" { "SSL" } else { listener };
    command.args(["-X", &format!("security.protocol={protocol}")]);
    command.args(["-X", &format!("ssl.ca.location={}", cluster.ca_file().display())]);
    for (name, value) in settings {
        command.args(["-X", &format!("{name}={value}")]);
    }
    let ended = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    (ended.status.success() && said.contains("1 brokers"), said)
}

/// Each listener and mechanism lets in whoever it should, and nobody else.
#[test]
fn another_client_comes_in_by_every_listener() -> Result<(), HarnessError> {
    if Command::new("kcat").arg("-V").output().is_err() {
        eprintln!("!!!! not tried with kcat, which is not there");
        return Ok(());
    }
    let cluster = RealCluster::start(RealConfig::default().brokers(1).secure().user("alice", "alice-secret"))?;
    let check = |listener: &str, settings: &[(&str, &str)], expected: bool| {
        let begin = Instant::now();
        loop {
            let (came_in, said) = kcat(&cluster, listener, settings, if expected { "10" } else { "1" });
            if came_in == expected {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{listener} {settings:?}: {said}");
        }
    };
    check("SSL", &[], true);
    let client = cluster.certificates().folder.join("client.pem").display().to_string();
    check("MUTUAL", &[("ssl.certificate.location", &client), ("ssl.key.location", &client)], true);
    check("MUTUAL", &[], false);
    for listener in ["SASL_PLAINTEXT", "SASL_SSL"] {
        let user = [("sasl.mechanism", "PLAIN"), ("sasl.username", "alice")];
        check(listener, &[&user[..], &[("sasl.password", "alice-secret")]].concat(), true);
        check(listener, &[&user[..], &[("sasl.password", "wrong")]].concat(), false);
        let token = ("enable.sasl.oauthbearer.unsecure.jwt", "true");
        let config = ("sasl.oauthbearer.config", "principal=alice");
        check(listener, &[("sasl.mechanism", "OAUTHBEARER"), token, config], true);
    }
    // Of kcat's SCRAM the brokers are right to refuse the nonce, before librdkafka 2.6.1.
    for (mechanism, password) in
        [("SCRAM-SHA-256", "alice-secret"), ("SCRAM-SHA-512", "alice-secret"), ("SCRAM-SHA-512", "no")]
    {
        let ended = java(&cluster, mechanism, password);
        assert_eq!(ended.status.success(), password != "no", "{ended:?}");
    }
    Ok(())
}

/// Kafka's own client lists topics over SASL_SSL.
fn java(cluster: &RealCluster, mechanism: &str, password: &str) -> Output {
    let settings = format!(
        "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\nsasl.mechanism={mechanism}\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" \
         password=\"{password}\";\n",
        cluster.ca_file().display(),
    );
    let file = cluster.certificates().write("client.properties", &settings).unwrap();
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka"))
        .args(["tool", "org.apache.kafka.tools.TopicCommand", "--list", "--bootstrap-server"])
        .args([&cluster.bootstrap_of("SASL_SSL").join(","), "--command-config"])
        .arg(file)
        .output()
        .unwrap()
}
