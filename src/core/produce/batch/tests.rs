#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::wire::batch::RecordsBuilder;
use bytes::BytesMut;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Token {
    lost: Mutex<Vec<String>>,
}

impl Unspooled for Token {
    fn lost(&self, cause: &SendCause) {
        lock(&self.lost).push(cause.to_string());
    }
}

fn cell(partition: i32) -> Arc<BatchCell> {
    BatchCell::new(TopicPartition::new("t", partition), None)
}

fn failed(certainty: Certainty, values: &[&str]) -> Outcome {
    let mut records = RecordsBuilder::new(BytesMut::new());
    for value in values {
        records.push(1, None, Some(value.as_bytes()), &[]).unwrap();
    }
    let section = Some(records.finish());
    let records = OnceLock::new();
    Outcome::Failed(Box::new(Failure {
        section,
        chosen: None,
        certainty,
        cause: SendCause::Closed,
        last: None,
        records,
    }))
}

/// Records 0, 2, 4 in one batch, 1, 3 in another.
fn scattered() -> (Arc<BatchCell>, [Arc<BatchCell>; 2], Outcome) {
    let cells = [cell(0), cell(1)];
    let places = Places { places: vec![(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)], cells: cells.to_vec() };
    (cell(-1), cells, Outcome::Scattered(places))
}

#[test]
fn a_scattered_batch_is_followed_record_by_record() {
    let (whole, [even, odd], outcome) = scattered();
    let (told, before) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Count::default()));
    let waker = Waker::from(before.clone());
    let (mut slot, cx) = (None, Context::from_waker(&waker));
    let callback = |told: &Arc<Mutex<Vec<String>>>| -> Callback {
        let told = told.clone();
        Box::new(move |result| lock(&told).push(result.map_or_else(|e| e.to_string(), |place| place.to_string())))
    };
    assert!(whole.poll(3, &mut slot, &cx).is_pending());
    whole.call_back(4, callback(&told));
    whole.resolve(outcome);
    assert_eq!(before.get(), 1, "it has to look for itself anew");
    assert!(whole.poll(3, &mut slot, &cx).is_pending());
    whole.call_back(1, callback(&told));
    assert_eq!((whole.get(0).is_none(), whole.is_delivered(0)), (true, None));

    even.resolve(Outcome::Delivered(Some(100)));
    assert_eq!(*lock(&told), ["t-0 offset 102"]);
    odd.resolve(failed(Certainty::Absent, &["one", "three"]));
    assert_eq!(before.get(), 2);
    let Poll::Ready(Err(error)) = whole.poll(3, &mut slot, &cx) else { panic!("not resolved") };
    assert_eq!((error.record().value.as_deref(), error.record().partition), (Some(&b"three"[..]), Some(1)));
    assert_eq!(lock(&told).len(), 2);
    assert_eq!((whole.is_delivered(2), whole.is_delivered(3)), (Some(true), Some(false)));
}

#[test]
fn scattered_parts_may_be_split_again() {
    let (whole, [even, _], outcome) = scattered();
    whole.resolve(outcome);
    let halves = [even.part(even.partition().clone()), even.part(even.partition().clone())];
    even.resolve(Outcome::Split { at: 1, parts: halves.clone() });
    halves[1].resolve(Outcome::Delivered(Some(7)));
    assert_eq!(whole.get(4).unwrap().unwrap().offset(), Some(8));
    assert!(whole.get(0).is_none());
}

#[test]
fn spooled_wakes_its_own_and_delivered_wakes_both() {
    let (one, counts) = (cell(0), [Arc::new(Count::default()), Arc::new(Count::default())]);
    let wakers = counts.clone().map(Waker::from);
    let (mut spooled, mut delivered) = (None, None);
    assert!(one.poll_spooled(0, &mut spooled, &Context::from_waker(&wakers[0])).is_pending());
    assert!(one.poll(0, &mut delivered, &Context::from_waker(&wakers[1])).is_pending());
    // Asked again, it keeps its place.
    assert!(one.poll_spooled(0, &mut spooled, &Context::from_waker(&wakers[0])).is_pending());
    one.set_spooled();
    assert_eq!(counts.each_ref().map(|count| count.get()), [1, 0]);
    assert!(matches!(one.spooled(0), Some(Ok(()))));
    assert!(one.get(0).is_none());
    // What became of it later does not take that back.
    one.resolve(failed(Certainty::Absent, &["v"]));
    assert_eq!(counts.each_ref().map(|count| count.get()), [1, 1]);
    assert!(matches!(one.spooled(0), Some(Ok(()))));

    let two = cell(0);
    let mut spooled = None;
    assert!(two.poll_spooled(0, &mut spooled, &Context::from_waker(&wakers[0])).is_pending());
    two.resolve(Outcome::Delivered(None));
    assert_eq!(counts[0].get(), 2);
    assert!(two.poll_spooled(0, &mut spooled, &Context::from_waker(&wakers[0])).is_ready());

    let forgotten = cell(0);
    let mut spooled = None;
    assert!(forgotten.poll_spooled(0, &mut spooled, &Context::from_waker(&wakers[0])).is_pending());
    let (at, place) = spooled.unwrap();
    at.forget_spooled(place);
    forgotten.set_spooled();
    assert_eq!(counts[0].get(), 2);
}

#[test]
fn a_record_given_up_before_it_was_spooled_is_told() {
    let one = cell(0);
    one.resolve(failed(Certainty::Maybe, &["v"]));
    assert!(matches!(one.spooled(0), Some(Err(SendError::MaybeDelivered(_)))));
    let kept = cell(0);
    kept.resolve(failed(Certainty::Kept, &["v"]));
    assert!(matches!((kept.spooled(0), kept.get(0)), (Some(Ok(())), Some(Err(SendError::Spooled(_))))));
}

#[test]
fn parts_are_spooled_with_the_whole_whatever_comes_first() {
    for spooled_first in [true, false] {
        let (whole, parts, outcome) = scattered();
        let waker = Waker::from(Arc::new(Count::default()));
        if spooled_first {
            whole.set_spooled();
            whole.resolve(outcome);
        } else {
            whole.resolve(outcome);
            assert!(whole.poll_spooled(0, &mut None, &Context::from_waker(&waker)).is_pending());
            whole.set_spooled();
        }
        assert!(parts.iter().all(|part| part.is_spooled()));
        assert!(matches!(whole.spooled(3), Some(Ok(()))));
    }
    // One part alone.
    let (whole, [even, _], outcome) = scattered();
    whole.resolve(outcome);
    even.set_spooled();
    assert!(matches!((whole.spooled(0), whole.spooled(1)), (Some(Ok(())), None)));
}

#[test]
fn what_is_not_in_the_spool_is_held_until_it_is_or_is_lost() {
    let token = Arc::new(Token::default());
    let with = |token: &Arc<Token>| BatchCell::new(TopicPartition::new("t", 0), Some(token.clone()));
    let (spooled, lost, whole) = (with(&token), with(&token), with(&token));
    spooled.set_spooled();
    spooled.resolve(failed(Certainty::Absent, &["v"]));
    assert_eq!((Arc::strong_count(&token), lock(&token.lost).len()), (3, 0));
    lost.resolve(failed(Certainty::Absent, &["v"]));
    assert_eq!((Arc::strong_count(&token), lock(&token.lost).len()), (2, 1));
    // Parts hold it on.
    let halves = [whole.part(whole.partition().clone()), whole.part(whole.partition().clone())];
    whole.resolve(Outcome::Split { at: 1, parts: halves.clone() });
    assert_eq!(Arc::strong_count(&token), 3);
    halves[0].set_spooled();
    halves[1].resolve(Outcome::Delivered(None));
    assert_eq!((Arc::strong_count(&token), lock(&token.lost).len()), (1, 1));
}

#[test]
fn nobody_is_missed_between_spooled_and_split() {
    for _ in 0..200 {
        let (whole, parts, outcome) = scattered();
        let (other, count) = (whole.clone(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let spool = std::thread::spawn(move || other.set_spooled());
        let mut slot = None;
        let pending = whole.poll_spooled(2, &mut slot, &Context::from_waker(&waker)).is_pending();
        whole.resolve(outcome);
        spool.join().unwrap();
        assert!(parts.iter().all(|part| part.is_spooled()));
        assert!(!pending || count.get() > 0);
        assert!(matches!(whole.spooled(2), Some(Ok(()))));
    }
}

/// As `select!` in a loop does, for a week without brokers.
#[test]
fn futures_made_and_dropped_take_no_more_and_more() {
    let (one, count) = (cell(0), Arc::new(Count::default()));
    let waker = Waker::from(count.clone());
    let cx = Context::from_waker(&waker);
    let (mut stays, mut before) = (None, None);
    assert!(one.poll(0, &mut stays, &cx).is_pending());
    for _ in 0..1000 {
        let (mut delivered, mut spooled) = (None, None);
        assert!(one.poll(0, &mut delivered, &cx).is_pending());
        assert!(one.poll_spooled(0, &mut spooled, &cx).is_pending());
        one.forget_spooled(spooled.unwrap().1);
        // Dropped after the next was made.
        if let Some((_, place)) = before.replace(delivered.unwrap()) {
            one.forget(place);
        }
    }
    {
        let waiting = lock(&one.waiting);
        assert_eq!((waiting.wakers.slots.len(), waiting.spooled.slots.len()), (3, 1));
    }
    one.resolve(Outcome::Delivered(None));
    assert_eq!(count.get(), 2, "those that are left");
}
