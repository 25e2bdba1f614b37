//! Does what the operator asks, one thing after another: so that no two changes meet.

mod rotation;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Serving;
use super::files::Files;
use super::handover;
use super::keeper::Line;
use super::keys::{Missing, keyring};
use super::watch::{self, Watch};
use crate::admin::command::{Command, Kind, Outcome, Refused, Reply};
use crate::balancer::administrative::{Administrative, Wish};
use crate::balancer::affinity::keyring::Keyring;
use crate::balancer::app::members::AdminState;
use crate::balancer::change::plan::Plan;
use crate::balancer::name::{AppName, BackendId};
use crate::balancer::state::{Event, Spec};
use crate::config::model::{Doubt, Keys};
use crate::config::problem::Report;
use crate::config::{self, Config, settings};
use crate::supervisor::channel::Channel;
use crate::supervisor::message::FromWorker;
use crate::telemetry::access_log;
use crate::tls::Fingerprint;

/// How long the files of a configuration may take to be read. 100,000 apps take a few seconds.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// What the operator works with.
pub(super) struct Operator {
    /// The file of the configuration; `None`: there is none to read again.
    pub(super) path: Option<PathBuf>,
    /// The configuration that was accepted last.
    pub(super) config: Config,
    pub(super) spec: Spec,
    pub(super) administrative: Administrative,
    pub(super) files: Files,
    pub(super) keeper: Line,
    pub(super) serving: Arc<Serving>,
    /// `None`: nobody starts a successor.
    pub(super) supervisor: Option<Arc<Channel>>,
    pub(super) watch: Watch,
    pub(super) commands: mpsc::Receiver<(Command, Reply)>,
    pub(super) tasks: mpsc::Receiver<Task>,
    pub(super) state: State,
}

/// What the operator remembers from one task to the next.
#[derive(Default)]
pub(super) struct State {
    /// Those who wait for the end of a restart, by ticket.
    waiting: HashMap<u64, Reply>,
    tickets: u64,
    /// Whether another process gathers, or has, what is known here: a change made now would be lost.
    handing_over: bool,
    /// The text of the configuration that this process began with, until it serves.
    unkept: Option<String>,
}

/// What the supervisor has to say.
#[derive(Debug)]
pub(super) enum Task {
    /// A successor gathers what is known here.
    GiveState(OwnedFd),
    /// The successor failed.
    Settled,
    /// This process is the one that serves now.
    Serves,
    /// This process is about to end.
    Ending,
    /// What became of a restart.
    Restarted(u64, Result<String, String>),
}

impl State {
    /// Of a process that began with a configuration of this text.
    pub(super) fn begun_with(source: Option<String>) -> Self {
        Self { unkept: source, ..Self::default() }
    }
}

impl Operator {
    /// Works for as long as it is polled.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                // What the supervisor says decides over what may be done for others.
                biased;
                Some(task) = self.tasks.recv() => self.on_task(task).await,
                Some((command, reply)) = self.commands.recv() => {
                    self.on_command(command, reply).await;
                }
                () = self.watch.changed(), if self.watches() => {
                    tracing::info!("the configuration changed");
                    let _told_in_the_log = self.obey(Command::Reload).await;
                }
                else => return,
            }
        }
    }

    /// Whether changed files are for this process to read: for one that is replaced they are not.
    fn watches(&self) -> bool {
        self.config.server.watch && self.path.is_some() && !self.state.handing_over
    }

    async fn on_task(&mut self, task: Task) {
        match task {
            Task::GiveState(fd) => {
                self.state.handing_over = true;
                if let Some(carried) = self.keeper.carry().await {
                    handover::give(carried, fd).await;
                }
            }
            Task::Settled => self.state.handing_over = false,
            Task::Serves => {
                if let Some(source) = self.state.unkept.take() {
                    let _ended = self.keep_accepted(source).await;
                }
            }
            Task::Ending => {
                for (_, reply) in self.state.waiting.drain() {
                    let _left = reply.send(Err(Refused::new(Kind::Failed, "Homing is stopping")));
                }
            }
            Task::Restarted(ticket, outcome) => {
                if outcome.is_err() {
                    self.state.handing_over = false;
                }
                if let Some(reply) = self.state.waiting.remove(&ticket) {
                    let outcome = outcome.map(|text| json!({ "message": text }));
                    let _left =
                        reply.send(outcome.map_err(|text| Refused::new(Kind::Failed, text)));
                }
            }
        }
    }

    async fn on_command(&mut self, command: Command, reply: Reply) {
        if let Command::Restart = command {
            return match self.may_restart().await {
                Ok(()) => self.restart(reply),
                Err(refused) => drop(reply.send(Err(refused))),
            };
        }
        let _left = reply.send(self.obey(command).await);
    }

    /// Refuses a restart by which certificates would be shown that are not valid, in the place of those that are. A
    /// file that cannot be read is for the successor to refuse.
    async fn may_restart(&self) -> Result<(), Refused> {
        let Some(path) = &self.path else { return Ok(()) };
        match self.read(path, None, Missing::Refuse).await {
            Ok(Read { config, source, .. }) => no_lapsed(path, &source, &self.config, &config),
            Err(_) => Ok(()),
        }
    }

    async fn obey(&mut self, command: Command) -> Outcome {
        let changes = !matches!(command, Command::ListKeys | Command::Plan { .. });
        if self.state.handing_over && changes {
            return Err(Refused::new(Kind::Busy, "a restart is under way"));
        }
        match command {
            Command::Administer { app, backend, state, deadline } => {
                self.administer(&app, backend.as_ref(), state, deadline).await
            }
            Command::ListKeys => Ok(self.list_keys()),
            Command::RotateKeys => self.rotate_keys().await,
            Command::RetireKey { id, force } => self.retire_key(&id, force).await,
            Command::Maintain { app, on } => self.maintain(&app, on).await,
            Command::Plan { path, source } => self.plan(path, source).await,
            Command::Reload => self.reload().await,
            Command::Restart => Ok(Value::Null),
        }
    }

    fn restart(&mut self, reply: Reply) {
        let ticket = self.state.tickets;
        self.state.tickets += 1;
        let told = self
            .supervisor
            .as_ref()
            .is_some_and(|channel| channel.send(&FromWorker::Restart { ticket }, None).is_ok());
        if told {
            self.state.waiting.insert(ticket, reply);
        } else {
            let text = "nobody keeps this process: stop it and start it again";
            let _left = reply.send(Err(Refused::new(Kind::Failed, text)));
        }
    }

    async fn administer(
        &mut self,
        app: &AppName,
        backend: Option<&BackendId>,
        state: AdminState,
        deadline: Option<Duration>,
    ) -> Outcome {
        let backends = self.backends(app, backend)?;
        let unix = self.serving.clock.unix();
        let at = deadline.map(|left| unix.saturating_add(left).as_secs());
        let wish = Wish { state, deadline: at.filter(|_| state == AdminState::Drain) };
        let mut wanted = self.administrative.clone();
        for backend in &backends {
            wanted.set(app, backend, wish);
        }
        if backend.is_none() && state == AdminState::Ready {
            wanted.maintain(app, false);
        }
        self.keep(wanted).await?;
        let now = self.serving.clock.monotonic();
        for backend in &backends {
            self.announce(wish.event(app.clone(), backend.clone(), now, unix)).await;
        }
        if backend.is_none() && state == AdminState::Ready {
            self.announce(Event::AppMaintained { app: app.clone(), on: false }).await;
        }
        let ids: Vec<String> = backends.iter().map(ToString::to_string).collect();
        let message = format!("{app}: {} in state {}", ids.join(", "), state.as_str());
        Ok(json!({ "message": message, "backends": ids }))
    }

    /// The backends that a command is about.
    fn backends(
        &self,
        app: &AppName,
        backend: Option<&BackendId>,
    ) -> Result<Vec<BackendId>, Refused> {
        let own = self.app(app)?;
        let all = own.backends.iter().map(|own| own.id.clone());
        let found: Vec<BackendId> = all.filter(|id| backend.is_none_or(|one| one == id)).collect();
        match (backend, found.is_empty()) {
            (Some(backend), true) => {
                let text = format!("app `{app}` has no backend `{backend}`");
                Err(Refused::new(Kind::Unknown, text))
            }
            (Some(_) | None, _) => Ok(found),
        }
    }

    fn app(&self, name: &AppName) -> Result<&crate::balancer::state::AppSpec, Refused> {
        let found = self.spec.apps.iter().find(|app| app.name == *name);
        found
            .map(|app| &**app)
            .ok_or_else(|| Refused::new(Kind::Unknown, format!("there is no app `{name}`")))
    }

    async fn maintain(&mut self, app: &AppName, on: bool) -> Outcome {
        self.app(app)?;
        let mut wanted = self.administrative.clone();
        wanted.maintain(app, on);
        self.keep(wanted).await?;
        self.announce(Event::AppMaintained { app: app.clone(), on }).await;
        let state = if on { "in maintenance" } else { "in service" };
        Ok(json!({ "message": format!("{app}: {state}") }))
    }

    /// Applies what the operator wants here, and in those who finish.
    async fn announce(&self, event: Event) {
        self.serving.predecessors.tell(&event, self.serving.clock.monotonic());
        self.keeper.apply(event).await;
    }

    /// Writes down what the operator wants, before it is so.
    async fn keep(&mut self, wanted: Administrative) -> Result<(), Refused> {
        let (files, document) = (self.files.clone(), wanted.clone());
        write_down(move || files.keep_administrative(&document)).await.map_err(|error| {
            let text = format!("cannot write it down, so nothing changed: {error}");
            Refused::new(Kind::Failed, text)
        })?;
        self.serving.published.want(wanted.clone());
        self.administrative = wanted;
        Ok(())
    }

    async fn plan(&self, path: PathBuf, source: String) -> Outcome {
        let Read { config, keyring, source } =
            self.read(&path, Some(source), Missing::Refuse).await?;
        same_state_dir(&self.config, &config)?;
        let spec = config.spec(keyring, self.serving.clock.unix().as_secs());
        let (before, snapshot) = (self.spec.clone(), Arc::clone(&self.serving.published.load()));
        let plan = tokio::task::spawn_blocking(move || Plan::new(&before, &spec, &snapshot));
        let failed = |error: &dyn std::fmt::Display| Refused::new(Kind::Failed, error.to_string());
        let mut plan = plan.await.map_err(|ended| failed(&ended))?;
        plan.of_process(settings::changes(&self.config, &config));
        plan.needs_restart = needs_restart(&self.config, &config);
        no_lapsed(&path, &source, &self.config, &config)?;
        serde_json::to_value(&plan).map_err(|error| failed(&error))
    }

    /// Reads the file again: taken in whole, or refused whole.
    async fn reload(&mut self) -> Outcome {
        let Some(path) = self.path.clone() else {
            return Err(Refused::new(Kind::Failed, "there is no file to read again"));
        };
        let before = watch::Fingerprint::of(paths(&path, &self.config));
        let outcome = self.try_reload(&path).await;
        self.watch = Watch::new(before.with(paths(&path, &self.config)));
        let tallies = &self.serving.tallies;
        match &outcome {
            Ok(_) => {
                tallies.reloads_accepted.fetch_add(1, Ordering::Relaxed);
                let now = self.serving.clock.unix().as_secs();
                tallies.last_accepted.store(now, Ordering::Relaxed);
            }
            Err(refused) => {
                tallies.reloads_refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!("reload refused, nothing changed: {}", refused.text);
            }
        }
        outcome
    }

    async fn try_reload(&mut self, path: &Path) -> Outcome {
        let missing = match self.config.keys {
            Keys::Generated => Missing::Refuse,
            Keys::Listed(_) => Missing::Make,
        };
        let Read { config, keyring, source } = self.read(path, None, missing).await?;
        same_state_dir(&self.config, &config)?;
        let fixed = needs_restart(&self.config, &config);
        if !fixed.is_empty() {
            let names = fixed.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "{names} cannot change while the process serves\n  = help: `homing restart -c {}` takes the whole file in",
                path.display()
            );
            return Err(Refused::new(Kind::Invalid, text));
        }
        let invalid = |error: super::StartError| Refused::new(Kind::Invalid, error.to_string());
        let log = match config.access_log != self.config.access_log {
            true => Some(access_log::Prepared::new(&config.access_log).map_err(|error| {
                invalid(super::StartError::AccessLog(config.access_log.target.clone(), error))
            })?),
            false => None,
        };
        no_lapsed(path, &source, &self.config, &config)?;
        let changes = settings::changes(&self.config, &config);
        // Nothing below fails.
        let spec = config.spec(keyring, self.serving.clock.unix().as_secs());
        let configured = Event::Configured(Box::new(spec.clone()));
        let doubts = config::doubts(path, &source, &config);
        let kept = self.keep_accepted(source);
        self.keeper.apply(configured).await;
        self.serving.settle(&config, log);
        let before =
            (std::mem::replace(&mut self.spec, spec), std::mem::replace(&mut self.config, config));
        // To free 100,000 apps takes a while, for which deadlines and probes do not wait.
        tokio::task::spawn_blocking(move || drop(before));
        self.forget().await;
        let _ended = kept.await;
        if let Some(doubts) = doubts {
            tracing::warn!("accepted, but look: {doubts}");
        }
        let generation = self.serving.published.load().generation;
        let mut message = format!("generation {generation} is accepted");
        let changes: Vec<String> =
            changes.into_iter().map(|(sign, text)| format!("{sign} {text}")).collect();
        for change in &changes {
            tracing::info!("of the process: {change}");
            message.extend(["\n", change]);
        }
        Ok(json!({ "message": message, "generation": generation, "process": changes }))
    }

    /// Reads a configuration; `source`: its text, when it is known. It shares with the present one what is the same.
    /// A key that was there and is gone must be `missing`, a mistake: a new one would take every client's pin.
    async fn read(
        &self,
        path: &Path,
        source: Option<String>,
        missing: Missing,
    ) -> Result<Read, Refused> {
        let (path, before) = (path.to_owned(), self.config.apps.clone());
        let invalid =
            |error: &dyn std::fmt::Display| Refused::new(Kind::Invalid, error.to_string());
        let read = move || {
            let source = source.map_or_else(|| config::read(&path), Ok);
            let source = source.map_err(|error| invalid(&error))?;
            let config = config::parse_beside(&before, &path, source.clone())
                .map_err(|error| invalid(&error))?;
            let keyring = keyring(&config, missing).map_err(|error| invalid(&error))?;
            Ok(Read { config, keyring, source })
        };
        // Large files take seconds, and a file system may not answer: probes go on meanwhile.
        match tokio::time::timeout(READ_LIMIT, tokio::task::spawn_blocking(read)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Refused::new(Kind::Failed, error.to_string())),
            Err(_) => {
                let text = format!("the file was not read within {READ_LIMIT:?}");
                Err(Refused::new(Kind::Failed, text))
            }
        }
    }

    /// Writes down what was accepted, meanwhile.
    fn keep_accepted(&self, source: String) -> JoinHandle<()> {
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || files.keep_accepted(&source))
    }

    /// Forgets what was wanted of backends that left.
    async fn forget(&mut self) {
        let mut wanted = self.administrative.clone();
        wanted.retain(&self.spec);
        if wanted != self.administrative
            && let Err(refused) = self.keep(wanted).await
        {
            tracing::warn!("{}", refused.text);
        }
    }
}

/// Writes something where it may take its time.
async fn write_down(write: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

/// The files of a configuration.
pub(super) fn paths<'p>(path: &'p Path, config: &'p Config) -> impl Iterator<Item = &'p Path> {
    std::iter::once(path).chain(config.files.iter().map(PathBuf::as_path))
}

/// A configuration that was read, with its keys.
struct Read {
    config: Config,
    keyring: Keyring,
    source: String,
}

/// What differs that a process cannot change while it serves.
fn needs_restart(now: &Config, next: &Config) -> Vec<String> {
    let address = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
    let listened = |config: &Config| {
        let mut addresses: Vec<_> = config.listeners.iter().map(|own| own.address).collect();
        addresses.sort_unstable();
        addresses
    };
    let differs = [
        ("listeners", listened(now) != listened(next)),
        ("admin.address", address(now) != address(next)),
        ("server.threads", now.server.threads != next.server.threads),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// Refuses certificates that are not valid now, in the place of others that may be. What is in use already is no
/// news. A start after a crash takes them: better than none.
fn no_lapsed(path: &Path, source: &str, now: &Config, next: &Config) -> Result<(), Refused> {
    if next.doubts.iter().all(|doubt| doubt.lapsed.is_none()) {
        return Ok(());
    }
    let known = certificates(now);
    let is_new = |doubt: &&Doubt| doubt.lapsed.is_some_and(|lapsed| !known.contains(&lapsed));
    let news: Vec<_> = next.doubts.iter().filter(is_new).map(|d| d.problem.clone()).collect();
    if news.is_empty() {
        return Ok(());
    }
    let report = Report::new(path, source.to_owned(), news);
    Err(Refused::new(Kind::Invalid, report.to_string()))
}

/// The certificates of a configuration: those that clients and backends are shown, and whom backends are believed by.
fn certificates(config: &Config) -> HashSet<Fingerprint> {
    let terms = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let shown = terms.flat_map(|terms| terms.certificates()).map(|own| own.fingerprint());
    let backends = || config.apps.iter().filter_map(|app| app.policy.tls.as_ref());
    let authorities = backends().filter_map(|tls| tls.authorities.as_deref());
    let own = backends().filter_map(|tls| tls.identity.as_deref());
    // Most apps share theirs.
    let ders: HashSet<&[u8]> = authorities
        .flat_map(|authorities| &authorities.certificates)
        .chain(own.filter_map(|identity| identity.chain.first()))
        .map(Vec::as_slice)
        .collect();
    shown.chain(ders.into_iter().map(Fingerprint::of)).collect()
}

/// Refuses another state directory: its lock is what makes this Homing the one.
fn same_state_dir(now: &Config, next: &Config) -> Result<(), Refused> {
    let path = |config: &Config| config.state_dir.canonicalize().ok();
    if path(now) == path(next) {
        return Ok(());
    }
    let text = "`state_dir` cannot change while Homing runs\n  = help: stop Homing, move the directory, and start it again";
    Err(Refused::new(Kind::Invalid, text))
}
