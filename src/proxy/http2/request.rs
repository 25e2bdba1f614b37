//! From the head of a request as HTTP/2 has it to the one that the proxy knows.
//!
//! What a frame can be wrong in, the crate `h2` has refused before; what is left is checked here, and refused with
//! the pages that HTTP/1 gets.

use base64::prelude::{BASE64_STANDARD, Engine};
use h2::ext::Protocol;
use http::header::{self, Entry, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use pingora::http::RequestHeader;

use crate::wire::fault::Fault;
use crate::wire::field::Framing;
use crate::wire::head::{HeadLimits, is_in_target};
use crate::wire::host;

/// What a stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A request and its response.
    Plain,
    /// A WebSocket (RFC 8441).
    WebSocket,
}

/// Reads a head. One that is refused is handed on as well, so that its page, its line and its counters are made
/// where all others are.
pub(super) fn read(
    mut parts: Parts,
    limits: &HeadLimits,
) -> ((Kind, RequestHeader), Result<(), Fault>) {
    let checked = check(&parts, limits);
    join_cookies(&mut parts);
    name_host(&mut parts);
    let kind = match checked {
        Ok(()) => as_upgrade(&mut parts),
        Err(_) => Kind::Plain,
    };
    ((kind, RequestHeader::from(parts)), checked)
}

fn check(parts: &Parts, limits: &HeadLimits) -> Result<(), Fault> {
    let headers = &parts.headers;
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > limits.line {
        return Err(Fault::TargetTooLong);
    }
    if headers.len() > limits.fields {
        return Err(Fault::TooManyFields);
    }
    if headers.iter().any(|(name, value)| name.as_str().len() + value.len() > limits.line) {
        return Err(Fault::FieldTooLong);
    }
    let is_padded = |value: &HeaderValue| {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        ends.into_iter().flatten().any(|byte| b" \t".contains(byte))
    };
    if headers.values().any(is_padded) {
        // RFC 9113 §8.2.1.
        return Err(Fault::FieldPadded);
    }
    for name in headers.keys() {
        // The same names in another spelling, which some backends take for them.
        Framing::of(name.as_str().as_bytes())?;
    }
    let cookies = headers.get_all(header::COOKIE).iter().map(|line| line.len() + "; ".len());
    if cookies.sum::<usize>() > limits.line {
        // They become one line.
        return Err(Fault::FieldTooLong);
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        // That they differ, `h2` has seen.
        return Err(Fault::LengthRepeated);
    }
    check_host(parts)?;
    check_target(parts, target)
}

/// Both names of the host must be one (RFC 9113 §8.3.1).
fn check_host(parts: &Parts) -> Result<(), Fault> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(Fault::HostTwice);
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let named = authority.or(host.map(HeaderValue::as_bytes)).ok_or(Fault::HostMissing)?;
    if !host::is_valid(named) {
        return Err(Fault::HostMalformed);
    }
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(named);
    if host.is_some_and(differs) { Err(Fault::HostDiffers) } else { Ok(()) }
}

fn check_target(parts: &Parts, target: &str) -> Result<(), Fault> {
    if parts.method == Method::CONNECT {
        let is_websocket = |protocol: &Protocol| protocol.as_str() == "websocket";
        if !parts.extensions.get::<Protocol>().is_some_and(is_websocket) {
            return Err(Fault::Connect);
        }
    }
    // Behind a proxy that ends TLS, a request in the clear may well be for `https`.
    let is_ours = |scheme: &str| ["http", "https"].contains(&scheme);
    if parts.uri.scheme_str().is_some_and(|scheme| !is_ours(scheme)) {
        return Err(Fault::Target);
    }
    if target == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let good = path.starts_with('/')
        && path.bytes().all(|byte| is_in_target(byte, false))
        && query.bytes().all(|byte| is_in_target(byte, true));
    match good {
        true => Ok(()),
        false if target.is_ascii() => Err(Fault::Target),
        false => Err(Fault::TargetEightBit),
    }
}

/// One line of cookies: HTTP/2 clients may split it for the sake of compression (RFC 9113 §8.2.3).
fn join_cookies(parts: &mut Parts) {
    let mut lines = parts.headers.get_all(header::COOKIE).iter();
    let Some(first) = lines.next() else { return };
    let mut joined = Vec::new();
    for line in lines {
        if joined.is_empty() {
            joined.extend_from_slice(first.as_bytes());
        }
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    if !joined.is_empty()
        && let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined))
    {
        parts.headers.insert(header::COOKIE, value);
    }
}

/// Names the host in `Host`, where backends and we look for it.
fn name_host(parts: &mut Parts) {
    let Some(authority) = parts.uri.authority() else { return };
    if let Entry::Vacant(host) = parts.headers.entry(header::HOST)
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        host.insert(value);
    }
}

/// Makes a WebSocket the upgrade that HTTP/1.1 has for it (RFC 8441 §5, RFC 6455 §4.1).
fn as_upgrade(parts: &mut Parts) -> Kind {
    if parts.method != Method::CONNECT {
        return Kind::Plain;
    }
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    let Ok(key) = HeaderValue::from_str(&key) else { return Kind::Plain };
    parts.method = Method::GET;
    parts.version = Version::HTTP_11;
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(Uri::default, Uri::from);
    // What follows is no body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Kind::WebSocket
}
