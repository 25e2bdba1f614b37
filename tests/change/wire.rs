//! A connection of a client that tells how it failed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::{PATIENCE, Response};

/// What can go wrong for a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// Nobody accepts connections.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the response did.
    Ended,
    /// Nothing came in time.
    Late,
    /// A status that is not 200.
    Status,
    /// An answer that makes no sense.
    Strange,
    /// Another backend than the one of the pin.
    Moved,
    /// A kept connection that was idle was closed just when the next request was sent.
    Race,
}

/// All of them, in the order of their declaration.
pub(crate) const TROUBLES: [Trouble; 8] = [
    Trouble::Refused,
    Trouble::Reset,
    Trouble::Ended,
    Trouble::Late,
    Trouble::Status,
    Trouble::Strange,
    Trouble::Moved,
    Trouble::Race,
];

/// A failure: what it was, whether a byte of the response had come, and the words for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    pub(crate) answered: bool,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn of(error: &io::Error, answered: bool) -> Self {
        let known = [
            (io::ErrorKind::ConnectionRefused, Trouble::Refused),
            (io::ErrorKind::ConnectionReset, Trouble::Reset),
            (io::ErrorKind::BrokenPipe, Trouble::Reset),
            (io::ErrorKind::UnexpectedEof, Trouble::Ended),
            (io::ErrorKind::TimedOut, Trouble::Late),
            (io::ErrorKind::WouldBlock, Trouble::Late),
        ];
        let found = known.iter().find(|(kind, _)| *kind == error.kind());
        let trouble = found.map_or(Trouble::Strange, |(_, trouble)| *trouble);
        Self { trouble, answered, text: error.to_string() }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) reader: BufReader<TcpStream>,
    /// Whether a response came over it.
    pub(crate) used: bool,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            let reader = BufReader::new(stream.try_clone()?);
            Ok(Self { stream, reader, used: false })
        };
        connect().map_err(|error: io::Error| {
            let failure = Failure::of(&error, false);
            Failure { text: format!("connect: {error}"), ..failure }
        })
    }

    /// Sends a request and reads its response.
    pub(crate) fn exchange(&mut self, request: &str) -> Result<Response, Failure> {
        self.stream.write_all(request.as_bytes()).map_err(|error| Failure::of(&error, false))?;
        let nothing_yet = self.reader.fill_buf().map(<[u8]>::is_empty);
        match nothing_yet {
            Ok(false) => {}
            Ok(true) => return Err(Failure::of(&early(), false)),
            Err(error) => return Err(Failure::of(&error, false)),
        }
        let response = self.read().map_err(|error| Failure::of(&error, true))?;
        self.used = true;
        Ok(response)
    }

    fn read(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {line}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if status != 101 {
            let length = response.header("content-length").and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(|| io::Error::other("a body without length"))?;
            response.body = vec![0; length];
            self.reader.read_exact(&mut response.body)?;
        }
        Ok(response)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(early()) }
    }

    /// Whether the other side closed the connection while nothing was asked.
    pub(crate) fn is_closed(&self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        !matches!(peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends bytes and waits for the same to come back.
    pub(crate) fn echo(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.write_all(bytes)?;
        let mut echo = vec![0; bytes.len()];
        self.reader.read_exact(&mut echo)?;
        Ok(echo == bytes)
    }
}

fn early() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}
