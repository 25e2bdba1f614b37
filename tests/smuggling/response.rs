//! The reference for responses: what a stream from a backend, or to a client, says to a request (RFC 9112 §6.3).

use crate::grammar::{
    FieldError, Fields, Line, Stop, next_line, read_chunks, read_fields, trimmed,
};
use crate::request::{text, values};

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    /// As much of the body as is there.
    pub(crate) body: Vec<u8>,
    /// Whether the end of the connection is the end of the body.
    pub(crate) to_the_end: bool,
    /// Why a proxy may refuse it although it can be read in one way only.
    pub(crate) doubt: Option<&'static str>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        values(&self.fields, name).first().map(|value| text(value))
    }
}

/// What the bytes say to one request.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A final response, and where it ends.
    Whole(Response, usize),
    /// Too little, with the head if there is one.
    Cut(Option<Response>),
    /// Not a response, with the head if that was one.
    Refused(&'static str, Option<Response>),
}

/// Whether more bytes can follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    /// The connection was closed in good order behind these bytes.
    Closed,
    Open,
}

/// Reads the response to a request with this method; interim ones before it are passed over.
pub(crate) fn read(bytes: &[u8], method: &str, stream: Stream) -> Outcome {
    let (mut at, mut doubt) = (0, None);
    loop {
        let (mut response, body) = match head(bytes, at) {
            Ok(head) => head,
            Err(Stop::Cut) => return Outcome::Cut(None),
            Err(Stop::Refused(why)) => return Outcome::Refused(why, None),
        };
        if (100..200).contains(&response.status) {
            if response.status == 101 {
                return Outcome::Refused("another protocol unasked", None);
            }
            if !values(&response.fields, "content-length").is_empty()
                || !values(&response.fields, "transfer-encoding").is_empty()
            {
                return Outcome::Refused("an interim response with a body", None);
            }
            doubt = Some("an interim response");
            at = body;
            continue;
        }
        response.doubt = response.doubt.or(doubt);
        return match take_body(bytes, body, method, stream, &mut response) {
            Ok(end) => Outcome::Whole(response, end),
            Err(Stop::Cut) => Outcome::Cut(Some(response)),
            Err(Stop::Refused(why)) => Outcome::Refused(why, Some(response)),
        };
    }
}

/// The most bytes of a head, and the most fields, that Homing has to take.
const HEAD_BYTES: usize = 30_000;
const FIELDS: usize = 200;

fn head(bytes: &[u8], at: usize) -> Result<(Response, usize), Stop> {
    let (line, mut next) = match next_line(bytes, at)? {
        Line::Empty(_) => return Err(Stop::Refused("an empty line before a response")),
        Line::Full(line, next) => (line, next),
    };
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if ![&b"HTTP/1.1"[..], b"HTTP/1.0"].contains(&version) {
        return Err(Stop::Refused("another version"));
    }
    if status.len() != 3 || !status.iter().all(u8::is_ascii_digit) || status[0] == b'0' {
        return Err(Stop::Refused("a status that is none"));
    }
    let mut doubt = None;
    match words.next() {
        // RFC 9112 §4: the space stands also before a phrase that is empty.
        None => doubt = Some("a status line without its second space"),
        Some(phrase)
            if phrase.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) =>
        {
            return Err(Stop::Refused("a control in the phrase"));
        }
        Some(_) => {}
    }
    let status = text(status).parse().unwrap_or(0);
    if status >= 600 {
        doubt = Some("a status beyond 599");
    }
    let fields = read_fields(bytes, &mut next).map_err(|error| match error {
        FieldError::Stop(stop) => stop,
        FieldError::Folded => Stop::Refused("a folded line"),
    })?;
    if version == b"HTTP/1.0" && !values(&fields, "transfer-encoding").is_empty() {
        return Err(Stop::Refused("a transfer coding in HTTP/1.0"));
    }
    if next - at > HEAD_BYTES || fields.len() > FIELDS {
        doubt = Some("a large head");
    }
    let response = Response { status, fields, body: Vec::new(), to_the_end: false, doubt };
    Ok((response, next))
}

fn take_body(
    bytes: &[u8],
    at: usize,
    method: &str,
    stream: Stream,
    response: &mut Response,
) -> Result<usize, Stop> {
    let length = length(response)?;
    let codings = values(&response.fields, "transfer-encoding");
    let chunked = match codings[..] {
        [] => false,
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Stop::Refused("a transfer coding that is not `chunked` alone")),
    };
    if chunked && length.is_some() {
        return Err(Stop::Refused("a length and a transfer coding"));
    }
    if method == "HEAD" || [204, 304].contains(&response.status) {
        if response.status == 204 && (chunked || length.is_some()) {
            response.doubt = Some("a length where there is no body");
        }
        return Ok(at);
    }
    if chunked {
        let (next, doubt) = read_chunks(bytes, at, &mut response.body)?;
        response.doubt = response.doubt.or(doubt);
        return Ok(next);
    }
    let rest = &bytes[at..];
    match length {
        Some(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            response.body = rest[..rest.len().min(length)].to_vec();
            if response.body.len() < length { Err(Stop::Cut) } else { Ok(at + length) }
        }
        None => {
            response.to_the_end = true;
            response.body = rest.to_vec();
            if stream == Stream::Closed { Ok(bytes.len()) } else { Err(Stop::Cut) }
        }
    }
}

/// `Content-Length`: one number. The same number again is one number to some, and an error to others.
fn length(response: &mut Response) -> Result<Option<u64>, Stop> {
    let mut found = None;
    for value in values(&response.fields, "content-length") {
        for item in value.split(|byte| *byte == b',') {
            let item = trimmed(item);
            let digits = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
            let number = text(item).parse::<u64>().ok().filter(|_| digits);
            let number = number.ok_or(Stop::Refused("a length that is none"))?;
            if found.is_some_and(|other| other != number) {
                return Err(Stop::Refused("two lengths that differ"));
            }
            let strange = found.is_some() || (item.len() > 1 && item[0] == b'0');
            response.doubt =
                response.doubt.or(strange.then_some("a length said twice, or with zeros"));
            if number > i64::MAX as u64 {
                response.doubt = Some("a length beyond all measure");
            }
            found = Some(number);
        }
    }
    Ok(found)
}

/// Whether a head nominates or names what concerns one connection only.
pub(crate) fn leaks(response: &Response) -> Option<&'static str> {
    const HOP_BY_HOP: [&str; 6] =
        ["keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings"];
    HOP_BY_HOP.into_iter().find(|name| !values(&response.fields, name).is_empty())
}

/// What a reader may put up with in a response, since it can be read in one way only (RFC 9112 §2.2, §5.1, §5.2, §6.3
/// and §7.1.1): lines that end with LF, lines that are folded, spaces before a colon, empty lines in front, a length
/// beside chunks, and what stands behind the size of a chunk or its end.
pub(crate) const PUT_UP_WITH: [&str; 10] = [
    "a bare LF",
    "a chunk extension that is none",
    "a field name that is no token",
    "a field without colon",
    "a folded line",
    "a folded trailer",
    "a length and a transfer coding",
    "a length that is none",
    "an empty line before a response",
    "two lengths that differ",
];

/// The same response without what a reader may put up with. What is passed on has to say this.
pub(crate) fn cleaned(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        match (line.first(), lines.last_mut()) {
            (None, None) => {}
            (None, Some(_)) => break,
            (Some(b' ' | b'\t'), Some(before)) => {
                before.push(b' ');
                before.extend_from_slice(trimmed(line));
            }
            (Some(_), _) => lines.push(line.to_vec()),
        }
    }
    for line in lines.iter_mut().skip(1) {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            let spaces =
                line[..colon].iter().rev().take_while(|byte| b" \t".contains(byte)).count();
            line.drain(colon - spaces..colon);
        }
    }
    let named = |line: &[u8], name: &str| {
        line.get(..name.len()).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    };
    let chunked = lines.iter().any(|line| named(line, "transfer-encoding:"));
    lines.retain(|line| !(chunked && named(line, "content-length:")));
    let mut cleaned = [lines.join(&b"\r\n"[..]), b"\r\n\r\n".to_vec()].concat();
    if chunked {
        rest = clean_chunks(rest, &mut cleaned);
    }
    cleaned.extend_from_slice(rest);
    cleaned
}

/// Appends the chunks of `rest` without what stands behind sizes and behind the last one. Answers with what follows.
fn clean_chunks<'b>(mut rest: &'b [u8], cleaned: &mut Vec<u8>) -> &'b [u8] {
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(&text(&rest[..digits]), 16);
        let Some(size) = size.ok().filter(|size| *size > 0 && *size <= rest.len()) else {
            if digits > 0 && rest[..digits].iter().all(|digit| *digit == b'0') {
                cleaned.extend_from_slice(b"0\r\n\r\n");
                let over = rest[end..].windows(4).position(|four| four == b"\r\n\r\n");
                rest = over.map_or(&[], |over| &rest[end + over + 4..]);
            }
            break;
        };
        let data = (end + 2 + size + 2).min(rest.len());
        cleaned.extend_from_slice(&rest[..digits]);
        cleaned.extend_from_slice(&rest[end..data]);
        rest = &rest[data..];
    }
    rest
}
