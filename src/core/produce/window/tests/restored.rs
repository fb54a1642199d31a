//! Single situations of windows with a spool.

use super::*;

fn durable() -> WindowConfig {
    WindowConfig { durable: true, ..config() }
}

/// A window with batches of one record each, sequences 5, 6 and so on, of which 0 to 4 were acknowledged.
fn restored(count: u64) -> Window<Numbers> {
    let later = Instant::now() + Duration::from_secs(3600);
    let entries = (0..count).map(|i| (numbers(i, 1, later), Some(5 + i as i32))).collect();
    let pending = vec![numbers(count, 1, later)];
    let (acknowledged, acknowledged_newest) = (Some(4), 0);
    Window::restore(
        durable(),
        Restored { identity: ID, acknowledged, acknowledged_newest, dead_since: -100_000, floor: 3, entries, pending },
    )
}

fn known(last_sequence: i32) -> ProbeAnswer {
    ProbeAnswer::Known { epoch: 0, last_sequence }
}

/// Sends the next one, which must begin with `first`, and has it answered.
fn answered(window: &mut Window<Numbers>, first: i32, code: ErrorCode, out: &mut Vec<Settled<Numbers>>) {
    let now = Instant::now();
    let sent = send(window, now, LEADER).expect("something to send");
    assert_eq!((sent.first, sent.identity), (first, ID));
    assert!(send(window, now, LEADER).is_none(), "one by one");
    let offset = if code == ErrorCode::NONE { 100 + i64::from(first) } else { -1 };
    window.on_answer(sent.id, answer(LEADER, produce(code), offset), now, out);
}

/// What became of the batches: `d`elivered, `u`nknown, `f`ailed, or a message.
fn fates(out: &[Settled<Numbers>]) -> String {
    let fate = |settled: &Settled<Numbers>| match settled {
        Settled::Delivered { batch, .. } => format!("d{}", batch.from),
        Settled::Unknown { batch, .. } => format!("u{}", batch.from),
        Settled::Failed { batch, .. } => format!("f{}", batch.from),
        Settled::AcknowledgedLost { .. } => "lost".to_owned(),
        Settled::Beyond { .. } => "beyond".to_owned(),
    };
    out.iter().map(fate).collect::<Vec<_>>().join(" ")
}

/// The next own batch is stamped in epoch 3, as the floor says.
fn goes_on_at_the_floor(window: &mut Window<Numbers>) {
    let Next::Save(id) = window.next(Instant::now(), 0, LEADER) else { panic!("nothing to save: {window:?}") };
    assert_eq!((window.identity().unwrap().epoch, window.batch(id).unwrap().1), (3, 0));
}

#[test]
fn one_probe_tells_of_all() {
    let (mut window, mut out) = (restored(4), vec![]);
    assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe, "before anything is sent or stamped");
    window.on_probe(LEADER, known(7), &mut out);
    assert!(out.is_empty(), "appended is not replicated");
    answered(&mut window, 7, ErrorCode::NONE, &mut out);
    assert_eq!(fates(&out), "d0 d1 d2");
    answered(&mut window, 8, ErrorCode::NONE, &mut out);
    assert_eq!(fates(&out), "d0 d1 d2 d3");
    goes_on_at_the_floor(&mut window);
}

#[test]
fn a_lost_answer_or_another_leader_starts_over_at_the_probe() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = restored(2);
    window.next(now, 0, LEADER);
    window.on_probe(LEADER, known(6), &mut out);
    let sent = send(&mut window, now, LEADER).unwrap();
    window.on_no_answer(sent.id, true, text(), now, &mut out);
    assert_eq!(window.next(now, 0, LEADER), Next::Probe);
    window.on_probe(LEADER, known(6), &mut out);
    let moved = Leadership { broker: 2, epoch: 4 };
    assert_eq!(window.next(now, 0, moved), Next::Probe);
    window.on_probe(moved, known(4), &mut out);
    assert_eq!(send(&mut window, now, moved).unwrap().first, 5, "that one has neither");
}

#[test]
fn what_the_leader_lost_is_reported_and_stamped_anew() {
    let (mut window, mut out) = (restored(2), vec![]);
    window.next(Instant::now(), 0, LEADER);
    window.on_probe(LEADER, known(2), &mut out);
    assert_eq!(fates(&out), "lost");
    goes_on_at_the_floor(&mut window);
}

#[test]
fn an_epoch_nobody_gave_out_is_another_copy() {
    let (mut window, mut out) = (restored(2), vec![]);
    window.next(Instant::now(), 0, LEADER);
    window.on_probe(LEADER, ProbeAnswer::Known { epoch: 3, last_sequence: 0 }, &mut out);
    assert_eq!(fates(&out), "u0 u1");
    assert!(matches!(out[0], Settled::Unknown { reason: Reason::Outdated, .. }));
    assert_eq!(window.next(Instant::now(), 0, LEADER), Next::NewProducerId);
}

/// The leader has more than the spool: said once, and the log proves what is in it.
#[test]
fn beyond_what_was_sent() {
    for complete in [true, false] {
        let (mut window, mut out) = (restored(2), vec![]);
        window.next(Instant::now(), 0, LEADER);
        window.on_probe(LEADER, known(9), &mut out);
        assert!(matches!(window.next(Instant::now(), 0, LEADER), Next::Scan(_)));
        let found = vec![(0, 5, 70)];
        let answer = if complete { ScanAnswer::Done { found } } else { ScanAnswer::Compacted { found } };
        window.on_scan(LEADER, answer, &mut out);
        assert_eq!(fates(&out), "beyond d0 u1", "what is missing may have been trimmed, so it is unknown");
        goes_on_at_the_floor(&mut window);
    }
}

/// Absence is proven by an empty answer only if nothing was trimmed that the batch could be in.
#[test]
fn forgotten_or_never_written() {
    for (log_start, noted, scans) in [(0, None, false), (1, None, true), (50, Some(50), false), (51, Some(50), true)] {
        let (mut window, mut out) = (restored(2), vec![]);
        for batch in window.batches_mut() {
            batch.noted = noted.map(|offset| Noted { offset, leader_epoch: 3 });
        }
        window.next(Instant::now(), 0, LEADER);
        window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(log_start) }, &mut out);
        out.clear();
        if scans {
            assert!(matches!(window.next(Instant::now(), 0, LEADER), Next::Scan(_)), "{log_start} {noted:?}");
            window.on_scan(LEADER, ScanAnswer::Done { found: vec![(0, 5, 60)] }, &mut out);
            assert_eq!(fates(&out), "d0");
        } else {
            answered(&mut window, 5, ErrorCode::NONE, &mut out);
        }
        answered(&mut window, 6, ErrorCode::NONE, &mut out);
        goes_on_at_the_floor(&mut window);
    }
}

/// Asked while the batches were young, answered when the leader may have forgotten them: brokers were away in between. The
/// answer proves nothing then. Seen on real brokers as the same bytes twice in a row.
#[test]
fn the_age_counts_when_the_answer_comes() {
    for (hours, scans) in [(1, false), (13, true)] {
        let (mut window, mut out) = (restored(2), vec![]);
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
        window.set_wall(hours * 3_600_000);
        window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(0) }, &mut out);
        let next = window.next(Instant::now(), 0, LEADER);
        assert_eq!(matches!(next, Next::Scan(_)), scans, "{hours} h: {next:?}");
    }
}

/// A scan that another leader takes over is worth nothing.
#[test]
fn a_scan_belongs_to_its_leader() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = restored(1);
    window.next(now, 0, LEADER);
    window.on_probe(LEADER, ProbeAnswer::Empty { log_start: None }, &mut out);
    assert!(matches!(window.next(now, 0, LEADER), Next::Scan(_)));
    window.on_scan_failed(now + Duration::from_secs(1));
    assert!(matches!(window.next(now, 0, LEADER), Next::Wait(_)));
    let (now, moved) = (now + Duration::from_secs(2), Leadership { broker: 2, epoch: 4 });
    assert_eq!(window.next(now, 0, moved), Next::Probe);
    window.on_scan(LEADER, ScanAnswer::Done { found: vec![] }, &mut out);
    assert_eq!(window.next(now, 0, moved), Next::Probe, "not sent for that");
}

/// Nobody may ask: error 45 alone proves nothing, a later batch that is taken proves it for all before it.
#[test]
fn without_a_probe_a_later_one_is_the_witness() {
    for (codes, fate) in [([45, 45, 0], "d0 d1 d2"), ([45, 45, 45], "u0 u1 u2"), ([0, 45, 0], "d0 d1 d2")] {
        let (mut window, mut out) = (restored(3), vec![]);
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
        window.on_probe(LEADER, ProbeAnswer::Unavailable, &mut out);
        for (first, code) in (5..).zip(codes) {
            answered(&mut window, first, ErrorCode(code), &mut out);
            if code == 45 {
                assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
                window.on_probe(LEADER, ProbeAnswer::Unavailable, &mut out);
            }
        }
        assert_eq!(fates(&out), fate);
        goes_on_at_the_floor(&mut window);
    }
}

/// The broker may have forgotten an old-dated batch, and would take it twice.
#[test]
fn without_a_probe_old_dated_ones_are_unknown() {
    let (mut window, mut out, wall) = (restored(2), vec![], 7 * 86_400_000);
    assert_eq!(window.next(Instant::now(), wall, LEADER), Next::Probe);
    window.on_probe(LEADER, ProbeAnswer::Unavailable, &mut out);
    assert_eq!(fates(&out), "u0 u1");
}

/// A half that was not stamped yet stays before what was stamped after the whole.
#[test]
fn unstamped_ones_keep_their_place() {
    let (later, mut out) = (Instant::now() + Duration::from_secs(3600), vec![]);
    let entries = [None, Some(7), None, Some(8)].into_iter().zip(0..);
    let entries = entries.map(|(first, from)| (numbers(from, 1, later), first)).collect();
    let pending = vec![numbers(4, 1, later)];
    let mut window = Window::restore(
        durable(),
        Restored {
            identity: ID,
            acknowledged: Some(4),
            acknowledged_newest: 0,
            dead_since: -100_000,
            floor: 3,
            entries,
            pending,
        },
    );
    assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
    window.on_probe(LEADER, ProbeAnswer::Empty { log_start: Some(0) }, &mut out);
    goes_on_at_the_floor(&mut window);
    assert_eq!(window.batches_mut().map(|batch| batch.from).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn no_epoch_left() {
    let later = Instant::now() + Duration::from_secs(3600);
    for (epoch, floor, entries) in [(i16::MAX, i16::MAX, 1), (i16::MAX, i16::MIN, 1), (7, i16::MIN, 0)] {
        let (mut window, mut out) = (restored(entries), vec![]);
        let identity = ProducerIdentity { epoch, ..ID };
        let entries = (0..entries).map(|i| (numbers(i, 1, later), Some(5))).collect::<Vec<_>>();
        let stamped = !entries.is_empty();
        let pending = vec![numbers(9, 1, later)];
        let restored = Restored {
            identity,
            acknowledged: Some(4),
            acknowledged_newest: 0,
            dead_since: -100_000,
            floor,
            entries,
            pending,
        };
        window = Window::restore(window.config.clone(), restored);
        if stamped {
            assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe, "resolved under the old id first");
            window.on_probe(LEADER, ProbeAnswer::Known { epoch, last_sequence: 4 }, &mut out);
            let sent = send(&mut window, Instant::now(), LEADER).unwrap();
            window.on_answer(sent.id, answer(LEADER, ProduceVerdict::Delivered, 1), Instant::now(), &mut out);
        }
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::NewProducerId);
        window.on_identity(ProducerIdentity { id: 10, epoch: 0 });
        assert!(matches!(window.next(Instant::now(), 0, LEADER), Next::Save(_)));
        assert_eq!(window.identity().unwrap(), ProducerIdentity { id: 10, epoch: 0 });
    }
}

#[test]
fn nothing_in_doubt_starts_at_the_floor() {
    goes_on_at_the_floor(&mut restored(0));
}

/// Stamps are written ahead, batches go one after the other, and none overtakes one that is not on disk yet.
#[test]
fn saved_before_sent() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(durable());
    window.on_identity(ID);
    for i in 0..7 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let saving: Vec<EntryId> = std::iter::from_fn(|| match window.next(now, 0, LEADER) {
        Next::Save(id) => Some(id),
        next => {
            assert_eq!(next, Next::Idle);
            None
        }
    })
    .collect();
    assert_eq!((saving.len(), window.entries(), window.pending()), (5, 5, 2));
    window.on_saved(saving[1]);
    assert!(send(&mut window, now, LEADER).is_none(), "the first is not saved");
    window.on_saved(saving[0]);
    let first = send(&mut window, now, LEADER).unwrap();
    assert_eq!((first.id, window.is_unsent(first.id), window.is_unsent(saving[1])), (saving[0], false, true));
    assert!(send(&mut window, now, LEADER).is_none(), "cold: one at a time");
    // Given up: the others lose their stamps, also those that are being written.
    window.on_answer(first.id, answer(LEADER, ProduceVerdict::Dead, -1), now, &mut out);
    assert_eq!(fates(&out), "f0");
    let Next::Save(again) = window.next(now, 0, LEADER) else { panic!("nothing to save") };
    window.on_saved(saving[2]);
    assert!(!saving.contains(&again) && send(&mut window, now, LEADER).is_none());
    assert_eq!(window.batch(again).map(|(batch, first)| (batch.from, first)), Some((1, 0)));
    window.on_saved(again);
    assert_eq!(send(&mut window, now, LEADER).unwrap().identity.epoch, 1);
}

/// One that is fenced is not sent under an epoch that nobody gave it.
#[test]
fn the_others_of_a_fenced_producer_keep_their_stamps() {
    let (now, mut out) = (Instant::now(), vec![]);
    let mut window = Window::new(config());
    window.on_identity(ID);
    for i in 0..3 {
        window.push(numbers(i, 1, now + Duration::from_secs(60)));
    }
    let warm_up = send(&mut window, now, LEADER).unwrap();
    window.on_answer(warm_up.id, answer(LEADER, ProduceVerdict::Delivered, 0), now, &mut out);
    let (a, b) = (send(&mut window, now, LEADER).unwrap(), send(&mut window, now, LEADER).unwrap());
    window.on_no_answer(b.id, true, text(), now, &mut out);
    window.on_answer(a.id, answer(LEADER, ProduceVerdict::Fenced, -1), now, &mut out);
    assert_eq!(send(&mut window, now, LEADER).unwrap().identity, ID);
    window.on_answer(b.id, answer(LEADER, ProduceVerdict::Fenced, -1), now, &mut out);
    assert_eq!(fates(&out), "d0 f1 u2");
}

/// One is refused for good, and the process dies before that is on disk. Had the next one been taken as it stands, the
/// next process would believe that the refused one is stored before it.
#[test]
fn nothing_goes_as_it_stands_behind_a_given_up_one() {
    let (mut window, mut out) = (restored(2), vec![]);
    let empty = ProbeAnswer::Empty { log_start: Some(0) };
    window.next(Instant::now(), 0, LEADER);
    window.on_probe(LEADER, empty, &mut out);
    out.clear();
    answered(&mut window, 5, ErrorCode::MESSAGE_TOO_LARGE, &mut out);
    for fate in ["", "f0"] {
        assert_eq!(fates(&out), fate);
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe, "the refusal, then the one behind it");
        window.on_probe(LEADER, empty, &mut out);
        out.retain(|settled| !matches!(settled, Settled::AcknowledgedLost { .. }));
    }
    let Next::Save(id) = window.next(Instant::now(), 0, LEADER) else { panic!("nothing to save: {window:?}") };
    assert_eq!(window.batch(id).map(|(batch, first)| (batch.from, first)), Some((1, 0)));
    assert_eq!(window.identity().unwrap().epoch, 3);
}

/// Refused for good after an attempt whose answer was lost, by a leader that has forgotten the producer since. Its
/// ignorance proves nothing then; the log does.
#[test]
fn a_refusal_by_a_forgetful_leader_is_looked_up_in_the_log() {
    let empty = ProbeAnswer::Empty { log_start: Some(0) };
    let found = ScanAnswer::Done { found: vec![(0, 5, 60)] };
    let not_found = ScanAnswer::Done { found: vec![] };
    for (scanned, fate) in [(found, "d0"), (not_found, "f0"), (ScanAnswer::Unavailable, "u0")] {
        let (mut window, mut out) = (restored(1), vec![]);
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
        window.on_probe(LEADER, known(4), &mut out);
        // Written, and the answer is lost; then the topic's limit is lowered.
        let sent = send(&mut window, Instant::now(), LEADER).unwrap();
        window.on_no_answer(sent.id, true, text(), Instant::now(), &mut out);
        assert_eq!(window.next(Instant::now(), 0, LEADER), Next::Probe);
        window.on_probe(LEADER, known(5), &mut out);
        answered(&mut window, 5, ErrorCode::MESSAGE_TOO_LARGE, &mut out);
        let wall = 13 * 3_600_000;
        assert_eq!(window.next(Instant::now(), wall, LEADER), Next::Probe, "the refusal");
        window.on_probe(LEADER, empty, &mut out);
        assert_eq!(fates(&out), "", "nothing is proven yet");
        assert!(matches!(window.next(Instant::now(), wall, LEADER), Next::Scan(_)));
        window.on_scan(LEADER, scanned, &mut out);
        assert_eq!(fates(&out), fate);
    }
}
