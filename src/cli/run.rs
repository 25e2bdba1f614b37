//! `homing run`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CommandError, duration};
use crate::app::StartError;
use crate::supervisor::{Supervisor, SupervisorError};
use crate::telemetry::logging;

/// Serve, in the foreground, until SIGTERM (running requests finish) or SIGINT (at once)
///
/// The access log goes where the file says (standard output by default), the log of the program to
/// standard error (HOMING_LOG=debug says more). A changed file is read again at once; SIGHUP and
/// `homing reload` do the same. SIGUSR2 and `homing restart` hand over to a new worker, and to a new
/// version of the program if there is one, without losing a request. SIGUSR1 opens the access log again
/// after a rotation.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// How long a worker may take until it serves
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    start_limit: Duration,
}

impl Run {
    pub(super) fn run(self) -> Result<(), CommandError> {
        logging::start();
        let supervisor = Supervisor::new(&self.config, self.start_limit);
        supervisor.and_then(Supervisor::run).map_err(|error| match error {
            SupervisorError::First(text, code) => CommandError::Worker(text, code),
            SupervisorError::System(error) => CommandError::Start(StartError::System(error)),
        })
    }
}
