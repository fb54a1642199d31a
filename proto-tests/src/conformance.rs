//! Cases that the fake cluster and a real one must answer alike. Each tells a story from the measured facts.
//!
//! A case knows nothing of the cluster but a [`Lab`]: addresses, and the means to kill and start brokers.

mod bench;
mod cases_group;
mod cases_identity;
mod cases_log;
mod cases_next_described;
mod cases_next_group;
mod cases_restart;

pub use bench::Bench;

/// A cluster under test.
pub trait Lab {
    /// `host:port` of the brokers.
    fn bootstrap(&self) -> Vec<String>;
    /// Kills a broker as kill -9 does, and returns when its port is closed.
    fn kill(&self, broker: i32);
    /// Starts a killed broker and returns when it accepts connections.
    fn restart(&self, broker: i32);
}

/// What a case asks of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// One broker or more, left alone.
    Nothing,
    /// Three brokers or more.
    ThreeBrokers,
    /// Three brokers or more, some of which are killed and started again. Not to be run beside other cases.
    Kills,
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Name, as of a test.
    pub name: &'static str,
    /// What it asks of the cluster.
    pub needs: Needs,
    /// Runs it; an error says what was answered and what was expected.
    pub run: fn(&mut Bench<'_>) -> Result<(), String>,
}

impl Case {
    /// Runs the case on a cluster.
    ///
    /// # Errors
    /// What was answered and what was expected.
    pub fn run_on(&self, lab: &dyn Lab) -> Result<(), String> {
        (self.run)(&mut Bench::new(lab, self.name)).map_err(|error| format!("{}: {error}", self.name))
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        cases_identity::CASES,
        cases_group::CASES,
        cases_next_described::CASES,
        cases_next_group::CASES,
        cases_log::CASES,
        cases_restart::CASES,
    ]
    .concat()
}

impl Lab for crate::fake::FakeCluster {
    fn bootstrap(&self) -> Vec<String> {
        crate::fake::FakeCluster::bootstrap(self)
    }

    fn kill(&self, broker: i32) {
        crate::fake::FakeCluster::kill(self, broker);
    }

    fn restart(&self, broker: i32) {
        crate::fake::FakeCluster::restart(self, broker);
    }
}
