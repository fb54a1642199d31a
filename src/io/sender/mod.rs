//! The sender: one task on the I/O thread for each producer. It takes sealed batches from the queues, asks each
//! partition's [`Window`] what may go, puts one batch per partition into each request to a leader, and tells the windows
//! what was answered. What an answer means is decided in `core`; this is where sockets and clocks meet it.

mod answer;
mod budget;
mod identity;
pub(crate) mod keeper;
mod leader;
mod part;
mod probe;
mod scan;
pub(crate) mod shared;

use crate::core::metadata::ClusterView;
use crate::core::produce::accumulator::{PartitionQueue, Permit, ReadyBatch, Sealing, Take, Token};
use crate::core::produce::window::{Leadership, Next, ProbeAnswer, ScanAnswer, Stampable, Window, WindowConfig};
use crate::core::retry::Backoff;
use crate::core::spool::{BatchId, Recovered};
use crate::error::{CallError, SendCause, SpoolError};
use crate::io::clock::exact_millis;
use crate::io::connection::Connection;
use crate::types::{BrokerId, Compression, ProducerIdentity};
use crate::wire::batch::SealedBatch;
use crate::wire::requests::produce::ProduceResponse;
use keeper::{Durable, Keeper};
use leader::{InFlight, Leader};
use part::Part;
use shared::Shared;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What brokers keep producers for unless they say otherwise.
const DEFAULT_EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// What the sender's helpers report.
enum Event {
    /// A produce request came to its end.
    Answer { broker: BrokerId, batches: Vec<InFlight>, result: Result<ProduceResponse, CallError> },
    /// A connection to a leader, or why there is none.
    Connected { broker: BrokerId, result: Result<Connection, CallError> },
    /// What a leader has of this producer in a partition; none for a passing failure.
    Probed { part: usize, leader: Leadership, answer: Option<ProbeAnswer> },
    /// What is in the log of this producer; none for a passing failure.
    Scanned { part: usize, leader: Leadership, answer: Option<ScanAnswer> },
    /// A producer id, or why there is none yet.
    Identity(Result<ProducerIdentity, identity::Trouble>),
    /// `producer.id.expiration.ms` of the brokers.
    Expiration(Duration),
    /// What a group of the spool made durable.
    Durable(Durable),
    /// A batch read back from the spool, and the memory it takes.
    Loaded { part: usize, batch: BatchId, result: Result<SealedBatch, SpoolError>, permit: Box<dyn Permit> },
}

struct Sender {
    shared: Arc<Shared>,
    view: watch::Receiver<Arc<ClusterView>>,
    events: mpsc::UnboundedReceiver<Event>,
    report: mpsc::UnboundedSender<Event>,
    parts: Vec<Part>,
    leaders: HashMap<BrokerId, Leader>,
    keeper: Option<Keeper>,
    /// When to look at a part again; each part has at most one entry.
    timers: BTreeSet<(Instant, usize)>,
    window: WindowConfig,
    backoff: Backoff,
    identity: Option<ProducerIdentity>,
    identity_asked: bool,
    /// Whether the brokers, or the settings, have told `producer.id.expiration.ms`.
    expiration_known: bool,
    identity_trouble: Option<Arc<str>>,
    /// Parts that wait for a producer id.
    nameless: Vec<usize>,
    signalled: Vec<Arc<PartitionQueue>>,
    /// Where sealed batches go to be compressed.
    compressor: Option<std::sync::mpsc::Sender<(Arc<PartitionQueue>, Sealing)>>,
}

/// Runs until the producer is dropped or closed. What is left then is given up, or stays in the spool. Of what was
/// found in the spool flushes wait until its token is dropped.
pub(crate) async fn run(shared: Arc<Shared>, found: Option<(Recovered, Token)>) {
    let (report, events) = mpsc::unbounded_channel();
    let config = &shared.config;
    let window = WindowConfig {
        idempotent: config.is_idempotent(),
        // Without sequences only one at a time keeps the order.
        max_in_flight: if config.is_idempotent() { config.max_in_flight } else { 1 },
        // What is in a spool is parked when they are used up, and tried again.
        retries: if config.spool.is_some() { u32::MAX } else { config.retries },
        producer_id_expiration: config.producer_id_expiration.unwrap_or(DEFAULT_EXPIRATION),
        request_timeout: shared.cluster.config().request_timeout,
        durable: config.spool.is_some(),
    };
    let spool = shared.spool.clone().zip(config.spool.clone()).zip(found);
    let keeper =
        spool.map(|((spool, config), (recovered, waits))| Keeper::new(spool, config, recovered, waits, Instant::now()));
    let sender = Sender {
        view: shared.cluster.watch(),
        backoff: shared.cluster.retry_backoff(),
        shared: shared.clone(),
        events,
        report,
        parts: Vec::new(),
        leaders: HashMap::new(),
        timers: BTreeSet::new(),
        window,
        identity: keeper.as_ref().and_then(Keeper::identity),
        keeper,
        identity_asked: false,
        expiration_known: config.producer_id_expiration.is_some(),
        identity_trouble: None,
        nameless: Vec::new(),
        signalled: Vec::new(),
        compressor: None,
    };
    let left = sender.drive().await;
    shared.set_ended(left);
}

impl Sender {
    /// Returns how many batches it gave up at its end.
    async fn drive(mut self) -> usize {
        self.restore();
        self.on_view();
        while !self.shared.is_stopping() {
            let now = Instant::now();
            self.absorb_signals(now);
            self.on_timers(now);
            self.keep(now);
            self.feed_hungry();
            self.fill_all(now);
            self.flush_to_spool();
            let timers = [self.timers.first().map(|(at, _)| *at), self.keeper.as_ref().map(Keeper::next_timer)];
            let timer = timers.into_iter().flatten().min();
            let shared = self.shared.clone();
            tokio::select! {
                () = shared.signalled() => {}
                Some(event) = self.events.recv() => {
                    self.on_event(event);
                    while let Ok(event) = self.events.try_recv() {
                        self.on_event(event);
                    }
                }
                Ok(()) = self.view.changed() => self.on_view(),
                () = tokio::time::sleep_until(timer.unwrap_or(now).into()), if timer.is_some() => {}
            }
        }
        if self.keeper.is_some() { self.leave_to_spool().await } else { self.give_up() }
    }

    /// Takes over what the application's threads have sealed or opened.
    fn absorb_signals(&mut self, now: Instant) {
        let mut signalled = std::mem::take(&mut self.signalled);
        self.shared.take_signals(&mut signalled);
        // Told also when somebody else than this has learnt its topic's partitions, and when a batch of it is finished.
        let undivided = signalled.iter().any(|queue| queue.is_unpartitioned());
        for queue in signalled.drain(..) {
            queue.looked();
            self.ensure_parts(queue.id);
            self.pull(queue.id, now);
            self.make_runnable(queue.id);
        }
        self.signalled = signalled;
        if undivided {
            self.scatter_known(now);
        }
    }

    /// Makes the parts up to and with `id`.
    fn ensure_parts(&mut self, id: usize) {
        if id < self.parts.len() {
            return;
        }
        // The view taken next may be newer than the one seen last, and another cluster's.
        let view = self.view.borrow().clone();
        self.check_cluster(&view);
        let first = self.parts.len();
        for queue in self.shared.queues_from(first) {
            let (window, noted, asked) = match &mut self.keeper {
                Some(keeper) => keeper.window(&queue, self.window.clone(), Instant::now()),
                None => (Window::new(self.window.clone()), None, true),
            };
            self.parts.push(Part::new(queue, window, noted, asked, self.keeper.is_some(), &view, Instant::now()));
        }
        if let Some(why) = self.keeper.as_ref().and_then(Keeper::foreign) {
            (first..self.parts.len()).for_each(|id| self.hold_from_first(id, &why));
        }
    }

    fn on_view(&mut self) {
        let view = self.view.borrow_and_update().clone();
        self.check_cluster(&view);
        for name in self.shared.topic_names() {
            if let Some(topic) = view.topic(&name) {
                self.shared.add_partitions(&name, topic.partitions.len());
            }
        }
        let changed: BTreeSet<usize> =
            self.parts.iter_mut().enumerate().filter_map(|(id, part)| part.on_view(&view).then_some(id)).collect();
        self.scatter_known(Instant::now());
        if changed.is_empty() {
            return;
        }
        // The former leader may be slow to answer, or to refuse a connection: nothing waits for its turn there.
        for leader in self.leaders.values_mut() {
            leader.runnable.retain(|id| !changed.contains(id));
        }
        for id in changed {
            if let Some(part) = self.parts.get_mut(id) {
                part.runnable = false;
            }
            self.make_runnable(id);
        }
    }

    fn on_timers(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(part) = self.parts.get_mut(id) else { continue };
            part.timer = None;
            let mut settled = Vec::new();
            part.window.on_time(now, &mut settled);
            self.settle(id, settled);
            self.pull(id, now);
            self.make_runnable(id);
        }
    }

    /// Looks at part `id` again at `at`, or earlier.
    fn arm(&mut self, id: usize, at: Instant) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if part.timer.is_none_or(|timer| at < timer) {
            if let Some(timer) = part.timer.replace(at) {
                self.timers.remove(&(timer, id));
            }
            self.timers.insert((at, id));
        }
    }

    /// Moves the next batch of a queue into the window, sealing the open one when it is due. One at a time: the rest
    /// stays where records can still join the last batch.
    fn pull(&mut self, id: usize, now: Instant) {
        if self.shared.uses_cuts() {
            return self.want_cut(id, now);
        }
        if self.is_behind_undivided(id) {
            return;
        }
        if self.keeper.as_ref().is_some_and(Keeper::is_write_ahead) {
            return self.pull_to_spool(id, now);
        }
        let Some(part) = self.parts.get_mut(id) else { return };
        let (sealing, due) = part.pull(now, self.shared.config.linger);
        let deadline = part.deadline();
        if let Some(sealing) = sealing {
            self.finish(id, sealing, now);
        }
        for at in [due, deadline].into_iter().flatten() {
            self.arm(id, at);
        }
    }

    /// Moves everything sealed into the spool and the window: what is on disk need not wait in the queue.
    fn pull_to_spool(&mut self, id: usize, now: Instant) {
        let Some(queue) = self.parts.get(id).map(|part| part.queue.clone()) else { return };
        loop {
            match queue.take(now, self.shared.config.linger) {
                Take::Batch(batch) => self.accept(id, batch),
                Take::Finish(sealing) => return self.finish(id, sealing, now),
                Take::Due(at) => {
                    self.arm(id, at);
                    break;
                }
                // A record with a position has come meanwhile.
                Take::Cut => return self.want_cut(id, now),
                Take::Nothing => break,
            }
        }
        self.stamp_ahead(id);
    }

    /// Takes all that is sealed or open, without waiting for linger. With positions only a cut may.
    fn take_all(&mut self, id: usize) {
        if self.shared.uses_cuts() {
            return;
        }
        let Some(queue) = self.parts.get(id).map(|part| part.queue.clone()) else { return };
        if let (Some(sealing), _) = queue.seal() {
            queue.finish(sealing);
        }
        while let Some(batch) = queue.take_sealed() {
            self.accept(id, batch);
        }
    }

    /// Checksums are computed here; compression has a thread of its own, so that it delays no other partition.
    fn finish(&mut self, id: usize, sealing: Sealing, now: Instant) {
        let Some(queue) = self.parts.get(id).map(|part| part.queue.clone()) else { return };
        if self.shared.config.compression == Compression::None {
            queue.finish(sealing);
            return self.pull(id, now);
        }
        let compressor = self.compressor.get_or_insert_with(|| start_compressor(&self.shared));
        if let Err(refused) = compressor.send((queue.clone(), sealing)) {
            // No thread to be had: slower, but it goes on.
            queue.finish(refused.0.1);
            self.pull(id, now);
        }
    }

    /// Puts part `id` on its leader's list; without a leader, metadata has to come first.
    fn make_runnable(&mut self, id: usize) {
        let behind_undivided = self.is_behind_undivided(id);
        let Some(part) = self.parts.get_mut(id) else { return };
        if part.runnable || part.window.is_empty() || part.held.is_some() || behind_undivided {
            return;
        }
        match part.leader {
            Some(leadership) => {
                part.runnable = true;
                self.leaders.entry(leadership.broker).or_default().runnable.push_back(id);
            }
            // It has no leader before its records are divided; news of the topic brings that about.
            None if part.queue.partition.partition < 0 => {}
            None => {
                self.shared.cluster.request_refresh("a partition to write to has no leader");
                // The answer may be that there still is none, which is no news and wakes nobody.
                let again = self.retry_at(id, Instant::now());
                self.arm(id, again);
            }
        }
    }

    /// What part `id` may do now. Sends are returned; everything else is seen to here.
    fn step(&mut self, id: usize, leadership: Leadership, now: Instant) -> Next {
        if self.parts.get(id).is_some_and(|part| !part.asked) {
            self.probe(id, leadership);
            return Next::Idle;
        }
        loop {
            let Some(part) = self.parts.get_mut(id) else { return Next::Idle };
            let next = part.window.next(now, exact_millis(), leadership);
            match next {
                Next::NewProducerId => match self.identity.filter(|identity| part.used_id != Some(identity.id)) {
                    Some(identity) => {
                        part.used_id = Some(identity.id);
                        part.window.on_identity(identity);
                        continue;
                    }
                    None => {
                        self.nameless.push(id);
                        self.ask_for_identity();
                    }
                },
                Next::Save(entry) => {
                    self.save(id, entry);
                    continue;
                }
                Next::Wait(at) => self.arm(id, at),
                Next::Probe => self.probe(id, leadership),
                Next::Scan(entry) => self.scan(id, entry, leadership),
                // Only a window with a spool asks for it.
                Next::Idle | Next::Send(_) => {}
            }
            return next;
        }
    }

    /// The end: what is still here resolves as unknown or not delivered, and the log says how much it was.
    fn give_up(mut self) -> usize {
        let (mut batches, mut compressing, mut left) = (0, 0, 0usize);
        self.ensure_parts(usize::MAX);
        let mut settle = |batch: ReadyBatch, maybe: bool, last: Option<Arc<str>>| {
            batches += 1;
            left += usize::try_from(batch.count()).unwrap_or(0);
            batch.fail(maybe, SendCause::Closed, last);
        };
        for id in 0..self.parts.len() {
            let excuse = self.excuse(id);
            let Some(part) = self.parts.get_mut(id) else { continue };
            for (batch, maybe) in part.window.drain() {
                settle(batch, maybe, excuse.clone());
            }
            let (sealed, being_compressed) = part.queue.end();
            for batch in sealed {
                settle(batch, false, excuse.clone());
            }
            compressing += being_compressed;
        }
        if left > 0 {
            tracing::warn!(records = left, "producer ended with records that were not acknowledged");
        }
        batches + compressing
    }
}

fn start_compressor(shared: &Arc<Shared>) -> std::sync::mpsc::Sender<(Arc<PartitionQueue>, Sealing)> {
    let (jobs, work) = std::sync::mpsc::channel::<(Arc<PartitionQueue>, Sealing)>();
    let shared = Arc::downgrade(shared);
    let spawned = std::thread::Builder::new().name("indelible-compress".to_owned()).spawn(move || {
        while let Ok((queue, sealing)) = work.recv() {
            queue.finish(sealing);
            if let Some(shared) = shared.upgrade() {
                shared.signal(&queue);
            }
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for compression: the I/O thread does it");
    }
    jobs
}
