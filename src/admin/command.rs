//! What the operator may ask a running Homing to do, whichever way the question comes in.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::balancer::app::members::AdminState;
use crate::balancer::name::{AppName, BackendId};

/// Questions that may wait for the one who answers them.
const COMMANDS_MAX: usize = 64;

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    /// Wants something of one backend, or of all backends of an app.
    Administer {
        /// The app.
        app: AppName,
        /// The backend; `None`: all of them.
        backend: Option<BackendId>,
        /// What is wanted.
        state: AdminState,
        /// How long pinned clients may stay on a drained backend; `None`: for as long as they come.
        deadline: Option<Duration>,
    },
    /// Says which keys there are, and how they are used.
    ListKeys,
    /// Makes a new key, which seals from now on.
    RotateKeys,
    /// Gives up a key.
    RetireKey {
        /// The id of the key.
        id: String,
        /// Although clients may still hold tokens under it.
        force: bool,
    },
    /// Takes an app out of service, or back.
    Maintain {
        /// The app.
        app: AppName,
        /// Whether it is out of service.
        on: bool,
    },
    /// Says what a configuration would change.
    Plan {
        /// Where the file is, for messages and for relative paths in it.
        path: PathBuf,
        /// Its text.
        source: String,
    },
    /// Reads the configuration again.
    Reload,
    /// Hands over to a new process.
    Restart,
}

/// Why nothing was done.
#[derive(Debug)]
pub struct Refused {
    /// What kind of reason it is.
    pub kind: Kind,
    /// Why, for the operator.
    pub text: String,
}

/// Kinds of reasons to refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A restart is under way: the same question will be answered in a moment, maybe by another process.
    Busy,
    /// It was tried, and failed.
    Failed,
    /// There is a mistake in what was asked, or in the file.
    Invalid,
    /// The app or the backend is not there.
    Unknown,
}

impl Refused {
    /// A reason of this kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// What comes of a command.
pub type Outcome = Result<Value, Refused>;

/// Where the outcome goes.
pub type Reply = oneshot::Sender<Outcome>;

/// The way to the one who does what is asked.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<(Command, Reply)>);

impl Commands {
    /// Makes the way.
    pub fn channel() -> (Self, mpsc::Receiver<(Command, Reply)>) {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self(sender), receiver)
    }

    /// Has a command done.
    ///
    /// # Errors
    /// When nothing was done.
    pub async fn run(&self, command: Command) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let ending = || Refused::new(Kind::Busy, "this process is about to end");
        self.0.send((command, reply)).await.map_err(|_ended| ending())?;
        outcome.await.map_err(|_ended| ending())?
    }

    /// Has a command done, and does not wait for it.
    pub fn offer(&self, command: Command) {
        let (reply, _nobody_waits) = oneshot::channel();
        if self.0.try_send((command, reply)).is_err() {
            tracing::warn!("too many commands wait: one was dropped");
        }
    }
}
