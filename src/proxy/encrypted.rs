//! A client connection over TLS, as the rest of the proxy gets it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;

/// A client connection whose handshake is done. What a client leaves unsaid at its end is its own affair: where a
/// message ends is told by HTTP, so that a connection which is cut is just at its end.
#[derive(Debug)]
pub(super) struct Encrypted(TlsStream<Stream>);

impl Encrypted {
    /// Goes on where a handshake ended.
    pub(super) fn new(stream: TlsStream<Stream>) -> Self {
        Self(stream)
    }

    fn raw(&self) -> &Stream {
        self.0.get_ref().0
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        // The end without `close_notify` (RFC 8446 §6.1).
        let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        if matches!(&read, Poll::Ready(Err(error)) if cut(error)) {
            Poll::Ready(Ok(()))
        } else {
            read
        }
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Encrypted {
    async fn shutdown(&mut self) {
        // Who is gone need not be told.
        let _gone = AsyncWriteExt::shutdown(&mut self.0).await;
    }
}

impl UniqueID for Encrypted {
    fn id(&self) -> UniqueIDType {
        self.raw().id()
    }
}

impl Ssl for Encrypted {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        // What was agreed on was heeded before Pingora sees the connection.
        None
    }
}

impl GetTimingDigest for Encrypted {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.raw().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.raw().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.raw().get_write_pending_time()
    }
}

impl GetProxyDigest for Encrypted {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.raw().get_proxy_digest()
    }
}

impl GetSocketDigest for Encrypted {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.raw().get_socket_digest()
    }
}

impl Peek for Encrypted {}
