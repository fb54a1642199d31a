//! Ways into the inside for the fuzz targets; not there in any other build.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{self, Assignor};
use crate::core::consume::assignor::{self, Counts, Member};
use crate::core::consume::ops;
use crate::core::consume::protocol;
use crate::io::spool::Written;
use crate::io::tls;
use crate::types::TopicPartition;

/// A spool that was really written, to be damaged.
pub struct SpoolStory(Written);

impl SpoolStory {
    /// Each `choice` is another one.
    #[must_use]
    pub fn new(choice: u8) -> SpoolStory {
        SpoolStory(Written::new(choice))
    }

    /// Changes a copy of its files as `edits` say, opens it, and panics when that breaks a promise. `within` is given the
    /// number of bytes there are, and runs the opening.
    pub fn recover(&self, edits: &[u8], within: impl Fn(usize, &mut dyn FnMut())) {
        self.0.recover(edits, within);
    }
}

/// Lives the life of a consumer's membership as `input` says, against a model, and panics when that breaks a promise.
pub fn group_ops(input: &[u8]) {
    let _ = ops::live(input);
}

/// Reads `bytes` as one of the things that members of a group send each other through the coordinator.
pub fn read_foreign(what: u8, bytes: &[u8]) {
    match what % 4 {
        0 => drop(protocol::decode_assignment(bytes)),
        1 => drop(protocol::decode_sticky_data(bytes)),
        2 => drop(protocol::decode_generation(bytes)),
        _ => drop(protocol::decode_subscription(bytes)),
    }
}

/// Leads a group with members that sent these bytes, and panics when the assignment breaks a promise.
pub fn lead(choice: u8, subscriptions: &[&[u8]]) {
    const ASSIGNORS: [Assignor; 4] =
        [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];
    let assignor = ASSIGNORS[usize::from(choice) % ASSIGNORS.len()];
    let member = |(index, bytes): (usize, &&[u8])| {
        let subscription = protocol::decode_subscription(bytes).ok()?;
        Some(Member::new(assignor, format!("m{index}"), None, subscription))
    };
    let members: Vec<Member> = subscriptions.iter().enumerate().filter_map(member).collect();
    let topics = members.iter().flat_map(|member| member.topics.iter().cloned());
    // Every third topic does not exist.
    let count = |topic: &Arc<str>| i32::try_from(topic.len() % 3).unwrap_or(0) * i32::from(1 + choice / 16);
    let counts: Counts = topics.map(|topic| (topic.clone(), count(&topic))).filter(|(_, count)| *count > 0).collect();
    let assignment = assignor::assign(assignor, &members, &counts);
    assert_eq!(assignment.len(), members.len());
    let mut given = BTreeSet::new();
    for (member, partitions) in members.iter().zip(&assignment) {
        for partition in partitions {
            assert!(given.insert(partition.clone()), "{partition} is given twice");
            assert!(member.topics.contains(&partition.topic), "{partition} is given to a member that does not want it");
            assert!((0..counts[&partition.topic]).contains(&partition.partition), "{partition} does not exist");
        }
        assert_eq!(protocol::decode_assignment(&protocol::encode_assignment(partitions)).as_ref(), Ok(partitions));
    }
    let all = usize::try_from(counts.values().sum::<i32>()).unwrap_or(0);
    match assignor {
        Assignor::CooperativeSticky => {
            for (member, partitions) in members.iter().zip(&assignment) {
                for other in members.iter().filter(|other| other.id != member.id) {
                    let taken = |partition: &TopicPartition| {
                        other.owned.contains(partition) && !member.owned.contains(partition)
                    };
                    assert!(!partitions.iter().any(taken), "a partition is given away before its owner gave it back");
                }
            }
        }
        Assignor::Range | Assignor::RoundRobin | Assignor::Sticky => assert_eq!(given.len(), all, "some have no owner"),
    }
}

/// Leads a SASL exchange with a client whose password is known, the broker's messages being `messages`, and panics when the
/// client is satisfied without a proof. With `edit` the first two messages are changes of SCRAM's right ones.
pub fn sasl(what: u8, edit: bool, messages: &[&[u8]]) {
    use crate::core::sasl::{Hash, OAuthBearer, SaslContext, SaslMechanism, Scram, Token};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, SystemTime};

    /// What a broker that knows the password says to the nonce of `random`.
    const RIGHT: [&str; 2] = [
        "r=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHbroker,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "v=jKs8ZNGnpWQS39joibl+Pj3O7GEO7JABSG4Ci8xQvng=",
    ];
    let (now, random) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), [7; 24]);
    let text = |at: usize| String::from_utf8_lossy(messages.get(at).copied().unwrap_or_default()).into_owned();
    let mechanism: Box<dyn SaslMechanism> = match what % 4 {
        0 => Box::new(Scram::new(Hash::Sha256, "user".to_owned(), "pencil".into())),
        1 => Box::new(Scram::new(Hash::Sha512, "user".to_owned(), "pencil".into())),
        2 => Box::new(OAuthBearer::new(Token::new("token"))),
        _ => Box::new(OAuthBearer::new(Token::new(text(0)).extension(text(1), text(2)))),
    };
    let context = SaslContext { host: "broker", now, random: &random };
    let begun = match pin!(mechanism.begin(context)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(begun) => begun,
        Poll::Pending => panic!("it waits for nothing"),
    };
    let Ok(mut exchange) = begun else {
        assert_eq!(what % 4, 3, "only a token can be wrong");
        return;
    };
    let first = exchange.first().expect("first message");
    // Whatever the token: nothing but its own message, with nothing smuggled into it.
    if what % 4 == 3 {
        assert!(first.starts_with(b"n,,\x01auth=Bearer ") && first.ends_with(b"\x01\x01"));
        assert_eq!(first.iter().filter(|byte| **byte == 1).count(), 4);
    }
    let mut proved = true;
    for (at, message) in messages.iter().enumerate() {
        let edited: Vec<u8> = match RIGHT.get(at).filter(|_| edit) {
            // Pairs of a place and another byte for it.
            Some(right) => {
                let mut bytes = right.as_bytes().to_vec();
                for pair in message.chunks_exact(2) {
                    let at = usize::from(pair[0]) % bytes.len();
                    bytes[at] = pair[1];
                }
                bytes
            }
            None => message.to_vec(),
        };
        proved &= match what % 4 {
            0 => RIGHT.get(at).is_some_and(|right| edited.starts_with(right.as_bytes())),
            1 => false,
            _ => edited.is_empty(),
        };
        match exchange.next(&edited) {
            Ok(None) => {
                assert!(proved, "satisfied without a proof");
                assert!(what % 4 > 1 || at == 1, "SCRAM has two answers");
                return;
            }
            Ok(Some(_)) => {}
            Err(error) => {
                assert!(!error.to_string().contains(['\n', '\r', '\u{1b}']), "{error}");
                return;
            }
        }
    }
}

/// Reads `text` as a file of properties, as `sasl.jaas.config`, and as a value with placeholders, and panics when that
/// breaks a promise.
pub fn read_configuration(text: &str) {
    config::read_foreign_text(text);
}

/// Reads `text` as certificates and a key, or as what is inside them, and panics when that breaks a promise.
pub fn pem(what: u8, password: &[u8], text: &[u8]) {
    tls::read_pem(what, &String::from_utf8_lossy(password), text);
}
