//! One cluster for all tests of a run: starting brokers for each test would take most of the time.
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::cluster::{RealCluster, RealConfig, io_error};
use super::error::HarnessError;

/// Set by `scripts/test` to the folder of the cluster that all test programs of a run use.
const CLUSTER_DIR: &str = "INDELIBLE_TEST_CLUSTER";

/// A turn on the shared cluster, see [`RealCluster::shared`]. The turn ends when it is dropped.
#[derive(Debug)]
pub struct Shared {
    cluster: &'static RealCluster,
    /// Locked as long as it is open.
    _turn: File,
}

impl Deref for Shared {
    type Target = RealCluster;

    fn deref(&self) -> &RealCluster {
        self.cluster
    }
}

impl RealCluster {
    /// The cluster that the tests of a run share, together with others: three brokers, healthy at this moment. Use
    /// topics of your own, and leave the brokers alone.
    ///
    /// It is the cluster in the folder `INDELIBLE_TEST_CLUSTER` when that is set; otherwise the first caller in this
    /// process starts one, which ends with the process.
    ///
    /// # Errors
    /// As [`RealCluster::start`] and [`RealCluster::heal`].
    pub fn shared() -> Result<Shared, HarnessError> {
        let cluster = the_one()?;
        let (place, turn) = turn(cluster)?;
        turn.lock_shared().map_err(|cause| io_error(&format!("locking {}", place.display()), cause))?;
        if !healthy(cluster)? {
            // Whoever had it alone was killed before it could be healed: do that with nobody else on it.
            turn.unlock().map_err(|cause| io_error(&format!("unlocking {}", place.display()), cause))?;
            drop(Self::shared_alone()?);
            return Self::shared();
        }
        Ok(Shared { cluster, _turn: turn })
    }

    /// The shared cluster with nobody else on it, to kill and pause brokers. The next one to use it heals it.
    ///
    /// # Errors
    /// As [`RealCluster::shared`].
    pub fn shared_alone() -> Result<Shared, HarnessError> {
        let cluster = the_one()?;
        let (place, turn) = turn(cluster)?;
        turn.lock().map_err(|cause| io_error(&format!("locking {}", place.display()), cause))?;
        cluster.heal()?;
        Ok(Shared { cluster, _turn: turn })
    }
}

fn healthy(cluster: &RealCluster) -> Result<bool, HarnessError> {
    Ok(cluster.states()?.iter().all(|(_, state)| *state == super::BrokerState::Running))
}

/// Each turn opens the file anew: locks of one open file are one lock.
fn turn(cluster: &RealCluster) -> Result<(PathBuf, File), HarnessError> {
    let place = cluster.dir().join("turn");
    let turn = File::options()
        .create(true)
        .append(true)
        .open(&place)
        .map_err(|cause| io_error(&format!("opening {}", place.display()), cause))?;
    Ok((place, turn))
}

fn the_one() -> Result<&'static RealCluster, HarnessError> {
    // Not a OnceLock: a start that failed for one test should not be the end of all, and its error has an owner.
    static CLUSTER: Mutex<Option<&'static RealCluster>> = Mutex::new(None);
    let mut slot = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = *slot {
        return Ok(cluster);
    }
    let cluster = match std::env::var_os(CLUSTER_DIR) {
        Some(dir) => RealCluster::attach(&PathBuf::from(dir))?,
        None => RealCluster::start(RealConfig::default())?,
    };
    // Lives as long as the process, whose end closes the guard's pipe.
    Ok(slot.insert(Box::leak(Box::new(cluster))))
}
