//! Bytes of a real broker and of Kafka's Java producer, read by us. See tests/golden/README.md for how they were taken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use bytes::{Bytes, BytesMut};
use indelible::types::TopicId;
use indelible::wire::batch::{Batch, Batches, DecodeLimits, RecordsBuilder, SealedBatch};
use indelible::wire::requests::api_versions::ApiVersionsRequest;
use indelible::wire::requests::describe_producers::DescribeProducersRequest;
use indelible::wire::requests::fetch::{FetchPartitionResponse, FetchRequest};
use indelible::wire::requests::find_coordinator::FindCoordinatorRequest;
use indelible::wire::requests::metadata::MetadataRequest;
use indelible::wire::requests::produce::{ProducePartitionResponse, ProduceRequest};
use indelible::wire::{ErrorCode, Request, split_response_header};
use std::path::Path;

const T: i64 = 1_700_000_000_000;
const DAY: i64 = 86_400_000;

type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record as this test lists it.
#[derive(Debug, PartialEq)]
struct Listed {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn file(name: &str) -> Bytes {
    Bytes::from(std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap())
}

/// The words of the lines of facts.txt that begin with `kind`, without it.
fn facts(kind: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(file("facts.txt").to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ').map(str::to_owned));
    lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn batches(name: &str) -> Vec<Batch> {
    Batches::new(file(&format!("{name}.batches"))).map(Result::unwrap).collect()
}

fn listed(batch: &Batch) -> Vec<Listed> {
    let records = batch.records(&DecodeLimits::default()).unwrap();
    let bytes = records.bytes().clone();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let list = records.map(|record| {
        let record = record.unwrap();
        Listed {
            offset: record.offset,
            timestamp: record.timestamp,
            key: owned(record.key(&bytes)),
            value: owned(record.value(&bytes)),
            headers: record.headers(&bytes).map(|(name, value)| (name.to_vec(), owned(value))).collect(),
        }
    });
    list.collect()
}

/// What Golden.java gave the producer: `count` records.
fn written(count: i64) -> Vec<Listed> {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let headers = vec![
        (b"a".to_vec(), some("1")),
        (b"a".to_vec(), None),
        (b"a".to_vec(), some("1")),
        (Vec::new(), Some(Vec::new())),
    ];
    let first = [
        (T, None, None, vec![]),
        (T + 1, some("k1"), some(""), vec![]),
        (T + 2, some(""), some("v"), headers),
        (T - 1000, some("ключ"), some(&"x".repeat(300)), vec![]),
        (T + DAY, None, some("plain"), vec![]),
    ];
    let rest = (5..count).map(|i| (T + i, some(&format!("key-{i}")), some(&format!("value number {i}")), vec![]));
    let all = first.into_iter().chain(rest).enumerate();
    all.map(|(offset, (timestamp, key, value, headers))| {
        let offset = i64::try_from(offset).unwrap();
        Listed { offset, timestamp, key, value, headers }
    })
    .collect()
}

#[test]
fn headers_read_as_java_reads_them() {
    let facts = facts("batch");
    assert_eq!(facts.len(), 17);
    for name in ["none", "gzip", "snappy", "lz4", "zstd", "append-time", "transactions", "compacted"] {
        let ours = batches(name).into_iter().map(|batch| {
            let last = batch.last_offset();
            [
                batch.base_offset,
                last,
                batch.leader_epoch.into(),
                batch.attributes.into(),
                batch.base_timestamp,
                batch.max_timestamp,
                batch.identity.id,
                batch.identity.epoch.into(),
                batch.base_sequence.into(),
                batch.count.into(),
            ]
        });
        let javas = facts.iter().filter(|fact| fact[0] == name).map(|fact| {
            let numbers: Vec<i64> = fact[1..].iter().map(|word| word.parse().unwrap()).collect();
            <[i64; 10]>::try_from(numbers).unwrap()
        });
        assert_eq!(ours.collect::<Vec<_>>(), javas.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn every_codec_of_java_gives_the_records_back() {
    for name in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let batches = batches(name);
        assert_eq!(batches[0].compression.name(), name);
        assert_eq!(listed(&batches[0]), written(25), "{name}");
        let second = listed(&batches[1]);
        assert_eq!((second[0].offset, second[0].timestamp), (25, T + 99));
        assert_eq!(second[0].value.as_deref(), Some(&b"second batch"[..]));
    }
}

#[test]
fn append_time_replaces_the_timestamps() {
    let batch = &batches("append-time")[0];
    assert!(batch.is_append_time());
    let times: Vec<i64> = listed(batch).iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [batch.max_timestamp; 5]);
    assert!(batch.max_timestamp > T + DAY, "the broker's clock");
}

#[test]
fn transactions_end_with_their_marks() {
    use indelible::wire::batch::ControlType;
    let batches = batches("transactions");
    let limits = DecodeLimits::default();
    let marks: Vec<_> = batches.iter().map(|batch| batch.control_type(&limits).unwrap()).collect();
    assert_eq!(marks, [None, Some(ControlType::Abort), None, Some(ControlType::Commit)]);
    assert!(batches.iter().all(Batch::is_transactional));
}

#[test]
fn a_compacted_batch_keeps_its_last_offset() {
    let batch = &batches("compacted")[0];
    assert!(batch.has_delete_horizon());
    let offsets: Vec<i64> = listed(batch).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [1, 2, 4, 5]);
    assert_eq!(batch.last_offset(), 5);
}

/// The same records under the same identity, by our encoder: byte for byte what Java wrote, but for base offset and leader
/// epoch, which the broker sets.
#[test]
fn our_batch_is_javas_to_the_byte() {
    let theirs = file("none.batches");
    let batch = &batches("none")[0];
    let mut builder = RecordsBuilder::new(BytesMut::new());
    for record in written(25) {
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (std::str::from_utf8(name).unwrap(), value.as_deref())).collect();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    let sealed = SealedBatch::new(builder.finish());
    let header = sealed.stamp(batch.identity, batch.base_sequence, false);
    let ours = [&header[..], &sealed.section().bytes].concat();
    let set_by_broker = |i: usize| i < 8 || (12..16).contains(&i);
    let differing: Vec<usize> = (0..ours.len()).filter(|i| ours[*i] != theirs[*i] && !set_by_broker(*i)).collect();
    assert_eq!(differing, [0usize; 0]);
}

/// Reads the answer in `NAME.VERSION.response`.
fn response<R: Request>(name: &str, version: i16) -> R::Response {
    let (correlation, body) =
        split_response_header(R::KEY, version, file(&format!("{name}.{version}.response"))).unwrap();
    let fact = facts("correlation").into_iter().find(|fact| fact[0] == format!("{name}.{version}")).unwrap();
    assert_eq!(correlation.to_string(), fact[1], "{name}");
    R::decode(version, body).unwrap()
}

fn topic_id(name: &str) -> TopicId {
    let fact = facts("topic").into_iter().find(|fact| fact[0] == name).unwrap();
    let hex = &fact[1];
    TopicId(std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()))
}

#[test]
fn api_versions_are_all_there() {
    let answer = response::<ApiVersionsRequest>("ApiVersions", 4);
    let javas: Vec<(i16, i16, i16)> = facts("api")
        .iter()
        .map(|fact| (fact[0].parse().unwrap(), fact[1].parse().unwrap(), fact[2].parse().unwrap()))
        .collect();
    assert!(javas.len() > 50);
    assert_eq!(answer.apis, javas);
}

#[test]
fn metadata_tells_topic_ids_and_unknown_topics() {
    for version in [12, 13] {
        let answer = response::<MetadataRequest>("Metadata", version);
        assert_eq!(answer.cluster_id, Some(facts("cluster")[0][0].clone()));
        assert_eq!(answer.brokers.len(), 1);
        assert_eq!(answer.brokers[0].port.to_string(), facts("port")[0][0]);
        let topic = |name: &str| answer.topics.iter().find(|topic| &*topic.name == name).unwrap();
        assert_eq!(topic("none").id, topic_id("none"));
        let partition = &topic("none").partitions[0];
        assert_eq!((partition.leader, partition.leader_epoch, &partition.isr[..]), (1, 0, &[1][..]));
        assert_eq!(topic("nowhere").error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

fn fetched(name: &str, version: i16) -> FetchPartitionResponse {
    let mut answer = response::<FetchRequest>(name, version);
    assert_eq!(answer.topics.len(), 1);
    answer.topics.remove(0).partitions.remove(0)
}

#[test]
fn fetches_bring_the_batches_of_the_log() {
    for version in [12, 18] {
        let partition = fetched("Fetch", version);
        assert_eq!((partition.error, partition.high_watermark, partition.log_start_offset), (ErrorCode::NONE, 26, 0));
        assert_eq!(partition.records, file("none.batches"));
    }
    let aborted = fetched("FetchAborted", 18);
    assert_eq!((aborted.aborted, aborted.last_stable_offset), (vec![(6, 0)], 6));
    assert_eq!(fetched("FetchOutOfRange", 18).error, ErrorCode::OFFSET_OUT_OF_RANGE);
}

fn produced(name: &str) -> ProducePartitionResponse {
    response::<ProduceRequest>(name, 13).topics.remove(0).partitions.remove(0)
}

#[test]
fn produce_answers_tell_offset_error_and_record() {
    let written = produced("Produce");
    assert_eq!((written.error, written.base_offset, written.log_start_offset), (ErrorCode::NONE, 0, 0));
    assert_eq!(produced("ProduceUnknown").error, ErrorCode::UNKNOWN_TOPIC_ID);
    let invalid = produced("ProduceInvalid");
    assert_eq!(invalid.error, ErrorCode::INVALID_RECORD);
    assert_eq!(invalid.record_errors.len(), 1);
    assert_eq!(invalid.record_errors[0].0, 1, "the one without a key");
}

#[test]
fn coordinators_and_producers_are_told() {
    let coordinator = response::<FindCoordinatorRequest>("FindCoordinator", 5);
    assert_eq!((coordinator.error, coordinator.broker), (ErrorCode::NONE, 1));
    assert_eq!(coordinator.port.to_string(), facts("port")[0][0]);
    let producers = response::<DescribeProducersRequest>("DescribeProducers", 0);
    let active = &producers.topics[0].1[0].producers;
    assert_eq!(active.len(), 1);
    // The last batch of topic "none".
    assert_eq!((active[0].identity.id, active[0].identity.epoch, active[0].last_sequence), (0, 0, 25));
}
