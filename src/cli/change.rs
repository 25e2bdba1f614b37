//! `homing plan`, `homing reload`, `homing restart`: another configuration, another process.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::control::Target;
use super::operate::say;
use super::{CommandError, print};
use crate::balancer::change::plan::Plan as Told;
use crate::config;

/// Say what a file would change in the running Homing, and for how many clients
///
/// Nothing is changed. Exit code 0: harmless, no client is moved; 3: clients are moved; 4: it needs `homing
/// restart`, which moves nobody but those that the lines name; 2: there are mistakes in the file, or a reload would
/// refuse it. What is accepted and wants a look goes to standard error.
#[derive(Args, Debug)]
pub(super) struct Plan {
    /// The configuration to compare; its `state_dir` says which running Homing is meant
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let source = config::read(&self.config).map_err(CommandError::Config)?;
        // Mistakes are told here, with the paths that the caller knows.
        let parsed = config::parse(&self.config, source.clone()).map_err(CommandError::Config)?;
        let doubts = config::doubts(&self.config, &source, &parsed);
        let path = std::path::absolute(&self.config).map_err(CommandError::Output)?;
        let control = Target::of(self.config).control()?;
        let answer = control.post("/v1/plan", &json!({ "path": path, "source": source }))?;
        if self.json {
            print(&format!("{answer}\n"))?;
        }
        let plan: Told = serde_json::from_value(answer)
            .map_err(|error| CommandError::Failed(format!("the plan makes no sense: {error}")))?;
        if !self.json {
            print(&format!("{plan}\n"))?;
        }
        if let Some(doubts) = doubts {
            writeln!(io::stderr().lock(), "{doubts}").map_err(CommandError::Output)?;
        }
        let moves = plan.lines.iter().any(|line| line.moves_pins);
        match (plan.needs_restart.is_empty(), moves) {
            (true, false) => Ok(()),
            (true, true) => Err(CommandError::Told(3)),
            (false, _) => Err(CommandError::Told(4)),
        }
    }
}

/// Read the configuration again, in the process that runs
///
/// It is accepted at once, or refused whole with every mistake, and then nothing changed. What a process
/// cannot change while it serves, such as listeners, is refused with the command that can.
#[derive(Args, Debug)]
pub(super) struct Reload {
    #[command(flatten)]
    target: Target,
}

impl Reload {
    pub(super) fn run(self) -> Result<(), CommandError> {
        say(&self.target.control()?.post("/v1/reload", &json!({}))?)
    }
}

/// Hand over to a new process, and to a new version of the program if there is one
///
/// The successor reads the file, opens the keys, takes over what is known of the backends, and proves that
/// it serves; only then the one before stops accepting and finishes what it has. When the successor
/// fails, nothing changed. No connection is refused or reset; WebSockets and other streams stay where they
/// are until `server.restart_grace_period` is over.
#[derive(Args, Debug)]
pub(super) struct Restart {
    #[command(flatten)]
    target: Target,
}

impl Restart {
    pub(super) fn run(self) -> Result<(), CommandError> {
        say(&self.target.control()?.post("/v1/restart", &json!({}))?)
    }
}
