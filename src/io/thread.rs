//! The I/O thread: an OS thread of its own with a current-thread runtime.
//!
//! A busy or blocked application runtime can never starve heartbeats, retries or acknowledgements, and an application
//! needs no runtime at all: what it awaits are plain channels.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};

use super::clock::{Clock, after};
use super::random::Random;

/// A handle on the I/O thread. The thread ends when the last handle is dropped and all tasks have ended; nobody waits
/// for it, so the last handle may be dropped anywhere, on the thread itself too.
#[derive(Clone, Debug)]
pub(crate) struct IoThread {
    owner: Arc<Owner>,
}

/// What the handles share; its drop asks the thread to end.
#[derive(Debug)]
struct Owner {
    runtime: Handle,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    random: Random,
    tasks: AtomicUsize,
    stop: AtomicBool,
    changed: Notify,
}

impl IoThread {
    /// Starts the thread under the name `name`.
    ///
    /// # Errors
    /// Those of the operating system when it has no thread or no poll handle left.
    pub(crate) fn start(name: &str) -> io::Result<IoThread> {
        let shared = Arc::new(Shared {
            clock: Clock::default(),
            random: Random::new(),
            tasks: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let clock = shared.clone();
        let runtime =
            Builder::new_current_thread().enable_all().on_thread_unpark(move || clock.clock.refresh()).build()?;
        let owner = Arc::new(Owner { runtime: runtime.handle().clone(), shared: shared.clone() });
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = shared.ended() => {}
                    () = shared.clock.run() => {}
                }
            });
        })?;
        Ok(IoThread { owner })
    }

    /// Runs `task` on the thread, beside the others.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::start(&self.owner.shared);
        self.owner.runtime.spawn(async move {
            let _running = running;
            task.await;
        });
    }

    /// Runs `task` on the thread and hands its outcome to whoever awaits the returned future, under any executor. None
    /// when the task panicked.
    ///
    /// # Cancel safety
    /// Dropping the returned future does not stop the task.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let (give, take) = oneshot::channel();
        self.spawn(async move {
            let _ = give.send(task.await);
        });
        async move { take.await.ok() }
    }

    /// The monotonic clock.
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// The moment `wait` from now.
    pub(crate) fn deadline(&self, wait: Duration) -> Instant {
        after(self.now(), wait)
    }

    /// Unix milliseconds, about one millisecond old at most while records flow, and exact after a pause. Costs an atomic
    /// load, where the system's clock would cost half of what a record costs.
    pub(crate) fn coarse_millis(&self) -> i64 {
        self.owner.shared.clock.coarse_millis()
    }

    /// Randomness for jitter.
    pub(crate) fn random(&self) -> &Random {
        &self.owner.shared.random
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Resolves when no handle and no task is left.
    async fn ended(&self) {
        while !(self.stop.load(Ordering::Acquire) && self.tasks.load(Ordering::Acquire) == 0) {
            self.changed.notified().await;
        }
    }
}

/// Counts one task for as long as it lives, a panic included.
struct Running(Arc<Shared>);

impl Running {
    fn start(shared: &Arc<Shared>) -> Running {
        shared.tasks.fetch_add(1, Ordering::AcqRel);
        Running(shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_the_last_handle_is_dropped_on_its_own_thread() {
        let thread = IoThread::start("test-io").expect("thread");
        let shared = Arc::downgrade(&thread.owner.shared);
        let inner = thread.clone();
        thread.spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(inner);
        });
        drop(thread);
        for _ in 0..1000 {
            if shared.strong_count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the thread still runs");
    }

    #[test]
    fn coarse_clock_is_close_to_the_exact_one_busy_and_after_a_pause() {
        let thread = IoThread::start("test-io").expect("thread");
        for pause in [0, 0, 1, 120, 0, 0] {
            std::thread::sleep(Duration::from_millis(pause));
            let apart = (super::super::clock::exact_millis() - thread.coarse_millis()).abs();
            assert!(apart < 50, "{apart} ms apart");
        }
    }
}
