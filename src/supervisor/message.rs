//! What the supervisor and its workers say to each other.
//!
//! A worker may be a newer program than its supervisor, which lives as long as the service: words are
//! added with a default, never changed. [`PROTOCOL`] counts the changes that old supervisors do not bear.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of this page.
pub const PROTOCOL: u32 = 1;

/// What a worker says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum FromWorker {
    /// It read its configuration, and needs these to serve.
    Wants(Wants),
    /// It serves: its own endpoint answered.
    Ready,
    /// It cannot start, and ends.
    Failed {
        /// Why, for the operator.
        text: String,
        /// The exit code that says so.
        exit_code: u8,
    },
    /// It finishes what it has.
    Finishing {
        /// How long that takes at most, in milliseconds.
        limit_ms: u64,
    },
    /// The operator asked it for a restart.
    Restart {
        /// Comes back with the answer.
        ticket: u64,
    },
}

/// What a worker needs before it can serve.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Wants {
    /// The [`PROTOCOL`] it speaks.
    pub protocol: u32,
    /// The version of the program.
    pub version: String,
    /// Where Homing keeps what must survive it.
    pub state_dir: PathBuf,
    /// The addresses to listen on, as the file has them; with port 0, any port.
    pub addresses: Vec<String>,
}

/// What a worker is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum ToWorker {
    /// Here is the next of the sockets it wants.
    Socket,
    /// It cannot have them.
    Refused {
        /// Why, for the operator.
        text: String,
    },
    /// It has all its sockets; with a descriptor: what another knows of the backends can be read there.
    Begin,
    /// It is the one that serves now.
    Serve(Tally),
    /// Another one gathers what it knows of the backends: write it there.
    GiveState,
    /// Another one was replaced by it, and reports what it still does there.
    Predecessor {
        /// The process id of that one.
        pid: u32,
    },
    /// One that was replaced has ended.
    Gone {
        /// The process id of that one.
        pid: u32,
    },
    /// It is replaced: to finish what it has, and to report that there.
    Finish,
    /// The service ends: to finish what it has within the grace period.
    Stop,
    /// The configuration is to be read again.
    Reload,
    /// The access log is to be opened again.
    Reopen,
    /// Somebody connected to the control socket.
    Control,
    /// What became of the restart it asked for.
    Restarted {
        /// The ticket of the question.
        ticket: u64,
        /// How it went, for the operator.
        outcome: Result<String, String>,
    },
    /// The supervisor counted again.
    Tally(Tally),
}

/// What the supervisor counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Restarts that went well.
    #[serde(default)]
    pub restarts: u64,
    /// Restarts whose successor failed.
    #[serde(default)]
    pub restarts_failed: u64,
    /// Workers that ended without being told to.
    #[serde(default)]
    pub crashes: u64,
}
