//! What the clients do.

use std::{net::SocketAddr, time::Duration};

use crate::load::{Client, Exchange, Life, Pace, Spec};

/// Connections that are kept busy, each with one request at a time.
const CONNECTIONS: usize = 64;

/// A request that takes longer failed.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How every connection of the generator behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// Keep-alive, and the cookie of an earlier answer in every request: what most requests of a site are.
    CookieFollowed,
    /// Keep-alive and no cookie: every request is drawn a backend and every answer carries a new cookie.
    NewClient,
    /// The cookie as in `CookieFollowed`, and one connection for each request.
    NewConnection,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::CookieFollowed, Self::NewClient, Self::NewConnection];

    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CookieFollowed => "cookie followed",
            Self::NewClient => "new client",
            Self::NewConnection => "new connection each",
        }
    }

    /// The name on the command line.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::CookieFollowed => "followed",
            Self::NewClient => "new-client",
            Self::NewConnection => "new-connection",
        }
    }

    /// What the generator sends, as fast as it is answered, given a client that has the proxy's own cookie.
    pub(crate) fn spec(self, address: SocketAddr, client: Client) -> Spec {
        let stranger = Client { cookie: None, backend: None, ..client.clone() };
        let (client, life) = match self {
            Self::CookieFollowed => (client, Life::Kept),
            Self::NewClient => (stranger, Life::Kept),
            Self::NewConnection => (client, Life::Single),
        };
        Spec {
            address,
            connections: CONNECTIONS,
            life,
            pace: Pace::Greedy,
            exchange: Exchange::Get { path: "/".to_owned() },
            clients: vec![client; CONNECTIONS],
            keeps_cookies: false,
            tls: None,
            timeout: TIMEOUT,
            logs: false,
        }
    }
}
