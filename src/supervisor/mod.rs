//! The process that stays: it owns the listening sockets, and keeps one worker serving on them.
//!
//! It has no threads, runs no Pingora and reads no configuration, so that a new version, or a new
//! file, is always read by a new worker. A worker asks for the addresses it wants; the supervisor binds
//! them, hands the sockets over, and waits until the worker says that it serves. Only then is the one
//! before told to finish. Whatever fails before that moment changes nothing.

pub mod channel;
mod home;
pub mod message;
mod notify;
mod signals;
mod sockets;
mod worker;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, wait};

pub use self::home::endpoint_name;
use self::home::{CONTROL, Home};
use self::message::{FromWorker, PROTOCOL, Tally, ToWorker, Wants};
use self::notify::notify;
use self::signals::{Signal, Signals};
pub use self::sockets::BindError;
use self::sockets::Sockets;
use self::worker::{Program, Role, Start, Worker, introduce};
use crate::shared::Clock;

/// The first pause before another worker is started for one that never served, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A worker that served for less than this counts as one that never did.
const SERVED_MIN: Duration = Duration::from_secs(1);

/// How long those who connected in the last moment have to be accepted before a stop goes on.
const LAST_ACCEPTS: Duration = Duration::from_millis(50);

/// Most workers that finish at one time; a restart beyond that is refused. Each takes some 20 MiB.
pub const FINISHING_MAX: usize = 64;

/// How long a worker may take to say that it finishes, and to end when its time is over. One that hangs
/// is ended then.
const HANG_LIMIT: Duration = Duration::from_secs(10);

/// Most of those who connected to the control socket that are seen to at one time.
const CONTROLS_MAX: usize = 64;

/// The process that stays.
#[derive(Debug)]
pub struct Supervisor {
    program: Program,
    /// How long a worker may take until it serves.
    start_limit: Duration,
    clock: Clock,
    signals: Signals,
    sockets: Sockets,
    home: Option<Home>,
    workers: Vec<Worker>,
    /// Who asked for the restart that runs: a worker, and its ticket.
    asked: Option<(u32, u64)>,
    /// Workers in a row that never served.
    failures: u32,
    /// When the next is started.
    next_start: Option<Duration>,
    /// Why no worker serves, for those who ask.
    trouble: String,
    /// Whether the next replacement begins with the configuration that was accepted last, or with the
    /// file: when one does not serve, the other may.
    recover: bool,
    stop: Stop,
    tally: Tally,
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    No,
    /// Nobody new may queue; at this time the workers are told.
    Begun(Duration),
    Told,
}

/// Why the supervisor ends, other than by command.
#[derive(Debug)]
pub enum SupervisorError {
    /// The first worker cannot start: why, and the exit code that says so.
    First(String, u8),
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for SupervisorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(text, _) => f.write_str(text),
            Self::System(error) => write!(f, "error: the system refuses: {error}"),
        }
    }
}

impl std::error::Error for SupervisorError {}

impl From<io::Error> for SupervisorError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Supervisor {
    /// Gets ready to keep a worker for this configuration, each to serve within `start_limit`.
    ///
    /// # Errors
    /// When signals cannot be caught, or what the service manager handed over makes no sense.
    pub fn new(config: &Path, start_limit: Duration) -> Result<Self, SupervisorError> {
        Ok(Self {
            program: Program::called(config)?,
            start_limit,
            clock: Clock::start(),
            signals: Signals::catch()?,
            sockets: Sockets::given()?,
            home: None,
            workers: Vec::new(),
            asked: None,
            failures: 0,
            next_start: None,
            trouble: String::new(),
            recover: true,
            stop: Stop::No,
            tally: Tally::default(),
        })
    }

    /// Keeps a worker serving until a signal ends the service.
    ///
    /// # Errors
    /// When the first worker cannot start.
    pub fn run(mut self) -> Result<(), SupervisorError> {
        self.start(Start::First).map_err(|text| SupervisorError::First(text, 1))?;
        loop {
            self.wait()?;
            for signal in self.signals.take() {
                if signal == Signal::Interrupt {
                    tracing::info!("interrupted: ending at once");
                    self.workers.iter_mut().for_each(Worker::kill);
                    return Ok(());
                }
                self.on_signal(signal);
            }
            self.control();
            self.hear();
            self.reap()?;
            self.look_at_the_clock();
            if self.stop == Stop::Told && self.workers.is_empty() {
                tracing::info!("stopped");
                return Ok(());
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let now = self.clock.monotonic();
        let left = self.next_look().map(|at| at.saturating_sub(now));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let read = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![read(self.signals.readable())];
        fds.extend(self.home.iter().map(|home| read(home.control().as_fd())));
        fds.extend(self.workers.iter().filter_map(Worker::readable).map(read));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// When something is due.
    fn next_look(&self) -> Option<Duration> {
        let ends = self.workers.iter().filter_map(|worker| worker.end_by);
        let stop = match self.stop {
            Stop::Begun(at) => Some(at),
            Stop::No | Stop::Told => None,
        };
        ends.chain(self.next_start).chain(stop).min()
    }

    fn look_at_the_clock(&mut self) {
        let now = self.clock.monotonic();
        for worker in &mut self.workers {
            if worker.end_by.take_if(|at| *at <= now).is_none() {
                continue;
            }
            if worker.is_starting() {
                let text = format!("error: the worker did not serve within {:?}", self.start_limit);
                worker.failure.get_or_insert((text, 1));
            } else {
                tracing::error!(worker = worker.pid(), "the worker does not end: ending it");
            }
            worker.kill();
        }
        if self.next_start.take_if(|at| *at <= now).is_some()
            && let Err(text) = self.start(Start::Replacement)
        {
            self.never_served(text);
        }
        if let Stop::Begun(at) = self.stop
            && at <= now
        {
            self.stop = Stop::Told;
            self.sockets.keep(&[]);
            for worker in &mut self.workers {
                let told = worker.tell(&ToWorker::Stop, None);
                worker.end_by = Some(if told { now + HANG_LIMIT } else { now });
            }
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Interrupt => {}
            Signal::Reload => match self.serving() {
                Some(worker) => drop(worker.tell(&ToWorker::Reload, None)),
                None => tracing::warn!("no worker runs that could reload"),
            },
            Signal::Reopen => self.workers.iter().for_each(|worker| {
                worker.tell(&ToWorker::Reopen, None);
            }),
            Signal::Restart => {
                if let Err(text) = self.restart(None) {
                    tracing::error!("restart refused: {text}");
                }
            }
            Signal::Terminate => self.begin_stop(),
        }
    }

    fn begin_stop(&mut self) {
        if self.stop != Stop::No {
            return;
        }
        tracing::info!("stopping: no new connections, running requests finish");
        notify("STOPPING=1");
        self.stop = Stop::Begun(self.clock.monotonic() + LAST_ACCEPTS);
        self.next_start = None;
        self.sockets.refuse_more();
        self.workers.iter_mut().filter(|worker| worker.is_starting()).for_each(Worker::kill);
        // The worker that asked for a restart does not end before its answer is given.
        let asked = self.asked.take();
        self.answer(asked, Err("Homing is stopping".into()));
    }

    /// The worker that accepts clients.
    fn serving(&self) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.is_serving())
    }

    fn worker(&self, pid: u32) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.pid() == pid)
    }

    fn worker_mut(&mut self, pid: u32) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.pid() == pid)
    }

    fn start(&mut self, why: Start) -> Result<(), String> {
        let until = self.clock.monotonic() + self.start_limit;
        let recover = why == Start::Replacement && self.recover;
        let state_dir = self.home.as_ref().map(Home::path).filter(|_| recover);
        let worker = Worker::start(&self.program, why, state_dir, until)
            .map_err(|error| format!("error: cannot run {}: {error}", self.program.path.display()));
        let worker = worker?;
        tracing::debug!(worker = worker.pid(), ?why, "worker started");
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a successor; `asked`: who wants to hear how it went.
    fn restart(&mut self, asked: Option<(u32, u64)>) -> Result<(), String> {
        if self.stop != Stop::No {
            return Err("Homing is stopping".into());
        }
        if self.workers.iter().any(Worker::is_starting) {
            return Err("a restart is under way already".into());
        }
        let finishing = self.workers.iter().filter(|worker| worker.role == Role::Finishing).count();
        if finishing >= FINISHING_MAX {
            return Err(format!(
                "{finishing} replaced workers still finish what they have; `homing status` lists \
                 them, and `server.restart_grace_period` limits them"
            ));
        }
        let why = if self.serving().is_some() { Start::Restart } else { Start::Replacement };
        // Whoever asks for it wants the file as it is.
        self.recover = false;
        if let Err(text) = self.start(why) {
            if why == Start::Restart {
                self.count_failed_restart();
            }
            return Err(text);
        }
        tracing::info!("restarting");
        self.next_start = None;
        self.asked = asked;
        Ok(())
    }

    /// Hands those who connected to the control socket to the worker that serves.
    fn control(&mut self) {
        let Some(home) = &self.home else { return };
        for stream in std::iter::from_fn(|| home.accept()).take(CONTROLS_MAX) {
            let told = self
                .serving()
                .is_some_and(|worker| worker.tell(&ToWorker::Control, Some(stream.as_fd())));
            if !told {
                let _gone = self.turn_away(stream);
            }
        }
    }

    /// Tells somebody that no worker is there to answer.
    fn turn_away(&self, mut stream: UnixStream) -> io::Result<()> {
        // Nobody is waited for: there is a worker to be started.
        stream.set_nonblocking(true)?;
        // An answer to a request that nobody read is lost.
        let _what_they_want = stream.read(&mut [0; 16 << 10]);
        let error = format!("no worker runs: {}", self.trouble);
        let body = serde_json::json!({ "error": error }).to_string();
        write!(
            stream,
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    /// Takes in what the workers say.
    fn hear(&mut self) {
        let ready: Vec<u32> = self
            .workers
            .iter()
            .filter(|worker| worker.readable().is_some_and(is_readable))
            .map(Worker::pid)
            .collect();
        for pid in ready {
            let said = self.worker_mut(pid).and_then(Worker::hear);
            let Some((said, _no_fd)) = said else { continue };
            match said {
                FromWorker::Wants(wants) => self.equip(pid, wants),
                FromWorker::Ready => self.promote(pid),
                FromWorker::Failed { text, exit_code } => {
                    if let Some(worker) = self.worker_mut(pid) {
                        worker.failure = Some((text, exit_code));
                    }
                }
                FromWorker::Finishing { limit_ms } => {
                    let limit = Duration::from_millis(limit_ms).saturating_add(HANG_LIMIT);
                    self.on_finishing(pid, limit);
                }
                FromWorker::Restart { ticket } => {
                    if let Err(text) = self.restart(Some((pid, ticket))) {
                        tracing::error!("restart refused: {text}");
                        self.answer(Some((pid, ticket)), Err(text));
                    }
                }
            }
        }
    }

    /// A worker finishes, for `limit` at most. If nobody told it to, another is needed at once.
    fn on_finishing(&mut self, pid: u32, limit: Duration) {
        let now = self.clock.monotonic();
        let stopping = self.stop != Stop::No;
        let Some(worker) = self.worker_mut(pid) else { return };
        worker.end_by = Some(now.saturating_add(limit));
        if worker.is_serving() && !stopping {
            tracing::warn!(worker = pid, "the worker finishes unasked: starting another");
            worker.role = Role::Finishing;
            self.trouble = "the last one finishes".into();
            self.next_start = Some(now);
        }
    }

    /// Gives a worker what it wants, or tells it why not.
    fn equip(&mut self, pid: u32, wants: Wants) {
        let refused = self.prepare(&wants).err();
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.pid() == pid) else {
            return;
        };
        if let Some(text) = refused {
            worker.tell(&ToWorker::Refused { text }, None);
            return;
        }
        let sockets = self.sockets.of(&wants.addresses);
        let all = sockets.into_iter().all(|socket| worker.tell(&ToWorker::Socket, Some(socket)));
        worker.wants = Some(wants);
        if all && let Err(error) = self.begin(pid) {
            tracing::warn!(worker = pid, %error, "a worker starts without what others know");
        }
    }

    /// Makes sure that what a worker wants is there. Nothing that others use is touched.
    fn prepare(&mut self, wants: &Wants) -> Result<(), String> {
        if wants.protocol != PROTOCOL {
            return Err(format!(
                "version {} cannot take over from the one that runs\n  = help: stop Homing and start it again",
                wants.version
            ));
        }
        match &self.home {
            Some(home) if wants.state_dir.canonicalize().ok().as_deref() != Some(home.path()) => {
                return Err(format!(
                    "`state_dir` cannot change while Homing runs; it is {}\n  = help: stop Homing and start it again",
                    home.path().display()
                ));
            }
            Some(_) => {}
            None => {
                let home = Home::open(&wants.state_dir).map_err(|error| error.to_string())?;
                self.home = Some(home);
            }
        }
        self.sockets.bind(&wants.addresses).map_err(|error| error.to_string())
    }

    /// Lets a worker begin, with what the serving one knows, if there is one.
    fn begin(&self, pid: u32) -> io::Result<()> {
        let Some(worker) = self.worker(pid) else { return Ok(()) };
        let Some(serving) = self.serving() else {
            worker.tell(&ToWorker::Begin, None);
            return Ok(());
        };
        let (read, write) = UnixStream::pair()?;
        serving.tell(&ToWorker::GiveState, Some(write.as_fd()));
        worker.tell(&ToWorker::Begin, Some(read.as_fd()));
        Ok(())
    }

    /// The worker serves: the one before is told to finish.
    fn promote(&mut self, pid: u32) {
        let Some(index) = self.workers.iter().position(|worker| worker.pid() == pid) else {
            return;
        };
        let why = match self.workers[index].role {
            Role::Starting(why) if self.stop == Stop::No => why,
            Role::Starting(_) | Role::Serving { .. } | Role::Finishing => return,
        };
        self.failures = if why == Start::Replacement { self.failures } else { 0 };
        self.tally.restarts += u64::from(why == Start::Restart);
        self.recover = true;
        let now = self.clock.monotonic();
        let mut worker = self.workers.remove(index);
        worker.role = Role::Serving { since: now };
        worker.end_by = None;
        for other in &mut self.workers {
            if other.is_serving() {
                other.role = Role::Finishing;
                other.end_by = Some(now + HANG_LIMIT);
            }
            introduce(&worker, other);
        }
        worker.tell(&ToWorker::Serve(self.tally), None);
        self.sockets.keep(worker.wants.as_ref().map_or(&[], |wants| &wants.addresses));
        let others = self.workers.len();
        self.workers.push(worker);
        tracing::info!(worker = pid, finishing = others, "serving");
        let status = format!("worker {pid} serves, {others} finish");
        notify(&format!("READY=1\nSTATUS={status}"));
        let asked = self.asked.take();
        self.answer(asked, Ok(format!("worker {pid} serves")));
    }

    fn answer(&self, asked: Option<(u32, u64)>, outcome: Result<String, String>) {
        let Some((pid, ticket)) = asked else { return };
        if let Some(worker) = self.worker(pid) {
            worker.tell(&ToWorker::Restarted { ticket, outcome }, None);
        }
    }

    /// Takes leave of workers that ended.
    fn reap(&mut self) -> Result<(), SupervisorError> {
        let mut gone = Vec::new();
        // Any child: as process 1 of a container, those that others left behind are ours, too.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let status = ExitStatus::from_raw(status.as_raw());
            let number = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
            if let Some(index) = self.workers.iter().position(|worker| worker.pid() == number) {
                let mut worker = self.workers.remove(index);
                // Its last words may still be on the line.
                while worker.failure.is_none()
                    && worker.readable().is_some_and(is_readable)
                    && let Some((said, _)) = worker.hear()
                {
                    if let FromWorker::Failed { text, exit_code } = said {
                        worker.failure = Some((text, exit_code));
                    }
                }
                gone.push((worker, status));
            }
        }
        gone.into_iter().try_for_each(|(worker, status)| self.on_end(&worker, status))
    }

    fn on_end(&mut self, worker: &Worker, status: ExitStatus) -> Result<(), SupervisorError> {
        let pid = worker.pid();
        if let Some(home) = &self.home {
            home.clear(pid);
        }
        if let Some(serving) = self.serving() {
            serving.tell(&ToWorker::Gone { pid }, None);
        }
        match worker.role {
            Role::Finishing => tracing::info!(worker = pid, %status, "a replaced worker is done"),
            Role::Serving { .. } if self.stop != Stop::No => {}
            Role::Serving { since } => {
                tracing::error!(worker = pid, %status, "the worker ended unasked: starting another");
                self.tally.crashes += 1;
                let served = self.clock.monotonic().saturating_sub(since);
                let why = format!("the last one ended ({status})");
                if served < SERVED_MIN {
                    self.never_served(why);
                } else {
                    self.failures = 0;
                    self.trouble = why;
                    // A successor that is being started anyway is as good.
                    let starting = self.workers.iter().any(Worker::is_starting);
                    self.next_start = (!starting).then_some(Duration::ZERO);
                }
            }
            Role::Starting(_) if self.stop != Stop::No => {}
            Role::Starting(why) => {
                let unsaid = || (format!("error: the worker ended before it served ({status})"), 1);
                let (text, exit_code) = worker.failure.clone().unwrap_or_else(unsaid);
                self.restore_sockets();
                match why {
                    Start::First => return Err(SupervisorError::First(text, exit_code)),
                    Start::Replacement => self.never_served(text),
                    Start::Restart if self.serving().is_none() => self.never_served(text),
                    Start::Restart => {
                        tracing::error!("restart failed, nothing changed: {text}");
                        self.count_failed_restart();
                        let asked = self.asked.take();
                        self.answer(asked, Err(text));
                    }
                }
            }
        }
        Ok(())
    }

    fn count_failed_restart(&mut self) {
        self.tally.restarts_failed += 1;
        if let Some(serving) = self.serving() {
            serving.tell(&ToWorker::Tally(self.tally), None);
        }
    }

    /// Closes what only a failed successor wanted.
    fn restore_sockets(&mut self) {
        if let Some(wants) = self.serving().and_then(|worker| worker.wants.clone()) {
            self.sockets.keep(&wants.addresses);
        }
    }

    /// Plans another start, later with every failure.
    fn never_served(&mut self, text: String) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        self.recover = !self.recover;
        tracing::error!(retry_in = ?pause, "no worker serves: {text}");
        let status = format!("no worker serves: {}", text.lines().next().unwrap_or(""));
        notify(&format!("STATUS={status}"));
        self.trouble = format!("{text}\nThe next start is tried in {pause:?} at the latest.");
        self.next_start = Some(self.clock.monotonic() + pause);
        let asked = self.asked.take();
        self.answer(asked, Err(text));
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

/// Where commands of the operator find a running Homing.
pub fn control_path(state_dir: &Path) -> PathBuf {
    state_dir.join(CONTROL)
}
