//! One line of a head or of trailers (RFC 9112 §5).

use super::fault::Fault;

/// Characters of a token (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = true;
        }
        byte += 1;
    }
    table
};

/// Whether `text` is a token.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Whether `value` holds what a value may: no control characters but tabs. Bytes beyond ASCII are let through.
fn is_value(value: &[u8]) -> bool {
    // Without an early end: the compiler makes a few wide steps of it.
    let fits = |byte: u8| (byte >= b' ' && byte != 0x7f) || byte == b'\t';
    value.iter().fold(true, |so_far, byte| so_far & fits(*byte))
}

/// Splits a line without its CRLF into a name and a value without the spaces around it.
///
/// # Errors
/// When it is none: folded, no token before the colon, a control character.
pub fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(Fault::Folded);
    }
    let end = line.iter().position(|byte| !TOKEN[usize::from(*byte)]).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let Some(value) = rest.strip_prefix(b":").filter(|_| !name.is_empty()) else {
        return Err(Fault::FieldName);
    };
    if !is_value(value) {
        let is_bare = value.contains(&b'\r');
        return Err(if is_bare { Fault::LineEnd } else { Fault::Control });
    }
    Ok((name, value.trim_ascii()))
}

/// Fields that decide where a message ends, or who it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Host`.
    Host,
    /// `Transfer-Encoding`.
    TransferEncoding,
}

impl Framing {
    /// Which of them a name is, if any.
    ///
    /// # Errors
    /// When it is one of them only for who makes the same of `_` and `-`.
    pub fn of(name: &[u8]) -> Result<Option<Self>, Fault> {
        let (own, framing): (&[u8], Self) = match name.len() {
            4 => (b"host", Self::Host),
            10 => (b"connection", Self::Connection),
            14 => (b"content-length", Self::ContentLength),
            17 => (b"transfer-encoding", Self::TransferEncoding),
            _ => return Ok(None),
        };
        if name.eq_ignore_ascii_case(own) {
            return Ok(Some(framing));
        }
        let same = |(byte, own): (&u8, &u8)| {
            byte.eq_ignore_ascii_case(own) || (*byte == b'_' && *own == b'-')
        };
        if name.iter().zip(own).all(same) { Err(Fault::FramingHidden) } else { Ok(None) }
    }
}

/// Most fields that `Connection` may name. Clients name one or two.
const NOMINATIONS_MAX: usize = 8;

/// Fields that `Connection` may not name: they concern the request, and are not to be taken away from it.
const NEVER_NOMINATED: [&[u8]; 12] = [
    b"authorization",
    b"content-length",
    b"content-type",
    b"cookie",
    b"forwarded",
    b"host",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-request-id",
];

/// Reads one line of `Connection` (RFC 9110 §7.6.1), adding to `named` how many fields it names.
///
/// # Errors
/// When a name is none, there are too many, or one may not be named.
pub fn nominate(value: &[u8], named: &mut usize) -> Result<(), Fault> {
    for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if name.is_empty() {
            continue;
        }
        *named += 1;
        let forbidden = || NEVER_NOMINATED.iter().any(|own| own.eq_ignore_ascii_case(name));
        if *named > NOMINATIONS_MAX || !is_token(name) || forbidden() {
            return Err(Fault::Nomination);
        }
    }
    Ok(())
}

/// Reads the value of `Content-Length` (RFC 9110 §8.6): digits alone.
///
/// # Errors
/// When it is anything else, a list among it, or more than a body can have.
pub fn length(value: &[u8]) -> Result<u64, Fault> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    if !digits {
        return Err(Fault::LengthMalformed);
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Reads the value of `Transfer-Encoding` (RFC 9112 §6.1): `chunked` alone.
///
/// # Errors
/// When it is another coding, several, or none.
pub fn coding(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    Err(if is_token(value) { Fault::CodingUnknown } else { Fault::CodingMalformed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_token_a_colon_and_a_value() {
        assert_eq!(split(b"Accept: a, b "), Ok((&b"Accept"[..], &b"a, b"[..])));
        assert_eq!(split(b"x:"), Ok((&b"x"[..], &b""[..])));
        assert_eq!(split(b"x:\ta\tb"), Ok((&b"x"[..], &b"a\tb"[..])));
        assert_eq!(split("x: \u{fc}".as_bytes()), Ok((&b"x"[..], "\u{fc}".as_bytes())));
        for (line, fault) in [
            (&b" x: y"[..], Fault::Folded),
            (b"\tx: y", Fault::Folded),
            (b"x : y", Fault::FieldName),
            (b"x\t: y", Fault::FieldName),
            (b": y", Fault::FieldName),
            (b"x", Fault::FieldName),
            (b"x y: z", Fault::FieldName),
            (b"x\x0b: z", Fault::FieldName),
            (b"x(y): z", Fault::FieldName),
            (b"x\xfc: z", Fault::FieldName),
            (b"x: a\x00b", Fault::Control),
            (b"x: a\x7fb", Fault::Control),
            (b"x: a\x0bb", Fault::Control),
            (b"x: a\rb", Fault::LineEnd),
            (b"x: a\r", Fault::LineEnd),
        ] {
            assert_eq!(split(line), Err(fault), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_byte_counts_the_same_wherever_it_stands() {
        let fits = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        for byte in 0..=u8::MAX {
            for (place, others) in (0..20).flat_map(|place| [b'a', b' ', 0xff].map(|o| (place, o)))
            {
                let mut value = [others; 20];
                value[place] = byte;
                assert_eq!(is_value(&value), fits(byte), "{byte} at {place} among {others}");
            }
        }
    }

    #[test]
    fn fields_that_frame_a_message_are_known_however_they_are_written() {
        assert_eq!(Framing::of(b"Content-LENGTH"), Ok(Some(Framing::ContentLength)));
        assert_eq!(Framing::of(b"transfer-encoding"), Ok(Some(Framing::TransferEncoding)));
        assert_eq!(Framing::of(b"HOST"), Ok(Some(Framing::Host)));
        assert_eq!(Framing::of(b"Connection"), Ok(Some(Framing::Connection)));
        assert_eq!(Framing::of(b"x-frame-option"), Ok(None));
        assert_eq!(Framing::of(b"Content_Length"), Err(Fault::FramingHidden));
        assert_eq!(Framing::of(b"Transfer_encoding"), Err(Fault::FramingHidden));
    }

    #[test]
    fn connection_names_few_fields_and_none_that_concern_the_request() {
        let check = |value: &str| nominate(value.as_bytes(), &mut 0);
        for good in ["close", "keep-alive, Upgrade", "", ", close,", "x-own"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "Host",
            "close, content-length",
            "Transfer-Encoding",
            "X-Forwarded-For",
            "cookie",
            "\"x\"",
            "a b",
            ":a",
            "a,b,c,d,e,f,g,h,i",
        ] {
            assert_eq!(check(bad), Err(Fault::Nomination), "{bad}");
        }
    }

    #[test]
    fn a_length_is_digits_alone() {
        assert_eq!(length(b"0"), Ok(0));
        assert_eq!(length(b"007"), Ok(7));
        assert_eq!(length(b"123456789012345678"), Ok(123_456_789_012_345_678));
        for bad in [
            "",
            "+5",
            "-5",
            "5,5",
            "5, 5",
            "5 5",
            "0x5",
            "5.0",
            "1e3",
            "1234567890123456789",
            "\u{665}",
        ] {
            assert_eq!(length(bad.as_bytes()), Err(Fault::LengthMalformed), "{bad}");
        }
    }

    #[test]
    fn the_only_coding_is_chunked() {
        assert_eq!(coding(b"Chunked"), Ok(()));
        for unknown in ["gzip", "identity", "xchunked", "chunkedx"] {
            assert_eq!(coding(unknown.as_bytes()), Err(Fault::CodingUnknown), "{unknown}");
        }
        for bad in [
            "",
            ",",
            "chunked,",
            "gzip, chunked",
            "chunked, identity",
            "chunked;q=1",
            "\"chunked\"",
        ] {
            assert_eq!(coding(bad.as_bytes()), Err(Fault::CodingMalformed), "{bad}");
        }
    }
}
