//! The TLS handshake of a client connection: what is agreed on, with whom, and how it fails.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::Stream;
use rustls::server::{Acceptor, ProducesTickets};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;

use super::connection::Connection;
use super::encrypted::Encrypted;
use crate::config::model::{Listener, Protocols};
use crate::issued::{Chosen, Issued, Shown};
use crate::shared::{Clock, Published};
use crate::tls::certificate::Certificate;
use crate::tls::identity::Identity;
use crate::tls::table::Table;
use crate::tls::tally::{Done, Failed, Tally, Version};
use crate::tls::terms::{Resumption, Terms};
use crate::tls::tickets::{self, Context, PERIOD_SECONDS};

/// The name of HTTP/2 over TLS (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// The name of HTTP/1.1 (RFC 7301 §6).
const HTTP1: &[u8] = b"http/1.1";

/// How long a client that spoke HTTP has to read why it gets no further.
const LINGER: Duration = Duration::from_secs(2);

/// Most bytes that are read of what such a client still sends.
const UNREAD_MAX: usize = 64 << 10;

/// A fatal alert in a record of its own: `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a client is told that speaks HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 56\r\nConnection: close\r\n\r\n\
    This port speaks HTTPS: ask again, with https:// instead";

/// What a connection is known by whose handshake is done. All its requests share it.
#[derive(Debug)]
pub(super) struct Secured {
    /// The version that was agreed on.
    pub(super) version: Version,
    /// The name that the client asked for (SNI), in lower case.
    pub(super) name: Option<Box<str>>,
    /// The certificate that it was shown; of one that goes on with a session, the one that it would be shown now.
    pub(super) shown: Option<Chosen>,
    /// Who the client is, if it showed a certificate.
    pub(super) identity: Option<Identity>,
}

/// A connection whose handshake is done.
pub(super) struct Greeted {
    pub(super) stream: Stream,
    pub(super) secured: Secured,
    /// What is spoken from here on: one of both.
    pub(super) protocols: Protocols,
}

/// How a listener of TLS speaks: its terms, with protocols and tickets.
#[derive(Debug)]
pub(super) struct Speaking {
    table: Arc<Table>,
    /// What an ACME server issued.
    issued: Shown,
    protocols: Protocols,
    server: Arc<ServerConfig>,
    /// What a ticket is good for, and what seals those of TLS 1.2; `None`: there are no tickets.
    tickets: Option<(Context, Arc<dyn ProducesTickets>)>,
}

/// What tickets are sealed with: the affinity keys of this moment.
#[derive(Clone, Debug)]
pub(super) struct Sealing {
    pub(super) published: Arc<Published>,
    pub(super) clock: Clock,
}

/// Tickets of TLS 1.3 are good after a restart and elsewhere. Those of TLS 1.2 are sealed with keys that are made
/// here, are known to nobody, and are gone soon.
#[derive(Debug)]
struct Tickets {
    by: Sealing,
    context: Context,
    own: Arc<dyn ProducesTickets>,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD_SECONDS).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        if !tickets::is_of_tls13(state) {
            return self.own.encrypt(state);
        }
        let snapshot = self.by.published.load();
        tickets::seal(snapshot.keyring.as_ref()?, &self.context, self.now(), state)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let snapshot = self.by.published.load();
        let ring = snapshot.keyring.as_ref();
        let opened = ring.and_then(|ring| tickets::open(ring, &self.context, self.now(), ticket));
        opened.or_else(|| self.own.decrypt(ticket))
    }
}

impl Tickets {
    fn now(&self) -> u64 {
        self.by.clock.unix().as_secs()
    }
}

impl Speaking {
    /// How a listener speaks; `before`: how it did until now.
    pub(super) fn new(
        listener: &Listener,
        terms: &Terms,
        sealing: Option<&Sealing>,
        issued: &Arc<Issued>,
        before: Option<&Self>,
    ) -> Self {
        let mut server = ServerConfig::clone(terms.server());
        let issued = Shown::new(issued, &listener.acme, terms.table());
        if !listener.acme.is_empty() {
            server.cert_resolver = Arc::new(issued.clone());
        }
        let spoken = [(H2, listener.protocols.http2), (HTTP1, listener.protocols.http1)];
        // In the order of our preference.
        let spoken = spoken.into_iter().filter(|(_, is)| *is);
        server.alpn_protocols = spoken.map(|(name, _)| name.to_vec()).collect();
        let context = terms.context();
        let kept = || {
            // As long as nothing else is asked of clients, what they have stays good.
            let (old, own) = before?.tickets.as_ref()?;
            (*old == context).then(|| Arc::clone(own))
        };
        let sealing = sealing.filter(|_| terms.resumption() == Resumption::Tickets);
        let tickets = sealing.and_then(|sealing| {
            let own = kept().or_else(|| rustls::crypto::ring::Ticketer::new().ok())?;
            let (by, made) = (sealing.clone(), Arc::clone(&own));
            server.ticketer = Arc::new(Tickets { by, context, own });
            Some((context, made))
        });
        let table = Arc::clone(terms.table());
        let (protocols, server) = (listener.protocols, Arc::new(server));
        Self { table, issued, protocols, server, tickets }
    }

    /// The certificates that are shown.
    pub(super) fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.table.certificates().to_vec()
    }

    /// Greets a client, within the deadline of its connection, and counts what becomes of it. An ACME server with a
    /// challenge is answered, and no client.
    pub(super) async fn greet(
        &self,
        stream: Stream,
        connection: &Connection,
        tally: &Tally,
    ) -> Option<Greeted> {
        let socket = stream.get_socket_digest();
        let greeted = connection.in_time(pin!(self.shake(stream, connection))).await;
        match greeted.unwrap_or(Err((Failed::TimedOut, None))) {
            Ok((greeted, done)) => {
                tally.note_done(done);
                greeted
            }
            Err((why, error)) => {
                tally.note_failed(why);
                let client = super::origin::client(socket.as_deref());
                let error = error.map(|error| error.to_string());
                tracing::debug!(why = why.as_str(), ?client, error, "a TLS handshake failed");
                None
            }
        }
    }

    async fn shake(
        &self,
        mut stream: Stream,
        connection: &Connection,
    ) -> Result<(Option<Greeted>, Done), (Failed, Option<io::Error>)> {
        let mut first = [0; 1];
        let peeked = stream.try_peek(&mut first).await;
        if peeked.map_err(failed)? && first[0].is_ascii_uppercase() {
            // Whoever does not hang up spoke HTTP all the same.
            let refused = Box::pin(refuse_http(stream, connection));
            let _heard_or_late = connection.in_time(refused).await;
            return Err((Failed::PlainHttp, None));
        }
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let mut started = match (&mut acceptor).await {
            Ok(started) => started,
            Err(error) => return Err(refuse(error, acceptor.take_io()).await),
        };
        let hello = started.client_hello();
        if let Some(server) = self.issued.challenge(&hello) {
            let mut stream = started.into_stream(server).await.map_err(failed)?;
            let version = Version::of(stream.get_ref().1.protocol_version());
            // The server saw what it wanted: no request follows (RFC 8737 §3).
            stream.shutdown().await.map_err(failed)?;
            return Ok((None, Done { version, resumed: false }));
        }
        if !self.table.knows(hello.server_name()) && !self.issued.knows(hello.server_name()) {
            let said = say(&mut started.io, &UNRECOGNIZED_NAME).await;
            return Err((Failed::UnknownName, said.err()));
        }
        let shown = self.issued.choose(hello.server_name(), hello.signature_schemes());
        let stream = match started.into_stream(Arc::clone(&self.server)).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => return Err(refuse(error, Some(stream)).await),
        };
        let session = stream.get_ref().1;
        let protocols = match session.alpn_protocol() {
            Some(H2) => Protocols { http1: false, http2: true },
            // HTTP/2 has to be agreed on (RFC 9113 §3.2); who says nothing speaks HTTP/1.
            Some(_) | None if self.protocols.http1 => Protocols::HTTP1,
            Some(_) | None => return Err((Failed::NoProtocol, None)),
        };
        let version = Version::of(session.protocol_version());
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let secured = Secured {
            version,
            name: session.server_name().map(Into::into),
            shown,
            identity: session.peer_certificates().and_then(Identity::of),
        };
        let stream: Stream = Box::new(Encrypted::new(stream));
        Ok((Some(Greeted { stream, secured, protocols }), Done { version, resumed }))
    }
}

/// Why it failed, and what there is to say of it.
fn failed(error: io::Error) -> (Failed, Option<io::Error>) {
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    (told.map_or(Failed::Closed, Failed::of), Some(error))
}

/// Ends a connection whose handshake failed, the alert that says so last.
async fn refuse(error: io::Error, stream: Option<Stream>) -> (Failed, Option<io::Error>) {
    if let Some(mut stream) = stream {
        // Who left hears nothing.
        let _gone = say(&mut stream, &[]).await;
    }
    failed(error)
}

/// Says that TLS is spoken here, and waits until that was read.
async fn refuse_http(mut stream: Stream, connection: &Connection) {
    if say(&mut stream, PLAIN_HTTP).await.is_err() {
        return;
    }
    connection.allow(LINGER);
    let (mut unread, mut buffer) = (0, [0; 4096]);
    // Closed with something unread, the connection would be reset, and the answer with it.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        unread += read;
        if unread > UNREAD_MAX {
            return;
        }
    }
}

/// Says the last words on a connection.
async fn say(stream: &mut Stream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.flush().await?;
    stream.shutdown().await
}
