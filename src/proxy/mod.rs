//! The only `impl ProxyHttp`: each phase reads from Pingora, asks the pure part, writes to Pingora.

mod again;
mod allowed;
mod answer;
mod caching;
mod call;
pub mod connection;
mod context;
mod decide;
pub mod edge;
mod encrypted;
mod expect;
pub mod failure;
pub mod fetched;
mod forward;
pub mod frames;
pub mod gate;
mod guard;
mod handshake;
mod http2;
pub mod listeners;
mod origin;
mod pace;
mod page;
pub mod peer;
mod pin;
pub mod proxied;
pub mod rate;
mod record;
mod redirect;
mod response;
mod said;
mod stream_error;
mod streaming;
mod trace;
mod turn;
mod verdict;
mod watched;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Version, header};
use pingora::apps::HttpServerOptions;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};

use self::connection::{Connection, Connections, Wait};
use self::context::{Peer, RequestContext};
use self::edge::{Drain, Edge};
use self::expect::Expects;
use self::failure::{Failure, Progress};
use self::fetched::FetchedPages;
use self::gate::Gate;
use self::listeners::Listeners;
use self::peer::Came;
use self::rate::Rates;
use self::record::Remembered;
use crate::balancer::app::live::{AppInFlight, AppLive, AppUpgraded, Connect, Held};
use crate::balancer::assign::Assignment;
use crate::balancer::state::Event;
use crate::issued::Issued;
use crate::shared::{Clock, Events, Published};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::spans::{Spans, Word};
use crate::wire::fault::Fault;

/// The `detail` of a backend that is to speak HTTP/2 and agreed on nothing.
const NO_H2: &str = "no HTTP/2 by ALPN";

/// What the proxy needs of the rest of the program.
pub struct Proxy {
    /// The snapshots to read.
    pub published: Arc<Published>,
    /// The way to tell of failed connects.
    pub events: Events,
    /// The clock.
    pub clock: Clock,
    /// Where requests are logged.
    pub access_log: Arc<AccessLog>,
    /// Counters of requests that no app serves.
    pub unrouted: Arc<AppLive>,
    /// Pages of the operator's own that were fetched.
    pub fetched: Arc<FetchedPages>,
    /// What an ACME server is answered.
    pub issued: Arc<Issued>,
    /// Where requests are recorded.
    pub spans: Arc<Spans>,
    /// Whether Homing runs out of something.
    pub gate: Arc<Gate>,
    /// How often clients ask.
    pub rates: Arc<Rates>,
}

impl Proxy {
    /// Puts both layers around the proxy.
    pub fn edge(
        self,
        conf: &Arc<ServerConf>,
        connections: Arc<Connections>,
        listeners: Arc<Listeners>,
        drain: Arc<dyn Drain>,
    ) -> Edge {
        let published = Arc::clone(&self.published);
        let mut proxy = http_proxy(conf, self);
        // `CONNECT` is refused by us, where it is counted and logged, and not by Pingora.
        let mut options = HttpServerOptions::default();
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        Edge { proxy: Arc::new(proxy), published, connections, listeners, drain }
    }

    /// Tells that the backend wants no new clients, unless that is known.
    fn ask_for_drain(&self, ctx: &RequestContext) {
        let (Some(view), Some(slot)) = (&ctx.app, ctx.assignment.and_then(|a| a.slot())) else {
            return;
        };
        if view.may_ask_for_drain(slot) {
            let backend = view.app.backend(slot);
            self.events.offer(Event::AskedToDrain {
                app: view.app.name.clone(),
                backend: backend.id.clone(),
                address: backend.address.clone(),
            });
        }
    }

    /// Remembers what the line of a request needs whose connection may be cut.
    fn remember<'c>(&self, session: &Session, ctx: &'c mut RequestContext) -> &'c mut Remembered {
        let new = || Remembered::new(session.req_header(), self);
        ctx.remembered.get_or_insert_with(new)
    }

    /// Counts and logs a finished request.
    fn account(&self, session: &Session, ctx: &RequestContext, now: Duration) {
        let record = record::gather(session, ctx, self.facts(ctx), now);
        let live = ctx.app.as_ref().map_or(&self.unrouted, |view| &view.app.live);
        record::count(live.counters(), &record);
        if let (Some(view), Some(adopted)) = (&ctx.app, ctx.adopted) {
            view.app.foreign.count(adopted);
        }
        if let (Some(backend), Some(assignment)) = (ctx.backend(), &ctx.assignment) {
            backend.live.requests.add(1);
            backend.live.last_used.store(ctx.started_unix.as_secs(), Ordering::Relaxed);
            match assignment {
                Assignment::Follow(_, pin) => {
                    backend.live.pins_followed.add(1);
                    let age = pin.token.age_at(ctx.started_unix.as_secs());
                    live.counters().pin_ages.observe(age);
                }
                Assignment::Make(_) | Assignment::Move(..) => {
                    backend.live.pins_made.add(u64::from(ctx.pin_handed.is_some()));
                }
                Assignment::Borrow(..)
                | Assignment::FollowOrMove(..)
                | Assignment::Refuse(_)
                | Assignment::Spread(_)
                | Assignment::Wait(_) => {}
            }
        }
        self.judge(session, ctx, now);
        ctx.note_client(self.clock.unix_at(now).as_secs());
        self.access_log.write(&record);
        if let Some(recorded) = ctx.recorded {
            self.spans.end(recorded, &record);
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        let now = self.clock.monotonic();
        RequestContext::new(now, self.clock.unix_at(now))
    }

    // No compression module: what the app sends is what the client gets.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        ctx: &mut RequestContext,
        connection: Box<dyn Any + Send + Sync>,
    ) {
        ctx.connection =
            connection.downcast::<Arc<Connection>>().ok().map(|connection| *connection);
        ctx.wait_is_over();
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if ctx.connection.is_none() {
            ctx.connection = session.req_header().extensions.get::<Arc<Connection>>().cloned();
        }
        forward::read(session.req_header(), &self.published.trusted_proxies(), ctx);
        let word = if ctx.peer == Peer::Trusted { Word::Counts } else { Word::Ignored };
        ctx.recorded = self.spans.begin(ctx.trace.caller(), word);
        if session.req_header().version == Version::HTTP_10 {
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        // A client that does not take its response yet may still send its request.
        session.set_proxy_tasks_enabled(true);
        Ok(())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        if ctx.connection.as_ref().is_some_and(|connection| connection.origin().own) {
            return Box::pin(page::serving(session, ctx)).await;
        }
        if let Some(fault) = ctx.fault() {
            return Box::pin(self.refuse_fault(session, fault, ctx)).await;
        }
        let request = session.req_header();
        if request.method == Method::CONNECT {
            return Box::pin(self.refuse_fault(session, Fault::Connect, ctx)).await;
        }
        if let Some(authorization) = self.issued.key_authorization(request.uri.path()) {
            return Box::pin(page::challenge(session, authorization, ctx)).await;
        }
        let Some(view) = self.route(request) else {
            return Box::pin(self.refuse(session, Failure::UnknownHost, ctx)).await;
        };
        if let Some(failure) = peer::unsupported(&view.app.policy, session.req_header(), ctx) {
            ctx.app = Some(view);
            return Box::pin(self.refuse(session, failure, ctx)).await;
        }
        call::settle(&view.app.policy, ctx);
        let timeouts = &view.app.policy.timeouts;
        let idle = if ctx.is_call() { timeouts.upgraded_idle } else { timeouts.idle };
        session.set_read_timeout(Some(idle));
        // Writing is watched by connection.rs, which knows who reads slowly and who does not at all.
        session.set_write_timeout(None);
        if view.app.policy.retries.max > 0 {
            view.app.live.retries.deposit(ctx.started);
        }
        ctx.app_in_flight = Some(Held::new(AppInFlight(Arc::clone(&view.app.live))));
        decide::learn(&view, session, ctx);
        ctx.app = Some(view);
        match expect::read(session.req_header(), ctx.said) {
            Some(expects) => ctx.expects = expects,
            None => {
                // Whether its body comes is not known: nothing can follow on this connection.
                session.set_keepalive(None);
                return Box::pin(self.refuse(session, Failure::ExpectationFailed, ctx)).await;
            }
        }
        ctx.begin_pace();
        if let Some(redirect) = redirect::due(session.req_header(), ctx) {
            return Box::pin(self.send_to_tls(session, redirect, ctx)).await;
        }
        match self.refused(session, ctx) {
            Some(failure) => Box::pin(self.refuse(session, failure, ctx)).await,
            None => Ok(false),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        // Pingora asks again for a retry: another backend after a failed connect, else the same.
        let decided =
            ctx.assignment.filter(|a| a.slot().is_some_and(|slot| !ctx.tried.contains(slot)));
        let assignment = match decided {
            Some(assignment) => Some(assignment),
            None => self.decide(session, ctx).await,
        };
        ctx.assignment = assignment;
        let failure = match assignment {
            Some(Assignment::Refuse(refusal)) => Failure::refused(refusal, ctx.connect_failure),
            Some(_) => {
                let (Some(view), Some(backend)) = (&ctx.app, ctx.backend()) else {
                    return Error::e_explain(
                        ErrorType::InternalError,
                        "an assignment names no backend",
                    );
                };
                let left = self.left_to_connect(ctx);
                if left.is_zero() {
                    self.out_of_time(ctx)
                } else {
                    let limit = left.min(view.app.policy.timeouts.connect);
                    let came = Came {
                        kind: ctx.kind,
                        version: session.req_header().version,
                        connection: ctx.connection.as_deref(),
                    };
                    let peer = peer::build(backend, &view.app.policy, limit, &came);
                    ctx.connect_limit = limit;
                    return peer;
                }
            }
            // Unless its time is over or its client left, the app went away with a reload while the request waited.
            None => ctx.failure.unwrap_or(Failure::UnknownHost),
        };
        ctx.failure = Some(failure);
        Error::e_explain(ErrorType::HTTPStatus(failure.facts().status), failure.facts().text)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        self.after_connect(session, ctx, error)
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.tries += 1;
        // Mostly a connection that is there already, at once: no need to ask the clock.
        let at_once = reused && ctx.tries == 1 && !ctx.waited;
        ctx.connected = Some(match at_once {
            true => Duration::ZERO,
            false => self.clock.monotonic().saturating_sub(ctx.started),
        });
        if let Some(backend) = ctx.backend() {
            backend.live.count_connect(if reused { Connect::Reused } else { Connect::Opened });
        }
        if ctx.is_call() {
            call::begin(session.req_header(), ctx);
            self.remember(session, ctx);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if request.version == Version::HTTP_2 {
            call::ask_for_trailers(session.req_header(), request)?;
            expect::release(session, ctx).await?;
            if session.as_mut().is_body_empty() {
                // The head ends such a request in HTTP/2, and no body passes by that would say so.
                ctx.wait_for_answer(true);
            }
        } else if ctx.app.as_ref().is_some_and(|view| !view.app.policy.protocol.upgrades()) {
            // It has TLS, and did not agree on anything.
            (ctx.failure, ctx.detail) = (Some(Failure::BackendTls), Some(NO_H2));
            return Error::e_explain(ErrorType::HandshakeError, NO_H2);
        }
        forward::to_backend(request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if ctx.upgraded.is_none()
            && let Err(failure) = ctx.count_body(body.as_ref().map_or(0, Bytes::len), end_of_stream)
        {
            ctx.failure = Some(failure);
            let facts = failure.facts();
            return Error::e_explain(ErrorType::HTTPStatus(facts.status), facts.text);
        }
        if body.as_ref().is_some_and(|bytes| !bytes.is_empty()) {
            ctx.expects = Expects::Nothing;
        }
        // A body that does not come at once may also get stuck on its way.
        if !end_of_stream || ctx.remembered.is_some() {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            self.remember(session, ctx).received += bytes;
        }
        ctx.wait_for_answer(end_of_stream);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let now = self.clock.monotonic();
        ctx.first_byte.get_or_insert(now.saturating_sub(ctx.started));
        response::admit(response, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let switching = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !switching {
            forward::interim(response);
            expect::interim(session, response.status, ctx);
            return Ok(());
        }
        ctx.progress = Progress::Begun;
        let Some(view) = ctx.app.clone() else { return Ok(()) };
        let timeouts = &view.app.policy.timeouts;
        if switching {
            ctx.upgraded = Some(Held::new(AppUpgraded(Arc::clone(&view.app.live))));
            if let Some(connection) = &ctx.connection {
                connection.open_tunnel();
            }
            ctx.upgraded_at = Some(self.clock.monotonic());
            ctx.wait_for_more(timeouts);
            // The deadline of the connection says how long both sides may be silent.
            session.set_read_timeout(None);
        } else {
            ctx.wait_for_more(timeouts);
        }
        let streams = switching || ctx.is_call() || forward::is_event_stream(response);
        if streams && ctx.stream.is_none() {
            ctx.begin_stream();
            self.remember(session, ctx);
        }
        if let Some(remembered) = &mut ctx.remembered {
            remembered.status = Some(response.status.as_u16());
        }
        let said = forward::to_client(response, ctx)?;
        if session.req_header().version == Version::HTTP_10
            && response.headers.contains_key(header::TRANSFER_ENCODING)
        {
            // Such a client knows no chunks: the end of the connection is the end of the body.
            response.remove_header(&header::TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        expect::answer(session, response, ctx);
        pin::hear(said, session, response, ctx);
        if ctx.word.drain {
            self.ask_for_drain(ctx);
        }
        ctx.pin_handed = pin::hand_out(session, response, ctx)?;
        if streams {
            // Others are noted when they end, which may be hours from now.
            ctx.note_client(ctx.started_unix.as_secs());
            ctx.stay();
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if let Some(remembered) = &mut ctx.remembered {
            remembered.sent += body.as_ref().map_or(0, Bytes::len);
        }
        if let Some(timeouts) = ctx.app.as_ref().map(|view| view.app.policy.timeouts) {
            ctx.wait_for_more(&timeouts);
        }
        if end_of_stream {
            expect::answered(ctx);
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        client_reused: bool,
    ) -> Box<Error> {
        self.after_break(session, ctx, error, client_reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let is_answered = ctx.wait == Some(Wait::Unsent) || response::left_with_all(session, error);
        if is_answered && ctx.failure.is_none() {
            // The client has its whole answer, and did not send what nobody asked for, or did not wait for its end.
            session.set_keepalive(None);
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let fault = ctx.fault();
        ctx.detail = ctx.detail.or(fault.map(Fault::as_str));
        let known = ctx.failure.or(fault.map(Failure::of)).or_else(|| ctx.missed_failure());
        let failure = match (known, ctx.connect_failure) {
            (Some(known), _) => known,
            (None, Some(failure)) if ctx.connected.is_none() => failure,
            (None, _) => response::failure(error, ctx),
        };
        ctx.failure = Some(failure);
        session.set_keepalive(None);
        // Interim responses leave room for a page; a 101 does not: what follows it is not HTTP.
        if ctx.progress == Progress::Nothing || session.response_written().is_none() {
            // A client that left meanwhile gets nothing, which is no further failure.
            ctx.own_status = self.send_page(session, failure, ctx).await.unwrap_or(None);
        } else if ctx.is_call() {
            // Whether they reach anybody is nothing that could be helped.
            let _gone = session.as_mut().write_response_trailers(call::trailers(failure)).await;
        }
        // Not for another request, which `keepalive` forbids: for an end that lets the client read the page.
        let can_reuse_downstream = ctx.own_status.is_some();
        FailToProxy { error_code: failure.facts().status, can_reuse_downstream }
    }

    async fn logging(
        &self,
        session: &mut Session,
        _error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        if !ctx.accounted {
            let now = self.clock.monotonic();
            self.account(session, ctx, now);
            ctx.accounted = true;
        }
        ctx.wait = None;
        if let Some(connection) = &ctx.connection {
            connection.allow_idle();
        }
    }

    // The access log says what happened, whose fault it was, and how often it was tried.
    fn suppress_error_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
    ) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
