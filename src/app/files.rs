//! What Homing keeps in its state directory, besides the key: written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StartError;
use crate::balancer::administrative::Administrative;
use crate::config::regular;
pub(super) use crate::config::regular::write;

/// What the operator wants of apps and backends.
const ADMINISTRATIVE: &str = "administrative.json";

/// The configuration that was accepted last, for a worker that takes the place of one that crashed.
const ACCEPTED: &str = "accepted.yaml";

/// Longest document that is believed to be ours, in bytes.
const BYTES_MAX: u64 = 256 << 20;

/// The files of a state directory.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.to_owned())
    }

    /// What the operator wants; nothing, when nothing was ever written.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub(super) fn administrative(&self) -> Result<Administrative, StartError> {
        let path = self.0.join(ADMINISTRATIVE);
        let unreadable = |error| StartError::StateFile(path.clone(), error);
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Administrative::default());
            }
            Err(error) => return Err(unreadable(error.to_string())),
        };
        Administrative::parse(&text).map_err(unreadable)
    }

    /// Keeps what the operator wants.
    ///
    /// # Errors
    /// When it cannot be written; then the file is as it was.
    pub(super) fn keep_administrative(&self, document: &Administrative) -> io::Result<()> {
        write(&self.0.join(ADMINISTRATIVE), document.text().as_bytes())
    }

    /// The text of the configuration that was accepted last.
    pub(super) fn accepted(&self) -> Option<String> {
        String::from_utf8(read(&self.0.join(ACCEPTED)).ok()?).ok()
    }

    /// Keeps the text of a configuration that was accepted.
    pub(super) fn keep_accepted(&self, source: &str) {
        if let Err(error) = write(&self.0.join(ACCEPTED), source.as_bytes()) {
            let path = self.0.join(ACCEPTED);
            tracing::warn!(%error, path = %path.display(), "cannot keep the accepted configuration");
            // An older one would come back after a crash: then rather the file as it is.
            let _not_there = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    regular::read(path, BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_written_is_nothing_wanted_and_half_of_it_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(files.administrative().unwrap(), Administrative::default());
        fs::write(directory.path().join(ADMINISTRATIVE), "{\"version\":1,").unwrap();
        assert!(files.administrative().is_err());
    }
}
