//! Tells the service manager how it goes (`sd_notify(3)`), without ever waiting for it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that says where.
pub(super) const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells the service manager, if there is one. One that does not listen misses it.
pub(super) fn notify(state: &str) {
    let Some(name) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_that_reads_nothing_makes_nobody_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        let sent = (0..10_000).take_while(|_| send(path.as_os_str(), "STATUS=x").is_ok()).count();
        assert!(sent < 10_000);
        let mut bytes = [0; 16];
        let read = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..read], b"STATUS=x");
    }
}
