//! One partition: its log, its replicas, its leader, and what an election does to them.
//!
//! There is one log, the leader's. Followers hold its prefix up to `replicated`, which is the log end unless replication
//! is held back; an election to a follower cuts the log there.

use super::batch::{self, BatchHeader};
use super::code;
use super::log::{Log, StoredBatch};
use super::producers::{Check, Horizon, Producers};
use std::collections::BTreeMap;

/// What a produce request got from the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// The high watermark must reach this before acks=all is answered.
    pub(crate) required: i64,
    /// Milliseconds, or -1 with CreateTime.
    pub(crate) log_append_time: i64,
}

/// How a batch is to be appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendRules {
    pub(crate) log_append_time: bool,
    pub(crate) now_ms: i64,
}

/// When acks=all is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replication {
    pub(crate) min_insync: usize,
    /// As brokers before KIP-966: the high watermark moves although too few replicas are in sync.
    pub(crate) moves_below_min_insync: bool,
}

#[derive(Debug)]
pub(crate) struct Partition {
    /// Brokers that hold a copy; the first is preferred as leader.
    pub(crate) replicas: Vec<i32>,
    /// Replicas that count for acks=all. Never empty.
    pub(crate) isr: Vec<i32>,
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) log: Log,
    pub(crate) producers: Producers,
    /// Offset below which records are readable and acks=all is answered.
    pub(crate) high_watermark: i64,
    pub(crate) hold_replication: bool,
    /// Batches cut off by elections, oldest first.
    pub(crate) lost: Vec<StoredBatch>,
    /// Batches removed by DeleteRecords, oldest first.
    pub(crate) trimmed: Vec<StoredBatch>,
    /// Followers hold the log up to here.
    replicated: i64,
    replication: Replication,
    horizons: BTreeMap<i32, Horizon>,
}

impl Partition {
    pub(crate) fn new(replicas: Vec<i32>, live: &[i32], replication: Replication) -> Self {
        let isr: Vec<i32> = replicas.iter().copied().filter(|id| live.contains(id)).collect();
        Self {
            leader: isr.first().copied(),
            isr,
            replicas,
            leader_epoch: 0,
            log: Log::default(),
            producers: Producers::default(),
            high_watermark: 0,
            hold_replication: false,
            lost: Vec::new(),
            trimmed: Vec::new(),
            replicated: 0,
            replication,
            horizons: BTreeMap::new(),
        }
    }

    /// How far a follower's copy reaches.
    pub(crate) fn replicated(&self) -> i64 {
        self.replicated
    }

    /// The least in-sync replicas for acks=all; never more than there are replicas.
    pub(crate) fn min_insync(&self) -> usize {
        self.replication.min_insync.min(self.replicas.len())
    }

    /// Appends a valid batch on the leader, or recognises it.
    pub(crate) fn append(&mut self, bytes: &[u8], header: &BatchHeader, rules: AppendRules) -> Result<Appended, i16> {
        let leader = self.leader.ok_or(code::NOT_LEADER_OR_FOLLOWER)?;
        let append_time = if rules.log_append_time { rules.now_ms } else { -1 };
        let idempotent = header.producer_id >= 0;
        if idempotent {
            match self.producers.check(header, &self.horizon(leader)) {
                Check::New => {}
                Check::Refused(code) => return Err(code),
                Check::Duplicate { base_offset, last_offset } => {
                    let required = last_offset + 1;
                    return Ok(Appended { base_offset, required, log_append_time: append_time });
                }
            }
        }
        let base_offset = self.log.end;
        let mut stored = bytes.to_vec();
        batch::place(&mut stored, base_offset, self.leader_epoch);
        if rules.log_append_time {
            batch::stamp_log_append_time(&mut stored, rules.now_ms);
        }
        let max_timestamp = if rules.log_append_time { rules.now_ms } else { header.max_timestamp };
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        self.log.append(StoredBatch {
            bytes: stored.into(),
            base_offset,
            last_offset,
            max_timestamp,
            leader_epoch: self.leader_epoch,
        });
        self.replicate();
        if idempotent {
            self.producers.record(header, base_offset, max_timestamp, self.replicated);
        }
        Ok(Appended { base_offset, required: last_offset + 1, log_append_time: append_time })
    }

    /// Lets the followers catch up, unless they are held back, and moves the high watermark.
    pub(crate) fn replicate(&mut self) {
        if !self.hold_replication || self.isr.len() <= 1 {
            self.replicated = self.log.end;
        }
        // KIP-966: below min.insync.replicas the high watermark stands still.
        if self.replication.moves_below_min_insync || self.isr.len() >= self.min_insync() {
            self.high_watermark = self.high_watermark.max(self.replicated);
        }
    }

    /// What `broker` can see of the producers' batches.
    pub(crate) fn horizon(&self, broker: i32) -> Horizon {
        let log_end = if self.leader == Some(broker) { self.log.end } else { self.replicated };
        Horizon { log_end, ..self.horizons.get(&broker).copied().unwrap_or_default() }
    }

    /// The broker stopped: it leaves the ISR, and another member of the ISR leads if it led.
    pub(crate) fn broker_stopped(&mut self, broker: i32) {
        if !self.replicas.contains(&broker) {
            return;
        }
        let was_leader = self.leader == Some(broker);
        let successor = self.isr.iter().copied().find(|id| *id != broker);
        let own_end = if was_leader && successor.is_none() { self.log.end } else { self.replicated };
        self.horizons.entry(broker).or_default().restarted_at = own_end;
        if was_leader {
            match successor {
                Some(next) => self.elect(next),
                None => {
                    self.leader = None;
                    self.leader_epoch += 1;
                }
            }
        }
        // The last member stays in the ISR: only it may lead without loss.
        if self.isr.len() > 1 {
            self.isr.retain(|id| *id != broker);
        }
        self.replicate();
    }

    /// The broker is back: it leads if nobody does and it was in the ISR, and it catches up.
    pub(crate) fn broker_started(&mut self, broker: i32) {
        if !self.replicas.contains(&broker) {
            return;
        }
        if self.leader.is_none() && self.isr.contains(&broker) {
            self.leader = Some(broker);
            self.leader_epoch += 1;
        } else if self.leader.is_some() && !self.isr.contains(&broker) {
            self.isr.push(broker);
        }
        self.replicate();
    }

    /// Adds the live replicas that could not join while there was no leader.
    pub(crate) fn rejoin(&mut self, live: &[i32]) {
        if self.leader.is_none() {
            return;
        }
        for id in self.replicas.clone() {
            if live.contains(&id) && !self.isr.contains(&id) {
                self.isr.push(id);
            }
        }
        self.replicate();
    }

    /// Makes `broker` leader in a new epoch. What the followers do not have is lost, unless it led before.
    pub(crate) fn elect(&mut self, broker: i32) {
        if self.leader != Some(broker) {
            self.cut(self.replicated);
        }
        self.leader = Some(broker);
        self.leader_epoch += 1;
        self.replicate();
    }

    /// A replica outside the ISR leads: the last `batches` are lost although they may have been acknowledged.
    pub(crate) fn elect_unclean(&mut self, broker: i32, batches: usize) {
        let end = match batches.checked_sub(1) {
            None => self.log.end,
            Some(back) => self.log.batches().rev().nth(back).map_or(self.log.start, |batch| batch.base_offset),
        };
        self.cut(end);
        self.leader = Some(broker);
        self.leader_epoch += 1;
        self.replicate();
    }

    /// `broker` is a new replica whose memory of producers comes from the retained log.
    pub(crate) fn rebuild(&mut self, broker: i32) {
        let built_from = self.log.start;
        self.horizons.insert(broker, Horizon { built_from, ..Horizon::default() });
    }

    pub(crate) fn delete_before(&mut self, offset: i64) {
        let trimmed = self.log.delete_before(offset.min(self.high_watermark));
        self.trimmed.extend(trimmed);
    }

    fn cut(&mut self, end: i64) {
        let lost = self.log.truncate(end);
        self.lost.extend(lost);
        self.producers.truncate(self.log.end);
        self.replicated = self.replicated.min(self.log.end);
        self.high_watermark = self.high_watermark.min(self.log.end);
        for horizon in self.horizons.values_mut() {
            horizon.restarted_at = horizon.restarted_at.min(self.log.end);
        }
    }
}
