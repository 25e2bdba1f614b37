//! Why Homing cannot start, with the way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::balancer::affinity::keyring::KeyringError;
use crate::config::model::LogTarget;
use crate::config::secret::SecretError;
use crate::supervisor::BindError;

/// Why Homing cannot start or go on.
#[derive(Debug)]
pub enum StartError {
    /// The access log cannot be opened.
    AccessLog(LogTarget, io::Error),
    /// The server ended by itself.
    Ended,
    /// The key that was made once is gone or damaged.
    Key(PathBuf, &'static str),
    /// The key cannot be made or kept.
    KeyFile(PathBuf, io::Error),
    /// The keys make no keyring.
    Keyring(KeyringError),
    /// An address cannot be listened on.
    Listen(BindError),
    /// Two metrics have the same name.
    Metrics(prometheus::Error),
    /// A key cannot be used.
    Secret(SecretError),
    /// What Pingora is told makes no sense to it.
    Server(String),
    /// A file of the state directory cannot be used.
    StateFile(PathBuf, String),
    /// The supervisor refuses, in its own words.
    Supervisor(String),
    /// The system refuses a thread or a signal.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessLog(LogTarget::File(path), error) => {
                write!(f, "cannot open the access log {}: {error}", path.display())
            }
            Self::AccessLog(LogTarget::Stdout, error) => {
                write!(f, "cannot start the access log: {error}")
            }
            Self::Ended => f.write_str("the server ended by itself; the log says why"),
            Self::Key(path, error) => {
                write!(f, "the affinity key {} {error}", path.display())?;
                f.write_str("\n  = help: restore it; or stop Homing, remove what is left of it, and start again: ")?;
                f.write_str("then every pin is made anew")
            }
            Self::KeyFile(path, error) => {
                write!(f, "cannot keep the affinity key in {}: {error}", path.display())?;
                f.write_str("\n  = help: set `state_dir` to a directory that Homing may write to")
            }
            Self::Keyring(error) => write!(f, "cannot use the affinity keys: {error}"),
            Self::Listen(error) => error.fmt(f),
            Self::Metrics(error) => write!(f, "cannot register the metrics: {error}"),
            Self::Secret(error) => write!(f, "{error}\n  = help: {}", error.help()),
            Self::Server(error) => write!(f, "cannot configure the server: {error}"),
            Self::StateFile(path, error) => {
                write!(f, "{} cannot be used: {error}", path.display())?;
                f.write_str(
                    "\n  = help: restore it; or remove it, and every backend is ready again",
                )
            }
            Self::Supervisor(text) => f.write_str(text),
            Self::System(error) => write!(f, "the system refuses: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
