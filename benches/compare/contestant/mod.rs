//! Who takes part, and how each is configured: the same topology in everybody's own words.
//!
//! To add a peer, write its file and its line in [`CONTESTANTS`].

mod bare;
mod caddy;
mod envoy;
mod haproxy;
mod homing;
mod nginx;
mod sozu;
mod traefik;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    certificate::Certificate,
    failure::Failure,
    tool,
    workload::{Setup, Workload},
};

/// A proxy in one configuration.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// What is special about it, for the reader of the table.
    pub(crate) summary: &'static str,
    /// The name by which `--program` replaces its program.
    pub(crate) program: &'static str,
    /// Finds or builds the program.
    locate: fn() -> Result<PathBuf, Failure>,
    /// Writes the configuration and says how to start it.
    pub(crate) command: fn(&Site) -> Result<Command, Failure>,
    /// The argument that makes it tell its version; none if it has none of its own.
    version: Option<&'static str>,
    pub(crate) access_log: AccessLog,
    pub(crate) affinity: Affinity,
    /// Why it has no part in a workload, in the words of the table.
    pub(crate) lacks: fn(Workload) -> Option<&'static str>,
    pub(crate) presence: Presence,
}

/// Whether there is a comparison without it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// What is compared: its own failure ends the run.
    Needed,
    /// A peer that takes part when its program is given with `--program`, and does not stop the others.
    Welcome,
}

/// Whether the contestant keeps clients on their backends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Off,
    On,
}

/// Whether the contestant writes a line for each request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessLog {
    Off,
    On,
}

/// Where a contestant lives while it is measured.
pub(crate) struct Site {
    pub(crate) program: PathBuf,
    /// Its own directory, removed after a good run.
    pub(crate) directory: PathBuf,
    pub(crate) listen: SocketAddr,
    /// The same over TLS 1.3, with HTTP/2 or HTTP/1.1.
    pub(crate) secure_listen: SocketAddr,
    pub(crate) certificate: Certificate,
    pub(crate) setup: Setup,
    pub(crate) backends: Vec<SocketAddr>,
}

impl Site {
    pub(crate) fn access_log(&self) -> PathBuf {
        self.directory.join("access.log")
    }
}

/// Everybody, in the order of the table.
pub(crate) const CONTESTANTS: [Contestant; 15] = [
    Contestant {
        name: "homing",
        summary: "access log off",
        program: "homing",
        locate: homing::locate,
        command: homing::command,
        version: Some("--version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Needed,
    },
    Contestant {
        name: "homing-log",
        summary: "access log in JSON to a file",
        program: "homing",
        locate: homing::locate,
        command: homing::command_with_access_log,
        version: Some("--version"),
        access_log: AccessLog::On,
        affinity: Affinity::On,
        lacks: all_but_the_plain,
        presence: Presence::Needed,
    },
    Contestant {
        name: "homing-spread",
        summary: "`affinity: off`; its requests carry no cookie of ours",
        program: "homing",
        locate: homing::locate,
        command: homing::command_without_affinity,
        version: Some("--version"),
        access_log: AccessLog::Off,
        affinity: Affinity::Off,
        lacks: all_but_the_plain,
        presence: Presence::Needed,
    },
    Contestant {
        name: "homing-before",
        summary: "another build of Homing, for a before and after in one run",
        program: "before",
        locate: homing::locate_before,
        command: homing::command,
        version: Some("--version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Needed,
    },
    Contestant {
        name: "bare",
        summary: "a bare Pingora proxy with a plain cookie, single-threaded runtime",
        program: "bare",
        locate: bare::locate,
        command: bare::command,
        version: None,
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: one_app_without_tls,
        presence: Presence::Needed,
    },
    Contestant {
        name: "bare-forwarding",
        summary: "the same with the fields that Homing writes to backends and clients",
        program: "bare",
        locate: bare::locate,
        command: bare::command_with_forwarding,
        version: None,
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: all_but_the_plain,
        presence: Presence::Needed,
    },
    Contestant {
        name: "bare-stealing",
        summary: "the same with Pingora's default, a work-stealing runtime of one thread",
        program: "bare",
        locate: bare::locate,
        command: bare::command_with_work_stealing,
        version: None,
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: all_but_the_plain,
        presence: Presence::Needed,
    },
    Contestant {
        name: "haproxy",
        summary: "`cookie insert indirect nocache dynamic`",
        program: "haproxy",
        locate: haproxy::locate,
        command: haproxy::command,
        version: Some("-v"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Needed,
    },
    Contestant {
        name: "nginx",
        summary: "`map` from a plain cookie to an upstream; no active health checks",
        program: "nginx",
        locate: nginx::locate,
        command: nginx::command,
        version: Some("-v"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Needed,
    },
    Contestant {
        name: "haproxy-newer",
        summary: "the same as haproxy, another version",
        program: "haproxy-newer",
        locate: haproxy::locate_newer,
        command: haproxy::command,
        version: Some("-v"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
    Contestant {
        name: "nginx-newer",
        summary: "`sticky cookie`; no active health checks",
        program: "nginx-newer",
        locate: nginx::locate_newer,
        command: nginx::command_with_sticky,
        version: Some("-v"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
    Contestant {
        name: "sozu",
        summary: "`sticky_session`; no active health checks",
        program: "sozu",
        locate: sozu::locate,
        command: sozu::command,
        version: Some("--version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
    Contestant {
        name: "envoy",
        summary: "`stateful_session` with a cookie",
        program: "envoy",
        locate: envoy::locate,
        command: envoy::command,
        version: Some("--version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
    Contestant {
        name: "caddy",
        summary: "`lb_policy cookie`, GOMAXPROCS=1",
        program: "caddy",
        locate: caddy::locate,
        command: caddy::command,
        version: Some("version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
    Contestant {
        name: "traefik",
        summary: "`sticky.cookie`, GOMAXPROCS=1",
        program: "traefik",
        locate: traefik::locate,
        command: traefik::command,
        version: Some("version"),
        access_log: AccessLog::Off,
        affinity: Affinity::On,
        lacks: nothing,
        presence: Presence::Welcome,
    },
];

impl Contestant {
    /// The program of this contestant: the caller's choice, or its own way of finding one.
    pub(crate) fn locate(&self, programs: &BTreeMap<String, PathBuf>) -> Result<PathBuf, Failure> {
        programs.get(self.program).map_or_else(self.locate, |path| Ok(path.clone()))
    }

    pub(crate) fn describe(&self, program: &Path) -> String {
        match self.version {
            Some(argument) => format!("{} ({})", self.summary, tool::version(program, argument)),
            None => self.summary.to_owned(),
        }
    }
}

fn nothing(_: Workload) -> Option<&'static str> {
    None
}

/// `bare` is the least that can be measured against.
fn one_app_without_tls(workload: Workload) -> Option<&'static str> {
    match workload {
        it if it.is_secure() => Some("has no TLS"),
        it if it.setup() == Setup::Apps => Some("has one app"),
        _ => None,
    }
}

/// Variants that answer one question each, which three workloads do.
fn all_but_the_plain(workload: Workload) -> Option<&'static str> {
    let is_plain = matches!(
        workload,
        Workload::CookieFollowed | Workload::NewClient | Workload::NewConnection
    );
    (!is_plain).then_some("")
}

/// A program that nobody installs for the comparison.
fn given_program(name: &str) -> Result<PathBuf, Failure> {
    let found = tool::find(name);
    found.ok_or_else(|| Failure::new(format!("not found; give one with `--program {name}=PATH`")))
}

/// A program of the system.
fn system_program(name: &str) -> Result<PathBuf, Failure> {
    tool::find(name).ok_or_else(|| {
        Failure::new(format!("{name} not found; run as root: apt-get install -y {name}"))
    })
}
