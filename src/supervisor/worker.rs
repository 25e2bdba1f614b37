//! One worker process, as the supervisor sees it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::channel::{Channel, Received};
use super::message::{FromWorker, ToWorker, Wants};
use super::notify;

/// The command that a worker runs as, followed by `-c FILE`.
pub(super) const COMMAND: &str = "worker";

/// The flag of the first worker of a service.
const FIRST: &str = "--first";

/// The option of a worker that takes the place of one that ended unasked; its value is the state
/// directory.
const RECOVER: &str = "--recover";

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    /// `None`: the worker closed its end, and is about to be gone.
    channel: Option<Channel>,
    pub(super) role: Role,
    /// When it is ended, if it has not served or ended by then; on the clock of the supervisor.
    pub(super) end_by: Option<Duration>,
    /// What it asked for, once it did.
    pub(super) wants: Option<Wants>,
    /// Why it cannot start, in its own words.
    pub(super) failure: Option<(String, u8)>,
}

/// What a worker is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It gets itself ready.
    Starting(Start),
    /// It accepts clients.
    Serving {
        /// Since when, on the clock of the supervisor.
        since: Duration,
    },
    /// It finishes what it has.
    Finishing,
}

/// Why a worker was started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// The service begins.
    First,
    /// The last one ended unasked.
    Replacement,
    /// The operator wants another.
    Restart,
}

/// The program, as it was called.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) config: PathBuf,
}

impl Program {
    /// The path of this program as it was called: what a link leads to may change with an upgrade.
    pub(super) fn called(config: &Path) -> io::Result<Self> {
        let name = std::env::args_os().next().unwrap_or_default();
        let path = match name.to_string_lossy().contains('/') {
            true => std::path::absolute(name)?,
            false => in_path(&name).map_or_else(std::env::current_exe, Ok)?,
        };
        Ok(Self { path, config: config.to_owned() })
    }
}

fn in_path(name: &OsString) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

impl Worker {
    /// Starts one; `recover`: the state directory, where it is to begin with what was accepted last.
    pub(super) fn start(
        program: &Program,
        why: Start,
        recover: Option<&Path>,
        until: Duration,
    ) -> io::Result<Self> {
        let (own, other) = Channel::pair()?;
        let mut command = Command::new(&program.path);
        command.arg(COMMAND).arg("-c").arg(&program.config);
        if why == Start::First {
            command.arg(FIRST);
        }
        if let Some(state_dir) = recover {
            command.arg(RECOVER).arg(state_dir);
        }
        // A group of its own: Ctrl-C is for the supervisor, which knows what to do about workers.
        command.stdin(Stdio::from(other.into_fd())).process_group(0);
        for variable in [notify::SOCKET, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        let child = command.spawn()?;
        Ok(Self {
            child,
            channel: Some(own),
            role: Role::Starting(why),
            end_by: Some(until),
            wants: None,
            failure: None,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.role, Role::Starting(_))
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.role, Role::Serving { .. })
    }

    /// Where messages of the worker come in.
    pub(super) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// Tells the worker something, if it can be told. One that cannot is about to end, or hangs.
    pub(super) fn tell(&self, message: &ToWorker, fd: Option<BorrowedFd<'_>>) -> bool {
        let sent = self.channel.as_ref().map(|channel| channel.send(message, fd));
        if let Some(Err(error)) = &sent {
            tracing::warn!(worker = self.pid(), %error, "a worker cannot be told anything");
        }
        matches!(sent, Some(Ok(())))
    }

    /// The next message; there is one when [`Self::readable`] is.
    pub(super) fn hear(&mut self) -> Option<Received<FromWorker>> {
        match self.channel.as_ref()?.receive() {
            Ok(Some(received)) => Some(received),
            Ok(None) => {
                self.channel = None;
                None
            }
            Err(error) => {
                tracing::error!(worker = self.pid(), %error, "a worker makes no sense: ending it");
                self.channel = None;
                self.kill();
                None
            }
        }
    }

    /// Ends the process at once.
    pub(super) fn kill(&mut self) {
        let _ended_already = self.child.kill();
    }
}

/// Gives a worker a line to one that it replaces.
pub(super) fn introduce(successor: &Worker, other: &mut Worker) {
    let told = match UnixStream::pair() {
        Ok((read, write)) => {
            // The successor first: whoever finishes begins to report at once.
            successor.tell(&ToWorker::Predecessor { pid: other.pid() }, Some(read.as_fd()));
            other.tell(&ToWorker::Finish, Some(write.as_fd()))
        }
        Err(error) => {
            tracing::warn!(%error, worker = other.pid(), "a replaced worker cannot report");
            other.tell(&ToWorker::Finish, None)
        }
    };
    if !told {
        // It reads nothing any more, and must not go on accepting beside the other.
        other.kill();
    }
}
