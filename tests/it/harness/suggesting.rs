//! What stands before Pebble, which suggests no renewals, and suggests them (RFC 9773).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use serde_json::{Value, json};

/// What was asked and told.
#[derive(Default)]
pub(crate) struct Suggested {
    /// The certificates for which a time was asked, in order.
    pub(crate) asked: Vec<String>,
    /// Those that orders said they take the place of.
    pub(crate) replaced: Vec<String>,
}

struct Suggesting {
    own: SocketAddr,
    behind: SocketAddr,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    seen: Arc<Mutex<Suggested>>,
}

/// Listens at `own` with the certificate in a directory, for the server `behind`, which has the same one. Suggests to
/// renew the first certificate at once, and all others in a month.
pub(crate) fn suggesting(
    own: SocketAddr,
    behind: SocketAddr,
    directory: &Path,
) -> Arc<Mutex<Suggested>> {
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let seen = Arc::<Mutex<Suggested>>::default();
    let (server, client) = (Arc::new(server), Arc::new(client));
    let this = Suggesting { own, behind, server, client, seen: Arc::clone(&seen) };
    let listener = TcpListener::bind(own).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that only looks whether somebody listens says nothing.
            let _left = this.serve(stream);
        }
    });
    seen
}

impl Suggesting {
    /// Serves one request, as Homing sends them: each on a connection of its own.
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let session = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let (head, body) = read(&mut stream)?;
        let target = head.split(' ').nth(1).unwrap_or("").to_owned();
        let answer = match target.strip_prefix("/renewal/") {
            Some(id) => self.suggest(id),
            None => self.forward(&head, &body, &target)?,
        };
        stream.write_all(&answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn suggest(&self, id: &str) -> Vec<u8> {
        let mut seen = self.seen.lock().unwrap();
        let first = seen.asked.first().is_none_or(|first| first == id);
        seen.asked.push(id.to_owned());
        let year = if first { 2020 } else { 2100 };
        let day = |day| format!("{year}-01-{day}T00:00:00Z");
        let body =
            json!({ "suggestedWindow": { "start": day("01"), "end": day("02") } }).to_string();
        answer("HTTP/1.1 200 OK\r\nRetry-After: 21600\r\n", body.as_bytes())
    }

    fn forward(&self, head: &str, body: &[u8], target: &str) -> std::io::Result<Vec<u8>> {
        let name = self.behind.ip().into();
        let session = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut behind = StreamOwned::new(session, TcpStream::connect(self.behind)?);
        behind.write_all(&[head.as_bytes(), body].concat())?;
        let mut answered = Vec::new();
        behind.read_to_end(&mut answered)?;
        let replaced = replaced(body).filter(|_| answered.starts_with(b"HTTP/1.1 201"));
        if target != "/dir" && replaced.is_none() {
            return Ok(answered);
        }
        let (head, body) = read(&mut &*answered)?;
        let mut document: Value = serde_json::from_slice(&body)?;
        match replaced {
            Some(replaced) => {
                document["replaces"] = replaced.clone().into();
                self.seen.lock().unwrap().replaced.push(replaced);
            }
            None => document["renewalInfo"] = format!("https://{}/renewal", self.own).into(),
        }
        let kept = head.lines().filter(|line| {
            !line.is_empty() && !line.to_ascii_lowercase().starts_with("content-length")
        });
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        Ok(answer(&head, document.to_string().as_bytes()))
    }
}

/// The certificate that a signed order takes the place of.
fn replaced(signed: &[u8]) -> Option<String> {
    let signed: Value = serde_json::from_slice(signed).ok()?;
    let order = URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    let order: Value = serde_json::from_slice(&order).ok()?;
    Some(order["replaces"].as_str()?.to_owned())
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A head, its empty line included, and its body.
fn read(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let begin = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = head[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
