//! Who takes part, and how each is configured, told of changes and started anew: the way its own documentation says.

mod caddy;
mod envoy;
mod haproxy;
mod homing;
mod nginx;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use super::{scenario::Scenario, wanted::Wanted};
use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::ProcessorTime,
    plan::Placement,
    tool, topology,
};

/// One load balancer under change.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// How it is run and changed, for the reader of the table.
    pub(crate) summary: &'static str,
    /// The Debian package that is installed when it is missing; none if it takes part only where it is there.
    pub(crate) package: Option<&'static str>,
    /// The argument that makes it tell its version.
    version: &'static str,
    /// Why there is nothing to measure in a scenario, if so.
    pub(crate) cannot: fn(Scenario) -> Option<&'static str>,
    pub(crate) start: Start,
}

/// Configures and starts a contestant.
type Start = fn(Site, &Wanted) -> Result<Box<dyn Edge>, Failure>;

/// A contestant that runs. Dropping it ends it.
pub(crate) trait Edge {
    /// Makes `wanted` hold, without a stop.
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure>;

    /// Starts the program anew, with what holds, losing as little as it can.
    fn restart(&mut self) -> Result<(), Failure>;

    /// Fails with its last words when it is gone.
    fn check_alive(&mut self) -> Result<(), Failure>;

    /// Processor time of all its processes.
    fn processor_time(&self) -> ProcessorTime;

    fn last_words(&self) -> String;
}

/// Where a contestant lives for one run.
pub(crate) struct Site {
    pub(crate) program: PathBuf,
    /// Its own directory.
    pub(crate) directory: PathBuf,
    pub(crate) listen: SocketAddr,
    /// A second address, for those that need one to be told of changes.
    pub(crate) admin: SocketAddr,
    pub(crate) placement: Placement,
    pub(crate) guard: Rc<Guard>,
}

/// Everybody, in the order of the table.
pub(crate) const CONTESTANTS: [Contestant; 5] = [
    Contestant {
        name: "homing",
        summary: "`homing reload`, `homing restart`; a new key is put first on the list",
        package: None,
        version: "--version",
        cannot: |_| None,
        start: homing::start,
    },
    Contestant {
        name: "haproxy",
        summary: "master and worker, SIGUSR2 for reloads and restarts; `cookie insert indirect nocache dynamic`",
        package: Some("haproxy"),
        version: "-v",
        cannot: |_| None,
        start: haproxy::start,
    },
    Contestant {
        name: "nginx",
        summary: "SIGHUP for reloads, SIGUSR2 and SIGQUIT for restarts; two `map`s for the cookie, backups for the dead",
        package: Some("nginx"),
        version: "-v",
        cannot: |scenario| {
            (scenario == Scenario::KeysRotate).then_some("no keys: its cookie is in the clear")
        },
        start: nginx::start,
    },
    Contestant {
        name: "envoy",
        summary: "lists of backends in files (EDS), hot restart; `stateful_session` with a cookie",
        package: None,
        version: "--version",
        cannot: |scenario| {
            (scenario == Scenario::KeysRotate).then_some("no keys: its cookie is in the clear")
        },
        start: envoy::start,
    },
    Contestant {
        name: "caddy",
        summary: "`caddy reload`; stopped and started for restarts; `lb_policy cookie`",
        package: None,
        version: "version",
        cannot: |_| None,
        start: caddy::start,
    },
];

impl Contestant {
    /// The program: the caller's choice, else this build's, else the system's.
    pub(crate) fn locate(&self, programs: &BTreeMap<String, PathBuf>) -> Option<PathBuf> {
        let own = || (self.name == "homing").then(|| PathBuf::from(env!("CARGO_BIN_EXE_homing")));
        programs.get(self.name).cloned().or_else(own).or_else(|| tool::find(self.name))
    }

    pub(crate) fn describe(&self, program: &Path) -> String {
        format!("{} ({})", self.summary, tool::version(program, self.version))
    }
}

impl Site {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs a command that tells the contestant something, to its end.
    fn tell(&self, command: Command) -> Result<(), Failure> {
        let words = format!("{command:?}");
        let mut command = topology::beside_proxy(command, self.placement);
        let output = command.output().context(|| format!("cannot run {words}"))?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("{words} ended with {}:\n{errors}", output.status)))
    }
}

/// Writes a file at once: nobody reads half of it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = || format!("cannot write {}", path.display());
    let new = path.with_extension("new");
    std::fs::write(&new, text).context(failed)?;
    std::fs::rename(&new, path).context(failed)
}
