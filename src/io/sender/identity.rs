//! Producer ids, and how long brokers remember them.

use super::{Event, Sender};
use crate::core::retry::Backoff;
use crate::error::{CallError, SendCause};
use crate::io::cluster::{Cluster, Lane};
use crate::types::{BrokerId, ProducerIdentity};
use crate::wire::ErrorCode;
use crate::wire::requests::describe_configs::{ConfigResource, DescribeConfigsRequest};
use crate::wire::requests::init_producer_id::InitProducerIdRequest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The broker's setting for how long it keeps producers.
const EXPIRATION: &str = "producer.id.expiration.ms";

/// Why there is no producer id.
pub(super) struct Trouble {
    text: Arc<str>,
    /// It will not get better by itself.
    refused: bool,
}

impl Sender {
    /// Asks for a producer id in the background, until there is one.
    pub(super) fn ask_for_identity(&mut self) {
        if self.identity_asked {
            return;
        }
        self.identity_asked = true;
        let (cluster, report, backoff) = (self.shared.cluster.clone(), self.report.clone(), self.backoff);
        let ask_expiration = !self.expiration_known;
        self.shared.cluster.thread().spawn(async move {
            ask(&cluster, &report, backoff).await;
            if ask_expiration && let Some(Some(expiration)) = expiration(&cluster).await {
                let _ = report.send(Event::Expiration(expiration));
            }
        });
    }

    pub(super) fn on_identity(&mut self, result: Result<ProducerIdentity, Trouble>) {
        match result {
            Ok(identity) => {
                tracing::debug!(%identity, "producer id");
                self.identity_asked = false;
                self.identity_trouble = None;
                self.identity = Some(identity);
            }
            Err(Trouble { text, refused }) => {
                self.identity_trouble = Some(text.clone());
                if !refused {
                    return;
                }
                self.identity_asked = false;
                if let Some(rescan) = self.rescan() {
                    // What is in the spool waits until the permission is there.
                    tracing::error!(cause = %text, "no producer id: nothing is sent, all is kept in the spool");
                    for id in std::mem::take(&mut self.nameless) {
                        self.arm(id, Instant::now() + rescan);
                    }
                    return;
                }
                for id in std::mem::take(&mut self.nameless) {
                    self.refuse_all(id, &text);
                }
            }
        }
        for id in std::mem::take(&mut self.nameless) {
            self.make_runnable(id);
        }
    }

    /// The brokers have told how long they remember producers.
    pub(super) fn on_expiration(&mut self, expiration: Duration) {
        if std::mem::replace(&mut self.expiration_known, true) && self.window.producer_id_expiration == expiration {
            return;
        }
        tracing::debug!(?expiration, "how long brokers remember producers");
        self.window.producer_id_expiration = expiration;
        for part in &mut self.parts {
            part.window.set_producer_id_expiration(expiration);
        }
        if self.window.idempotent && self.window.forgets_while_sending() {
            tracing::warn!(
                ?expiration, request_timeout = ?self.window.request_timeout,
                "brokers forget producers while a request may still be under way, so each batch without an answer is looked \
                 for in the log, after a wait: set the brokers' producer.id.expiration.ms to more than four times \
                 request.timeout.ms, or lower the latter"
            );
        }
    }

    /// Nothing of part `id` can be sent: the cluster gives no producer id.
    fn refuse_all(&mut self, id: usize, text: &Arc<str>) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let mut left = part.window.drain();
        left.extend(part.queue.drain().into_iter().map(|batch| (batch, false)));
        for (batch, maybe) in left {
            batch.fail(maybe, SendCause::Refused, Some(text.clone()));
        }
    }
}

/// Asks one broker after the other until one gives an id, or refuses for good, or the producer is gone.
async fn ask(cluster: &Cluster, report: &mpsc::UnboundedSender<Event>, backoff: Backoff) {
    let mut failures = 0;
    while !report.is_closed() {
        let trouble = match init_producer_id(cluster).await {
            Ok(identity) => {
                let _ = report.send(Event::Identity(Ok(identity)));
                return;
            }
            Err(trouble) => trouble,
        };
        let refused = trouble.refused;
        let _ = report.send(Event::Identity(Err(trouble)));
        if refused {
            return;
        }
        failures += 1;
        tokio::time::sleep(backoff.delay(failures, cluster.thread().random().next())).await;
    }
}

async fn init_producer_id(cluster: &Cluster) -> Result<ProducerIdentity, Trouble> {
    let passing = |error: CallError| Trouble { text: Arc::from(error.to_string()), refused: false };
    let connection = cluster.any_broker().await.map_err(passing)?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        current: ProducerIdentity::NONE,
    };
    let answer = connection.submit(&request, cluster.config().request_timeout).await.map_err(passing)?;
    if answer.error.is_ok() {
        return Ok(answer.identity);
    }
    let refused = matches!(
        answer.error,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    );
    let hint = if refused { "; the principal needs IDEMPOTENT_WRITE on the cluster, or WRITE on a topic" } else { "" };
    let text = format!(
        "broker {} answered {} to InitProducerId: {}{hint}",
        connection.broker(),
        answer.error,
        answer.error.meaning()
    );
    Err(Trouble { text: Arc::from(text), refused })
}

/// The least `producer.id.expiration.ms` of all brokers, if they may be asked for it; nothing at all when none answered.
pub(super) async fn expiration(cluster: &Cluster) -> Option<Option<Duration>> {
    let brokers: Vec<BrokerId> = cluster.view().brokers.keys().copied().collect();
    let (mut least, mut answered): (Option<u64>, bool) = (None, false);
    for id in brokers {
        let Ok(connection) = cluster.broker(id, Lane::Control).await else { continue };
        let request =
            DescribeConfigsRequest { resources: vec![(ConfigResource::Broker(id), Some(vec![EXPIRATION.to_owned()]))] };
        let Ok(answer) = connection.submit(&request, cluster.config().request_timeout).await else { continue };
        answered = true;
        let values = answer.results.iter().flat_map(|result| &result.configs);
        let values = values.filter(|entry| entry.name == EXPIRATION).filter_map(|entry| entry.value.as_deref());
        least = values.filter_map(|value| value.parse().ok()).chain(least).min();
    }
    if least.is_none() {
        tracing::debug!("no broker told producer.id.expiration.ms (DESCRIBE_CONFIGS on the cluster): 24 h is assumed");
    }
    answered.then(|| least.map(Duration::from_millis))
}
