//! `homing check`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::config;

/// Check a configuration: every mistake at once, each with its place and a way out
///
/// Exits with 0 when `homing run` would accept the file; key files and certificates are read too. What is
/// accepted and may still be wrong, such as a certificate that expired, goes to standard error as a
/// warning. Else the mistakes go to standard error, and the exit code is 2.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let source = config::read(&self.config).map_err(CommandError::Config)?;
        let config = config::parse(&self.config, source.clone()).map_err(CommandError::Config)?;
        match config::doubts(&self.config, &source, &config) {
            Some(doubts) => {
                writeln!(std::io::stderr().lock(), "{doubts}").map_err(CommandError::Output)
            }
            None => Ok(()),
        }
    }
}
