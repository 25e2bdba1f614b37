//! From the text of the file to a typed model, in three stages, reporting every mistake at once.
//!
//! 1. `yaml` and `tree`: the file as it was written, every value with its place.
//! 2. `fields` and `lower`: one function a section, collecting every problem.
//! 3. [`model`]: what the program uses.

pub mod acme;
mod fields;
mod lower;
pub mod model;
mod plain;
pub mod problem;
pub mod regular;
mod scalar;
pub mod secret;
pub mod settings;
mod tree;
mod yaml;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use self::model::Config;
use self::problem::Report;
use crate::balancer::shared::Shared;
use crate::balancer::state::AppSpec;

/// Longest file, in bytes. 100,000 apps need about 20 MiB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Longest page of the operator's own, in bytes. It stays in memory, and is sent to every client that
/// asks meanwhile.
pub const PAGE_BYTES_MAX: usize = 64 << 10;

/// Why a file makes no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// There are mistakes in it.
    Wrong(Report),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Wrong(report) => report.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a file. Relative paths in it start at its own directory.
///
/// # Errors
/// When it cannot be read, or with every mistake in it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse(path, read(path)?)
}

/// Reads the text of a file.
///
/// # Errors
/// When it cannot be read, or is too long.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable(path.to_owned(), error);
    let bytes = regular::read(path, FILE_BYTES_MAX).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| unreadable(io::Error::other("it is not UTF-8")))
}

/// Where the running Homing of a file keeps its state, although there may be mistakes in the file.
///
/// # Errors
/// When the file cannot be read, or that cannot be found in it.
pub fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let source = read(path)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    lower::state_dir(&source, directory)
        .map_err(|problems| ConfigError::Wrong(Report::new(path, source, problems)))
}

/// Parses a duration as the file has it.
///
/// # Errors
/// With what was expected.
pub fn duration(text: &str) -> Result<std::time::Duration, &'static str> {
    scalar::duration(text)
}

/// Reads the text of a file; `path` is for messages and for the directory it stands in.
///
/// # Errors
/// With every mistake in it.
pub fn parse(path: &Path, source: String) -> Result<Config, ConfigError> {
    parse_beside(&[], path, source)
}

/// The same. It shares with `before` the apps that are the same: both then have one of each, and a comparison looks no
/// further.
///
/// # Errors
/// With every mistake in it.
pub fn parse_beside(
    before: &[Shared<AppSpec>],
    path: &Path,
    source: String,
) -> Result<Config, ConfigError> {
    let directory = path.parent().unwrap_or(Path::new(""));
    match lower::lower(&source, directory, before) {
        Ok(config) => Ok(config),
        Err(problems) => Err(ConfigError::Wrong(Report::new(path, source, problems))),
    }
}

/// What a configuration of this text is in doubt for, although it is accepted; `None`: nothing.
pub fn doubts(path: &Path, source: &str, config: &Config) -> Option<Report> {
    let doubts: Vec<_> = config.doubts.iter().map(|doubt| doubt.problem.clone()).collect();
    (!doubts.is_empty()).then(|| Report::warning(path, source.to_owned(), doubts))
}
