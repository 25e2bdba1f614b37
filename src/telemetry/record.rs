//! The facts of a finished request: sole source of its metrics and of its line in the access log.

use std::net::IpAddr;
use std::time::Duration;

use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::assign::{Cause, Outcome};

/// The facts of a finished request.
#[derive(Debug)]
pub struct RequestRecord<'r> {
    /// When it was read, since 1970.
    pub time: Duration,
    /// The method.
    pub method: &'r str,
    /// The path with its query, as the client sent it.
    pub path: &'r [u8],
    /// The host, as the client sent it.
    pub host: &'r [u8],
    /// The id of the request.
    pub request_id: &'r str,
    /// Who sent it.
    pub client: Option<IpAddr>,
    /// `X-Forwarded-For` as the backend got it.
    pub forwarded_for: &'r [u8],
    /// The app.
    pub app: Option<&'r str>,
    /// The backend.
    pub backend: Option<&'r str>,
    /// What became of the pin.
    pub outcome: Option<Outcome>,
    /// Why it was moved or refused.
    pub cause: Option<Cause>,
    /// The foreign cookie that the client was known by.
    pub adopted: Option<&'r str>,
    /// Attempts to connect.
    pub tries: usize,
    /// Until there was a connection to a backend.
    pub connect: Option<Duration>,
    /// From that connection to the end.
    pub service: Option<Duration>,
    /// Until the first byte of the response.
    pub first_byte: Option<Duration>,
    /// From beginning to end.
    pub duration: Duration,
    /// The status sent; `None`: none was.
    pub status: Option<u16>,
    /// Bytes of the response body sent.
    pub bytes_sent: usize,
    /// Bytes of the request body read.
    pub bytes_received: usize,
    /// The protocol of the client.
    pub protocol: &'static str,
    /// How the client came.
    pub scheme: Scheme,
    /// What went wrong.
    pub failure: Option<Facts>,
    /// What exactly was wrong, where a failure has several reasons.
    pub detail: Option<&'static str>,
}

impl RequestRecord<'_> {
    /// The status for metrics and logs: what was sent, else what the failure stands for.
    pub fn logged_status(&self) -> u16 {
        self.status.or(self.failure.map(|facts| facts.status)).unwrap_or(0)
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    /// The app's backends.
    Backend,
    /// The client.
    Client,
    /// Homing itself.
    Edge,
    /// Who configured it.
    Operator,
}

/// What is said about a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Whose fault it is.
    pub party: Party,
    /// The code for logs and pages.
    pub code: &'static str,
    /// The HTTP status, where a response can still be sent; else the one that is logged.
    pub status: u16,
    /// The same, for who prefers the meaning that RFC 9110 gives it.
    pub rfc9110: u16,
    /// The label of metrics.
    pub label: &'static str,
    /// The text for logs and pages.
    pub text: &'static str,
}
