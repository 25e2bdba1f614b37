//! HTTP/2 from clients (RFC 9113): one connection, many requests, each with deadlines, a page and a line of its own.
//!
//! Frames and flow control are the business of the crate `h2`; what it hands over becomes a [`Http2Session`], which
//! Pingora's proxy serves as any other.

mod gather;
mod request;
mod session;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::task::JoinSet;
use tracing::debug;

use self::gather::Gathered;
use self::session::Http2Session;
use super::Proxy;
use super::connection::{Connection, Connections};
use super::edge::UnlessStuck;

/// How much of the bodies of one connection may be on its way to backends, in bytes: the memory that one client
/// can take. A single upload gets all of it.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The same for one request: what a fast upload needs over a distance of 40 ms at 50 Mbit/s.
const STREAM_WINDOW: u32 = 256 * 1024;

/// How much of a response is kept for a client that reads slowly, in bytes for each request.
const SEND_BUFFER: usize = 64 * 1024;

/// How many streams we may have to reset for faults of the client before the connection is ended (CVE-2025-8671). It
/// is for the life of a connection, and streams beyond the limit count, which a client may open before it knows it.
const FAULTY_RESETS: usize = 1024;

/// How long requests are taken of a client that was told to go, and may not know it yet. It says so by itself, unless
/// it is of bad will; what comes later is refused, and may be asked elsewhere (RFC 9113 §8.7).
const UNDER_WAY: Duration = Duration::from_secs(5);

/// How long a client has to read our last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is needed to serve a connection.
pub(super) struct Http2 {
    pub(super) proxy: Arc<HttpProxy<Proxy>>,
    pub(super) connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Http2 {
    /// Serves a connection until it ends.
    ///
    /// `idle_has_to_go` resolves when nobody is waited for any more who has not begun.
    pub(super) async fn serve(
        self,
        stream: Stream,
        shutdown: &ShutdownWatch,
        idle_has_to_go: impl Future<Output = ()>,
    ) -> Option<()> {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let io = Gathered::new(stream);
        let handshake = options(&self.connections).handshake(io.clone());
        let http2 = tokio::select! {
            biased;
            begun = self.connection.in_time(handshake) => begun?.ok()?,
            () = idle_has_to_go => return None,
        };
        io.by_turns();
        let requests = JoinSet::new();
        let mut frames = Frames { http2, io, requests, state: State::New, told: None };
        let mut stopping = pin!(async { shutdown.clone().wait_for(|stops| *stops).await.is_ok() });
        while let Some(request) =
            poll_fn(|cx| frames.poll_request(&self.connection, stopping.as_mut(), cx)).await
        {
            if frames.refuses(&self.connection) {
                let (_, mut response) = request;
                response.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            self.begin(request, &digest, &mut frames.requests, shutdown);
            if self.connection.begin_request() {
                frames.leave(&self.connection);
            }
        }
        let Frames { http2, io, mut requests, .. } = frames;
        // What still runs sees that its client is gone; the connection is on the list until then.
        drop((http2, io));
        while requests.join_next().await.is_some() {}
        Some(())
    }

    /// Serves a request in a task of its own, on this thread.
    fn begin(
        &self,
        (request, response): Accepted,
        digest: &Arc<Digest>,
        requests: &mut JoinSet<()>,
        shutdown: &ShutdownWatch,
    ) {
        let (parts, body) = request.into_parts();
        let (mut head, checked) = request::read(parts, &self.connection.head_limits());
        let registered = self.connections.add_stream(&self.connection);
        let connection = Arc::clone(&registered.connection);
        if let Err(fault) = checked {
            connection.refuse(fault);
        }
        // Pingora hands nothing else on to the phases for a session of this kind.
        head.1.extensions_mut().insert(Arc::clone(&connection));
        let digest = Arc::clone(digest);
        let session = Http2Session::new(head, body, response, digest, Arc::clone(&connection));
        let session = ServerSession::new_custom(Box::new(session));
        let (proxy, shutdown) = (Arc::clone(&self.proxy), shutdown.clone());
        requests.spawn(async move {
            let served = async { proxy.process_new_http(session, &shutdown).await };
            let _nothing_left = UnlessStuck::new(served, &registered.connection).await;
        });
    }
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

fn options(connections: &Connections) -> Builder {
    let mut options = Builder::new();
    let streams = connections.streams();
    options
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(connections.head().bytes).unwrap_or(u32::MAX))
        // A browser that leaves a page may take back all that it asked for, before we look at it. How often, the
        // frames are counted for (CVE-2023-44487, `proxy/frames.rs`).
        .max_pending_accept_reset_streams(usize::try_from(streams).unwrap_or(usize::MAX))
        .max_local_error_reset_streams(Some(FAULTY_RESETS))
        .enable_connect_protocol();
    options
}

/// The frames of a connection, and how far it got.
struct Frames {
    http2: h2::server::Connection<Gathered, Bytes>,
    /// The same connection: what `h2` wrote in a turn is flushed at its end.
    io: Gathered,
    /// The requests that run, in tasks of their own. They end with the connection.
    requests: JoinSet<()>,
    state: State,
    /// When the client was told to go, on the clock of deadlines.
    told: Option<Duration>,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// It just began.
    New,
    /// It waits for a request.
    Idle,
    /// Some of the head of a request came.
    Head,
    /// Some of a response may still be unread.
    Settling,
    /// Requests run.
    Busy,
    /// No more requests are taken: the client was told (RFC 9113 §6.8). Some may run.
    Leaving,
    /// None run any more, and some of a response may still be unread.
    Parting,
    /// None run any more, and all is read.
    Left,
    /// The last words were said.
    Ending,
}

impl Frames {
    /// Waits for the next request; `None`: there comes none any more.
    fn poll_request(
        &mut self,
        connection: &Connection,
        stopping: Pin<&mut impl Future<Output = bool>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Accepted>> {
        if !self.leaves() && stopping.poll(cx).is_ready() {
            self.leave(connection);
        }
        loop {
            match self.http2.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => return Poll::Ready(Some(accepted)),
                Poll::Ready(Some(Err(error))) => {
                    if error.is_library()
                        && error.is_go_away()
                        && connection.frame_fault().is_none()
                    {
                        debug!(%error, "a connection ended for what h2 found");
                        connection.end_for_h2();
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            let Ok(unread) = self.poll_turn(cx) else { return Poll::Ready(None) };
            while let Poll::Ready(Some(_done)) = self.requests.poll_join_next(cx) {}
            self.note_state(connection, unread);
            connection.wake_when_over(cx.waker());
            if let Some(fault) = connection.frame_fault()
                && self.state != State::Ending
            {
                self.end(connection, Reason::from(fault.code() as u32));
            } else if !connection.missed_deadline() {
                return Poll::Pending;
            } else if self.state == State::Ending {
                return Poll::Ready(None);
            } else if self.leaves() {
                self.end(connection, Reason::NO_ERROR);
            } else {
                self.leave(connection);
            }
        }
    }

    /// Ends a turn: what was written in it goes to the client. Answers whether some of a response is still here.
    fn poll_turn(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_blocked = match self.io.poll_turn(cx) {
            Poll::Ready(flushed) => flushed.map(|()| false)?,
            Poll::Pending => true,
        };
        Ok(is_blocked || self.http2.has_streams())
    }

    /// Sets the deadline of the connection by what it does.
    fn note_state(&mut self, connection: &Connection, unread: bool) {
        let quiet = self.requests.is_empty();
        let state = match self.state {
            State::Ending => return,
            // Requests may come that were under way when the client was told.
            State::Leaving | State::Left | State::Parting => match (quiet, unread) {
                (false, _) => State::Leaving,
                (true, true) => State::Parting,
                (true, false) => State::Left,
            },
            State::New | State::Idle | State::Head | State::Settling | State::Busy => {
                if !quiet {
                    State::Busy
                } else if connection.is_in_block() {
                    State::Head
                } else if unread {
                    State::Settling
                } else {
                    State::Idle
                }
            }
        };
        if self.state == state {
            return;
        }
        self.state = state;
        match state {
            State::Idle => connection.allow_idle(),
            State::Head => connection.allow_head(),
            State::Settling | State::Parting => connection.allow_unread(),
            State::Left => connection.allow(LAST_WORDS),
            State::Busy | State::New | State::Leaving | State::Ending => connection.begin_work(),
        }
    }

    fn leaves(&self) -> bool {
        matches!(self.state, State::Leaving | State::Parting | State::Left | State::Ending)
    }

    /// Takes no more requests than those that are on their way.
    fn leave(&mut self, connection: &Connection) {
        if !self.leaves() {
            self.state = State::Leaving;
            self.told = Some(connection.time());
            self.http2.graceful_shutdown();
            connection.begin_work();
        }
    }

    /// Whether the client was told to go so long ago that it must know.
    fn refuses(&self, connection: &Connection) -> bool {
        self.told.is_some_and(|told| connection.time().saturating_sub(told) > UNDER_WAY)
    }

    /// Ends all at once.
    fn end(&mut self, connection: &Connection, reason: Reason) {
        self.state = State::Ending;
        self.http2.abrupt_shutdown(reason);
        connection.allow(LAST_WORDS);
    }
}
