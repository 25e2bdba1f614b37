//! Headers on their way: what the backend is told of the client, what neither side may hand on.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version};
use ipnet::IpNet;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader, StaticHeaderName};
use uuid::Uuid;

use super::call;
use super::context::{Peer, RequestContext, RequestKind};
use super::expect::Expects;
use super::said::{HOP_BY_HOP, Said, TRUSTED_ONLY, is_ours, tells_identity};
use super::trace::Trace;
use crate::balancer::affinity::Presented;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::affinity::word::{self, AppWord};
use crate::balancer::app::backend::Address;
use crate::balancer::assign::moved;
use crate::tls::identity::Identity;
use crate::wire::head::authority;

/// Shortest and longest request id of a client that is kept, in characters.
const ID_CHARS: std::ops::RangeInclusive<usize> = 20..=200;

/// Our name in `Via` (RFC 9110 §7.6.3).
const VIA: HeaderValue = HeaderValue::from_static("1.1 homing");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2 homing");

/// A field that we write, and whether its client may have said it.
struct Field {
    name: StaticHeaderName,
    said: Said,
}

impl Field {
    const fn new(wire: &'static str, name: &'static str, said: Said) -> Self {
        Self { name: StaticHeaderName::new(name, wire), said }
    }

    /// Writes the field, in the place of what the client said if it said anything.
    fn put(&self, said: Said, request: &mut RequestHeader, value: HeaderValue) -> Result<()> {
        if said.has(self.said) {
            request.insert_header(&self.name, value)
        } else {
            request.append_header(&self.name, value).map(|_| ())
        }
    }

    /// What a head says, if it says anything.
    fn of<'h>(&self, said: Said, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        if said.has(self.said) { headers.get(self.name.header_name()) } else { None }
    }
}

static VIA_FIELD: StaticHeaderName = StaticHeaderName::new("via", "Via");
static X_FORWARDED_FOR: Field =
    Field::new("X-Forwarded-For", "x-forwarded-for", Said::X_FORWARDED_FOR);
static X_FORWARDED_PROTO: Field =
    Field::new("X-Forwarded-Proto", "x-forwarded-proto", Said::X_FORWARDED_PROTO);
static X_FORWARDED_PORT: Field =
    Field::new("X-Forwarded-Port", "x-forwarded-port", Said::X_FORWARDED_PORT);
static X_REQUEST_START: Field =
    Field::new("X-Request-Start", "x-request-start", Said::X_REQUEST_START);
static X_REQUEST_ID: Field = Field::new("X-Request-Id", "x-request-id", Said::X_REQUEST_ID);

/// How many fields a request has more when it leaves than when it came, at most unless it has much to tell.
const FIELDS_MORE: usize = 7;

/// Notes what the head of a request says of the client and of the way it came.
pub(super) fn read(request: &RequestHeader, trusted: &[IpNet], ctx: &mut RequestContext) {
    let origin = ctx.connection.as_ref().map(|connection| connection.origin());
    let peer = origin.and_then(|origin| origin.client);
    let secure = origin.map_or(Secure::No, |origin| origin.secure);
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !trusted.is_empty() && peer.is_some_and(is_trusted) {
        ctx.peer = Peer::Trusted;
    }
    let headers = &request.headers;
    ctx.said = Said::of(headers);
    ctx.client = match ctx.peer {
        Peer::Trusted => first_untrusted(headers, is_trusted).or(peer),
        Peer::Untrusted => peer,
    };
    let said = || X_FORWARDED_PROTO.of(ctx.said, headers).is_some_and(|value| value == "https");
    ctx.scheme = match (secure, ctx.peer) {
        (Secure::Yes, _) => Scheme::Https,
        (Secure::No, Peer::Trusted) if said() => Scheme::Https,
        (Secure::No, _) => Scheme::Http,
    };
    ctx.id = Some(request_id(X_REQUEST_ID.of(ctx.said, headers)));
    ctx.kind = kind(request, ctx.said);
    if ctx.said.has(Said::TRACE_PARENT) {
        ctx.trace = Trace::of(headers);
    }
}

/// Whether the connection of the client is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Secure {
    No,
    Yes,
}

/// The last address of `X-Forwarded-For` that is no trusted proxy: the client, as far as we can know.
fn first_untrusted(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lines = headers.get_all(X_FORWARDED_FOR.name.header_name()).iter().rev();
    // Word by word: what a stranger wrote in front must not spoil what a proxy added.
    let words = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut last = None;
    for word in words {
        let word = std::str::from_utf8(word).ok()?;
        let address = node(word.trim())?.to_canonical();
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    last
}

/// An address, as some proxies write it with its port, or in brackets.
fn node(word: &str) -> Option<IpAddr> {
    let bare = || word.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || word.parse::<SocketAddr>().ok().map(|address| address.ip());
    word.parse().ok().or_else(with_port).or_else(bare)
}

/// The id of a request: that of the client, if it is one.
fn request_id(own: Option<&HeaderValue>) -> HeaderValue {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-".contains(byte);
    let fits = |value: &&HeaderValue| {
        ID_CHARS.contains(&value.len()) && value.as_bytes().iter().all(allowed)
    };
    if let Some(own) = own.filter(fits) {
        return own.clone();
    }
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::new_v4().as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn kind(request: &RequestHeader, said: Said) -> RequestKind {
    if call::is_one(request) {
        return RequestKind::Call;
    }
    if !said.has(Said::UPGRADE) {
        return RequestKind::Plain;
    }
    let headers = &request.headers;
    let protocols = listed(headers, &header::UPGRADE).filter(|protocol| !protocol.is_empty());
    let mut protocols = protocols.peekable();
    let nominated = || nominations(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    if protocols.peek().is_none() || request.version != Version::HTTP_11 || !nominated() {
        return RequestKind::Plain;
    }
    // HTTP/2 begins by agreement on TLS or on a listener of its own, never by smuggling it through.
    let name = |protocol: &[u8]| {
        protocol.split(|byte| *byte == b'/').next().unwrap_or_default().to_ascii_lowercase()
    };
    if protocols.any(|protocol| name(protocol) == b"h2c") {
        return RequestKind::Plain;
    }
    RequestKind::Upgrade
}

/// What `Connection` names.
fn nominations(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    listed(headers, &header::CONNECTION)
}

/// The items of a field that is a list, over all its lines.
pub(super) fn listed<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(|item| item.trim_ascii())
}

/// Fields of `headers` that must not be handed on, but for `Connection` and `Upgrade` themselves.
fn hop_by_hop(headers: &HeaderMap, said: Said) -> Vec<HeaderName> {
    let kept = |name: &HeaderName| {
        *name == header::UPGRADE
            || *name == header::CONNECTION
            || *name == header::TRANSFER_ENCODING
    };
    let mut names = Vec::new();
    if said.has(Said::HOP_BY_HOP) {
        let present = headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str()));
        names.extend(present.cloned());
    }
    if said.has(Said::CONNECTION) {
        let nominated = nominations(headers).filter(|name| !names_no_other(name));
        let nominated = nominated.filter_map(|name| HeaderName::from_bytes(name).ok());
        names.extend(nominated.filter(|name| !kept(name) && headers.contains_key(name)));
    }
    names
}

/// Whether what `Connection` says names no field, or one that is hop-by-hop anyway.
fn names_no_other(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"keep-alive") || name.eq_ignore_ascii_case(b"close")
}

/// Makes the head of a request as the backend gets it. Pingora has removed what concerns the
/// client's connection, except from a request for an upgrade.
pub(super) fn to_backend(request: &mut RequestHeader, ctx: &mut RequestContext) -> Result<()> {
    if ctx.kind == RequestKind::Upgrade {
        for name in hop_by_hop(&request.headers, ctx.said) {
            request.remove_header(&name);
        }
        request.remove_header(&header::PROXY_AUTHORIZATION);
        request.insert_header("Connection", "Upgrade")?;
    }
    if ctx.expects == Expects::Nothing && ctx.said.has(Said::EXPECT) {
        // Nobody waits, or a client of HTTP/1.0, which cannot (RFC 9110 §10.1.1).
        request.remove_header(&header::EXPECT);
    }
    if ctx.app.as_ref().is_some_and(|view| view.app.policy.lenient.equal_lengths) {
        merge_lengths(request)?;
    }
    request.reserve(FIELDS_MORE)?;
    address(request, ctx)?;
    take_out_our_cookie(request, ctx)?;
    forwarded(request, ctx)?;
    ctx.trace.hand_on(ctx.recorded, request)?;
    let via = if ctx.is_http2() { VIA_HTTP2 } else { VIA };
    request.append_header(&VIA_FIELD, via)?;
    if let Some(id) = &ctx.id {
        X_REQUEST_ID.put(ctx.said, request, id.clone())?;
    }
    Ok(())
}

/// Asks in origin form, as a server has to be asked (RFC 9112 §3.2.1), and names a host, as HTTP/1.1 has to (§3.2),
/// where a client of HTTP/1.0 did not: the backend's address, for want of a name.
fn address(request: &mut RequestHeader, ctx: &RequestContext) -> Result<()> {
    let absolute = split_absolute(request.raw_path());
    let authority = absolute.map(|(authority, _)| HeaderValue::from_bytes(authority));
    if let Some((_, path)) = absolute {
        let origin = match path.first() {
            Some(b'/') => path.to_vec(),
            Some(_) => [b"/", path].concat(),
            None if request.method == Method::OPTIONS => b"*".to_vec(),
            None => b"/".to_vec(),
        };
        request.set_raw_path(&origin)?;
    }
    if !ctx.said.has(Said::HOST) && !request.headers.contains_key(header::HOST) {
        let host = match (authority, ctx.backend().map(|backend| &backend.address)) {
            (Some(Ok(authority)), _) => authority,
            (_, Some(Address::Tcp(address))) => HeaderValue::try_from(address.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            (_, Some(Address::Unix(_)) | None) => HeaderValue::from_static("localhost"),
        };
        request.insert_header("Host", host)?;
    }
    Ok(())
}

/// The authority of an absolute target and what stands behind it (RFC 9112 §3.2.2 and §3.2.4). Pingora hands such a
/// target on as it is, and keeps its authority out of the URI.
pub(super) fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let range = authority(target)?;
    Some((&target[range.clone()], &target[range.end..]))
}

/// The length that a message says more than once, if it does; that it says the same each time was checked.
pub(super) fn repeated_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    lengths.next().cloned().filter(|_| lengths.next().is_some())
}

/// Says once how long the body is, where the client said so twice.
fn merge_lengths(request: &mut RequestHeader) -> Result<()> {
    match repeated_length(&request.headers) {
        Some(length) => request.insert_header("Content-Length", length),
        None => Ok(()),
    }
}

fn take_out_our_cookie(request: &mut RequestHeader, ctx: &RequestContext) -> Result<()> {
    let affinity = ctx.app.as_ref().and_then(|view| view.app.affinity.as_ref());
    let Some(affinity) = affinity.filter(|affinity| affinity.uses_cookie()) else { return Ok(()) };
    let ours = || {
        let mut lines = request.headers.get_all(header::COOKIE).iter();
        lines.any(|line| affinity.values(line.as_bytes()).next().is_some())
    };
    let is_there = match ctx.presented {
        Presented::Nothing => false,
        Presented::Pin(_) | Presented::Unusable(_) => true,
        // What it is known by may stand before our cookie, which nobody looked for then.
        Presented::Key(_) => ours(),
    };
    if !is_there {
        return Ok(());
    }
    let kept = |line: &HeaderValue| match affinity.without(line.as_bytes()) {
        Some(rest) if rest.is_empty() => None,
        Some(rest) => HeaderValue::from_maybe_shared(bytes::Bytes::from(rest)).ok(),
        None => Some(line.clone()),
    };
    let mut lines = request.headers.get_all(header::COOKIE).iter();
    // Mostly there is one line, which needs no list.
    let first = lines.next().and_then(kept);
    let others: Vec<HeaderValue> = lines.filter_map(kept).collect();
    let mut kept = first.into_iter().chain(others);
    match kept.next() {
        Some(first) => request.insert_header("Cookie", first)?,
        None => drop(request.remove_header(&header::COOKIE)),
    }
    kept.try_for_each(|line| request.append_header("Cookie", line).map(|_| ()))
}

fn forwarded(request: &mut RequestHeader, ctx: &mut RequestContext) -> Result<()> {
    let trusted = ctx.peer == Peer::Trusted;
    let origin = ctx.connection.as_ref().map(|connection| connection.origin());
    let secured = origin.and_then(|origin| origin.secured.as_ref());
    let shown = secured.and_then(|secured| secured.identity.as_ref());
    if ctx.said.has(Said::RESERVED) {
        let untrusted = |name: &&HeaderName| {
            let name = name.as_str();
            is_ours(name)
                || (!trusted && TRUSTED_ONLY.contains(&name))
                || (tells_identity(name) && (!trusted || shown.is_some()))
        };
        let names: Vec<HeaderName> = request.headers.keys().filter(untrusted).cloned().collect();
        for name in names {
            request.remove_header(&name);
        }
    }
    if let Some(from) = moved_from(ctx) {
        request.append_header("X-Homing-Moved-From", from)?;
    }
    if let Some(identity) = shown {
        introduce(request, identity)?;
    }
    if let Some(origin) = origin {
        if let Some(client) = origin.client_value() {
            let list = match ctx.said.has(X_FORWARDED_FOR.said) {
                true => appended(&request.headers, client),
                false => client.clone(),
            };
            X_FORWARDED_FOR.put(ctx.said, request, list.clone())?;
            ctx.forwarded_for = Some(list);
        }
        let said = trusted && X_FORWARDED_PORT.of(ctx.said, &request.headers).is_some();
        if let (Some(port), false) = (origin.port_value(), said) {
            X_FORWARDED_PORT.put(ctx.said, request, port.clone())?;
        }
    }
    let said = trusted && X_FORWARDED_PROTO.of(ctx.said, &request.headers).is_some();
    if !said {
        let scheme = match ctx.scheme {
            Scheme::Http => HeaderValue::from_static("http"),
            Scheme::Https => HeaderValue::from_static("https"),
        };
        X_FORWARDED_PROTO.put(ctx.said, request, scheme)?;
    }
    let said = trusted && X_REQUEST_START.of(ctx.said, &request.headers).is_some();
    if !said {
        let millis = u64::try_from(ctx.started_unix.as_millis()).unwrap_or(u64::MAX);
        X_REQUEST_START.put(ctx.said, request, HeaderValue::from(millis))?;
    }
    Ok(())
}

/// Tells who the client is by the certificate that it showed.
fn introduce(request: &mut RequestHeader, identity: &Identity) -> Result<()> {
    let Identity { certificate, chain, subject, names, fingerprint } = identity;
    let fields = [
        ("Client-Cert", Some(certificate)),
        ("Client-Cert-Chain", chain.as_ref()),
        ("X-Client-Cert-Subject", Some(subject)),
        ("X-Client-Cert-SAN", names.as_ref()),
        ("X-Client-Cert-Fingerprint", Some(fingerprint)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            request.append_header(name, value.clone())?;
        }
    }
    Ok(())
}

/// Where a client was that is moved by this very attempt.
fn moved_from(ctx: &RequestContext) -> Option<String> {
    moved::from(ctx.app.as_ref()?, &ctx.presented, ctx.assignment.as_ref()?)
}

/// The list of `X-Forwarded-For` with one more address at its end.
fn appended(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut lines = headers.get_all(X_FORWARDED_FOR.name.header_name()).iter().peekable();
    if lines.peek().is_none() {
        return client.clone();
    }
    let mut list = Vec::new();
    for line in lines {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(client.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or_else(|_| client.clone())
}

/// Makes the head of a response as the client gets it, less our cookie. Answers with what the app says of pins.
pub(super) fn to_client(response: &mut ResponseHeader, ctx: &RequestContext) -> Result<AppWord> {
    let fields = Said::of(&response.headers);
    let names = hop_by_hop(&response.headers, fields);
    let speaks = names.iter().any(|name| name == word::NAME);
    let said = if speaks { read_word(&response.headers) } else { AppWord::default() };
    for name in names {
        response.remove_header(&name);
    }
    if fields.has(Said::UPGRADE) && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
        response.remove_header(&header::UPGRADE);
    }
    if let Some(id) = &ctx.id {
        response.insert_header(&X_REQUEST_ID.name, id.clone())?;
    }
    if let Some(told) = ctx.app.as_ref().and_then(|view| view.app.policy.hsts.as_ref())
        && ctx.scheme == Scheme::Https
        && !response.headers.contains_key(header::STRICT_TRANSPORT_SECURITY)
    {
        response.insert_header("Strict-Transport-Security", told.value.clone())?;
    }
    Ok(said)
}

/// Takes what the app says to us out of an interim response, where it means nothing.
pub(super) fn interim(response: &mut ResponseHeader) {
    response.remove_header(word::NAME);
}

fn read_word(headers: &HeaderMap) -> AppWord {
    AppWord::read(headers.get_all(word::NAME).iter().map(HeaderValue::as_bytes))
}

/// Whether a response is a stream of server-sent events, which lasts as long as the client listens.
pub(super) fn is_event_stream(response: &ResponseHeader) -> bool {
    const MEDIA: &[u8] = b"text/event-stream";
    let media = response.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let (name, rest) = media.split_at(media.len().min(MEDIA.len()));
    name.eq_ignore_ascii_case(MEDIA) && matches!(rest.trim_ascii_start().first(), None | Some(b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let check = |list, expected: Option<&str>| {
            let found = first_untrusted(&headers(&[("x-forwarded-for", list)]), trusted);
            assert_eq!(found.map(|a| a.to_string()).as_deref(), expected, "{list}");
        };
        check("1.1.1.1, 2.2.2.2, 10.0.0.1", Some("2.2.2.2"));
        check("10.0.0.2,10.0.0.1", Some("10.0.0.2"));
        check("1.1.1.1, unknown", None);
        check("1.1.1.1:5000, 10.0.0.1:80", Some("1.1.1.1"));
        check("[::1]:80", Some("::1"));
        check("[::1]", Some("::1"));
        check("1.1.1.1:", None);
        check("", None);
    }

    #[test]
    fn a_request_id_of_the_client_is_kept_when_it_is_one() {
        let kept = |id| request_id(Some(&HeaderValue::from_static(id))) == id;
        assert!(kept("6903a168-b79b-ec27-03c8-b8f64d8d8792"));
        assert!(kept("abcdefghij0123456789"));
        assert!(!kept("abcdefghij012345678"));
        assert!(!kept("abcdefghij_123456789"));
        assert_eq!(request_id(None).len(), 36);
    }

    #[test]
    fn what_connection_names_is_not_handed_on() {
        let all = headers(&[
            ("connection", "X-Secret, keep-alive, upgrade"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
        ]);
        let names = hop_by_hop(&all, Said::of(&all));
        assert!(names.iter().any(|name| name == "x-secret"));
        assert!(names.iter().any(|name| name == "keep-alive"));
        assert!(names.iter().any(|name| name == "te"));
        assert!(!names.contains(&header::UPGRADE));
    }
}
