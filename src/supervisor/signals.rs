//! Signals without a thread: they make a descriptor readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// SIGINT: end at once.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the access log again.
    Reopen,
    /// SIGUSR2: start a successor.
    Restart,
    /// SIGTERM, SIGQUIT: finish what runs, then end.
    Terminate,
}

/// The signals of the process.
#[derive(Debug)]
pub(super) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Catches them from now on. The end of a child only wakes, and so does a file that may not grow:
    /// the write fails, and whoever wrote says so.
    pub(super) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let caught = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ];
        SignalDelivery::with_pipe(read, write, SignalOnly, caught).map(Self)
    }

    /// Readable when a signal came.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    /// Those that came.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        let signal = |number| match number {
            SIGHUP => Some(Signal::Reload),
            SIGINT => Some(Signal::Interrupt),
            SIGQUIT | SIGTERM => Some(Signal::Terminate),
            SIGUSR1 => Some(Signal::Reopen),
            SIGUSR2 => Some(Signal::Restart),
            _child_or_file => None,
        };
        self.0.pending().filter_map(signal).collect()
    }
}
