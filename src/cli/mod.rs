//! The commands: one file each.

mod change;
mod check;
mod completions;
mod control;
mod demo;
mod explain;
mod failures;
mod keys;
mod operate;
mod run;
mod status;
mod token;
mod worker;

use std::fmt;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::StartError;
use crate::config::{self, ConfigError};

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
    Drain(operate::Drain),
    Explain(explain::Explain),
    Failures(failures::Failures),
    #[command(subcommand)]
    Keys(keys::Keys),
    Maintenance(operate::Maintenance),
    Plan(change::Plan),
    Ready(operate::Ready),
    Reload(change::Reload),
    Restart(change::Restart),
    Run(run::Run),
    Status(status::Status),
    #[command(subcommand)]
    Token(token::Token),
    #[command(hide = true)]
    Worker(worker::Worker),
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
    /// All was said; only the exit code is left.
    Told(u8),
    /// What was asked for makes no sense.
    Usage(String),
    /// The worker cannot start: why, and the exit code that says so.
    Worker(String, u8),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Has its place in front, as compilers have.
            Self::Config(error @ ConfigError::Wrong(_)) => write!(f, "{error}"),
            Self::Config(error) => write!(f, "error: {error}"),
            Self::Output(error) => write!(f, "error: cannot print: {error}"),
            Self::Start(error) => write!(f, "error: {error}"),
            Self::Failed(error) | Self::Usage(error) if is_report(error) => f.write_str(error),
            Self::Failed(error) | Self::Usage(error) => write!(f, "error: {error}"),
            Self::Told(_) => Ok(()),
            Self::Worker(text, _) => f.write_str(text),
        }
    }
}

impl std::error::Error for CommandError {}

/// Whether a text is a report of mistakes in a file: those begin with their places.
fn is_report(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|line| line.contains(": error: ") || line.starts_with("error: "))
}

impl CommandError {
    /// 2 for what the caller can mend in the command line or the file, 1 for everything else, and what a
    /// command says of its own.
    pub fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Failed(_) | Self::Output(_) | Self::Start(_) => 1,
            Self::Told(code) | Self::Worker(_, code) => *code,
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
        Command::Drain(drain) => drain.run(),
        Command::Explain(explain) => explain.run(),
        Command::Failures(failures) => failures.run(),
        Command::Keys(keys) => keys.run(),
        Command::Maintenance(maintenance) => maintenance.run(),
        Command::Plan(plan) => plan.run(),
        Command::Ready(ready) => ready.run(),
        Command::Reload(reload) => reload.run(),
        Command::Restart(restart) => restart.run(),
        Command::Run(run) => run.run(),
        Command::Status(status) => status.run(),
        Command::Token(token) => token.run(),
        Command::Worker(worker) => worker.run(),
    }
}

/// Prints the answer of a command.
fn print(text: &str) -> Result<(), CommandError> {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::Output)
}

/// Parses a duration as the file has it.
fn duration(text: &str) -> Result<Duration, &'static str> {
    config::duration(text)
}
