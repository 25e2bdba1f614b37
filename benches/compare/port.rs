//! Free ports on the loopback interface.

use std::{
    iter,
    net::{SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

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

/// Below every range that the kernel takes ports of outgoing connections from: a port that nobody listens on for a
/// while stays free. Above those of well-known services.
const FIXED: std::ops::Range<u16> = 20_000..30_000;

/// How many were looked at, so that none is given twice in a run.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// Distance between where two runs at the same time begin to look.
const APART: u32 = 97;

/// Finds `COUNT` different ports that nobody uses, and that stay free while nobody listens there.
pub(crate) fn fixed_addresses<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Failure> {
    let count = FIXED.end - FIXED.start;
    let start = process::id().wrapping_mul(APART) % u32::from(count);
    let free = || {
        let step = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        let place = (start + u32::from(step)) % u32::from(count);
        let port = FIXED.start + u16::try_from(place).ok()?;
        (step < count).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let found: Vec<SocketAddr> = iter::from_fn(free)
        .filter(|address| TcpListener::bind(address).is_ok())
        .take(COUNT)
        .collect();
    found.try_into().map_err(|_| Failure::new("no free ports are left on 127.0.0.1"))
}
