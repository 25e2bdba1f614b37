//! A backend and its app's policies to the peer that Pingora connects to.

use std::path::Path;
use std::time::Duration;

use pingora::upstreams::peer::{ALPN, H1UpgradePolicy, HttpPeer};
use pingora::{Error, ErrorType, Result};

use super::connection::Connection;
use super::context::RequestKind;
use super::proxied::introduce;
use crate::balancer::app::backend::{Address, Backend};
use crate::balancer::app::policy::{BackendTls, Policy, Verify};

/// Makes the peer for one request, which has `connect` to connect.
///
/// # Errors
/// When the path of a Unix socket is none.
pub(super) fn build(
    backend: &Backend,
    policy: &Policy,
    connect: Duration,
    kind: RequestKind,
    connection: Option<&Connection>,
) -> Result<Box<HttpPeer>> {
    let (tls, sni) = match &policy.tls {
        Some(tls) => (true, tls.server_name.to_string()),
        None => (false, String::new()),
    };
    let mut peer = Box::new(match &backend.address {
        Address::Tcp(address) => HttpPeer::new(address, tls, sni),
        Address::Unix(path) => HttpPeer::new_uds(text(path)?, tls, sni)?,
    });
    let timeouts = &policy.timeouts;
    let options = &mut peer.options;
    options.connection_timeout = Some(connect);
    options.total_connection_timeout = Some(connect);
    // Reading is watched by connection.rs, which knows what for, and sets no timer for each request.
    options.read_timeout = None;
    options.write_timeout = Some(timeouts.idle);
    options.idle_timeout = Some(timeouts.keepalive);
    options.alpn = ALPN::H1;
    // Pingora's own choice would let WebSockets through alone, and also those that lack their
    // `Connection` token. forward.rs cleans the requests that are let through here.
    options.http_upstream_request_policy.h1_upgrade = match kind {
        RequestKind::Plain => H1UpgradePolicy::Deny,
        RequestKind::Upgrade => H1UpgradePolicy::Preserve,
    };
    set_verification(&mut peer, policy.tls.as_ref());
    if let Some(version) = policy.proxy_protocol {
        introduce(&mut peer, version, connection);
    }
    if kind == RequestKind::Upgrade {
        // A connection of its own: on a kept one, another thread may see the 101 before Pingora has
        // seen the end of the request, and Pingora then takes the tunnel for finished.
        peer.group_key = rand::random();
    }
    Ok(peer)
}

/// Checks certificates as the app wants it.
pub fn set_verification(peer: &mut HttpPeer, tls: Option<&BackendTls>) {
    let verify = tls.is_none_or(|tls| tls.verify == Verify::Full);
    peer.options.verify_cert = verify;
    peer.options.verify_hostname = verify;
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::explain(ErrorType::SocketError, "the path of a Unix socket is not UTF-8")
    })
}
