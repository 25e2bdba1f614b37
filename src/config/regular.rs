//! Files that are files: whoever names a pipe or a device is told so, and not waited for.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

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
