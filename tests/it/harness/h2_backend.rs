//! Backends that speak TLS and HTTP/2, and the certificates for them.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::{Authority, Pair};

/// How a backend speaks TLS.
#[derive(Clone)]
pub(crate) struct TlsBackend(Arc<ServerConfig>);

impl TlsBackend {
    /// With a certificate; it agrees on one of `protocols` (ALPN), or on nothing where there is none.
    pub(crate) fn new(own: &Pair, protocols: &[&str]) -> Self {
        Self::made(own, protocols, None)
    }

    /// The same, for clients alone that this authority signed.
    pub(crate) fn asking(own: &Pair, protocols: &[&str], clients: &Authority) -> Self {
        Self::made(own, protocols, Some(clients))
    }

    fn made(own: &Pair, protocols: &[&str], clients: Option<&Authority>) -> Self {
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
        let chain: Result<Vec<_>, _> = chain.collect();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let own = CertificateDer::from_pem_slice(authority.pem.as_bytes());
                roots.add(own.unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let mut config = builder.with_single_cert(chain.unwrap(), key.unwrap()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }
}

/// One request of HTTP/2, and the way to answer it.
pub(crate) struct Exchange {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Exchange {
    /// The path that was asked for.
    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The whole body.
    pub(crate) async fn body(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let body = self.request.body_mut();
        while let Some(Ok(part)) = body.data().await {
            let _gone = body.flow_control().release_capacity(part.len());
            all.extend_from_slice(&part);
        }
        all
    }

    /// Answers `200` with a body.
    pub(crate) async fn ok(mut self, body: impl Into<Bytes>) {
        let mut stream = self.head(&[]);
        send(&mut stream, body.into()).await;
        let _gone = stream.send_data(Bytes::new(), true);
    }

    /// Begins a `200` with these fields.
    pub(crate) fn head(&mut self, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.respond.send_response(head(fields), false).unwrap()
    }
}

fn head(fields: &[(&str, &str)]) -> Response<()> {
    let response = Response::builder().status(200);
    fields.iter().fold(response, |head, (name, value)| head.header(*name, *value)).body(()).unwrap()
}

/// Sends bytes as fast as they are taken. Answers whether all were.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let part = bytes.split_to(room.min(bytes.len()));
                if stream.send_data(part, false).is_err() {
                    return false;
                }
            }
            Some(Err(_)) | None => return false,
        }
    }
    true
}

/// What a request said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) connection: usize,
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

type Handler = dyn Fn(Exchange) -> Answer + Send + Sync;

struct Shared {
    said: Mutex<Vec<Said>>,
    connections: AtomicUsize,
    streams: Mutex<Vec<usize>>,
    most_streams: AtomicUsize,
    tls: Option<TlsBackend>,
    handler: Box<Handler>,
}

/// A backend that speaks HTTP/2, or HTTP/1.1 (`h1` and the end of the connection) where that was agreed on.
pub(crate) struct H2Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl H2Backend {
    /// Answers as `handler` says, in the clear or over TLS; `/healthz` is answered here, and `/cut` cuts the first
    /// connection.
    pub(crate) fn new<F>(
        tls: Option<TlsBackend>,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            said: Mutex::default(),
            connections: AtomicUsize::new(0),
            streams: Mutex::default(),
            most_streams: AtomicUsize::new(0),
            tls,
            handler: Box::new(move |exchange| Box::pin(handler(exchange))),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let own = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let own = Arc::clone(&own);
                tokio::spawn(async move {
                    let Some(tls) = own.tls.clone() else { return serve(own, stream).await };
                    let Ok(stream) = TlsAcceptor::from(tls.0).accept(stream).await else { return };
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => serve(own, stream).await,
                        Some(_) | None => serve_old(stream).await,
                    }
                });
            }
        });
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Answers every request with the number of its connection.
    pub(crate) fn plain(tls: Option<TlsBackend>) -> Self {
        Self::new(tls, |exchange| {
            let number = exchange.connection.to_string();
            exchange.ok(number)
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, probes left out.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.shared.said.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub(crate) fn last(&self) -> Said {
        self.said().pop().expect("a request reached the backend")
    }

    /// Most requests at once on one connection.
    pub(crate) fn most_streams(&self) -> usize {
        self.shared.most_streams.load(Ordering::SeqCst)
    }

    /// Ends all connections, and takes no more.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut number = None;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/healthz" {
            let _gone = respond.send_response(head(&[]), true);
            continue;
        }
        let number = *number.get_or_insert_with(|| {
            shared.streams.lock().unwrap().push(0);
            shared.connections.fetch_add(1, Ordering::SeqCst)
        });
        shared.said.lock().unwrap().push(Said {
            line: format!("{} {}", request.method(), request.uri()),
            headers: request.headers().clone(),
            connection: number,
        });
        if number == 0 && request.uri().path() == "/cut" {
            // Without a word, neither of HTTP/2 nor of TLS.
            return;
        }
        let exchange = Exchange { request, respond, connection: number };
        let own = Arc::clone(&shared);
        let now = {
            let mut streams = own.streams.lock().unwrap();
            streams[number] += 1;
            streams[number]
        };
        own.most_streams.fetch_max(now, Ordering::SeqCst);
        tokio::spawn(async move {
            (own.handler)(exchange).await;
            own.streams.lock().unwrap()[number] -= 1;
        });
    }
}

/// One answer of HTTP/1.1; what asks for an upgrade is switched, and hears what it says.
async fn serve_old(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if head.contains("\r\nupgrade: echo") {
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let _gone = stream.write_all(switch.as_bytes()).await;
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let _gone = stream.write_all(&buffer[..read]).await;
            let _gone = stream.flush().await;
        }
        return;
    }
    let _gone = stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nh1")
        .await;
    let _gone = stream.shutdown().await;
}
