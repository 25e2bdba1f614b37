//! The sockets that clients connect to, bound before anything else happens: a taken port is an error
//! at the start, not a service that is not there.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use pingora::server::{Fds, ListenFds};

use super::StartError;
use crate::config::Config;
use crate::supervisor::BindError;

/// Bound addresses and their sockets.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Socket>,
    admin: Option<Socket>,
    /// Where we ask ourselves whether we serve.
    own: Option<(String, UnixListener)>,
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
            admin: config.admin.as_ref().map(|admin| Socket::bind(admin.address)).transpose()?,
            own: None,
        })
    }

    /// The addresses of a configuration, in the order in which [`Self::received`] takes their sockets.
    pub(super) fn wanted(config: &Config) -> Vec<String> {
        let admin = config.admin.iter().map(|admin| admin.address);
        let listeners = config.listeners.iter().map(|listener| listener.address);
        admin.chain(listeners).map(|address| address.to_string()).collect()
    }

    /// Takes the sockets that another process bound, and an endpoint of our own at `own`.
    ///
    /// # Errors
    /// When one of them is no socket that listens, or `own` cannot be bound.
    pub(super) fn received(config: &Config, sockets: Vec<OwnedFd>, own: &Path) -> io::Result<Self> {
        let endpoint = UnixListener::bind(own)?;
        endpoint.set_nonblocking(true)?;
        let sockets = sockets.into_iter().map(|fd| Socket::new(TcpListener::from(fd)));
        let mut sockets = sockets.collect::<io::Result<Vec<_>>>()?.into_iter();
        Ok(Self {
            admin: config.admin.as_ref().and_then(|_| sockets.next()),
            listeners: sockets.collect(),
            own: Some((own.to_string_lossy().into_owned(), endpoint)),
        })
    }

    /// The path of our own endpoint.
    pub(super) fn own_endpoint(&self) -> Option<&str> {
        self.own.as_ref().map(|(path, _)| path.as_str())
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
        let sockets = self.listeners.into_iter().chain(self.admin);
        let sockets = sockets.map(|own| (own.address.to_string(), own.listener.into_raw_fd()));
        let own = self.own.map(|(path, endpoint)| (path, endpoint.into_raw_fd()));
        table(sockets.chain(own))
    }
}

impl Socket {
    fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen(BindError::new(&address, error));
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
    let sockets = sockets.into_iter();
    table(sockets.map(|own| (own.address.to_string(), own.listener.into_raw_fd())))
}

fn table(sockets: impl Iterator<Item = (String, RawFd)>) -> ListenFds {
    let mut fds = Fds::new();
    for (address, fd) in sockets {
        fds.add(address, fd);
    }
    ListenFds::new(fds.into())
}
