//! The harness itself: brokers start, die, hang and come back, and nothing outlives its cluster.
use proto_tests::real::{BrokerState, HarnessError, RealCluster, RealConfig};

type Outcome = Result<(), HarnessError>;

#[test]
fn brokers_die_hang_and_come_back() -> Outcome {
    let cluster = RealCluster::shared_alone()?;
    let topic = "harness-brokers_die_hang_and_come_back";
    cluster.create_topic(topic, 2, 3, &[("min.insync.replicas", "2")])?;
    cluster.wait_until_in_sync(topic)?;

    let first = cluster.leader(topic, 0)?;
    cluster.kill(first)?;
    assert!(cluster.states()?.contains(&(first, BrokerState::Stopped)));
    let second = cluster.leader_other_than(first, topic, 0)?;
    cluster.start_broker(first)?;
    cluster.wait_until_in_sync(topic)?;

    cluster.pause(second)?;
    assert!(cluster.states()?.contains(&(second, BrokerState::Paused)));
    cluster.leader_other_than(second, topic, 0)?;
    cluster.resume(second)?;
    cluster.wait_ready()?;

    cluster.stop(first)?;
    cluster.start_broker(first)?;
    cluster.kill_all()?;
    cluster.start_all()?;
    cluster.wait_until_in_sync(topic)?;
    assert!(cluster.log_dir(1).join(format!("{topic}-0")).is_dir());
    cluster.delete_topic(topic)
}

#[test]
fn leaders_move_and_settings_change_without_a_restart() -> Outcome {
    let cluster = RealCluster::shared()?;
    let topic = "harness-leaders_move";
    cluster.create_topic(topic, 1, 3, &[])?;
    for to in cluster.ids() {
        cluster.move_leader(topic, 0, to)?;
        assert_eq!(cluster.leader(topic, 0)?, to);
    }
    cluster.reassign(topic, 0, &[2])?;
    cluster.move_leader(topic, 0, 3)?;
    assert_eq!(cluster.partitions(topic)?[0].replicas, [3]);
    cluster.create_partitions(topic, 3)?;
    assert_eq!(cluster.partitions(topic)?.len(), 3);

    cluster.set_topic_config(topic, "retention.ms", "1000")?;
    cluster.set_broker_config(Some(1), "log.cleaner.threads", "1")?;
    cluster.set_broker_config(Some(1), "log.cleaner.threads", "")?;
    assert!(cluster.ids().any(|id| cluster.controller().is_ok_and(|controller| controller == id)));
    assert!(cluster.group_coordinator("harness-group")? > 0);

    let again = cluster.create_topic(topic, 1, 1, &[]);
    assert!(matches!(again, Err(HarnessError::Refused { code: 36, .. })), "{again:?}");
    cluster.delete_topic(topic)?;
    let gone = cluster.partitions(topic);
    assert!(matches!(gone, Err(HarnessError::Refused { code: 3, .. })), "{gone:?}");
    Ok(())
}

#[test]
fn an_end_of_the_cluster_ends_its_brokers() -> Outcome {
    let cluster = RealCluster::start(RealConfig::default().brokers(1).config("num.io.threads", "3"))?;
    let dir = cluster.dir().to_owned();
    let pid = std::fs::read_to_string(dir.join("1/pid")).expect("the pid of broker 1");
    // Empty once the process is dead, also when its parent has not asked for its status yet.
    let command = || std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(!command().is_empty() || cfg!(not(target_os = "linux")));
    drop(cluster);
    assert!(!dir.exists(), "{} is still there", dir.display());
    assert!(command().is_empty());
    Ok(())
}

#[test]
fn a_broker_that_cannot_start_says_why() {
    let error = RealCluster::start(RealConfig::default().brokers(1).config("log.dirs", "")).expect_err("no log.dirs");
    let text = error.to_string();
    assert!(text.contains("broker.log"), "{text}");
}
