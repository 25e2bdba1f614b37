//! One connection: a socket that never blocks, with or without TLS on it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName};

/// Plain, or what rustls makes of it.
pub(crate) struct Link {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// What the socket did not take yet (of a plain link; rustls has a buffer of its own).
    pending: Vec<u8>,
    is_connected: bool,
}

/// How TLS is spoken, shared by all links.
#[derive(Clone)]
pub(crate) struct Secure {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// Whether more may come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Open,
    Ended,
}

impl Link {
    /// Begins to connect. Failures to do so are told by what is done next.
    pub(crate) fn open(address: SocketAddr, secure: Option<&Secure>) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(cause) => return Err(cause.into()),
        }
        let session = secure
            .map(|it| ClientConnection::new(Arc::clone(&it.config), it.name.clone()).map(Box::new))
            .transpose()
            .map_err(io::Error::other)?;
        Ok(Self { stream: socket.into(), session, pending: Vec::new(), is_connected: false })
    }

    /// Sends `bytes`, as soon as the connection is there and has room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.session {
            Some(session) => session.writer().write_all(bytes)?,
            None if self.pending.is_empty() => {
                let taken = written(self.stream.write(bytes))?;
                self.pending.extend_from_slice(&bytes[taken..]);
                return Ok(());
            }
            None => self.pending.extend_from_slice(bytes),
        }
        self.flush()
    }

    /// Goes on with what could not be sent at once.
    ///
    /// To be called when there is room, the first time of which is when the connection is there.
    pub(crate) fn ready(&mut self) -> io::Result<()> {
        if !self.is_connected {
            sockopt::socket_error(&self.stream)??;
            self.is_connected = true;
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            while session.wants_write() {
                if written(session.write_tls(&mut self.stream))? == 0 {
                    break;
                }
            }
        } else if !self.pending.is_empty() {
            let taken = written(self.stream.write(&self.pending))?;
            self.pending.drain(..taken);
        }
        Ok(())
    }

    /// Hands all that has come to `take`, in pieces of `buffer`.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Ok(Received::Ended),
                Ok(length) => length,
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(Received::Open),
                Err(cause) => return Err(cause),
            };
            match &mut self.session {
                None => take(&buffer[..length]),
                Some(session) => decrypt(session, &buffer[..length], &mut take)?,
            }
            // A socket that gave less than there was room for is empty; it will say when there is more.
            if length < buffer.len() {
                self.flush()?;
                return Ok(Received::Open);
            }
        }
    }

    /// Whether the other side ever was there.
    pub(crate) fn was_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether the TLS handshake resumed an earlier session; none while it is under way, and without TLS.
    pub(crate) fn resumed(&self) -> Option<bool> {
        let kind = self.session.as_ref()?.handshake_kind()?;
        Some(kind == HandshakeKind::Resumed)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn decrypt(
    session: &mut ClientConnection,
    mut bytes: &[u8],
    take: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut plain = [0; 16384];
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        session.process_new_packets().map_err(io::Error::other)?;
        loop {
            match session.reader().read(&mut plain) {
                Ok(0) => break,
                Ok(length) => take(&plain[..length]),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
                Err(cause) => return Err(cause),
            }
        }
    }
    Ok(())
}

/// How much was written; nothing, while the socket has no room or is not connected yet.
fn written(outcome: io::Result<usize>) -> io::Result<usize> {
    match outcome {
        Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            Ok(0)
        }
        outcome => outcome,
    }
}
