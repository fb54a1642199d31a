//! What the answer to a plan comes to.

use std::time::Instant;

use super::{Answer, Chunk, FetchId, Fetches, LONG_WAY, Outcome, Outcomes, Plan, State, extent};
use crate::core::verdict::fetch::{FetchVerdict, partition as verdict};

impl Fetches {
    /// The answer to a plan, of so many bytes, under a session (0: none). What belongs to an assignment or a position of the
    /// past is dropped.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        id: FetchId,
        bytes: usize,
        session: i32,
        answers: Vec<Answer>,
    ) -> Outcomes {
        let idle = self.buffered == 0;
        let Some((plan, source)) = self.take(id) else { return Outcomes::default() };
        source.failures = 0;
        source.session.on_answer(session);
        if bytes >= plan.max_bytes / 2 {
            // Nothing was left to handle when it came: the way is what takes the time. Else smaller answers will do.
            let starved = idle && now.saturating_duration_since(plan.since) >= LONG_WAY;
            source.appetite = if starved { (source.appetite + 1).min(8) } else { source.appetite.saturating_sub(1) };
        }
        let mut list = Vec::with_capacity(answers.len());
        for answer in answers {
            self.on_partition(now, &plan, answer, &mut list);
        }
        for planned in &plan.partitions {
            self.ready_again(planned, id); // those without an answer
        }
        let shared = self.hold(plan.open, bytes, &list);
        Outcomes { list, shared }
    }

    /// Counts what the chunks of an answer hold in memory.
    fn hold(&mut self, open: bool, bytes: usize, outcomes: &[Outcome]) -> Option<usize> {
        let chunks = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Chunk(chunk) => Some(chunk.records.len()),
            _ => None,
        });
        let (count, sum) = chunks.fold((0, 0), |(count, sum), chunk| (count + 1, sum + chunk));
        // One chunk that is most of its answer gains nothing by being copied.
        let share = count > 0 && (open || bytes <= self.kept_share() || (count == 1 && sum >= bytes / 2));
        self.buffered += if share { bytes } else { sum };
        share.then_some(bytes)
    }

    fn on_partition(&mut self, now: Instant, plan: &Plan, answer: Answer, outcomes: &mut Vec<Outcome>) {
        let (backoff, lease) = (self.config.backoff, self.config.replica_lease);
        // Not asked for, or of an assignment or a position of the past.
        let Some(partition) = self.partitions.get_mut(&answer.partition) else { return };
        if partition.state != State::InFlight(plan.id) {
            return;
        }
        let (name, assignment, position) = (answer.partition, partition.assignment, partition.position);
        let follower = partition.place.leader.is_some_and(|(leader, _)| leader != plan.broker);
        let code_verdict = verdict(answer.error);
        if code_verdict == FetchVerdict::Done {
            partition.failures = 0;
        } else {
            partition.failures = partition.failures.saturating_add(1);
        }
        let paused = State::Paused(now + backoff.delay(partition.failures, 200));
        partition.state = State::Ready;
        // A follower may lag behind what was read from another replica: only the leader knows where the log ends, and
        // whether it was cut.
        if follower && (code_verdict != FetchVerdict::Done || answer.diverging.is_some()) {
            partition.replica = None;
            if matches!(code_verdict, FetchVerdict::Done | FetchVerdict::OutOfRange) {
                return;
            }
        }
        match code_verdict {
            FetchVerdict::Done => {}
            FetchVerdict::Refresh => {
                partition.state = paused;
                return outcomes.push(Outcome::Refresh(name, answer.leader));
            }
            FetchVerdict::Retry => return partition.state = paused,
            FetchVerdict::OutOfRange => {
                partition.state = State::Stopped;
                return outcomes.push(Outcome::OutOfRange(name, assignment, position));
            }
            FetchVerdict::Fatal => {
                partition.state = State::Stopped;
                return outcomes.push(Outcome::Refused(name, assignment, answer.error));
            }
        }
        if let Some(preferred) = answer.preferred.filter(|preferred| *preferred != plan.broker && !follower) {
            partition.replica = Some((preferred, now + lease));
        }
        if let Some((epoch, end)) = answer.diverging {
            partition.state = State::Stopped;
            // What the leader has of an older epoch beyond the place where we read on in a newer one was never read.
            let end = if epoch < partition.last_epoch { end.min(partition.epoch_from) } else { end };
            return outcomes.push(Outcome::Diverged { partition: name, assignment, position, end, epoch });
        }
        outcomes.push(Outcome::End(name.clone(), assignment, answer.end));
        if answer.records.is_empty() {
            return;
        }
        match extent::of(&answer.records) {
            Ok(extent) if extent.next > position => {
                partition.position = extent.next;
                if extent.mixed || extent.leader_epoch != partition.last_epoch {
                    partition.epoch_from = extent.epoch_from.max(position);
                }
                partition.last_epoch = extent.leader_epoch;
                partition.chunks += 1;
                self.served += 1;
                partition.served = self.served;
                let records = answer.records.slice(..extent.bytes);
                let chunk = Chunk { partition: name, assignment, from: position, records, aborted: answer.aborted };
                outcomes.push(Outcome::Chunk(chunk));
            }
            Ok(_) if answer.end <= position => {
                // At the end of the log an old batch says that there is nothing new.
                partition.failures = partition.failures.saturating_add(1);
                partition.state = State::Paused(now + backoff.delay(partition.failures, 200));
            }
            Ok(_) => {
                partition.state = State::Stopped;
                outcomes.push(Outcome::Malformed(
                    name,
                    assignment,
                    position,
                    "the batches end below the offset asked for",
                ));
            }
            Err(why) => {
                partition.state = State::Stopped;
                outcomes.push(Outcome::Malformed(name, assignment, position, why));
            }
        }
    }
}
