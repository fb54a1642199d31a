//! Lines whose outcome is not known yet, in their order.

use std::collections::VecDeque;

use indelible::{Place, Receipt, SendError};

/// A line on its way.
#[derive(Debug)]
enum Pending {
    /// With the producer.
    Sent(Receipt),
    /// Refused at once. It waits for its turn in the output all the same.
    Refused(Box<SendError>),
}

/// Lines on their way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Pending>);

impl Queue {
    pub(super) fn push(&mut self, sent: Result<Receipt, SendError>) {
        self.0.push_back(match sent {
            Ok(receipt) => Pending::Sent(receipt),
            Err(error) => Pending::Refused(Box::new(error)),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The result of the oldest line, which stays in the queue until [`Self::pop`]: dropping the wait loses nothing.
    pub(super) async fn next(&self) -> Result<Place, SendError> {
        match self.0.front() {
            Some(Pending::Sent(receipt)) => receipt.delivered().await,
            Some(Pending::Refused(error)) => Err(error.as_ref().clone()),
            None => std::future::pending().await,
        }
    }

    /// Forgets the oldest line.
    pub(super) fn pop(&mut self) {
        self.0.pop_front();
    }

    /// Takes the oldest line's result, if it is known by now.
    pub(super) fn take_ready(&mut self) -> Option<Result<Place, SendError>> {
        let result = match self.0.front()? {
            Pending::Sent(receipt) => receipt.try_delivered()?,
            Pending::Refused(error) => Err(error.as_ref().clone()),
        };
        self.pop();
        Some(result)
    }
}
