//! A producer with WRITE on its topic and nothing else, whose process dies with records in flight: the leader may not be
//! asked what it has.
//!
//! The client has no identity here: to the broker it is `User:ANONYMOUS`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indelible::{Client, Record, SendError};
use proto_tests::raw::RawClient;
use proto_tests::real::{AUTHORIZER, Operation, RealConfig, Resource};
use real_support::proxy::Proxied;
use real_support::spools::{Left, Scratch, crash_image, offsets, open, spool, stays, until_left, until_spooled};
use real_support::{batches_on_disk, expect, until, until_on_disk, wait};

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Error code of Kafka: the principal may not.
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// Longer ago than a broker remembers a producer by default: a day.
const TWO_DAYS_MS: i64 = 2 * 24 * 3_600_000;

/// We may WRITE to these topics and not READ them.
fn write_only(broker: &Proxied, topics: &[&str]) {
    for topic in topics {
        broker.cluster.create_topic(topic, 1, 1, &[]).unwrap();
    }
    let list: Vec<_> = topics.iter().map(|topic| Resource::Topic(topic)).collect();
    broker.cluster.allow("User:ANONYMOUS", Operation::Write, &list).unwrap();
    until("the rules to apply", || {
        let mut raw = RawClient::connect(broker.cluster.address(1)).map_err(|error| error.to_string())?;
        for topic in topics {
            let known = raw.describe_producers(topic, 0).map_err(|error| error.to_string())?;
            expect(known, Err(TOPIC_AUTHORIZATION_FAILED)).map(drop)?;
        }
        Ok(())
    });
}

/// Five records are with the broker, their acknowledgements are lost, and the process dies.
fn five_stored(broker: &Proxied, topic: &str, timestamp: Option<i64>) -> Scratch {
    let scratch = Scratch::new(topic);
    let client = wait(Client::builder([broker.address()]).build()).unwrap();
    let producer = open(&client, &scratch.spool());
    offsets(&spool(&producer, topic, &["first"]));
    broker.lose_answers();
    let receipts: Vec<_> = wait(async {
        let mut receipts = Vec::new();
        for value in FIVE {
            let mut record = Record::to(topic).partition(0).value(value);
            if let Some(timestamp) = timestamp {
                record = record.timestamp(timestamp);
            }
            receipts.push(producer.send(record).await.unwrap());
        }
        receipts
    });
    until_spooled(&receipts);
    // With old times one after the other is in flight.
    until_on_disk(&broker.cluster, 1, topic, 0, if timestamp.is_some() { 2 } else { 6 });
    let image = crash_image(&scratch.spool(), topic);
    drop((producer, client));
    broker.mend();
    image
}

/// Inside the time for which a broker remembers producers, the records are sent again blindly, the oldest first: the broker
/// recognises them. Outside of it nobody can tell: they stay in the spool as unknown, with what comes after them.
#[test]
fn no_read_permission() {
    let config = RealConfig::default()
        .config("authorizer.class.name", AUTHORIZER)
        .config("allow.everyone.if.no.acl.found", "true");
    let broker = Proxied::start(config);
    write_only(&broker, &["blind", "parked"]);

    let image = five_stored(&broker, "blind", None);
    let client = wait(Client::builder([broker.address()]).build()).unwrap();
    let producer = open(&client, &image.spool());
    offsets(&spool(&producer, "blind", &["next"]));
    until_left(&image.spool(), Left::default());

    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let image = five_stored(&broker, "parked", Some(now - TWO_DAYS_MS));
    let stored = batches_on_disk(&broker.cluster, 1, "parked", 0).len();
    let client = wait(Client::builder([broker.address()]).build()).unwrap();
    let producer = open(&client, &image.spool());
    let next = spool(&producer, "parked", &["next"]);
    until_left(&image.spool(), Left { ready: 1, parked: 5, unknown: 5, dead: 0 });
    stays(Duration::from_secs(2), || batches_on_disk(&broker.cluster, 1, "parked", 0).len());
    assert_eq!(batches_on_disk(&broker.cluster, 1, "parked", 0).len(), stored);
    wait(producer.close(Duration::ZERO)).unwrap();
    let left = wait(next[0].delivered()).unwrap_err();
    assert!(matches!(left, SendError::Spooled(_)), "{left}");

    // Whoever may read sees how it went with the first.
    broker.cluster.allow("User:ANONYMOUS", Operation::Read, &[Resource::Topic("blind")]).unwrap();
    let found = until("the right to read", || {
        let mut raw = RawClient::connect(broker.cluster.address(1)).map_err(|error| error.to_string())?;
        match raw.fetch("blind", 0, 0).map_err(|error| error.to_string())? {
            (0, found) => Ok(found),
            (code, _) => Err(format!("error {code}")),
        }
    });
    let found: Vec<_> = found.iter().map(real_support::value).collect();
    assert_eq!(found, ["first", "a", "b", "c", "d", "e", "next"]);
}
