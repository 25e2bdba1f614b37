//! An authority that tests make, the files of an edge, and a client that believes it.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::client::read_response;
use super::{PATIENCE, Response};

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificate of the authority itself.
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { pem: issuer.pem(), issuer }
    }

    /// Issues a certificate for these names, the first of which is the subject, too.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| ())
    }

    /// The same, with something else in it.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let listed: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(listed).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A certificate that was valid a year ago.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        })
    }

    /// The list of what was revoked: the certificate with this serial number.
    pub(crate) fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Pair {
    /// Writes `name.pem`, and `name.key` for its owner alone, each replaced by a rename.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        write(&directory.join(format!("{name}.key")), &self.key);
        write(&directory.join(format!("{name}.pem")), &self.certificate);
    }
}

/// Writes a file that only its owner may read, in the place of what was there.
pub(crate) fn write(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let next = path.with_extension("next");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&next);
    file.unwrap().write_all(text.as_bytes()).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// A client that believes one authority.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

/// A connection of it.
pub(crate) type TlsConnection = StreamOwned<ClientConnection, TcpStream>;

impl TlsClient {
    /// Speaks every version, and HTTP/1.1.
    pub(crate) fn of(authority: &Authority) -> Self {
        Self::believing(&authority.pem)
    }

    /// The same, and believes this certificate in PEM.
    pub(crate) fn believing(pem: &str) -> Self {
        Self::with(pem, &[&TLS13, &TLS12], None)
    }

    /// Speaks TLS 1.2 only.
    pub(crate) fn old(authority: &Authority) -> Self {
        Self::with(&authority.pem, &[&TLS12], None)
    }

    /// Shows a certificate when it is asked for one.
    pub(crate) fn showing(authority: &Authority, pair: &Pair) -> Self {
        Self::with(&authority.pem, &[&TLS13, &TLS12], Some(pair))
    }

    fn with(
        believed: &str,
        versions: &[&'static SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(believed.as_bytes()).unwrap();
        roots.add(der).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match pair {
            Some(Pair { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// How it speaks, for clients that are not of this page.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// The same client, changed.
    pub(crate) fn but(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        change(&mut config);
        Self(Arc::new(config))
    }

    /// Connects, asks for this name, and shakes hands.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsConnection> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(self.config(), name).unwrap();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// Gets a path on a connection of its own, and what the connection was.
    pub(crate) fn get(
        &self,
        address: SocketAddr,
        name: &str,
        path: &str,
        headers: &str,
    ) -> std::io::Result<(Response, TlsConnection)> {
        let mut stream = self.connect(address, name)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes())?;
        let response = ask(&mut stream)?;
        Ok((response, stream))
    }

    /// The status that a path gets, or how that fails.
    pub(crate) fn status(&self, address: SocketAddr, name: &str) -> Result<u16, String> {
        let got = self.get(address, name, "/", "");
        got.map(|(response, _)| response.status).map_err(|error| error.to_string())
    }
}

/// The next response on a connection.
fn ask(stream: &mut TlsConnection) -> std::io::Result<Response> {
    let response = read_response(&mut BufReader::new(&mut *stream), "GET");
    let ended = || std::io::Error::other("the connection ends before a response");
    // What the server said of the connection, if it said anything.
    response.ok_or_else(|| stream.read(&mut [0]).err().unwrap_or_else(ended))
}

/// The certificate that the server showed on a connection.
pub(crate) fn shown(stream: &TlsConnection) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// A certificate in PEM as a connection shows it.
pub(crate) fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap().to_vec()
}
