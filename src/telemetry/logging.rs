//! The log of the program itself, on standard error: rare changes of state, and what needs a hand.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// What is logged unless `HOMING_LOG` says otherwise. Pingora reports single requests as errors;
/// the access log does that with more to say.
const FILTER: &str = "info,pingora_core=warn,pingora_proxy=off,pingora_runtime=warn,pingora_core::services=error,pingora_core::apps=off";

/// How long a line waits for a reader, in nanoseconds: 10 ms. A log that nobody reads stops nothing.
const PATIENCE_NANOS: i64 = 10_000_000;

/// What a pipe that can be written to takes without waiting, in bytes (`PIPE_BUF`).
const PIECE: usize = 4096;

/// Starts logging. A second start changes nothing.
pub fn start() {
    let filter = std::env::var("HOMING_LOG").unwrap_or_else(|_| FILTER.to_owned());
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    let _started_before = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(FILTER)))
        .with_writer(|| Patient)
        // It would be told on standard error, which is what cannot be written to.
        .log_internal_errors(false)
        .with_ansi(ansi)
        .with_timer(SystemTime)
        .with_target(false)
        .try_init();
}

/// Standard error, for as long as somebody reads it.
struct Patient;

impl Write for Patient {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for piece in line.chunks(PIECE) {
            if !is_read() || io::stderr().write_all(piece).is_err() {
                break;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error takes more.
fn is_read() -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE_NANOS };
    poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0)
}
