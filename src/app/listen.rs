//! The sockets that clients connect to, bound before anything else happens: a taken port is an error
//! at the start, not a service that is not there.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;

use pingora::server::{Fds, ListenFds};

use super::StartError;
use crate::config::Config;

/// Bound addresses and their sockets.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Socket>,
    admin: Option<Socket>,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Socket {
    /// As it was bound: with its real port where any was asked for.
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

impl Bound {
    /// Binds every address of a configuration.
    ///
    /// # Errors
    /// With the first address that cannot be bound.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let listeners = config.listeners.iter().map(|listener| Socket::bind(listener.address));
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
            admin: config.admin.map(Socket::bind).transpose()?,
        })
    }

    /// The addresses that clients connect to.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|socket| socket.address)
    }

    /// The address of the admin listener.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|socket| socket.address)
    }

    /// Tells the log where.
    pub(super) fn announce(&self) {
        if let Some(address) = self.admin() {
            tracing::info!(%address, "admin listening");
        }
        for address in self.addresses() {
            tracing::info!(%address, "listening");
        }
    }

    /// Hands the sockets over.
    pub(super) fn into_fds(self) -> ListenFds {
        hand_over(self.listeners.into_iter().chain(self.admin))
    }
}

impl Socket {
    fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen(address, error);
        TcpListener::bind(address).and_then(Self::new).map_err(failed)
    }

    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        // Pingora accepts in a task: a blocking socket would hold its thread for ever.
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }
}

/// Hands sockets over as Pingora takes them: by the text of their address.
pub(super) fn hand_over(sockets: impl IntoIterator<Item = Socket>) -> ListenFds {
    let mut fds = Fds::new();
    for socket in sockets {
        fds.add(socket.address.to_string(), socket.listener.into_raw_fd());
    }
    ListenFds::new(fds.into())
}
