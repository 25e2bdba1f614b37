//! What Homing asks of others on its own account, never while a client waits: one request, one answer, on
//! Pingora's connector.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri, header};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::tls::CaType;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_peers::certificate::X509Certificate;
use x509_peers::prelude::FromDer;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Interim responses (RFC 9110 §15.2) before the real one.
const INTERIM_MAX: usize = 8;

/// An empty list of certificates: who speaks no TLS need not load the system's.
const NO_CERTIFICATES: &str = "/dev/null";

/// Asks others. What is needed for TLS is made when it is first asked for.
#[derive(Default)]
pub struct Outbound {
    plain: OnceLock<Connector>,
    secure: OnceLock<Connector>,
    /// The authorities that certificates are checked with, or why there are none; `None`: with the system's.
    authorities: Option<Result<Arc<CaType>, String>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the look-up of the name to the last byte.
    pub time: Duration,
    /// Of the body.
    pub bytes: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum OutboundError {
    /// The body is longer than it may be, in bytes.
    TooLong(usize),
    /// It took longer than it may.
    TooSlow(Duration),
    /// The name has no address, or none of them answered as HTTP.
    Unreachable(String),
    /// The URL is not one of HTTP.
    Url,
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "the answer is longer than {limit} bytes"),
            Self::TooSlow(limit) => write!(f, "no whole answer within {limit:?}"),
            Self::Unreachable(why) => f.write_str(why),
            Self::Url => f.write_str("not a URL of HTTP"),
        }
    }
}

impl std::error::Error for OutboundError {}

impl From<Box<pingora::Error>> for OutboundError {
    fn from(error: Box<pingora::Error>) -> Self {
        let cause = error.root_cause();
        match cause.downcast_ref::<pingora::Error>() {
            Some(error) => Self::Unreachable(error.etype().as_str().to_owned()),
            None => Self::Unreachable(cause.to_string()),
        }
    }
}

impl Outbound {
    /// Trusts these authorities (PEM) and no others; without any, those of the system.
    pub fn trusting(authorities: Option<&[u8]>) -> Self {
        Self { authorities: authorities.map(read_authorities), ..Self::default() }
    }

    /// Sends one request, on a connection of its own, and reads the whole answer. Redirects are not followed;
    /// certificates are always checked.
    ///
    /// # Errors
    /// When there is no whole answer within the limits.
    pub async fn ask(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Response<Bytes>, OutboundError> {
        let asked = tokio::time::timeout(limits.time, self.exchange(request, limits.bytes));
        asked.await.unwrap_or(Err(OutboundError::TooSlow(limits.time)))
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let mut session = self.connect(request.uri()).await?;
        let body = request.body().clone();
        session.write_request_header(Box::new(head(&request)?)).await?;
        if !body.is_empty() {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        let answer = read(&mut session, bytes_max).await;
        session.shutdown().await;
        answer
    }

    /// Connects to the first address of the name that lets us.
    async fn connect(&self, url: &Uri) -> Result<HttpSession, OutboundError> {
        let target = Target::of(url).ok_or(OutboundError::Url)?;
        let unreachable = |error: std::io::Error| OutboundError::Unreachable(error.to_string());
        let authorities = self.authorities.clone().filter(|_| target.secure).transpose();
        let authorities = authorities.map_err(OutboundError::Unreachable)?;
        let found = tokio::net::lookup_host((target.host, target.port)).await;
        let mut last = OutboundError::Unreachable("the name has no address".into());
        for address in found.map_err(unreachable)?.take(ADDRESSES_MAX) {
            let mut peer = target.peer(address);
            peer.options.ca.clone_from(&authorities);
            match self.connector(target).get_http_session(&peer).await {
                Ok((session, _reused)) => return Ok(session),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    fn connector(&self, target: Target<'_>) -> &Connector {
        if !target.secure {
            return self.plain.get_or_init(|| connector_of(Some(NO_CERTIFICATES.into())));
        }
        // Own authorities go with the peer.
        let none = self.authorities.as_ref().map(|_| NO_CERTIFICATES.into());
        self.secure.get_or_init(|| connector_of(none))
    }
}

/// What Pingora takes of certificates in PEM. It panics on one that it cannot read, so all are read here.
fn read_authorities(pem: &[u8]) -> Result<Arc<CaType>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| format!("cannot read the authorities: {error}"))?;
    let wrapped = all.iter().map(|der| match X509Certificate::from_der(der) {
        Ok(_) => Ok(WrappedX509::new(der.to_vec(), parse_x509)),
        Err(error) => Err(format!("cannot read the certificate of an authority: {error}")),
    });
    wrapped.collect()
}

/// Where a URL leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Target<'u> {
    host: &'u str,
    port: u16,
    secure: bool,
}

impl<'u> Target<'u> {
    fn of(url: &'u Uri) -> Option<Self> {
        let secure = match url.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Self { host, port, secure }).filter(|target| !target.host.is_empty())
    }

    fn peer(self, address: SocketAddr) -> HttpPeer {
        // Without a name Pingora would check nothing: the host is never empty.
        let mut peer = HttpPeer::new(address, self.secure, self.host.to_owned());
        peer.options.alpn = ALPN::H1;
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
        peer
    }
}

/// Trusts the authorities of a file, or those of the system.
fn connector_of(authorities: Option<String>) -> Connector {
    let mut options = ConnectorOptions::from_server_conf(&ServerConf::default());
    options.ca_file = authorities;
    options.keepalive_pool_size = 1;
    Connector::new(Some(options))
}

fn head(request: &Request<Bytes>) -> Result<RequestHeader, OutboundError> {
    let (url, body) = (request.uri(), request.body());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut head = RequestHeader::build(request.method().clone(), path.as_bytes(), None)?;
    let authority = url.authority().ok_or(OutboundError::Url)?;
    head.insert_header(header::HOST, authority.as_str())?;
    head.insert_header(header::USER_AGENT, concat!("homing/", env!("CARGO_PKG_VERSION")))?;
    for (name, value) in request.headers() {
        head.append_header(name.clone(), value.clone())?;
    }
    if !body.is_empty() {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    head.insert_header(header::CONNECTION, "close")?;
    Ok(head)
}

async fn read(
    session: &mut HttpSession,
    bytes_max: usize,
) -> Result<Response<Bytes>, OutboundError> {
    let broken = || OutboundError::Unreachable("the answer is not HTTP".into());
    let mut head = None;
    for _ in 0..INTERIM_MAX {
        session.read_response_header().await?;
        head = session.response_header().filter(|head| !head.status.is_informational()).cloned();
        if head.is_some() {
            break;
        }
    }
    let head = head.ok_or_else(broken)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(OutboundError::TooLong(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.clone();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::tls::provider;

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        let of = |url: &'static str| {
            let url: &'static Uri = Box::leak(Box::new(Uri::from_static(url)));
            Target::of(url).map(|target| (target.host, target.port, target.secure))
        };
        assert_eq!(of("http://a.example/x"), Some(("a.example", 80, false)));
        assert_eq!(of("https://a.example"), Some(("a.example", 443, true)));
        assert_eq!(of("https://[::1]:8443/"), Some(("::1", 8443, true)));
        for none in ["/x", "ftp://a/", "a.example"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 100 };

    /// Serves one answer over TLS with a certificate of its own, which it returns in PEM.
    fn server() -> (String, SocketAddr) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let mut session = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
                let mut stream = rustls::Stream::new(&mut session, &mut socket);
                let _refused = stream.read(&mut [0; 1024]);
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                let _ended = stream.flush();
            }
        });
        (made.cert.pem(), address)
    }

    #[test]
    fn only_the_authorities_that_were_given_are_trusted() {
        let ((own, address), (other, _)) = (server(), server());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |authorities: &[u8]| {
            let request = Request::get(format!("https://{address}/")).body(Bytes::new()).unwrap();
            let outbound = Outbound::trusting(Some(authorities));
            runtime.block_on(outbound.ask(request, LIMITS)).map(Response::into_body)
        };
        assert_eq!(ask(own.as_bytes()).unwrap(), "ok");
        assert_eq!(ask(format!("{other}{own}").as_bytes()).unwrap(), "ok");
        assert!(ask(other.as_bytes()).is_err());
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = ask(damaged.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("cannot read the certificate of an authority"), "{error}");
    }
}
