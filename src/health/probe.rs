//! One probe, by Pingora's health checks, to its outcome.

use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use http::StatusCode;
use pingora::connectors::http::Connector as HttpConnector;
use pingora::connectors::{ConnectorOptions, L4Connect, TransportConnector};
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::server::configuration::ServerConf;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};

use super::Target;
use crate::balancer::app::backend::Address;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::policy::{BackendTls, Probe, StatusRange};
use crate::proxy::peer::set_verification;
use crate::proxy::proxied::Introduction;

/// An empty list of certificates: connectors that speak no TLS need not load the system's.
const NO_CERTIFICATES: &str = "/dev/null";

/// Probes the backends of one app.
pub(super) struct Prober(Box<dyn HealthCheck + Send + Sync>);

impl Prober {
    /// Makes the prober for what the app wants asked.
    pub(super) fn new(target: &Target) -> Self {
        let tls = target.tls.as_ref();
        let timeout = target.policy.timeout;
        let introduction = target.proxy_protocol.map(Introduction::own);
        let introduction =
            introduction.map(|own| Arc::new(own) as Arc<dyn L4Connect + Send + Sync>);
        Self(match &target.policy.probe {
            Probe::Http { path, host, statuses } => {
                let mut check = http(path, host, statuses, tls, timeout);
                check.peer_template.options.custom_l4 = introduction;
                Box::new(check)
            }
            Probe::Tcp => {
                let mut check = tcp(tls, timeout);
                check.peer_template.options.custom_l4 = introduction;
                Box::new(check)
            }
        })
    }

    /// Probes one backend. Takes `timeout` at most, in all.
    pub(super) async fn probe(&self, address: &Address, timeout: Duration) -> ProbeOutcome {
        let failed = |reason: String| ProbeOutcome::Failed(reason.into());
        let backend = match backend(address) {
            Ok(backend) => backend,
            Err(error) => return failed(error.to_string()),
        };
        match tokio::time::timeout(timeout, self.0.check(&backend)).await {
            Ok(Ok(())) => ProbeOutcome::Passed,
            Ok(Err(error)) => failed(reason(&error)),
            Err(_) => failed(format!("no answer within {timeout:?}")),
        }
    }
}

fn backend(address: &Address) -> Result<Backend> {
    let addr = match address {
        Address::Tcp(address) => SocketAddr::Inet(*address),
        Address::Unix(path) => {
            let path = std::os::unix::net::SocketAddr::from_pathname(path).map_err(|error| {
                Error::because(ErrorType::SocketError, "not the path of a Unix socket", error)
            })?;
            SocketAddr::Unix(path)
        }
    };
    Ok(Backend { addr, weight: 1, ext: Extensions::new() })
}

fn tcp(tls: Option<&BackendTls>, timeout: Duration) -> TcpHealthCheck {
    let mut check = TcpHealthCheck::default();
    check.set_connector(TransportConnector::new(Some(options(tls))));
    let options = &mut check.peer_template.options;
    options.connection_timeout = Some(timeout);
    options.total_connection_timeout = Some(timeout);
    if let Some(tls) = tls {
        check.peer_template.sni = tls.server_name.to_string();
        let verify = tls.verify == crate::balancer::app::policy::Verify::Full;
        check.peer_template.options.verify_cert = verify;
        check.peer_template.options.verify_hostname = verify;
    }
    check
}

fn http(
    path: &str,
    host: &str,
    statuses: &[StatusRange],
    tls: Option<&BackendTls>,
    timeout: Duration,
) -> HttpHealthCheck {
    let connector = HttpConnector::new(Some(options(tls)));
    let mut check = HttpHealthCheck::new_custom(host, tls.is_some(), connector);
    if let Some(tls) = tls {
        check.peer_template.sni = tls.server_name.to_string();
    }
    set_verification(&mut check.peer_template, tls);
    let options = &mut check.peer_template.options;
    options.connection_timeout = Some(timeout);
    options.total_connection_timeout = Some(timeout);
    options.read_timeout = Some(timeout);
    options.write_timeout = Some(timeout);
    check.req.set_uri(path.parse().unwrap_or_default());
    // A name of its own in the app's log; the connection is closed after each probe.
    let _valid = check.req.insert_header("User-Agent", "homing-probe");
    let _valid = check.req.insert_header("Connection", "close");
    let statuses = statuses.to_vec();
    check.validator =
        Some(Box::new(move |response: &ResponseHeader| expected(response.status, &statuses)));
    check
}

fn expected(status: StatusCode, statuses: &[StatusRange]) -> Result<()> {
    if statuses.iter().any(|range| range.contains(status.as_u16())) {
        return Ok(());
    }
    Error::e_explain(ErrorType::CustomCode("status", status.as_u16()), "an unexpected status")
}

fn options(tls: Option<&BackendTls>) -> ConnectorOptions {
    let mut options = ConnectorOptions::from_server_conf(&ServerConf::default());
    if tls.is_none() {
        options.ca_file = Some(NO_CERTIFICATES.to_owned());
    }
    options.keepalive_pool_size = 1;
    options
}

/// Why a probe failed, for the operator.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
fn reason(error: &Error) -> String {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => "connect timed out".into(),
        ErrorType::ReadTimedout => "no answer in time".into(),
        ErrorType::ConnectionClosed => "closed the connection without an answer".into(),
        ErrorType::InvalidHTTPHeader => "answered with something that is not HTTP".into(),
        ErrorType::CustomCode("status", status) => format!("status {status}"),
        other => format!("{}: {}", other.as_str(), error.root_cause()),
    }
}
