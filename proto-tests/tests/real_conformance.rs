//! The conformance cases on a real cluster: what the fake one is built to answer is what Kafka answers.

#![allow(clippy::expect_used, reason = "a case cannot go on without its cluster")]

use proto_tests::conformance::{Lab, Needs, cases};
use proto_tests::real::{HarnessError, RealCluster};

/// The real cluster as the cases see it.
struct Real<'a>(&'a RealCluster);

impl Lab for Real<'_> {
    fn bootstrap(&self) -> Vec<String> {
        self.0.bootstrap()
    }

    fn kill(&self, broker: i32) {
        self.0.kill(broker).expect("the broker killed");
    }

    fn restart(&self, broker: i32) {
        self.0.start_broker(broker).expect("the broker started again");
    }
}

fn run(cluster: &RealCluster, wanted: impl Fn(Needs) -> bool) {
    let lab = Real(cluster);
    let cases: Vec<_> = cases().into_iter().filter(|case| wanted(case.needs)).collect();
    assert!(!cases.is_empty());
    let failed: Vec<String> = cases.iter().filter_map(|case| case.run_on(&lab).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn kafka_agrees_with_the_measured_facts() -> Result<(), HarnessError> {
    run(&*RealCluster::shared()?, |needs| needs != Needs::Kills);
    Ok(())
}

#[test]
fn kafka_agrees_when_brokers_are_killed() -> Result<(), HarnessError> {
    run(&*RealCluster::shared_alone()?, |needs| needs == Needs::Kills);
    Ok(())
}
