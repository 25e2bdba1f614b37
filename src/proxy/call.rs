//! Calls of gRPC: which requests are some, how long they may take, and how they are told that they failed.
//!
//! Whether a call is a stream nobody can see: all begin alike, and a server may say nothing, not even a head, until it
//! has something to say. So each counts as a stream from the moment that it has a connection to its backend.

use std::time::Duration;

use http::header::{self, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::{RequestContext, RequestKind};
use super::forward::listed;
use crate::balancer::app::policy::Policy;
use crate::balancer::failure::{Facts, Failure};

/// What a call and its answer are made of; a suffix says of what its messages are.
const MEDIA: &[u8] = b"application/grpc";

/// How much later than the client Homing ends a call whose time is over. The client gives it up by itself; this is for
/// one that cannot tell us so any more.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// Longest deadline, that of WebSockets and streams at most. What is longer is none.
const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether a request is a call. grpc-web (`application/grpc-web`) is not: its messages are in plain HTTP.
pub(super) fn is_one(request: &RequestHeader) -> bool {
    if request.method != Method::POST {
        return false;
    }
    let media = request.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let (name, rest) = media.split_at(media.len().min(MEDIA.len()));
    name.eq_ignore_ascii_case(MEDIA) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Takes what looks like a call for one only where it can be: over HTTP/2 on both sides. A call has more time than
/// other requests, which nobody shall have for a header.
pub(super) fn settle(policy: &Policy, ctx: &mut RequestContext) {
    if ctx.is_call() && !(ctx.is_http2() && policy.protocol.h2().is_some()) {
        ctx.kind = RequestKind::Plain;
    }
}

/// How long the client waits for the end of a call (`grpc-timeout`), if it says so.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let limit = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(limit).filter(|limit| *limit <= DEADLINE_MAX)
}

/// Begins a call, or begins it again with another connection.
pub(super) fn begin(request: &RequestHeader, ctx: &mut RequestContext) {
    // First the old one ends: it would take the new one off the connection.
    ctx.stream = None;
    ctx.begin_stream();
    if let (Some(limit), Some(connection)) = (deadline(&request.headers), &ctx.connection) {
        connection.allow_in_all(Some(limit.saturating_add(DEADLINE_GRACE)));
    }
}

/// Asks a backend for trailers, where the client did; it is a matter of each connection (RFC 9110 §10.1.4), and
/// servers of gRPC want to see that they reach the client.
pub(super) fn ask_for_trailers(client: &RequestHeader, request: &mut RequestHeader) -> Result<()> {
    let asked = || {
        let mut items = listed(&client.headers, &header::TE);
        items.any(|item| item.eq_ignore_ascii_case(b"trailers"))
    };
    if request.version == Version::HTTP_2 && asked() {
        request.insert_header(header::TE, "trailers")?;
    }
    Ok(())
}

/// The answer to a call that failed: a head that is all of it ("trailers-only").
pub(super) fn refusal(facts: Facts, version: Version) -> Result<ResponseHeader> {
    let mut response = ResponseHeader::build(200, Some(6))?;
    response.insert_header(CONTENT_TYPE, "application/grpc")?;
    response.insert_header("grpc-status", u32::from(facts.grpc.code()))?;
    // It would be percent-encoded; the texts of the table are plain.
    response.insert_header("grpc-message", facts.text)?;
    if version != Version::HTTP_2 {
        response.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    Ok(response)
}

/// How a call ends that fails when its answer is under way.
pub(super) fn trailers(failure: Failure) -> HeaderMap {
    let facts = failure.facts();
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", u16::from(facts.grpc.code()).into());
    trailers.insert("grpc-message", HeaderValue::from_static(facts.text));
    trailers
}

impl RequestContext {
    /// Whether it is a call of gRPC.
    pub(super) fn is_call(&self) -> bool {
        self.kind == RequestKind::Call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, media: &'static str) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        request.insert_header("Content-Type", media).unwrap();
        request
    }

    #[test]
    fn a_call_says_so_in_its_content_type() {
        for media in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC; charset=x",
            "application/grpc ;a=b",
        ] {
            assert!(is_one(&request("POST", media)), "{media}");
            assert!(!is_one(&request("GET", media)), "{media}");
        }
        for media in ["application/grpc-web", "application/grpc-web+proto", "application/grp", ""] {
            assert!(!is_one(&request("POST", media)), "{media}");
        }
        assert!(!is_one(&RequestHeader::build("POST", b"/", None).unwrap()));
    }

    #[test]
    fn a_deadline_is_eight_digits_and_a_unit() {
        let said = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(value));
            deadline(&headers)
        };
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("0S", Some(Duration::ZERO)),
            // Longer than anything lasts.
            ("99999999H", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("+5S", None),
            ("123456789S", None),
        ] {
            assert_eq!(said(value), expected, "{value}");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }

    #[test]
    fn texts_need_no_encoding() {
        for failure in Failure::ALL {
            let text = failure.facts().text;
            assert!(
                text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'),
                "{text}"
            );
        }
    }
}
