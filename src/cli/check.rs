//! `homing check`

use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::config;

/// Check a configuration: every mistake at once, each with its place and a way out
///
/// Prints nothing and exits with 0 when `homing run` would accept the file; key files are read too.
/// Else the mistakes go to standard error, and the exit code is 2.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), CommandError> {
        config::load(&self.config).map_err(CommandError::Config)?;
        Ok(())
    }
}
