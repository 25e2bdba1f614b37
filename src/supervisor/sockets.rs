//! The listening sockets of the service. They outlive every worker.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};

/// The sockets, each known by the text that the file has for its address.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    bound: Vec<Socket>,
    /// From the service manager, not wanted yet.
    given: Vec<TcpListener>,
}

#[derive(Debug)]
struct Socket {
    name: Name,
    listener: TcpListener,
}

/// An address as the file has it, and which of those that are alike: port 0 may stand there twice.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Name(String, usize);

/// Why an address cannot be had.
#[derive(Debug)]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl BindError {
    /// Why this address cannot be had.
    pub fn new(address: &impl fmt::Display, error: io::Error) -> Self {
        Self { address: address.to_string(), error }
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the system says.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        write!(f, "cannot listen on {address}: {error}")?;
        let help = if error.kind() == io::ErrorKind::AddrInUse {
            "another process listens there: stop it, or choose another address"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "ports below 1024 need CAP_NET_BIND_SERVICE; conf/homing.service grants it"
        } else {
            "the address must be one of this machine's, or `0.0.0.0` or `[::]` for all of them"
        };
        write!(f, "\n  = help: {help}")
    }
}

impl std::error::Error for BindError {}

impl Sockets {
    /// Takes what the service manager bound (systemd's socket activation).
    ///
    /// # Errors
    /// When a descriptor it hands over is no socket that listens.
    pub(super) fn given() -> io::Result<Self> {
        let mut manager = ListenFd::from_env();
        let mut given = Vec::new();
        for index in 0..manager.len() {
            if let Some(listener) = manager.take_tcp_listener(index)? {
                fcntl_setfd(&listener, FdFlags::CLOEXEC)?;
                given.push(listener);
            }
        }
        Ok(Self { bound: Vec::new(), given })
    }

    /// Binds those of `addresses` that are not bound yet. All or none.
    ///
    /// # Errors
    /// With the first address that cannot be had.
    pub(super) fn bind(&mut self, addresses: &[String]) -> Result<(), BindError> {
        let missing = names(addresses).into_iter().filter(|name| self.find(name).is_none());
        let mut fresh = Vec::new();
        for name in missing.collect::<Vec<_>>() {
            let failed = |error| BindError::new(&name.0, error);
            let listener = self.listen(&name.0).map_err(failed)?;
            fresh.push(Socket { name, listener });
        }
        self.bound.extend(fresh);
        Ok(())
    }

    fn listen(&mut self, address: &str) -> io::Result<TcpListener> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let is_it = |given: &TcpListener| given.local_addr().is_ok_and(|own| own == address);
        let listener = match self.given.iter().position(is_it) {
            Some(index) => self.given.swap_remove(index),
            None => TcpListener::bind(address)?,
        };
        // Workers accept in tasks: a blocking socket would hold their threads for ever.
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The sockets of `addresses`, in their order.
    pub(super) fn of(&self, addresses: &[String]) -> Vec<BorrowedFd<'_>> {
        let found = names(addresses).into_iter().filter_map(|name| self.find(&name));
        found.map(|socket| socket.listener.as_fd()).collect()
    }

    /// Closes those that are not among `addresses`.
    pub(super) fn keep(&mut self, addresses: &[String]) {
        let wanted = names(addresses);
        self.bound.retain(|socket| wanted.contains(&socket.name));
    }

    /// Lets no more clients queue; those that wait are still there for who accepts.
    pub(super) fn refuse_more(&self) {
        for socket in &self.bound {
            // A queue that stays as it is costs a few clients a reset at the end, nothing more.
            let _best_effort = rustix::net::listen(&socket.listener, 0);
        }
    }

    fn find(&self, name: &Name) -> Option<&Socket> {
        self.bound.iter().find(|socket| socket.name == *name)
    }
}

fn names(addresses: &[String]) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    for address in addresses {
        let alike = names.iter().filter(|name| name.0 == *address).count();
        names.push(Name(address.clone(), alike));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    fn ports(sockets: &Sockets, addresses: &[String]) -> Vec<u16> {
        let names = names(addresses);
        let port = |name| sockets.find(name).unwrap().listener.local_addr().unwrap().port();
        names.iter().map(port).collect()
    }

    #[test]
    fn any_port_stays_the_one_that_was_taken() {
        let addresses = [ANY.to_owned(), ANY.to_owned()];
        let mut sockets = Sockets::default();
        sockets.bind(&addresses).unwrap();
        let first = ports(&sockets, &addresses);
        assert_ne!(first[0], first[1]);
        sockets.bind(&addresses).unwrap();
        assert_eq!(ports(&sockets, &addresses), first);
        sockets.keep(&addresses[..1]);
        assert_eq!(sockets.bound.len(), 1);
    }

    #[test]
    fn one_that_is_taken_binds_none() {
        let taken = TcpListener::bind(ANY).unwrap();
        let mut sockets = Sockets::default();
        let addresses = [ANY.to_owned(), taken.local_addr().unwrap().to_string()];
        let error = sockets.bind(&addresses).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
        assert!(error.contains("another process listens there"), "{error}");
        assert!(sockets.bound.is_empty());
    }
}
