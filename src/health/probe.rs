//! One probe, by Pingora's health checks, to its outcome.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Extensions, Uri, Version};
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};

use super::Target;
use super::call::Call;
use crate::balancer::app::backend::Address;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::policy::{Probe, StatusRange};
use crate::balancer::app::protocol::BackendProtocol;
use crate::balancer::app::tls::BackendTls;
use crate::proxy::peer;
use crate::proxy::proxied::Introduction;

/// An empty list of certificates: connectors that need none of the system's need not load them.
const NO_CERTIFICATES: &str = "/dev/null";

/// Why a backend fails that speaks something else.
pub(super) const NO_HTTP2: &str = "does not speak HTTP/2";

/// A verdict in our own words.
const OWN_WORDS: ErrorType = ErrorType::Custom("probe");

/// Probes the backends of one app. `Err`: the question cannot be put.
pub(super) struct Prober(Result<Box<dyn HealthCheck + Send + Sync>, Box<str>>);

impl Prober {
    /// Makes the prober for what the app wants asked.
    pub(super) fn new(target: &Target) -> Self {
        let tls = target.tls.as_ref();
        let made = template(target).and_then(|template| match &target.policy.probe {
            Probe::Grpc { service, host } => {
                let call = Call::new(service, host, tls.is_some())?;
                let connector = Connector::new(Some(options(tls)));
                Ok(Box::new(Calling { call, connector, template }) as Box<_>)
            }
            Probe::Http { path, host, statuses } => {
                let request = get(path, host, target.protocol)?;
                Ok(Box::new(http(request, statuses, target, template)) as Box<_>)
            }
            Probe::Tcp => Ok(tcp(target, template)),
        });
        Self(made.map_err(|error| error.to_string().into()))
    }

    /// Probes one backend. Takes `timeout` at most, in all.
    pub(super) async fn probe(&self, address: &Address, timeout: Duration) -> ProbeOutcome {
        let failed = |reason: String| ProbeOutcome::Failed(reason.into());
        let check = match &self.0 {
            Ok(check) => check,
            Err(reason) => return ProbeOutcome::Failed(reason.clone()),
        };
        let backend = match backend(address) {
            Ok(backend) => backend,
            Err(error) => return failed(error.to_string()),
        };
        match tokio::time::timeout(timeout, check.check(&backend)).await {
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

/// How a backend is connected to: as requests do it, but for a single question. A connection is used for one probe: an
/// old one would say nothing of whether new ones are taken.
fn template(target: &Target) -> Result<HttpPeer> {
    let mut peer = peer::to(&target.address, target.tls.as_ref())?;
    peer::speak(&mut peer, target.protocol);
    let introduction = target.proxy_protocol.map(Introduction::own);
    let options = &mut peer.options;
    options.custom_l4 = introduction.map(|own| Arc::new(own) as Arc<_>);
    options.max_h2_streams = 1;
    options.h2_ping_interval = None;
    let timeout = Some(target.policy.timeout);
    options.connection_timeout = timeout;
    options.total_connection_timeout = timeout;
    options.read_timeout = timeout;
    options.write_timeout = timeout;
    Ok(peer)
}

fn tcp(target: &Target, template: HttpPeer) -> Box<dyn HealthCheck + Send + Sync> {
    let connector = TransportConnector::new(Some(options(target.tls.as_ref())));
    if target.tls.is_some() {
        return Box::new(Handshake { connector, template, upgrades: target.protocol.upgrades() });
    }
    let mut check = TcpHealthCheck::default();
    check.set_connector(connector);
    check.peer_template.options = template.options;
    Box::new(check)
}

fn http(
    request: RequestHeader,
    statuses: &[StatusRange],
    target: &Target,
    template: HttpPeer,
) -> HttpHealthCheck {
    let connector = Connector::new(Some(options(target.tls.as_ref())));
    let mut check = HttpHealthCheck::new_custom("homing", false, connector);
    check.peer_template = template;
    check.req = request;
    let (statuses, upgrades) = (statuses.to_vec(), target.protocol.upgrades());
    check.validator = Some(Box::new(move |response: &ResponseHeader| {
        if response.version != Version::HTTP_2 && !upgrades {
            return Error::e_explain(OWN_WORDS, NO_HTTP2);
        }
        let status = response.status.as_u16();
        match statuses.iter().any(|range| range.contains(status)) {
            true => Ok(()),
            false => Error::e_explain(OWN_WORDS, format!("status {status}")),
        }
    }));
    check
}

/// A handshake, which Pingora's own check makes without a certificate of the client.
struct Handshake {
    connector: TransportConnector,
    template: HttpPeer,
    /// Whether HTTP/1 will do.
    upgrades: bool,
}

#[async_trait]
impl HealthCheck for Handshake {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.template.clone();
        peer._address = target.addr.clone();
        let stream = self.connector.new_stream(&peer).await?;
        match stream.selected_alpn_proto() {
            Some(ALPN::H2) => Ok(()),
            _ if self.upgrades => Ok(()),
            _ => Error::e_explain(OWN_WORDS, NO_HTTP2),
        }
    }

    // Rise and fall are counted by us.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// The question that gRPC has for it.
struct Calling {
    call: Call,
    connector: Connector,
    template: HttpPeer,
}

#[async_trait]
impl HealthCheck for Calling {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.template.clone();
        peer._address = target.addr.clone();
        let made = self.call.make(&self.connector, &peer).await;
        made.map_err(|reason| Error::explain(OWN_WORDS, reason))
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// The request of a probe. It has a name of its own in the app's log.
fn get(path: &str, host: &str, protocol: BackendProtocol) -> Result<RequestHeader> {
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    match protocol {
        BackendProtocol::Http1 => {
            request.insert_header("Host", host)?;
            request.insert_header("Connection", "close")?;
        }
        // Of which of the two is known only later.
        BackendProtocol::Auto(_) => request.insert_header("Host", host)?,
        BackendProtocol::H2(_) | BackendProtocol::H2c(_) => {
            let scheme = if matches!(protocol, BackendProtocol::H2(_)) { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
            request.set_uri(uri.map_err(|error| {
                Error::because(ErrorType::InvalidHTTPHeader, "no address to probe", error)
            })?);
        }
    }
    request.insert_header("User-Agent", "homing-probe")?;
    Ok(request)
}

fn options(tls: Option<&BackendTls>) -> ConnectorOptions {
    let mut options = ConnectorOptions::from_server_conf(&ServerConf::default());
    if tls.is_none_or(|tls| tls.authorities.is_some()) {
        options.ca_file = Some(NO_CERTIFICATES.to_owned());
    }
    options.keepalive_pool_size = 1;
    options
}

/// Why a probe failed, for the operator.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
pub(super) fn reason(error: &Error) -> String {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => "connect timed out".into(),
        ErrorType::ReadTimedout => "no answer in time".into(),
        ErrorType::ConnectionClosed => "closed the connection without an answer".into(),
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            // What the library found is in the words of the error; its cause tells our own address.
            let found = error.context.as_ref().map_or("", |text| text.as_str());
            format!("TLS failed: {found}")
        }
        ErrorType::InvalidHTTPHeader => "answered with something that is not HTTP".into(),
        ErrorType::Custom("probe") => {
            error.context.as_ref().map_or("", |text| text.as_str()).into()
        }
        other => format!("{}: {}", other.as_str(), error.root_cause()),
    }
}
