//! A client that sees every byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// One connection of a client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) reader: BufReader<TcpStream>,
}

/// A response, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Our cookie, if the response sets it: `name=value` without attributes.
    pub(crate) fn token(&self) -> Option<String> {
        let ours =
            self.all("set-cookie").into_iter().find(|line| line.starts_with("homing-affinity="))?;
        Some(ours.split(';').next()?.to_owned())
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends `GET path` with more header lines (each ended by CRLF), and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{headers}\r\n"));
        self.read()
    }

    /// The same where the connection may end before.
    pub(crate) fn try_get(&mut self, path: &str) -> Option<Response> {
        self.try_get_with(path, "")
    }

    /// The same with more header lines.
    pub(crate) fn try_get_with(&mut self, path: &str, headers: &str) -> Option<Response> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).ok()?;
        self.try_read("GET")
    }

    /// The next response.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Response {
        self.try_read("GET").expect("a whole response")
    }

    /// The next response, to a request with this method; `None` when the connection ends before it.
    pub(crate) fn try_read(&mut self, method: &str) -> Option<Response> {
        read_response(&mut self.reader, method)
    }

    /// The head of the next response.
    pub(crate) fn try_read_head(&mut self) -> Option<Response> {
        read_head(&mut self.reader)
    }

    /// The next line, without its end.
    pub(crate) fn read_line(&mut self) -> Option<String> {
        read_line(&mut self.reader)
    }

    /// Whether the other side closes the connection, and sends nothing before.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// The next response, to a request with this method; `None` when the connection ends before it.
pub(crate) fn read_response(reader: &mut impl BufRead, method: &str) -> Option<Response> {
    let mut response = read_head(reader)?;
    let bodiless = method == "HEAD"
        || (100..200).contains(&response.status)
        || [204, 304].contains(&response.status);
    if bodiless {
        return Some(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = read_chunks(reader)?;
    } else if let Some(length) = response.header("content-length") {
        response.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut response.body).ok()?;
    } else {
        reader.read_to_end(&mut response.body).ok()?;
    }
    Some(response)
}

fn read_head(reader: &mut impl BufRead) -> Option<Response> {
    let line = read_line(reader)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let header = read_line(reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Response { status, headers, body: Vec::new() })
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}

/// Reads a chunked body to its end.
pub(crate) fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// The cookies of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(BTreeMap<String, String>);

impl Jar {
    /// The header line, empty when there is no cookie.
    pub(crate) fn header(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let pairs: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("Cookie: {}\r\n", pairs.join("; "))
    }

    /// Puts a cookie in.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Takes the cookies of a response, and forgets those that it takes back.
    pub(crate) fn take(&mut self, response: &Response) {
        for line in response.all("set-cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("; Max-Age=0") {
                true => drop(self.0.remove(name)),
                false => drop(self.0.insert(name.to_owned(), value.to_owned())),
            }
        }
    }

    /// Gets a path on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&mut self, address: SocketAddr, path: &str) -> Response {
        let response = Client::connect(address).get(path, &self.header());
        self.take(&response);
        response
    }
}
