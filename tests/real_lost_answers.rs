//! Answers of a real broker that never reach the producer, and a broker that forgets meanwhile.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::{Client, Producer, Record};
use proto_tests::raw::RawClient;
use proto_tests::real::RealConfig;
use real_support::proxy::Proxied;
use real_support::{batches_on_disk, expect, topic_of, until, until_on_disk, values, wait};
use std::time::Duration;

/// A producer whose every record is a batch of its own, and which the broker knows.
fn warm(broker: &Proxied, story: &str) -> (String, Client, Producer) {
    let topic = topic_of(&broker.cluster, story, 1, 1, &[]);
    let client = wait(Client::builder([broker.address()]).build()).unwrap();
    let producer = wait(client.producer().batch_size(0).linger(Duration::ZERO).build()).unwrap();
    let first = wait(async { producer.send(Record::to(&topic).value("first")).await.unwrap().delivered().await });
    assert_eq!(first.unwrap().offset(), Some(0));
    (topic, client, producer)
}

/// What happens to the broker before the producer can reach it again.
#[derive(Clone, Copy, Debug)]
enum End {
    None,
    Stop,
    Kill,
}

/// Five batches are stored and their acknowledgements are lost. The broker knows all five; or it is restarted, cleanly
/// and by kill -9, then knows the last of the five only and answers the others as it answers a gap. The receipts of all
/// five resolve to delivered, nothing is written again.
#[test]
fn resend_of_the_five_in_flight_and_after_clean_broker_restart() {
    let broker = Proxied::start(RealConfig::default());
    for end in [End::None, End::Stop, End::Kill] {
        let (topic, _client, producer) = warm(&broker, &format!("lost-{end:?}"));
        broker.lose_answers();
        let texts = ["a", "b", "c", "d", "e"];
        let receipts = wait(async {
            let mut receipts = Vec::new();
            for text in texts {
                receipts.push(producer.send(Record::to(&topic).value(text)).await.unwrap());
            }
            receipts
        });
        until_on_disk(&broker.cluster, 1, &topic, 0, 6);
        match end {
            End::None => {}
            End::Stop => broker.cluster.stop(1).unwrap(),
            End::Kill => broker.cluster.kill(1).unwrap(),
        }
        broker.cluster.start_broker(1).unwrap();
        broker.mend();
        for (offset, receipt) in (1..).zip(&receipts) {
            let place = wait(receipt.delivered()).unwrap();
            // An answer by the code of a gap names no offset.
            assert!(place.offset().is_none_or(|found| found == offset), "{place:?} instead of {offset}");
        }
        let next = wait(async { producer.send(Record::to(&topic).value("next")).await.unwrap().delivered().await });
        assert_eq!(next.unwrap().offset(), Some(6));
        assert_eq!(values(&broker.cluster, &topic, 0, 7), ["first", "a", "b", "c", "d", "e", "next"]);
    }
}

/// A record with an old event time is stored, its acknowledgement is lost, and the broker forgets the producer because of
/// that time. Sent again blindly it would be there twice. It is there once, and its receipt does not say that it is not.
#[test]
fn old_timestamp_producer_id_expired() {
    const EXPIRATION: Duration = Duration::from_secs(600);
    let config = RealConfig::default()
        .config("producer.id.expiration.ms", &EXPIRATION.as_millis().to_string())
        .config("producer.id.expiration.check.interval.ms", "500");
    let broker = Proxied::start(config);
    let (topic, _client, producer) = warm(&broker, "old");
    broker.lose_answers();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let old = i64::try_from((now - 3 * EXPIRATION).as_millis()).unwrap();
    let receipt = wait(producer.send(Record::to(&topic).value("old").timestamp(old))).unwrap();
    until_on_disk(&broker.cluster, 1, &topic, 0, 2);
    until("the broker to forget", || {
        let mut raw = RawClient::connect(broker.cluster.address(1)).map_err(|error| error.to_string())?;
        let known = raw.describe_producers(&topic, 0).map_err(|error| error.to_string())?;
        expect(known.map(|known| known.len()), Ok(0)).map(drop)
    });
    broker.mend();
    match wait(receipt.delivered()) {
        Ok(place) => assert!(place.offset().is_none_or(|offset| offset == 1), "{place:?}"),
        Err(error) => assert!(error.may_be_delivered(), "{error}"),
    }
    let next = wait(async { producer.send(Record::to(&topic).value("next")).await.unwrap().delivered().await });
    assert_eq!(next.unwrap().offset(), Some(2));
    assert_eq!(values(&broker.cluster, &topic, 0, 3), ["first", "old", "next"]);
    assert_eq!(batches_on_disk(&broker.cluster, 1, &topic, 0).len(), 3);
}
