//! The PROXY protocol, as it is heard of proxies in front and said to backends; what it looks like is
//! [`crate::wire::proxied`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::Stream;
use pingora::protocols::l4::ext::{connect, connect_uds};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connection::Connection;
use crate::wire::proxied::{For, Header, Refused, Step, Version, read, write};

/// How long an unused connection to a backend is kept that is one client's alone. Pingora cannot be told that the
/// client left; what it keeps in vain costs both sides a descriptor. Longer than from one click to the next request.
const KEEPALIVE_MAX: Duration = Duration::from_secs(5);

/// Reads the header that a connection begins with, and not a byte beyond it. `None`: it ended before the first one,
/// as a proxy does that only looks whether we are there.
///
/// # Errors
/// When the connection does not begin with a header.
pub(super) async fn hear(stream: &mut Stream) -> Result<Option<Header>, Refused> {
    let mut bytes = Vec::new();
    loop {
        let more = match read(&bytes)? {
            Step::Done(header, _) => return Ok(Some(header)),
            Step::More(more) => more,
        };
        let mut allowed = (&mut *stream).take(more as u64);
        match allowed.read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(Refused::Cut),
            Ok(_) => {}
        }
    }
}

/// Connects to a backend and says for whom before anything else, TLS included.
#[derive(Debug)]
pub struct Introduction {
    header: Vec<u8>,
}

impl Introduction {
    /// For a connection of our own, which sees how a backend is.
    pub fn own(version: Version) -> Self {
        Self { header: write(version, For::Own) }
    }

    /// For the connection of a client.
    fn of(version: Version, connection: Option<&Connection>) -> Self {
        let ends = connection.and_then(|connection| connection.origin().ends);
        Self { header: write(version, ends.map_or(For::Stranger, For::Client)) }
    }

    async fn say<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<()> {
        let said = stream.write_all(&self.header).await;
        said.map_err(|error| {
            Error::because(ErrorType::ConnectError, "saying who the client is", error)
        })
    }
}

#[async_trait]
impl L4Connect for Introduction {
    async fn connect(&self, address: &SocketAddr) -> Result<L4Stream> {
        match address {
            SocketAddr::Inet(address) => {
                let mut stream = connect(address, None).await.map_err(ours)?;
                self.say(&mut stream).await?;
                Ok(stream.into())
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().unwrap_or(Path::new(""));
                let mut stream = connect_uds(path).await.map_err(ours)?;
                self.say(&mut stream).await?;
                Ok(stream.into())
            }
        }
    }
}

/// What Pingora makes of the errors of its own connector: some are none of the backend's.
fn ours(error: Box<Error>) -> Box<Error> {
    if matches!(error.etype(), ErrorType::SocketError | ErrorType::BindError) {
        return Error::because(ErrorType::InternalError, "connecting", error);
    }
    error
}

/// Makes the connection to the backend that of this client alone, and tells the backend of it.
pub(super) fn introduce(peer: &mut HttpPeer, version: Version, connection: Option<&Connection>) {
    let introduction = Introduction::of(version, connection);
    peer.options.custom_l4 = Some(Arc::new(introduction));
    // Connections are kept by this key: all requests of one client connection have the same, and nobody else has.
    peer.group_key = connection.map_or_else(rand::random, Connection::key);
    let kept = peer.options.idle_timeout.unwrap_or(KEEPALIVE_MAX);
    peer.options.idle_timeout = Some(kept.min(KEEPALIVE_MAX));
}
