//! What the program uses: typed, defaults applied, no invalid combination.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::acme::Acme;
use super::problem::Problem;
use crate::balancer::affinity::keyring::Keyring;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::name::AppName;
use crate::balancer::shared::Shared;
use crate::balancer::state::{AppSpec, Spec};
use crate::tls::Fingerprint;
use crate::tls::terms::Terms;
use crate::wire::head::HeadLimits;

/// A configuration that was accepted.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Homing keeps what must survive it.
    pub state_dir: PathBuf,
    /// The process.
    pub server: Server,
    /// Where clients are accepted.
    pub listeners: Vec<Listener>,
    /// How certificates are had from an ACME server; `None`: none are.
    pub acme: Option<Acme>,
    /// The admin listener; `None`: there is none.
    pub admin: Option<Admin>,
    /// How requests are logged.
    pub access_log: AccessLog,
    /// Where requests are recorded; `None`: nowhere.
    pub tracing: Option<Tracing>,
    /// Proxies whose word on `X-Forwarded-*` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// What is answered to requests that no app serves.
    pub errors: ErrorPolicy,
    /// The keys.
    pub keys: Keys,
    /// The apps.
    pub apps: Vec<Shared<AppSpec>>,
    /// The app for hosts that no domain names.
    pub default_app: Option<AppName>,
    /// The files that were read on the way, such as keys: a change of one is a change of the
    /// configuration.
    pub files: Vec<PathBuf>,
    /// What is accepted, and still wants the operator's eye.
    pub doubts: Vec<Doubt>,
}

/// Something that is accepted, although it may not be what the operator wants.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// What, where, and the way out.
    pub problem: Problem,
    /// The certificate that is not valid now. A reload that brings it is refused, so that a valid one is kept; one
    /// that was there before, or that a start finds, is used all the same.
    pub lapsed: Option<Fingerprint>,
}

impl Config {
    /// What the balancer is to do, with the keys that were listed or made, when this is accepted at `taken` (Unix
    /// seconds).
    pub fn spec(&self, keyring: Keyring, taken: u64) -> Spec {
        let (apps, default_app) = (self.apps.clone(), self.default_app.clone());
        Spec { apps, default_app, keyring, taken }
    }

    /// The names that certificates are had for from an ACME server.
    pub fn acme_names(&self) -> BTreeSet<Box<str>> {
        self.listeners.iter().flat_map(|listener| listener.acme.iter().cloned()).collect()
    }
}

/// The process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Threads that serve requests.
    pub threads: usize,
    /// How long requests may take to finish when Homing stops.
    pub grace_period: Duration,
    /// How long requests and streams of a replaced worker may take to finish after a restart.
    pub restart_grace_period: Duration,
    /// Whether a changed file is read again without being told.
    pub watch: bool,
    /// How large the head of a request may be.
    pub head: HeadLimits,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// How long an unused client connection is kept.
    pub keepalive_timeout: Duration,
    /// Client connections in all; `None`: as many as descriptors allow.
    pub connections: Option<u64>,
    /// Client connections from one address; `None`: a quarter of all.
    pub connections_per_address: Option<u64>,
    /// Requests on one client connection; `None`: any number.
    pub requests_per_connection: Option<u64>,
    /// Requests at once on one client connection that speaks HTTP/2.
    pub http2_streams: u32,
    /// Bytes of memory beyond which nobody new is let in; `None`: there is no such limit.
    pub memory_limit: Option<u64>,
}

/// The admin listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// Where it is.
    pub address: SocketAddr,
    /// Who may change anything there; `None`: nobody.
    pub api: Option<Api>,
}

/// Who may change anything on the admin listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Api {
    /// What a request must show as its bearer token.
    pub token: BearerToken,
    /// The names by which the listener is asked, besides IP addresses and `localhost`.
    pub hosts: Vec<Box<str>>,
}

/// A bearer token (RFC 6750). Only its hash is kept.
#[derive(Clone, Eq, PartialEq)]
pub struct BearerToken([u8; 32]);

impl BearerToken {
    /// Keeps what is needed to know the token again.
    pub fn new(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether `token` is this one. How long the comparison takes tells of hashes only.
    pub fn is(&self, token: &[u8]) -> bool {
        *self == Self::new(token)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// Where clients are accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// The address; port 0 takes any.
    pub address: SocketAddr,
    /// The names with certificates from an ACME server.
    pub acme: BTreeSet<Box<str>>,
    /// What is spoken there.
    pub protocols: Protocols,
    /// Networks whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol: Box<[IpNet]>,
    /// By which certificates; `None`: in the clear.
    pub tls: Option<Arc<Terms>>,
    /// How requests are sent to TLS; `None`: they are served.
    pub redirect: Option<Redirect>,
}

/// How requests that come without TLS are sent to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// The status: 301, 302, 307 or 308.
    pub status: u16,
    /// The port that clients find TLS on.
    pub port: u16,
}

/// Versions of HTTP that a listener speaks: at least one. Both need TLS, by which client and listener agree on one
/// (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Protocols {
    /// HTTP/1.1 and HTTP/1.0.
    pub http1: bool,
    /// HTTP/2 (RFC 9113).
    pub http2: bool,
}

impl Protocols {
    /// HTTP/1 alone.
    pub const HTTP1: Self = Self { http1: true, http2: false };
}

impl Default for Protocols {
    fn default() -> Self {
        Self::HTTP1
    }
}

/// Where requests are recorded, and how many.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tracing {
    /// The URL of the collector, without the path of OTLP.
    pub endpoint: Box<str>,
    /// How many of a million requests.
    pub sample: u32,
}

/// How requests are logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// The form of a line.
    pub format: LogFormat,
    /// Where it goes.
    pub target: LogTarget,
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// The line of the Heroku router, followed by our own fields.
    Heroku,
    /// One JSON object.
    Json,
    /// No line.
    Off,
}

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// To a file, opened again on SIGUSR1.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// The keys that seal and open.
#[derive(Clone, Debug)]
pub enum Keys {
    /// One key, made on the first start in the state directory.
    Generated,
    /// Those the operator listed.
    Listed(Keyring),
}
