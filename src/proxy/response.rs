//! Whether the head of a response is one: strict where two readers could disagree on it, bounded in size.
//!
//! What Pingora cannot read at all it refuses itself; [`unreadable`] gives that its name. What it repairs before
//! anybody sees the head (folded fields, space before a colon, bare LF, `Content-Length` beside `Transfer-Encoding`)
//! reaches no client: every head and every chunk that we send is written anew.

use http::header::{CONTENT_LENGTH, HeaderValue, SET_COOKIE, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{RequestContext, RequestKind};
use super::failure::Failure;
use super::forward::repeated_length;
use super::said::Said;
use crate::balancer::app::response_limits::ResponseLimits;

/// How many interim responses may come before the final one. Apps send one or two; a backend that only ever
/// sends them would keep the client for ever.
pub(super) const INTERIM_MAX: u8 = 32;

/// `HTTP/1.1 200 `, in bytes.
const STATUS_LINE_BYTES: usize = 13;

/// `: ` between name and value, in bytes.
const SEPARATOR_BYTES: usize = 2;

/// The end of a line, in bytes.
const LINE_END_BYTES: usize = 2;

/// Why a response is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    /// What exactly was wrong.
    pub(super) detail: &'static str,
}

const fn bad(detail: &'static str) -> Fault {
    Fault { failure: Failure::BadResponse, detail }
}

const fn restricted(detail: &'static str) -> Fault {
    Fault { failure: Failure::Restricted, detail }
}

/// Checks a head as Pingora read it, final or interim. `kind` is what the backend was asked for.
///
/// # Errors
/// What is wrong with it (RFC 9112 §6, RFC 9110 §8.6 and §15.2.2, and the limits of the app).
pub(super) fn check(
    head: &ResponseHeader,
    kind: RequestKind,
    limits: &ResponseLimits,
    said: Said,
) -> Result<(), Fault> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && (kind != RequestKind::Upgrade || head.version != Version::HTTP_11)
    {
        return Err(bad("unsolicited 101"));
    }
    check_framing(head, said)?;
    check_size(head, limits)
}

/// Lets the head of a response pass, cleaned, or says why the client gets none of it.
///
/// # Errors
/// What is wrong with the head, noted in `ctx`. It is an error of the backend and no reason to try again: the
/// connection is closed, and the client gets an error page.
pub(super) fn admit(head: &mut ResponseHeader, ctx: &mut RequestContext) -> pingora::Result<()> {
    let Some(view) = &ctx.app else { return Ok(()) };
    let said = Said::of(&head.headers);
    let mut checked = check(head, ctx.kind, &view.app.policy.response_limits, said);
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        ctx.interim = ctx.interim.saturating_add(1);
        if ctx.interim > INTERIM_MAX {
            checked = Err(bad("too many interim responses"));
        }
    }
    match checked {
        Ok(()) => clean(head, said),
        Err(fault) => {
            (ctx.failure, ctx.detail) = (Some(fault.failure), Some(fault.detail));
            Err(Error::explain(ErrorType::InvalidHTTPHeader, fault.detail).into_up())
        }
    }
}

/// What an error of Pingora is, and what exactly was wrong if the response was none.
pub(super) fn failure(error: &Error, ctx: &mut RequestContext) -> Failure {
    let fault = match error.esource() {
        ErrorSource::Upstream => unreadable(error),
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => None,
    };
    match fault {
        Some(fault) => {
            ctx.detail = Some(fault.detail);
            fault.failure
        }
        None => Failure::proxying(error, ctx.progress),
    }
}

/// Whether the client left when all of a response of known length was sent: over HTTP/2 its end may come behind the
/// last byte, and not everyone waits for it.
pub(super) fn left_with_all(session: &Session, error: &Error) -> bool {
    let has_left = *error.etype() == ErrorType::ConnectionClosed
        && *error.esource() == ErrorSource::Downstream;
    let length = || session.response_written()?.headers.get(CONTENT_LENGTH)?.to_str().ok();
    has_left && length().and_then(|text| text.parse().ok()) == Some(session.body_bytes_sent())
}

fn check_framing(head: &ResponseHeader, said: Said) -> Result<(), Fault> {
    if said.has(Said::TRANSFER_ENCODING) {
        check_coding(head)?;
    }
    if said.has(Said::CONTENT_LENGTH) { check_length(head) } else { Ok(()) }
}

fn check_coding(head: &ResponseHeader) -> Result<(), Fault> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if head.version != Version::HTTP_11 {
            return Err(bad("transfer coding in HTTP/1.0"));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(bad("unknown transfer coding"));
        }
    }
    Ok(())
}

fn check_length(head: &ResponseHeader) -> Result<(), Fault> {
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(first) = lengths.next() else { return Ok(()) };
    // A list is two lengths, even of equals; a line that says the same again is a common mistake of gateways.
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != first) {
        return Err(restricted("invalid content length"));
    }
    Ok(())
}

fn check_size(head: &ResponseHeader, limits: &ResponseLimits) -> Result<(), Fault> {
    let line = STATUS_LINE_BYTES + head.get_reason_phrase().map_or(0, str::len);
    if line > limits.status_line_bytes {
        return Err(restricted("oversized status line"));
    }
    let mut bytes = line + 2 * LINE_END_BYTES;
    for (name, value) in &head.headers {
        let field = name.as_str().len() + SEPARATOR_BYTES + value.len();
        if name == SET_COOKIE && field > limits.cookie_bytes {
            return Err(restricted("oversized cookie"));
        }
        if field > limits.field_bytes {
            return Err(restricted("oversized header"));
        }
        bytes += field + LINE_END_BYTES;
    }
    if head.headers.len() > limits.fields {
        return Err(restricted("too many fields"));
    }
    if bytes > limits.head_bytes {
        return Err(restricted("oversized head"));
    }
    Ok(())
}

/// Takes out what a head that passed says twice, or of a body that it cannot have.
///
/// # Errors
/// None but those of Pingora, which has no reason for one.
pub(super) fn clean(head: &mut ResponseHeader, said: Said) -> pingora::Result<()> {
    if !said.has(Said::CONTENT_LENGTH | Said::TRANSFER_ENCODING) {
        return Ok(());
    }
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1.
        head.remove_header(&TRANSFER_ENCODING);
        head.remove_header(&CONTENT_LENGTH);
    }
    match repeated_length(&head.headers) {
        Some(length) => head.insert_header(CONTENT_LENGTH, length),
        None => Ok(()),
    }
}

/// What was wrong with a response that Pingora could not read.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
pub(super) fn unreadable(error: &Error) -> Option<Fault> {
    let said = error.context.as_ref().map_or("", |context| context.as_str());
    Some(match error.etype() {
        ErrorType::Custom("InvalidChunk") => bad("bad chunk"),
        ErrorType::Custom("InvalidTrailerEnd") => bad("bad trailer"),
        ErrorType::InvalidHTTPHeader if said.contains("Content-Length") => {
            restricted("invalid content length")
        }
        ErrorType::InvalidHTTPHeader if said.starts_with("Response header larger than") => {
            restricted("oversized header")
        }
        ErrorType::InvalidHTTPHeader => match error.cause.as_ref().map(ToString::to_string) {
            // The words of `httparse`, which Pingora does not export.
            Some(cause) if cause == "too many headers" => restricted("too many fields"),
            Some(_) | None => bad("malformed head"),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        head.set_version(Version::HTTP_11);
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[track_caller]
    fn found(head: &ResponseHeader) -> &'static str {
        let found =
            check(head, RequestKind::Plain, &ResponseLimits::default(), Said::of(&head.headers));
        found.err().map_or("", |fault| fault.detail)
    }

    #[test]
    fn a_length_is_one_number_said_any_number_of_times() {
        let length = "Content-Length";
        for (values, detail) in [
            (&["5"][..], ""),
            (&["5", "5"], ""),
            (&["5", "5", "5"], ""),
            (&["00"], ""),
            (&["5", "6"], "invalid content length"),
            (&["5", "05"], "invalid content length"),
            (&["5, 5"], "invalid content length"),
            (&["5,6"], "invalid content length"),
            (&["+5"], "invalid content length"),
            (&["-5"], "invalid content length"),
            (&["5 "], "invalid content length"),
            (&["5 x"], "invalid content length"),
            (&["0x5"], "invalid content length"),
            (&[""], "invalid content length"),
        ] {
            let fields: Vec<_> = values.iter().map(|value| (length, *value)).collect();
            assert_eq!(found(&head(200, &fields)), detail, "{values:?}");
        }
    }

    #[test]
    fn a_transfer_coding_is_chunked_alone_and_of_http_1_1() {
        let coding = "Transfer-Encoding";
        let unknown = "unknown transfer coding";
        for (values, detail) in [
            (&["chunked"][..], ""),
            (&["Chunked"], ""),
            (&["gzip, chunked"], unknown),
            (&["chunked, identity"], unknown),
            (&["identity"], unknown),
            (&["xchunked"], unknown),
            (&["chunked;a=b"], unknown),
            (&["chunked,"], unknown),
            (&[","], unknown),
            (&[""], unknown),
            (&["chunked", "chunked"], unknown),
            (&["gzip", "chunked"], unknown),
        ] {
            let fields: Vec<_> = values.iter().map(|value| (coding, *value)).collect();
            let mut head = head(200, &fields);
            assert_eq!(found(&head), detail, "{values:?}");
            head.set_version(Version::HTTP_10);
            assert_eq!(found(&head), "transfer coding in HTTP/1.0", "{values:?}");
        }
    }

    #[test]
    fn nobody_switches_protocols_unasked() {
        let limits = ResponseLimits::default();
        let mut switch = head(101, &[("Upgrade", "x")]);
        assert_eq!(found(&switch), "unsolicited 101");
        let said = Said::of(&switch.headers);
        assert_eq!(check(&switch, RequestKind::Upgrade, &limits, said), Ok(()));
        switch.set_version(Version::HTTP_10);
        assert!(check(&switch, RequestKind::Upgrade, &limits, said).is_err());
    }

    /// Each limit holds to the byte.
    #[test]
    fn a_head_of_just_the_size_passes_and_a_larger_one_does_not() {
        let limits = ResponseLimits {
            status_line_bytes: 100,
            field_bytes: 200,
            cookie_bytes: 150,
            head_bytes: 600,
            fields: 4,
        };
        let detail = |head: &ResponseHeader| {
            let fault = check(head, RequestKind::Plain, &limits, Said::of(&head.headers)).err();
            fault.map(|fault| (fault.failure, fault.detail))
        };
        let over = |detail| Some((Failure::Restricted, detail));
        let reason = |length: usize| {
            let mut head = head(200, &[]);
            head.set_reason_phrase(Some(&"r".repeat(length))).unwrap();
            head
        };
        assert_eq!(detail(&reason(100 - "HTTP/1.1 200 ".len())), None);
        assert_eq!(detail(&reason(101 - "HTTP/1.1 200 ".len())), over("oversized status line"));
        let field = |name: &'static str, bytes: usize| {
            head(200, &[(name, &"v".repeat(bytes - name.len() - ": ".len()))])
        };
        assert_eq!(detail(&field("x-long", 200)), None);
        assert_eq!(detail(&field("x-long", 201)), over("oversized header"));
        assert_eq!(detail(&field("set-cookie", 150)), None);
        assert_eq!(detail(&field("set-cookie", 151)), over("oversized cookie"));
        assert_eq!(detail(&head(200, &[("a", "1"); 4])), None);
        assert_eq!(detail(&head(200, &[("a", "1"); 5])), over("too many fields"));
        let whole = |rest: usize| {
            let (value, last) = ("v".repeat(195), "v".repeat(rest));
            head(200, &[("a", &value), ("b", &value), ("c", &last)])
        };
        // `HTTP/1.1 200 OK`, three fields, an empty line: 15 + 2 + 2 * 200 + 3 + 2 + 2 and the rest.
        assert_eq!(detail(&whole(600 - 424)), None);
        assert_eq!(detail(&whole(601 - 424)), over("oversized head"));
    }

    #[test]
    fn what_cannot_have_a_body_says_nothing_of_one() {
        let lengths = [("Content-Length", "5"), ("Content-Length", "5")];
        for (status, left) in [(200, 1), (204, 0), (100, 0), (101, 0), (304, 1)] {
            let mut head = head(status, &lengths);
            let said = Said::of(&head.headers);
            clean(&mut head, said).unwrap();
            assert_eq!(head.headers.get_all(CONTENT_LENGTH).iter().count(), left, "{status}");
        }
    }
}
