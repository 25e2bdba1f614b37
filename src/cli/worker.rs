//! `homing worker`: the process that serves, started by the supervisor of `homing run` and by nobody else.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::CommandError;
use crate::app::{Begin, StartError, WorkError, work};
use crate::supervisor::channel::{Channel, MESSAGE_BYTES_MAX};
use crate::supervisor::message::FromWorker;
use crate::telemetry::logging;

/// Serve for a supervisor, which is at the other end of standard input
#[derive(Args, Debug)]
pub(super) struct Worker {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Make what is missing
    #[arg(long)]
    first: bool,
    /// Begin with the configuration that was accepted last
    #[arg(long, value_name = "STATE_DIR")]
    recover: Option<PathBuf>,
}

impl Worker {
    pub(super) fn run(self) -> Result<(), CommandError> {
        logging::start();
        let system = |error| CommandError::Start(StartError::System(error));
        let channel = Arc::new(Channel::inherited().map_err(system)?);
        let fresh = if self.first { Begin::First } else { Begin::Fresh };
        let begin = self.recover.map_or(fresh, Begin::Recover);
        let Err(error) = work(&self.config, begin, &channel) else { return Ok(()) };
        let error = match error {
            WorkError::Config(error) => CommandError::Config(error),
            WorkError::Start(error) => CommandError::Start(error),
        };
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX / 4));
        let failed = FromWorker::Failed { text, exit_code: error.code() };
        match channel.send(&failed, None) {
            Ok(()) => Err(CommandError::Told(error.code())),
            Err(_) => Err(error),
        }
    }
}
