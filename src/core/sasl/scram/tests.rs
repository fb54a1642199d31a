//! Vectors, and each check.

use super::super::tests::begin;
use super::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST_256: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF_256: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL_256: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn account(hash: Hash, name: &str, password: &str) -> Scram {
    Scram::new(hash, name.into(), password.into())
}

/// An exchange whose first message is sent.
fn started(scram: &Scram, nonce: &str) -> (String, Exchange) {
    let mut exchange = Exchange { account: scram.0.clone(), state: State::Fresh { nonce: nonce.into() } };
    let first = exchange.first().expect("first message");
    (String::from_utf8(first.to_vec()).expect("text"), exchange)
}

fn user() -> Scram {
    account(Hash::Sha256, "user", "pencil")
}

fn error(challenge: impl AsRef<[u8]>) -> SaslError {
    let (_, mut exchange) = started(&user(), NONCE);
    let error = exchange.next(challenge.as_ref()).expect_err("refused");
    assert!(exchange.next(SERVER_FINAL_256.as_bytes()).is_err(), "nothing mends it");
    error
}

fn final_error(challenge: impl AsRef<[u8]>) -> SaslError {
    let scram = user();
    let (_, mut exchange) = started(&scram, NONCE);
    assert!(exchange.next(SERVER_FIRST_256.as_bytes()).expect("proof").is_some());
    let error = exchange.next(challenge.as_ref()).expect_err("refused");
    assert!(exchange.next(SERVER_FINAL_256.as_bytes()).is_err(), "nothing mends it");
    assert!(lock(&scram.0.salted).is_empty(), "nothing is remembered of a broker that proved nothing");
    error
}

/// RFC 7677, section 3.
#[test]
fn scram_sha_256_as_in_rfc_7677() {
    let (first, mut exchange) = started(&user(), NONCE);
    assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let proof = exchange.next(SERVER_FIRST_256.as_bytes()).expect("first").expect("proof");
    assert_eq!(std::str::from_utf8(&proof), Ok(PROOF_256));
    assert_eq!(exchange.next(SERVER_FINAL_256.as_bytes()), Ok(None));
}

/// No RFC has a vector for it. This one was computed with Python's hashlib, and agrees with what other clients test by.
#[test]
fn scram_sha_512() {
    let (_, mut exchange) = started(&account(Hash::Sha512, "user", "pencil"), NONCE);
    let first = "r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,\
                 s=Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=,i=4096";
    let proof = exchange.next(first.as_bytes()).expect("first").expect("proof");
    assert_eq!(
        std::str::from_utf8(&proof),
        Ok(
            "c=biws,r=rOprNGfwEbeRWgbNEkqO02431b08-2f89-4bad-a4e6-80c0564ec865,p=Hc5yec3NmCD7t+kFRw4/3yD6/F3SQHc7AVYschRja\
            +Bc3sbdjlA0eH1OjJc0DD4ghn1tnXN5/Wr6qm9xmaHt4A=="
        )
    );
    let last = "v=BQuhnKHqYDwQWS5jAw4sZed+C9KFUALsbrq81bB0mh+bcUUbbMPNNmBIupnS2AmyyDnG5CTBQtkjJ9kyY4kzmw==";
    assert_eq!(exchange.next(last.as_bytes()), Ok(None));
}

#[test]
fn names_are_escaped_and_nonces_are_new() {
    let (first, _) = started(&account(Hash::Sha256, "a=b,c=2C,ü", "p"), NONCE);
    assert_eq!(first, format!("n,,n=a=3Db=2Cc=3D2C=2Cü,r={NONCE}"));
    let first = begin(&user()).expect("exchange").first().expect("message");
    assert_eq!(**first, *format!("n,,n=user,r={}", STANDARD.encode([7; 24])).as_bytes());
    for (name, password, words) in
        [("", "p", "user name is empty"), ("a\0", "p", "NUL"), ("a", "", "password is empty")]
    {
        let error = begin(&account(Hash::Sha256, name, password)).err().expect("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(!format!("{:?}", user()).contains("pencil"));
}

/// Story: a broker that does not know the password answers the proof with success all the same.
#[test]
fn scram_bad_server_signature() {
    let mut wrong = SERVER_FINAL_256.to_owned().into_bytes();
    wrong[2] = b'7';
    assert_eq!(final_error(&wrong), SaslError::ServerSignature);
    // A signature that is only the right one's beginning, or goes on after it.
    let right = STANDARD.decode(&SERVER_FINAL_256[2..]).expect("base64");
    for length in [0, 1, 31] {
        assert_eq!(final_error(format!("v={}", STANDARD.encode(&right[..length]))), SaslError::ServerSignature);
    }
    let longer = [&right[..], &[0]].concat();
    assert_eq!(final_error(format!("v={}", STANDARD.encode(longer))), SaslError::ServerSignature);
}

/// Story: an answer of another exchange is replayed, or one that adds nothing of the broker's.
#[test]
fn scram_foreign_nonce() {
    for nonce in ["foreign", "", &NONCE[..19], &format!("x{NONCE}")] {
        let challenge = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        assert_eq!(error(challenge), SaslError::Nonce, "{nonce:?}");
    }
    let same = error(format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    assert!(same.to_string().contains("just ours"), "{same}");
}

/// Story: few iterations let whoever listens find the password; many hold up the client.
#[test]
fn scram_iterations_out_of_bounds() {
    let challenge = |count: &str| format!("r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={count}");
    for (count, asked) in [
        ("0", 0),
        ("1", 1),
        ("4095", 4095),
        ("262145", 262_145),
        ("4294967296", 1 << 32),
        ("4294971392", (1 << 32) + 4096),
        ("99999999999999999999999", u64::MAX),
    ] {
        assert_eq!(error(challenge(count)), SaslError::Iterations { asked, least: 4096, most: 262_144 });
    }
    for count in ["", "+4096", "-4096", "04096", "4096.0", " 4096", "4096 ", "٤٠٩٦"] {
        assert!(error(challenge(count)).to_string().contains("iteration count is not a number"), "{count:?}");
    }
    let (_, mut exchange) = started(&user(), NONCE);
    assert!(exchange.next(challenge("16384").as_bytes()).expect("Kafka's most").is_some());
}

#[test]
fn malformed_first_messages() {
    for (challenge, words) in [
        ("", "it is empty"),
        (",", "does not begin with a nonce"),
        ("s=QQ==,r=NONCEx,i=4096", "does not begin with a nonce"),
        ("r=NONCEx", "no salt (s=) follows the nonce"),
        ("r=NONCEx,i=4096,s=QQ==", "no salt (s=) follows the nonce"),
        ("r=NONCEx,,s=QQ==,i=4096", "no salt (s=) follows the nonce"),
        ("r=NONCEx,s=QQ==", "no iteration count (i=) follows the salt"),
        ("r=NONCEx,s=QQ==,i=4096,", "is no extension"),
        ("r=NONCEx,s=QQ==,i=4096,i", "is no extension"),
        ("r=NONCEx,s=QQ==,i=4096,1=a", "is no extension"),
        ("r=NONCEx,s=,i=4096", "salt is empty"),
        ("r=NONCEx,s=QQ,i=4096", "salt is not base64"),
        ("r=NONCEx,s=Q$==,i=4096", "salt is not base64"),
        ("r=NONCE\u{7f},s=QQ==,i=4096", "not printable"),
        ("r=NONCEé,s=QQ==,i=4096", "not printable"),
        ("r=NONCEx\0,s=QQ==,i=4096", "NUL"),
        ("m=x,r=NONCEx,s=QQ==,i=4096", "mandatory extension"),
        ("m=", "mandatory extension"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "does not begin with a nonce"),
    ] {
        let told = error(challenge.replace("NONCE", NONCE));
        assert!(matches!(told, SaslError::Malformed { message: SERVER_FIRST, .. }), "{told}");
        assert!(told.to_string().contains(words), "{challenge:?}: {told}");
    }
    assert!(error([0xff, b'=']).to_string().contains("not UTF-8"));
    assert!(error(vec![b'r'; MOST_BYTES + 1]).to_string().contains("longer than 4096 bytes"));
    assert_eq!(error("e=unknown-user\nx"), SaslError::Refused("unknown-user x".into()));
    // An optional extension is passed over.
    let (_, mut exchange) = started(&user(), NONCE);
    assert!(exchange.next(format!("{SERVER_FIRST_256},x=y").as_bytes()).expect("proof").is_some());
}

#[test]
fn malformed_final_messages() {
    for (challenge, words) in [
        ("", "it is empty"),
        ("v", "has no signature"),
        ("x=y,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "has no signature"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", "signature is not base64"),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,", "is no extension"),
        (SERVER_FIRST_256, "has no signature"),
    ] {
        let told = final_error(challenge);
        assert!(matches!(told, SaslError::Malformed { message: SERVER_FINAL, .. }), "{told}");
        assert!(told.to_string().contains(words), "{challenge:?}: {told}");
    }
    assert_eq!(final_error("e=invalid-proof,x=y").to_string(), "the broker refused: invalid-proof");
    assert_eq!(final_error("v="), SaslError::ServerSignature);
}

#[test]
fn a_salted_password_is_remembered_once_a_broker_has_proved_it() {
    let scram = user();
    for _ in 0..3 {
        let (_, mut exchange) = started(&scram, NONCE);
        let _ = exchange.next(SERVER_FIRST_256.as_bytes());
        assert_eq!(exchange.next(SERVER_FINAL_256.as_bytes()), Ok(None));
        assert_eq!(lock(&scram.0.salted).len(), 1);
    }
    // What is remembered is used: a wrong one makes a wrong proof.
    lock(&scram.0.salted)[0].password[0] ^= 1;
    let (_, mut exchange) = started(&scram, NONCE);
    let proof = exchange.next(SERVER_FIRST_256.as_bytes()).expect("first").expect("proof");
    assert_ne!(std::str::from_utf8(&proof), Ok(PROOF_256));
    for salt in 0..20 {
        scram.0.remember(Salted { salt: vec![salt], iterations: 4096, password: Zeroizing::default() });
    }
    assert_eq!(lock(&scram.0.salted).len(), REMEMBERED);
}
