//! The keyring of a configuration: the keys it lists, or the one kept in the state directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::StartError;
use crate::balancer::affinity::keyring::{Key, Keyring, KeyringError};
use crate::config::model::Keys;
use crate::config::{Config, secret};

/// Random bytes of a key that Homing makes.
const SECRET_BYTES: usize = 32;

/// The name of the key that Homing makes, in the state directory.
const FILE: &str = "affinity.key";

/// What to do when no key was made yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// Make one and keep it.
    Make,
    /// Say so.
    Refuse,
}

/// The keyring of a configuration.
///
/// # Errors
/// When a key cannot be read, made or kept.
pub fn keyring(config: &Config, missing: Missing) -> Result<Keyring, StartError> {
    match &config.keys {
        Keys::Listed(keyring) => Ok(keyring.clone()),
        Keys::Generated => {
            let path = made_keys(&config.state_dir);
            if missing == Missing::Make && fs::symlink_metadata(&path).is_err() {
                make(&config.state_dir, &path)
                    .map_err(|error| StartError::KeyFile(path.clone(), error))?;
            }
            if fs::symlink_metadata(&path).is_err() {
                return Err(StartError::Key(path, "is not there"));
            }
            ring(&secrets(&path)?).map_err(StartError::Keyring)
        }
    }
}

/// The ring of these secrets, newest first.
pub(super) fn ring(secrets: &[String]) -> Result<Keyring, KeyringError> {
    let keys = secrets.iter().map(|secret| Key::from_secret(secret.as_bytes()));
    Keyring::new(keys.collect::<Result<_, _>>()?)
}

/// The file of the keys that Homing makes.
pub(super) fn made_keys(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// The secrets of keys that Homing made, newest first, one a line. One that was cut or changed is refused:
/// another secret would take every client's pin.
pub(super) fn secrets(path: &Path) -> Result<Vec<String>, StartError> {
    let text = secret::bytes_of_file(path).map_err(StartError::Secret)?;
    let damaged = || StartError::Key(path.to_owned(), "is not whole");
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    let is_whole =
        |line: &&str| URL_SAFE_NO_PAD.decode(line).is_ok_and(|secret| secret.len() == SECRET_BYTES);
    if text.is_empty() || !text.lines().all(|line| is_whole(&line)) {
        return Err(damaged());
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// A new secret, as a line of a file.
pub fn new_secret() -> String {
    let secret: [u8; SECRET_BYTES] = rand::random();
    URL_SAFE_NO_PAD.encode(secret)
}

/// Makes a key, readable by its owner alone and whole or not at all. Of two processes that make one
/// at once, one wins and both use that.
fn make(state_dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let own: PathBuf = state_dir.join(format!(".{FILE}.{}", Uuid::new_v4()));
    let written = write(&own, &new_secret()).and_then(|()| match fs::hard_link(&own, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&own)?;
    written?;
    fs::File::open(state_dir)?.sync_all()?;
    tracing::info!(path = %path.display(), "made an affinity key");
    Ok(())
}

/// Writes a secret to a file that is not there yet, for its owner alone.
///
/// # Errors
/// When the file is there, or cannot be written.
pub fn write(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}
