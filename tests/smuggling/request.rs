//! The reference for requests: a slow and plain reading of a stream, by RFC 9112 and the rules that Homing adds.
//!
//! It shares nothing with Homing or with Pingora, and takes no short cuts. It also reads what the backend got, so
//! that what Homing sends has to be as strict as what it takes.

use crate::grammar::{
    FieldError, Fields, Line, Stop, is_host, is_token, next_line, read_chunks, read_fields,
};

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
    None,
}

/// One request of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The target in origin form, or `*`.
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) fields: Fields,
    pub(crate) framing: Framing,
    /// As much of the body as is there.
    pub(crate) body: Vec<u8>,
    /// Whether it is the last one on its connection.
    pub(crate) last: bool,
    /// Why Homing may refuse it although the RFC lets it pass.
    pub(crate) doubt: Option<&'static str>,
}

impl Request {
    /// Whether both say the same: method, host, target, body.
    pub(crate) fn says(&self, other: &Self) -> bool {
        self.head_says(other) && self.body == other.body
    }

    pub(crate) fn head_says(&self, other: &Self) -> bool {
        let lower = |host: &Option<String>| host.as_ref().map(|host| host.to_ascii_lowercase());
        // A client of HTTP/1.0 may leave the host out; a proxy has to make one up.
        let hosts = other.host.is_none() || lower(&self.host) == lower(&other.host);
        self.method == other.method && self.path == other.path && hosts
    }
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// After a whole request.
    Clean,
    /// In the middle of a request: its head, if that is whole, with as much of the body as is there.
    Cut(Option<Request>),
    /// With what is none; the head that was whole before, if the body is to blame.
    Refused(&'static str, Option<Request>),
}

/// A stream as the reference reads it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) requests: Vec<Request>,
    /// Where the first request that is not whole begins.
    pub(crate) used: usize,
    pub(crate) end: End,
}

impl Reading {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (mut requests, mut used) = (Vec::new(), 0);
        let end = loop {
            if used == bytes.len() {
                break End::Clean;
            }
            let (mut request, body) = match head(bytes, used) {
                Ok(head) => head,
                Err(Stop::Cut) => break End::Cut(None),
                Err(Stop::Refused(why)) => break End::Refused(why, None),
            };
            match take_body(bytes, body, &mut request) {
                Ok(next) => {
                    requests.push(request);
                    used = next;
                }
                Err(Stop::Cut) => break End::Cut(Some(request)),
                Err(Stop::Refused(why)) => break End::Refused(why, Some(request)),
            }
        };
        Self { requests, used, end }
    }

    /// The request that was begun and is not whole.
    pub(crate) fn begun(&self) -> Option<&Request> {
        match &self.end {
            End::Cut(begun) | End::Refused(_, begun) => begun.as_ref(),
            End::Clean => None,
        }
    }
}

/// The most bytes of a line and of a head, and the most fields, that Homing has to take.
const LINE_BYTES: usize = 4_000;
const HEAD_BYTES: usize = 8_000;
const FIELDS: usize = 60;

fn head(bytes: &[u8], at: usize) -> Result<(Request, usize), Stop> {
    let (line, mut next) = match next_line(bytes, at)? {
        Line::Empty(_) => return Err(Stop::Refused("an empty line before a request")),
        Line::Full(line, next) => (line, next),
    };
    let (mut request, minor) = request_line(line)?;
    request.fields = read_fields(bytes, &mut next).map_err(|error| match error {
        FieldError::Stop(stop) => stop,
        FieldError::Folded => Stop::Refused("a folded line"),
    })?;
    if line.len() > LINE_BYTES || next - at > HEAD_BYTES || request.fields.len() > FIELDS {
        request.doubt = Some("a large head");
    }
    settle_host(&mut request, minor)?;
    settle_framing(&mut request, minor)?;
    settle_connection(&mut request, minor);
    settle_expectation(&mut request, minor)?;
    Ok((request, next))
}

fn request_line(line: &[u8]) -> Result<(Request, u8), Stop> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Stop::Refused("a request line of other than three words"));
    };
    if !is_token(method) {
        return Err(Stop::Refused("a method that is no token"));
    }
    let minor = match version {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return Err(Stop::Refused("another version")),
    };
    let method = text(method);
    if method == "CONNECT" {
        return Err(Stop::Refused("CONNECT"));
    }
    if target.is_empty() || !target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#')
    {
        return Err(Stop::Refused("a byte in the target"));
    }
    let target = text(target);
    let mut doubt = target
        .contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}'])
        .then_some("a byte that no URI has");
    let percent = |(at, _): (usize, &str)| {
        let digits = target.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if target.match_indices('%').any(percent) {
        doubt = doubt.or(Some("a percent sign without its digits"));
    }
    let (host, path) = match target.as_str() {
        "*" if method == "OPTIONS" => (None, target),
        "*" => return Err(Stop::Refused("an asterisk without OPTIONS")),
        origin if origin.starts_with('/') => (None, target),
        _ => absolute(&target, &method)?,
    };
    let request = Request {
        method,
        path,
        host,
        fields: Vec::new(),
        framing: Framing::None,
        body: Vec::new(),
        last: false,
        doubt,
    };
    Ok((request, minor))
}

/// Splits an absolute target into its host and the origin form (RFC 9112 §3.2.2).
fn absolute(target: &str, method: &str) -> Result<(Option<String>, String), Stop> {
    let strange = || Stop::Refused("a target of no form");
    let (scheme, rest) = target.split_once("://").ok_or_else(strange)?;
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(strange());
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return Err(Stop::Refused("an authority that is none"));
    }
    let path = match path {
        // RFC 9112 §3.2.4: the last proxy makes an asterisk of it.
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    Ok((Some(authority.to_owned()), path))
}

fn settle_host(request: &mut Request, minor: u8) -> Result<(), Stop> {
    let hosts = values(&request.fields, "host");
    let host = match hosts[..] {
        [] if minor == 1 => return Err(Stop::Refused("no Host")),
        [] => None,
        [host] if is_host(host) => Some(text(host)),
        [_] => return Err(Stop::Refused("a Host that is none")),
        _ => return Err(Stop::Refused("two Hosts")),
    };
    match (&request.host, host) {
        (Some(authority), Some(host)) if *authority != host => {
            let plain = |name: &str| {
                let name = name.to_ascii_lowercase();
                let port = [":80", ":443", ":"].iter().find_map(|port| name.strip_suffix(port));
                port.unwrap_or(&name).to_owned()
            };
            if plain(authority) != plain(&host) {
                return Err(Stop::Refused("a Host other than the target's"));
            }
            request.doubt = Some("a Host spelled otherwise than the target's");
        }
        (Some(_), _) => {}
        (None, host) => request.host = host,
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    if request.host.as_ref().is_some_and(|host| host.ends_with(':') || !host.bytes().all(plain)) {
        request.doubt = Some("a host with an empty port, or with more than letters and digits");
    }
    if values(&request.fields, "content_length").len()
        + values(&request.fields, "transfer_encoding").len()
        > 0
    {
        request.doubt = Some("a field that a gateway may take for a length");
    }
    Ok(())
}

fn settle_framing(request: &mut Request, minor: u8) -> Result<(), Stop> {
    let lengths = values(&request.fields, "content-length");
    let codings = values(&request.fields, "transfer-encoding");
    request.framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::None,
        ([length], []) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = text(length).parse::<u64>().ok().filter(|_| digits);
            let number = number.ok_or(Stop::Refused("a length that is none"))?;
            if length.len() > 1 && length[0] == b'0' || number > i64::MAX as u64 {
                request.doubt = Some("a length of leading zeros, or beyond all measure");
            }
            Framing::Length(number)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && minor == 1 => Framing::Chunked,
        ([], _) => return Err(Stop::Refused("a transfer coding that is not `chunked` alone")),
        (_, []) => return Err(Stop::Refused("two lengths")),
        (_, _) => return Err(Stop::Refused("a length and a transfer coding")),
    };
    Ok(())
}

fn settle_connection(request: &mut Request, minor: u8) {
    let options: Vec<String> = values(&request.fields, "connection")
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| text(option.trim_ascii()).to_ascii_lowercase())
        .collect();
    let has = |option: &str| options.iter().any(|own| own == option);
    request.last = has("close") || (minor == 0 && !has("keep-alive"));
    // RFC 9110 §7.6.1: not to be nominated, since they are meant for all; and what Homing itself relies on.
    let nominated = |name: &str| {
        let ours = name.starts_with("x-forwarded-") || name.starts_with("x-homing-");
        ours || NOT_TO_NOMINATE.contains(&name)
    };
    if options.iter().any(|option| nominated(option)) || options.len() > 8 {
        request.doubt = Some("a nomination");
    }
    if options.iter().any(|option| !option.is_empty() && !is_token(option.as_bytes())) {
        request.doubt = Some("a nomination that is no token");
    }
    if !values(&request.fields, "upgrade").is_empty() {
        request.doubt = Some("an upgrade");
    }
}

/// Fields whose nomination in `Connection` is refused or ignored, as a proxy likes.
const NOT_TO_NOMINATE: [&str; 12] = [
    "authorization",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "transfer-encoding",
    "via",
    "x-request-id",
    "x-request-start",
];

fn settle_expectation(request: &mut Request, minor: u8) -> Result<(), Stop> {
    let expects = values(&request.fields, "expect");
    let known = expects.iter().all(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if minor == 1 && !known {
        return Err(Stop::Refused("an expectation"));
    }
    if expects.len() > 1 || !known {
        request.doubt = Some("an expectation of HTTP/1.0, or said twice");
    }
    Ok(())
}

fn take_body(bytes: &[u8], at: usize, request: &mut Request) -> Result<usize, Stop> {
    match request.framing {
        Framing::None => Ok(at),
        Framing::Length(length) => {
            let rest = &bytes[at..];
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            request.body = rest[..rest.len().min(length)].to_vec();
            if request.body.len() < length { Err(Stop::Cut) } else { Ok(at + length) }
        }
        Framing::Chunked => {
            let (next, doubt) = read_chunks(bytes, at, &mut request.body)?;
            request.doubt = request.doubt.or(doubt);
            Ok(next)
        }
    }
}

/// The values of a field, in order.
pub(crate) fn values<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    let same = |(own, _): &&(String, Vec<u8>)| own.eq_ignore_ascii_case(name);
    fields.iter().filter(same).map(|(_, value)| value.as_slice()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
