//! What a new process does with the batches of a partition that it finds in the spool.

use super::{Acknowledged, Stamp, StoredBatch};
use crate::core::produce::sequence::advance;
use crate::core::produce::window::REMEMBERED_BATCHES;
use crate::types::ProducerIdentity;

/// The batches of one partition, in order: first those that a dead process may have sent, then those it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Under whom the first ones may have been sent; none when there are none.
    pub(crate) identity: Option<ProducerIdentity>,
    /// The highest acknowledged sequence of that identity.
    pub(crate) acknowledged: Option<i32>,
    /// The newest timestamp of the batch acknowledged last.
    pub(crate) acknowledged_newest: i64,
    /// The batches up to the last one stamped under that identity, with their stamps; none for one in between that was
    /// never sent under it, because it was halved or asked for again by a person.
    pub(crate) sent: Vec<(StoredBatch, Option<Stamp>)>,
    /// To be sent under the new process's epoch, after the others.
    pub(crate) unsent: Vec<StoredBatch>,
}

/// Plans the batches of one partition. `current` is the spool's producer id; `stamps_in_doubt` says that stamps may have
/// been in a damaged place.
///
/// A batch is stamped anew only after everything of the older identity was resolved. So the newest identity counts, and a
/// batch that still has an older one was proven absent before.
pub(crate) fn plan(
    batches: Vec<StoredBatch>,
    acknowledged: Option<&Acknowledged>,
    current: Option<ProducerIdentity>,
    stamps_in_doubt: bool,
) -> Plan {
    let newness =
        |identity: &ProducerIdentity| (current.is_some_and(|current| current.id == identity.id), identity.epoch);
    let stamps = batches.iter().filter_map(|batch| batch.stamp);
    let stamped = stamps.map(|stamp| stamp.identity).max_by_key(newness);
    let last = acknowledged.map(|acknowledged| acknowledged.identity);
    // Something newer was acknowledged, so whatever is stamped older was absent.
    let newest = [stamped, last].into_iter().flatten().max_by_key(newness);
    let mut batches = batches;
    batches.sort_by_key(|batch| (batch.order, batch.id));
    for batch in &mut batches {
        batch.stamp = batch.stamp.filter(|stamp| Some(stamp.identity) == newest);
    }
    let last_sent = batches.iter().rposition(|batch| batch.stamp.is_some()).map_or(0, |at| at + 1);
    let unsent = batches.split_off(last_sent);
    let sent = batches.into_iter().map(|batch| {
        let stamp = batch.stamp;
        (batch, stamp)
    });
    let mut plan = Plan { sent: sent.collect(), unsent, ..Plan::default() };
    let known = acknowledged.filter(|acknowledged| Some(acknowledged.identity) == newest);
    if stamps_in_doubt && let Some(identity) = newest {
        suppose(&mut plan, identity, known);
    }
    if !plan.sent.is_empty() {
        plan.identity = newest;
        plan.acknowledged = known.map(|acknowledged| acknowledged.last_sequence);
        plan.acknowledged_newest = known.map_or(0, |acknowledged| acknowledged.newest);
    }
    plan
}

/// Stamps follow from what came before, so those that may have been lost can be told: treating a batch as sent that was not
/// costs a question to the broker, the reverse would double it.
fn suppose(plan: &mut Plan, identity: ProducerIdentity, known: Option<&Acknowledged>) {
    let last = plan.sent.last().and_then(|(batch, stamp)| Some((batch, (*stamp)?)));
    let from_sent = last.map(|(batch, stamp)| advance(stamp.base_sequence, batch.count));
    let Some(mut next) = from_sent.or_else(|| known.map(|known| advance(known.last_sequence, 1))) else { return };
    let noted = last.and_then(|(_, stamp)| stamp.noted).or_else(|| known.map(|known| known.noted));
    let room = REMEMBERED_BATCHES.saturating_sub(plan.sent.len()).min(plan.unsent.len());
    for batch in plan.unsent.drain(..room).collect::<Vec<_>>() {
        let stamp = Stamp { identity, base_sequence: next, noted };
        next = advance(next, batch.count);
        plan.sent.push((StoredBatch { stamp: Some(stamp), ..batch }, Some(stamp)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchId, Noted, Order, Status, Target};
    use super::*;
    use crate::types::{TopicId, TopicPartition};

    const OLD: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };
    const NEW: ProducerIdentity = ProducerIdentity { id: 7, epoch: 4 };

    fn batch(n: u64, stamp: Option<(ProducerIdentity, i32)>) -> StoredBatch {
        StoredBatch {
            id: BatchId(n),
            order: Order::nth(n),
            target: Target::Partition(TopicPartition::new("t", 0)),
            topic_id: TopicId::NONE,
            accepted_at: 0,
            count: 2,
            max_timestamp: 0,
            len: 10,
            stamp: stamp.map(|(identity, base_sequence)| Stamp { identity, base_sequence, noted: None }),
            status: Status::Ready,
        }
    }

    fn acknowledged(identity: ProducerIdentity, last_sequence: i32) -> Acknowledged {
        Acknowledged { identity, last_sequence, newest: 5, noted: Noted { offset: 9, leader_epoch: 1 } }
    }

    fn ids(plan: &Plan) -> (Vec<u64>, Vec<u64>) {
        (plan.sent.iter().map(|(batch, _)| batch.id.0).collect(), plan.unsent.iter().map(|batch| batch.id.0).collect())
    }

    #[test]
    fn what_is_stamped_is_in_doubt_and_the_rest_waits() {
        let batches = vec![batch(1, Some((OLD, 0))), batch(2, Some((OLD, 2))), batch(3, None)];
        let plan = plan(batches, None, Some(OLD), false);
        assert_eq!(ids(&plan), (vec![1, 2], vec![3]));
        assert_eq!(plan.identity, Some(OLD));
    }

    #[test]
    fn an_older_stamp_beside_a_newer_one_was_proven_absent() {
        let batches = vec![batch(1, Some((NEW, 0))), batch(2, Some((OLD, 2))), batch(3, None)];
        let plan = plan(batches, Some(&acknowledged(OLD, 1)), Some(NEW), false);
        assert_eq!(ids(&plan), (vec![1], vec![2, 3]));
        assert_eq!((plan.identity, plan.acknowledged), (Some(NEW), None));
        assert_eq!(plan.unsent[0].stamp, None);
    }

    #[test]
    fn what_lies_between_stamped_ones_keeps_its_place() {
        let batches = vec![batch(1, None), batch(2, Some((NEW, 0))), batch(3, None)];
        let plan = plan(batches, None, Some(NEW), false);
        assert_eq!(ids(&plan), (vec![1, 2], vec![3]));
        assert_eq!(plan.sent[0].1, None);
    }

    #[test]
    fn an_older_stamp_than_what_was_acknowledged_was_proven_absent() {
        let plan = plan(vec![batch(2, Some((OLD, 2)))], Some(&acknowledged(NEW, 1)), Some(NEW), false);
        assert_eq!(ids(&plan), (vec![], vec![2]));
        assert_eq!(plan.identity, None);
    }

    #[test]
    fn lost_stamps_are_supposed_to_have_followed_the_last_known() {
        let batches = (1..=7).map(|n| batch(n, (n == 1).then_some((NEW, 4)))).collect();
        let plan = plan(batches, Some(&acknowledged(NEW, 3)), Some(NEW), true);
        assert_eq!(ids(&plan), (vec![1, 2, 3, 4, 5], vec![6, 7]));
        let sequences: Vec<i32> =
            plan.sent.iter().filter_map(|(_, stamp)| Some(stamp.as_ref()?.base_sequence)).collect();
        assert_eq!(sequences, [4, 6, 8, 10, 12]);
        assert_eq!(plan.acknowledged, Some(3));
    }
}
