//! The keyring of a configuration: the keys it lists, or the one kept in the state directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::StartError;
use crate::balancer::affinity::keyring::Keyring;
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
            let path = config.state_dir.join(FILE);
            if missing == Missing::Make && fs::symlink_metadata(&path).is_err() {
                make(&config.state_dir, &path)
                    .map_err(|error| StartError::KeyFile(path.clone(), error))?;
            }
            if fs::symlink_metadata(&path).is_err() {
                let error = io::Error::other(
                    "it is not there; the first start makes it. Restore it, or stop Homing and start it again: then every pin is made anew",
                );
                return Err(StartError::KeyFile(path, error));
            }
            whole(&path)?;
            let key = secret::from_file(&path).map_err(StartError::Secret)?;
            Keyring::new(vec![key]).map_err(StartError::Keyring)
        }
    }
}

/// Refuses a key of ours that was cut or changed: another secret would take every client's pin.
fn whole(path: &Path) -> Result<(), StartError> {
    let text = secret::bytes_of_file(path).map_err(StartError::Secret)?;
    match URL_SAFE_NO_PAD.decode(text.trim_ascii()) {
        Ok(secret) if secret.len() == SECRET_BYTES => Ok(()),
        Ok(_) | Err(_) => Err(StartError::Key(path.to_owned(), "is not whole")),
    }
}

/// Makes a key, readable by its owner alone and whole or not at all. Of two processes that make one
/// at once, one wins and both use that.
fn make(state_dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let secret: [u8; SECRET_BYTES] = rand::random();
    let own: PathBuf = state_dir.join(format!(".{FILE}.{}", Uuid::new_v4()));
    let written = write(&own, &secret).and_then(|()| match fs::hard_link(&own, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&own)?;
    written?;
    fs::File::open(state_dir)?.sync_all()?;
    tracing::info!(path = %path.display(), "made an affinity key");
    Ok(())
}

fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(secret))?;
    file.sync_all()
}
