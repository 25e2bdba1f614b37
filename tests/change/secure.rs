//! Clients over TLS and over HTTP/2, beside the others: each with its cookie, many of them on one connection.
//!
//! A request that was never looked at (RFC 9113 §6.8, §8.7) is asked again on another connection, as every client of
//! HTTP/2 does; anything else is lost.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::harness::{Jar, PATIENCE, Response};
use crate::load::{Load, SLOW, Shared};
use crate::site::Site;
use crate::wire::{Failure, Trouble};

/// Clients of HTTP/1 over TLS, each with a connection of its own.
const HTTP1: usize = 16;

/// Connections of HTTP/2, over TLS and without, and clients on each.
const CONNECTIONS: usize = 4;
const SHARING: usize = 8;

/// How long a client pauses between two requests.
const PAUSE: Duration = Duration::from_millis(15);

/// How often a request is asked again that nobody looked at.
const AGAIN_MAX: usize = 10;

/// The clients, which run.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts all clients, and waits until each had an answer.
    pub(crate) fn start(site: &Site, load: &Load) -> Self {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::clone(&load.shared);
        let stop = Arc::new(AtomicBool::new(false));
        let [_, clear, encrypted, ..] = site.edge.addresses() else {
            panic!("three listeners");
        };
        let (clear, encrypted) = (
            Target { address: *clear, tls: None },
            Target { address: *encrypted, tls: Some(site.trust(&["h2"])) },
        );
        let mut clients = Vec::new();
        let mut run = |name: String, way: Way| {
            let client =
                Client { name, way, shared: Arc::clone(&shared), jar: Jar::default(), pin: None };
            clients.push(runtime.spawn(client.run(Arc::clone(&stop))));
        };
        for number in 0..HTTP1 {
            let tls = Some(site.trust(&["http/1.1"]));
            let target = Target { tls, ..encrypted.clone() };
            run(format!("over TLS {number}"), Way::Http1(target, None));
        }
        for (target, word) in [(clear, "h2c"), (encrypted, "h2")] {
            for connection in 0..CONNECTIONS {
                let pool = Arc::new(Pool { target: target.clone(), open: Mutex::new(None) });
                for number in 0..SHARING {
                    let name = format!("over {word} {connection}.{number}");
                    run(name, Way::Http2(Arc::clone(&pool)));
                }
            }
        }
        Self { shared, runtime, stop, clients }
    }

    /// Ends all of them, each after the answer that it waits for.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            self.runtime.block_on(client).unwrap();
        }
        assert!(self.shared.figures.encrypted.load(Ordering::SeqCst) > 0, "they asked");
    }
}

/// Where a client connects to.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Target {
    async fn connect(&self, shared: &Shared) -> Result<Box<dyn Io>, Failure> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            shared.figures.connections.fetch_add(1, Ordering::SeqCst);
            let Some(tls) = &self.tls else { return Ok(Box::new(stream) as Box<dyn Io>) };
            let name = ServerName::try_from("shop.example.com").unwrap();
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        };
        let connected = timeout(PATIENCE, connect).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|error: io::Error| {
            let failure = Failure::of(&error, false);
            Failure { text: format!("connect: {error}"), ..failure }
        })
    }
}

/// How a client asks.
enum Way {
    Http1(Target, Option<BufReader<Box<dyn Io>>>),
    Http2(Arc<Pool>),
}

struct Client {
    name: String,
    way: Way,
    shared: Arc<Shared>,
    jar: Jar,
    pin: Option<String>,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        for turn in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let path = if turn % 16 == 5 { SLOW } else { "/" };
            let begun = Instant::now();
            let asked = timeout(PATIENCE, self.ask(path)).await;
            let asked =
                asked.unwrap_or_else(|_| Err(Failure::of(&io::ErrorKind::TimedOut.into(), false)));
            let figures = &self.shared.figures;
            match asked {
                Ok(response) if response.status == 200 => {
                    figures.requests.fetch_add(1, Ordering::SeqCst);
                    figures.encrypted.fetch_add(1, Ordering::SeqCst);
                    if path != SLOW {
                        figures.took(begun.elapsed());
                    }
                    self.jar.take(&response);
                    self.shared.judge(&self.name, &mut self.pin, &response.text());
                }
                Ok(response) => {
                    figures.fail(Trouble::Status, || format!("{}: {response:?}", self.name));
                }
                Err(failure) => figures.failed(&failure, &self.name),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&mut self, path: &str) -> Result<Response, Failure> {
        match &mut self.way {
            Way::Http1(target, open) => {
                let mut stream = match open.take() {
                    Some(stream) => stream,
                    None => BufReader::new(target.connect(&self.shared).await?),
                };
                let response = exchange(&mut stream, path, &self.jar).await;
                let response = response.map_err(|error| Failure::of(&error, false))?;
                if response.header("connection") != Some("close") {
                    *open = Some(stream);
                }
                Ok(response)
            }
            Way::Http2(pool) => {
                for _ in 0..AGAIN_MAX {
                    let requests = pool.requests(&self.shared).await?;
                    match request(requests, path, &self.jar).await {
                        Ok(response) => return Ok(response),
                        Err(error) if was_left(&error) => {
                            self.shared.figures.asked_again.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            let (trouble, text) = (Trouble::Ended, format!("{error} ({error:?})"));
                            return Err(Failure { trouble, answered: false, text });
                        }
                    }
                }
                Err(Failure {
                    trouble: Trouble::Refused,
                    answered: false,
                    text: "led away again and again".into(),
                })
            }
        }
    }
}

/// One exchange of HTTP/1.1.
async fn exchange(
    stream: &mut BufReader<Box<dyn Io>>,
    path: &str,
    jar: &Jar,
) -> io::Result<Response> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", jar.header());
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "" if line.ends_with('\n') => break,
            _ if !line.ends_with('\n') => return Err(io::ErrorKind::UnexpectedEof.into()),
            line => head.push(line.to_owned()),
        }
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status"))?;
    let fields = head.iter().skip(1).filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let length = response.header("content-length").and_then(|length| length.parse().ok());
    response.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut response.body).await?;
    Ok(response)
}

/// A connection of HTTP/2 that clients share, and another one once it takes no more.
struct Pool {
    target: Target,
    open: Mutex<Option<SendRequest<Bytes>>>,
}

impl Pool {
    /// A way to ask, on a connection that takes requests.
    async fn requests(&self, shared: &Shared) -> Result<SendRequest<Bytes>, Failure> {
        let mut open = self.open.lock().await;
        if let Some(requests) = open.take()
            && let Ok(requests) = requests.ready().await
        {
            return Ok(open.insert(requests).clone());
        }
        let stream = self.target.connect(shared).await?;
        let failed = |error: h2::Error| {
            let text = format!("handshake: {error}");
            Failure { trouble: Trouble::Strange, answered: false, text }
        };
        let (requests, connection) = h2::client::handshake(stream).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(open.insert(requests).clone())
    }
}

/// One exchange of HTTP/2.
async fn request(
    requests: SendRequest<Bytes>,
    path: &str,
    jar: &Jar,
) -> Result<Response, h2::Error> {
    let mut request = Request::get(format!("https://shop.example.com{path}")).body(()).unwrap();
    if let Some(cookie) = jar.header().trim_end().strip_prefix("Cookie: ") {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    let (response, _) = requests.ready().await?.send_request(request, true)?;
    let (parts, mut body) = response.await?.into_parts();
    let headers = texts(&parts.headers);
    let body = read(&mut body).await?;
    Ok(Response { status: parts.status.as_u16(), headers, body })
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Whether nobody looked at the request that failed so.
fn was_left(error: &h2::Error) -> bool {
    let told_to_go =
        error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
    told_to_go || error.reason() == Some(Reason::REFUSED_STREAM)
}
