//! A backend and its app's policies to the peer that Pingora connects to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use pingora::http::RequestHeader;
use pingora::protocols::l4::ext::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{ALPN, H1UpgradePolicy, HttpPeer};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType, Result};

use super::connection::Connection;
use super::context::{RequestContext, RequestKind};
use super::failure::Failure;
use super::proxied::introduce;
use crate::balancer::app::backend::{Address, Backend};
use crate::balancer::app::policy::Policy;
use crate::balancer::app::protocol::{BackendProtocol, H2Limits};
use crate::balancer::app::tls::{BackendTls, Verify};

/// How a machine that went away without a word is noticed, although a connection with many streams always has
/// something on its way: nothing of it is acknowledged for `user_timeout`, or no probe of an idle connection is.
const ALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::from_secs(30),
};

/// How a request came that is to be sent on.
pub(super) struct Came<'c> {
    pub(super) kind: RequestKind,
    /// The version that the client speaks.
    pub(super) version: Version,
    /// The connection it came on.
    pub(super) connection: Option<&'c Connection>,
}

/// Makes the peer for one request, which has `connect` to connect.
///
/// # Errors
/// When the path of a Unix socket is none.
pub(super) fn build(
    backend: &Backend,
    policy: &Policy,
    connect: Duration,
    came: &Came<'_>,
) -> Result<Box<HttpPeer>> {
    let protocol = match policy.protocol {
        // Where HTTP/2 leaves the length of a body open, Pingora would send chunks, which such a client cannot read.
        BackendProtocol::Auto(_) if came.version == Version::HTTP_10 => BackendProtocol::Http1,
        protocol @ (BackendProtocol::Http1
        | BackendProtocol::H2(_)
        | BackendProtocol::H2c(_)
        | BackendProtocol::Auto(_)) => protocol,
    };
    let mut peer = Box::new(to(&backend.address, policy.tls.as_ref())?);
    let timeouts = &policy.timeouts;
    let options = &mut peer.options;
    options.connection_timeout = Some(connect);
    options.total_connection_timeout = Some(connect);
    // Reading is watched by connection.rs, which knows what for, and sets no timer for each request.
    options.read_timeout = None;
    options.write_timeout = Some(timeouts.idle);
    options.idle_timeout = Some(timeouts.keepalive);
    // Pingora's own choice would let WebSockets through alone, and also those that lack their
    // `Connection` token. forward.rs cleans the requests that are let through here.
    options.http_upstream_request_policy.h1_upgrade = match came.kind {
        RequestKind::Call | RequestKind::Plain => H1UpgradePolicy::Deny,
        RequestKind::Upgrade => H1UpgradePolicy::Preserve,
    };
    if let Some(version) = policy.proxy_protocol {
        // Connections of one client to one address may still be those of two apps.
        let mark = peer.group_key;
        introduce(&mut peer, version, came.connection);
        peer.group_key = mixed(peer.group_key, mark);
    }
    match came.kind {
        RequestKind::Call | RequestKind::Plain => speak(&mut peer, protocol),
        RequestKind::Upgrade => {
            peer.options.alpn = ALPN::H1;
            // A connection of its own: on a kept one, another thread may see the 101 before Pingora has
            // seen the end of the request, and Pingora then takes the tunnel for finished.
            peer.group_key = rand::random();
            // Nobody else has that key: without a 101 it is of no use.
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
    }
    Ok(peer)
}

/// Why backends that speak HTTP/2 alone cannot be asked what the client asks, if they cannot.
pub(super) fn unsupported(
    policy: &Policy,
    request: &RequestHeader,
    ctx: &RequestContext,
) -> Option<Failure> {
    if policy.protocol.upgrades() {
        return None;
    }
    match ctx.kind {
        RequestKind::Upgrade => Some(Failure::NoUpgrade),
        // See `build`.
        RequestKind::Call | RequestKind::Plain => {
            (request.version == Version::HTTP_10).then_some(Failure::UnknownVersion)
        }
    }
}

/// The peer at an address, with the TLS that the app wants. Connections are shared only among those who trust the
/// same authorities and show the same certificate.
///
/// # Errors
/// When the path of a Unix socket is none.
pub fn to(address: &Address, tls: Option<&BackendTls>) -> Result<HttpPeer> {
    let sni = tls.map_or_else(String::new, |tls| tls.server_name.to_string());
    if tls.is_some() && sni.is_empty() {
        // Pingora would check nothing, without a word.
        return Error::e_explain(ErrorType::InvalidCert, "no name to check the certificate by");
    }
    let mut peer = match address {
        Address::Tcp(address) => HttpPeer::new(address, tls.is_some(), sni),
        Address::Unix(path) => HttpPeer::new_uds(text(path)?, tls.is_some(), sni)?,
    };
    let Some(tls) = tls else { return Ok(peer) };
    let verify = tls.verify == Verify::Full;
    peer.options.verify_cert = verify;
    peer.options.verify_hostname = verify;
    peer.group_key = tls.mark();
    if let Some(made) = tls.made.get_or_make(|| Made::of(tls)) {
        peer.options.ca.clone_from(&made.authorities);
        peer.client_cert_key.clone_from(&made.identity);
    }
    Ok(peer)
}

/// Has the peer spoken to in this protocol, on connections that are those of nobody who speaks another.
pub fn speak(peer: &mut HttpPeer, protocol: BackendProtocol) {
    peer.options.alpn = match protocol {
        BackendProtocol::Http1 => ALPN::H1,
        BackendProtocol::H2(_) | BackendProtocol::H2c(_) => ALPN::H2,
        BackendProtocol::Auto(_) => ALPN::H2H1,
    };
    let Some(limits) = protocol.h2() else { return };
    let H2Limits { streams, window_bytes, ping } = limits;
    let options = &mut peer.options;
    options.max_h2_streams = usize::try_from(streams).unwrap_or(1);
    options.h2_stream_window_size = Some(window_bytes);
    options.h2_connection_window_size = Some(limits.connection_window_bytes());
    options.h2_ping_interval = ping;
    options.tcp_keepalive = Some(ALIVE);
    let seconds = ping.map_or(0, |ping| ping.as_secs());
    let negotiates = u64::from(matches!(protocol, BackendProtocol::Auto(_)));
    // Pingora shares connections whatever was agreed on for them, and whatever their windows are.
    for what in [u64::from(window_bytes), seconds, negotiates] {
        peer.group_key = mixed(peer.group_key, what);
    }
}

/// Another key for who differs in one more thing: no two pairs of small numbers have the same (SplitMix64).
fn mixed(key: u64, what: u64) -> u64 {
    let mut word = key.wrapping_add(what.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Certificates and a key as Pingora takes them.
struct Made {
    authorities: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
}

impl Made {
    /// All of them were read before, by the same parser: one that cannot be read would be a panic.
    fn of(tls: &BackendTls) -> Self {
        let authorities = tls.authorities.as_ref().map(|authorities| {
            let all = authorities.certificates.iter();
            all.map(|der| WrappedX509::new(der.clone(), parse_x509)).collect()
        });
        let identity = tls.identity.as_ref().map(|identity| {
            Arc::new(CertKey::new(identity.chain.clone(), identity.key.der().to_vec()))
        });
        Self { authorities, identity }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::explain(ErrorType::SocketError, "the path of a Unix socket is not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::*;
    use crate::balancer::app::tls::Authorities;

    fn certificate() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.internal".into()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn pool(tls: Option<&BackendTls>, protocol: BackendProtocol) -> u64 {
        let mut peer = to(&Address::Tcp(([127, 0, 0, 1], 1).into()), tls).unwrap();
        speak(&mut peer, protocol);
        peer.reuse_hash()
    }

    #[test]
    fn small_numbers_have_keys_of_their_own() {
        let pairs = (0..300).flat_map(|key| (0..300).map(move |what| mixed(key, what)));
        assert_eq!(pairs.collect::<std::collections::HashSet<_>>().len(), 300 * 300);
    }

    #[test]
    fn connections_are_not_shared_by_who_trusts_others_or_speaks_otherwise() {
        let plain = BackendTls::new("a.internal", Verify::Full);
        let trusting = |der: &[u8]| BackendTls {
            authorities: Some(Arc::new(Authorities::new("ca".into(), vec![der.to_vec()]))),
            ..BackendTls::new("a.internal", Verify::Full)
        };
        let (one, other) = (certificate(), certificate());
        let limits = H2Limits::DEFAULT;
        let narrow = H2Limits { window_bytes: 65_536, ..limits };
        let pings = H2Limits { ping: Some(Duration::from_secs(9)), ..limits };
        let h1 = BackendProtocol::Http1;
        let mut all = vec![
            pool(None, h1),
            pool(None, BackendProtocol::H2c(limits)),
            pool(None, BackendProtocol::H2c(narrow)),
            pool(None, BackendProtocol::H2c(pings)),
            pool(Some(&plain), h1),
            pool(Some(&plain), BackendProtocol::H2(limits)),
            pool(Some(&plain), BackendProtocol::Auto(limits)),
            pool(Some(&trusting(&one)), h1),
            pool(Some(&trusting(&other)), h1),
            pool(Some(&trusting(&one)), BackendProtocol::H2(limits)),
        ];
        assert_eq!(pool(Some(&trusting(&one)), h1), all[7], "the same is shared");
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn without_a_name_nothing_is_connected_to() {
        let nameless = BackendTls::new("", Verify::Full);
        assert!(to(&Address::Tcp(([127, 0, 0, 1], 1).into()), Some(&nameless)).is_err());
    }
}
