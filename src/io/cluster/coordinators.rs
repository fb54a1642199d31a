//! Who coordinates which group and which transactional id.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::{Inner, Lane};
use crate::error::{CallError, CallErrorKind, words};
use crate::io::clock::after;
use crate::io::connection::Connection;
use crate::sync::lock;
use crate::types::BrokerId;
use crate::wire::ApiKey;
use crate::wire::requests::find_coordinator::{CoordinatorType, FindCoordinatorRequest};

impl Inner {
    pub(super) async fn coordinator(
        self: &Arc<Self>,
        kind: CoordinatorType,
        key: &Arc<str>,
        lane: Lane,
    ) -> Result<Connection, CallError> {
        let known = lock(&self.coordinators).get(&(kind, key.clone())).copied();
        let id = match known {
            Some(id) => id,
            None => self.find_coordinator(kind, key).await?,
        };
        let connection = self.broker(id, lane).await;
        if connection.is_err() {
            // It may be gone, and another one in charge: ask again next time.
            self.coordinator_moved(kind, key);
        }
        connection
    }

    async fn find_coordinator(self: &Arc<Self>, kind: CoordinatorType, key: &Arc<str>) -> Result<BrokerId, CallError> {
        let connection = self.any_broker().await?;
        let timeout = self.config().request_timeout;
        let answer = connection.submit(&FindCoordinatorRequest { key: key.clone(), kind }, timeout).await?;
        if let Some(code) = answer.error.err() {
            let message = answer.error_message.map(|message| words(&message)).filter(|message| !message.is_empty());
            let whose = match kind {
                CoordinatorType::Group => "group",
                CoordinatorType::Transaction => "transactional id",
            };
            let message = format!("{whose} {key:?}: {}", message.as_deref().unwrap_or(code.meaning()));
            return Err(CallError::new(CallErrorKind::Broker(code, Some(message)))
                .at(connection.broker(), connection.address())
                .during(ApiKey::FindCoordinator, None)
                .sent(true));
        }
        debug!(?kind, %key, broker = answer.broker, "coordinator found");
        if !self.view.borrow().brokers.contains_key(&answer.broker) {
            // The address in the answer is not used: metadata alone says where brokers are.
            self.refresh_and_wait("a coordinator that the metadata does not have", after(Instant::now(), timeout))
                .await?;
        }
        lock(&self.coordinators).insert((kind, key.clone()), answer.broker);
        Ok(answer.broker)
    }

    pub(super) fn coordinator_moved(&self, kind: CoordinatorType, key: &Arc<str>) {
        lock(&self.coordinators).remove(&(kind, key.clone()));
    }
}
