use super::*;
use crate::config::{ConsumerConfig, PemSource, ProducerConfig, Properties, Secret, TlsVersions};

const PLAIN: &str =
    r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="hunter2";"#;
const SCRAM: &str =
    r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="hunter2";"#;

/// A client with these properties, one `name=value` on a line.
fn with(lines: &str) -> Result<ClientConfig, ConfigError> {
    let mut config = ClientConfig::default();
    config.set("bootstrap.servers", "k:9092")?;
    for line in lines.lines() {
        let (name, value) = line.trim().split_once('=').unwrap();
        config.set(name, value)?;
    }
    Ok(config)
}

fn secure(lines: &str) -> Security {
    with(lines).unwrap().security().unwrap_or_else(|error| panic!("{lines}: {error}"))
}

/// What is said of properties that do not fit together.
fn refused(lines: &str) -> String {
    let error = with(lines).and_then(|config| config.validate()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error.to_string()
}

fn file(path: &str) -> Option<PemSource> {
    Some(PemSource::File(path.into()))
}

#[test]
fn the_four_protocols_in_any_case() {
    let both = |security: Security| (security.tls.is_some(), security.sasl.is_some());
    assert_eq!(both(secure("")), (false, false));
    assert_eq!(both(secure("security.protocol=plaintext")), (false, false));
    assert_eq!(both(secure("security.protocol=SSL")), (true, false));
    let user = "\nsasl.mechanism=scram-sha-256\nsasl.username=a\nsasl.password=b";
    assert_eq!(both(secure(&format!("security.protocol=sasl_plaintext{user}"))), (false, true));
    assert_eq!(both(secure(&format!("security.protocol=Sasl_SSL{user}"))), (true, true));
    assert!(refused("security.protocol=TLS").contains("SASL_SSL"));
}

#[test]
fn what_the_protocol_would_not_use_is_an_error() {
    for (lines, parts) in [
        ("ssl.truststore.location=/a", ["ssl.truststore.location", "not set, which makes it PLAINTEXT; set SSL"]),
        ("security.protocol=PLAINTEXT\nssl.ca.location=/a", ["ssl.ca.location", "is PLAINTEXT; set SSL"]),
        ("security.protocol=SASL_PLAINTEXT\nssl.key.location=/a", ["ssl.key.location", "set SASL_SSL"]),
        ("security.protocol=SSL\nsasl.mechanism=PLAIN", ["sasl.mechanism", "is SSL; set SASL_SSL"]),
        ("sasl.username=hunter2", ["sasl.username", "not set, which makes it PLAINTEXT; set SASL_SSL"]),
        (&format!("security.protocol=PLAINTEXT\nsasl.jaas.config={PLAIN}"), ["sasl.jaas.config", "set SASL_SSL"]),
    ] {
        let error = refused(lines);
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
    }
    // What is so anyway takes no protocol.
    secure(
        "ssl.endpoint.identification.algorithm=https\nenable.ssl.certificate.verification=true\nssl.truststore.type=PEM",
    );
}

#[test]
fn builder_methods_decide_where_no_property_does_and_never_together_with_one() {
    let text = |config: ClientConfig| config.security().unwrap_err().to_string();
    let mut config = with("").unwrap();
    config.tls = Some(TlsConfig::new());
    assert!(config.security().unwrap().tls.is_some());
    config.sasl = Some(SaslConfig::scram_sha_512("a", "b"));
    let security = config.security().unwrap();
    assert!(security.tls.is_some() && security.sasl.is_some());

    let mut config = with("security.protocol=SSL\nssl.ca.location=/a").unwrap();
    config.tls = Some(TlsConfig::new());
    assert!(text(config).contains("by tls() and by the property \"ssl.ca.location\""));
    let mut config = with("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN").unwrap();
    config.sasl = Some(SaslConfig::scram_sha_512("a", "b"));
    assert!(text(config).contains("by sasl() and by the property \"sasl.mechanism\""));
    let mut config = with("security.protocol=PLAINTEXT").unwrap();
    config.tls = Some(TlsConfig::new());
    assert!(text(config).contains("tls() was given would not be used"));
    let mut config = with("security.protocol=SSL").unwrap();
    config.sasl = Some(SaslConfig::scram_sha_512("a", "b"));
    assert!(text(config).contains("sasl() was given would not be used"));
}

#[test]
fn plaintext_port_gets_no_credentials() {
    // The password of PLAIN is sent as it is: not without TLS, unless somebody says so in as many words.
    let lines = format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={PLAIN}");
    let error = refused(&lines);
    assert!(error.contains("PLAIN would send") && error.contains("dangerously.allow.cleartext"), "{error}");
    let said = secure(&format!("{lines}\ndangerously.allow.cleartext.credentials=true"));
    assert!(said.sasl.unwrap().clear);
    let mut config = with("").unwrap();
    config.sasl = Some(SaslConfig::plain("a", "hunter2"));
    assert!(config.validate().unwrap_err().to_string().contains("in the clear"));
    // SCRAM proves that both know it, without sending it.
    secure("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=a\nsasl.password=b");
}

#[test]
fn sasl_needs_a_mechanism_and_what_fits_it() {
    let scram = "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512";
    for (lines, parts) in [
        ("security.protocol=SASL_SSL", ["needs sasl.mechanism", "GSSAPI, is not built in"]),
        ("sasl.mechanism=GSSAPI", ["sasl.mechanism", "SaslConfig::mechanism"]),
        ("sasl.mechanism=CRAM", ["sasl.mechanism", "SCRAM-SHA-512"]),
        (scram, ["needs sasl.jaas.config", "sasl.username and sasl.password"]),
        (&format!("{scram}\nsasl.username=a"), ["SCRAM-SHA-512 needs", "sasl.password"]),
        (&format!("{scram}\nsasl.password=hunter2"), ["SCRAM-SHA-512 needs", "sasl.username"]),
        (&format!("{scram}\nsasl.jaas.config={PLAIN}"), ["has PlainLoginModule", "needs ScramLoginModule"]),
        (&format!("{scram}\nsasl.jaas.config={SCRAM}\nsasl.username=a"), ["sasl.jaas.config", "leave one out"]),
        (&format!("{scram}\nsasl.jaas.config=hunter2"), ["sasl.jaas.config", "at character 1"]),
        (&format!("{scram}\nsasl.oauthbearer.scope=x"), ["sasl.oauthbearer.scope", "not for SCRAM-SHA-512"]),
        ("sasl.kerberos.service.name=kafka", ["GSSAPI", "SaslConfig::mechanism"]),
        ("sasl.login.callback.handler.class=software.amazon.msk.X", ["not supported", "TokenProvider"]),
    ] {
        let error = refused(lines);
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
    }
}

#[test]
fn trust_and_keys_from_files_and_texts() {
    let tls = |lines: &str| secure(&format!("security.protocol=SSL\n{lines}")).tls.unwrap();
    let java = tls(
        "ssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\nssl.keystore.location=/k.pem\nssl.key.password=p",
    );
    assert_eq!(
        (java.roots.first(), &java.chain, &java.key),
        (file("/ca.pem").as_ref(), &file("/k.pem"), &file("/k.pem"))
    );
    assert_eq!(java.key_password, Some(Secret::new("p")));
    let texts = tls("ssl.truststore.certificates=CA\nssl.keystore.certificate.chain=CHAIN\nssl.keystore.key=KEY");
    let text = |text: &str| Some(PemSource::Text(Secret::new(text)));
    assert_eq!((texts.roots.first(), &texts.chain, &texts.key), (text("CA").as_ref(), &text("CHAIN"), &text("KEY")));
    let librdkafka = tls("ssl.ca.location=/ca.pem\nssl.certificate.location=/c.pem\nssl.key.pem=KEY");
    assert_eq!((&librdkafka.chain, &librdkafka.key), (&file("/c.pem"), &text("KEY")));
    for (lines, parts) in [
        ("ssl.truststore.type=JKS", ["only PEM", "keytool -list -rfc"]),
        ("ssl.keystore.type=PKCS12", ["only PEM", "openssl pkcs12"]),
        ("ssl.truststore.type=DER", ["\"DER\"", "PEM"]),
        ("ssl.truststore.password=hunter2", ["ssl.truststore.password", "keytool"]),
        ("ssl.keystore.password=hunter2", ["ssl.keystore.password", "openssl"]),
        (
            "security.protocol=SSL\nssl.ca.location=/a\nssl.ca.pem=b",
            ["ssl.ca.location and ssl.ca.pem", "leave one out"],
        ),
        ("security.protocol=SSL\nssl.certificate.location=/a", ["ssl.certificate.location", "key is missing"]),
        ("security.protocol=SSL\nssl.key.pem=hunter2", ["ssl.key.pem", "certificate is missing"]),
        ("security.protocol=SSL\nssl.key.password=hunter2", ["ssl.key.password", "no key"]),
        (
            "security.protocol=SSL\nssl.keystore.location=/a\nssl.key.location=/b",
            ["ssl.keystore.location", "ssl.key.location"],
        ),
    ] {
        let error = refused(lines);
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
    }
}

/// Story: the variable that should name the truststore is not set where the program runs. Java's client does not start
/// then; the system's hundred authorities are not what was asked for.
#[test]
fn an_empty_truststore_or_key_is_no_way_to_say_none() {
    for name in [
        "ssl.truststore.location",
        "ssl.truststore.certificates",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.keystore.location",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.certificate.location",
        "ssl.key.location",
    ] {
        let error = refused(&format!("security.protocol=SSL\n{name}= "));
        assert!(error.contains(&format!("{name:?} is empty")), "{name}: {error}");
        // As in Java, nobody asks for it in the clear.
        assert!(secure(&format!("{name}=")).tls.is_none(), "{name}");
    }
    // The last word counts, by whichever name.
    let tls = |lines: &str| secure(&format!("security.protocol=SSL\n{lines}")).tls.unwrap();
    let later = tls("ssl.ca.location=\nssl.truststore.location=/ca.pem\nssl.key.password=");
    assert_eq!((later.roots.first(), later.key_password), (file("/ca.pem").as_ref(), None));
    assert!(refused("security.protocol=SSL\nssl.ca.location=/a\nssl.ca.location=").contains("is empty"));
    let user = "sasl.mechanism=SCRAM-SHA-512\nsasl.username=a\nsasl.password=b";
    assert!(refused(&format!("security.protocol=SASL_SSL\nssl.ca.pem=\n{user}")).contains("\"ssl.ca.pem\" is empty"));
}

#[test]
fn versions_of_tls() {
    let versions = |lines: &str| secure(&format!("security.protocol=SSL\n{lines}")).tls.unwrap().versions;
    assert_eq!(versions("ssl.enabled.protocols=TLSv1.2,TLSv1.3"), TlsVersions::Both);
    assert_eq!(versions("ssl.enabled.protocols=TLSv1.3"), TlsVersions::Only13);
    assert_eq!(versions("ssl.enabled.protocols=TLSv1.2"), TlsVersions::Only12);
    assert_eq!(versions("ssl.protocol=TLSv1.3"), TlsVersions::Both);
    assert_eq!(versions("ssl.enabled.protocols=TLSv1.2,TLSv1.3\nssl.protocol=TLSv1.2"), TlsVersions::Only12);
    for lines in ["ssl.enabled.protocols=TLSv1.1", "ssl.enabled.protocols=", "ssl.protocol=SSL"] {
        assert!(refused(lines).contains("TLSv1.2"), "{lines}");
    }
    assert!(refused("security.protocol=SSL\nssl.enabled.protocols=TLSv1.3\nssl.protocol=TLSv1.2").contains("none of"));
}

#[test]
fn verification_is_not_switched_off_by_a_property() {
    for lines in [
        "ssl.endpoint.identification.algorithm=",
        "ssl.endpoint.identification.algorithm=none",
        "enable.ssl.certificate.verification=false",
    ] {
        let error = refused(lines);
        assert!(error.contains("TlsConfig::dangerously_disable_certificate_verification"), "{lines}: {error}");
    }
}

const OIDC: &str = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\nsasl.login.callback.handler.class=\
                    org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
const URL: &str = "sasl.oauthbearer.token.endpoint.url=https://id.example.com/token";

#[test]
fn tokens_need_an_endpoint_and_credentials_said_once() {
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    let id = "sasl.oauthbearer.client.credentials.client.id=i";
    for (lines, parts) in [
        (OIDC.to_owned(), ["needs sasl.oauthbearer.token.endpoint.url", "TokenProvider"]),
        (format!("{OIDC}\n{URL}\n{id}"), ["client.credentials.client.id", "secret"]),
        (
            format!("{OIDC}\n{URL}\n{id}\nsasl.jaas.config={module} clientId=i clientSecret=hunter2;"),
            ["clientId", "leave one out"],
        ),
        (format!("{OIDC}\nsasl.password=hunter2"), ["sasl.password", "not for OAUTHBEARER"]),
        (format!("{OIDC}\nsasl.oauthbearer.jwt.retriever.class=X"), ["retriever", "TokenProvider"]),
    ] {
        let error = refused(&lines);
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
    }
}

#[test]
fn an_endpoint_is_not_shown() {
    for url in ["https://a:hunter2@id.example.com/token", "https://id.example.com/token?key=hunter2"] {
        let config = with(&format!("sasl.oauthbearer.token.endpoint.url={url}")).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
}

#[cfg(not(feature = "oidc"))]
#[test]
fn without_the_feature_it_is_named() {
    let error =
        refused(&format!("{OIDC}\n{URL}\nsasl.oauthbearer.client.id=i\nsasl.oauthbearer.client.secret=hunter2"));
    assert!(error.contains("feature `oidc`"), "{error}");
}

#[cfg(feature = "oidc")]
#[test]
fn tokens_come_from_an_openid_provider() {
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    let java = format!(
        "{OIDC}\n{URL}\nsasl.jaas.config={module} clientId=i clientSecret=hunter2 scope=\"a b\" extension_x=y;\n\
         sasl.login.retry.backoff.ms=50"
    );
    let librdkafka = format!(
        "security.protocol=sasl_ssl\nsasl.mechanisms=OAUTHBEARER\nsasl.oauthbearer.method=oidc\n{URL}\n\
         sasl.oauthbearer.client.id=i\nsasl.oauthbearer.client.secret=hunter2\nsasl.oauthbearer.scope=a b\n\
         sasl.oauthbearer.extensions=x=y\nhttps.ca.location=/ca.pem"
    );
    for lines in [&java, &librdkafka] {
        let sasl = secure(lines).sasl.unwrap();
        let printed = format!("{sasl:?}");
        assert!(sasl.mechanism.name() == "OAUTHBEARER" && !printed.contains("hunter2"), "{printed}");
    }
    let error = refused(&java.replace("https://", "http://"));
    assert!(error.contains("https"), "{error}");
}

#[test]
fn what_the_chapter_on_connecting_shows_is_understood() {
    let chapter = include_str!("../../../docs/connecting.md");
    let blocks: Vec<&str> =
        chapter.split("```properties\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    for block in blocks {
        // Variables and files are not there.
        let mut text = String::new();
        for (index, part) in block.split("${").enumerate() {
            text.push_str(if index == 0 { part } else { part.split_once('}').unwrap().1 });
        }
        let properties = Properties::parse(&text).unwrap();
        let mut config = ClientConfig::default();
        properties.apply(&mut config).unwrap_or_else(|error| panic!("{text}: {error}"));
        properties.apply(&mut ProducerConfig::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        properties.apply(&mut ConsumerConfig::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let tokens = cfg!(not(feature = "oidc")) && text.contains("OAUTHBEARER");
        // An empty client secret is refused there, and only there.
        if !tokens && !text.contains("clientSecret") {
            config.security().unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
