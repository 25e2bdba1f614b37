//! Signals, caught from the first moment: none of them ends the process by default action.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals as Iterator;
use signal_hook::low_level::signal_name;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// SIGINT: end at once.
    Interrupt,
    /// Nothing yet.
    Other(&'static str),
    /// SIGUSR1: open the access log again.
    Reopen,
    /// SIGTERM, SIGQUIT: finish what runs, then end.
    Terminate,
}

/// The signals of the process, in the order they came.
pub(super) struct Signals(Receiver<Signal>);

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        let mut caught = Iterator::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for number in caught.forever() {
                let signal = match number {
                    SIGINT => Signal::Interrupt,
                    SIGUSR1 => Signal::Reopen,
                    SIGTERM | SIGQUIT => Signal::Terminate,
                    other => Signal::Other(signal_name(other).unwrap_or("a signal")),
                };
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// The next signal, if one comes within `limit`.
    pub(super) fn next(&self, limit: Duration) -> Option<Signal> {
        self.0.recv_timeout(limit).ok()
    }
}
