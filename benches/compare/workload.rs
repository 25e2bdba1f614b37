//! What the clients do.

#![expect(clippy::wildcard_enum_match_arm, reason = "most workloads are alike in most respects")]

use std::{net::SocketAddr, path::Path, time::Duration};

use crate::load::{Client, Exchange, Life, Pace, Spec, Tls};

/// The name that clients ask for, where there is one app.
pub(crate) const HOST: &str = "shop.test";

/// How many apps there are where there are many.
pub(crate) const APPS: usize = 10_000;

/// Idle connections whose memory is measured.
pub(crate) const IDLE_CONNECTIONS: usize = 10_000;

/// How fast they are opened.
const OPENED_PER_SECOND: f64 = 2000.0;

/// Connections that are kept busy, each with one request at a time.
pub(crate) const CONNECTIONS: usize = 64;

/// A request that takes longer failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The same for long downloads.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The host of one of many apps.
pub(crate) fn app_host(number: usize) -> String {
    format!("app-{number}.test")
}

/// How every connection of the generator behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// Keep-alive, and the cookie of an earlier answer in every request: what most requests of a site are.
    CookieFollowed,
    /// The same at a fixed rate, for latencies.
    Latency,
    /// Keep-alive and no cookie: every request is drawn a backend and every answer carries a new cookie.
    NewClient,
    /// The cookie as in `CookieFollowed`, and one connection for each request.
    NewConnection,
    /// As `CookieFollowed`, over TLS 1.3.
    Tls,
    /// As `NewConnection`, over TLS 1.3 with a whole handshake.
    TlsNew,
    /// The same, resuming a session by its ticket.
    TlsResumed,
    /// As `CookieFollowed`, over HTTP/2 and TLS 1.3, with 16 streams on each of 4 connections.
    Http2,
    /// 16 KB in the body of each request.
    Upload,
    /// 1 MB in the body of each answer.
    Download,
    /// 100 MB in the body of each answer.
    LongDownload,
    /// Messages of 125 bytes on WebSockets, and back.
    WebSocket,
    /// As `CookieFollowed`, spread over ten thousand apps, each with a cookie of its own.
    Apps,
    /// Ten thousand connections that had one answer each and wait.
    Idle,
    /// The same over TLS 1.3.
    IdleTls,
}

/// What cost is counted by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Megabyte,
    Message,
}

/// What the proxies are configured for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// One app.
    Shop,
    /// [`APPS`] of them, without probes, which would be the greater part of the work.
    Apps,
}

/// How a round is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Processor time, as fast as answers come.
    Cost,
    /// Latencies at a fixed rate.
    Rate,
    /// Resident memory of connections, in a process of its own.
    Memory,
}

impl Workload {
    pub(crate) const ALL: [Self; 15] = [
        Self::CookieFollowed,
        Self::NewClient,
        Self::NewConnection,
        Self::Latency,
        Self::Tls,
        Self::TlsNew,
        Self::TlsResumed,
        Self::Http2,
        Self::Upload,
        Self::Download,
        Self::LongDownload,
        Self::WebSocket,
        Self::Apps,
        Self::Idle,
        Self::IdleTls,
    ];

    /// The name in tables, and that on the command line.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::CookieFollowed => ("cookie followed", "followed"),
            Self::Latency => ("latency, cookie followed", "latency"),
            Self::NewClient => ("new client", "new-client"),
            Self::NewConnection => ("new connection each", "new-connection"),
            Self::Tls => ("TLS, cookie followed", "tls"),
            Self::TlsNew => ("TLS, new connection and whole handshake each", "tls-new"),
            Self::TlsResumed => ("TLS, new connection and resumed session each", "tls-resumed"),
            Self::Http2 => ("HTTP/2 over TLS, cookie followed", "h2"),
            Self::Upload => ("upload of 16 KB", "upload"),
            Self::Download => ("download of 1 MB", "download-1m"),
            Self::LongDownload => ("download of 100 MB", "download-100m"),
            Self::WebSocket => ("WebSocket, messages of 125 bytes", "websocket"),
            Self::Apps => ("10,000 apps, cookie followed", "apps"),
            Self::Idle => ("10,000 idle connections", "idle"),
            Self::IdleTls => ("10,000 idle connections over TLS", "idle-tls"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.names().0
    }

    pub(crate) fn option(self) -> &'static str {
        self.names().1
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Download | Self::LongDownload => Unit::Megabyte,
            Self::WebSocket => Unit::Message,
            _ => Unit::Request,
        }
    }

    pub(crate) fn setup(self) -> Setup {
        if self == Self::Apps { Setup::Apps } else { Setup::Shop }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::Latency => Method::Rate,
            Self::Idle | Self::IdleTls => Method::Memory,
            _ => Method::Cost,
        }
    }

    /// Whether it needs a proxy that ends TLS.
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::TlsNew | Self::TlsResumed | Self::Http2 | Self::IdleTls)
    }

    /// What the generator sends to `address`, given a client that has the proxy's own cookie, and the certificate to
    /// trust.
    pub(crate) fn spec(self, address: SocketAddr, client: &Client, trusted: &Path) -> Spec {
        let connections = match self {
            Self::Download => 16,
            Self::LongDownload => 4,
            Self::Idle | Self::IdleTls => IDLE_CONNECTIONS,
            _ => CONNECTIONS,
        };
        let clients = match self {
            Self::NewClient => {
                vec![Client { cookie: None, backend: None, ..client.clone() }; connections]
            }
            Self::Apps => {
                (0..APPS).map(|it| Client { host: app_host(it), ..Client::default() }).collect()
            }
            _ => vec![client.clone(); connections],
        };
        Spec {
            address,
            connections,
            life: match self {
                Self::NewConnection | Self::TlsNew | Self::TlsResumed => Life::Single,
                Self::Idle | Self::IdleTls => Life::Idle,
                _ => Life::Kept,
            },
            // What is measured is what they cost when they wait, not that so many came at once.
            pace: if self.method() == Method::Memory {
                Pace::PerSecond(OPENED_PER_SECOND)
            } else {
                Pace::Greedy
            },
            exchange: self.exchange(),
            clients,
            keeps_cookies: self == Self::Apps,
            tls: self.is_secure().then(|| Tls {
                name: HOST.to_owned(),
                trusted: trusted.to_owned(),
                resumes: self == Self::TlsResumed,
            }),
            timeout: match self {
                Self::Download | Self::LongDownload | Self::Idle | Self::IdleTls => {
                    DOWNLOAD_TIMEOUT
                }
                _ => TIMEOUT,
            },
            logs: false,
        }
    }

    fn exchange(self) -> Exchange {
        let get = |path: &str| Exchange::Get { path: path.to_owned() };
        match self {
            Self::Upload => Exchange::Post { path: "/upload".to_owned(), bytes: 16_384 },
            Self::Download => get("/bytes/1000000"),
            Self::LongDownload => get("/bytes/100000000"),
            Self::WebSocket => Exchange::Echo { path: "/echo".to_owned(), bytes: 125 },
            _ => get("/"),
        }
    }
}

impl Unit {
    pub(crate) fn singular(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Megabyte => "MB",
            Self::Message => "message",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Request => "requests",
            Self::Megabyte => "MB",
            Self::Message => "messages",
        }
    }
}
