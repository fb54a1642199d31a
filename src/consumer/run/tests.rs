//! The loop without brokers: what the I/O thread tells is made up, and handlers end when the story says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::task::{Wake, Waker};

use bytes::BytesMut;

use super::*;
use crate::core::consume::fetch::Chunk;
use crate::core::consume::watermark::{AssignmentEpoch, Watermark};
use crate::io::inbox::{Lease, Releases};
use crate::sync::lock;
use crate::types::{IsolationLevel, ProducerIdentity};
use crate::wire::batch::{DecodeLimits, RecordsBuilder, SealedBatch};

/// A handler at work, as the story sees it.
#[derive(Default)]
struct Desk {
    /// What handlers were called with, in order: partition, offset, attempt.
    called: Vec<(i32, i64, u32)>,
    /// Handlers that wait for the story: their wakers, once polled.
    waiting: HashMap<(i32, i64), Option<Waker>>,
    /// What they are to return.
    outcomes: HashMap<(i32, i64), Result<(), String>>,
    polls: HashMap<(i32, i64), u32>,
}

/// The future of one call: pending until the story has an outcome for it.
struct Handling {
    desk: Rc<RefCell<Desk>>,
    at: (i32, i64),
}

impl Future for Handling {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut desk = self.desk.borrow_mut();
        *desk.polls.entry(self.at).or_default() += 1;
        match desk.outcomes.remove(&self.at) {
            Some(outcome) => {
                desk.waiting.remove(&self.at);
                Poll::Ready(outcome)
            }
            None => {
                desk.waiting.insert(self.at, Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

type Handler = Box<dyn FnMut(Delivery) -> Handling>;

struct Story {
    runner: Runner<Handler, Handling>,
    desk: Rc<RefCell<Desk>>,
    releases: Arc<Releases>,
    /// Of the executor: how often it was told to poll again.
    wakes: Arc<Wakes>,
    _commands: mpsc::UnboundedReceiver<Command>,
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Story {
    /// Offsets for which `at_once` holds are done as soon as they are handed out.
    fn new(order: Order, change: impl FnOnce(&mut RunSettings), at_once: impl Fn(i64) -> bool + 'static) -> Story {
        let thread = IoThread::start("test-io").expect("thread");
        let inbox = Arc::<Inbox>::default();
        let (commands, _commands) = mpsc::unbounded_channel();
        let mut settings = RunSettings {
            source: SourceSettings {
                limits: DecodeLimits { batch_bytes: 1 << 20 },
                isolation: IsolationLevel::ReadCommitted,
            },
            order,
            workers: 64,
            batch: 1,
            handler_timeout: Duration::ZERO,
            retries: 0,
            backoff: Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600)),
            disposer: None,
            keep: false,
            delays: false,
            commit_records: 0,
            stop_after: None,
            shutdown_timeout: Duration::from_secs(3600),
        };
        change(&mut settings);
        settings.keep = settings.retries > 0;
        let desk = Rc::new(RefCell::new(Desk::default()));
        let noting = desk.clone();
        let handler: Handler = Box::new(move |delivery| {
            let at = (delivery.partition(), delivery.offset());
            let mut desk = noting.borrow_mut();
            desk.called.push((at.0, at.1, delivery.attempt()));
            desk.waiting.insert(at, None);
            if at_once(at.1) {
                desk.outcomes.insert(at, Ok(()));
            }
            Handling { desk: noting.clone(), at }
        });
        let runner = Runner::new(handler, settings, inbox, commands, Arc::default(), thread);
        Story { runner, desk, releases: Arc::default(), wakes: Arc::default(), _commands }
    }

    fn tell(&mut self, message: Message) {
        self.runner.inbox.push(message);
        self.poll();
    }

    /// As the executor does: again for as long as the loop says that there is more.
    fn poll(&mut self) {
        let waker = Waker::from(self.wakes.clone());
        loop {
            let before = self.wakes.0.load(Ordering::SeqCst);
            assert!(Pin::new(&mut self.runner).poll(&mut Context::from_waker(&waker)).is_pending());
            if self.wakes.0.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }

    fn assign(&mut self, partition: i32, epoch: u64, start: i64) -> Arc<Assigned> {
        let partition = TopicPartition::new("orders", partition);
        let mark = Watermark::new(partition.clone(), AssignmentEpoch(epoch), start, -1, Some(start));
        let assigned = Arc::new(Assigned::new(partition, AssignmentEpoch(epoch), mark));
        self.tell(Message::Assign(assigned.clone()));
        assigned
    }

    /// Fetches records with these keys from `base` on.
    fn fetch(&mut self, assigned: &Assigned, base: i64, keys: &[&str]) {
        let mut builder = RecordsBuilder::new(BytesMut::new());
        for key in keys {
            builder.push(1000, Some(key.as_bytes()), Some(b"value"), &[]).unwrap();
        }
        let batch = SealedBatch::new(builder.finish());
        let header = batch.stamp(ProducerIdentity::NONE, -1, false);
        let mut bytes = [&header[..], &batch.section().bytes[..]].concat();
        bytes[..8].copy_from_slice(&base.to_be_bytes()); // the checksum begins behind it
        let (partition, assignment) = (assigned.partition.clone(), assigned.epoch);
        let chunk = Chunk { partition, assignment, from: base, records: bytes.into(), aborted: Vec::new() };
        let lease = Lease::on(&chunk, &self.releases);
        self.tell(Message::Chunk(chunk, lease));
    }

    /// The handler of this record ends so.
    fn end(&mut self, partition: i32, offset: i64, outcome: Result<(), String>) {
        let waker = {
            let mut desk = self.desk.borrow_mut();
            desk.outcomes.insert((partition, offset), outcome);
            desk.waiting.get(&(partition, offset)).cloned().flatten()
        };
        waker.expect("the handler is at work").wake();
        self.poll();
    }

    fn revoke(&mut self, assigned: &Arc<Assigned>) -> oneshot::Receiver<()> {
        let (tell, done) = oneshot::channel();
        assigned.revoked.store(true, Ordering::Release);
        self.tell(Message::Revoke(vec![assigned.clone()], tell));
        done
    }

    /// What handlers were called with since the last time.
    fn called(&self) -> Vec<i64> {
        std::mem::take(&mut self.desk.borrow_mut().called).into_iter().map(|(_, offset, _)| offset).collect()
    }

    /// What is with handlers now.
    fn at_work(&self) -> Vec<i64> {
        let mut offsets: Vec<i64> = self.desk.borrow().waiting.keys().map(|(_, offset)| *offset).collect();
        offsets.sort_unstable();
        offsets
    }
}

fn handled(assigned: &Assigned) -> i64 {
    lock(&assigned.watermark).handled()
}

#[test]
fn records_of_a_key_wait_for_each_other_and_for_nothing_else() {
    let mut story = Story::new(Order::Key, |_| {}, |_| false);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a", "b", "a", "c", "a"]);
    assert_eq!(story.called(), [0, 1, 3]);
    story.end(0, 3, Ok(()));
    story.end(0, 1, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![], 0));
    story.end(0, 0, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![2], 2));
    story.end(0, 2, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![4], 4));
    story.end(0, 4, Ok(()));
    assert_eq!(handled(&assigned), 5);
}

#[test]
fn only_what_was_woken_is_polled() {
    let mut story = Story::new(Order::None, |_| {}, |_| false);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a"; 50]);
    assert_eq!(story.at_work().len(), 50);
    for offset in (0..50).rev() {
        story.end(0, offset, Ok(()));
    }
    assert!(story.desk.borrow().polls.values().all(|polls| *polls == 2), "{:?}", story.desk.borrow().polls);
    assert_eq!(handled(&assigned), 50);
}

/// Story: a handler waits for its first record; every other is done at once. Nothing of those is kept, the offset does not
/// move, and then it moves over all of them.
#[test]
fn what_is_done_at_once_costs_nothing_while_another_is_open() {
    let mut story = Story::new(Order::Key, |settings| settings.workers = 2, |offset| offset != 3);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a"; 4]);
    for base in (4..200_004).step_by(1000) {
        story.fetch(&assigned, base, &["b"; 1000]);
    }
    assert_eq!((story.at_work(), handled(&assigned)), (vec![3], 3));
    assert_eq!(story.called().len(), 200_004);
    assert_eq!(story.runner.slots.len(), 2);
    story.end(0, 3, Ok(()));
    assert_eq!(handled(&assigned), 200_004);
}

/// Story: a partition is taken away while one record of a key is in hand, one is between two attempts, and others wait
/// behind both. Only the one in hand is waited for; the others are never handed out here.
#[test]
fn a_revocation_waits_for_what_is_in_hand_and_drops_the_rest() {
    let mut story = Story::new(Order::Key, |settings| settings.retries = 3, |_| false);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a", "b", "a", "b", "a"]);
    story.end(0, 1, Err("not now".to_owned()));
    assert_eq!(story.called(), [0, 1]);
    let mut done = story.revoke(&assigned);
    assert!(done.try_recv().is_err(), "record 0 is in hand");
    story.end(0, 0, Ok(()));
    assert!(done.try_recv().is_ok());
    assert_eq!((story.called(), handled(&assigned)), (vec![], 1));
    assert_eq!(story.runner.slots.in_use(), 0);
    assert!(story.runner.lanes[0].is_clear() && story.runner.lanes[0].kept_bytes == 0);
}

/// Story: the partition was lost and comes back while a handler of its old assignment is still at work. What that handler
/// comes to has no effect, and its record is handled again only after it, as their order says.
#[test]
fn an_assignment_that_comes_back_keeps_the_order_across_it() {
    for (order, at_once) in [(Order::Partition, vec![]), (Order::Key, vec![1]), (Order::None, vec![0, 1])] {
        let mut story = Story::new(order, |_| {}, |_| false);
        let old = story.assign(0, 1, 0);
        story.fetch(&old, 0, &["a"]);
        assert_eq!(story.called(), [0]);
        let _done = story.revoke(&old);
        lock(&old.watermark).close();
        let new = story.assign(0, 2, 0);
        story.desk.borrow_mut().called.clear();
        story.fetch(&new, 0, &["a", "b"]);
        assert_eq!(story.called(), at_once, "{order:?}");
        if order == Order::None {
            continue; // two handlers of one offset at once: the story cannot tell them apart
        }
        story.end(0, 0, Ok(()));
        assert_eq!((story.called()[0], handled(&new)), (0, 0), "{order:?}");
        assert_eq!((story.runner.handled, story.runner.discarded), (0, 1), "{order:?}");
        story.end(0, 0, Ok(()));
        story.end(0, 1, Ok(()));
        assert_eq!((handled(&new), story.runner.handled), (2, 2), "{order:?}");
    }
}

/// Story: the fetcher jumps, as the application's policy says, while records from before are in hand. Were the watermark to
/// jump at once, they would lie below a committed offset without being handled.
#[test]
fn a_jump_waits_for_what_is_in_hand() {
    let mut story = Story::new(Order::Key, |_| {}, |_| false);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a", "a"]);
    story.tell(Message::Jump(assigned.partition.clone(), assigned.epoch, 100));
    story.fetch(&assigned, 100, &["b"]);
    assert_eq!((story.called(), handled(&assigned)), (vec![0], 0));
    story.end(0, 0, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![1], 1));
    story.end(0, 1, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![100], 100));
}

#[test]
fn a_paused_partition_hands_out_nothing_until_it_is_resumed() {
    let mut story = Story::new(Order::Partition, |_| {}, |_| true);
    let (paused, other) = (story.assign(0, 1, 0), story.assign(1, 1, 0));
    paused.paused.store(true, Ordering::Release);
    story.fetch(&paused, 0, &["a", "b"]);
    story.fetch(&other, 0, &["a"]);
    assert_eq!((story.called(), handled(&paused), handled(&other)), (vec![0], 0, 1));
    paused.paused.store(false, Ordering::Release);
    story.tell(Message::Resume(paused.partition.clone()));
    assert_eq!((story.called(), handled(&paused)), (vec![0, 1], 2));
}

/// Story: a worker is free, and records of the busy key come batch after batch. Those of batches that were read are in
/// memory of their own: the fetched megabytes go.
#[test]
fn what_waits_does_not_keep_the_fetched_bytes() {
    let mut story = Story::new(Order::Key, |_| {}, |offset| offset != 0);
    let assigned = story.assign(0, 1, 0);
    let mut keys = vec!["b"; 1000];
    (keys[0], keys[999]) = ("stuck", "stuck");
    story.fetch(&assigned, 0, &keys);
    keys[0] = "b";
    story.fetch(&assigned, 1000, &keys);
    assert_eq!(story.releases.take().chunks.len(), 2, "all leases came back");
    let lane = &mut story.runner.lanes[0];
    assert_eq!((lane.keys.waiting(), lane.kept_bytes), (2, 2 * 10));
    for offset in [999, 1999] {
        let waiting = lane.keys.release(&Bytes::from_static(b"stuck")).unwrap();
        assert_eq!((waiting.delivery.offset(), waiting.delivery.key()), (offset, Some(&b"stuck"[..])));
        assert_eq!((waiting.delivery.value(), waiting.delivery.headers().count()), (&b"value"[..], 0));
        assert!(waiting.delivery.section().bytes.len() < 20);
    }
}

/// Story: every record stays with its handler for a long time. They must not keep one fetched answer each.
#[test]
fn handlers_that_take_their_time_do_not_keep_the_fetched_bytes() {
    let mut story = Story::new(Order::None, |settings| settings.retries = 1, |_| false);
    let assigned = story.assign(0, 1, 0);
    for base in (0..30).step_by(10) {
        story.fetch(&assigned, base, &["a"; 10]);
    }
    let sizes = story.runner.slots.iter().filter_map(|slot| slot.again.as_ref());
    let shared = sizes.filter(|delivery| delivery.section().bytes.len() > 50).count();
    assert_eq!((story.at_work().len(), shared), (30, 1));
}

/// Story: a handler blocks its thread for a while at each record. What it has done can be committed meanwhile, and not only
/// at the end of the run.
#[test]
fn what_a_blocking_handler_has_done_can_be_committed_meanwhile() {
    let assigned: Rc<RefCell<Option<Arc<Assigned>>>> = Rc::default();
    let seen = assigned.clone();
    let mut story = Story::new(
        Order::Partition,
        |_| {},
        move |offset| {
            std::thread::sleep(Duration::from_millis(30));
            let assigned = seen.borrow();
            let handled = assigned.as_ref().map_or(0, |assigned| handled(assigned));
            // 2 where the clock of the I/O thread is never late.
            assert!(offset - handled <= 8, "{handled} at {offset}");
            true
        },
    );
    *assigned.borrow_mut() = Some(story.assign(0, 1, 0));
    let assigned = assigned.borrow().clone().unwrap();
    story.fetch(&assigned, 0, &["a"; 12]);
    assert_eq!(handled(&assigned), 12);
}

/// Story: a partition is paused while a record of a key is in hand and another waits behind it.
#[test]
fn what_waits_behind_a_key_is_not_handed_out_during_a_pause() {
    let mut story = Story::new(Order::Key, |_| {}, |_| false);
    let assigned = story.assign(0, 1, 0);
    story.fetch(&assigned, 0, &["a", "a", "a"]);
    assigned.paused.store(true, Ordering::Release);
    story.end(0, 0, Ok(()));
    assert_eq!((story.called(), handled(&assigned)), (vec![0], 1));
    assigned.paused.store(false, Ordering::Release);
    story.tell(Message::Resume(assigned.partition.clone()));
    assert_eq!(story.called(), [1]);
    // Once more, and then the partition is taken away.
    assigned.paused.store(true, Ordering::Release);
    story.end(0, 1, Ok(()));
    let mut done = story.revoke(&assigned);
    assert!(done.try_recv().is_ok());
    assert!(story.called().is_empty() && story.runner.lanes[0].is_clear());
}

#[test]
fn stop_after_is_exact_whatever_fails_or_waits() {
    let mut story = Story::new(Order::Key, |settings| settings.stop_after = Some(3), |_| false);
    let (first, second) = (story.assign(0, 1, 0), story.assign(1, 1, 0));
    story.fetch(&first, 0, &["a", "a", "b"]);
    story.fetch(&second, 10, &["a", "b"]);
    assert_eq!(story.called(), [0, 2, 10]);
    // One of them counts for nothing here: another may go out in its place.
    lock(&second.watermark).close();
    let _done = story.revoke(&second);
    story.end(1, 10, Ok(()));
    story.end(0, 2, Ok(()));
    assert!(story.called().is_empty());
    story.end(0, 0, Ok(()));
    assert_eq!((story.called(), handled(&first)), (vec![1], 1));
    story.end(0, 1, Ok(()));
    assert_eq!((story.runner.handled, handled(&first)), (3, 3));
    assert!(matches!(story.runner.phase, Phase::Finishing(Ok(StopReason::MaxRecords), _)));
}
