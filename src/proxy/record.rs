//! From a finished session to the facts of its request.

use std::time::Duration;

use http::Version;
use http::header;
use pingora_proxy::Session;

use super::context::RequestContext;
use super::failure::Failure;
use crate::telemetry::record::RequestRecord;

/// Gathers the facts of a request that ends at `now` on the monotonic clock.
pub(super) fn gather<'r>(
    session: &'r Session,
    ctx: &'r RequestContext,
    now: Duration,
) -> RequestRecord<'r> {
    let request = session.req_header();
    let duration = now.saturating_sub(ctx.started);
    let written = session.response_written().map(|response| response.status.as_u16());
    RequestRecord {
        time: ctx.started_unix,
        method: request.method.as_str(),
        path: request.raw_path(),
        host: host(request),
        request_id: ctx.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or(""),
        client: ctx.client,
        forwarded_for: ctx.forwarded_for.as_ref().map_or(b"", |list| list.as_bytes()),
        app: ctx.app.as_ref().map(|view| view.app.name.as_str()),
        backend: ctx.backend().map(|backend| backend.id.as_str()),
        outcome: ctx.assignment.as_ref().map(|assignment| assignment.outcome()),
        cause: ctx.assignment.as_ref().and_then(|assignment| assignment.cause()),
        adopted: ctx.adopted.and_then(|adopted| ctx.app.as_ref()?.app.foreign.named(adopted)),
        tries: ctx.tries,
        connect: ctx.connected,
        service: ctx.connected.map(|connected| duration.saturating_sub(connected)),
        first_byte: ctx.first_byte,
        duration,
        status: ctx.own_status.or(written),
        bytes_sent: session.body_bytes_sent(),
        bytes_received: session.body_bytes_read(),
        protocol: match request.version {
            Version::HTTP_10 => "http1.0",
            Version::HTTP_2 => "http2.0",
            _ => "http1.1",
        },
        scheme: ctx.scheme,
        failure: ctx.failure.map(Failure::facts),
        detail: ctx.detail,
    }
}

/// The host that a request is for: that of an absolute target, else that of `Host` (RFC 9112 §3.2.2).
pub(super) fn host(request: &pingora::http::RequestHeader) -> &[u8] {
    match request.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => request.headers.get(header::HOST).map_or(b"", |value| value.as_bytes()),
    }
}
