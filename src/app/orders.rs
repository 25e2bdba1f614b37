//! What a process is told to do, by signals or by its supervisor, one after another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::supervisor::channel::Channel;
use crate::supervisor::message::ToWorker;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Order {
    /// End at once.
    Interrupt,
    /// A signal that asks for nothing here.
    Nothing(&'static str),
    /// The supervisor is gone: finish what runs, then end.
    Orphaned,
    /// Open the access log again.
    Reopen,
    /// Finish what runs, then end.
    Terminate,
    /// From the supervisor.
    Told(ToWorker, Option<OwnedFd>),
}

/// Who may give orders by signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signalled {
    /// Everybody: the process has no supervisor.
    Alone,
    /// The supervisor takes the signals; one to this process only can ask it to finish.
    Supervised,
}

/// The orders, in the order they came.
pub(super) struct Orders {
    received: Receiver<Order>,
    sender: Sender<Order>,
}

impl Orders {
    /// Catches signals from now on: none of them ends the process by default action.
    pub(super) fn catch(who: Signalled) -> io::Result<Self> {
        // A file that may not grow (SIGXFSZ) is told by the write that fails.
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ];
        let mut caught = Signals::new(all)?;
        let (sender, received) = mpsc::channel();
        let own = sender.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for number in caught.forever() {
                if own.send(order(number, who)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { received, sender })
    }

    /// Takes orders from the supervisor, too. When it is gone, that is one: to finish.
    pub(super) fn listen_to(&self, supervisor: &Arc<Channel>) -> io::Result<()> {
        let (channel, sender) = (Arc::clone(supervisor), self.sender.clone());
        thread::Builder::new().name("supervisor".into()).spawn(move || {
            loop {
                let (order, last) = match channel.receive() {
                    Ok(Some((told, fd))) => (Order::Told(told, fd), false),
                    Ok(None) => (Order::Orphaned, true),
                    Err(error) => {
                        tracing::error!(%error, "the supervisor makes no sense");
                        (Order::Orphaned, true)
                    }
                };
                if sender.send(order).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(())
    }

    /// The next order, if one comes within `limit`.
    pub(super) fn next(&self, limit: Duration) -> Option<Order> {
        self.received.recv_timeout(limit).ok()
    }
}

fn order(number: i32, who: Signalled) -> Order {
    match (number, who) {
        (SIGTERM | SIGQUIT, _) => Order::Terminate,
        (SIGINT, Signalled::Alone) => Order::Interrupt,
        (SIGUSR1, Signalled::Alone) => Order::Reopen,
        (other, _) => Order::Nothing(signal_name(other).unwrap_or("a signal")),
    }
}
