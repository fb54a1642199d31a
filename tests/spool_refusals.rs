//! Spools that are refused before anything is sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::PathBuf;

use indelible::types::Acks;
use indelible::{BuildError, Client, Durability, SpoolError};
use proto_tests::fake::FakeCluster;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn fresh(story: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{story}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn client(cluster: &FakeCluster) -> Client {
    wait(Client::builder(cluster.bootstrap()).build()).unwrap()
}

/// Without acknowledgements of all replicas in sync nobody knows when a record may leave the spool.
#[test]
fn acks_0_or_1_with_spool_refused() {
    let cluster = FakeCluster::start(1);
    for acks in [Acks::None, Acks::Leader] {
        for durability in [Durability::Memory, Durability::ProcessCrash, Durability::PowerLoss] {
            let spool = fresh("acks");
            let building = client(&cluster).producer().acks(acks).spool(&spool).durability(durability);
            let error = wait(building.build()).unwrap_err();
            assert!(matches!(error, BuildError::Config(_)), "{error}");
            assert!(error.to_string().contains("acks") && error.to_string().contains("spool"), "{error}");
            assert!(!spool.exists(), "it was made all the same");
        }
    }
}

/// Durability without a place for it.
#[test]
fn durability_without_a_directory_refused() {
    let cluster = FakeCluster::start(1);
    let error = wait(client(&cluster).producer().durability(Durability::ProcessCrash).build()).unwrap_err();
    assert!(error.to_string().contains("spool.dir"), "{error}");
}

/// One producer at a time has a spool, also within one process; the next gets it as soon as the first has ended.
#[test]
fn two_producers_one_spool() {
    let cluster = FakeCluster::start(1);
    let spool = fresh("two");
    let first = wait(client(&cluster).producer().spool(&spool).build()).unwrap();
    let error = wait(client(&cluster).producer().spool(&spool).build()).unwrap_err();
    let BuildError::Spool(SpoolError::InUse { holder, .. }) = &error else { panic!("{error}") };
    assert_eq!(holder, &std::process::id().to_string());
    wait(first.close(std::time::Duration::from_secs(10))).unwrap();
    drop(first);
    drop(wait(client(&cluster).producer().spool(&spool).build()).unwrap());
    let _ = std::fs::remove_dir_all(&spool);
}
