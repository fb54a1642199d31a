//! What a user does wrong with spools: one line that names cause, place and way out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use support::spool::Scratch;
use support::{program, run};

#[test]
fn a_spool_that_is_not_there_is_not_made() {
    let scratch = Scratch::new("mistyped");
    let spool = scratch.path("nowhere");
    for command in [
        "status DIR",
        "list DIR --json",
        "verify DIR",
        "export DIR --all",
        "retry DIR --all",
        "discard DIR --id 1 --yes",
        "deliver DIR --bootstrap 127.0.0.1:1",
    ] {
        run(program(&format!("spool {}", command.replace("DIR", &spool))), b"").complains(4, &["nowhere"]);
    }
    assert!(!std::path::Path::new(&spool).exists());
}

#[test]
fn what_does_not_go_together() {
    for (arguments, parts) in [
        ("--no-wait", &["--spool"][..]),
        ("--durability power-loss", &["--spool"]),
        ("--resume --file f", &["--spool"]),
        ("--resume --spool s", &["--file"]),
        ("--adopt", &["--spool"]),
        ("--on-unknown resend", &["--spool"]),
        ("--spool s --durability memory", &["--durability", "power-loss"]),
        ("--spool s --no-wait --print-offsets", &["--print-offsets"]),
        ("--spool s --unknown-file u", &["--unknown-file"]),
        ("--spool s --config spool.durability=memory", &["spool.durability", "process-crash"]),
        ("--spool s --config spool.durability=Memory", &["spool.durability", "process-crash"]),
        ("--spool s --config spool.durability=${env:INDELIBLE_TEST_DURABILITY}", &["memory keeps", "process-crash"]),
        (
            "--spool s --config spool.on.dead=${env:INDELIBLE_NO_SUCH}",
            &["spool.on.dead", "INDELIBLE_NO_SUCH is not set"],
        ),
        ("--config spool.dir=s", &["spool.dir", "--spool"]),
        ("--spool s --acks 1", &["acks"]),
        ("--spool s --config spool.max.bytes=1", &["spool.max.bytes"]),
    ] {
        let mut program = program(&format!("produce --bootstrap h:1 --topic t {arguments}"));
        program.env("INDELIBLE_TEST_DURABILITY", "memory");
        run(program, b"").complains(2, parts);
    }
    assert!(!std::path::Path::new("s").exists());
}

#[test]
fn batches_have_to_be_named() {
    let scratch = Scratch::new("unnamed");
    let spool = scratch.path("spool");
    for command in ["retry", "export"] {
        run(program(&format!("spool {command} {spool}")), b"").complains(2, &["--id", "--dead", "--parked", "--all"]);
    }
    run(program(&format!("spool discard {spool}")), b"").complains(2, &["--id"]);
    run(program("spool"), b"").complains(2, &["spool"]);
}

#[test]
fn a_place_that_is_no_spool_is_refused() {
    let scratch = Scratch::new("foreign");
    let file = scratch.path("file");
    std::fs::write(&file, "x").unwrap();
    run(program(&format!("spool status {file}")), b"").complains(4, &["no directory"]);
    run(program(&format!("produce --bootstrap 127.0.0.1:1 -t t --spool {file}")), b"a\n")
        .complains(4, &["no directory"]);
}

#[test]
fn help_tells_the_exit_codes() {
    for command in ["spool --help", "spool deliver --help", "produce --help"] {
        let ran = run(program(command), b"");
        assert!(ran.code == Some(0) && ran.out.contains("Exit codes"), "{ran:?}");
    }
    for command in ["status", "list", "verify", "retry", "export", "discard"] {
        let ran = run(program(&format!("spool {command} --help")), b"");
        assert!(ran.code == Some(0) && ran.out.contains("DIR"), "{ran:?}");
    }
}
