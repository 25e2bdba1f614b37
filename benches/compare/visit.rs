//! One request, as one client would send it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// What came back.
pub(crate) struct Visit {
    pub(crate) status: u16,
    /// `name=value` of the first cookie set.
    pub(crate) cookie: Option<String>,
    /// The port of the backend that answered, in its own words.
    pub(crate) backend: Option<String>,
}

/// Sends one GET for the root of `host` on a new connection, with `cookie` (as `name=value`) if there is one.
pub(crate) fn visit(address: SocketAddr, host: &str, cookie: Option<&str>) -> io::Result<Visit> {
    ask(address, host, "/", cookie)
}

/// The same for any path.
pub(crate) fn ask(
    address: SocketAddr,
    host: &str,
    path: &str,
    cookie: Option<&str>,
) -> io::Result<Visit> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let cookie = cookie.map(|it| format!("Cookie: {it}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::other("the answer is not HTTP/1.1"))
}

pub(crate) fn parse(answer: &str) -> Option<Visit> {
    let (head, _body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let cookie = header("set-cookie").and_then(|it| it.split(';').next().map(str::to_owned));
    Some(Visit { status, cookie, backend: header("x-backend") })
}
