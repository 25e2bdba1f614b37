//! A backend that writes down every request that it sees, whole or begun.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

/// How long the response at `/big` is, in bytes.
pub(crate) const BIG: usize = 8 * 1024 * 1024;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether all of it came.
    pub(crate) whole: bool,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }
}

/// The backend.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::default());
        let own: Arc<Mutex<Vec<Seen>>> = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                thread::spawn(move || while serve(&own, &stream).is_some() {});
            }
        });
        Self { address, seen }
    }

    /// What came with this path.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let of_path = |seen: &&Seen| seen.path().starts_with(path);
        self.seen.lock().unwrap().iter().filter(of_path).cloned().collect()
    }

    /// Forgets what came, and says how much that was.
    pub(crate) fn forget(&self) -> usize {
        std::mem::take(&mut *self.seen.lock().unwrap()).len()
    }
}

/// Serves one request; `None`: the connection is over.
fn serve(seen: &Mutex<Vec<Seen>>, stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut request = Seen { line: line(&mut reader)?, ..Seen::default() };
    loop {
        let text = line(&mut reader)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':')?;
        request.fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    if !request.all("expect").is_empty() {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.path().ends_with("unread") {
        // Until whoever asked is gone.
        let gone = PollFd::new(stream, PollFlags::RDHUP);
        let _left = poll(&mut [gone], None);
        return None;
    }
    let body = body(&mut reader, &request)?;
    if let Some(seen) = seen.lock().unwrap().get_mut(number).filter(|own| own.line == request.line)
    {
        (seen.body, seen.whole) = (body, true);
    }
    if request.path().contains("/hold") {
        // Until whoever asked is gone.
        let _gone = reader.read(&mut [0; 1]);
        return None;
    }
    if request.path().contains("/big") {
        return send_big(stream);
    }
    let text = request.line.into_bytes();
    let text = if text.starts_with(b"HEAD") { Vec::new() } else { text };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    (&*stream).write_all(&[head.as_bytes(), &text].concat()).ok()
}

/// Sends it piece by piece, so that the test holds none of it.
fn send_big(mut stream: &TcpStream) -> Option<()> {
    let piece = [b'x'; 16 * 1024];
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").ok()?;
    (0..BIG / piece.len()).try_for_each(|_| stream.write_all(&piece)).ok()
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).ok().filter(|read| *read > 0)?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.strip_suffix("\r\n")?.to_owned())
}

fn body(reader: &mut impl BufRead, request: &Seen) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if request.all("transfer-encoding") == ["chunked"] {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..]).ok()?;
            if size == 0 {
                while !line(reader)?.is_empty() {}
                return Some(body);
            }
            line(reader)?;
        }
    }
    if let [length] = request.all("content-length")[..] {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    }
    Some(body)
}
