//! `homing completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, CommandError, print};

/// Print a completion script for a shell
///
/// For bash: `homing completions bash > /etc/bash_completion.d/homing`.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "homing", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
