//! The window against a model of a broker that follows the measured rules, with seeded faults.

use super::*;
use crate::core::spool::Noted;
use crate::core::verdict::produce::{ProduceVerdict, produce};
use crate::wire::ErrorCode;
use std::sync::Arc;

mod restart;
mod restored;

const LEADER: Leadership = Leadership { broker: 1, epoch: 3 };
const ID: ProducerIdentity = ProducerIdentity { id: 9, epoch: 0 };

/// `records` numbered from `from`; a number in `poison` makes every batch with it too large.
#[derive(Clone, Debug, PartialEq)]
struct Numbers {
    from: u64,
    records: u64,
    deadline: Instant,
    newest: i64,
    noted: Option<Noted>,
}

impl Stampable for Numbers {
    fn count(&self) -> i32 {
        self.records as i32
    }
    fn newest_timestamp(&self) -> i64 {
        self.newest
    }
    fn deadline(&self) -> Instant {
        self.deadline
    }
    fn split(self) -> Result<[Self; 2], Self> {
        if self.records == 1 {
            return Err(self);
        }
        let half = self.records / 2;
        let second = Numbers { from: self.from + half, records: self.records - half, ..self.clone() };
        Ok([Numbers { records: half, ..self }, second])
    }
    fn noted(&self) -> Option<Noted> {
        self.noted
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    /// Some of the time until an event, so that others may come before it.
    fn part_of(&mut self, wait: Duration) -> Duration {
        Duration::from_millis(self.below(wait.as_millis() as u64 + 1))
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// First and last sequence, base offset.
type Remembered = (i32, i32, i64);

/// A partition leader: what broker-facts measured, without replication.
#[derive(Default)]
struct Broker {
    log: Vec<u64>,
    /// Epoch, and the last five batches.
    known: Option<(i16, VecDeque<Remembered>)>,
    poison: Vec<u64>,
    batches: Vec<FoundBatch>,
}

#[derive(Clone, Debug)]
struct Sent {
    id: EntryId,
    identity: ProducerIdentity,
    first: i32,
    batch: Numbers,
}

impl Broker {
    fn append(&mut self, sent: &Sent) -> (ErrorCode, i64) {
        let (first, last) = (sent.first, advance(sent.first, sent.batch.count() - 1));
        let numbers = sent.batch.from..sent.batch.from + sent.batch.records;
        if self.poison.iter().any(|poison| numbers.contains(poison)) {
            return (ErrorCode::MESSAGE_TOO_LARGE, -1);
        }
        if let Some((epoch, batches)) = &mut self.known {
            if sent.identity.epoch < *epoch {
                return (ErrorCode::INVALID_PRODUCER_EPOCH, -1);
            }
            if sent.identity.epoch > *epoch {
                if first != 0 {
                    return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
                }
                (*epoch, *batches) = (sent.identity.epoch, VecDeque::new());
            } else if let Some(duplicate) = batches.iter().find(|b| (b.0, b.1) == (first, last)) {
                return (ErrorCode::NONE, duplicate.2);
            } else if batches.back().is_some_and(|newest| advance(newest.1, 1) != first) {
                return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
            }
        }
        let (_, batches) = self.known.get_or_insert((sent.identity.epoch, VecDeque::new()));
        let offset = self.log.len() as i64;
        batches.push_back((first, last, offset));
        if batches.len() > REMEMBERED_BATCHES {
            batches.pop_front();
        }
        self.log.extend(numbers);
        self.batches.push((sent.identity.epoch, first, offset));
        (ErrorCode::NONE, offset)
    }

    fn restart(&mut self) {
        if let Some((_, batches)) = &mut self.known {
            while batches.len() > 1 {
                batches.pop_front();
            }
        }
    }

    fn probe(&self) -> ProbeAnswer {
        match &self.known {
            Some((epoch, batches)) if !batches.is_empty() => {
                ProbeAnswer::Known { epoch: *epoch, last_sequence: batches[batches.len() - 1].1 }
            }
            _ => ProbeAnswer::Empty { log_start: Some(0) },
        }
    }
}

fn config() -> WindowConfig {
    WindowConfig {
        idempotent: true,
        max_in_flight: 5,
        retries: u32::MAX,
        producer_id_expiration: Duration::from_secs(86_400),
        request_timeout: Duration::from_millis(200),
        durable: false,
    }
}

fn numbers(from: u64, records: u64, deadline: Instant) -> Numbers {
    Numbers { from, records, deadline, newest: 0, noted: None }
}

fn text() -> Setback {
    Arc::from("planted")
}

fn answer(leader: Leadership, verdict: ProduceVerdict, offset: i64) -> Answer {
    Answer { leader, verdict, base_offset: Some(offset).filter(|offset| *offset >= 0), setback: text() }
}

fn send(window: &mut Window<Numbers>, now: Instant, leader: Leadership) -> Option<Sent> {
    match window.next(now, 0, leader) {
        Next::Send(id) => {
            let identity = window.identity().unwrap();
            let (batch, first) = window.batch(id).unwrap();
            Some(Sent { id, identity, first, batch: batch.clone() })
        }
        _ => None,
    }
}

/// One seeded life of a partition: lost requests, lost answers, refusals, restarts, leader changes, oversized records,
/// deadlines. Delivered once and in order, failed never in the log, and the broker's log holds nothing else.
fn life(seed: u64, deadlines: bool, probe: bool) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let start = Instant::now();
    let mut now = start;
    let mut leader = LEADER;
    let mut broker = Broker::default();
    let mut window = Window::new(config());
    let (mut next_number, total) = (0u64, 60 + random.below(120));
    let mut fly: VecDeque<Sent> = VecDeque::new();
    let (mut delivered, mut failed, mut unknown) = (vec![], vec![], vec![]);
    let mut out = vec![];
    let mut trouble = 30;
    for step in 0.. {
        assert!(step < 200_000, "seed {seed}: no end: {window:?}");
        if step > 3_000 {
            trouble = 0;
        }
        if next_number < total && random.chance(40) {
            let records = 1 + random.below(4);
            let deadline = now + Duration::from_millis(if deadlines { 20 + random.below(400) } else { 1 << 40 });
            if random.chance(4) {
                broker.poison.push(next_number + random.below(records));
            }
            window.push(numbers(next_number, records, deadline));
            next_number += records;
        }
        now += Duration::from_millis(random.below(10));
        let retry_at = now + Duration::from_millis(random.below(30));
        window.on_time(now, &mut out);
        match window.next(now, now.duration_since(start).as_millis() as i64, leader) {
            Next::NewProducerId => window.on_identity(ID),
            Next::Probe if random.chance(trouble) => window.on_probe_failed(retry_at),
            Next::Probe if !probe => window.on_probe(leader, ProbeAnswer::Unavailable, &mut out),
            Next::Probe => window.on_probe(leader, broker.probe(), &mut out),
            Next::Send(id) => {
                let (batch, first) = window.batch(id).map(|(batch, first)| (batch.clone(), first)).unwrap();
                fly.push_back(Sent { id, identity: window.identity().unwrap(), first, batch });
                assert!(fly.len() <= REMEMBERED_BATCHES);
            }
            Next::Scan(_) if random.chance(trouble) => window.on_scan_failed(retry_at),
            Next::Scan(_) => {
                assert!(deadlines, "seed {seed}: only what was given up can leave nobody to confirm");
                window.on_scan(leader, ScanAnswer::Done { found: broker.batches.clone() }, &mut out);
            }
            Next::Save(_) => panic!("seed {seed}: nothing is saved"),
            Next::Wait(at) if fly.is_empty() => now += random.part_of(at.saturating_duration_since(now)),
            Next::Idle | Next::Wait(_) => {}
        }
        if random.chance(trouble / 10) {
            broker.restart();
        }
        if random.chance(trouble / 10) {
            // The leader moves; what is on its way to the old one is refused or was applied without an answer.
            leader = Leadership { broker: leader.broker ^ 1, epoch: leader.epoch + 1 };
            for sent in std::mem::take(&mut fly) {
                if random.chance(50) {
                    broker.append(&sent);
                    window.on_no_answer(sent.id, true, text(), retry_at, &mut out);
                } else {
                    let verdict = produce(ErrorCode::NOT_LEADER_OR_FOLLOWER);
                    window.on_answer(sent.id, answer(leader, verdict, -1), retry_at, &mut out);
                }
            }
        }
        if let Some(sent) = fly.front().cloned().filter(|_| random.chance(50)) {
            fly.pop_front();
            if random.chance(trouble) {
                match random.below(5) {
                    0 => window.on_no_answer(sent.id, true, text(), retry_at, &mut out),
                    1 => {
                        broker.append(&sent);
                        window.on_no_answer(sent.id, true, text(), retry_at, &mut out);
                        // A broken connection takes the ones behind with it.
                        for sent in std::mem::take(&mut fly) {
                            window.on_no_answer(sent.id, true, text(), retry_at, &mut out);
                        }
                    }
                    2 => {
                        let verdict = produce(ErrorCode::NOT_ENOUGH_REPLICAS);
                        window.on_answer(sent.id, answer(leader, verdict, -1), retry_at, &mut out);
                    }
                    3 => {
                        let code = match broker.append(&sent).0 {
                            ErrorCode::NONE => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                            refused => refused,
                        };
                        window.on_answer(sent.id, answer(leader, produce(code), -1), retry_at, &mut out);
                    }
                    _ => window.on_no_answer(sent.id, false, text(), retry_at, &mut out),
                }
            } else {
                let (code, offset) = broker.append(&sent);
                window.on_answer(sent.id, answer(leader, produce(code), offset), retry_at, &mut out);
            }
        }
        for settled in out.drain(..) {
            let (list, batch): (&mut Vec<u64>, Numbers) = match settled {
                Settled::Delivered { batch, base_offset } => {
                    if let Some(offset) = base_offset {
                        assert_eq!(broker.log[offset as usize], batch.from, "seed {seed}: wrong offset");
                    }
                    (&mut delivered, batch)
                }
                Settled::Failed { batch, reason, .. } => {
                    assert!(deadlines || reason == Reason::RecordRefused, "seed {seed}: {reason:?}");
                    (&mut failed, batch)
                }
                Settled::Unknown { batch, .. } => {
                    assert!(deadlines || !probe, "seed {seed}: unknown although the leader could be asked");
                    (&mut unknown, batch)
                }
                Settled::AcknowledgedLost { .. } | Settled::Beyond { .. } => panic!("seed {seed}: nothing was lost"),
            };
            list.extend(batch.from..batch.from + batch.records);
        }
        if next_number >= total && window.is_empty() {
            break;
        }
    }
    let log = &broker.log;
    assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: doubled or out of order: {log:?}");
    for number in &delivered {
        assert!(log.binary_search(number).is_ok(), "seed {seed}: {number} was acknowledged and is not there");
    }
    for number in &failed {
        assert!(log.binary_search(number).is_err(), "seed {seed}: {number} was reported as failed and is there");
    }
    assert_eq!(delivered.len() + failed.len() + unknown.len(), next_number as usize, "seed {seed}: one answer each");
}

#[test]
fn every_life_of_a_partition_ends_with_each_record_once_and_in_order() {
    for seed in 0..3_000 {
        life(seed, false, true);
    }
}

#[test]
fn deadlines_leave_no_gap_and_no_lie() {
    for seed in 0..3_000 {
        life(seed, true, true);
    }
}

#[test]
fn without_a_probe_nothing_is_claimed_that_is_not_known() {
    for seed in 0..3_000 {
        life(seed, true, false);
    }
}

/// A fresh producer id: sequence 0 is refused while 1 and 2 are in flight. The broker would accept 1 and 2 as the
/// first it ever saw, and 0 never again. So one goes alone until one is acknowledged.
#[test]
fn first_batch_refused_second_in_flight() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(config());
    window.on_identity(ID);
    for i in 0..7 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let first = send(&mut window, now, LEADER).unwrap();
    assert!(send(&mut window, now, LEADER).is_none());
    let refused = produce(ErrorCode::NOT_ENOUGH_REPLICAS);
    window.on_answer(first.id, answer(LEADER, refused, -1), now, &mut out);
    let again = send(&mut window, now, LEADER).unwrap();
    assert_eq!((again.first, again.batch.from), (0, 0), "the same bytes");
    window.on_answer(again.id, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
    let burst: Vec<_> = std::iter::from_fn(|| send(&mut window, now, LEADER)).collect();
    assert_eq!(burst.iter().map(|sent| sent.first).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let moved = Leadership { broker: 2, epoch: 4 };
    assert_eq!(window.next(now, 0, moved), Next::Idle, "another leader has acknowledged nothing yet");
}

/// Three batches are on leader A only, unacknowledged. B is elected without them: its state is empty. The newest alone
/// would be taken as new, and the older two refused for ever.
#[test]
fn unreplicated_batches_lost_by_clean_election() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(config());
    window.on_identity(ID);
    for i in 0..4 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let warm_up = send(&mut window, now, LEADER).unwrap();
    window.on_answer(warm_up.id, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
    let lost: Vec<_> = std::iter::from_fn(|| send(&mut window, now, LEADER)).collect();
    assert_eq!(lost.len(), 3);
    for sent in &lost {
        window.on_no_answer(sent.id, true, text(), now, &mut out);
    }
    let (b, mut broker) = (Leadership { broker: 2, epoch: 4 }, Broker { log: vec![0], ..Broker::default() });
    while let Some(sent) = send(&mut window, now, b) {
        assert!(broker.log.len() >= 4 || window.in_flight() == 1, "one at a time, oldest first");
        let (code, offset) = broker.append(&sent);
        window.on_answer(sent.id, answer(b, produce(code), offset), now, &mut out);
    }
    assert_eq!(broker.log, [0, 1, 2, 3]);
    assert!(window.is_empty());
}

/// The leader restarted and remembers one batch. The older duplicates get error 45 although they are stored; they count
/// as delivered only once the newest is confirmed under the same leadership.
#[test]
fn resend_after_restart_is_confirmed_by_the_newest() {
    let (now, mut out) = (Instant::now(), vec![]);
    let (mut window, mut broker) = (Window::new(config()), Broker::default());
    window.on_identity(ID);
    for i in 0..4 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let warm_up = send(&mut window, now, LEADER).unwrap();
    broker.append(&warm_up);
    window.on_answer(warm_up.id, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
    out.clear();
    for sent in std::iter::from_fn(|| send(&mut window, now, LEADER)).collect::<Vec<_>>() {
        broker.append(&sent);
        window.on_no_answer(sent.id, true, text(), now, &mut out);
    }
    broker.restart();
    for _ in 0..2 {
        let sent = send(&mut window, now, LEADER).unwrap();
        let (code, _) = broker.append(&sent);
        assert_eq!(code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        window.on_answer(sent.id, answer(LEADER, produce(code), -1), now, &mut out);
        assert_eq!(window.next(now, 0, LEADER), Next::Probe);
        window.on_probe(LEADER, broker.probe(), &mut out);
        assert!(out.is_empty(), "stored, but not yet proven to be replicated");
    }
    let newest = send(&mut window, now, LEADER).unwrap();
    let (code, offset) = broker.append(&newest);
    window.on_answer(newest.id, answer(LEADER, produce(code), offset), now, &mut out);
    assert_eq!(out.len(), 3);
    assert!(out.iter().all(|settled| matches!(settled, Settled::Delivered { .. })));
    assert_eq!(broker.log, [0, 1, 2, 3]);
}

/// Records with event times of last week: the broker may forget the producer between two batches, so they go alone, and
/// one in doubt is asked for first. An empty answer proves nothing then.
#[test]
fn old_timestamps_go_alone_and_are_asked_for() {
    let (now, mut out) = (Instant::now(), vec![]);
    let wall = 7 * 86_400_000;
    let mut window = Window::new(config());
    window.on_identity(ID);
    for i in 0..3 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let Next::Send(first) = window.next(now, wall, LEADER) else { panic!("nothing to send") };
    window.on_answer(first, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
    out.clear();
    let Next::Send(second) = window.next(now, wall, LEADER) else { panic!("nothing to send") };
    assert_eq!(window.next(now, wall, LEADER), Next::Idle, "alone, although the window is warm");
    window.on_no_answer(second, true, text(), now, &mut out);
    let late = Duration::from_millis(1200);
    assert_eq!(window.next(now, wall, LEADER), Next::Wait(now + late), "the broker may still take it up");
    let wall = wall + 1200;
    assert_eq!(window.next(now, wall, LEADER), Next::Probe);
    window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(0) }, &mut out);
    assert_eq!(window.next(now, wall, LEADER), Next::Scan(second));
    window.on_scan(LEADER, ScanAnswer::Unavailable, &mut out);
    assert!(matches!(out[..], [Settled::Unknown { reason: Reason::CannotTell, .. }]), "{out:?}");
    let Next::Send(third) = window.next(now, wall, LEADER) else { panic!("nothing to send") };
    assert_eq!(window.identity().unwrap().epoch, 1, "the given-up batch closed its epoch");
    assert_eq!(window.batch(third).unwrap().1, 0);
}

/// A batch of a minute is young to brokers that remember for a day, and not to those that forget while a request of it can
/// be under way.
#[test]
fn a_batch_is_old_when_a_request_of_it_may_outlive_the_memory_of_it() {
    let (now, mut out) = (Instant::now(), vec![]);
    for (expiration, expected) in [(86_400, true), (200, true), (121, true), (120, false), (30, false)] {
        let config = WindowConfig { request_timeout: Duration::from_secs(30), ..config() };
        let mut window = Window::new(config);
        window.on_identity(ID);
        window.set_producer_id_expiration(Duration::from_secs(expiration));
        window.push(Numbers { newest: 1_000_000, ..numbers(0, 1, now + Duration::from_secs(600)) });
        let Next::Send(id) = window.next(now, 1_000_000, LEADER) else { panic!("nothing to send") };
        window.set_wall(1_060_000);
        window.on_no_answer(id, true, text(), now, &mut out);
        assert_eq!(window.next(now, 1_060_000, LEADER) == Next::Send(id), expected, "{expiration} s");
    }
}

/// How long brokers remember may become known only after the leader was asked. What it said then was too early.
#[test]
fn an_answer_counts_only_when_nothing_could_be_late() {
    let (now, mut out) = (Instant::now(), vec![]);
    let batch = numbers(0, 1, now + Duration::from_secs(600));
    let restored = Restored {
        identity: ID,
        acknowledged: None,
        acknowledged_newest: 0,
        dead_since: 10_000,
        floor: 1,
        entries: vec![(batch, Some(0))],
        pending: vec![],
    };
    let mut window = Window::restore(WindowConfig { durable: true, ..config() }, restored);
    assert_eq!(window.next(now, 10_000, LEADER), Next::Probe);
    window.set_producer_id_expiration(Duration::from_secs(8));
    window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(0) }, &mut out);
    assert_eq!(window.next(now, 10_200, LEADER), Next::Wait(now + Duration::from_secs(1)));
    assert_eq!(window.next(now, 11_200, LEADER), Next::Probe);
    window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(0) }, &mut out);
    assert!(matches!(window.next(now, 11_200, LEADER), Next::Scan(_)));
    window.on_scan(LEADER, ScanAnswer::Done { found: vec![] }, &mut out);
    assert!(matches!(window.next(now, 11_200, LEADER), Next::Send(_)));
    assert!(out.is_empty());
}

/// A clock that is set back does not make anybody wait for longer than a request can be late.
#[test]
fn a_clock_that_is_set_back_ends_the_wait_no_later() {
    let (now, mut out) = (Instant::now(), vec![]);
    let wall = 7 * 86_400_000;
    let mut window = Window::new(config());
    window.on_identity(ID);
    window.push(numbers(0, 1, now + Duration::from_secs(600)));
    let Next::Send(id) = window.next(now, wall, LEADER) else { panic!("nothing to send") };
    window.on_no_answer(id, true, text(), now, &mut out);
    let wait = Next::Wait(now + Duration::from_millis(1200));
    assert_eq!(window.next(now, wall - 86_400_000, LEADER), wait);
    assert_eq!(window.next(now, wall - 86_400_000 + 1200, LEADER), Next::Probe);
}

/// A producer that was quiet for a day is a stranger to the broker: two batches at once could be accepted in the wrong
/// order, like those of a fresh one.
#[test]
fn after_a_long_silence_one_goes_alone() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(config());
    window.on_identity(ID);
    for day in [0, 0, 0, 2, 2, 2] {
        window.push(Numbers { newest: day * 86_400_000, ..numbers(0, 1, now + Duration::from_secs(60)) });
    }
    let in_flight = |window: &mut Window<Numbers>, wall: i64| -> Vec<EntryId> {
        std::iter::from_fn(|| match window.next(now, wall, LEADER) {
            Next::Send(id) => Some(id),
            _ => None,
        })
        .take(2)
        .collect()
    };
    for (wall, expected) in [(0, 1), (0, 2), (2 * 86_400_000, 1), (2 * 86_400_000, 2)] {
        let sent = in_flight(&mut window, wall);
        assert_eq!(sent.len(), expected);
        for id in sent {
            window.on_answer(id, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
        }
    }
}

/// At the last epoch a new producer id is asked for instead of one epoch more.
#[test]
fn epoch_at_i16_max() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(config());
    window.on_identity(ProducerIdentity { id: 9, epoch: i16::MAX });
    window.push(numbers(0, 1, now + Duration::from_secs(60)));
    window.push(numbers(1, 1, now + Duration::from_secs(60)));
    let sent = send(&mut window, now, LEADER).unwrap();
    window.on_answer(sent.id, answer(LEADER, ProduceVerdict::Dead, -1), now, &mut out);
    assert_eq!(window.next(now, 0, LEADER), Next::NewProducerId);
    window.on_identity(ProducerIdentity { id: 10, epoch: 0 });
    assert_eq!(send(&mut window, now, LEADER).unwrap().first, 0);
}
