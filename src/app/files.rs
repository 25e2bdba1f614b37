//! What Homing keeps in its state directory, besides the key: written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::StartError;
use crate::balancer::administrative::Administrative;
use crate::config::regular;

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

/// Writes a file that only its owner may read: after a crash at any moment there is the old one or the
/// new one, whole.
///
/// # Errors
/// When any step fails; then the old one is there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let own = directory.join(format!(".new.{}", Uuid::new_v4()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(&own).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&own, path)
    });
    if written.is_err() {
        let _never_made_or_gone = fs::remove_file(&own);
        return written;
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"old").unwrap();
        // A directory in the way of the rename.
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "nothing is left behind: {names:?}");
    }

    #[test]
    fn nothing_written_is_nothing_wanted_and_half_of_it_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(files.administrative().unwrap(), Administrative::default());
        fs::write(directory.path().join(ADMINISTRATIVE), "{\"version\":1,").unwrap();
        assert!(files.administrative().is_err());
    }
}
