//! What a leader that nobody disturbs remembers of idempotent producers.

use super::bench::{Bench, expect, expect_produce, text};
use super::{Case, Needs};
use crate::raw::{BatchSpec, RawClient, batch};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

pub(super) const CASES: &[Case] = &[
    case("duplicate_among_the_last_five_gets_its_offset", duplicate_among_the_last_five),
    case("duplicate_from_another_connection", duplicate_from_another_connection),
    case("duplicate_outside_the_window_is_out_of_order", duplicate_outside_the_window),
    case("gap_is_out_of_order", gap_is_out_of_order),
    case("unknown_producer_begins_anywhere", unknown_producer_begins_anywhere),
    case("first_refused_second_in_flight_is_accepted", first_refused_second_in_flight),
    case("other_content_under_old_sequences_is_thrown_away", other_content),
    case("records_split_otherwise_are_out_of_order", split_otherwise),
    case("next_epoch_begins_at_zero", next_epoch_begins_at_zero),
    case("epochs_of_partitions_are_apart", epochs_of_partitions_are_apart),
    case("sequence_wraps_at_i32_max", sequence_wraps),
    case("probe_shows_the_last_batch", probe_shows_the_last_batch),
    case("delete_records_keeps_the_memory", delete_records_keeps_the_memory),
    case("topic_created_again_remembers_nothing", topic_created_again),
    case("init_producer_id_ignores_the_old_id", init_ignores_the_old_id),
    Case { name: "every_replica_answers_the_probe", needs: Needs::ThreeBrokers, run: every_replica_answers_the_probe },
];

const fn case(name: &'static str, run: fn(&mut Bench<'_>) -> Result<(), String>) -> Case {
    Case { name, needs: Needs::Nothing, run }
}

/// A topic of one partition, a connection to its leader, a fresh producer id.
fn setting(bench: &Bench<'_>, configs: &[(&str, &str)]) -> Result<(String, RawClient, i64), String> {
    let topic = bench.topic(1, 1, configs)?;
    let leader = bench.leader(&topic, 0)?;
    Ok((topic, leader, bench.producer()?))
}

/// Appends batches of one record with sequences 0 to `count` - 1 and answers their bytes.
fn fill(client: &mut RawClient, topic: &str, id: i64, count: i32) -> Result<Vec<bytes::Bytes>, String> {
    let mut out = Vec::new();
    for sequence in 0..count {
        let bytes = batch(id, 0, sequence, &[&format!("v{sequence}")]);
        expect_produce("fill", client, (topic, 0), &bytes, (0, Some(i64::from(sequence))))?;
        out.push(bytes);
    }
    Ok(out)
}

/// An acknowledgement was lost: the same bytes again get the offset they had, and are there once.
fn duplicate_among_the_last_five(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let batches = fill(&mut leader, &topic, id, 7)?;
    for (offset, bytes) in (0..).zip(&batches).skip(2) {
        expect_produce("again", &mut leader, (&topic, 0), bytes, (0, Some(offset)))?;
    }
    expect("values", bench.values(&topic, 0, 0)?.len(), 7)
}

/// The process died; the next one sends the same bytes over its own connection.
fn duplicate_from_another_connection(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let batches = fill(&mut leader, &topic, id, 2)?;
    drop(leader);
    let mut other = bench.leader(&topic, 0)?;
    expect_produce("again", &mut other, (&topic, 0), &batches[0], (0, Some(0)))?;
    expect_produce("again", &mut other, (&topic, 0), &batches[1], (0, Some(1)))
}

/// Six batches later the first is no longer recognised: the same code as for a gap, although it is stored.
fn duplicate_outside_the_window(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let batches = fill(&mut leader, &topic, id, 6)?;
    expect_produce("the oldest", &mut leader, (&topic, 0), &batches[0], (45, None))?;
    expect_produce("the second", &mut leader, (&topic, 0), &batches[1], (0, Some(1)))
}

/// One batch was skipped: everything after it is refused until it comes.
fn gap_is_out_of_order(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    fill(&mut leader, &topic, id, 1)?;
    expect_produce("gap", &mut leader, (&topic, 0), &batch(id, 0, 2, &["c"]), (45, None))?;
    expect_produce("missing one", &mut leader, (&topic, 0), &batch(id, 0, 1, &["b"]), (0, Some(1)))?;
    expect_produce("now in order", &mut leader, (&topic, 0), &batch(id, 0, 2, &["c"]), (0, Some(2)))
}

/// The broker knows nothing of this id: it takes the sequence as a beginning, so a blind re-send is written twice.
fn unknown_producer_begins_anywhere(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    expect_produce("in the middle", &mut leader, (&topic, 0), &batch(id, 0, 17, &["a"]), (0, Some(0)))?;
    expect_produce("goes on", &mut leader, (&topic, 0), &batch(id, 0, 18, &["b"]), (0, Some(1)))?;
    expect_produce("back", &mut leader, (&topic, 0), &batch(id, 0, 16, &["z"]), (45, None))
}

/// Sequence 0 was too large; 1 and 2 were in flight behind it. They are stored, and 0 can never follow.
fn first_refused_second_in_flight(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[("max.message.bytes", "200")])?;
    let large = "x".repeat(500);
    expect_produce("too large", &mut leader, (&topic, 0), &batch(id, 0, 0, &[&large]), (10, None))?;
    expect_produce("behind it", &mut leader, (&topic, 0), &batch(id, 0, 1, &["b"]), (0, Some(0)))?;
    expect_produce("behind that", &mut leader, (&topic, 0), &batch(id, 0, 2, &["c"]), (0, Some(1)))?;
    expect_produce("smaller now", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a"]), (45, None))
}

/// A sequence was reused for other bytes: success is answered and the new content is gone.
fn other_content(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    expect_produce("first", &mut leader, (&topic, 0), &batch(id, 0, 0, &["old"]), (0, Some(0)))?;
    expect_produce("reused", &mut leader, (&topic, 0), &batch(id, 0, 0, &["new"]), (0, Some(0)))?;
    expect("values", bench.values(&topic, 0, 0)?, vec!["old".to_owned()])
}

/// Two records were stored as one batch and come again one by one, or with a third.
fn split_otherwise(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    expect_produce("both", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a", "b"]), (0, Some(0)))?;
    expect_produce("first alone", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a"]), (45, None))?;
    expect_produce("second alone", &mut leader, (&topic, 0), &batch(id, 0, 1, &["b"]), (45, None))?;
    expect_produce("all three", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a", "b", "c"]), (45, None))
}

/// A new epoch begins at sequence 0 and nowhere else; the old epoch is fenced, its duplicates too.
fn next_epoch_begins_at_zero(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let old = fill(&mut leader, &topic, id, 2)?;
    expect_produce("epoch 1 at 2", &mut leader, (&topic, 0), &batch(id, 1, 2, &["x"]), (45, None))?;
    expect_produce("epoch 1 at 0", &mut leader, (&topic, 0), &batch(id, 1, 0, &["c"]), (0, Some(2)))?;
    expect_produce("old duplicate", &mut leader, (&topic, 0), &old[1], (47, None))?;
    expect_produce("old epoch", &mut leader, (&topic, 0), &batch(id, 0, 2, &["d"]), (47, None))?;
    expect_produce("duplicate of epoch 1", &mut leader, (&topic, 0), &batch(id, 1, 0, &["c"]), (0, Some(2)))
}

/// A new epoch on one partition leaves the other alone.
fn epochs_of_partitions_are_apart(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(2, 1, &[])?;
    let id = bench.producer()?;
    for partition in [0, 1] {
        let mut leader = bench.leader(&topic, partition)?;
        expect_produce("epoch 0", &mut leader, (&topic, partition), &batch(id, 0, 0, &["a"]), (0, Some(0)))?;
    }
    let mut first = bench.leader(&topic, 0)?;
    expect_produce("epoch 1", &mut first, (&topic, 0), &batch(id, 1, 0, &["b"]), (0, Some(1)))?;
    let mut second = bench.leader(&topic, 1)?;
    expect_produce("still epoch 0", &mut second, (&topic, 1), &batch(id, 0, 1, &["b"]), (0, Some(1)))
}

/// After `i32::MAX` comes 0, also within a batch.
fn sequence_wraps(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let across = batch(id, 0, i32::MAX - 1, &["a", "b", "c"]);
    expect_produce("across", &mut leader, (&topic, 0), &across, (0, Some(0)))?;
    expect_produce("again", &mut leader, (&topic, 0), &across, (0, Some(0)))?;
    expect_produce("next", &mut leader, (&topic, 0), &batch(id, 0, 1, &["d"]), (0, Some(3)))?;
    let probe = leader.describe_producers(&topic, 0).map_err(text)?;
    expect("probe", probe.map(|rows| rows[0].last_sequence), Ok(1))
}

/// DescribeProducers tells id, epoch, last sequence and last timestamp.
fn probe_shows_the_last_batch(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    expect("before", leader.describe_producers(&topic, 0).map_err(text)?, Ok(Vec::new()))?;
    let spec = BatchSpec::new(id, 0, 0, &["a", "b", "c"]);
    expect_produce("batch", &mut leader, (&topic, 0), &spec.build(), (0, Some(0)))?;
    let probe = leader.describe_producers(&topic, 0).map_err(text)?;
    let rows = probe.map_err(|code| format!("probe: error {code}"))?;
    let seen: Vec<_> = rows.iter().map(|row| (row.id, row.epoch, row.last_sequence, row.last_timestamp)).collect();
    expect("after", seen, vec![(id, 0, 2, spec.timestamp)])?;
    expect("no such partition", leader.describe_producers(&topic, 99).map_err(text)?, Err(3))
}

/// All records are deleted; the sequences are not forgotten.
fn delete_records_keeps_the_memory(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let batches = fill(&mut leader, &topic, id, 3)?;
    expect("delete", leader.delete_records(&topic, 0, -1).map_err(text)?, (0, 3))?;
    expect_produce("duplicate", &mut leader, (&topic, 0), &batches[1], (0, Some(1)))?;
    let probe = leader.describe_producers(&topic, 0).map_err(text)?;
    expect("probe", probe.map(|rows| rows.iter().map(|row| row.last_sequence).collect()), Ok(vec![2]))?;
    expect("offset 0 is gone", leader.fetch(&topic, 0, 0).map_err(text)?.0, 1)
}

/// The topic was deleted and made again under the same name: the re-send is new to it.
fn topic_created_again(bench: &mut Bench<'_>) -> Result<(), String> {
    let (topic, mut leader, id) = setting(bench, &[])?;
    let batches = fill(&mut leader, &topic, id, 3)?;
    expect("delete", leader.delete_topic(&topic).map_err(text)?, 0)?;
    bench.create(&topic, 1, 1, &[])?;
    bench.until("the new topic to be empty", || expect("values", bench.values(&topic, 0, 0)?.len(), 0))?;
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("re-send", &mut leader, (&topic, 0), &batches[2], (0, Some(0)))
}

/// Without a transactional id a known producer id and epoch are not raised: a new id comes.
fn init_ignores_the_old_id(bench: &mut Bench<'_>) -> Result<(), String> {
    let id = bench.producer()?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(0);
    let response = bench.any()?.call(4, &request).map_err(text)?;
    expect("error", response.error_code, 0)?;
    expect("another id", response.producer_id.0 != id, true)?;
    expect("epoch", response.producer_epoch, 0)
}

/// KIP-664: DescribeProducers may be sent to any replica, not only to the leader.
fn every_replica_answers_the_probe(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 3, &[])?;
    let id = bench.producer()?;
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("batch", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a"]), (0, Some(0)))?;
    for broker in bench.isr(&topic, 0)? {
        bench.until("the replica's answer", || {
            let probe = bench.broker(broker)?.describe_producers(&topic, 0).map_err(text)?;
            let seen = probe.map(|rows| rows.iter().map(|row| (row.id, row.last_sequence)).collect());
            expect(&format!("broker {broker}"), seen, Ok(vec![(id, 0)]))
        })?;
    }
    Ok(())
}
