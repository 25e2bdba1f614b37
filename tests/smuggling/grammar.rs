//! The parts of messages that requests and responses have in common (RFC 9110 §5, RFC 9112 §2, §5 and §7.1).

/// Why a reading stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// More bytes are needed.
    Cut,
    Refused(&'static str),
}

/// Names and values, in order, without the whitespace around values.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A line, and where the next one begins.
pub(crate) enum Line<'b> {
    Empty(usize),
    Full(&'b [u8], usize),
}

/// The line at `at`. Only CRLF ends it, and neither half of that stands anywhere else.
pub(crate) fn next_line(bytes: &[u8], at: usize) -> Result<Line<'_>, Stop> {
    for end in at..bytes.len() {
        match (bytes[end], bytes.get(end + 1)) {
            (b'\n', _) => return Err(Stop::Refused("a bare LF")),
            (b'\r', None) => return Err(Stop::Cut),
            (b'\r', Some(b'\n')) if end == at => return Ok(Line::Empty(end + 2)),
            (b'\r', Some(b'\n')) => return Ok(Line::Full(&bytes[at..end], end + 2)),
            (b'\r', Some(_)) => return Err(Stop::Refused("a bare CR")),
            (_, _) => {}
        }
    }
    Err(Stop::Cut)
}

/// Why a list of fields is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldError {
    /// A line that goes on with the one before it (`obs-fold`).
    Folded,
    Stop(Stop),
}

/// The fields up to and with the empty line behind them.
pub(crate) fn read_fields(bytes: &[u8], at: &mut usize) -> Result<Fields, FieldError> {
    let refused = |why| FieldError::Stop(Stop::Refused(why));
    let mut fields = Fields::new();
    loop {
        let line = match next_line(bytes, *at).map_err(FieldError::Stop)? {
            Line::Empty(next) => {
                *at = next;
                return Ok(fields);
            }
            Line::Full(line, next) => {
                *at = next;
                line
            }
        };
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(FieldError::Folded);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(refused("a field without colon"));
        };
        let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
        if !is_token(name) {
            return Err(refused("a field name that is no token"));
        }
        if value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
            return Err(refused("a control in a value"));
        }
        fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
}

/// Without the spaces and tabs around it.
pub(crate) fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(word: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(fits)
}

/// `uri-host [ ":" port ]`, with a host (RFC 9110 §7.2, RFC 3986 §3.2.2).
pub(crate) fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (name, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest {
                "" => return true,
                rest => match rest.strip_prefix(':') {
                    Some(port) => (address, port),
                    None => return false,
                },
            }
        }
        None => value.split_once(':').unwrap_or((value, "0")),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
    let mut bytes = name.bytes();
    let mut good = !name.is_empty();
    while let Some(byte) = bytes.next() {
        good &= match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => fits(byte),
        };
    }
    good && port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.parse::<u16>().is_ok() || port.is_empty())
}

/// A chunked body (RFC 9112 §7.1): its data goes to `body`. Answers where it ends, and with a doubt.
pub(crate) fn read_chunks(
    bytes: &[u8],
    mut at: usize,
    body: &mut Vec<u8>,
) -> Result<(usize, Option<&'static str>), Stop> {
    let mut doubt = None;
    loop {
        let (line, next) = match next_line(bytes, at)? {
            Line::Empty(_) => return Err(Stop::Refused("a chunk without size")),
            Line::Full(line, next) => (line, next),
        };
        let size = chunk_size(line, &mut doubt)?;
        at = next;
        if size == 0 {
            break;
        }
        let rest = &bytes[at..];
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        body.extend_from_slice(&rest[..rest.len().min(size)]);
        match rest.get(size..).unwrap_or_default() {
            [b'\r', b'\n', ..] => at += size + 2,
            [] | [b'\r'] => return Err(Stop::Cut),
            [..] => return Err(Stop::Refused("a chunk longer than its size")),
        }
    }
    let trailers = read_fields(bytes, &mut at).map_err(|error| match error {
        FieldError::Stop(stop) => stop,
        FieldError::Folded => Stop::Refused("a folded trailer"),
    })?;
    if !trailers.is_empty() {
        doubt = doubt.or(Some("trailers"));
    }
    Ok((at, doubt))
}

/// Most bytes of a line with extensions that has to be taken.
const EXTENSION_BYTES: usize = 64;

fn chunk_size(line: &[u8], doubt: &mut Option<&'static str>) -> Result<u64, Stop> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return Err(Stop::Refused("a chunk size that is none"));
    }
    let (size, extensions) = line.split_at(digits);
    if !extensions.is_empty() {
        check_extensions(extensions, doubt)?;
    }
    if line.len() > EXTENSION_BYTES {
        *doubt = Some("a long chunk line");
    }
    // Sixteen digits are more than a signed number holds.
    if digits > 15 {
        *doubt = Some("a chunk size of sixteen digits");
    }
    let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    size.ok_or(Stop::Refused("a chunk size beyond all measure"))
}

/// RFC 9112 §7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn check_extensions(mut rest: &[u8], doubt: &mut Option<&'static str>) -> Result<(), Stop> {
    let bad = Err(Stop::Refused("a chunk extension that is none"));
    while !rest.is_empty() {
        skip_bad_whitespace(&mut rest, doubt);
        let Some(after) = rest.strip_prefix(b";") else { return bad };
        rest = after;
        skip_bad_whitespace(&mut rest, doubt);
        let name = rest.iter().take_while(|byte| is_token(&[**byte])).count();
        if name == 0 {
            return bad;
        }
        rest = &rest[name..];
        let mut value = rest;
        skip_bad_whitespace(&mut value, doubt);
        let Some(after) = value.strip_prefix(b"=") else { continue };
        rest = after;
        skip_bad_whitespace(&mut rest, doubt);
        rest = match rest.strip_prefix(b"\"") {
            Some(quoted) => match quoted_end(quoted, doubt) {
                Some(end) => &quoted[end..],
                None => return bad,
            },
            None => match rest.iter().take_while(|byte| is_token(&[**byte])).count() {
                0 => return bad,
                token => &rest[token..],
            },
        };
    }
    Ok(())
}

fn skip_bad_whitespace(rest: &mut &[u8], doubt: &mut Option<&'static str>) {
    while let [b' ' | b'\t', after @ ..] = rest {
        *rest = after;
        *doubt = Some("whitespace in a chunk line");
    }
}

/// Where a quoted string ends whose opening quote was taken.
fn quoted_end(quoted: &[u8], doubt: &mut Option<&'static str>) -> Option<usize> {
    let mut at = 0;
    loop {
        at += match quoted.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match quoted.get(at + 1)? {
                b'\t' | b' '..=b'~' | 0x80.. => 2,
                _ => return None,
            },
            0x80.. => {
                *doubt = Some("a quoted byte beyond ASCII");
                1
            }
            b'\t' | b' '..=b'~' => 1,
            _ => return None,
        };
    }
}
