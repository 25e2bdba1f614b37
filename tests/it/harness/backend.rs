//! A backend: answers as the test says, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Most requests that are remembered: a backend under load forgets older ones.
const REMEMBERED_MAX: usize = 10_000;

/// A request as a backend gets it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `GET /path HTTP/1.1`
    pub(crate) line: String,
    /// The header lines, in order, as they came.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, if its length was given or it was chunked.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The path with its query.
    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }
}

/// What a backend does with a request.
pub(crate) enum Reply {
    /// Sends these bytes and goes on.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// The handler has done everything; the connection is closed.
    Done,
}

/// Sends everything back until the other side has enough: what follows an upgrade.
pub(crate) fn echo(stream: &mut TcpStream) -> Reply {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    Reply::Done
}

impl Reply {
    /// `200` with a body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::with("200 OK", "", body)
    }

    /// A status, more header lines (each ended by CRLF) and a body.
    pub(crate) fn with(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into(),
        )
    }
}

type Handler = dyn Fn(&Received, &mut TcpStream) -> Reply + Send + Sync;

struct Shared {
    requests: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    healthy: AtomicBool,
    /// The connections, by the order they came in.
    open: Mutex<HashMap<usize, TcpStream>>,
    handler: Box<Handler>,
}

impl Shared {
    fn remember(&self, request: &Received) {
        let mut requests = self.requests.lock().unwrap();
        if requests.len() == REMEMBERED_MAX {
            requests.drain(..REMEMBERED_MAX / 2);
        }
        requests.push(request.clone());
    }
}

/// A backend on a port of its own.
pub(crate) struct Backend {
    id: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
}

impl Backend {
    /// Answers every request with its own id.
    pub(crate) fn named(id: &str) -> Self {
        let own = id.to_owned();
        Self::new(id, move |_, _| Reply::ok(&own))
    }

    /// Answers as `handler` says; `/healthz` is answered here.
    pub(crate) fn new(
        id: &str,
        handler: impl Fn(&Received, &mut TcpStream) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listening(id, TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    /// The same, on a socket that the test made.
    pub(crate) fn listening(
        id: &str,
        listener: TcpListener,
        handler: impl Fn(&Received, &mut TcpStream) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            open: Mutex::default(),
            handler: Box::new(handler),
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let (own, end) = (Arc::clone(&shared), Arc::clone(&stopping));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let own = Arc::clone(&own);
                own.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
                thread::spawn(move || {
                    serve(&own, stream);
                    own.open.lock().unwrap().remove(&number);
                });
            }
        });
        Self { id: id.to_owned(), address, shared, stopping }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes its probes fail, or pass again.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::SeqCst);
    }

    /// The requests so far, probes left out.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub(crate) fn last(&self) -> Received {
        self.requests().pop().expect("a request reached the backend")
    }

    /// How many connections brought a request that was no probe.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Refuses connections from now on, and cuts those that are open.
    pub(crate) fn stop(&self) -> SocketAddr {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept loop, which drops its socket.
        let _wake = TcpStream::connect(self.address);
        super::eventually("the backend stopped", || TcpStream::connect(self.address).err());
        for (_, stream) in self.shared.open.lock().unwrap().drain() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _wake = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut counted = false;
    while let Some(request) = read_request(&mut reader, &mut stream) {
        if request.path() == "/healthz" {
            let status = if shared.healthy.load(Ordering::SeqCst) { "200 OK" } else { "503 No" };
            let _gone = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            continue;
        }
        if !counted {
            counted = true;
            shared.connections.fetch_add(1, Ordering::SeqCst);
        }
        shared.remember(&request);
        match (shared.handler)(&request, &mut stream) {
            Reply::Bytes(bytes) if stream.write_all(&bytes).is_ok() => {}
            Reply::Bytes(_) => return,
            Reply::Last(bytes) => {
                let _gone = stream.write_all(&bytes);
                break;
            }
            Reply::Done => break,
        }
    }
    let _gone = stream.shutdown(Shutdown::Both);
}

fn read_request(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|read| *read > 0)?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Received { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.header("transfer-encoding") == Some("chunked") {
        request.body = super::client::read_chunks(reader)?;
    } else if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}
