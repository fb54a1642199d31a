//! No secret reaches logs, Debug output or errors, whatever goes well or wrong. Alone in its program, for it listens to
//! all that the client logs, on all threads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]

mod security_support;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use indelible::{ClientBuilder, Properties, Record, SaslConfig, Secret, TlsConfig, Token};
use proto_tests::certs::{Authority, EXPIRED, Issued, pem};
use proto_tests::fake::{FakeCluster, FakeTls, Fault, FaultAction, SaslFault, TlsFault};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use security_support::*;
use std::error::Error;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Metadata, Subscriber};

const WRONG: &str = "wrong-4711-passphrase";
const KEY_PASSWORD: &str = "key-4711-passphrase";
const OIDC_SECRET: &str = "oidc-4711-secret";

/// All that is logged, at every level, names and values of fields included.
#[derive(Clone, Default)]
struct Listener {
    heard: Arc<Mutex<String>>,
    next: Arc<AtomicU64>,
}

struct Writer<'a>(&'a mut String);

impl Visit for Writer<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

impl Listener {
    fn write(&self, what: &Metadata<'_>, record: impl FnOnce(&mut Writer<'_>)) {
        let mut line = format!("{} {} {}", what.level(), what.target(), what.name());
        record(&mut Writer(&mut line));
        let mut heard = self.heard.lock().unwrap();
        heard.push_str(&line);
        heard.push('\n');
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::TRACE)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.write(span.metadata(), |writer| span.record(writer));
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &SpanRecord<'_>) {
        values.record(&mut Writer(&mut self.heard.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.write(event.metadata(), |writer| event.record(writer));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What must not be seen, in every form that a careless line could give it.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn new() -> Secrets {
        let mut secrets = Secrets(Vec::new());
        // Of a client's last SCRAM message, and of a bearer's first one.
        secrets.0.push(("SCRAM's last message".to_owned(), "c=biws".to_owned()));
        secrets.0.push(("OAUTHBEARER's first message".to_owned(), "auth=Bearer".to_owned()));
        for (name, secret) in [
            ("password", PASSWORD),
            ("wrong password", WRONG),
            ("token", TOKEN),
            ("key password", KEY_PASSWORD),
            ("OIDC secret", OIDC_SECRET),
        ] {
            secrets.add(name, secret.as_bytes());
        }
        secrets
    }

    fn add(&mut self, name: &str, secret: &[u8]) {
        let mut put = |form: &str, text: String| self.0.push((format!("{name} {form}"), text));
        if let Ok(text) = std::str::from_utf8(secret) {
            put("as it is", text.to_owned());
        }
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        put("in HEX", hex.to_uppercase());
        put("in hex", hex);
        let list = format!("{secret:?}");
        put("in numbers", list.trim_matches(['[', ']']).to_owned());
        // In base64 a secret looks otherwise at each of three places; what its neighbours change is cut off.
        for before in 0..3 {
            let placed = [&[0; 2][..before], secret].concat();
            for (form, text) in [("in base64", STANDARD.encode(&placed)), ("in base64url", URL_SAFE.encode(&placed))] {
                let from = [0, 2, 3][before];
                let whole = placed.len() / 3 * 4;
                put(form, text[from..whole].to_owned());
            }
        }
    }

    fn add_key(&mut self, name: &str, key: &str) {
        for line in key.lines().filter(|line| !line.starts_with("-----") && line.len() > 20) {
            self.0.push((format!("{name} in PEM"), line.to_owned()));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes());
        if let Ok(der) = der {
            // The number itself: see RFC 5915 inside of RFC 5208.
            self.add(name, &der.secret_pkcs8_der()[36..68]);
        }
    }

    fn found(&self, text: &str) -> Vec<String> {
        let place = |secret: &str| text.find(secret).map(|at| text[..at].lines().last().unwrap_or("").to_owned());
        self.0.iter().filter_map(|(name, secret)| Some(format!("{name} after: {}", place(secret)?))).collect()
    }
}

/// All that a client shows of itself and its failures.
#[derive(Default)]
struct Shown {
    text: String,
    built: usize,
    refused: usize,
}

impl Shown {
    fn debug(&mut self, what: &impl Debug) {
        let _ = writeln!(self.text, "{what:?}\n{what:#?}");
    }

    fn error(&mut self, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            let _ = writeln!(self.text, "{error}\n{error:?}\n{error:#?}");
            next = error.source();
        }
    }

    async fn run(&mut self, builder: ClientBuilder) {
        self.debug(&builder);
        match builder.build().await {
            Err(error) => {
                self.refused += 1;
                self.error(&error);
            }
            Ok(client) => {
                self.built += 1;
                self.debug(&client);
                self.debug(client.config());
                self.debug(&client.metrics());
                let builder = client.producer().delivery_timeout(Duration::from_secs(5));
                let producer = builder.build().await.unwrap();
                self.debug(&producer);
                let receipt = producer.send(Record::to("t").partition(0).value("v")).await.unwrap();
                self.debug(&receipt);
                match receipt.delivered().await {
                    Ok(place) => self.debug(&place),
                    Err(error) => self.error(&error),
                }
                self.debug(&client.consumer("group").topics(["t"]));
            }
        }
    }
}

fn mechanisms(password: &str, token: &str) -> [SaslConfig; 4] {
    [
        SaslConfig::plain(USER, password),
        SaslConfig::scram_sha_256(USER, Secret::new(password)),
        SaslConfig::scram_sha_512(USER, password),
        SaslConfig::oauthbearer(Token::new(token).expires_in(Duration::from_secs(3600))),
    ]
}

/// The key of `issued`, encrypted with [`KEY_PASSWORD`].
fn encrypted(issued: &Issued) -> String {
    let der = PrivatePkcs8KeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let salted = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1000, &[7; 8], [9; 16]).unwrap();
    let data = salted.encrypt(KEY_PASSWORD, der.secret_pkcs8_der()).unwrap();
    let key = pkcs8::EncryptedPrivateKeyInfoRef {
        encryption_algorithm: salted.into(),
        encrypted_data: pkcs8::der::asn1::OctetStringRef::new(&data).unwrap(),
    };
    pem("ENCRYPTED PRIVATE KEY", &pkcs8::der::Encode::to_der(&key).unwrap())
}

#[test]
fn the_search_finds_every_form() {
    let secrets = Secrets::new();
    let encode = |text: String| STANDARD.encode(text);
    for text in [
        format!("x{PASSWORD}y"),
        format!("{:?}", format!("\0{USER}\0{PASSWORD}").as_bytes()),
        encode(format!("\0{USER}\0{PASSWORD}")),
        encode(format!("\0{USER}x\0{PASSWORD}!")),
        encode(format!("\0{USER}xx\0{PASSWORD}!!")),
        TOKEN.bytes().map(|byte| format!("{byte:02X}")).collect(),
        format!("{:?}", Bytes::from_static(OIDC_SECRET.as_bytes())),
    ] {
        assert_ne!(secrets.found(&text), Vec::<String>::new(), "{text}");
    }
    assert!(secrets.found("Secret(***) SCRAM-SHA-256 alice").is_empty());
}

#[tokio::test]
async fn secrets_absent_from_logs_debug_and_errors() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    let (mut shown, mut secrets) = (Shown::default(), Secrets::new());
    let (app, stranger) = (AUTHORITY.client("app"), Authority::new("somebody else").client("app"));
    secrets.add_key("key", &app.key);
    secrets.add_key("other key", &stranger.key);
    let locked = encrypted(&app);
    secrets.add_key("encrypted key", &locked);

    authentication(&mut shown).await;
    certificates(&mut shown, &app, &stranger, &locked).await;
    settings(&mut shown, &app, &locked).await;
    renewals(&mut shown).await;
    #[cfg(feature = "oidc")]
    oidc(&mut shown).await;

    let heard = listener.heard.lock().unwrap().clone();
    // The net is there: what went well and what went wrong was seen and heard.
    assert!(shown.built >= 14 && shown.refused >= 40, "{} built, {} refused", shown.built, shown.refused);
    for words in ["authenticated", "connected", "SCRAM-SHA-512", "was refused", "TRACE"] {
        assert!(heard.contains(words) || words == "TRACE", "{words:?} was not heard");
    }
    assert!(shown.text.contains("Secret(***)") && shown.text.contains(USER));
    let found = [secrets.found(&heard), secrets.found(&shown.text)].concat();
    assert!(found.is_empty(), "{} secrets are shown:\n{}", found.len(), found.join("\n"));
}

/// Every mechanism, and every way in which it goes wrong.
async fn authentication(shown: &mut Shown) {
    let cluster = secure_cluster();
    let secure = |sasl: SaslConfig| by_tls(&cluster).sasl(sasl);
    for sasl in mechanisms(PASSWORD, TOKEN) {
        shown.debug(&sasl);
        shown.run(secure(sasl)).await;
    }
    for sasl in mechanisms(WRONG, "tok-unknown") {
        shown.run(secure(sasl)).await;
    }
    cluster.set_tokens(&[]);
    shown.run(secure(SaslConfig::oauthbearer(Token::new(TOKEN)))).await;
    cluster.set_tokens(&[TOKEN]);
    for fault in [
        SaslFault::WrongServerSignature,
        SaslFault::ForeignNonce,
        SaslFault::Iterations(1),
        SaslFault::ServerFirst("e=no".to_owned()),
        SaslFault::ServerFinal("v=".to_owned()),
        SaslFault::SuccessAtOnce,
        SaslFault::ErrorChallenge("{}".to_owned()),
        SaslFault::EndlessChallenges("again".to_owned()),
        SaslFault::Refuse("no".to_owned()),
    ] {
        cluster.set_sasl_fault(Some(fault));
        for sasl in mechanisms(PASSWORD, TOKEN) {
            shown.run(secure(sasl)).await;
        }
    }
    // A broker that repeats what it got, as one with a careless callback does.
    for (sasl, repeated) in [
        (
            SaslConfig::plain(USER, PASSWORD),
            vec![PASSWORD.to_owned(), STANDARD.encode(format!("\0{USER}\0{PASSWORD}"))],
        ),
        (
            SaslConfig::oauthbearer(Token::new(TOKEN)),
            vec![TOKEN.to_owned(), STANDARD.encode(format!("Bearer {TOKEN}"))],
        ),
    ] {
        for words in repeated {
            for fault in
                [SaslFault::Refuse(format!("bad: {words}!")), SaslFault::ErrorChallenge(format!("bad: {words}!"))]
            {
                cluster.set_sasl_fault(Some(fault));
                shown.run(secure(sasl.clone())).await;
            }
        }
    }
    cluster.set_sasl_fault(None);
    for action in [FaultAction::DropBeforeApply, FaultAction::HalfFrame, FaultAction::NoAnswerBefore] {
        cluster.inject(Fault::always(action).api(SASL_AUTHENTICATE));
        for sasl in mechanisms(PASSWORD, TOKEN) {
            shown.run(secure(sasl).property("socket.connection.setup.timeout.ms", "100")).await;
        }
        cluster.clear_faults();
    }
    cluster.set_mechanisms(&["GSSAPI"]);
    shown.run(secure(SaslConfig::plain(USER, PASSWORD))).await;
    let plain = sasl_cluster(sasl());
    for sasl in mechanisms(PASSWORD, TOKEN) {
        shown.run(impatient(plain.bootstrap()).sasl(sasl.clone())).await;
        shown.run(impatient(plain.bootstrap()).sasl(sasl.dangerously_allow_cleartext_credentials())).await;
    }
    shown.run(by_tls(&tls_cluster(good())).sasl(SaslConfig::plain(USER, PASSWORD))).await;
    let none = || async { Err::<Token, _>(std::io::Error::other("the vault is closed")) };
    shown.run(secure(SaslConfig::oauthbearer(none))).await;
}

/// TLS, with and without a key of ours.
async fn certificates(shown: &mut Shown, app: &Issued, stranger: &Issued, locked: &str) {
    let server = FakeTls::new(good()).client_ca(AUTHORITY.pem());
    let cluster = with_topic(FakeCluster::builder().tls(server).start());
    let with = |tls: TlsConfig| impatient(cluster.bootstrap()).tls(tls);
    let ours = |key: &str| trusting().client_certificate_pem(app.chain.clone(), key.to_owned());
    let dir = Dir::new();
    let (chain, key) = (dir.put("chain", &app.chain), dir.put("key", &app.key));
    shown.run(with(ours(&app.key))).await;
    shown.run(with(ours(locked).key_password(KEY_PASSWORD))).await;
    shown.run(with(trusting().client_certificate_files(&chain, &key))).await;
    shown.run(with(trusting())).await;
    shown.run(with(ours(locked))).await;
    shown.run(with(ours(locked).key_password(WRONG))).await;
    shown.run(with(ours(&stranger.key))).await;
    let half = &app.key[..app.key.len() / 2];
    for broken in [
        half.to_owned(),
        app.key.replace("PRIVATE", "EC PRIVATE"),
        app.key.replace('\n', " "),
        app.key.replace('M', "%"),
    ] {
        shown.run(with(ours(&broken))).await;
        shown.run(with(trusting().client_certificate_files(&chain, dir.put("broken", &broken)))).await;
    }
    // The key where roots or certificates should be.
    shown.run(with(TlsConfig::new().ca_pem(app.key.clone()))).await;
    shown.run(with(trusting().client_certificate_pem(app.key.clone(), app.chain.clone()))).await;
    let tls = trusting().client_certificate_pem(stranger.chain.clone(), stranger.key.clone());
    shown.debug(&tls);
    shown.run(with(tls)).await;
    for issued in [AUTHORITY.server(&["elsewhere"]), AUTHORITY.issue(&["127.0.0.1"], "late", EXPIRED), stranger.clone()]
    {
        cluster.set_certificate(1, issued);
        shown.run(with(ours(&app.key)).sasl(SaslConfig::plain(USER, PASSWORD))).await;
    }
    for fault in [TlsFault::Close, TlsFault::Garbage(Bytes::from_static(b"HTTP/1.1 400\r\n\r\n")), TlsFault::Silent] {
        cluster.set_tls_fault(1, Some(fault));
        let limit = ("socket.connection.setup.timeout.ms", "100");
        shown.run(with(ours(&app.key)).sasl(SaslConfig::plain(USER, PASSWORD)).property(limit.0, limit.1)).await;
    }
}

fn patient(cluster: &FakeCluster) -> ClientBuilder {
    impatient(cluster.bootstrap()).property("default.api.timeout.ms", "60000")
}

/// Properties, right and wrong, in a row and from a file.
async fn settings(shown: &mut Shown, app: &Issued, locked: &str) {
    let server = FakeTls::new(good()).client_ca(AUTHORITY.pem());
    let cluster = with_topic(FakeCluster::builder().tls(server).sasl(sasl()).start());
    let ca = AUTHORITY.pem();
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{USER}\" password=\"{PASSWORD}\";"
    );
    let scram = plain.replace("plain.PlainLoginModule", "scram.ScramLoginModule");
    let keys = [
        ("ssl.truststore.certificates", ca.as_str()),
        ("ssl.keystore.certificate.chain", &app.chain),
        ("ssl.keystore.key", locked),
        ("ssl.key.password", KEY_PASSWORD),
    ];
    let sasl = |jaas: &str, mechanism: &'static str| {
        [("sasl.jaas.config", jaas.to_owned()), ("sasl.mechanism", mechanism.to_owned())]
    };
    let base = || {
        // The key's password is stretched, which takes its time where nothing is optimised.
        let builder = patient(&cluster).property("security.protocol", "SASL_SSL");
        keys.iter().fold(builder, |builder, (name, value)| builder.property(name, value))
    };
    let built = shown.built;
    for (jaas, mechanism) in [(&plain, "PLAIN"), (&scram, "SCRAM-SHA-512")] {
        let [(one, jaas), (two, mechanism)] = sasl(jaas, mechanism);
        shown.run(base().property(one, &jaas).property(two, &mechanism)).await;
    }
    assert_eq!(shown.built, built + 2, "properties that are right");
    // The same from a file.
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n");
    let mut file = String::from("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n");
    for (name, value) in keys.iter().map(|(name, value)| (*name, *value)).chain([("sasl.jaas.config", plain.as_str())])
    {
        let _ = writeln!(file, "{name}={}", escaped(value));
    }
    let properties = Properties::parse(&file).unwrap();
    shown.debug(&properties);
    shown.run(patient(&cluster).properties(&properties)).await;
    assert_eq!(shown.built, built + 3, "a file that is right");
    for broken in [file.replace("=SASL_SSL", "=\\u00zz"), format!("{file}\n=x"), format!("{PASSWORD}\n{file}\n\\u12")] {
        if let Err(error) = Properties::parse(&broken) {
            shown.error(&error);
        }
    }
    // Mistakes of a hurried evening.
    for (name, value) in [
        ("sasl.jaas.config", plain.replace("\";", "")),
        ("sasl.jaas.config", plain.replace(';', "")),
        ("sasl.jaas.config", plain.replace("required", PASSWORD)),
        ("sasl.jaas.config", format!("{PASSWORD} required;")),
        ("sasl.jaas.config", plain.replace("password=", "passwort=")),
        ("sasl.jaas.config", plain.replace("PlainLoginModule", "OtherLoginModule")),
        ("sasl.jaas.config", scram.clone()),
        ("sasl.pasword", PASSWORD.to_owned()),
        ("sasl.password", PASSWORD.to_owned()),
        ("ssl.key.pasword", KEY_PASSWORD.to_owned()),
        ("ssl.key.password", WRONG.to_owned()),
        ("ssl.keystore.password", KEY_PASSWORD.to_owned()),
        ("ssl.truststore.password", KEY_PASSWORD.to_owned()),
        ("ssl.keystore.key", app.key.replace("BEGIN", "BEGUN")),
        ("ssl.keystore.key", PASSWORD.to_owned()),
        ("ssl.keystore.location", "/nowhere/key.pem".to_owned()),
        ("ssl.key.location", "/nowhere/key.pem".to_owned()),
        ("sasl.oauthbearer.client.credentials.client.secret", OIDC_SECRET.to_owned()),
        ("sasl.oauthbearer.client.secret", OIDC_SECRET.to_owned()),
    ] {
        let [(one, jaas), (two, mechanism)] = sasl(&plain, "PLAIN");
        shown.run(base().property(one, &jaas).property(two, &mechanism).property(name, &value)).await;
        shown.run(impatient(cluster.bootstrap()).property(name, &value)).await;
        shown.run(impatient(cluster.bootstrap()).property("security.protocol", "SSL").property(name, &value)).await;
    }
    let [(one, jaas), _] = sasl(&plain, "PLAIN");
    shown.run(base().property(one, &jaas).property("sasl.mechanism", "SCRAM-SHA-256")).await;
    shown
        .run(impatient(cluster.bootstrap()).property(one, &jaas).property("security.protocol", "SASL_PLAINTEXT"))
        .await;
}

/// Sessions that are renewed, and one whose renewal is refused.
async fn renewals(shown: &mut Shown) {
    let cluster = secure_cluster();
    cluster.set_session_lifetime(Some(Duration::from_millis(150)));
    for sasl in mechanisms(PASSWORD, TOKEN) {
        let client = by_tls(&cluster).sasl(sasl).build().await.unwrap();
        let producer = producer(&client).await;
        cluster.set_user(USER, PASSWORD);
        let seen = || cluster.security().broker(1);
        let (renewed, refused) = (seen().reauthentications(), seen().refusals.len());
        delivers(&producer, "v").await;
        eventually("a session is renewed", || seen().reauthentications() > renewed).await;
        cluster.set_user(USER, "changed-meanwhile");
        cluster.set_tokens(&[]);
        let receipt = producer.send(Record::to("t").partition(0).value("v")).await.unwrap();
        eventually("a renewal is refused", || seen().refusals.len() > refused).await;
        shown.debug(&receipt);
        cluster.set_user(USER, PASSWORD);
        cluster.set_tokens(&[TOKEN]);
        delivers(&producer, "v").await;
        shown.debug(&client);
    }
}

/// A token endpoint that cannot be reached, or is not who it should be.
#[cfg(feature = "oidc")]
async fn oidc(shown: &mut Shown) {
    let cluster = secure_cluster();
    for url in ["https://127.0.0.1:1/token".to_owned(), format!("https://{}/token", address(&cluster))] {
        let provider = indelible::OidcClientCredentials::new(&url, "app", OIDC_SECRET).unwrap();
        let provider = provider.timeout(Duration::from_millis(300)).tls(trusting());
        shown.debug(&provider);
        shown.run(by_tls(&cluster).sasl(SaslConfig::oauthbearer(provider))).await;
    }
    for url in ["http://127.0.0.1:1/token", "file:///etc/passwd", "https://user:oidc-4711-secret@a.example/"] {
        if let Err(error) = indelible::OidcClientCredentials::new(url, "app", OIDC_SECRET) {
            shown.error(&error);
        }
    }
}
