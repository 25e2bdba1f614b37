//! One probe, by Pingora's connectors, to its outcome.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, L4Connect, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

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

/// Probes the backends of one app.
pub(super) struct Prober {
    ask: Ask,
    tls: Option<BackendTls>,
    protocol: BackendProtocol,
    timeout: Duration,
    /// What each connection begins with, if backends want to be told for whom it is.
    introduction: Option<Arc<dyn L4Connect + Send + Sync>>,
}

/// What is asked. A connection is used for one probe: an old one would say nothing of whether new ones are taken.
enum Ask {
    Call(Box<Call>, Connector),
    Connect(TransportConnector),
    Get {
        request: Box<RequestHeader>,
        statuses: Vec<StatusRange>,
        connector: Connector,
    },
    /// Nothing, since the question cannot be put.
    Nothing(String),
}

impl Prober {
    /// Makes the prober for what the app wants asked.
    pub(super) fn new(target: &Target) -> Self {
        let tls = target.tls.clone();
        let http = || Connector::new(Some(options(tls.as_ref())));
        let ask = match &target.policy.probe {
            Probe::Grpc { service, host } => match Call::new(service, host, tls.is_some()) {
                Ok(call) => Ask::Call(Box::new(call), http()),
                Err(error) => Ask::Nothing(error.to_string()),
            },
            Probe::Http { path, host, statuses } => match get(path, host, target.protocol) {
                Ok(request) => Ask::Get { request, statuses: statuses.clone(), connector: http() },
                Err(error) => Ask::Nothing(error.to_string()),
            },
            Probe::Tcp => Ask::Connect(TransportConnector::new(Some(options(tls.as_ref())))),
        };
        let introduction = target.proxy_protocol.map(Introduction::own);
        let introduction = introduction.map(|own| Arc::new(own) as Arc<_>);
        let (protocol, timeout) = (target.protocol, target.policy.timeout);
        Self { ask, tls, protocol, timeout, introduction }
    }

    /// Probes one backend. Takes `timeout` at most, in all.
    pub(super) async fn probe(&self, address: &Address, timeout: Duration) -> ProbeOutcome {
        match tokio::time::timeout(timeout, self.ask(address)).await {
            Ok(Ok(())) => ProbeOutcome::Passed,
            Ok(Err(reason)) => ProbeOutcome::Failed(reason.into()),
            Err(_) => ProbeOutcome::Failed(format!("no answer within {timeout:?}").into()),
        }
    }

    async fn ask(&self, address: &Address) -> Result<(), String> {
        let explained = |error: Box<Error>| reason(&error);
        let peer = self.peer(address).map_err(|error| error.to_string())?;
        match &self.ask {
            Ask::Call(call, connector) => call.make(connector, &peer).await,
            Ask::Connect(connector) => {
                connector.new_stream(&peer).await.map(drop).map_err(explained)
            }
            Ask::Get { request, statuses, connector } => {
                let status = self.get(request, connector, &peer).await?;
                let passes = statuses.iter().any(|range| range.contains(status.as_u16()));
                if passes { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
            }
            Ask::Nothing(reason) => Err(reason.clone()),
        }
    }

    fn peer(&self, address: &Address) -> Result<HttpPeer> {
        let mut peer = peer::to(address, self.tls.as_ref())?;
        peer::speak(&mut peer, self.protocol);
        let options = &mut peer.options;
        options.custom_l4.clone_from(&self.introduction);
        options.max_h2_streams = 1;
        options.h2_ping_interval = None;
        options.connection_timeout = Some(self.timeout);
        options.total_connection_timeout = Some(self.timeout);
        Ok(peer)
    }

    async fn get(
        &self,
        request: &RequestHeader,
        connector: &Connector,
        peer: &HttpPeer,
    ) -> Result<StatusCode, String> {
        let explained = |error: Box<Error>| reason(&error);
        let (mut session, _) = connector.get_http_session(peer).await.map_err(explained)?;
        if matches!(session, HttpSession::H1(_)) && !self.protocol.upgrades() {
            return Err("does not speak HTTP/2".into());
        }
        session.write_request_header(Box::new(request.clone())).await.map_err(explained)?;
        session.finish_request_body().await.map_err(explained)?;
        session.read_response_header().await.map_err(explained)?;
        let status = session.response_header().map(|head| head.status);
        while session.read_response_body().await.map_err(explained)?.is_some() {}
        status.ok_or_else(|| "answered with nothing".into())
    }
}

/// The request of a probe. It has a name of its own in the app's log.
fn get(path: &str, host: &str, protocol: BackendProtocol) -> Result<Box<RequestHeader>> {
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
    Ok(Box::new(request))
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
        ErrorType::InvalidHTTPHeader => "answered with something that is not HTTP".into(),
        other => format!("{}: {}", other.as_str(), error.root_cause()),
    }
}
