//! What a broker checks before it appends, and what it answers to readers.

use super::bench::{Bench, expect, expect_produce, text};
use super::{Case, Needs};
use crate::raw::{BatchSpec, RawClient, batch, fetch_request, name, produce_request};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case("wrong_crc_is_corrupt", wrong_crc_is_corrupt),
    case("two_batches_in_one_partition_are_refused", two_batches),
    case("wrong_offset_delta_is_an_invalid_record", wrong_offset_delta),
    case("record_from_the_far_future_is_refused", far_future),
    case("too_large_is_refused", too_large),
    case("unknown_topics_have_codes_of_their_own", unknown_topics),
    case("compacted_topic_wants_keys", compacted_topic_wants_keys),
    case("log_append_time_is_the_brokers", log_append_time),
    case("offset_out_of_range", offset_out_of_range),
    case("fetch_session", fetch_session),
    Case {
        name: "followers_answer_fetches_from_version_11",
        needs: Needs::ThreeBrokers,
        run: followers_answer_fetches,
    },
    case("offsets_by_time", offsets_by_time),
    case("acks_other_than_three_are_refused", acks_other_than_three),
    Case { name: "only_the_leader_appends", needs: Needs::ThreeBrokers, run: only_the_leader_appends },
    case("api_versions_answers_its_own_range", api_versions_range),
];

const fn case(name: &'static str, run: fn(&mut Bench<'_>) -> Result<(), String>) -> Case {
    Case { name, needs: Needs::Nothing, run }
}

/// A bit flipped on the way.
fn wrong_crc_is_corrupt(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let spec = BatchSpec { wrong_crc: true, ..BatchSpec::new(-1, -1, -1, &["a"]) };
    expect_produce("flipped", &mut leader, (&topic, 0), &spec.build(), (2, None))?;
    expect("nothing stored", bench.values(&topic, 0, 0)?.len(), 0)
}

/// From version 3 on: exactly one batch.
fn two_batches(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let mut both = BytesMut::from(batch(-1, -1, -1, &["a"]).as_ref());
    both.extend_from_slice(&batch(-1, -1, -1, &["b"]));
    expect_produce("two", &mut leader, (&topic, 0), &both.freeze(), (87, None))?;
    expect_produce("none", &mut leader, (&topic, 0), &Bytes::new(), (87, None))
}

/// The header claims more records than there are.
fn wrong_offset_delta(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let spec = BatchSpec { delta_error: 1, ..BatchSpec::new(-1, -1, -1, &["a"]) };
    expect_produce("claims two", &mut leader, (&topic, 0), &spec.build(), (87, None))
}

/// A clock that runs two hours ahead: `message.timestamp.after.max.ms` is one hour.
fn far_future(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let now = BatchSpec::new(-1, -1, -1, &["a"]);
    let future = now.clone().at(now.timestamp + 7_200_000).build();
    expect_produce("future", &mut leader, (&topic, 0), &future, (32, None))?;
    expect_produce("past", &mut leader, (&topic, 0), &now.at(1).build(), (0, Some(0)))
}

/// The limit is of the batch, header included.
fn too_large(bench: &mut Bench<'_>) -> Result<(), String> {
    let small = batch(-1, -1, -1, &["0123456789"]);
    let limit = small.len().to_string();
    let topic = bench.topic(1, 1, &[("max.message.bytes", &limit)])?;
    let mut leader = bench.leader(&topic, 0)?;
    let larger = batch(-1, -1, -1, &["01234567890"]);
    expect_produce("one byte more", &mut leader, (&topic, 0), &larger, (10, None))?;
    expect_produce("exactly", &mut leader, (&topic, 0), &small, (0, Some(0)))
}

/// By name it is 3, by id 100.
fn unknown_topics(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let bytes = batch(-1, -1, -1, &["a"]);
    expect_produce("by name", &mut leader, ("there-is-no-such-topic", 0), &bytes, (3, None))?;
    expect_produce("no such partition", &mut leader, (&topic, 7), &bytes, (3, None))?;
    let mut request = produce_request("", 0, &bytes, -1, Duration::from_secs(5));
    request.topic_data[0].topic_id = uuid::Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
    let response = leader.call(13, &request).map_err(text)?;
    expect("by id", response.responses[0].partition_responses[0].error_code, 100)
}

/// Compaction goes by key.
fn compacted_topic_wants_keys(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[("cleanup.policy", "compact")])?;
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("without", &mut leader, (&topic, 0), &batch(-1, -1, -1, &["a"]), (87, None))?;
    let mut spec = BatchSpec::new(-1, -1, -1, &["a"]);
    spec.records[0].0 = Some(Bytes::from_static(b"k"));
    expect_produce("with", &mut leader, (&topic, 0), &spec.build(), (0, Some(0)))
}

/// The broker writes its own time into the batch, and the CRC with it.
fn log_append_time(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let mut leader = bench.leader(&topic, 0)?;
    let spec = BatchSpec::new(-1, -1, -1, &["a"]);
    let now = spec.timestamp;
    let response =
        leader.call(9, &produce_request(&topic, 0, &spec.at(1).build(), -1, Duration::from_secs(5))).map_err(text)?;
    let answered = response.responses[0].partition_responses[0].log_append_time_ms;
    expect("answered time is now", (answered - now).abs() < 60_000, true)?;
    let (_, records) = leader.fetch(&topic, 0, 0).map_err(text)?;
    expect("stored time", records.first().map(|record| record.timestamp), Some(answered))
}

/// Reading at the end waits; reading beyond it is an error.
fn offset_out_of_range(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("one", &mut leader, (&topic, 0), &batch(-1, -1, -1, &["a"]), (0, Some(0)))?;
    expect("at the end", leader.fetch(&topic, 0, 1).map_err(text)?, (0, Vec::new()))?;
    expect("beyond", leader.fetch(&topic, 0, 2).map_err(text)?.0, 1)
}

/// KIP-227: a session remembers what is read; its answers name only what is new, and its epochs follow one another.
fn fetch_session(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let full = fetch_request(&topic, 0, 0).with_max_wait_ms(0).with_session_epoch(0);
    let opened = leader.call(11, &full).map_err(text)?;
    let id = opened.session_id;
    expect("an id", (opened.error_code, id > 0, opened.responses.len()), (0, true, 1))?;
    let next =
        |id, epoch| FetchRequest::default().with_session_id(id).with_session_epoch(epoch).with_max_bytes(1 << 20);
    let ask = |leader: &mut RawClient, request: &FetchRequest| {
        let answer = leader.call(11, request).map_err(text)?;
        Ok::<_, String>((answer.error_code, answer.session_id == id, answer.responses.len()))
    };
    expect("nothing new", ask(&mut leader, &next(id, 1))?, (0, true, 0))?;
    expect_produce("one", &mut leader, (&topic, 0), &batch(-1, -1, -1, &["a"]), (0, Some(0)))?;
    expect("a record", ask(&mut leader, &next(id, 2))?, (0, true, 1))?;
    expect("an old epoch", ask(&mut leader, &next(id, 2))?.0, 71)?;
    let forgotten = ForgottenTopic::default().with_topic(name(&topic)).with_partitions(vec![0]);
    let forget = next(id, 3).with_forgotten_topics_data(vec![forgotten]);
    expect("forgotten", ask(&mut leader, &forget)?.2, 0)?;
    expect("no such session", ask(&mut leader, &next(id.wrapping_add(1).max(1), 1))?.0, 70)?;
    let again = leader.call(11, &full.with_session_id(id)).map_err(text)?;
    expect("begun anew", (again.error_code, again.session_id > 0, again.responses.len()), (0, true, 1))?;
    expect("the old one is gone", again.session_id == id || ask(&mut leader, &next(id, 4))?.0 == 70, true)
}

/// KIP-392: who speaks version 11 may read from any replica, others from the leader only.
fn followers_answer_fetches(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 3, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("one", &mut leader, (&topic, 0), &batch(-1, -1, -1, &["a"]), (0, Some(0)))?;
    let leads = bench.leader_id(&topic, 0)?;
    let other = bench.brokers()?.into_iter().find(|id| *id != leads).ok_or("one broker only")?;
    bench.until("the follower to have it", || {
        let (code, records) = bench.broker(other)?.fetch(&topic, 0, 0).map_err(text)?;
        expect("version 11", (code, records.len()), (0, 1))
    })?;
    let request = fetch_request(&topic, 0, 0);
    let response = bench.broker(other)?.call(10, &request).map_err(text)?;
    expect("version 10", response.responses[0].partitions[0].error_code, 6)?;
    expect("beyond its end", bench.broker(other)?.fetch(&topic, 0, 9).map_err(text)?.0, 1)
}

/// Earliest, latest, largest timestamp, first at or after a time, none after the last.
fn offsets_by_time(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let base = BatchSpec::new(-1, -1, -1, &["a"]).timestamp - 1000;
    for (offset, ahead) in [(0, 0), (1, 300), (2, 200)] {
        let bytes = BatchSpec::new(-1, -1, -1, &["a"]).at(base + ahead).build();
        expect_produce("fill", &mut leader, (&topic, 0), &bytes, (0, Some(offset)))?;
    }
    let mut ask = |timestamp: i64| leader.list_offset(&topic, 0, timestamp).map_err(text);
    expect("earliest", ask(-2)?, (0, 0, -1))?;
    expect("latest", ask(-1)?, (0, 3, -1))?;
    expect("largest", ask(-3)?, (0, 1, base + 300))?;
    expect("at", ask(base)?, (0, 0, base))?;
    expect("after", ask(base + 1)?, (0, 1, base + 300))?;
    expect("never", ask(base + 301)?, (0, -1, -1))
}

/// acks is 0, 1 or -1.
fn acks_other_than_three(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let mut leader = bench.leader(&topic, 0)?;
    let (code, _) = leader.produce_batch(&topic, 0, &batch(-1, -1, -1, &["a"]), 2).map_err(text)?;
    expect("acks=2", code, 21)
}

/// A follower refuses and, from version 10 on, says who leads.
fn only_the_leader_appends(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let leads = bench.leader_id(&topic, 0)?;
    let other = bench.brokers()?.into_iter().find(|id| *id != leads).ok_or("one broker only")?;
    let request = produce_request(&topic, 0, &batch(-1, -1, -1, &["a"]), -1, Duration::from_secs(5));
    bench.until("the other broker to know", || {
        let response = bench.broker(other)?.call(10, &request).map_err(text)?;
        let row = &response.responses[0].partition_responses[0];
        expect("code", row.error_code, 6)?;
        expect("leader", row.current_leader.leader_id.0, leads)?;
        expect("endpoint", response.node_endpoints.iter().any(|node| node.node_id.0 == leads), true)
    })
}

/// KIP-511: a version from the future is answered in version 0, with the range that would do.
fn api_versions_range(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut client = bench.any()?;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("raw"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    let response = client.call(3, &request).map_err(text)?;
    expect("error", response.error_code, 0)?;
    for key in [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 22, 61] {
        expect(&format!("key {key}"), response.api_keys.iter().any(|one| one.api_key == key), true)?;
    }
    // Key 18, version 99, correlation id 5, client id "x", no tags: nothing of the body is read.
    let frame = [0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0];
    std::io::Write::write_all(client.stream(), &frame).map_err(text)?;
    let answer = client.read_frame().map_err(text)?;
    expect("correlation id and code", answer.get(..6).map(<[u8]>::to_vec), Some(vec![0, 0, 0, 5, 0, 35]))
}
