//! One timer for a future that runs on an executor of its own.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::fetcher::sleep_until;
use super::inbox::{Inbox, Message};
use super::thread::IoThread;

/// Leaves a [`Message::Alarm`] in an inbox at a time that can be set anew. One task of the I/O thread, whatever is
/// waited for; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AlarmClock {
    at: watch::Sender<Option<Instant>>,
}

impl AlarmClock {
    /// Without a time as yet.
    pub(crate) fn start(thread: &IoThread, inbox: Arc<Inbox>) -> AlarmClock {
        let (at, times) = watch::channel(None);
        thread.spawn(run(times, inbox));
        AlarmClock { at }
    }

    /// Rings at `at`, and not at what was set before; never for none.
    pub(crate) fn set(&self, at: Option<Instant>) {
        self.at.send_replace(at);
    }
}

async fn run(mut times: watch::Receiver<Option<Instant>>, inbox: Arc<Inbox>) {
    loop {
        let at = *times.borrow_and_update();
        tokio::select! {
            changed = times.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until(at) => {
                inbox.push(Message::Alarm);
                if times.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
