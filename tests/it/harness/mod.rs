//! An edge (a real process), backends (threads), clients (sockets).

mod backend;
mod client;
mod edge;
mod h2_backend;
mod http2;
mod lively;
mod operator;
mod pebble;
mod suggesting;
mod tls;

use std::time::{Duration, Instant};

pub(crate) use self::backend::{Backend, Received, Reply, echo};
pub(crate) use self::client::{Client, Jar, Response};
pub(crate) use self::edge::{Edge, Launch, SECRET, homing, kill, scratch, write_key};
pub(crate) use self::h2_backend::{Exchange, H2Backend, TlsBackend, send};
pub(crate) use self::http2::{Asked, Http2};
pub(crate) use self::lively::{Lively, echoes, upgrade};
pub(crate) use self::operator::{Told, install, shell};
pub(crate) use self::pebble::Pebble;
pub(crate) use self::tls::{Authority, Pair, TlsClient, der, shown, write};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, &mut condition)
}

/// The same where it takes longer by its nature.
#[track_caller]
pub(crate) fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An app named `shop` for any host, with these backends.
pub(crate) fn shop(settings: &str, backends: &[&Backend]) -> String {
    let mut file = format!("default_app: shop\napps:\n  - name: shop\n{settings}    backends:\n");
    for backend in backends {
        let (id, address) = (backend.id(), backend.address());
        file.push_str(&format!("      - {{ id: {id}, address: \"{address}\" }}\n"));
    }
    if backends.is_empty() {
        file.truncate(file.trim_end().len());
        file.push_str(" []\n");
    }
    file
}

/// Probes quickly, as tests need it.
pub(crate) const QUICK: &str =
    "    health: { path: /healthz, interval: 100ms, timeout: 2s, rise: 1, fall: 1 }\n";

/// Whether nobody listens there.
pub(crate) fn is_refused(address: std::net::SocketAddr) -> bool {
    let refused = std::io::ErrorKind::ConnectionRefused;
    let connected = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
    connected.is_err_and(|error| error.kind() == refused)
}
