//! A raw client, Homing, a raw backend: each step of a conversation is a line of a test.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Edge, PATIENCE, eventually};

/// How long a side has to be silent to count as waiting.
const SILENCE: Duration = Duration::from_millis(200);

/// A request for nothing but the head of an answer.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// An edge in front of one backend that the test plays.
pub(crate) struct Wire {
    pub(crate) edge: Arc<Edge>,
    backend: TcpListener,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With more lines of an app, each indented by four spaces.
    pub(crate) fn with(settings: &str) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = backend.local_addr().unwrap();
        let file = format!(
            "default_app: shop\napps:\n  - name: shop\n    health: off\n    affinity: off\n{settings}    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
        );
        Self { edge: Arc::new(Edge::start(&file)), backend }
    }

    /// A new connection of a client.
    pub(crate) fn client(&self) -> Side {
        Side::of(&self.edge, TcpStream::connect(self.edge.address()).unwrap())
    }

    /// The next connection to the backend.
    #[track_caller]
    pub(crate) fn backend(&self) -> Side {
        eventually("a connection to the backend", || self.try_backend())
    }

    /// The connection to the backend that is there already, if one is.
    pub(crate) fn try_backend(&self) -> Option<Side> {
        self.backend.set_nonblocking(true).unwrap();
        let (stream, _) = self.backend.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        Some(Side::of(&self.edge, stream))
    }

    /// Nobody has connected to the backend.
    #[track_caller]
    pub(crate) fn no_backend(&self) {
        assert!(self.try_backend().is_none(), "the backend was asked");
    }

    /// The last line of the access log, when there is one.
    #[track_caller]
    pub(crate) fn line(&self) -> serde_json::Value {
        let line = eventually("a line of the access log", || self.edge.out().pop());
        serde_json::from_str(&line).unwrap()
    }

    /// Where the next request comes: on `kept`, or on a connection of its own. One that was just used is free a moment
    /// after the answer was read, so that now and then a request comes too soon for it.
    #[track_caller]
    pub(crate) fn next(&self, kept: Side) -> (Side, Came) {
        let mut kept = Some(kept);
        eventually("a request", || {
            if kept.as_ref().is_some_and(Side::is_asked) {
                return kept.take().map(|side| (side, Came::Again));
            }
            self.try_backend().map(|side| (side, Came::Anew))
        })
    }

    /// A client whose request has reached the backend.
    #[track_caller]
    pub(crate) fn asked(&self, request: &str) -> (Side, Side, Head) {
        let mut client = self.client();
        client.send(request);
        let mut backend = self.backend();
        let head = backend.head();
        (client, backend, head)
    }

    /// Both, after the backend answered with `response` on a plain request.
    #[track_caller]
    pub(crate) fn answered(&self, response: impl AsRef<[u8]>) -> (Side, Side) {
        let (client, mut backend, _) = self.asked(GET);
        backend.send(response);
        (client, backend)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (log, out) = (self.edge.log().join("\n"), self.edge.out().join("\n"));
            let _nobody_reads = writeln!(std::io::stderr(), "{log}\n{out}");
        }
    }
}

/// One end of a connection, client or backend.
pub(crate) struct Side {
    stream: TcpStream,
    /// What came and was not looked at yet.
    seen: Vec<u8>,
    /// Runs for as long as somebody speaks with it.
    _edge: Option<Arc<Edge>>,
}

/// How a request came to the backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    /// On a connection that was there.
    Again,
    /// On a new one.
    Anew,
}

/// How a chunked body reached a client.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Read {
    /// To its end: what it carries.
    Whole(String),
    /// Not to its end: what came of it.
    Cut(String),
}

impl Read {
    fn cut(body: Vec<u8>) -> Self {
        Self::Cut(String::from_utf8_lossy(&body).into_owned())
    }
}

/// The start line and the fields of a message, as they came.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// It is an error of ours, with this code.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, code: &str) {
        assert_eq!((self.status(), self.get("x-homing-error")), (status, Some(code)), "{self:?}");
    }
}

impl Side {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, seen: Vec::new(), _edge: None }
    }

    fn of(edge: &Arc<Edge>, stream: TcpStream) -> Self {
        Self { _edge: Some(Arc::clone(edge)), ..Self::new(stream) }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends what it can: the other side may be gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The head of the next message.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        self.try_head().expect("a head")
    }

    /// The same; `None`: the connection ends before.
    pub(crate) fn try_head(&mut self) -> Option<Head> {
        let end = self.until(b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&self.seen[..end]).into_owned();
        self.seen.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        Some(Head { line, fields: lines.map(field).collect() })
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let expected = bytes.as_ref();
        while self.seen.len() < expected.len() && self.more() > 0 {}
        let length = expected.len().min(self.seen.len());
        let found: Vec<u8> = self.seen.drain(..length).collect();
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        assert!(found == expected, "{:?} instead of {:?}", text(&found), text(expected));
        self
    }

    /// A body of this many bytes.
    #[track_caller]
    pub(crate) fn body(&mut self, length: usize) -> Vec<u8> {
        while self.seen.len() < length && self.more() > 0 {}
        assert!(self.seen.len() >= length, "{} of {length} bytes", self.seen.len());
        self.seen.drain(..length).collect()
    }

    /// A chunked body to its end, trailers left out.
    #[track_caller]
    pub(crate) fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("size: {line}"));
            if size == 0 {
                while !self.line().is_empty() {}
                return body;
            }
            body.extend(self.body(size));
            self.expect("\r\n");
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let end = self.until(b"\r\n").expect("the end of a line");
        let line: Vec<u8> = self.seen.drain(..end + 2).take(end).collect();
        String::from_utf8(line).unwrap()
    }

    /// All that comes until the other side ends the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        while self.more() > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned()
    }

    /// The other side ends the connection, and sends nothing before.
    #[track_caller]
    pub(crate) fn closed(&mut self) {
        assert_eq!(self.rest(), "", "before the end of the connection");
    }

    /// Nothing comes, and the connection stays.
    #[track_caller]
    pub(crate) fn silent(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let read = self.stream.read(&mut [0]);
        let waits = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        let seen = String::from_utf8_lossy(&self.seen);
        assert!(self.seen.is_empty() && waits, "it is not silent: {read:?} {seen:?}");
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Whether bytes are there to read.
    fn is_asked(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let asked = self.stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
        self.stream.set_nonblocking(false).unwrap();
        asked
    }

    /// Says that nothing more comes, and still listens.
    pub(crate) fn finish(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
    }

    /// Lets what was sent arrive by itself: the kernel would join it with what comes next.
    pub(crate) fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(1));
    }

    /// Reads chunks until they or the connection end.
    #[track_caller]
    pub(crate) fn finish_reading(&mut self) -> Read {
        let mut body = Vec::new();
        loop {
            let Some(end) = self.until(b"\r\n") else { return Read::cut(body) };
            let line: Vec<u8> = self.seen.drain(..end + 2).collect();
            let size =
                usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            while self.seen.len() < size + 2 {
                if self.more() == 0 {
                    body.append(&mut self.seen);
                    return Read::cut(body);
                }
            }
            body.extend(self.seen.drain(..size + 2).take(size));
            if size == 0 {
                return Read::Whole(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    /// Reads until these bytes are there: where. `None`: the connection ends before.
    #[track_caller]
    fn until(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let found = self.seen.windows(bytes.len()).position(|part| part == bytes);
            if found.is_some() || self.more() == 0 {
                return found;
            }
        }
    }

    /// Reads what is there; 0: the end.
    #[track_caller]
    fn more(&mut self) -> usize {
        let mut buffer = [0; 1 << 16];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            Err(error) => {
                let seen = String::from_utf8_lossy(&self.seen).into_owned();
                assert!(error.kind() != ErrorKind::WouldBlock, "nothing comes after {seen:?}");
                0
            }
        };
        self.seen.extend_from_slice(&buffer[..read]);
        read
    }
}
