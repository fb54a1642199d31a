//! `indelible group` on the fake cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::process::Child;

use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use support::{PATIENCE, Ran, at, cluster, fill, finish, program, run, signal};

const FIND_COORDINATOR: i16 = 10;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;

/// Two partitions of "orders" with three records and one, all handled by "billing".
fn billed() -> FakeCluster {
    let cluster = cluster("orders", 2);
    fill(&cluster, "orders", 0, b"a\nb\nc\n");
    fill(&cluster, "orders", 1, b"d\n");
    let ran = run(
        program(&format!("consume {} -t orders -g billing -c 4 -f %s -X group.protocol=classic", at(&cluster))),
        b"",
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    cluster
}

fn group(cluster: &FakeCluster, arguments: &str) -> Ran {
    run(program(&format!("group {arguments} {}", at(cluster))), b"")
}

#[track_caller]
fn prints(ran: &Ran, expected: &[&str]) {
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{ran:?}");
}

/// A member of "billing" that has handled all there is, until it is dropped.
struct Member(Option<Child>);

impl Member {
    fn start(cluster: &FakeCluster) -> Member {
        let line = format!("consume {} -t orders -g billing -X client.id=till -X group.protocol=classic", at(cluster));
        let member = Member(Some(program(&line).spawn().unwrap()));
        assert!(
            cluster
                .wait_for(|view| view.group_phase("billing") == Some(proto_tests::fake::GroupPhase::Stable), PATIENCE)
        );
        member
    }

    fn stop(mut self) {
        let child = self.0.take().unwrap();
        signal(child.id(), "TERM");
        assert_eq!(finish(child).code, Some(0));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn groups_are_listed() {
    let cluster = billed();
    let coordinator = cluster.look(|view| view.coordinator("billing")).unwrap();
    prints(
        &group(&cluster, "list"),
        &["group    type     state  coordinator", &format!("billing  classic  Empty            {coordinator}")],
    );
    let json = format!(
        r#"{{"groups":[{{"group":"billing","type":"classic","state":"Empty","protocol_type":"consumer","coordinator":{coordinator}}}]}}"#
    );
    prints(&group(&cluster, "list --json"), &[&json]);
    let empty = FakeCluster::start(1);
    prints(&group(&empty, "list"), &["group  type  state  coordinator"]);
}

#[test]
fn members_are_described() {
    let cluster = billed();
    let coordinator = cluster.look(|view| view.coordinator("billing")).unwrap();
    prints(
        &group(&cluster, "describe billing"),
        &[&format!("group billing: classic, Empty; coordinator is broker {coordinator}"), "it has no members"],
    );
    let member = Member::start(&cluster);
    let ran = group(&cluster, "describe billing");
    let lines: Vec<&str> = ran.out.lines().collect();
    let [head, "", heading, row] = lines[..] else { panic!("{ran:?}") };
    assert_eq!(head, format!("group billing: classic, Stable, assigned by range; coordinator is broker {coordinator}"));
    assert_eq!(heading.split_whitespace().collect::<Vec<_>>(), ["member", "instance", "client", "host", "partitions"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert!(cells[0].starts_with("till-"), "{row}");
    assert_eq!(cells[1..], ["-", "till", "127.0.0.1", "orders-0", "to", "1"]);
    let ran = group(&cluster, "describe billing --json");
    let expected = r#""instance":null,"client":"till","host":"127.0.0.1","partitions":[{"topic":"orders","partition":0},{"topic":"orders","partition":1}]"#;
    assert!(ran.out.contains(expected), "{ran:?}");
    member.stop();
}

#[test]
fn lag_is_told_by_partition_and_in_all() {
    let cluster = billed();
    fill(&cluster, "orders", 0, b"e\nf\n");
    prints(
        &group(&cluster, "lag billing"),
        &[
            "group billing: Empty, 0 members",
            "",
            "partition  committed  end  lag  member  client  host",
            "orders-0           3    5    2  -       -       -",
            "orders-1           1    1    0  -       -       -",
            "",
            "total lag 2 in 2 partitions",
        ],
    );
    let ran = group(&cluster, "lag billing --json");
    assert!(
        ran.out
            .starts_with(r#"{"group":"billing","state":"Empty","members":0,"lag":2,"partitions":[{"topic":"orders","#),
        "{ran:?}"
    );
    assert!(ran.out.contains(r#""partition":0,"committed":3,"leader_epoch":"#), "{ran:?}");
    assert!(ran.out.contains(r#""first":0,"end":5,"lag":2,"member":null,"#), "{ran:?}");

    let member = Member::start(&cluster);
    let handled = |view: proto_tests::fake::View<'_>| view.committed("billing", "orders", 0).unwrap().offset == 5;
    assert!(cluster.wait_for(handled, PATIENCE));
    let ran = group(&cluster, "lag billing");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "group billing: Stable, 1 member", "{ran:?}");
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(cells[..4], ["orders-0", "5", "5", "0"], "{ran:?}");
    assert!(cells[4].starts_with("till-") && cells[5..] == ["till", "127.0.0.1"], "{ran:?}");
    assert_eq!(lines[6], "total lag 0 in 2 partitions", "{ran:?}");
    member.stop();
}

#[test]
fn lag_tells_what_is_odd() {
    let cluster = billed();
    fill(&cluster, "orders", 0, b"e\nf\n");
    cluster.delete_records("orders", 0, 4);
    let ran = group(&cluster, "lag billing");
    let row = "orders-0           3    5    2  -       -       -     the log has 4 to 5";
    assert!(ran.out.lines().any(|line| line == row), "{ran:?}");
    cluster.hide_topic("orders", true);
    let ran = group(&cluster, "lag billing");
    let row = "orders-0           3  -    -    -       -       -     there is no such partition";
    assert!(ran.out.lines().any(|line| line == row), "{ran:?}");
    assert_eq!(ran.summary(), "total lag not known", "{ran:?}");
    group(&cluster, "reset billing --to end").complains(3, &["none of the topics", "\"billing\""]);
}

/// What it would do is told first, and `--yes` does just that.
#[test]
fn a_reset_is_shown_and_then_done() {
    let cluster = billed();
    let table = [
        "partition  committed  new  records",
        "orders-0           3    0  3 again",
        "orders-1           1    0  1 again",
        "",
    ];
    let told = [&table[..], &["nothing is changed yet: --yes does it"]].concat();
    prints(&group(&cluster, "reset billing --to beginning"), &told);
    assert_eq!(committed(&cluster), [Some(3), Some(1)]);
    let told = [&table[..], &["done: group billing goes on there"]].concat();
    prints(&group(&cluster, "reset billing --to beginning --yes"), &told);
    assert_eq!(committed(&cluster), [Some(0), Some(0)]);
    let again = run(
        program(&format!("consume {} -t orders -g billing -c 4 -f %s -X group.protocol=classic", at(&cluster))),
        b"",
    );
    assert_eq!(again.out.lines().count(), 4, "{again:?}");

    // One partition; an offset that all have, and one that none has.
    prints(
        &group(&cluster, "reset billing --to 1 -t orders:0 --yes"),
        &[
            "partition  committed  new  records",
            "orders-0           3    1  2 again",
            "",
            "done: group billing goes on there",
        ],
    );
    assert_eq!(committed(&cluster), [Some(1), Some(1)]);
    prints(
        &group(&cluster, "reset billing --to 2 --yes"),
        &[
            "partition  committed  new  records     note",
            "orders-0           1    2  1 left out",
            "orders-1           1    1  -           as near as can be: the log has 0 to 1",
            "",
            "done: group billing goes on there",
        ],
    );
    assert_eq!(committed(&cluster), [Some(2), Some(1)]);
    let ran = group(&cluster, "reset billing --to end --json --yes");
    prints(
        &ran,
        &[
            r#"{"group":"billing","done":true,"members":0,"partitions":[{"topic":"orders","partition":0,"committed":2,"new":3,"outside":false},{"topic":"orders","partition":1,"committed":1,"new":1,"outside":false}]}"#,
        ],
    );
    assert_eq!(committed(&cluster), [Some(3), Some(1)]);
}

/// The program's own clock says what is an hour ago, and the records' timestamps what was then.
#[test]
fn a_reset_goes_to_a_time() {
    let cluster = billed();
    let ran = run(program(&format!("consume {} -t orders -g times -f %T -c 4", at(&cluster))), b"");
    let newest: i64 = ran.out.lines().map(|line| line.parse::<i64>().unwrap()).max().unwrap();
    for (to, new) in [
        ("-1h", [0, 0]),
        ("@0", [0, 0]),
        ("2001-02-03T04:05:06+07:00", [0, 0]),
        (&format!("@{}", newest + 1), [3, 1]),
        ("9999-01-01T00:00:00Z", [3, 1]),
    ] {
        let ran = group(&cluster, &format!("reset billing --to {to} --json"));
        for (partition, offset) in new.iter().enumerate() {
            let expected = format!(r#""partition":{partition},"committed":{},"new":{offset},"#, [3, 1][partition]);
            assert!(ran.out.contains(&expected), "{to}: {ran:?}");
        }
    }
}

/// Members would commit over it. Who they are is told, and nothing changes.
#[test]
fn a_reset_is_refused_while_there_are_members() {
    let cluster = billed();
    let member = Member::start(&cluster);
    group(&cluster, "reset billing --to 0 --yes").complains(
        3,
        &[
            "group \"billing\" has 1 member (till-",
            "client \"till\" at 127.0.0.1",
            "stop them first",
            "nothing was changed",
        ],
    );
    let shown = group(&cluster, "reset billing --to 0");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.summary().contains("--yes would be refused: the group has 1 member (till-"), "{shown:?}");
    assert_eq!(committed(&cluster), [Some(3), Some(1)]);
    member.stop();
    assert_eq!(group(&cluster, "reset billing --to 0 --yes").code, Some(0));
    assert_eq!(committed(&cluster), [Some(0), Some(0)]);
}

#[test]
fn a_group_can_begin_where_it_is_told_to() {
    let cluster = billed();
    let told = group(&cluster, "reset audit --to end --topic orders --yes");
    assert!(told.out.contains("orders-0   -            3  begins"), "{told:?}");
    let ran = run(program(&format!("consume {} -t orders -g audit --idle-exit-ms 300", at(&cluster))), b"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn mistakes_are_told_in_a_line() {
    let cluster = billed();
    for command in ["describe", "lag", "reset --to end"] {
        let ran = group(&cluster, &format!("{command} biling"));
        ran.complains(3, &["\"biling\" does not exist", "indelible group list"]);
    }
    for to in ["yesterday", "-5", "-1y", "2026-11-21", "2026-02-30T00:00:00Z"] {
        group(&cluster, &format!("reset billing --to {to}")).complains(2, &["--to", to, "beginning, end, an offset"]);
    }
    group(&cluster, "reset billing").complains(2, &["--to <PLACE>"]);
    group(&cluster, "reset billing --to end -t orders:x").complains(2, &["orders:x", "TOPIC:N"]);
    group(&cluster, "reset billing --to end -t orders:2").complains(3, &["\"orders\" has no partition 2", "it has 2"]);
    group(&cluster, "reset billing --to end -t nowhere").complains(3, &["\"nowhere\" does not exist"]);
    group(&cluster, "list -X group.id=x").complains(2, &["group.id"]);
    group(&cluster, "list -X linger_ms=5").complains(2, &["linger_ms"]);
    run(program("group list"), b"").complains(2, &["--bootstrap"]);
    cluster.inject(Fault::always(FaultAction::Error(GROUP_AUTHORIZATION_FAILED)).api(FIND_COORDINATOR));
    for command in ["describe", "lag", "reset --to end"] {
        group(&cluster, &format!("{command} billing")).complains(3, &["group \"billing\"", "Not authorized"]);
    }
    cluster.clear_faults();
    assert_eq!(committed(&cluster), [Some(3), Some(1)]);
}

fn committed(cluster: &FakeCluster) -> [Option<i64>; 2] {
    [0, 1]
        .map(|partition| cluster.look(|view| view.committed("billing", "orders", partition)).map(|found| found.offset))
}
