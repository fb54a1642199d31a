//! Connections by broker and lane: made on demand, one attempt at a time, with backoff between attempts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Inner, Lane, closed};
use crate::config::{MetadataRecovery, split_address};
use crate::core::metadata::ClusterView;
use crate::core::retry::Backoff;
use crate::error::{CallError, CallErrorKind, ConnectCause, ConnectFailure};
use crate::io::connect::Target;
use crate::io::connection::Connection;
use crate::sync::lock;
use crate::types::BrokerId;

/// All links of a client.
pub(super) type Links = HashMap<(BrokerId, Lane), Link>;

type Outcome = Option<Result<Connection, CallError>>;

/// The way to one broker on one lane.
#[derive(Debug)]
pub(super) struct Link {
    target: Target,
    state: LinkState,
    /// Failures in a row, a connection that ended right after its handshake included.
    failures: u32,
    not_before: Option<Instant>,
}

/// ```text
/// Idle -> Pending -> Ready -> (ended) -> Pending ...
///           \-> Idle (failed)
/// ```
#[derive(Debug)]
enum LinkState {
    Idle,
    /// A task connects; everybody waits for its outcome.
    Pending(watch::Receiver<Outcome>),
    Ready(Connection, Instant),
}

enum Found {
    Ready(Connection),
    Pending(watch::Receiver<Outcome>),
}

/// Somebody who may be asked for metadata.
#[derive(Debug)]
pub(super) enum Candidate {
    Open(Connection),
    Known(BrokerId),
    Bootstrap(Target),
}

/// Whom to ask first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefer {
    /// Open connections, the least busy first; then the other known brokers, then the bootstrap addresses.
    Open,
    /// Any known broker, then the bootstrap addresses: the one that was asked last may be cut off from its cluster, and go
    /// on telling the past for ever.
    Another,
    /// The bootstrap addresses, then as [`Prefer::Open`].
    Bootstrap,
}

impl Inner {
    pub(super) async fn broker(self: &Arc<Self>, id: BrokerId, lane: Lane) -> Result<Connection, CallError> {
        let mut pending = match self.find(id, lane)? {
            Found::Ready(connection) => return Ok(connection),
            Found::Pending(pending) => pending,
        };
        // The sender is dropped without an outcome only when the I/O thread is torn down.
        let outcome = pending.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(closed().at_broker(id)))
    }

    fn find(self: &Arc<Self>, id: BrokerId, lane: Lane) -> Result<Found, CallError> {
        let view = self.view.borrow().clone();
        let Some(broker) = view.brokers.get(&id) else {
            self.request_refresh("a broker that the metadata does not have");
            return Err(CallError::new(CallErrorKind::UnknownBroker).at_broker(id));
        };
        let target = Target { broker: id, host: broker.host.clone(), port: broker.port };
        let mut links = lock(&self.links);
        let link = links.entry((id, lane)).or_insert_with(|| Link::new(target.clone()));
        if link.target != target {
            *link = Link::new(target);
        }
        match &link.state {
            LinkState::Ready(connection, _) if !connection.is_closed() => {
                return Ok(Found::Ready(connection.clone()));
            }
            LinkState::Ready(_, since) => {
                // A broker that shakes hands and hangs up is no better than one that refuses: back off from it too.
                let short_lived = since.elapsed() < self.config().reconnect_backoff_max;
                if short_lived {
                    self.back_off(link);
                } else {
                    link.failures = 0;
                    link.not_before = None;
                }
            }
            LinkState::Pending(pending) => return Ok(Found::Pending(pending.clone())),
            LinkState::Idle => {}
        }
        let (give, pending) = watch::channel(None);
        link.state = LinkState::Pending(pending.clone());
        let (target, failures, not_before) = (link.target.clone(), link.failures, link.not_before);
        drop(links);
        self.connect_in_background(lane, target, failures, not_before, give);
        Ok(Found::Pending(pending))
    }

    fn connect_in_background(
        self: &Arc<Self>,
        lane: Lane,
        target: Target,
        failures: u32,
        not_before: Option<Instant>,
        give: watch::Sender<Outcome>,
    ) {
        let (connector, weak) = (self.connector.clone(), Arc::downgrade(self));
        let limit = self.setup_timeout(failures);
        self.connector.thread.spawn(async move {
            if let Some(not_before) = not_before {
                tokio::time::sleep_until(not_before.into()).await;
            }
            let outcome = connector.connect(&target, limit).await;
            if let Some(inner) = weak.upgrade() {
                inner.connected(lane, &target, &outcome);
            }
            let _ = give.send(Some(outcome));
        });
    }

    /// Notes the outcome of an attempt, unless the link leads elsewhere by now.
    fn connected(&self, lane: Lane, target: &Target, outcome: &Result<Connection, CallError>) {
        let mut links = lock(&self.links);
        let Some(link) = links.get_mut(&(target.broker, lane)).filter(|link| link.target == *target) else { return };
        match outcome {
            Ok(connection) => link.state = LinkState::Ready(connection.clone(), Instant::now()),
            Err(_) => {
                link.state = LinkState::Idle;
                self.back_off(link);
                drop(links);
                self.request_refresh("a broker cannot be connected to");
            }
        }
    }

    fn back_off(&self, link: &mut Link) {
        link.failures = link.failures.saturating_add(1);
        let config = self.config();
        let backoff = Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max);
        link.not_before = Some(Instant::now() + backoff.delay(link.failures, self.random()));
    }

    /// KIP-601: the time-out of one attempt grows with the failures before it.
    fn setup_timeout(&self, failures: u32) -> Duration {
        let config = self.config();
        let backoff = Backoff::new(config.connection_setup_timeout, config.connection_setup_timeout_max);
        match failures {
            0 => config.connection_setup_timeout,
            failures => backoff.delay(failures.saturating_add(1), self.random()),
        }
    }

    /// Drops links to brokers that are gone or have moved. What is in flight there may still be answered.
    pub(super) fn prune_links(&self, view: &ClusterView) {
        lock(&self.links).retain(|(id, _), link| {
            view.brokers
                .get(id)
                .is_some_and(|broker| broker.host == link.target.host && broker.port == link.target.port)
        });
    }

    pub(super) fn release_lane(&self, lane: Lane) {
        lock(&self.links).retain(|(_, of), _| *of != lane);
    }

    pub(super) async fn any_broker(self: &Arc<Self>) -> Result<Connection, CallError> {
        let mut failures = Vec::new();
        for candidate in self.candidates(Prefer::Open) {
            match self.reach(&candidate).await {
                Ok(connection) => return Ok(connection),
                Err(error) => note_failure(&mut failures, error),
            }
        }
        Err(CallError::new(CallErrorKind::Connect(failures)))
    }

    /// Whom to ask, best first. Known brokers come in a random order so that a thousand clients do not all ask the same one.
    pub(super) fn candidates(&self, prefer: Prefer) -> Vec<Candidate> {
        let view = self.view.borrow().clone();
        let mut open: Vec<Connection> = lock(&self.links)
            .iter()
            .filter(|((_, lane), _)| *lane == Lane::Control)
            .filter_map(|(_, link)| match &link.state {
                LinkState::Ready(connection, _) if !connection.is_closed() => Some(connection.clone()),
                _ => None,
            })
            .collect();
        let random = self.connector.thread.random();
        random.shuffle(&mut open);
        open.sort_by_key(|connection| (connection.throttled_until(), connection.in_flight()));
        if prefer == Prefer::Another {
            open.clear();
        }
        let mut known: Vec<BrokerId> = view.brokers.keys().copied().collect();
        known.retain(|id| open.iter().all(|connection| connection.broker() != *id));
        random.shuffle(&mut known);
        let mut bootstrap = Vec::new();
        if view.brokers.is_empty() || self.config().metadata_recovery == MetadataRecovery::Rebootstrap {
            bootstrap.extend(self.config().bootstrap_servers.iter().filter_map(|server| {
                let (host, port) = split_address(server)?;
                Some(Candidate::Bootstrap(Target { broker: -1, host: Arc::from(host), port }))
            }));
            random.shuffle(&mut bootstrap);
        }
        let brokers = open.into_iter().map(Candidate::Open).chain(known.into_iter().map(Candidate::Known));
        match prefer {
            Prefer::Bootstrap => bootstrap.into_iter().chain(brokers).collect(),
            Prefer::Open | Prefer::Another => brokers.chain(bootstrap).collect(),
        }
    }

    pub(super) async fn reach(self: &Arc<Self>, candidate: &Candidate) -> Result<Connection, CallError> {
        match candidate {
            Candidate::Open(connection) => Ok(connection.clone()),
            Candidate::Known(id) => self.broker(*id, Lane::Control).await,
            Candidate::Bootstrap(target) => self.connector.connect(target, self.setup_timeout(0)).await,
        }
    }
}

impl Link {
    fn new(target: Target) -> Link {
        Link { target, state: LinkState::Idle, failures: 0, not_before: None }
    }
}

/// Adds the addresses that `error` names to those that failed before.
pub(super) fn note_failure(failures: &mut Vec<ConnectFailure>, error: CallError) {
    match error.kind() {
        CallErrorKind::Connect(more) => failures.extend(more.iter().cloned()),
        _ => failures.push(ConnectFailure {
            address: error.address().unwrap_or("unknown address").to_owned(),
            cause: ConnectCause::Call(error),
        }),
    }
}
