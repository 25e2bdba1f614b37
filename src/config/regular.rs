//! Files that are files: whoever names a pipe or a device is told so, and not waited for.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use uuid::Uuid;

/// Opens a regular file.
///
/// # Errors
/// When it cannot be opened, or is a directory, a pipe or a device.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Without it, to open a pipe would wait for who writes it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok((file, metadata))
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, or is longer, also when it grows meanwhile.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    rest(open(path)?.0, limit)
}

/// Reads what is left of an open file, at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn rest(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let limit = if limit >= 1 << 20 {
            format!("{} MiB", limit >> 20)
        } else {
            format!("{} KiB", limit >> 10)
        };
        return Err(io::Error::other(format!("it is longer than {limit}")));
    }
    Ok(bytes)
}

/// Writes a file that only its owner may read: after a crash at any moment there is the old one or the
/// new one, whole.
///
/// # Errors
/// When any step fails; then the old one is there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
}
