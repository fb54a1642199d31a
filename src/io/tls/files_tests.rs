//! Files and texts with certificates and keys: good, bad, and changing.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use proto_tests::certs::{Authority, Issued, pem as to_pem};

use super::tests::{Setup, trusting, with};
use super::*;
use crate::config::Secret;
use crate::io::test_support::block_on;

/// A directory of its own, gone with the test.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new() -> Files {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("indelible-tls-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Files(path)
    }

    /// Puts it in the place of the old one, as those do who renew certificates.
    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join(name));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_that_changed_are_read_again_and_bad_ones_are_not_taken() {
    let (authority, old, new) = (Authority::new("ca"), Authority::new("old"), Authority::new("new"));
    let server = Setup::new(authority.server(&["localhost"])).clients(&new).start();
    let files = Files::new();
    let (mine, newer) = (old.client("me"), new.client("me"));
    let roots = files.put("ca.pem", authority.pem());
    let tls = TlsConfig::new()
        .ca_file(roots)
        .client_certificate_files(files.put("cert.pem", &mine.chain), files.put("key.pem", &mine.key));
    let context = TlsContext::load(&tls).unwrap();
    block_on(async {
        let before = context.ready().await.config;
        assert!(server.hail_with(&context, "localhost").await.is_err(), "the old certificate");
        assert!(Arc::ptr_eq(&before, &context.ready().await.config), "nothing is read while nothing changes");
        // The certificate is there before its key: they do not fit together, and the old ones stay.
        files.put("cert.pem", &newer.chain);
        assert!(Arc::ptr_eq(&before, &context.ready().await.config));
        assert!(context.ready().await.certificate);
        files.put("key.pem", &newer.key);
        server.hail_with(&context, "localhost").await.unwrap();
        let after = context.ready().await.config;
        assert!(!Arc::ptr_eq(&before, &after));
        // Gone, empty, garbage, another's roots.
        std::fs::remove_file(files.0.join("ca.pem")).unwrap();
        server.hail_with(&context, "localhost").await.unwrap();
        for bad in ["", "garbage"] {
            files.put("ca.pem", bad);
            server.hail_with(&context, "localhost").await.unwrap();
        }
        assert!(Arc::ptr_eq(&after, &context.ready().await.config));
        files.put("ca.pem", old.pem());
        let failure = server.hail_with(&context, "localhost").await.unwrap_err();
        assert!(matches!(failure, TlsFailure::UnknownIssuer { .. }), "{failure}");
    });
}

/// Story: a certificate is renewed, and when it is to be read the process has no descriptor left. Nothing about the file
/// changes after that.
#[test]
fn what_could_not_be_read_for_a_moment_is_read_later() {
    let (authority, renewed) = (Authority::new("ca"), Authority::new("renewed"));
    let server = Setup::new(renewed.server(&["localhost"])).start();
    let files = Files::new();
    let tls = TlsConfig::new().ca_file(files.put("ca.pem", authority.pem()));
    let context = TlsContext::load(&tls).unwrap();
    files.put("ca.pem", renewed.pem());
    block_on(async {
        // What such a moment leaves behind.
        context.current.lock().await.refused = reload::stamps(&tls);
        server.hail_with(&context, "localhost").await.unwrap();
        assert!(context.current.lock().await.refused.is_empty(), "what is refused next is told");
    });
}

/// The one line of the error that `tls` is refused with.
fn refused(tls: &TlsConfig) -> String {
    let error = TlsContext::load(tls).unwrap_err();
    assert!(matches!(error, ConfigError::Material { .. }), "{error:?}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error.to_string()
}

#[test]
fn what_does_not_fit_together_is_told_when_the_client_is_built() {
    let authority = Authority::new("ca");
    let files = Files::new();
    let tls = trusting(&authority);
    let (mine, other) = (authority.client("me"), authority.client("other"));
    let missing = files.0.join("none.pem");
    let named = |name: &str| format!("({})", files.0.join(name).display());
    for (tls, parts) in [
        (TlsConfig::new().ca_file(&missing), vec!["ssl.truststore.location", &named("none.pem"), "No such file"]),
        (TlsConfig::new().ca_file(files.put("e.pem", "")), vec!["ssl.truststore.location", &named("e.pem"), "empty"]),
        (TlsConfig::new().ca_file(files.put("k.pem", &mine.key)), vec![&named("k.pem"), "no certificate"]),
        (TlsConfig::new().ca_file(&files.0), vec!["directory"]),
        (TlsConfig::new().ca_file(files.put("j", [0xfe, 0xed, 0xfe, 0xed])), vec![&named("j"), "JKS", "keytool"]),
        (TlsConfig::new().ca_pem(to_pem("CERTIFICATE", b"x")), vec!["ssl.truststore.certificates", "damaged"]),
        (tls.clone().client_certificate_files(&missing, &missing), vec!["ssl.keystore.location", &named("none.pem")]),
        (
            tls.clone().client_certificate_pem(mine.chain.clone(), other.key.clone()),
            vec!["ssl.keystore.key", "does not belong to the first certificate of ssl.keystore.certificate.chain"],
        ),
        (
            tls.clone().client_certificate_pem(format!("{}{}", authority.pem(), mine.chain), mine.key.clone()),
            vec!["to a later one"],
        ),
        (
            tls.clone().client_certificate_pem(mine.chain.clone(), to_pem("PRIVATE KEY", b"x")),
            vec!["ssl.keystore.key", "private key is damaged"],
        ),
        (tls.clone().client_certificate_pem(to_pem("CERTIFICATE", b"x"), mine.key.clone()), vec!["certificate.chain"]),
        (TlsConfig { key: None, ..with(tls.clone(), &mine) }, vec!["certificate.chain", "needs the private key"]),
        (TlsConfig { chain: None, ..with(tls.clone(), &mine) }, vec!["ssl.keystore.key", "needs the certificate"]),
    ] {
        let text = refused(&tls);
        for part in parts {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
    // Kafka's key stores have both in one file.
    let both = files.put("both.pem", mine.keystore());
    TlsContext::load(&tls.client_certificate_files(&both, &both)).unwrap();
}

#[test]
fn no_key_and_no_password_is_in_debug_or_errors() {
    let authority = Authority::new("ca");
    let mine = authority.client("me");
    let tls = with(trusting(&authority), &mine).key_password("hunter2");
    let context = TlsContext::load(&tls).unwrap();
    let server = Setup::new(authority.server(&["localhost"])).clients(&authority).start();
    let stream = block_on(async {
        let socket = TcpStream::connect(server.address).await.unwrap();
        format!("{:?}", context.connect("localhost", socket).await.unwrap())
    });
    let wrong = refused(
        &with(trusting(&authority), &Issued { key: mine.key.replace("PRIVATE", "ENCRYPTED PRIVATE"), ..mine.clone() })
            .key_password("hunter2"),
    );
    let body: String = mine.key.lines().filter(|line| !line.contains('-')).collect();
    for text in [format!("{tls:?} {context:?} {:?}", Secret::new("hunter2")), stream, wrong] {
        assert!(
            !text.contains("hunter2")
                && !body.as_bytes().chunks(16).any(|part| text.contains(std::str::from_utf8(part).unwrap())),
            "{text}"
        );
    }
}

/// The messages logged while `work` runs on this thread.
fn logged(work: impl FnOnce()) -> Vec<String> {
    struct Log(Arc<Mutex<Vec<String>>>);
    struct Message<'a>(&'a mut String);
    impl tracing::field::Visit for Message<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.push_str(&format!("{value:?}"));
            }
        }
    }
    impl tracing::Subscriber for Log {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::INFO
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut message = format!("{} ", event.metadata().level());
            event.record(&mut Message(&mut message));
            self.0.lock().unwrap().push(message);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let messages = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Log(messages.clone()), work);
    let messages = messages.lock().unwrap();
    messages.iter().filter(|message| message.contains(" TLS: ")).cloned().collect()
}

#[test]
fn what_happens_to_trust_is_logged_once_each() {
    let unsafe_one = TlsConfig::new().dangerously_disable_certificate_verification();
    let messages = logged(|| {
        for _ in 0..2 {
            TlsContext::load(&unsafe_one).unwrap();
        }
    });
    assert_eq!(messages.len(), 2, "each start");
    assert!(messages.iter().all(|message| message.starts_with("WARN") && message.contains("NOT verified")));
    let files = Files::new();
    let context = TlsContext::load(&TlsConfig::new().ca_file(files.put("ca.pem", Authority::new("a").pem()))).unwrap();
    let messages = logged(|| {
        for content in ["garbage", &Authority::new("b").pem()] {
            files.put("ca.pem", content);
            block_on(async {
                for _ in 0..3 {
                    context.ready().await;
                }
            });
        }
    });
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("WARN") && messages[0].contains("ca.pem"), "{messages:?}");
    assert!(messages[1].starts_with("INFO"), "{messages:?}");
}
