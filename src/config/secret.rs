//! Key material from a file or the environment.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::regular;
use crate::balancer::affinity::keyring::{Key, KeyringError};

/// Longest secret, in bytes. Whatever is longer was meant for something else.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Permission bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// Why a secret cannot be used. Never holds the secret.
#[derive(Debug)]
pub enum SecretError {
    /// It is no file.
    Directory(PathBuf),
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Others than its owner may read or write the file; its permission bits.
    Exposed(PathBuf, u32),
    /// The environment has no such variable.
    Missing(String),
    /// The secret is no key; its length in bytes.
    Unusable(KeyringError, usize),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => {
                write!(f, "cannot read secret file {}: is a directory", path.display())
            }
            Self::Unreadable(path, error) => {
                write!(f, "cannot read secret file {}: {error}", path.display())
            }
            Self::Exposed(path, mode) => {
                write!(f, "secret file {} may be read by others (mode {mode:04o})", path.display())
            }
            Self::Missing(name) => write!(f, "the environment has no variable `{name}`"),
            Self::Unusable(error, bytes) => write!(f, "{error}, found {bytes}"),
        }
    }
}

impl std::error::Error for SecretError {}

impl SecretError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Directory(_) => "name one file in it".into(),
            Self::Unreadable(..) => {
                "make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)".into()
            }
            Self::Exposed(path, _) => format!("chmod 600 {}", path.display()),
            Self::Missing(_) => "set it in the environment of the process".into(),
            Self::Unusable(..) => "32 random bytes as base64 make a good secret".into(),
        }
    }
}

/// Reads the key in a file: the whole file without white space around it.
///
/// # Errors
/// When the file cannot be read, others may read it, or the secret is too short.
pub fn from_file(path: &Path) -> Result<Key, SecretError> {
    key(bytes_of_file(path)?.trim_ascii())
}

/// Reads a secret of any kind in a file that only its owner may read.
///
/// # Errors
/// When the file cannot be read, or others may read it.
pub fn bytes_of_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let unreadable = |error| SecretError::Unreadable(path.to_owned(), error);
    let (file, metadata) = match regular::open(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(SecretError::Directory(path.to_owned()));
        }
        other => other.map_err(unreadable)?,
    };
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SecretError::Exposed(path.to_owned(), mode));
    }
    regular::rest(file, SECRET_BYTES_MAX).map_err(unreadable)
}

/// Reads the key in an environment variable.
///
/// # Errors
/// When there is no such variable, or the secret is too short.
pub fn from_environment(name: &str) -> Result<Key, SecretError> {
    key(text_of_environment(name)?.trim().as_bytes())
}

/// Reads a secret of any kind in an environment variable.
///
/// # Errors
/// When there is no such variable.
pub fn text_of_environment(name: &str) -> Result<String, SecretError> {
    std::env::var(name).map_err(|_| SecretError::Missing(name.to_owned()))
}

fn key(secret: &[u8]) -> Result<Key, SecretError> {
    Key::from_secret(secret).map_err(|error| SecretError::Unusable(error, secret.len()))
}
