//! Free ports on the loopback interface.

use std::net::{SocketAddr, TcpListener};

use crate::failure::{Context, Failure};

/// Asks the kernel for `count` different free ports, by binding port 0 `count` times before letting any of them go.
pub(crate) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let listeners: Result<Vec<TcpListener>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let listeners = listeners.context(|| "cannot find free ports on 127.0.0.1".to_owned())?;
    let addresses: Result<Vec<SocketAddr>, _> =
        listeners.iter().map(TcpListener::local_addr).collect();
    addresses.context(|| "cannot read the ports the kernel gave".to_owned())
}
