//! Where the requests of a connection come from.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use http::HeaderValue;
use pingora::protocols::SocketDigest;
use pingora::protocols::l4::socket;

use super::forward::Secure;
use super::handshake::Secured;
use crate::balancer::affinity::memo::Memo;
use crate::balancer::misdirected::{Shown, is_misdirected};
use crate::config::model::Redirect;
use crate::tls::certificate::Name;
use crate::wire::proxied::{Ends, Header};

/// Who is at the other end of a connection, and how they came. All requests of a connection share it.
#[derive(Debug)]
pub(super) struct Origin {
    /// Who connected.
    pub(super) client: Option<IpAddr>,
    /// The port that the client connected to.
    pub(super) port: Option<u16>,
    /// Both ends of the connection of the client; `None`: they are not known, or no addresses of IP.
    pub(super) ends: Option<Ends>,
    /// Whether it came through our own endpoint, to see that we serve.
    pub(super) own: bool,
    /// Whether the connection is encrypted.
    pub(super) secure: Secure,
    /// What was agreed on, if it is by us.
    pub(super) secured: Option<Secured>,
    /// How its requests are sent to TLS; `None`: they are served.
    pub(super) redirect: Option<Redirect>,
    /// The affinity cookie that its requests bring.
    pub(super) memo: Memo,
    /// The address of the client as header values have it, made once.
    client_value: OnceLock<HeaderValue>,
    port_value: OnceLock<HeaderValue>,
}

impl Origin {
    /// What the socket tells.
    pub(super) fn of(socket: Option<&SocketDigest>) -> Self {
        Self {
            client: client(socket),
            port: local(socket).map(|address| address.port()),
            ends: ends(socket),
            own: is_own(socket),
            secure: Secure::No,
            secured: None,
            redirect: None,
            memo: Memo::default(),
            client_value: OnceLock::new(),
            port_value: OnceLock::new(),
        }
    }

    /// What a proxy in front says, where it says anything: it is as if the client had connected.
    pub(super) fn heard(mut self, header: Header) -> Self {
        if let Some(Ends { source, destination }) = header.ends {
            let (source, destination) = (canonical(source), canonical(destination));
            self.client = Some(source.ip());
            self.port = Some(destination.port());
            self.ends = Some(Ends { source, destination });
        }
        if header.secure {
            self.secure = Secure::Yes;
        }
        self
    }

    /// The same, over TLS.
    pub(super) fn over(self, secured: Secured) -> Self {
        Self { secure: Secure::Yes, secured: Some(secured), ..self }
    }

    /// The same at a listener that sends requests to TLS, or does not.
    pub(super) fn at(self, redirect: Option<Redirect>) -> Self {
        Self { redirect, ..self }
    }

    /// Whether its connection is for another host than this, as a request names it.
    pub(super) fn is_astray(&self, host: &[u8]) -> bool {
        let Some(secured) = &self.secured else { return false };
        let names = secured.shown.iter().flat_map(|chosen| chosen.names().iter());
        let shown = names.map(|name| match name {
            Name::Address(address) => Shown::Address(*address),
            Name::Host(host) => Shown::Host(host),
            Name::Wildcard(domain) => Shown::Below(domain),
        });
        is_misdirected(host, secured.name.as_deref(), shown)
    }

    /// The address of the client as a header value.
    pub(super) fn client_value(&self) -> Option<&HeaderValue> {
        let client = self.client?;
        Some(self.client_value.get_or_init(|| shown(client)))
    }

    /// The port as a header value.
    pub(super) fn port_value(&self) -> Option<&HeaderValue> {
        let port = self.port?;
        Some(self.port_value.get_or_init(|| HeaderValue::from(port)))
    }
}

fn shown(text: impl Display) -> HeaderValue {
    HeaderValue::from_str(&text.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn inet(address: Option<&socket::SocketAddr>) -> Option<SocketAddr> {
    address.and_then(|address| address.as_inet()).copied()
}

fn ends(socket: Option<&SocketDigest>) -> Option<Ends> {
    let source = inet(socket.and_then(SocketDigest::peer_addr)).map(canonical)?;
    local(socket).map(|destination| Ends { source, destination: canonical(destination) })
}

/// An IPv4 address as one, also where the socket is one of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether it came through our own endpoint.
pub(super) fn is_own(socket: Option<&SocketDigest>) -> bool {
    let address = socket.and_then(SocketDigest::local_addr);
    address.is_some_and(|address| address.as_unix().is_some())
}

/// The address that was connected to.
pub(super) fn local(socket: Option<&SocketDigest>) -> Option<SocketAddr> {
    inet(socket.and_then(SocketDigest::local_addr))
}

/// Who connected. An IPv4 client of an IPv6 socket is an IPv4 client.
pub(super) fn client(socket: Option<&SocketDigest>) -> Option<IpAddr> {
    let address = inet(socket.and_then(SocketDigest::peer_addr))?;
    Some(address.ip().to_canonical())
}
