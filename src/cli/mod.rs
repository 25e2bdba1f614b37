//! The commands: one file each.

mod check;
mod completions;
mod demo;
mod run;
mod token;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::StartError;
use crate::config::ConfigError;

/// An edge HTTP load balancer that brings every client home.
///
/// The first request of a client goes to a random live backend of the app that its domain names; a
/// sealed cookie remembers which, and every later request returns there.
#[derive(Debug, Parser)]
#[command(name = "homing", version, propagate_version = true)]
#[command(
    after_help = "Begin with `homing demo`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Completions(completions::Completions),
    Demo(demo::Demo),
    Run(run::Run),
    #[command(subcommand)]
    Token(token::Token),
}

/// Why a command failed. Reported once, by `main`.
#[derive(Debug)]
pub enum CommandError {
    /// The file is wrong.
    Config(ConfigError),
    /// The answer cannot be printed.
    Output(std::io::Error),
    /// It failed, in words of its own.
    Failed(String),
    /// Homing cannot start.
    Start(StartError),
    /// What was asked for makes no sense.
    Usage(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Has its place in front, as compilers have.
            Self::Config(error @ ConfigError::Wrong(_)) => write!(f, "{error}"),
            Self::Config(error) => write!(f, "error: {error}"),
            Self::Output(error) => write!(f, "error: cannot print: {error}"),
            Self::Start(error) => write!(f, "error: {error}"),
            Self::Failed(error) | Self::Usage(error) => write!(f, "error: {error}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl CommandError {
    /// 2 for what the caller can mend in the command line or the file, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Output(_) | Self::Start(_) => ExitCode::from(1),
        }
    }
}

/// Runs the command that the arguments name.
///
/// # Errors
/// When the command fails. Wrong arguments end the process here, with help and exit code 2.
pub fn run() -> Result<(), CommandError> {
    match Arguments::parse().command {
        Command::Check(check) => check.run(),
        Command::Completions(completions) => completions.run(),
        Command::Demo(demo) => demo.run(),
        Command::Run(run) => run.run(),
        Command::Token(token) => token.run(),
    }
}

/// Prints the answer of a command.
fn print(text: &str) -> Result<(), CommandError> {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::Output)
}
