//! The conformance cases on the fake cluster.

use proto_tests::conformance::cases;
use proto_tests::fake::FakeCluster;

#[test]
fn fake_agrees_with_the_measured_facts() {
    let cluster = FakeCluster::start(3);
    let failed: Vec<String> = cases().iter().filter_map(|case| case.run_on(&cluster).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases().len(), failed.join("\n"));
}
