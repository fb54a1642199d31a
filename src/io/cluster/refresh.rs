//! Keeping the view up to date: by age, and on demand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::links::{Candidate, Prefer, note_failure};
use super::{Inner, closed};
use crate::config::MetadataRecovery;
use crate::core::metadata::ClusterView;
use crate::error::{CallError, CallErrorKind, ConnectCause, ConnectFailure, SaslFailure};
use crate::types::{BrokerId, TopicPartition};
use crate::wire::requests::metadata::{MetadataRequest, MetadataResponse};
use crate::wire::{ApiKey, ErrorCode};

/// After so many failed rounds in a row each further one is a warning.
const QUIET_FAILURES: u32 = 3;
/// The least time between two refreshes, whoever asks for them how often.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// How others ask the refresh task for something, and learn what came of it.
#[derive(Debug)]
pub(super) struct RefreshHandle {
    wanted: AtomicU64,
    wake: Notify,
    outcome: watch::Sender<Outcome>,
}

/// What came of the refreshes so far.
#[derive(Clone, Debug, Default)]
struct Outcome {
    /// All requests up to this one are served.
    served: u64,
    /// Rounds that no broker answered.
    failed: u64,
    /// Why the last one did not.
    error: Option<CallError>,
}

impl RefreshHandle {
    pub(super) fn new() -> RefreshHandle {
        RefreshHandle { wanted: AtomicU64::new(0), wake: Notify::new(), outcome: watch::Sender::default() }
    }

    /// Asks for a refresh; the number says which one serves it.
    pub(super) fn request(&self) -> u64 {
        let number = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake();
        number
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// The background task: ends when the last handle on the cluster is dropped.
pub(super) async fn refresh_until_dropped(cluster: Weak<Inner>, handle: Arc<RefreshHandle>) {
    let mut last_success: Option<Instant> = None;
    let mut failures = 0u32;
    let mut not_before = Instant::now();
    let mut news = true;
    loop {
        let wait = match cluster.upgrade() {
            Some(inner) => inner.until_next(last_success, not_before, failures > 0),
            None => return,
        };
        // No handle is held while waiting, so that dropping the last one is noticed.
        match wait {
            Wait::Backoff(time) => tokio::time::sleep(time).await,
            Wait::Demand(time) => {
                let _ = tokio::time::timeout(time, handle.wake.notified()).await;
            }
            Wait::Over => {
                let Some(inner) = cluster.upgrade() else { return };
                let serving = handle.wanted.load(Ordering::Acquire);
                let hung = last_success.is_some_and(|at| at.elapsed() >= inner.config().rebootstrap_trigger);
                let prefer = match (hung && failures > 0, news) {
                    (true, _) => Prefer::Bootstrap,
                    (false, true) => Prefer::Open,
                    (false, false) => Prefer::Another,
                };
                match inner.refresh_once(prefer).await {
                    Ok(changed) => {
                        news = changed;
                        failures = 0;
                        let now = Instant::now();
                        (last_success, not_before) = (Some(now), now + MIN_INTERVAL);
                        handle.outcome.send_modify(|outcome| outcome.served = serving);
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        not_before = Instant::now() + inner.retry_backoff().delay(failures, inner.random());
                        inner.connector.counters.metadata_refresh_failures.add(1);
                        match failures > QUIET_FAILURES {
                            true => warn!(%error, failures, "no broker answers for metadata"),
                            false => debug!(%error, failures, "metadata refresh failed"),
                        }
                        handle.outcome.send_modify(|outcome| {
                            outcome.failed += 1;
                            outcome.error = Some(error);
                        });
                    }
                }
            }
        }
    }
}

/// What the refresh task does next.
enum Wait {
    /// Nothing can shorten it.
    Backoff(Duration),
    /// Until somebody asks, or for so long.
    Demand(Duration),
    /// It is time.
    Over,
}

impl Inner {
    fn until_next(&self, last_success: Option<Instant>, not_before: Instant, failed: bool) -> Wait {
        let now = Instant::now();
        if now < not_before {
            return Wait::Backoff(not_before - now);
        }
        if failed || self.refresh.wanted.load(Ordering::Acquire) > self.refresh.outcome.borrow().served {
            return Wait::Over;
        }
        let age = last_success.map_or(Duration::MAX, |at| now - at);
        match self.config().metadata_max_age.checked_sub(age).filter(|left| !left.is_zero()) {
            Some(left) => Wait::Demand(left),
            None => Wait::Over,
        }
    }

    pub(super) fn request_refresh(&self, why: &'static str) {
        debug!(why, "metadata refresh requested");
        self.refresh.request();
    }

    pub(super) async fn refresh_and_wait(&self, why: &'static str, deadline: Instant) -> Result<(), CallError> {
        debug!(why, "metadata refresh requested");
        let number = self.refresh.request();
        self.wait_for_refresh(number, deadline, false).await
    }

    pub(super) async fn first_contact(&self, deadline: Instant) -> Result<(), CallError> {
        self.wait_for_refresh(1, deadline, true).await
    }

    /// Waits for refresh `number`; with `first_failure` also no longer than for the next failed round.
    pub(super) async fn wait_for_refresh(
        &self,
        number: u64,
        deadline: Instant,
        first_failure: bool,
    ) -> Result<(), CallError> {
        let mut outcome = self.refresh.outcome.subscribe();
        let done = |outcome: &Outcome| outcome.served >= number || first_failure && outcome.failed > 0;
        let waited = tokio::time::timeout_at(deadline.into(), outcome.wait_for(done)).await;
        let last = match waited {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => return Err(closed()),
            Err(_) => self.refresh.outcome.borrow().clone(),
        };
        if last.served >= number {
            return Ok(());
        }
        let limit = self.config().default_api_timeout;
        Err(last.error.unwrap_or_else(|| {
            CallError::new(CallErrorKind::TimedOut(limit)).during(ApiKey::Metadata, None).sent(true)
        }))
    }

    /// The error of the last failed round, if the last one failed.
    pub(super) fn last_refresh_error(&self, number: u64) -> Option<CallError> {
        let outcome = self.refresh.outcome.borrow();
        outcome.error.clone().filter(|_| outcome.served < number)
    }

    /// Asks one after another until somebody answers. Says whether there was anything new.
    async fn refresh_once(self: &Arc<Self>, prefer: Prefer) -> Result<bool, CallError> {
        let mut failures = Vec::new();
        let mut candidates = self.candidates(prefer);
        candidates.reverse();
        while let Some(candidate) = candidates.pop() {
            match self.ask(&candidate).await {
                Ok(answer) if answer.error == ErrorCode::REBOOTSTRAP_REQUIRED => {
                    info!("a broker asks for a new start from the bootstrap addresses");
                    if self.config().metadata_recovery == MetadataRecovery::Rebootstrap {
                        // KIP-1102: what is known is of no use any more.
                        candidates.retain(|candidate| matches!(candidate, Candidate::Bootstrap(_)));
                    }
                    note_failure(&mut failures, CallError::new(CallErrorKind::Broker(answer.error, None)));
                }
                Ok(answer) if answer.error.err().is_some() => {
                    note_failure(&mut failures, CallError::new(CallErrorKind::Broker(answer.error, None)));
                }
                Ok(answer) => {
                    if matches!(candidate, Candidate::Bootstrap(_)) && self.view.borrow().version > 0 {
                        info!("started over from the bootstrap addresses");
                        self.connector.counters.rebootstraps.add(1);
                    }
                    return Ok(self.merge(&answer));
                }
                Err(error) if self.seems_to_expect_sasl(&candidate, &error) => failures.push(ConnectFailure {
                    address: error.address().unwrap_or("unknown address").to_owned(),
                    cause: ConnectCause::Sasl(SaslFailure::Expected),
                }),
                Err(error) => note_failure(&mut failures, error),
            }
        }
        Err(CallError::new(CallErrorKind::Connect(failures)))
    }

    /// A listener that expects SASL answers ApiVersions to everybody, and closes at anything else that comes without it.
    fn seems_to_expect_sasl(&self, candidate: &Candidate, error: &CallError) -> bool {
        matches!(candidate, Candidate::Bootstrap(_))
            && matches!(error.kind(), CallErrorKind::Disconnected(_))
            && self.connector.security.sasl.is_none()
    }

    async fn ask(self: &Arc<Self>, candidate: &Candidate) -> Result<MetadataResponse, CallError> {
        let connection = self.reach(candidate).await?;
        let config = self.config();
        let topics = self.tracked_topics();
        let request = MetadataRequest { topics, allow_auto_create: config.allow_auto_create_topics };
        let answer = connection.submit(&request, config.request_timeout).await?;
        if answer.error.is_ok() && answer.brokers.is_empty() {
            // A broker that is just starting knows nobody yet; taking that over would leave nobody to ask.
            let nobody = Some("the broker knows no brokers yet".to_owned());
            return Err(CallError::new(CallErrorKind::Broker(ErrorCode::BROKER_NOT_AVAILABLE, nobody))
                .at(connection.broker(), connection.address())
                .during(ApiKey::Metadata, None));
        }
        Ok(answer)
    }

    fn merge(&self, answer: &MetadataResponse) -> bool {
        self.connector.counters.metadata_refreshes.add(1);
        let before = self.view.borrow().cluster_id.clone();
        let changed = self.publish(|view| view.merge(answer));
        let view = self.view.borrow().clone();
        self.prune_links(&view);
        if let (Some(before), Some(now)) = (&before, &view.cluster_id)
            && before != now
        {
            warn!(%before, %now, "the addresses lead to another cluster than before");
        }
        debug!(brokers = view.brokers.len(), topics = view.topics.len(), version = view.version, changed, "metadata");
        changed
    }

    pub(super) fn learn_leader(&self, partition: &TopicPartition, leader: BrokerId, epoch: i32) {
        self.publish(|view| view.learn_leader(partition, leader, epoch));
        if !self.view.borrow().brokers.contains_key(&leader) {
            self.request_refresh("a leader that the metadata does not have");
        }
    }

    /// Replaces the view, if there is anything new.
    fn publish(&self, next: impl FnOnce(&ClusterView) -> Option<ClusterView>) -> bool {
        self.view.send_if_modified(|view| match next(view) {
            Some(next) => {
                *view = Arc::new(next);
                true
            }
            None => false,
        })
    }
}
