//! `homing run`

use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::app::Edge;
use crate::config;
use crate::telemetry::logging;

/// Serve, in the foreground, until SIGTERM (running requests finish) or SIGINT (at once)
///
/// The access log goes where the file says (standard output by default), the log of the program to
/// standard error (HOMING_LOG=debug says more). SIGUSR1 opens the access log again after a rotation.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let config = config::load(&self.config).map_err(CommandError::Config)?;
        logging::start();
        Edge::prepare(config).and_then(Edge::run).map_err(CommandError::Start)
    }
}
