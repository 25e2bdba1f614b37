//! The facts of a finished request: sole source of its metrics and of its line in the access log.

use std::net::IpAddr;
use std::time::Duration;

use super::trace::TraceId;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::app::App;
use crate::balancer::app::view::Tried;
use crate::balancer::assign::{Cause, Outcome};
pub use crate::balancer::failure::Facts;

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
    /// The backends that were tried in vain, and their app.
    pub tried: Option<(&'r App, &'r Tried)>,
    /// Until there was a connection to a backend.
    pub connect: Option<Duration>,
    /// From that connection to the end.
    pub service: Option<Duration>,
    /// Until the first byte of the response.
    pub first_byte: Option<Duration>,
    /// How long it was another protocol; `None`: it never was.
    pub upgraded: Option<Duration>,
    /// From beginning to end.
    pub duration: Duration,
    /// The status sent; `None`: none was.
    pub status: Option<u16>,
    /// Bytes of the response body sent, and of what followed an upgrade.
    pub bytes_sent: usize,
    /// The same, of what the client sent.
    pub bytes_received: usize,
    /// The protocol of the client.
    pub protocol: &'static str,
    /// How the client came.
    pub scheme: Scheme,
    /// The version of TLS, where it ends here.
    pub tls_version: Option<&'static str>,
    /// The name that the client asked for in the handshake.
    pub tls_name: Option<&'r str>,
    /// The subject of the certificate that the client showed.
    pub tls_client: Option<&'r str>,
    /// What went wrong.
    pub failure: Option<Facts>,
    /// What exactly was wrong, where a failure has several reasons.
    pub detail: Option<&'static str>,
    /// The trace that it is a part of.
    pub trace_id: Option<TraceId>,
}

impl RequestRecord<'_> {
    /// The ids of the backends that were tried in vain, in order.
    pub fn tried(&self) -> impl Iterator<Item = &str> {
        self.tried
            .into_iter()
            .flat_map(|(app, tried)| tried.iter().map(|slot| app.backend(slot).id.as_str()))
    }

    /// The status for metrics and logs: what was sent, else what the failure stands for.
    pub fn logged_status(&self) -> u16 {
        self.status.or(self.failure.map(|facts| facts.status)).unwrap_or(0)
    }
}
