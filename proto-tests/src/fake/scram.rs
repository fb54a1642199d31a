//! The broker's side of SCRAM-SHA-256 and -512 (RFC 5802, RFC 7677) as Kafka has it: no channel binding, no preparation of
//! names and passwords beyond UTF-8, and an unknown user is refused at once.

use super::sasl::{SaslFault, Step};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use std::hash::{BuildHasher, Hasher, RandomState};

/// The hash of the mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(crate) fn of(mechanism: &str) -> Option<Self> {
        match mechanism {
            "SCRAM-SHA-256" => Some(Self::Sha256),
            "SCRAM-SHA-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    #[allow(clippy::expect_used, reason = "a key of HMAC may have any length")]
    fn hmac(self, key: &[u8], data: &str) -> Vec<u8> {
        macro_rules! mac {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(key).expect("any key");
                mac.update(data.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            Self::Sha256 => mac!(Sha256),
            Self::Sha512 => mac!(Sha512),
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations).to_vec(),
            Self::Sha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), salt, iterations).to_vec(),
        }
    }
}

/// What a broker keeps instead of a password.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Credential {
    pub(crate) fn new(hash: Hash, password: &str, iterations: u32) -> Self {
        Self::with_salt(hash, password, random_text().into_bytes(), iterations)
    }

    fn with_salt(hash: Hash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted(password, &salt, iterations);
        let stored_key = hash.hash(&hash.hmac(&salted, "Client Key"));
        let server_key = hash.hmac(&salted, "Server Key");
        Self { hash, salt, iterations, stored_key, server_key }
    }
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct ScramServer {
    server_nonce: String,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    user: String,
    credential: Credential,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Default for ScramServer {
    fn default() -> Self {
        Self { server_nonce: random_text(), begun: None }
    }
}

impl ScramServer {
    /// Answers one message of the client.
    pub(crate) fn step(
        &mut self,
        message: &[u8],
        find: impl FnOnce(&str) -> Option<Credential>,
        fault: Option<&SaslFault>,
    ) -> Step {
        let Ok(message) = std::str::from_utf8(message) else { return Step::BadCredentials };
        let answer = match self.begun.take() {
            None => self.first(message, find, fault),
            Some(begun) => last(message, &begun, fault),
        };
        answer.unwrap_or(Step::BadCredentials)
    }

    fn first(
        &mut self,
        message: &str,
        find: impl FnOnce(&str) -> Option<Credential>,
        fault: Option<&SaslFault>,
    ) -> Option<Step> {
        // gs2-header: no channel binding, perhaps an authorization id.
        let (authorization, bare) = message.strip_prefix("n,")?.split_once(',')?;
        let mut attributes = bare.split(',');
        let user = sasl_name(attributes.next()?.strip_prefix("n=")?)?;
        let client_nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| printable(nonce))?;
        if !authorization.is_empty() && sasl_name(authorization.strip_prefix("a=")?)? != user {
            let why = "Authentication failed: Client requested an authorization id that is different from username";
            return Some(Step::Refused(why.to_owned()));
        }
        let credential = find(&user)?;
        let nonce = match fault {
            Some(SaslFault::ForeignNonce) => format!("x{client_nonce}{}", self.server_nonce),
            Some(SaslFault::UnextendedNonce) => client_nonce.to_owned(),
            _ => format!("{client_nonce}{}", self.server_nonce),
        };
        let iterations = match fault {
            Some(SaslFault::Iterations(asked)) => *asked,
            _ => u64::from(credential.iterations),
        };
        let salt = BASE64.encode(&credential.salt);
        let server_first = match fault {
            Some(SaslFault::ServerFirst(text)) => text.replace("{nonce}", &nonce),
            _ => format!("r={nonce},s={salt},i={iterations}"),
        };
        let challenge = server_first.clone().into_bytes();
        self.begun = Some(Begun { user, credential, client_first_bare: bare.to_owned(), server_first, nonce });
        Some(Step::Challenge(challenge))
    }
}

fn last(message: &str, begun: &Begun, fault: Option<&SaslFault>) -> Option<Step> {
    let (without_proof, proof) = message.rsplit_once(",p=")?;
    let mut attributes = without_proof.split(',');
    // "n,," and with an authorization id.
    let header = BASE64.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
    let nonce = attributes.next()?.strip_prefix("r=")?;
    if !header.starts_with(b"n,") || nonce != begun.nonce {
        return None;
    }
    let proof = BASE64.decode(proof).ok()?;
    let Credential { hash, stored_key, server_key, .. } = &begun.credential;
    let signed = format!("{},{},{without_proof}", begun.client_first_bare, begun.server_first);
    let client_signature = hash.hmac(stored_key, &signed);
    let client_key: Vec<u8> = proof.iter().zip(&client_signature).map(|(proof, signature)| proof ^ signature).collect();
    if proof.len() != client_signature.len() || hash.hash(&client_key) != *stored_key {
        return None;
    }
    let mut signature = hash.hmac(server_key, &signed);
    let text = match fault {
        Some(SaslFault::WrongServerSignature) => {
            signature.iter_mut().for_each(|byte| *byte ^= 1);
            format!("v={}", BASE64.encode(&signature))
        }
        Some(SaslFault::ServerFinal(text)) => text.clone(),
        _ => format!("v={}", BASE64.encode(&signature)),
    };
    Some(Step::Done { answer: text.into_bytes(), principal: begun.user.clone() })
}

/// A name with `=2C` and `=3D` for the comma and the equals sign.
fn sasl_name(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((plain, escaped)) = rest.split_once('=') {
        out.push_str(plain);
        rest = escaped.get(2..)?;
        out.push(match escaped.get(..2)? {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

fn printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// 96 bits or so that differ each time.
fn random_text() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    fn text(step: Step) -> String {
        match step {
            Step::Challenge(bytes) | Step::Done { answer: bytes, .. } => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::with_salt(Hash::Sha256, "pencil", salt, 4096);
        let exchange = |proof: &str| {
            let mut server = ScramServer { server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(), begun: None };
            let first = server.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", |_| Some(credential.clone()), None);
            assert_eq!(
                text(first),
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
            );
            let last = format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={proof}");
            server.step(last.as_bytes(), |_| None, None)
        };
        let done = exchange("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(text(done), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(matches!(exchange("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA="), Step::BadCredentials));
        assert!(matches!(exchange("dHzb"), Step::BadCredentials));
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        let credential = Credential::new(Hash::Sha512, "x", 4096);
        for message in ["", "n,,", "y,,n=u,r=1", "n,,n=,r=1", "n,,n=u=2,r=1", "n,,n=u,r=", "n,,m=1,n=u,r=1"] {
            let step = ScramServer::default().step(message.as_bytes(), |_| Some(credential.clone()), None);
            assert!(matches!(step, Step::BadCredentials), "{message:?}: {step:?}");
        }
        let odd = ScramServer::default().step(
            b"n,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=1",
            |user| (user == "a,b=c").then_some(credential),
            None,
        );
        assert!(text(odd).starts_with("r=1"));
    }
}
