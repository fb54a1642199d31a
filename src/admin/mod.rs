//! Administration: topics and settings, groups and their offsets.

mod groups;
mod offsets;
mod topics;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::verdict::group::LookupVerdict;
use crate::error::{AdminError, CallError, CallErrorKind, words};
use crate::io::cluster::{Cluster, Lane};
use crate::io::connection::Connection;
use crate::types::BrokerId;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::{ApiKey, ErrorCode};

pub use groups::{CommittedOffset, GroupDescription, GroupKind, GroupListing, GroupMember};
pub use offsets::OffsetSpec;
pub use topics::{ConfigValue, NewTopic, PartitionDescription, TopicDescription};

/// Creates, deletes and describes topics, lists and describes groups, and moves their offsets. Made by
/// [`crate::Client::admin`].
///
/// # Cancel safety
/// The work runs on the client's I/O thread: dropping one of its futures does not stop what was begun.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    pub(crate) fn new(cluster: Cluster) -> Admin {
        Admin { cluster }
    }

    /// Runs `work` on the I/O thread, so that its timers and sockets need nothing of the caller's runtime.
    async fn run<T, F>(&self, work: impl FnOnce(Work) -> F) -> Result<T, AdminError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AdminError>> + Send + 'static,
    {
        let deadline = self.cluster.thread().deadline(self.cluster.config().default_api_timeout);
        let task = work(Work { cluster: self.cluster.clone(), deadline });
        let closed = || Err(CallError::new(CallErrorKind::Closed).into());
        self.cluster.thread().run(task).await.unwrap_or_else(closed)
    }
}

/// One operation, on the I/O thread.
struct Work {
    cluster: Cluster,
    /// Until when it may take, in all its steps.
    deadline: Instant,
}

impl Work {
    fn limit(&self) -> Duration {
        self.cluster.config().default_api_timeout
    }

    /// What is left of it.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(self.cluster.thread().now())
    }

    /// What the broker is told about our patience.
    fn timeout_ms(&self) -> i32 {
        let patience = self.cluster.config().request_timeout.min(self.left());
        i32::try_from(patience.as_millis()).unwrap_or(i32::MAX)
    }

    /// A connection, if there is one before the time is over.
    async fn connected(
        &self,
        to: impl Future<Output = Result<Connection, CallError>>,
    ) -> Result<Connection, CallError> {
        let connected = tokio::time::timeout_at(self.deadline.into(), to).await;
        connected.unwrap_or_else(|_| Err(CallError::new(CallErrorKind::TimedOut(self.limit()))))
    }

    /// What `call` to `broker` comes to before the time is over. Then nobody waits for it any more; the connection stays, for
    /// others use it too, and `request.timeout.ms` ends one that hangs.
    async fn answered<T>(
        &self,
        api: ApiKey,
        broker: BrokerId,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let answered = tokio::time::timeout_at(self.deadline.into(), call).await;
        let late = || CallError::new(CallErrorKind::TimedOut(self.limit())).during(api, None).at_broker(broker);
        answered.unwrap_or_else(|_| Err(late().sent(true)))
    }

    /// Asks the controller, or whoever the metadata names for it: KRaft brokers forward. `ask` also says whether the
    /// answer means that the controller is another one by now; then, and when nothing was sent, it is asked again.
    async fn at_controller<T, F>(&self, api: ApiKey, ask: impl Fn(&Connection, Duration) -> F) -> Result<T, AdminError>
    where
        F: Future<Output = Result<(T, bool), CallError>>,
    {
        let timeout = self.cluster.config().request_timeout;
        let mut attempt = 0;
        loop {
            let controller = self.cluster.view().controller;
            let connection = match controller {
                Some(id) => self.connected(self.cluster.broker(id, Lane::Control)).await,
                None => self.connected(self.cluster.any_broker()).await,
            };
            let outcome = match connection {
                Ok(connection) => self.answered(api, connection.broker(), ask(&connection, timeout)).await,
                Err(error) => Err(error),
            };
            attempt += 1;
            let pause = self.cluster.retry_backoff().delay(attempt, self.cluster.thread().random().next());
            let again = pause < self.left();
            match outcome {
                Ok((_, true)) if again => {}
                Err(error) if again && error.is_retryable() && !error.may_have_been_applied() => {}
                outcome => return Ok(outcome?.0),
            }
            tokio::time::sleep(pause).await;
            let _ = self.cluster.refresh_and_wait("the controller moved", self.deadline).await;
        }
    }

    /// Asks the coordinator of `group` until its answer can be used. `ask` also tells what the answer's code means, with
    /// the code.
    async fn at_coordinator<T, F>(
        &self,
        group: &Arc<str>,
        (operation, api): (&'static str, ApiKey),
        ask: impl Fn(Connection, Duration) -> F,
    ) -> Result<(T, BrokerId), AdminError>
    where
        F: Future<Output = Result<Told<T>, CallError>>,
    {
        let timeout = self.cluster.config().request_timeout;
        let mut attempt = 0;
        loop {
            let coordinator = self.cluster.coordinator(CoordinatorType::Group, group, Lane::Control);
            let outcome = match self.connected(coordinator).await {
                Ok(connection) => {
                    let broker = connection.broker();
                    self.answered(api, broker, ask(connection, timeout)).await.map(|told| (told, broker))
                }
                Err(error) => Err(error),
            };
            attempt += 1;
            let pause = self.pause_before(attempt);
            match outcome {
                Ok((Told { answer, verdict, code, message }, broker)) => match verdict {
                    LookupVerdict::Done => return Ok((answer, broker)),
                    LookupVerdict::FindCoordinator if pause.is_some() => {
                        self.cluster.coordinator_moved(CoordinatorType::Group, group);
                    }
                    LookupVerdict::Retry if pause.is_some() => {}
                    LookupVerdict::Missing => return Err(AdminError::GroupNotFound { group: group.clone() }),
                    LookupVerdict::HasMembers => return Err(AdminError::GroupHasMembers { group: group.clone() }),
                    LookupVerdict::FindCoordinator | LookupVerdict::Retry | LookupVerdict::Refused => {
                        return Err(refused(operation, format!("group {group:?}"), code, message));
                    }
                },
                Err(error) if pause.is_some() && error.is_retryable() => {
                    self.cluster.coordinator_moved(CoordinatorType::Group, group);
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause.unwrap_or_default()).await;
        }
    }

    /// How long to wait before the next attempt; none when the time is over then.
    fn pause_before(&self, attempt: u32) -> Option<Duration> {
        let pause = self.cluster.retry_backoff().delay(attempt, self.cluster.thread().random().next());
        Some(pause).filter(|pause| *pause < self.left())
    }
}

/// What a coordinator answered, and what that means.
struct Told<T> {
    answer: T,
    verdict: LookupVerdict,
    code: ErrorCode,
    message: Option<String>,
}

fn refused(operation: &'static str, what: String, code: ErrorCode, message: Option<String>) -> AdminError {
    AdminError::Refused { operation, what, code, message: message.map(|message| words(&message)) }
}

fn check(operation: &'static str, what: String, code: ErrorCode, message: Option<String>) -> Result<(), AdminError> {
    match code.err() {
        None => Ok(()),
        Some(code) => Err(refused(operation, what, code, message)),
    }
}
