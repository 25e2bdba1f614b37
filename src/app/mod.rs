//! Wiring: from a configuration to a process that serves, and to its end.

mod collector;
mod drain;
mod errands;
mod error;
mod files;
mod handover;
mod keeper;
mod keys;
mod listen;
mod operator;
mod orders;
mod pages;
mod ready;
mod resources;
mod server;
mod serving;
mod watch;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use self::errands::{Errand, Errands};
pub use self::error::StartError;
use self::files::Files;
use self::keeper::Keeper;
pub use self::keys::{Missing, keyring, new_secret, write as write_secret};
pub use self::listen::Bound;
use self::operator::{Operator, Task};
use self::orders::{Order, Orders, Signalled};
use self::server::{Control, Keep, Running};
pub use self::server::{ExtraService, extra_service};
use self::serving::{End, Serving};
use self::watch::{Fingerprint, Watch};
pub use self::worker::{Begin, WorkError, work};
use crate::admin::command::{Command, Commands};
use crate::admin::{self, Admin};
use crate::balancer::administrative::Administrative;
use crate::balancer::affinity::keyring::Keyring;
use crate::balancer::carry::Carried;
use crate::balancer::state::Event;
use crate::config::Config;
use crate::health::Health;
use crate::proxy::Proxy;
use crate::proxy::gate::{Closed, Short};
use crate::shared::{Clock, Events};
use crate::supervisor::channel::Channel;
use crate::supervisor::message::{FromWorker, ToWorker};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, Sources};
use crate::wire::proxied::Refused;

/// How long the main thread waits for an order before it looks whether the server still runs.
const LOOK: Duration = Duration::from_secs(1);

/// The same while stopping, when the end of the last connection ends the process.
const LOOK_STOPPING: Duration = Duration::from_millis(20);

/// How long answers to the operator may take when all else is done.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How long the last report to a successor may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(4);

/// Tasks of the supervisor's that may wait for the operator.
const TASKS_MAX: usize = 64;

/// A Homing whose addresses are bound and whose files are open: what can fail has not.
pub struct Edge {
    config: Config,
    keyring: Keyring,
    bound: Bound,
    access_log: Arc<AccessLog>,
    extra: Vec<ExtraService>,
    origin: Origin,
}

/// Where a process comes from.
#[derive(Default)]
struct Origin {
    /// The file of the configuration, and what it looked like when it was read.
    file: Option<(PathBuf, Fingerprint)>,
    /// Its text, to be kept when the process serves.
    source: Option<String>,
    supervisor: Option<Arc<Channel>>,
    /// What the operator wants.
    administrative: Administrative,
    /// What the process before this one knew.
    carried: Option<Carried>,
}

impl Edge {
    /// Binds every address and opens every file, for a process without a supervisor.
    ///
    /// # Errors
    /// When an address is taken, a file cannot be opened, or the keys cannot be had.
    pub fn prepare(config: Config) -> Result<Self, StartError> {
        let keyring = keyring(&config, Missing::Make)?;
        let bound = Bound::bind(&config)?;
        Self::on(config, keyring, bound)
    }

    /// Opens every file; the addresses are bound.
    fn on(config: Config, keyring: Keyring, bound: Bound) -> Result<Self, StartError> {
        let access_log = AccessLog::open(&config.access_log);
        let access_log = access_log
            .map_err(|error| StartError::AccessLog(config.access_log.target.clone(), error))?;
        let (extra, origin) = (Vec::new(), Origin::default());
        Ok(Self { config, keyring, bound, access_log, extra, origin })
    }

    /// Runs another service beside.
    pub fn add_service(&mut self, service: ExtraService) {
        self.extra.push(service);
    }

    /// The addresses, as they were bound.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// When a signal cannot be caught, or the server ends by itself.
    pub fn run(self) -> Result<(), StartError> {
        let orders = Orders::catch(Signalled::Alone).map_err(StartError::System)?;
        let process = self.start()?;
        process.serving.gates.open_clients();
        process.serving.gates.open_admin();
        process.run(&orders)
    }

    /// Starts everything. Nobody is let in yet.
    fn start(self) -> Result<Process, StartError> {
        let Self { config, keyring, bound, access_log, extra, origin } = self;
        let clock = Clock::start();
        let serving = Arc::new(Serving::new(&config, clock, access_log));
        let (events, received) = Events::channel();
        let published = &serving.published;

        let spec = config.spec(keyring, clock.unix().as_secs());
        let (mut keeper, line) = Keeper::new(received, Arc::clone(published), clock);
        let configured = Event::Configured(Box::new(spec.clone()));
        let wanted = origin.administrative.events(clock.monotonic(), clock.unix());
        let restored = origin.carried.map(|carried| Event::Restored(Box::new(carried)));
        keeper.begin([configured].into_iter().chain(wanted).chain(restored));
        published.want(origin.administrative.clone());

        let (commands, asked) = Commands::channel();
        let (tasks, told) = mpsc::channel(TASKS_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let admin = admin(&serving, &commands, &stopping)?;
        let (path, read) = origin.file.unzip();
        let operator = Operator {
            watch: Watch::new(read.unwrap_or_else(|| Fingerprint::unread(Path::new("")))),
            path,
            spec,
            administrative: origin.administrative,
            files: Files::new(&config.state_dir),
            keeper: line,
            serving: Arc::clone(&serving),
            supervisor: origin.supervisor.clone(),
            commands: asked,
            tasks: told,
            state: operator::State::begun_with(origin.source),
            config: config.clone(),
        };
        let control = admin::Control(Arc::clone(&admin));
        let (errands, errand) = Errands::new(control, Arc::clone(&serving), events.clone());
        let proxy = Proxy {
            published: Arc::clone(published),
            events: events.clone(),
            clock,
            access_log: Arc::clone(&serving.access_log),
            unrouted: Arc::clone(&serving.unrouted),
            fetched: Arc::clone(&serving.pages.fetched),
            issued: Arc::clone(&serving.acme.issued),
            spans: Arc::clone(&serving.collector.spans),
            gate: Arc::clone(serving.connections.gate()),
            rates: Arc::clone(&serving.rates),
        };
        let health = Health { published: Arc::clone(published), events, clock };
        let keep = Keep { keeper: Mutex::new(keeper), ended: Arc::clone(&ended) };
        let control = Control {
            operator: Mutex::new(operator),
            errands: Mutex::new(errands),
            health,
            serving: Arc::clone(&serving),
            ended: Arc::clone(&ended),
        };

        bound.announce();
        let own = Arc::clone(&admin);
        let running = Running::start(&config, bound, proxy, own, keep, control, extra)?;
        let supervisor = origin.supervisor;
        Ok(Process {
            serving,
            running,
            admin,
            stopping,
            ended,
            commands,
            tasks,
            errand,
            supervisor,
        })
    }
}

fn admin(
    serving: &Arc<Serving>,
    commands: &Commands,
    stopping: &Arc<AtomicBool>,
) -> Result<Arc<Admin>, StartError> {
    let counted = Arc::clone(&serving.connections);
    let faulty = Arc::clone(&serving.connections);
    let gate = Arc::clone(counted.gate());
    let weighed = Arc::clone(&gate);
    let listeners = Arc::clone(&serving.listeners);
    let shown = Arc::clone(&listeners);
    let short = move || Short::ALL.map(|short| (short.as_str(), weighed.is_short_of(short)));
    let sources = Sources {
        published: Arc::clone(&serving.published),
        unrouted: Arc::clone(&serving.unrouted),
        connections: Box::new(move || (counted.open() as u64, counted.accepted())),
        http2_faults: Box::new(move || faulty.frame_faults().counts().collect()),
        closed: Box::new(move || {
            Closed::ALL.map(|reason| (reason.as_str(), gate.closed(reason))).to_vec()
        }),
        unproxied: Box::new(move || {
            Refused::ALL.map(|reason| (reason.as_str(), listeners.refused(reason))).to_vec()
        }),
        short: Box::new(short.clone()),
        access_log: Arc::clone(&serving.access_log),
        tallies: Arc::clone(&serving.tallies),
        issued: Arc::clone(&serving.acme.issued),
        handshakes: Arc::clone(serving.listeners.tally()),
        certificates: Box::new(move || shown.certificates()),
    };
    Ok(Arc::new(Admin {
        published: Arc::clone(&serving.published),
        metrics: Metrics::new(sources).map_err(StartError::Metrics)?,
        stopping: Arc::clone(stopping),
        was_ready: AtomicBool::new(false),
        short: Box::new(short),
        clock: serving.clock,
        issued: Arc::clone(&serving.acme.issued),
        commands: commands.clone(),
        api: Arc::clone(&serving.api),
    }))
}

/// A process that serves, as its main thread sees it.
struct Process {
    serving: Arc<Serving>,
    running: Running,
    admin: Arc<Admin>,
    stopping: Arc<AtomicBool>,
    /// Whether the tasks that serve no request ended.
    ended: Arc<AtomicBool>,
    commands: Commands,
    tasks: mpsc::Sender<Task>,
    errand: errands::Sender,
    supervisor: Option<Arc<Channel>>,
}

impl Process {
    /// Follows orders until one of them, or the end of the server, ends the process.
    fn run(self, orders: &Orders) -> Result<(), StartError> {
        let result = self.follow(orders);
        // Before the last report, which counts them.
        self.serving.collector.flush();
        self.flush();
        self.serving.access_log.close();
        result
    }

    fn follow(&self, orders: &Orders) -> Result<(), StartError> {
        loop {
            let finishing = self.serving.drain.has_begun();
            match orders.next(if finishing { LOOK_STOPPING } else { LOOK }) {
                Some(Order::Interrupt) => {
                    tracing::info!("interrupted: ending at once");
                    return Ok(());
                }
                Some(Order::Nothing(name)) => {
                    tracing::warn!("{name} means nothing to this process and is ignored");
                }
                Some(Order::Reopen) => self.serving.access_log.reopen(),
                Some(Order::Orphaned) => {
                    tracing::warn!("the supervisor is gone: finishing");
                    // Whoever comes next needs the address.
                    self.serving.gates.end_admin();
                    self.stop();
                }
                Some(Order::Terminate) => self.stop(),
                Some(Order::Told(told, fd)) => self.on_told(told, fd),
                None => {}
            }
            if let Some(left) = self.serving.drain.over()
                && self.serving.has_answered(ANSWER_LIMIT)
            {
                tracing::info!(connections_cut = left, "stopped");
                return Ok(());
            }
            let ended = self.running.has_ended() || self.ended.load(Ordering::Relaxed);
            if ended && !self.serving.drain.has_begun() {
                return Err(StartError::Ended);
            }
        }
    }

    fn on_told(&self, told: ToWorker, fd: Option<std::os::fd::OwnedFd>) {
        match (told, fd) {
            (ToWorker::Control, Some(fd)) => self.send(Errand::Control(fd)),
            (ToWorker::GiveState, Some(fd)) => self.task(Task::GiveState(fd)),
            (ToWorker::Predecessor { pid }, Some(fd)) => self.send(Errand::Predecessor(pid, fd)),
            (ToWorker::Finish, fd) => self.finish(fd),
            (ToWorker::Serve(tally), _) => {
                self.serving.tally(tally);
                self.task(Task::Serves);
                self.send(Errand::Named);
            }
            (ToWorker::Gone { pid }, _) => self.serving.is_gone(pid),
            (ToWorker::Tally(tally), _) => {
                self.serving.tally(tally);
                self.task(Task::Settled);
            }
            (ToWorker::Restarted { ticket, outcome }, _) => {
                self.task(Task::Restarted(ticket, outcome));
            }
            (ToWorker::Reload, _) => self.commands.offer(Command::Reload),
            (ToWorker::Reopen, _) => self.serving.access_log.reopen(),
            (ToWorker::Stop, _) => self.stop(),
            (
                ToWorker::Begin
                | ToWorker::Control
                | ToWorker::GiveState
                | ToWorker::Predecessor { .. }
                | ToWorker::Refused { .. }
                | ToWorker::Socket,
                _,
            ) => tracing::warn!("the supervisor says what makes no sense now"),
        }
    }

    /// Everything stops; the admin listener tells of it until the last moment.
    fn stop(&self) {
        if !self.stopping.swap(true, Ordering::Relaxed) {
            tracing::info!("stopping: no new connections, running requests finish");
        }
        self.task(Task::Ending);
        self.end(End::Stop);
    }

    /// Another process serves from now on.
    fn finish(&self, heir: Option<std::os::fd::OwnedFd>) {
        let first = !self.serving.drain.has_begun();
        // Nobody reads our counters from now on but the successor; whoever asked just before is told no
        // more than what it will be.
        self.serving.gates.end_admin();
        self.end(End::Restart);
        self.admin.metrics.settle();
        if let Some(fd) = heir {
            self.send(Errand::Report(fd));
        }
        if first {
            tracing::info!("replaced: running requests finish");
        }
    }

    /// Accepts nobody any more, and gives what runs its time.
    fn end(&self, why: End) {
        let limit = self.serving.grace_period(why);
        self.serving.drain.begin(limit);
        self.running.stop();
        if let Some(supervisor) = &self.supervisor {
            let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let _gone = supervisor.send(&FromWorker::Finishing { limit_ms }, None);
        }
    }

    fn send(&self, errand: Errand) {
        let _ending = self.errand.blocking_send(errand);
    }

    fn task(&self, task: Task) {
        let _ending = self.tasks.blocking_send(task);
    }

    /// Sees to it that a successor knows all that was counted.
    fn flush(&self) {
        let (done, flushed) = std::sync::mpsc::channel();
        self.send(Errand::Flush(done));
        let _nobody_listens_or_late = flushed.recv_timeout(FLUSH_LIMIT);
    }
}
