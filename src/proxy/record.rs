//! From a finished session to the facts of its request.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::{Method, Version};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::Proxy;
use super::context::RequestContext;
use super::forward::split_absolute;
use crate::balancer::app::live::AppCounters;
use crate::shared::Clock;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::record::{Facts, RequestRecord};
use crate::telemetry::spans::Spans;

/// What a request asks for, and how much was moved for it.
struct Asked<'r> {
    method: &'r str,
    path: &'r [u8],
    host: &'r [u8],
    protocol: &'static str,
    status: Option<u16>,
    bytes_sent: usize,
    bytes_received: usize,
}

/// Gathers the facts of a request that ends at `now` on the monotonic clock, and failed like this if at all.
pub(super) fn gather<'r>(
    session: &'r Session,
    ctx: &'r RequestContext,
    failure: Option<Facts>,
    now: Duration,
) -> RequestRecord<'r> {
    let request = session.req_header();
    let written = session.response_written().map(|response| response.status.as_u16());
    let asked = Asked {
        method: request.method.as_str(),
        path: request.raw_path(),
        host: host(request),
        protocol: protocol(request.version, ctx),
        status: ctx.own_status.or(written),
        bytes_sent: session.body_bytes_sent(),
        bytes_received: session.body_bytes_read(),
    };
    record(asked, ctx, failure, now)
}

fn record<'r>(
    asked: Asked<'r>,
    ctx: &'r RequestContext,
    failure: Option<Facts>,
    now: Duration,
) -> RequestRecord<'r> {
    let duration = now.saturating_sub(ctx.started);
    let origin = ctx.connection.as_ref().map(|connection| connection.origin());
    let secured = origin.and_then(|origin| origin.secured.as_ref());
    let client = secured.and_then(|secured| secured.identity.as_ref());
    RequestRecord {
        time: ctx.started_unix,
        method: asked.method,
        path: asked.path,
        host: asked.host,
        request_id: ctx.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or(""),
        client: ctx.client,
        forwarded_for: ctx.forwarded_for.as_ref().map_or(b"", |list| list.as_bytes()),
        app: ctx.app.as_ref().map(|view| view.app.name.as_str()),
        backend: ctx.backend().map(|backend| backend.id.as_str()),
        outcome: ctx.assignment.as_ref().map(|assignment| assignment.outcome()),
        cause: ctx.assignment.as_ref().and_then(|assignment| assignment.cause()),
        adopted: ctx.adopted.and_then(|adopted| ctx.app.as_ref()?.app.foreign.named(adopted)),
        tries: ctx.tries,
        tried: ctx.app.as_ref().map(|view| (&*view.app, &ctx.failed)),
        connect: ctx.connected,
        service: ctx.connected.map(|connected| duration.saturating_sub(connected)),
        first_byte: ctx.first_byte,
        upgraded: ctx.upgraded_at.map(|at| now.saturating_sub(at)),
        duration,
        status: asked.status,
        bytes_sent: asked.bytes_sent,
        bytes_received: asked.bytes_received,
        protocol: asked.protocol,
        scheme: ctx.scheme,
        tls_version: secured.map(|secured| secured.version.in_logs()),
        tls_name: secured.and_then(|secured| secured.name.as_deref()),
        tls_client: client.and_then(|client| client.subject.to_str().ok()),
        failure,
        detail: ctx.detail,
        trace_id: ctx.recorded.map(|own| own.trace).or(ctx.trace.caller().map(|from| from.trace)),
    }
}

fn protocol(version: Version, ctx: &RequestContext) -> &'static str {
    match version {
        Version::HTTP_10 => "http1.0",
        // Also a WebSocket, which is an upgrade of HTTP/1.1 for all that follows.
        _ if ctx.is_http2() => "http2.0",
        _ => "http1.1",
    }
}

/// The host that a request is for: that of `Host`, which says what an absolute target says; else that of the target
/// (RFC 9112 §3.2.2), where Pingora left it if it is no part of the URI.
pub(super) fn host(request: &RequestHeader) -> &[u8] {
    match (request.uri.authority(), request.headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => split_absolute(request.raw_path()).map_or(b"", |(authority, _)| authority),
    }
}

/// Counts a request for its app.
pub(super) fn count(counters: &AppCounters, record: &RequestRecord<'_>) {
    counters.count_request(record.logged_status(), record.failure.map(|facts| facts.label));
    counters.durations.observe(record.duration);
    counters.request_bytes.add(record.bytes_received as u64);
    counters.response_bytes.add(record.bytes_sent as u64);
    if let Some(outcome) = record.outcome {
        counters.count_affinity(outcome, record.cause);
    }
}

/// What is needed to write the line of a request whose connection is cut: then there is no session any
/// more. Kept only for requests that may be cut: streams, and bodies that come in parts.
pub(super) struct Remembered {
    log: Arc<AccessLog>,
    spans: Arc<Spans>,
    clock: Clock,
    method: Method,
    path: Box<[u8]>,
    host: Box<[u8]>,
    version: Version,
    /// The status sent, if one was.
    pub(super) status: Option<u16>,
    /// Bytes of the response body from here on.
    pub(super) sent: usize,
    /// Bytes of the request body from here on.
    pub(super) received: usize,
}

impl Remembered {
    pub(super) fn new(request: &RequestHeader, proxy: &Proxy) -> Box<Self> {
        Box::new(Self {
            log: Arc::clone(&proxy.access_log),
            spans: Arc::clone(&proxy.spans),
            clock: proxy.clock,
            method: request.method.clone(),
            path: request.raw_path().into(),
            host: host(request).into(),
            version: request.version,
            status: None,
            sent: 0,
            received: 0,
        })
    }

    /// Counts and logs a request whose connection is cut.
    pub(super) fn account(&self, ctx: &RequestContext, failure: Facts, counters: &AppCounters) {
        let asked = Asked {
            method: self.method.as_str(),
            path: &self.path,
            host: &self.host,
            protocol: protocol(self.version, ctx),
            status: self.status,
            bytes_sent: self.sent,
            bytes_received: self.received,
        };
        let record = record(asked, ctx, Some(failure), self.clock.monotonic());
        count(counters, &record);
        self.log.write(&record);
        if let Some(recorded) = ctx.recorded {
            self.spans.end(recorded, &record);
        }
    }
}
