//! What is spoken where: the listeners as a connection meets them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::handshake::{Sealing, Speaking};
use crate::config::model::{Listener, Protocols, Redirect};
use crate::issued::Issued;
use crate::shared::{Clock, Published};
use crate::tls::certificate::Certificate;
use crate::tls::tally::Tally;
use crate::tls::terms::Terms;
use crate::wire::proxied::Refused;

/// The listeners of the process. Their addresses stay; what is spoken there changes with a reload.
#[derive(Debug, Default)]
pub struct Listeners {
    all: ArcSwap<Vec<Open>>,
    /// Connections that were closed since they did not begin as they should, by reason.
    refused: [AtomicU64; Refused::ALL.len()],
    /// What session tickets are sealed with; `None`: there are none.
    sealing: Option<Sealing>,
    /// What an ACME server issued.
    issued: Arc<Issued>,
    /// What became of handshakes.
    tally: Arc<Tally>,
}

/// A listener that is open.
#[derive(Clone, Debug)]
struct Open {
    /// As it was bound: with its real port where any was asked for.
    bound: SocketAddr,
    /// As the file has it.
    listed: SocketAddr,
    spoken: Arc<Spoken>,
}

/// What is spoken at a listener.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) protocols: Protocols,
    /// Networks whose connections begin with a header of the PROXY protocol.
    proxied: Box<[IpNet]>,
    /// How TLS is spoken; `None`: it is not.
    pub(super) tls: Option<Speaking>,
    /// How requests are sent to TLS; `None`: they are served.
    pub(super) redirect: Option<Redirect>,
}

impl Spoken {
    fn new(listener: &Listener, of: &Listeners, before: Option<&Self>) -> Self {
        let before = before.and_then(|before| before.tls.as_ref());
        let speaking = |terms: &Arc<Terms>| {
            Speaking::new(listener, terms, of.sealing.as_ref(), &of.issued, before)
        };
        let (protocols, proxied) = (listener.protocols, listener.proxy_protocol.clone());
        let (tls, redirect) = (listener.tls.as_ref().map(speaking), listener.redirect);
        Self { protocols, proxied, tls, redirect }
    }

    /// Whether who connects from `peer` says first for whom.
    pub(super) fn is_proxied(&self, peer: Option<IpAddr>) -> bool {
        let listed = |peer| self.proxied.iter().any(|network| network.contains(&peer));
        !self.proxied.is_empty() && peer.is_some_and(listed)
    }
}

impl Listeners {
    /// None yet. Session tickets are sealed with the affinity keys that are published.
    pub fn new(published: Arc<Published>, clock: Clock, issued: Arc<Issued>) -> Self {
        Self { sealing: Some(Sealing { published, clock }), issued, ..Self::default() }
    }

    /// What became of handshakes.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The certificates that are shown, and where.
    pub fn certificates(&self) -> Vec<(SocketAddr, Arc<Certificate>)> {
        let all = self.all.load();
        let shown = |open: &Open| {
            let terms = open.spoken.tls.as_ref().map(Speaking::certificates);
            let bound = open.bound;
            terms.unwrap_or_default().into_iter().map(move |certificate| (bound, certificate))
        };
        all.iter().flat_map(shown).collect()
    }

    /// Opens those of a configuration, which were bound to these addresses, in the same order.
    pub fn open(&self, listed: &[Listener], bound: &[SocketAddr]) {
        let open = |(listener, bound): (&Listener, &SocketAddr)| Open {
            bound: *bound,
            listed: listener.address,
            spoken: Arc::new(Spoken::new(listener, self, None)),
        };
        self.all.store(Arc::new(listed.iter().zip(bound).map(open).collect()));
    }

    /// Speaks as another configuration has it, which lists the same addresses. Connections that are there go on as
    /// they began.
    pub fn change(&self, listed: &[Listener]) {
        let mut left: Vec<&Listener> = listed.iter().collect();
        let mut all = Vec::clone(&self.all.load());
        for open in &mut all {
            if let Some(place) = left.iter().position(|next| next.address == open.listed) {
                let (next, before) = (left.remove(place), Some(&*open.spoken));
                open.spoken = Arc::new(Spoken::new(next, self, before));
            }
        }
        self.all.store(Arc::new(all));
    }

    /// How many connections were closed since they did not begin with a header that they should begin with.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    /// Adds some of them.
    pub fn add_refused(&self, reason: Refused, count: u64) {
        self.refused[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What is spoken where a client connected to `local`; plain HTTP/1.1 at our own endpoint.
    pub(super) fn find(&self, local: Option<SocketAddr>) -> Arc<Spoken> {
        let all = self.all.load();
        let at = |wanted: SocketAddr| all.iter().find(|open| open.bound == wanted);
        let any = |ip: IpAddr, port| at(SocketAddr::new(ip, port));
        // As the kernel does: the listener of the very address, else one of all addresses.
        let found = local.and_then(|local| {
            let local = SocketAddr::new(local.ip().to_canonical(), local.port());
            let v4 = || any(Ipv4Addr::UNSPECIFIED.into(), local.port()).filter(|_| local.is_ipv4());
            at(local).or_else(v4).or_else(|| any(Ipv6Addr::UNSPECIFIED.into(), local.port()))
        });
        found.map(|open| Arc::clone(&open.spoken)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H2C: Protocols = Protocols { http1: false, http2: true };

    fn listener(address: &str, protocols: Protocols) -> Listener {
        let (address, proxy_protocol) = (address.parse().unwrap(), Box::default());
        let acme = Default::default();
        Listener { address, protocols, proxy_protocol, tls: None, acme, redirect: None }
    }

    fn found(listeners: &Listeners, local: &str) -> Protocols {
        listeners.find(Some(local.parse().unwrap())).protocols
    }

    #[test]
    fn a_connection_belongs_to_the_listener_that_fits_its_address_best() {
        let listeners = Listeners::default();
        let wide = listener("0.0.0.0:80", Protocols::HTTP1);
        let narrow = listener("10.0.0.1:81", H2C);
        let six = listener("[::]:82", H2C);
        let bound: Vec<SocketAddr> =
            ["0.0.0.0:80", "10.0.0.1:81", "[::]:82"].map(|a| a.parse().unwrap()).into();
        listeners.open(&[wide, narrow, six], &bound);
        assert_eq!(found(&listeners, "10.0.0.1:80"), Protocols::HTTP1);
        assert_eq!(found(&listeners, "10.0.0.1:81"), H2C);
        assert_eq!(found(&listeners, "[::1]:82"), H2C);
        assert_eq!(found(&listeners, "[::ffff:10.0.0.1]:82"), H2C);
        assert_eq!(found(&listeners, "10.0.0.1:82"), H2C);
        assert_eq!(listeners.find(None).protocols, Protocols::HTTP1);
    }

    #[test]
    fn a_reload_changes_what_is_spoken_and_not_where() {
        let listeners = Listeners::default();
        let any = [listener("127.0.0.1:0", Protocols::HTTP1), listener("127.0.0.1:0", H2C)];
        listeners
            .open(&any, &["127.0.0.1:5000".parse().unwrap(), "127.0.0.1:5001".parse().unwrap()]);
        assert_eq!(found(&listeners, "127.0.0.1:5000"), Protocols::HTTP1);
        assert_eq!(found(&listeners, "127.0.0.1:5001"), H2C);
        listeners
            .change(&[listener("127.0.0.1:0", H2C), listener("127.0.0.1:0", Protocols::HTTP1)]);
        assert_eq!(found(&listeners, "127.0.0.1:5000"), H2C);
        assert_eq!(found(&listeners, "127.0.0.1:5001"), Protocols::HTTP1);
    }
}
