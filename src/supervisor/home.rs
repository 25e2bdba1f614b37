//! The state directory as the supervisor uses it: the lock, and the control socket.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

/// The name of the lock.
const LOCK: &str = "lock";

/// The highest process id of Linux (`PID_MAX_LIMIT`), for the longest name of a socket.
const PID_MAX: u32 = 4 << 20;

/// Longest path of a Unix socket, in bytes: `sun_path` less its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The name of the socket where a worker asks itself whether it serves.
pub fn endpoint_name(pid: u32) -> String {
    format!("worker.{pid}.sock")
}

/// The name of the control socket.
pub(super) const CONTROL: &str = "control.sock";

/// Longest path of a socket, in bytes: unix(7), without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// The longest name of a socket in the directory: that of the worker with the highest number there is.
const SOCKET_LONGEST: &str = "/worker.4194304.sock";

/// The state directory, held by this process alone.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    control: UnixListener,
    /// Locked for as long as it is open.
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug)]
pub(super) enum HomeError {
    /// The sockets in it would have a path that the system does not bear.
    TooLong(PathBuf),
    /// Another Homing holds it.
    Taken(PathBuf, String),
    /// The system refuses.
    System(PathBuf, io::Error),
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(path) => {
                let (length, most) =
                    (path.as_os_str().len(), SOCKET_PATH_MAX - SOCKET_LONGEST.len());
                write!(f, "the path of the state directory {} is too long: ", path.display())?;
                write!(f, "{length} bytes, and with the sockets in it {most} are possible")?;
                f.write_str("\n  = help: set `state_dir` to a shorter path")
            }
            Self::Taken(path, pid) => {
                write!(f, "another Homing (process {pid}) runs with {}", path.display())?;
                f.write_str("\n  = help: `homing restart` replaces it without losing a request; ")?;
                f.write_str("a second one needs a `state_dir` of its own")
            }
            Self::System(path, error) => {
                write!(f, "cannot use the state directory {}: {error}", path.display())?;
                f.write_str("\n  = help: set `state_dir` to a directory that Homing may write to")
            }
        }
    }
}

impl std::error::Error for HomeError {}

impl Home {
    /// Removes what a worker that is gone may have left.
    pub(super) fn clear(&self, pid: u32) {
        let _removed_by_itself = fs::remove_file(self.path.join(endpoint_name(pid)));
    }

    /// Makes the directory if need be, locks it, and listens in it.
    ///
    /// # Errors
    /// When another process holds it, or nothing can be written there.
    pub(super) fn open(path: &Path) -> Result<Self, HomeError> {
        if path.as_os_str().len() + SOCKET_LONGEST.len() > SOCKET_PATH_MAX {
            return Err(HomeError::TooLong(path.to_owned()));
        }
        let failed = |error| HomeError::System(path.to_owned(), error);
        let longest = path.join(endpoint_name(PID_MAX)).as_os_str().len();
        if longest > SOCKET_PATH_BYTES_MAX {
            let over = longest - SOCKET_PATH_BYTES_MAX;
            let text = format!("its path is {over} bytes too long for the sockets in it");
            return Err(failed(io::Error::other(text)));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _only_for_the_message = lock.read_to_string(&mut pid);
                return Err(HomeError::Taken(path.to_owned(), pid.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for the message that another gets: a full disk stops nothing here.
        let _unnoted = note_pid(&mut lock);
        let control = listen(&path.join(CONTROL)).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        Ok(Self { path, control, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket that commands connect to.
    pub(super) fn control(&self) -> &UnixListener {
        &self.control
    }

    /// The next of those who connected.
    pub(super) fn accept(&self) -> Option<UnixStream> {
        self.control.accept().ok().map(|(stream, _)| stream)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(self.path.join(CONTROL));
    }
}

fn note_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Listens on a path of ours; whoever left a socket there is gone, or we had no lock.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // For its owner alone from the first moment. The supervisor has no other thread that could mind.
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = Home::open(&path).unwrap();
        let error = Home::open(&path).unwrap_err().to_string();
        let own = format!("another Homing (process {}) runs with", std::process::id());
        assert!(error.starts_with(&own), "{error}");
        drop(first);
        Home::open(&path).unwrap();
    }

    #[test]
    fn only_its_owner_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let _home = Home::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(CONTROL))), (0o700, 0o600));
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "").unwrap();
        let error = Home::open(&path).unwrap_err().to_string();
        assert!(error.contains("state") && error.contains("help"), "{error}");
    }
}
