//! The processes: start, stop, kill, pause.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};

use super::error::HarnessError;
use super::security::Certificates;
use super::wire;

/// The Kafka that tests run against unless they ask for another.
pub const DEFAULT_VERSION: &str = "4.3.0";

/// How long the harness waits for a broker to serve, or for a topic to be in sync. A start takes about five seconds
/// on two idle cores; much more when tests run beside it.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct RealConfig {
    brokers: u8,
    version: String,
    common: Vec<(String, String)>,
    per_broker: Vec<(i32, String, String)>,
    secure: bool,
    users: Vec<(String, String)>,
    keep: bool,
}

impl Default for RealConfig {
    /// Three brokers of [`DEFAULT_VERSION`]; replication factor 3, `min.insync.replicas` 2, no automatic topics.
    fn default() -> Self {
        let (common, per_broker, users) = (Vec::new(), Vec::new(), Vec::new());
        Self { brokers: 3, version: DEFAULT_VERSION.into(), common, per_broker, secure: false, users, keep: false }
    }
}

impl RealConfig {
    /// Number of brokers, 1 to 9; their ids begin at 1. With fewer than three, internal topics have as many replicas
    /// as there are brokers, and `min.insync.replicas` is 1.
    #[must_use]
    pub fn brokers(mut self, brokers: u8) -> Self {
        self.brokers = brokers;
        self
    }

    /// Kafka's version, fetched by Maven when it is not on this machine yet. 2.8.x runs with one ZooKeeper beside it.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// A broker setting for all brokers. The last one given for a key counts, also against the harness' own.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.common.push((key.into(), value.into()));
        self
    }

    /// A broker setting for the broker `id` alone.
    #[must_use]
    pub fn broker_config(mut self, id: i32, key: &str, value: &str) -> Self {
        self.per_broker.push((id, key.into(), value.into()));
        self
    }

    /// The listeners `SSL`, `MUTUAL` (SSL that requires the client's certificate), `SASL_PLAINTEXT` and `SASL_SSL` beside
    /// `PLAINTEXT`, with certificates made for this cluster: see [`RealCluster::bootstrap_of`]. The brokers themselves, this
    /// harness and the controllers stay on `PLAINTEXT`, as `User:ANONYMOUS`.
    ///
    /// The mechanisms are PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER with unsigned tokens (RFC 7515, A.5).
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Who may come in by PLAIN and SCRAM, of a cluster that is [`secure`](Self::secure); may be given several times. A
    /// password has neither `"` nor a backslash.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Keeps the brokers' logs when the cluster is dropped, as is always done when the test panicked.
    #[must_use]
    pub fn keep_logs(mut self) -> Self {
        self.keep = true;
        self
    }
}

/// What a broker's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// It runs; whether it serves is another question, see [`RealCluster::wait_ready`].
    Running,
    /// It was paused: the process hangs and its connections stay open.
    Paused,
    /// There is no process.
    Stopped,
}

/// A running cluster. All methods block; a test on tokio that must go on meanwhile calls them in `spawn_blocking`.
///
/// Dropping it kills the brokers, and removes their data and (unless the test panicked) their logs.
#[derive(Debug)]
pub struct RealCluster {
    dir: PathBuf,
    bootstrap: Vec<String>,
    certificates: Option<Certificates>,
    /// Absent for a cluster that somebody else started, and ends.
    _guard: Option<Guard>,
}

impl RealCluster {
    /// Makes a cluster and waits until all its brokers serve, about six seconds when the machine is idle.
    ///
    /// # Errors
    /// [`HarnessError::Script`] when there is no Java, the jars cannot be fetched or a broker ends; its text says
    /// which, and where the log is.
    pub fn start(config: RealConfig) -> Result<Self, HarnessError> {
        let dir = fresh_dir()?;
        let guard = Guard::start(&dir, config.keep)?;
        let mut args = vec!["--brokers".into(), config.brokers.to_string(), "--version".into(), config.version];
        for (key, value) in config.common {
            args.extend(["--config".into(), format!("{key}={value}")]);
        }
        for (id, key, value) in config.per_broker {
            args.extend(["--broker-config".into(), format!("{id}:{key}={value}")]);
        }
        let certificates = config.secure.then(|| Certificates::create(&dir.join("certs"))).transpose()?;
        if let Some(certificates) = &certificates {
            args.extend(["--secure".into(), certificates.folder.display().to_string()]);
        }
        for (name, password) in &config.users {
            args.extend(["--user".into(), format!("{name}:{password}")]);
        }
        script(&dir, "start", &args)?;
        let cluster = Self { bootstrap: read_bootstrap(&dir, "bootstrap")?, dir, certificates, _guard: Some(guard) };
        cluster.wait_ready()?;
        for (name, password) in &config.users {
            cluster.scram_user(name, password)?;
        }
        Ok(cluster)
    }

    /// Takes part in a cluster that `scripts/kafka start --dir` made. It goes on when this value is dropped.
    ///
    /// # Errors
    /// [`HarnessError::Io`] when there is no cluster in `dir`.
    pub fn attach(dir: &Path) -> Result<Self, HarnessError> {
        Ok(Self { dir: dir.into(), bootstrap: read_bootstrap(dir, "bootstrap")?, certificates: None, _guard: None })
    }

    /// `host:port` of every broker's listener of this name, in the order of their ids.
    ///
    /// # Panics
    /// When the cluster has no such listener: it was not started with [`RealConfig::secure`].
    #[must_use]
    #[expect(clippy::panic, reason = "a test that names a listener which does not exist is wrong, not unlucky")]
    pub fn bootstrap_of(&self, listener: &str) -> Vec<String> {
        match read_bootstrap(&self.dir, &format!("bootstrap.{listener}")) {
            Ok(addresses) => addresses,
            Err(error) => panic!("no listener {listener}: {error}"),
        }
    }

    /// The cluster's authority, and the folder with its files.
    ///
    /// # Panics
    /// When the cluster was not started here with [`RealConfig::secure`].
    #[must_use]
    #[expect(clippy::panic, reason = "a test that asks for certificates that do not exist is wrong, not unlucky")]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().unwrap_or_else(|| panic!("no certificates: use RealConfig::secure"))
    }

    /// PEM file with the authority that signed the brokers' certificates: what clients are to trust.
    ///
    /// # Panics
    /// As [`certificates`](Self::certificates).
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.certificates().folder.join("ca.pem")
    }

    /// `host:port` of every broker, in the order of their ids.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        self.bootstrap.clone()
    }

    /// The ids, 1 to the number of brokers.
    pub fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        (1..).take(self.bootstrap.len())
    }

    /// `host:port` of one broker.
    ///
    /// # Panics
    /// When the cluster has no broker `id`.
    #[must_use]
    #[expect(clippy::panic, reason = "a test that names a broker which does not exist is wrong, not unlucky")]
    pub fn address(&self, id: i32) -> &str {
        let index = usize::try_from(id - 1).ok().filter(|&index| index < self.bootstrap.len());
        let Some(index) = index else { panic!("no broker {id}: ids are 1 to {}", self.bootstrap.len()) };
        &self.bootstrap[index]
    }

    /// Folder of this cluster: `1/broker.log`, `1/server.properties`, `1/data` and so on; `--dir` of `scripts/kafka`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `log.dirs` of a broker: one folder for each partition, `topic-0` and so on.
    #[must_use]
    pub fn log_dir(&self, id: i32) -> PathBuf {
        self.dir.join(id.to_string()).join("data")
    }

    /// The log that a broker writes about itself.
    #[must_use]
    pub fn broker_log(&self, id: i32) -> PathBuf {
        self.dir.join(id.to_string()).join("broker.log")
    }

    /// SIGTERM: the broker hands its leaderships over and ends; SIGKILL when it has not after 20 seconds.
    ///
    /// # Errors
    /// [`HarnessError::Script`]; not when the broker does not run.
    pub fn stop(&self, id: i32) -> Result<(), HarnessError> {
        self.script("stop", &[id.to_string()])
    }

    /// SIGKILL. Returns when the process is gone.
    ///
    /// # Errors
    /// [`HarnessError::Script`]; not when the broker does not run.
    pub fn kill(&self, id: i32) -> Result<(), HarnessError> {
        self.script("kill", &[id.to_string()])
    }

    /// SIGKILL for all at once.
    ///
    /// # Errors
    /// [`HarnessError::Script`].
    pub fn kill_all(&self) -> Result<(), HarnessError> {
        self.script("kill", &[])
    }

    /// SIGSTOP: the process hangs, its connections stay open. The others count it out after four seconds.
    ///
    /// # Errors
    /// [`HarnessError::Script`] when the broker does not run.
    pub fn pause(&self, id: i32) -> Result<(), HarnessError> {
        self.script("pause", &[id.to_string()])
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`HarnessError::Script`] when the broker does not run.
    pub fn resume(&self, id: i32) -> Result<(), HarnessError> {
        self.script("resume", &[id.to_string()])
    }

    /// Starts a broker again over its data, and waits until it serves and the others know it. Without a majority of
    /// the brokers none can serve: then it only starts the process.
    ///
    /// After [`kill`](Self::kill) this takes up to four seconds more: the session of the dead one must end first.
    ///
    /// # Errors
    /// [`HarnessError::Script`], and [`HarnessError::Timeout`] when it does not serve.
    pub fn start_broker(&self, id: i32) -> Result<(), HarnessError> {
        self.script("start", &["--no-wait".into(), id.to_string()])?;
        let running = self.running()?.len();
        if running * 2 > self.bootstrap.len() { self.wait_ready() } else { Ok(()) }
    }

    /// Starts whatever does not run, at once, and waits until all serve.
    ///
    /// # Errors
    /// As [`start_broker`](Self::start_broker).
    pub fn start_all(&self) -> Result<(), HarnessError> {
        self.script("start", &["--no-wait".into()])?;
        self.wait_ready()
    }

    /// Resumes what is paused, starts what does not run, and waits until all serve.
    ///
    /// # Errors
    /// As [`start_broker`](Self::start_broker).
    pub fn heal(&self) -> Result<(), HarnessError> {
        let states = self.states()?;
        for (id, _) in states.iter().filter(|(_, state)| *state == BrokerState::Paused) {
            self.resume(*id)?;
        }
        if states.iter().any(|(_, state)| *state == BrokerState::Stopped) {
            self.script("start", &["--no-wait".into()])?;
        }
        self.wait_ready()
    }

    /// What each broker's process does.
    ///
    /// # Errors
    /// [`HarnessError::Script`].
    pub fn states(&self) -> Result<Vec<(i32, BrokerState)>, HarnessError> {
        let mut command = script_command(&self.dir, "status");
        let output = command.output().map_err(|cause| io_error("running scripts/kafka status", cause))?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let states: Vec<_> = lines.lines().filter_map(parse_status).collect();
        if states.len() == self.bootstrap.len() {
            return Ok(states);
        }
        Err(HarnessError::Script { command: "status".into(), message: text_of(&output.stderr) })
    }

    /// Waits until every broker that runs answers, and knows exactly the brokers that run as alive. Paused brokers
    /// count as not running here.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] with the last thing seen.
    pub fn wait_ready(&self) -> Result<(), HarnessError> {
        let states = self.running()?;
        self.wait_for(&format!("brokers {states:?} serving"), || {
            let running = self.running()?;
            for &id in &running {
                let address = self.address(id);
                if let Err(cause) = wire::call(address, &ApiVersionsRequest::default(), 0) {
                    return Ok(Err(format!("broker {id} at {address} does not answer: {cause}")));
                }
                match wire::call(address, &MetadataRequest::default().with_topics(Some(Vec::new())), 9) {
                    Ok(metadata) => {
                        let mut known: Vec<i32> = metadata.brokers.iter().map(|broker| broker.node_id.0).collect();
                        known.sort_unstable();
                        if known != running {
                            return Ok(Err(format!("broker {id} knows brokers {known:?} as alive")));
                        }
                    }
                    Err(cause) => return Ok(Err(format!("broker {id} at {address} gives no metadata: {cause}"))),
                }
            }
            Ok(Ok(()))
        })
    }

    fn running(&self) -> Result<Vec<i32>, HarnessError> {
        let running = |(id, state)| (state == BrokerState::Running).then_some(id);
        Ok(self.states()?.into_iter().filter_map(running).collect())
    }

    fn script(&self, verb: &str, args: &[String]) -> Result<(), HarnessError> {
        script(&self.dir, verb, args)
    }

    /// Polls until `reached` says `Ok(Ok)`; its inner error tells what was seen instead.
    #[expect(clippy::disallowed_methods, reason = "the harness waits for real processes")]
    pub(super) fn wait_for<T>(
        &self,
        awaited: &str,
        mut reached: impl FnMut() -> Result<Result<T, String>, HarnessError>,
    ) -> Result<T, HarnessError> {
        let begin = Instant::now();
        loop {
            let last = match reached()? {
                Ok(value) => return Ok(value),
                Err(last) => last,
            };
            if begin.elapsed() > SERVES_WITHIN {
                let logs = self.dir.display().to_string();
                return Err(HarnessError::Timeout { awaited: awaited.into(), after: SERVES_WITHIN, last, logs });
            }
            thread::sleep(POLL);
        }
    }
}

/// The process at the other end of a pipe, which kills the brokers when the pipe closes.
#[derive(Debug)]
struct Guard {
    process: Child,
    keep: bool,
}

impl Guard {
    fn start(dir: &Path, keep: bool) -> Result<Self, HarnessError> {
        let mut command = script_command(dir, "guard");
        // Not in the group of the test: Ctrl-C is for the test, and the guard notices its end.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|cause| io_error("starting scripts/kafka guard", cause))?;
        Ok(Self { process, keep })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let pipe = self.process.stdin.take();
        if let Some(mut pipe) = pipe.filter(|_| !self.keep && !thread::panicking()) {
            // When this fails the logs stay, which harms nobody.
            let _ = pipe.write_all(b"remove\n");
        }
        let _ = self.process.wait();
    }
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka")
}

fn script_command(dir: &Path, verb: &str) -> Command {
    let mut command = Command::new(script_path());
    command.arg(verb).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

fn script(dir: &Path, verb: &str, args: &[String]) -> Result<(), HarnessError> {
    let output = script_command(dir, verb)
        .args(args)
        .output()
        .map_err(|cause| io_error(&format!("running {}", script_path().display()), cause))?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::Script { command: format!("{verb} {}", args.join(" ")), message: text_of(&output.stderr) })
}

/// A folder under `target/`, where nobody minds big files that a killed test leaves.
fn fresh_dir() -> Result<PathBuf, HarnessError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kafka");
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = base.join(name);
    // Logs of an earlier test whose process had our number.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)
        .and_then(|()| dir.canonicalize())
        .map_err(|cause| io_error(&format!("making the folder {}", dir.display()), cause))
}

fn read_bootstrap(dir: &Path, name: &str) -> Result<Vec<String>, HarnessError> {
    let path = dir.join(name);
    let list = fs::read_to_string(&path).map_err(|cause| io_error(&format!("reading {}", path.display()), cause))?;
    Ok(list.trim().split(',').map(str::to_owned).collect())
}

/// One line of `scripts/kafka status`: id, state, pid, address, log.
fn parse_status(line: &str) -> Option<(i32, BrokerState)> {
    let mut words = line.split_whitespace();
    let id = words.next()?.parse().ok()?;
    let state = match words.next()? {
        "running" => BrokerState::Running,
        "paused" => BrokerState::Paused,
        "stopped" => BrokerState::Stopped,
        _ => return None,
    };
    Some((id, state))
}

fn text_of(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim().into()
}

pub(super) fn io_error(place: &str, cause: std::io::Error) -> HarnessError {
    HarnessError::Io { place: place.into(), cause }
}
