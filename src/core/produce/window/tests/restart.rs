//! A spool's window through many lives of its process, against a partition with replicas, elections, expiry and
//! retention. What the disk has is a log that is cut at a random place at each crash.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// After so many model milliseconds brokers forget a producer.
const EXPIRY: i64 = 20_000;

/// So long after the end of its connection a request may be taken up, in model milliseconds.
const LATE: i64 = 1_200;

/// A batch in the partition's log.
#[derive(Clone, Debug)]
struct Stored {
    identity: ProducerIdentity,
    first: i32,
    last: i32,
    offset: i64,
    numbers: std::ops::Range<u64>,
    newest: i64,
}

/// A partition: the leader's log, and how much of it the followers have.
#[derive(Default)]
struct Partition {
    log: Vec<Stored>,
    replicated: usize,
    /// Index of the first batch that the producer state is built from.
    state_from: usize,
    /// Batches recognised as duplicates.
    remembered: usize,
    /// Index of the first batch that retention has left.
    start: usize,
    poison: Vec<u64>,
    /// Acknowledged and cut off by an unclean election.
    lost: BTreeSet<u64>,
    /// The lowest offset that an unclean election cut back to.
    cut_to: Option<i64>,
}

impl Partition {
    fn end(&self) -> i64 {
        self.log.last().map_or(0, |last| last.offset + (last.numbers.end - last.numbers.start) as i64)
    }

    fn offset_at(&self, index: usize) -> i64 {
        self.log.get(index).map_or(self.end(), |stored| stored.offset)
    }

    /// The epoch and its batches that the leader knows of.
    fn state(&self) -> &[Stored] {
        let known = &self.log[self.state_from.min(self.log.len())..];
        let epoch = known.iter().map(|stored| stored.identity.epoch).max();
        let from = known.iter().position(|stored| Some(stored.identity.epoch) == epoch).unwrap_or(0);
        &known[from..]
    }

    fn append(&mut self, sent: &Sent) -> (ErrorCode, i64) {
        let (first, last) = (sent.first, advance(sent.first, sent.batch.count() - 1));
        let numbers = sent.batch.from..sent.batch.from + sent.batch.records;
        if self.poison.iter().any(|poison| numbers.contains(poison)) {
            return (ErrorCode::MESSAGE_TOO_LARGE, -1);
        }
        let state = self.state();
        if let Some(newest) = state.last() {
            if sent.identity.epoch < newest.identity.epoch {
                return (ErrorCode::INVALID_PRODUCER_EPOCH, -1);
            }
            if sent.identity.epoch > newest.identity.epoch {
                if first != 0 {
                    return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
                }
            } else if let Some(again) =
                state.iter().rev().take(self.remembered.max(1)).find(|b| (b.first, b.last) == (first, last))
            {
                return (ErrorCode::NONE, again.offset);
            } else if advance(newest.last, 1) != first {
                return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
            }
        }
        let offset = self.end();
        let identity = sent.identity;
        self.log.push(Stored { identity, first, last, offset, numbers, newest: sent.batch.newest });
        self.remembered = (self.remembered + 1).min(REMEMBERED_BATCHES);
        (ErrorCode::NONE, offset)
    }

    fn probe(&self) -> ProbeAnswer {
        match self.state().last() {
            Some(newest) => ProbeAnswer::Known { epoch: newest.identity.epoch, last_sequence: newest.last },
            None => ProbeAnswer::Empty { log_start: Some(self.offset_at(self.start)) },
        }
    }

    fn scan(&self, from: Option<Noted>, compacted: bool) -> ScanAnswer {
        let noted = from.map_or(0, |noted| noted.offset);
        let from = self.cut_to.map_or(noted, |cut| cut.min(noted));
        let readable = &self.log[self.start.min(self.replicated)..self.replicated];
        let found = readable.iter().filter(|stored| stored.offset >= from);
        let found = found.map(|stored| (stored.identity.epoch, stored.first, stored.offset)).collect();
        if compacted || self.offset_at(self.start) > from {
            ScanAnswer::Compacted { found }
        } else {
            ScanAnswer::Done { found }
        }
    }

    /// A broker that comes back remembers one batch.
    fn restart(&mut self) {
        self.remembered = 1;
    }

    /// A follower leads that has only the first `len` batches.
    fn elect(&mut self, len: usize) {
        if len < self.replicated {
            self.lost.extend(self.log[len..self.replicated].iter().flat_map(|stored| stored.numbers.clone()));
            let cut = self.offset_at(len);
            self.cut_to = Some(self.cut_to.map_or(cut, |before| before.min(cut)));
        }
        self.log.truncate(len);
        self.replicated = len;
        self.state_from = self.state_from.min(len);
        self.start = self.start.min(len);
        self.remembered = REMEMBERED_BATCHES;
    }

    /// The producer was quiet for too long.
    fn forget(&mut self, wall: i64) {
        if self.state().last().is_some_and(|newest| wall - newest.newest > EXPIRY) {
            self.state_from = self.log.len();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Stamped {
    /// How long the spool's log has to be for it to be there.
    at: usize,
    identity: ProducerIdentity,
    first: i32,
    noted: Option<Noted>,
}

/// An entry of the spool's log.
#[derive(Clone, Debug)]
enum Op {
    Batches(Vec<Numbers>),
    Stamp(u64, Stamped),
    Settled(u64),
    Acknowledged(ProducerIdentity, i32, i64),
}

/// The spool: what is beyond `durable` may be gone after a crash.
#[derive(Default)]
struct Disk {
    log: Vec<Op>,
    durable: usize,
    saving: Vec<EntryId>,
    state: Replayed,
}

/// What a log comes to.
#[derive(Default)]
struct Replayed {
    batches: BTreeMap<u64, (Numbers, Option<Stamped>)>,
    acknowledged: Option<(ProducerIdentity, i32, i64)>,
    newest: Option<ProducerIdentity>,
    highest: i16,
}

impl Replayed {
    fn take(&mut self, op: &Op) {
        match op {
            Op::Batches(batches) => {
                for batch in batches {
                    self.batches.insert(batch.from, (batch.clone(), None));
                }
            }
            Op::Stamp(from, stamp) => {
                if let Some((_, stamped)) = self.batches.get_mut(from) {
                    *stamped = Some(*stamp);
                }
                self.newest = Some(stamp.identity);
                self.highest = self.highest.max(stamp.identity.epoch);
            }
            Op::Settled(from) => {
                self.batches.remove(from);
            }
            Op::Acknowledged(identity, last, newest) => {
                let before = self.acknowledged.filter(|(of, ..)| of == identity);
                let last = before.map_or(*last, |(_, before, _)| before.max(*last));
                self.acknowledged = Some((*identity, last, *newest));
            }
        }
    }
}

impl Disk {
    fn push(&mut self, op: Op) {
        self.state.take(&op);
        self.log.push(op);
    }

    fn crash(&mut self, len: usize) {
        self.log.truncate(len);
        self.durable = len;
        self.saving.clear();
        self.state = Replayed::default();
        for op in &self.log {
            self.state.take(op);
        }
    }
}

/// What may happen in a life.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    crashes: bool,
    old_dates: bool,
    retention: bool,
    unclean: bool,
    compacted: bool,
    blind: bool,
}

impl Weather {
    /// Whether the outcome of a batch can be beyond anybody's knowledge.
    fn clouded(self) -> bool {
        self.old_dates || self.retention || self.compacted || self.blind || self.unclean
    }
}

struct World {
    seed: u64,
    weather: Weather,
    random: Random,
    now: Instant,
    wall: i64,
    leader: Leadership,
    partition: Partition,
    disk: Disk,
    window: Window<Numbers>,
    fly: VecDeque<Sent>,
    /// Requests of ended connections that a broker still has in its socket, and until when it may take them up.
    late: VecDeque<(Sent, i64)>,
    noted: Option<Noted>,
    lives: u32,
    delivered: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    out: Vec<Settled<Numbers>>,
}

fn durable() -> WindowConfig {
    WindowConfig { durable: true, producer_id_expiration: Duration::from_millis(EXPIRY as u64), ..config() }
}

fn range(batch: &Numbers) -> std::ops::Range<u64> {
    batch.from..batch.from + batch.records
}

impl World {
    fn new(seed: u64, weather: Weather) -> World {
        World {
            seed,
            weather,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: Instant::now(),
            wall: 1_000_000,
            leader: LEADER,
            partition: Partition { remembered: REMEMBERED_BATCHES, ..Partition::default() },
            disk: Disk::default(),
            window: Window::new(durable()),
            fly: VecDeque::new(),
            late: VecDeque::new(),
            noted: None,
            lives: 1,
            delivered: BTreeSet::new(),
            failed: BTreeSet::new(),
            unknown: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    fn push(&mut self, from: u64) -> u64 {
        let records = 1 + self.random.below(4);
        if self.random.chance(4) {
            let poison = from + self.random.below(records);
            self.partition.poison.push(poison);
        }
        let old = self.weather.old_dates && self.random.chance(30);
        let newest = if old { self.wall - self.random.below(3 * EXPIRY as u64) as i64 } else { self.wall };
        let deadline = self.now + Duration::from_secs(1 << 40);
        let batch = Numbers { from, records, deadline, newest, noted: None };
        self.disk.push(Op::Batches(vec![batch.clone()]));
        self.sync();
        self.window.push(batch);
        records
    }

    fn sync(&mut self) {
        self.disk.durable = self.disk.log.len();
        for id in std::mem::take(&mut self.disk.saving) {
            self.window.on_saved(id);
        }
    }

    fn retry_at(&mut self) -> Instant {
        self.now + Duration::from_millis(self.random.below(30))
    }

    fn act(&mut self, trouble: u64) {
        let retry_at = self.retry_at();
        match self.window.next(self.now, self.wall, self.leader) {
            Next::NewProducerId => self.window.on_identity(ID),
            Next::Probe if self.random.chance(trouble) => self.window.on_probe_failed(retry_at),
            Next::Probe => {
                let answer = if self.weather.blind { ProbeAnswer::Unavailable } else { self.partition.probe() };
                self.window.on_probe(self.leader, answer, &mut self.out);
            }
            // What is not replicated cannot be read.
            Next::Scan(_) if self.random.chance(trouble) || self.partition.replicated < self.partition.log.len() => {
                self.window.on_scan_failed(retry_at)
            }
            Next::Scan(id) => {
                let from = self.window.batch(id).and_then(|(batch, _)| batch.noted);
                let answer = match self.random.below(8) {
                    0 if self.weather.clouded() => ScanAnswer::Unavailable,
                    _ => self.partition.scan(from, self.weather.compacted),
                };
                self.window.on_scan(self.leader, answer, &mut self.out);
            }
            Next::Save(id) => {
                let noted = self.noted;
                self.window.batch_mut(id).unwrap().noted = noted;
                let (batch, first) = self.window.batch(id).unwrap();
                let at = self.disk.log.len() + 1;
                let stamp = Stamped { at, identity: self.window.identity().unwrap(), first, noted };
                self.disk.push(Op::Stamp(batch.from, stamp));
                self.disk.saving.push(id);
            }
            Next::Send(id) => {
                let (batch, first) = self.window.batch(id).map(|(batch, first)| (batch.clone(), first)).unwrap();
                let identity = self.window.identity().unwrap();
                let stamp = self.disk.state.batches[&batch.from].1.expect("sent without a stamp");
                assert!(stamp.at <= self.disk.durable, "seed {}: sent before it was saved", self.seed);
                assert_eq!((stamp.identity, stamp.first), (identity, first), "seed {}: not what is on disk", self.seed);
                self.fly.push_back(Sent { id, identity, first, batch });
                assert!(self.fly.len() <= REMEMBERED_BATCHES);
            }
            Next::Wait(at) if self.fly.is_empty() => {
                let passed = self.random.part_of(at.saturating_duration_since(self.now));
                self.now += passed;
                self.wall += passed.as_millis() as i64;
            }
            Next::Idle | Next::Wait(_) => {}
        }
    }

    /// The broker takes the oldest request, and perhaps answers.
    fn serve(&mut self, trouble: u64) {
        let Some(sent) = self.fly.pop_front() else { return };
        let retry_at = self.retry_at();
        let leader = self.leader;
        if !self.random.chance(trouble) {
            let (code, offset) = self.partition.append(&sent);
            if code == ErrorCode::NONE {
                self.partition.replicated = self.partition.log.len();
            }
            return self.window.on_answer(sent.id, answer(leader, produce(code), offset), retry_at, &mut self.out);
        }
        match self.random.below(6) {
            5 => {
                self.late.push_back((sent.clone(), self.wall + LATE));
                self.window.on_no_answer(sent.id, true, text(), retry_at, &mut self.out);
            }
            0 => self.window.on_no_answer(sent.id, true, text(), retry_at, &mut self.out),
            1 => {
                self.partition.append(&sent);
                self.window.on_no_answer(sent.id, true, text(), retry_at, &mut self.out);
                for sent in std::mem::take(&mut self.fly) {
                    self.window.on_no_answer(sent.id, true, text(), retry_at, &mut self.out);
                }
            }
            2 => {
                let verdict = produce(ErrorCode::NOT_ENOUGH_REPLICAS);
                self.window.on_answer(sent.id, answer(leader, verdict, -1), retry_at, &mut self.out);
            }
            3 => {
                let code = match self.partition.append(&sent).0 {
                    ErrorCode::NONE => ErrorCode::REQUEST_TIMED_OUT,
                    refused => refused,
                };
                self.window.on_answer(sent.id, answer(leader, produce(code), -1), retry_at, &mut self.out);
            }
            _ => self.window.on_no_answer(sent.id, false, text(), retry_at, &mut self.out),
        }
    }

    /// What befalls the brokers.
    fn brokers(&mut self, trouble: u64) {
        self.late.retain(|(_, until)| self.wall <= *until);
        if self.random.chance(10) && !self.late.is_empty() {
            if self.random.chance(80) {
                let (sent, _) = self.late.pop_front().unwrap();
                self.partition.append(&sent);
            } else {
                self.late.clear();
            }
        }
        if self.random.chance(20) {
            self.partition.replicated = self.partition.log.len();
        }
        if self.random.chance(trouble / 10) {
            self.partition.restart();
        }
        if self.random.chance(trouble / 10) {
            self.elect();
        }
        if self.weather.old_dates && self.random.chance(trouble) {
            self.partition.forget(self.wall);
        }
        if self.weather.retention && self.random.chance(trouble / 10) {
            let partition = &mut self.partition;
            let left = (partition.replicated - partition.start) as u64;
            partition.start += self.random.below(left + 1) as usize;
        }
    }

    fn elect(&mut self) {
        self.leader = Leadership { broker: self.leader.broker ^ 1, epoch: self.leader.epoch + 1 };
        let retry_at = self.retry_at();
        for sent in std::mem::take(&mut self.fly) {
            if self.random.chance(50) {
                self.partition.append(&sent);
                self.window.on_no_answer(sent.id, true, text(), retry_at, &mut self.out);
            } else {
                let verdict = produce(ErrorCode::NOT_LEADER_OR_FOLLOWER);
                self.window.on_answer(sent.id, answer(self.leader, verdict, -1), retry_at, &mut self.out);
            }
        }
        self.late.clear();
        let (replicated, len) = (self.partition.replicated, self.partition.log.len());
        let least = if self.weather.unclean && self.random.chance(40) {
            replicated - self.random.below(1 + replicated.min(6) as u64) as usize
        } else {
            replicated
        };
        let len = least + self.random.below((len - least) as u64 + 1) as usize;
        self.partition.elect(len.max(self.partition.start));
        if self.weather.retention && self.random.chance(50) {
            // A replica made anew knows who is in what is left of the log.
            self.partition.state_from = self.partition.state_from.max(self.partition.start);
        }
    }

    fn settle(&mut self) {
        for settled in std::mem::take(&mut self.out) {
            let (list, batch) = match settled {
                Settled::Delivered { batch, base_offset } => {
                    if let Some(offset) = base_offset {
                        let at_offset = self.partition.log.iter().find(|stored| stored.offset == offset);
                        let right = at_offset.map_or(self.partition.lost.contains(&batch.from), |stored| {
                            stored.numbers.start == batch.from
                        });
                        assert!(right, "seed {}: wrong offset", self.seed);
                        let end = offset + batch.records as i64;
                        self.noted = Some(Noted { offset: end, leader_epoch: self.leader.epoch });
                    }
                    if let Some((_, Some(stamp))) = self.disk.state.batches.get(&batch.from).cloned() {
                        let last = advance(stamp.first, batch.count() - 1);
                        self.disk.push(Op::Acknowledged(stamp.identity, last, batch.newest));
                    }
                    (&mut self.delivered, batch)
                }
                Settled::Failed { batch, reason, .. } => {
                    assert_eq!(reason, Reason::RecordRefused, "seed {}", self.seed);
                    (&mut self.failed, batch)
                }
                Settled::Unknown { batch, reason, .. } => {
                    assert!(self.weather.clouded(), "seed {}: unknown ({reason:?}) without a cause", self.seed);
                    assert!(matches!(reason, Reason::CannotTell | Reason::Refused), "seed {}: {reason:?}", self.seed);
                    (&mut self.unknown, batch)
                }
                Settled::AcknowledgedLost { .. } => {
                    assert!(!self.partition.lost.is_empty(), "seed {}: nothing was lost", self.seed);
                    continue;
                }
                Settled::Beyond { .. } => {
                    assert!(self.weather.clouded(), "seed {}: nobody else writes", self.seed);
                    continue;
                }
            };
            list.extend(range(&batch));
            self.disk.push(Op::Settled(batch.from));
        }
        // Halves take the place of the whole.
        let replayed = &self.disk.state;
        let is_new = |batch: &&mut Numbers| {
            replayed.batches.get(&batch.from).is_none_or(|(on_disk, _)| on_disk.records != batch.records)
        };
        let halves: Vec<Numbers> = self.window.batches_mut().filter(is_new).map(|batch| batch.clone()).collect();
        if !halves.is_empty() {
            self.disk.push(Op::Batches(halves));
        }
    }

    fn crash(&mut self) {
        let unsynced = self.disk.log.len() - self.disk.durable;
        let kept = self.disk.durable + self.random.below(unsynced as u64 + 1) as usize;
        self.disk.crash(kept);
        self.late.extend(std::mem::take(&mut self.fly).into_iter().map(|sent| (sent, self.wall + LATE)));
        self.lives += 1;
        let away = if self.weather.old_dates && self.random.chance(30) { 2 * EXPIRY as u64 } else { 500 };
        self.wall += self.random.below(away) as i64;
        for _ in 0..self.random.below(6) {
            self.brokers(100);
        }
        self.out.clear();
        let replayed = &self.disk.state;
        let deadline = self.now + Duration::from_secs(1 << 40);
        let Some(identity) = replayed.newest else {
            self.window = Window::new(durable());
            for (batch, _) in replayed.batches.values().cloned() {
                self.window.push(batch);
            }
            return;
        };
        let of_identity = replayed.acknowledged.filter(|(of, ..)| *of == identity);
        let (mut entries, mut pending) = (Vec::new(), Vec::new());
        for (batch, stamp) in replayed.batches.values().cloned() {
            match stamp.filter(|stamp| stamp.identity == identity) {
                Some(stamp) => {
                    entries.extend(pending.drain(..).map(|batch| (batch, None)));
                    entries.push((Numbers { noted: stamp.noted, deadline, ..batch }, Some(stamp.first)));
                }
                None => pending.push(batch),
            }
        }
        self.window = Window::restore(
            durable(),
            Restored {
                identity,
                acknowledged: of_identity.map(|(_, last, _)| last),
                acknowledged_newest: of_identity.map_or(0, |(.., newest)| newest),
                dead_since: self.wall,
                floor: replayed.highest + 1,
                entries,
                pending,
            },
        );
    }

    fn check(&self, total: u64) {
        let seed = self.seed;
        let log: Vec<u64> = self.partition.log.iter().flat_map(|stored| stored.numbers.clone()).collect();
        assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: doubled or out of order: {log:?}");
        let log: BTreeSet<u64> = log.into_iter().collect();
        for number in 0..total {
            let reported = self.delivered.contains(&number);
            let in_log = log.contains(&number) || self.partition.lost.contains(&number);
            assert!(in_log || !reported, "seed {seed}: {number} was acknowledged and is not there");
            assert!(
                reported || self.failed.contains(&number) || self.unknown.contains(&number),
                "seed {seed}: {number} was never heard of again"
            );
            assert!(!(in_log && self.failed.contains(&number)), "seed {seed}: {number} failed and is there");
        }
    }
}

fn lives(seed: u64, weather: Weather) -> u32 {
    let mut world = World::new(seed, weather);
    let (mut next_number, total) = (0, 60 + world.random.below(120));
    for step in 0.. {
        assert!(step < 200_000, "seed {seed}: no end: {:?}", world.window);
        let trouble = if step > 3_000 { 0 } else { 30 };
        if next_number < total && world.random.chance(40) {
            next_number += world.push(next_number);
        }
        let passed = world.random.below(10);
        world.now += Duration::from_millis(passed);
        world.wall += passed as i64;
        world.window.on_time(world.now, &mut world.out);
        // What became of batches goes to the spool before the stamps that follow from it.
        world.settle();
        world.act(trouble);
        if world.random.chance(30) {
            world.sync();
        }
        world.brokers(trouble);
        if world.random.chance(50) {
            world.serve(trouble);
        }
        world.settle();
        if weather.crashes && trouble > 0 && world.random.chance(2) {
            world.crash();
        }
        if next_number >= total && world.window.is_empty() && world.late.is_empty() {
            break;
        }
    }
    world.check(next_number);
    world.lives
}

fn many(seeds: u64, weather: Weather) {
    let died: u32 = (0..seeds).map(|seed| lives(seed, weather)).sum();
    assert!(!weather.crashes || u64::from(died) > 2 * seeds, "the model crashes often: {died}");
}

const FAIR: Weather =
    Weather { crashes: true, old_dates: false, retention: false, unclean: false, compacted: false, blind: false };

#[test]
fn stamps_on_disk_first_and_no_crash() {
    many(500, Weather { crashes: false, ..FAIR });
}

#[test]
fn each_record_once_through_crashes_of_the_process() {
    many(1_000, FAIR);
}

#[test]
fn each_record_once_where_brokers_forget_producers() {
    many(500, Weather { old_dates: true, ..FAIR });
}

#[test]
fn each_record_once_where_logs_are_trimmed() {
    many(500, Weather { retention: true, ..FAIR });
}

#[test]
fn each_record_once_where_elections_are_unclean() {
    many(500, Weather { unclean: true, ..FAIR });
}

#[test]
fn each_record_once_in_compacted_topics() {
    many(500, Weather { compacted: true, old_dates: true, ..FAIR });
}

#[test]
fn each_record_once_where_nobody_may_ask() {
    many(500, Weather { blind: true, ..FAIR });
}

/// Not together: a log that was cut back by an unclean election and trimmed to where the cut was cannot be told from
/// one that never had the batch.
#[test]
fn each_record_once_where_everything_happens() {
    many(300, Weather { old_dates: true, retention: true, ..FAIR });
    many(300, Weather { old_dates: true, unclean: true, ..FAIR });
}
