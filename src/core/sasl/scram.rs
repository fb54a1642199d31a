//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), without channel binding, as Kafka has it.
//!
//! ```text
//! first:  n,,n=user,r=NONCE                 ->
//!                                           <-  r=NONCE+MORE,s=salt,i=iterations
//! final:  c=biws,r=NONCE+MORE,p=proof       ->
//!                                           <-  v=signature     or  e=error
//! ```
//!
//! Names and passwords are used as their UTF-8 bytes. RFC 5802 says that they are prepared by SASLprep first; Kafka's
//! tools and brokers do not, so a client that did would not know a password that SASLprep changes (which can only be one
//! beyond ASCII).

use std::fmt;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{SaslContext, SaslError, SaslExchange, SaslFuture, SaslMechanism};
use crate::config::Secret;
use crate::error::words;
use crate::sync::lock;

/// RFC 7677 and Kafka: fewer protect no password.
const LEAST_ITERATIONS: u32 = 4096;
/// Sixteen times the most that Kafka's tools set (16384): about 0.2 s of computing, at which a hostile broker cannot hold
/// up a client for long.
const MOST_ITERATIONS: u32 = 262_144;
/// The longest message of a broker. Real ones are below 200 bytes.
const MOST_BYTES: usize = 4096;
/// Salted passwords remembered. All brokers of a cluster have the same salt, until the password is changed.
const REMEMBERED: usize = 4;

const SERVER_FIRST: &str = "first SCRAM message";
const SERVER_FINAL: &str = "final SCRAM message";

/// Which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// The mechanism with its credentials.
pub(crate) struct Scram(Arc<Account>);

struct Account {
    hash: Hash,
    username: String,
    password: Secret,
    /// So that a thousand reconnects do not cost thousands of hashes each.
    salted: Mutex<Vec<Salted>>,
}

#[derive(Clone)]
struct Salted {
    salt: Vec<u8>,
    iterations: u32,
    password: Digested,
}

type Digested = Zeroizing<Vec<u8>>;

impl Scram {
    /// Takes any text; what cannot be sent is told when it should be.
    pub(crate) fn new(hash: Hash, username: String, password: Secret) -> Scram {
        Scram(Arc::new(Account { hash, username, password, salted: Mutex::default() }))
    }
}

impl SaslMechanism for Scram {
    fn name(&self) -> &str {
        match self.0.hash {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn begin<'a>(&'a self, context: SaslContext<'a>) -> SaslFuture<'a> {
        let exchange = self.0.check().map(|()| {
            let nonce = STANDARD.encode(context.random);
            Box::new(Exchange { account: self.0.clone(), state: State::Fresh { nonce } }) as Box<dyn SaslExchange>
        });
        Box::pin(std::future::ready(exchange))
    }

    /// The proof is of use once only. Without TLS whoever listens can still try passwords at home.
    fn sends_secret(&self) -> bool {
        false
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").field("hash", &self.0.hash).field("username", &self.0.username).finish_non_exhaustive()
    }
}

impl Account {
    fn check(&self) -> Result<(), SaslError> {
        let wrong = |why: &str| Err(SaslError::Credentials(why.to_owned()));
        match (self.username.as_str(), self.password.expose()) {
            ("", _) => wrong("the user name is empty"),
            (_, "") => wrong("the password is empty"),
            (name, _) if name.contains('\0') => wrong("the user name has a NUL character, which SCRAM cannot send"),
            _ => Ok(()),
        }
    }

    fn salted(&self, salt: &[u8], iterations: u32) -> Salted {
        let known = lock(&self.salted).iter().find(|of| of.salt == salt && of.iterations == iterations).cloned();
        known.unwrap_or_else(|| {
            let password = self.hash.stretch(self.password.expose().as_bytes(), salt, iterations);
            Salted { salt: salt.to_vec(), iterations, password }
        })
    }

    /// Only what a broker has proved to know is remembered, so that nobody else can push it out.
    fn remember(&self, proved: Salted) {
        let mut salted = lock(&self.salted);
        if salted.iter().any(|of| of.salt == proved.salt && of.iterations == proved.iterations) {
            return;
        }
        if salted.len() == REMEMBERED {
            salted.remove(0);
        }
        salted.push(proved);
    }
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> Digested {
        Zeroizing::new(match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Digested {
        fn tag<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
            // HMAC takes keys of any length.
            M::new_from_slice(key)
                .map_or_else(|_| Vec::new(), |mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
        }
        Zeroizing::new(match self {
            Hash::Sha256 => tag::<Hmac<Sha256>>(key, bytes),
            Hash::Sha512 => tag::<Hmac<Sha512>>(key, bytes),
        })
    }

    /// RFC 5802's Hi().
    fn stretch(self, password: &[u8], salt: &[u8], iterations: u32) -> Digested {
        match self {
            Hash::Sha256 => {
                let mut out = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
            Hash::Sha512 => {
                let mut out = Zeroizing::new(vec![0; 64]);
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
        }
    }
}

struct Exchange {
    account: Arc<Account>,
    state: State,
}

/// ```text
/// Fresh -> First -> Final -> Over
///             \--------\--> Over (failed)
/// ```
enum State {
    Fresh {
        nonce: String,
    },
    /// The first message is on its way.
    First {
        nonce: String,
        bare: String,
    },
    /// The proof is on its way, and this signature due.
    Final {
        signature: Digested,
        salted: Salted,
    },
    Over,
}

impl SaslExchange for Exchange {
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh { nonce } => {
                let name = self.account.username.replace('=', "=3D").replace(',', "=2C");
                let bare = format!("n={name},r={nonce}");
                let message = format!("n,,{bare}").into_bytes();
                self.state = State::First { nonce, bare };
                Ok(Zeroizing::new(message))
            }
            _ => Err(over()),
        }
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First { nonce, bare } => self.prove(&nonce, &bare, challenge).map(Some),
            State::Final { signature, salted } => {
                let theirs = read_server_final(challenge)?;
                if !bool::from(theirs.ct_eq(&signature)) {
                    return Err(SaslError::ServerSignature);
                }
                self.account.remember(salted);
                Ok(None)
            }
            State::Fresh { .. } | State::Over => Err(over()),
        }
    }
}

impl Exchange {
    fn prove(&mut self, nonce: &str, bare: &str, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        let server = ServerFirst::read(challenge, nonce)?;
        let hash = self.account.hash;
        let salted = self.account.salted(&server.salt, server.iterations);
        let client_key = hash.hmac(&salted.password, b"Client Key");
        let stored_key = hash.digest(&client_key);
        // "biws" is the GS2 header "n,,": no channel binding.
        let without_proof = format!("c=biws,r={}", server.nonce);
        let auth_message = format!("{bare},{},{without_proof}", server.whole);
        let client_signature = hash.hmac(&stored_key, auth_message.as_bytes());
        let proof: Digested =
            Zeroizing::new(client_key.iter().zip(client_signature.iter()).map(|(key, sign)| key ^ sign).collect());
        let signature = hash.hmac(&hash.hmac(&salted.password, b"Server Key"), auth_message.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(&*proof));
        self.state = State::Final { signature, salted };
        Ok(Zeroizing::new(message.into_bytes()))
    }
}

struct ServerFirst<'a> {
    whole: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn read(bytes: &'a [u8], ours: &str) -> Result<ServerFirst<'a>, SaslError> {
        let wrong = |why: &str| malformed(SERVER_FIRST, why);
        let whole = text(SERVER_FIRST, bytes)?;
        if whole.starts_with("m=") {
            return Err(wrong("it has a mandatory extension (m=) that this client does not know"));
        }
        let mut attributes = whole.split(',');
        if let Some(error) = attributes.clone().next().and_then(|first| first.strip_prefix("e=")) {
            return Err(SaslError::Refused(words(error)));
        }
        let mut attribute = |key: &str| attributes.next().and_then(|attribute| attribute.strip_prefix(key));
        let nonce = attribute("r=").ok_or_else(|| wrong("it does not begin with a nonce (r=)"))?;
        let salt = attribute("s=").ok_or_else(|| wrong("no salt (s=) follows the nonce"))?;
        let count = attribute("i=").ok_or_else(|| wrong("no iteration count (i=) follows the salt"))?;
        extensions(SERVER_FIRST, attributes)?;
        if !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("its nonce has characters that are not printable"));
        }
        if !nonce.starts_with(ours) {
            return Err(SaslError::Nonce);
        }
        if nonce.len() == ours.len() {
            return Err(wrong("its nonce is just ours, to which it had to add its own"));
        }
        let salt = STANDARD.decode(salt).map_err(|_| wrong("its salt is not base64"))?;
        if salt.is_empty() {
            return Err(wrong("its salt is empty"));
        }
        Ok(ServerFirst { whole, nonce, salt, iterations: iterations(count)? })
    }
}

fn iterations(count: &str) -> Result<u32, SaslError> {
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || count.is_empty() || count.len() > 1 && count.starts_with('0') {
        return Err(malformed(SERVER_FIRST, "its iteration count is not a number"));
    }
    // What overflows is too many in any case.
    let asked = count.parse::<u64>().unwrap_or(u64::MAX);
    match u32::try_from(asked) {
        Ok(count) if (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&count) => Ok(count),
        _ => Err(SaslError::Iterations { asked, least: LEAST_ITERATIONS, most: MOST_ITERATIONS }),
    }
}

/// The broker's signature.
fn read_server_final(bytes: &[u8]) -> Result<Vec<u8>, SaslError> {
    let whole = text(SERVER_FINAL, bytes)?;
    let mut attributes = whole.split(',');
    let first = attributes.next().unwrap_or_default();
    if let Some(error) = first.strip_prefix("e=") {
        return Err(SaslError::Refused(words(error)));
    }
    let signature = first.strip_prefix("v=").ok_or_else(|| malformed(SERVER_FINAL, "it has no signature (v=)"))?;
    extensions(SERVER_FINAL, attributes)?;
    STANDARD.decode(signature).map_err(|_| malformed(SERVER_FINAL, "its signature is not base64"))
}

/// RFC 5802, 5.1: further attributes may follow, which are passed over.
fn extensions<'a>(message: &'static str, attributes: impl Iterator<Item = &'a str>) -> Result<(), SaslError> {
    for attribute in attributes {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) || value.is_empty() {
            return Err(malformed(message, "what follows its last attribute is no extension"));
        }
    }
    Ok(())
}

fn text<'a>(message: &'static str, bytes: &'a [u8]) -> Result<&'a str, SaslError> {
    if bytes.is_empty() {
        return Err(malformed(message, "it is empty"));
    }
    if bytes.len() > MOST_BYTES {
        return Err(malformed(message, &format!("it is longer than {MOST_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed(message, "it is not UTF-8"))?;
    match text.contains('\0') {
        true => Err(malformed(message, "it has a NUL character")),
        false => Ok(text),
    }
}

fn malformed(message: &'static str, why: &str) -> SaslError {
    SaslError::Malformed { message, why: why.to_owned() }
}

fn over() -> SaslError {
    malformed("message", "it comes after the end of the exchange")
}

#[cfg(test)]
mod tests;
