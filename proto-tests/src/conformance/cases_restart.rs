//! What is left of the memory when brokers die and leaders move.

use super::bench::{Bench, expect, expect_produce, text};
use super::{Case, Needs};
use crate::raw::batch;
use bytes::Bytes;

pub(super) const CASES: &[Case] = &[
    case("restarted_leader_remembers_the_last_batch_only", restarted_leader),
    case("follower_that_takes_over_remembers_five", follower_takes_over),
    case("all_brokers_killed_remember_the_last_batch_only", all_killed),
    case("too_few_replicas_refuse_acks_all_before_appending", too_few_replicas),
];

const fn case(name: &'static str, run: fn(&mut Bench<'_>) -> Result<(), String>) -> Case {
    Case { name, needs: Needs::Kills, run }
}

fn fill(bench: &Bench<'_>, topic: &str, id: i64, count: i32) -> Result<Vec<Bytes>, String> {
    let mut leader = bench.leader(topic, 0)?;
    let mut out = Vec::new();
    for sequence in 0..count {
        let bytes = batch(id, 0, sequence, &[&format!("v{sequence}")]);
        expect_produce("fill", &mut leader, (topic, 0), &bytes, (0, Some(i64::from(sequence))))?;
        out.push(bytes);
    }
    Ok(out)
}

/// The only replica is killed and comes back: of five batches that are all there, four get the code of a gap.
fn restarted_leader(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 1, &[])?;
    let id = bench.producer()?;
    let batches = fill(bench, &topic, id, 5)?;
    let leads = bench.leader_id(&topic, 0)?;
    bench.lab().kill(leads);
    bench.lab().restart(leads);
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("the last", &mut leader, (&topic, 0), &batches[4], (0, Some(4)))?;
    expect_produce("the one before", &mut leader, (&topic, 0), &batches[3], (45, None))?;
    let probe = leader.describe_producers(&topic, 0).map_err(text)?;
    expect("probe", probe.map(|rows| rows.iter().map(|row| row.last_sequence).collect()), Ok(vec![4]))?;
    // New batches fill the window again, beside the remembered one.
    let next = batch(id, 0, 5, &["v5"]);
    expect_produce("next", &mut leader, (&topic, 0), &next, (0, Some(5)))?;
    expect_produce("next again", &mut leader, (&topic, 0), &next, (0, Some(5)))?;
    expect_produce("the last again", &mut leader, (&topic, 0), &batches[4], (0, Some(4)))
}

/// The leader dies; a follower that was up all the time knows all five.
fn follower_takes_over(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 3, &[("min.insync.replicas", "1")])?;
    let id = bench.producer()?;
    let batches = fill(bench, &topic, id, 5)?;
    let old = bench.leader_id(&topic, 0)?;
    bench.lab().kill(old);
    bench.leader_after(&topic, 0, old)?;
    let result = bench.leader(&topic, 0).and_then(|mut leader| {
        (0..).zip(&batches).try_for_each(|(offset, bytes)| {
            expect_produce("duplicate", &mut leader, (&topic, 0), bytes, (0, Some(offset)))
        })
    });
    bench.lab().restart(old);
    result
}

/// A power cut of the whole site.
fn all_killed(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 3, &[("min.insync.replicas", "1")])?;
    let id = bench.producer()?;
    let batches = fill(bench, &topic, id, 3)?;
    let brokers = bench.brokers()?;
    brokers.iter().for_each(|id| bench.lab().kill(*id));
    brokers.iter().for_each(|id| bench.lab().restart(*id));
    let mut leader = bench.leader(&topic, 0)?;
    expect_produce("the last", &mut leader, (&topic, 0), &batches[2], (0, Some(2)))?;
    expect_produce("the first", &mut leader, (&topic, 0), &batches[0], (45, None))
}

/// One of three replicas is gone and three are asked for: acks=all is refused, acks=1 is not, the refused batch is not
/// stored.
fn too_few_replicas(bench: &mut Bench<'_>) -> Result<(), String> {
    let topic = bench.topic(1, 3, &[("min.insync.replicas", "3")])?;
    let id = bench.producer()?;
    let leads = bench.leader_id(&topic, 0)?;
    bench.until("three in sync", || expect("in sync", bench.isr(&topic, 0)?.len(), 3))?;
    let dead = bench.isr(&topic, 0)?.into_iter().find(|id| *id != leads).ok_or("no follower")?;
    bench.lab().kill(dead);
    let result = (|| {
        bench.until("the ISR to shrink", || expect("in sync", bench.isr(&topic, 0)?.contains(&dead), false))?;
        let mut leader = bench.leader(&topic, 0)?;
        // Metadata may know before the leader's partition does, which then appends and answers 7. Another producer
        // finds out when it refuses; what it appended until then lies in front.
        let scout = bench.producer()?;
        let mut stored = 0;
        bench.until("the leader to refuse", || {
            let bytes = batch(scout, 0, stored, &["scout"]);
            let (code, _) = leader.produce_batch(&topic, 0, &bytes, -1).map_err(text)?;
            stored += i32::from(code == 7);
            expect("scout", code, 19)
        })?;
        expect_produce("acks=all", &mut leader, (&topic, 0), &batch(id, 0, 0, &["a"]), (19, None))?;
        let probe = leader.describe_producers(&topic, 0).map_err(text)?;
        expect("stored", probe.map(|rows| rows.iter().any(|row| row.id == id)), Ok(false))?;
        let (code, offset) = leader.produce_batch(&topic, 0, &batch(id, 0, 0, &["a"]), 1).map_err(text)?;
        expect("acks=1", (code, offset), (0, i64::from(stored)))?;
        // KIP-966: below min.insync.replicas the high watermark stands still.
        expect("not readable", leader.fetch(&topic, 0, 0).map_err(text)?, (0, Vec::new()))?;
        Ok::<i64, String>(offset)
    })();
    bench.lab().restart(dead);
    let offset = result?;
    bench.until("the record to be readable", || expect("values", bench.values(&topic, 0, offset)?.len(), 1))
}
