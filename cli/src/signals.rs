//! SIGINT and SIGTERM, counted: the first asks for an orderly end, the second for a quick one.

use tokio::sync::watch;

use crate::failure::Failure;

/// How often the user has asked for the end.
#[derive(Clone, Debug)]
pub(crate) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Listens from now on, on a thread of its own: a command that blocks on a pipe hears the second signal all the same
    /// if `on_second` ends the process.
    pub(crate) fn listen(on_second: Option<fn()>) -> Result<Signals, Failure> {
        let (told, signals) = watch::channel(0);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let work = move || {
            let listening = async {
                let mut source = Source::open()?;
                let _ = ready.send(Ok(()));
                while source.next().await {
                    told.send_modify(|count| *count += 1);
                    if let Some(act) = on_second.filter(|_| *told.borrow() > 1) {
                        act();
                    }
                }
                Ok(())
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(listening)) {
                let _ = ready.send(Err(error));
            }
        };
        let failed = |error| Failure::local(format!("signals cannot be listened to: {error}"));
        std::thread::Builder::new().name("signals".to_owned()).spawn(work).map_err(failed)?;
        // From here on no signal goes astray.
        is_ready.recv().map_err(std::io::Error::other).flatten().map_err(failed)?;
        Ok(Signals(signals))
    }

    /// Waits for the first signal, or no time at all when it came before.
    pub(crate) async fn first(&mut self) {
        self.at_least(1).await;
    }

    /// Waits for the second one.
    pub(crate) async fn second(&mut self) {
        self.at_least(2).await;
    }

    async fn at_least(&mut self, count: u32) {
        if self.0.wait_for(|seen| *seen >= count).await.is_err() {
            // Nobody listens any more, so none will come.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn open() -> std::io::Result<Source> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Source { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> bool {
        tokio::select! {
            came = self.interrupt.recv() => came.is_some(),
            came = self.terminate.recv() => came.is_some(),
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn open() -> std::io::Result<Source> {
        Ok(Source)
    }

    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
