//! A fetch session (KIP-227): the broker remembers what this consumer reads from it, requests name only what changed, and
//! answers only what is new.

use std::collections::BTreeMap;

use super::Planned;
use crate::types::{TopicId, TopicPartition};

/// The session with one broker.
///
/// ```text
///  None ── full request, epoch 0 ──> answer with an id ──> epochs 1, 2, ... (changes only)
///   ^                                     │ id 0: the broker has no room for it
///   └──────── unknown to the broker ──────┘
///  any failure: the next request is full again, and ends what is left of the old session
/// ```
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0 for none.
    id: i32,
    /// Of the next request; 0 begins a session.
    epoch: i32,
    /// What the broker knows.
    known: BTreeMap<TopicPartition, Wanted>,
    /// Whether topics go by name: it cannot change in a session.
    by_name: bool,
}

/// What a request says about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    topic_id: TopicId,
    leader_epoch: i32,
    offset: i64,
    last_fetched_epoch: i32,
    max_bytes: usize,
}

impl Wanted {
    fn of(planned: &Planned) -> Wanted {
        Wanted {
            topic_id: planned.topic_id,
            leader_epoch: planned.leader_epoch,
            offset: planned.offset,
            last_fetched_epoch: planned.last_fetched_epoch,
            max_bytes: planned.max_bytes,
        }
    }
}

/// How a request goes on with its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionStep {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Which of the planned partitions to name, by their places in the plan.
    pub(crate) named: Vec<usize>,
    /// Partitions to take out.
    pub(crate) forgotten: Vec<(TopicPartition, TopicId)>,
}

impl Session {
    /// The step for a request that reads `planned` and nothing else.
    pub(super) fn step(&mut self, planned: &[Planned]) -> SessionStep {
        let by_name = planned.iter().any(|planned| !planned.topic_id.is_some());
        if self.id == 0 || by_name != self.by_name {
            self.restart();
        }
        self.by_name = by_name;
        let epoch = self.epoch;
        if epoch == 0 {
            self.known = planned.iter().map(|planned| (planned.partition.clone(), Wanted::of(planned))).collect();
            return SessionStep { id: self.id, epoch, named: (0..planned.len()).collect(), forgotten: Vec::new() };
        }
        let mut forgotten = Vec::new();
        let mut named = Vec::new();
        let mut stay = 0;
        for (at, planned) in planned.iter().enumerate() {
            let wanted = Wanted::of(planned);
            match self.known.get_mut(&planned.partition) {
                Some(known) => {
                    stay += 1;
                    let old = std::mem::replace(known, wanted);
                    if old.topic_id != wanted.topic_id {
                        forgotten.push((planned.partition.clone(), old.topic_id));
                    }
                    if old != wanted {
                        named.push(at);
                    }
                }
                None => {
                    self.known.insert(planned.partition.clone(), wanted);
                    stay += 1;
                    named.push(at);
                }
            }
        }
        if stay < self.known.len() {
            let reading: std::collections::BTreeSet<&TopicPartition> =
                planned.iter().map(|planned| &planned.partition).collect();
            self.known.retain(|partition, wanted| {
                let stays = reading.contains(partition);
                if !stays {
                    forgotten.push((partition.clone(), wanted.topic_id));
                }
                stays
            });
        }
        SessionStep { id: self.id, epoch, named, forgotten }
    }

    /// The last request was answered under session `id`; 0 when the broker keeps none.
    pub(super) fn on_answer(&mut self, id: i32) {
        if id == 0 || (self.epoch > 0 && id != self.id) {
            return self.forget();
        }
        self.id = id;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// What the broker knows is in doubt: the next request is full, and ends the session if there still is one.
    pub(super) fn restart(&mut self) {
        self.epoch = 0;
        self.known.clear();
    }

    /// The broker has no such session.
    pub(super) fn forget(&mut self) {
        *self = Session::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::consume::watermark::AssignmentEpoch;

    fn planned(partition: i32, offset: i64) -> Planned {
        Planned {
            partition: TopicPartition::new("orders", partition),
            assignment: AssignmentEpoch(1),
            topic_id: TopicId([1; 16]),
            leader_epoch: 5,
            offset,
            last_fetched_epoch: 5,
            max_bytes: 1000,
        }
    }

    fn places(step: &SessionStep) -> (i32, i32, &[usize], Vec<i32>) {
        let forgotten = step.forgotten.iter().map(|(partition, _)| partition.partition).collect();
        (step.id, step.epoch, &step.named, forgotten)
    }

    fn opened() -> Session {
        let mut session = Session::default();
        let step = session.step(&[planned(0, 10), planned(1, 10)]);
        assert_eq!(places(&step), (0, 0, &[0, 1][..], vec![]));
        session.on_answer(77);
        session
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut session = opened();
        assert_eq!(places(&session.step(&[planned(1, 10), planned(0, 15)])), (77, 1, &[1][..], vec![]));
        session.on_answer(77);
        assert_eq!(places(&session.step(&[planned(1, 10), planned(0, 15)])), (77, 2, &[][..], vec![]));
    }

    #[test]
    fn what_is_not_read_any_more_is_forgotten_and_named_when_it_comes_back() {
        let mut session = opened();
        assert_eq!(places(&session.step(&[planned(1, 10), planned(2, 0)])), (77, 1, &[1][..], vec![0]));
        session.on_answer(77);
        assert_eq!(places(&session.step(&[planned(1, 10), planned(2, 0), planned(0, 10)])), (77, 2, &[2][..], vec![]));
    }

    #[test]
    fn a_topic_created_again_goes_out_under_its_old_id_and_in_under_the_new_one() {
        let mut session = opened();
        let again = Planned { topic_id: TopicId([2; 16]), ..planned(0, 10) };
        let step = session.step(&[again, planned(1, 10)]);
        assert_eq!(step.named, [0]);
        assert_eq!(step.forgotten, [(TopicPartition::new("orders", 0), TopicId([1; 16]))]);
    }

    #[test]
    fn without_room_at_the_broker_every_request_is_full() {
        let mut session = Session::default();
        session.step(&[planned(0, 10)]);
        session.on_answer(0);
        assert_eq!(places(&session.step(&[planned(0, 10)])), (0, 0, &[0][..], vec![]));
        let mut session = opened();
        session.step(&[planned(0, 10)]);
        session.on_answer(0);
        assert_eq!(places(&session.step(&[planned(0, 10)])), (0, 0, &[0][..], vec![]), "closed by the broker");
    }

    #[test]
    fn after_a_failure_the_request_is_full_and_ends_the_old_session() {
        let mut session = opened();
        session.step(&[planned(0, 15)]);
        session.restart();
        assert_eq!(places(&session.step(&[planned(0, 15), planned(1, 10)])), (77, 0, &[0, 1][..], vec![]));
        session.on_answer(78);
        assert_eq!(places(&session.step(&[planned(0, 15), planned(1, 10)])), (78, 1, &[][..], vec![]));
    }

    #[test]
    fn a_session_the_broker_does_not_know_is_not_named_again() {
        let mut session = opened();
        session.step(&[planned(0, 15)]);
        session.forget();
        assert_eq!(places(&session.step(&[planned(0, 15)])), (0, 0, &[0][..], vec![]));
    }

    #[test]
    fn topics_by_name_and_by_id_do_not_share_a_session() {
        let mut session = opened();
        let nameless = Planned { topic_id: TopicId::NONE, ..planned(0, 10) };
        assert_eq!(places(&session.step(&[nameless, planned(1, 10)])), (77, 0, &[0, 1][..], vec![]));
    }

    #[test]
    fn epochs_go_round_without_minus_one_and_zero() {
        let mut session = opened();
        session.epoch = i32::MAX;
        session.step(&[planned(0, 15)]);
        session.on_answer(77);
        assert_eq!(session.step(&[planned(0, 15)]).epoch, 1);
    }
}
