//! The two layers around Pingora's proxy: one sees each connection, the other each request before it is read.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{SocketDigest, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::Proxy;
use super::connection::{Connection, Connections};
use super::gate::Entered;
use super::guard::Guard;
use super::http2::Http2;
use super::listeners::{Listeners, Spoken};
use super::origin::{Origin, client, is_own, local};
use super::proxied::hear;
use super::watched::Watched;
use crate::config::model::Protocols;
use crate::shared::Published;
use crate::wire::proxied::{Header, Refused};

/// The outer layer: one for each listening service, sees each connection once.
pub struct Edge {
    pub(super) proxy: Arc<HttpProxy<Proxy>>,
    pub(super) connections: Arc<Connections>,
    /// What is spoken where.
    pub(super) listeners: Arc<Listeners>,
    /// Whose addresses stand for many clients, and what apps put up with.
    pub(super) published: Arc<Published>,
    /// Holds the last act of a shutdown back until the clients had their turn; see [`Drain`].
    pub(super) drain: Arc<dyn Drain>,
}

/// When idle connections may be dropped after accepting has stopped.
#[async_trait]
pub trait Drain: Send + Sync {
    /// Resolves then.
    async fn idle_may_go(&self);
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let digest = stream.get_socket_digest();
        let spoken = self.listeners.find(local(digest.as_deref()));
        let is_proxied = spoken.is_proxied(client(digest.as_deref()));
        let mut entered = self.enter(digest.as_deref(), is_proxied)?;
        let registered = self.connections.add(digest);
        let connection = &registered.connection;
        connection.allow_head();
        let served = async {
            let (mut stream, mut heard) = (stream, Header::default());
            if is_proxied {
                let hearing = self.hear(&mut stream, connection, entered.as_mut(), shutdown);
                heard = Box::pin(hearing).await?;
            }
            let greeted = self.greet(stream, &spoken, heard, connection, shutdown);
            let (stream, protocols) = greeted.await?;
            self.serve(stream, protocols, connection, shutdown).await
        };
        UnlessStuck::new(served, connection).await
    }

    async fn cleanup(&self) {
        self.drain.idle_may_go().await;
        self.proxy.http_cleanup().await;
    }
}

impl Edge {
    /// Serves a connection in what is spoken on it.
    async fn serve(
        &self,
        stream: Stream,
        protocols: Protocols,
        connection: &Arc<Connection>,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let (proxy, published) = (Arc::clone(&self.proxy), Arc::clone(&self.published));
        let connection = Arc::clone(connection);
        if protocols.http2 {
            let guard = Guard::of_frames(published, &connection);
            let watched = Watched::new(stream, guard, Arc::clone(&connection));
            let connections = Arc::clone(&self.connections);
            let http2 = Http2 { proxy, connections, connection };
            let leave = self.idle_has_to_go(shutdown);
            Box::pin(http2.serve(Box::new(watched), shutdown, leave)).await;
            return None;
        }
        let watched = Watched::new(stream, Guard::new(published), Arc::clone(&connection));
        let sessions = Arc::new(Sessions { proxy, connection });
        sessions.process_new(Box::new(watched), shutdown).await
    }

    /// Learns where a connection comes from, and greets its client over TLS if that is spoken there. Answers with what
    /// is spoken from here on.
    async fn greet(
        &self,
        stream: Stream,
        spoken: &Spoken,
        heard: Header,
        connection: &Connection,
        shutdown: &ShutdownWatch,
    ) -> Option<(Stream, Protocols)> {
        let socket = stream.get_socket_digest();
        let origin = || Origin::of(socket.as_deref()).heard(heard).at(spoken.redirect);
        let Some(tls) = &spoken.tls else {
            if heard != Header::default() || spoken.redirect.is_some() {
                connection.tell(origin());
            }
            return Some((stream, spoken.protocols));
        };
        let greeted = tokio::select! {
            biased;
            greeted = Box::pin(tls.greet(stream, connection, self.listeners.tally())) => greeted?,
            () = self.idle_has_to_go(shutdown) => return None,
        };
        connection.tell(origin().over(greeted.secured));
        // The time for a request begins anew: some of it went by with the handshake.
        connection.allow_head();
        Some((greeted.stream, greeted.protocols))
    }

    /// Lets a connection in, if there is room for it. Our own question whether we serve is always answered; one that
    /// a trusted proxy brings stands for many clients; one of a proxy that says for whom it is, is counted then.
    fn enter(&self, socket: Option<&SocketDigest>, is_proxied: bool) -> Option<Option<Entered>> {
        if is_own(socket) {
            return Some(None);
        }
        let address =
            client(socket).filter(|address| !is_proxied && !self.published.trusts(*address));
        self.connections.gate().enter(address).ok().map(Some)
    }

    /// Hears from a proxy in front for whom it connects, and counts the connection as that client's. `None`: it is to
    /// be closed. No response could be given: what the client speaks was not reached.
    async fn hear(
        &self,
        stream: &mut Stream,
        connection: &Connection,
        entered: Option<&mut Entered>,
        shutdown: &ShutdownWatch,
    ) -> Option<Header> {
        let peer = client(stream.get_socket_digest().as_deref());
        let hearing = pin!(hear(stream));
        let heard = tokio::select! {
            biased;
            heard = connection.in_time(hearing) => heard,
            () = self.idle_has_to_go(shutdown) => return None,
        };
        let refused = match heard {
            Some(Ok(Some(header))) => {
                let client = header.ends.map(|ends| ends.source.ip().to_canonical());
                let counted = client.filter(|client| !self.published.trusts(*client));
                return match (entered, counted) {
                    (Some(entered), Some(client)) => entered.count(client).ok().map(|()| header),
                    (None, _) | (_, None) => Some(header),
                };
            }
            Some(Ok(None)) => return None,
            Some(Err(refused)) => refused,
            None => Refused::Slow,
        };
        self.listeners.add_refused(refused, 1);
        let reason = refused.as_str();
        tracing::debug!(?peer, reason, "no PROXY header: connection closed");
        None
    }

    /// Resolves when the process ends, and who said nothing so far had the time for it.
    async fn idle_has_to_go(&self, shutdown: &ShutdownWatch) {
        let mut shutdown = shutdown.clone();
        drop(shutdown.wait_for(|begun| *begun).await);
        self.drain.idle_may_go().await;
    }
}

/// The life of a connection, cut short when it is stuck.
pub(super) struct UnlessStuck<'c, F> {
    served: Pin<Box<F>>,
    connection: &'c Connection,
    /// Who is to be woken, so that it is told once and not with every poll.
    waker: Option<Waker>,
}

impl<'c, F> UnlessStuck<'c, F> {
    pub(super) fn new(served: F, connection: &'c Connection) -> Self {
        Self { served: Box::pin(served), connection, waker: None }
    }
}

impl<T, F: Future<Output = Option<T>>> Future for UnlessStuck<'_, F> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let served = self.served.as_mut().poll(cx);
        if served.is_ready() {
            return served;
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.connection.wake_when_stuck(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        if self.connection.is_stuck() { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// The inner layer: one for each connection, sees each request before it is read.
struct Sessions {
    proxy: Arc<HttpProxy<Proxy>>,
    connection: Arc<Connection>,
}

impl HttpServerApp for Sessions {
    // Written without `async_trait` to hand the proxy's own future on, not a box around it.
    fn process_new_http<'life0, 'life1, 'asynchronous>(
        self: &'life0 Arc<Self>,
        mut session: ServerSession,
        shutdown: &'life1 ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'asynchronous>>
    where
        'life0: 'asynchronous,
        'life1: 'asynchronous,
        Self: 'asynchronous,
    {
        if self.connection.begin_request() {
            session.set_keepalive_reuses_remaining(Some(0));
        }
        // Reaches `on_connection_reuse`, which Pingora calls for every session that has a context.
        session.set_connection_user_context(Some(Box::new(Arc::clone(&self.connection))));
        self.proxy.process_new_http(session, shutdown)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}
