//! A client on a socket that sends what it is told and says what came.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wire::*;

/// How long an answer may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What came next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    Closed,
    Frame(Frame),
    Nothing,
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The path that tells whose requests these are.
    pub(crate) path: String,
    /// What the server's SETTINGS said.
    pub(crate) settings: Vec<(u16, u32)>,
}

impl Connection {
    /// A connection over which nothing was sent yet.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self { stream, unread: Vec::new(), path: "/".to_owned(), settings: Vec::new() }
    }

    /// A connection that has begun, both ways.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[])
    }

    /// The same, with these settings.
    pub(crate) fn open_with(address: SocketAddr, list: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(address);
        // Without a table, every response tells its status alone.
        let list = [&[(0x1, 0)], list].concat();
        connection.send(&[PREFACE, &settings(&list)].concat());
        let (mut has_settings, mut has_ack) = (false, false);
        while !(has_settings && has_ack) {
            match connection.next() {
                Came::Frame(frame) if frame.kind == SETTINGS && frame.flags & ACK != 0 => {
                    has_ack = true
                }
                Came::Frame(frame) if frame.kind == SETTINGS => {
                    has_settings = true;
                    connection.settings = frame
                        .payload
                        .chunks_exact(6)
                        .map(|each| {
                            let (name, value) = each.split_at(2);
                            let name = u16::from_be_bytes(name.try_into().unwrap());
                            (name, u32::from_be_bytes(value.try_into().unwrap()))
                        })
                        .collect();
                    connection.send(&frame_of_ack());
                }
                Came::Frame(frame) if frame.kind == WINDOW_UPDATE => {}
                other @ (Came::Closed | Came::Frame(_) | Came::Nothing) => {
                    panic!("a connection does not begin with {other:?}")
                }
            }
        }
        connection
    }

    /// Sends bytes. Whether they are taken is seen by what comes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _gone = self.stream.write_all(bytes);
    }

    /// The fields of a right request.
    pub(crate) fn right(&self, method: &str) -> Vec<(String, String)> {
        [
            (":method", method),
            (":scheme", "http"),
            (":authority", "shop.example.com"),
            (":path", &self.path),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// HEADERS of a right request.
    pub(crate) fn ask(&mut self, stream: u32, flags: u8, method: &str) {
        let block = fields(&self.right(method));
        self.send(&frame(HEADERS, flags, stream, &block));
    }

    /// HEADERS of a right `GET` with more fields.
    pub(crate) fn ask_with(
        &mut self,
        stream: u32,
        flags: u8,
        method: &str,
        more: &[(&str, &[u8])],
    ) {
        let block = [fields(&self.right(method)), fields(more)].concat();
        self.send(&frame(HEADERS, flags, stream, &block));
    }

    /// The next frame that is not about windows.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        loop {
            match self.next() {
                Came::Frame(frame) if frame.kind == WINDOW_UPDATE => {}
                Came::Frame(frame) => return frame,
                other @ (Came::Closed | Came::Nothing) => panic!("{other:?} instead of a frame"),
            }
        }
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> Came {
        self.next_within(SOON)
    }

    /// What comes within this time.
    pub(crate) fn next_within(&mut self, limit: Duration) -> Came {
        let end = Instant::now() + limit;
        loop {
            if let Some((frame, length)) = Frame::read(&self.unread) {
                self.unread.drain(..length);
                return Came::Frame(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Came::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 16_384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Came::Closed,
                Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Came::Closed,
            }
        }
    }

    /// The status and the body of the response on a stream; what else comes is passed over.
    #[track_caller]
    pub(crate) fn response(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let frame = match self.next() {
                Came::Frame(frame) => frame,
                other @ (Came::Closed | Came::Nothing) => {
                    panic!("{other:?} instead of a response on stream {stream}")
                }
            };
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS if status < 200 => status = frame.status(),
                DATA => body.extend_from_slice(&frame.payload),
                RST_STREAM => panic!("stream {stream} was reset: {}", frame.number(0)),
                _ => {}
            }
            if [HEADERS, DATA].contains(&frame.kind) && frame.flags & END_STREAM != 0 {
                return (status, body);
            }
        }
    }

    /// The code of the GOAWAY with which the other side ends the connection.
    pub(crate) fn farewell(&mut self) -> Option<u32> {
        let (end, mut code) = (Instant::now() + SOON, None);
        while Instant::now() < end {
            match self.next() {
                Came::Frame(frame) if frame.kind == GOAWAY => code = Some(frame.number(4)),
                Came::Closed => return code,
                Came::Frame(_) | Came::Nothing => {}
            }
        }
        None
    }

    /// Whether the other side ended the connection, whatever came before.
    pub(crate) fn ends(&mut self) -> bool {
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            if self.next() == Came::Closed {
                return true;
            }
        }
        false
    }
}

fn frame_of_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, b"")
}
