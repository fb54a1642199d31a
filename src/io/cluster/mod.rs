//! The cluster as a client holds it: a view of its brokers and topics that keeps itself up to date, and connections that
//! are made when they are needed.

mod coordinators;
mod links;
mod refresh;
#[cfg(test)]
mod tests;
mod topics;

pub(crate) use topics::is_legal_name;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::connect::{Connector, Secured};
use super::connection::Connection;
use super::thread::IoThread;
use crate::config::ClientConfig;
use crate::core::metadata::{ClusterView, TopicView};
use crate::core::retry::Backoff;
use crate::error::{CallError, MetadataError};
use crate::metrics::Counters;
use crate::types::{BrokerId, TopicPartition};
use crate::wire::requests::find_coordinator::CoordinatorType;
use links::Links;
use refresh::{RefreshHandle, refresh_until_dropped};
use topics::Tracked;

/// A handle on the cluster. When the last one is dropped the background refresh and all connections end.
///
/// Its futures resolve under any executor: what needs a timer runs on the I/O thread.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    inner: Arc<Inner>,
}

/// Connections of different lanes are different connections. A broker handles the requests of one connection one after
/// another, so that a long poll holds up everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Produce requests.
    Produce,
    /// Everything that is answered at once.
    Control,
    /// A lane of one's own, from [`Cluster::own_lane`]. Each group member needs one for its coordinator: JoinGroup waits
    /// for the other members, whose heartbeats must not wait behind it.
    Own(u64),
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    view: watch::Sender<Arc<ClusterView>>,
    tracked: Mutex<Tracked>,
    links: Mutex<Links>,
    coordinators: Mutex<HashMap<(CoordinatorType, Arc<str>), BrokerId>>,
    refresh: Arc<RefreshHandle>,
    next_lane: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.refresh.wake();
    }
}

impl Cluster {
    /// Starts the background refresh, which asks the bootstrap addresses at once.
    pub(crate) fn start(config: ClientConfig, security: Secured, thread: &IoThread) -> Cluster {
        let (config, counters, spare) = (Arc::new(config), Arc::new(Counters::default()), Arc::default());
        let security = Arc::new(security);
        let connector = Connector { config, thread: thread.clone(), counters, spare, security };
        let inner = Arc::new(Inner {
            connector,
            view: watch::Sender::new(Arc::default()),
            tracked: Mutex::default(),
            links: Mutex::default(),
            coordinators: Mutex::default(),
            refresh: Arc::new(RefreshHandle::new()),
            next_lane: AtomicU64::new(0),
        });
        inner.refresh.request();
        thread.spawn(refresh_until_dropped(Arc::downgrade(&inner), inner.refresh.clone()));
        Cluster { inner }
    }

    /// The settings.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.inner.connector.config
    }

    /// The I/O thread.
    pub(crate) fn thread(&self) -> &IoThread {
        &self.inner.connector.thread
    }

    /// The counters behind [`crate::metrics::Metrics`].
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.inner.connector.counters
    }

    /// A connection to broker `id`, made if there is none; callers that come meanwhile share it. After a failure it waits
    /// `reconnect.backoff.ms` and more before it tries again.
    ///
    /// # Errors
    /// [`CallError`]: the metadata has no such broker (a refresh is then under way), or no address of it answers.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection to the others, and to the next caller.
    pub(crate) async fn broker(&self, id: BrokerId, lane: Lane) -> Result<Connection, CallError> {
        self.inner.broker(id, lane).await
    }

    /// A connection to any broker: an open one, else a known broker, else a bootstrap address.
    ///
    /// # Errors
    /// [`CallError`] with each address and its cause.
    pub(crate) async fn any_broker(&self) -> Result<Connection, CallError> {
        let inner = self.inner.clone();
        self.run(async move { inner.any_broker().await }).await.unwrap_or_else(|| Err(closed()))
    }

    /// What is known now.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.inner.view.borrow().clone()
    }

    /// Waits for the next view: `changed().await`, then `borrow_and_update()`.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.inner.view.subscribe()
    }

    /// Has the metadata asked for soon. Requests that come together are served by one answer.
    pub(crate) fn request_refresh(&self, why: &'static str) {
        self.inner.request_refresh(why);
    }

    /// Has the metadata asked for, and waits for an answer that was asked for after this call.
    ///
    /// # Errors
    /// The last failure, when none came before `deadline`.
    pub(crate) async fn refresh_and_wait(&self, why: &'static str, deadline: Instant) -> Result<(), CallError> {
        let inner = self.inner.clone();
        self.run(async move { inner.refresh_and_wait(why, deadline).await }).await.unwrap_or_else(|| Err(closed()))
    }

    /// Waits for the outcome of the first round over the bootstrap addresses.
    ///
    /// # Errors
    /// Each address with its cause.
    pub(crate) async fn first_contact(&self, deadline: Instant) -> Result<(), CallError> {
        let inner = self.inner.clone();
        self.run(async move { inner.first_contact(deadline).await }).await.unwrap_or_else(|| Err(closed()))
    }

    /// The topic `name`, which is tracked from now on. Waits up to `timeout` while the brokers do not know it: it may have
    /// been created just now.
    ///
    /// # Errors
    /// [`MetadataError`], which says what the brokers answered, or why none did.
    pub(crate) async fn topic(&self, name: &Arc<str>, timeout: Duration) -> Result<Arc<TopicView>, MetadataError> {
        if let Some(topic) = self.inner.usable_topic(name) {
            return Ok(topic);
        }
        let (inner, name) = (self.inner.clone(), name.clone());
        self.run(async move { inner.topic(&name, timeout, timeout).await }).await.unwrap_or(Err(MetadataError::Closed))
    }

    /// The topic `name` as one answer asked for now shows it.
    ///
    /// # Errors
    /// As [`Cluster::topic`], without waiting for a topic that the broker does not know.
    pub(crate) async fn look_up(&self, name: &Arc<str>, timeout: Duration) -> Result<Arc<TopicView>, MetadataError> {
        let (inner, name) = (self.inner.clone(), name.clone());
        let looked = self.run(async move { inner.topic(&name, timeout, Duration::ZERO).await }).await;
        looked.unwrap_or(Err(MetadataError::Closed))
    }

    /// Takes over the leader that a Produce or Fetch answer named (KIP-951), unless it is older than what is known.
    pub(crate) fn learn_leader(&self, partition: &TopicPartition, leader: BrokerId, epoch: i32) {
        self.inner.learn_leader(partition, leader, epoch);
    }

    /// The coordinator of a group or transactional id, on a lane. Group members use a lane of their own.
    ///
    /// # Errors
    /// [`CallError`]; [`crate::error::CallErrorKind::Broker`] while the brokers have none.
    pub(crate) async fn coordinator(
        &self,
        kind: CoordinatorType,
        key: &Arc<str>,
        lane: Lane,
    ) -> Result<Connection, CallError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        self.run(async move { inner.coordinator(kind, &key, lane).await }).await.unwrap_or_else(|| Err(closed()))
    }

    /// Forgets who coordinates `key`: the broker said that it is another one, or did not answer.
    pub(crate) fn coordinator_moved(&self, kind: CoordinatorType, key: &Arc<str>) {
        self.inner.coordinator_moved(kind, key);
    }

    /// A new lane that nobody else uses. Give it back with [`Cluster::release_lane`].
    pub(crate) fn own_lane(&self) -> Lane {
        Lane::Own(self.inner.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Closes the connections of a lane, after what is in flight.
    pub(crate) fn release_lane(&self, lane: Lane) {
        self.inner.release_lane(lane);
    }

    /// Exponential backoff by `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub(crate) fn retry_backoff(&self) -> Backoff {
        self.inner.retry_backoff()
    }

    fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        self.thread().run(task)
    }
}

impl Inner {
    fn config(&self) -> &ClientConfig {
        &self.connector.config
    }

    fn retry_backoff(&self) -> Backoff {
        Backoff::new(self.config().retry_backoff, self.config().retry_backoff_max)
    }

    fn random(&self) -> u64 {
        self.connector.thread.random().next()
    }
}

fn closed() -> CallError {
    CallError::new(crate::error::CallErrorKind::Closed)
}
