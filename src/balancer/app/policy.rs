//! How an app is probed and proxied: plain values, read by the parts that act on them.

use std::time::Duration;

use super::health::Thresholds;
use super::hsts::ToldHsts;
use super::limits::{AppLimits, RateLimit};
use super::outliers::OutlierPolicy;
use super::panic::PanicPolicy;
use super::protocol::BackendProtocol;
use super::response_limits::ResponseLimits;
use super::retries::RetryPolicy;
use super::slow_start::SlowStart;
use super::tls::BackendTls;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::name::{DomainPattern, PathPrefix};
use crate::wire::fault::Lenient;
use crate::wire::proxied::Version;

/// The policies of one app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The names that lead to the app.
    pub domains: Vec<DomainPattern>,
    /// The parts of those names that are the app's; empty: all.
    pub path_prefixes: Vec<PathPrefix>,
    /// How its backends are probed; `None`: they are not, and count as healthy.
    pub health: Option<HealthPolicy>,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How large the heads of its responses may be.
    pub response_limits: ResponseLimits,
    /// How much it may have at once.
    pub limits: AppLimits,
    /// How often one of its clients may ask; `None`: as often as it likes.
    pub rate_limit: Option<RateLimit>,
    /// How its backends speak TLS; `None`: they speak plain HTTP.
    pub tls: Option<BackendTls>,
    /// Which HTTP its backends speak.
    pub protocol: BackendProtocol,
    /// In which version of the PROXY protocol its backends are told of the connection of each client; `None`: they are
    /// not.
    pub proxy_protocol: Option<Version>,
    /// What browsers are told that came over TLS; `None`: nothing.
    pub hsts: Option<ToldHsts>,
    /// How clients are let in to a backend that just opened; `None`: all at once.
    pub slow_start: Option<SlowStart>,
    /// When a backend whose requests fail gets no new clients; `None`: its probes alone decide.
    pub outliers: Option<OutlierPolicy>,
    /// How often requests may be tried again.
    pub retries: RetryPolicy,
    /// What happens when most backends are unhealthy; `None`: nothing else than otherwise.
    pub panic: Option<PanicPolicy>,
    /// What is put up with in requests as they come.
    pub lenient: Lenient,
    /// What failures are answered with.
    pub errors: ErrorPolicy,
}

/// How the backends of an app are probed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthPolicy {
    /// What is asked.
    pub probe: Probe,
    /// From the end of one probe to the start of the next, while the last one passed.
    pub interval: Duration,
    /// The same, while the last one failed.
    pub interval_failing: Duration,
    /// How much of an interval is left to chance, so that probes spread out.
    pub jitter_percent: u8,
    /// How long one probe may take in all.
    pub timeout: Duration,
    /// How many in a row change the verdict.
    pub thresholds: Thresholds,
}

/// What a probe asks a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// `GET path` with this `Host`, answered with one of these statuses.
    Http {
        /// The path, with its query if any.
        path: Box<str>,
        /// The `Host` header.
        host: Box<str>,
        /// The statuses that pass.
        statuses: Vec<StatusRange>,
    },
    /// A connection (and a TLS handshake where the backends speak TLS).
    Tcp,
    /// `grpc.health.v1.Health/Check`, answered with `SERVING`.
    Grpc {
        /// The service that is asked for; empty: the whole server.
        service: Box<str>,
        /// The `:authority` of the call.
        host: Box<str>,
    },
}

/// A range of HTTP statuses, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is in the range.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// How long anything may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// To connect to a backend, TLS included.
    pub connect: Duration,
    /// The same over all attempts of one request.
    pub connect_total: Duration,
    /// From the head of a request to the end of its response, streams excepted; `None`: any time.
    pub total: Option<Duration>,
    /// From the last byte of a request to the first byte of its response.
    pub first_byte: Duration,
    /// Between two bytes of a body, in either direction.
    pub idle: Duration,
    /// The same, on an upgraded connection such as a WebSocket.
    pub upgraded_idle: Duration,
    /// For a backend to be admitted at all: its first verdict, or the end of its quarantine.
    pub admission: Duration,
    /// How long an unused connection to a backend is kept. Shorter than the keep-alive time of the
    /// backends, or a request now and then meets a connection that is being closed.
    pub keepalive: Duration,
}
