//! HTTP/2 byte by byte, as a client may write it: right or wrong. It shares no code with Homing or with h2.

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;
pub(crate) const PRIORITY_UPDATE: u8 = 0x10;

/// Flags.
pub(crate) const NONE: u8 = 0x0;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WEIGHTED: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
pub(crate) const STREAM_CLOSED: u32 = 0x5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const CANCEL: u32 = 0x8;
pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// What an error code is called.
pub(crate) fn name(code: u32) -> &'static str {
    match code {
        PROTOCOL_ERROR => "PROTOCOL_ERROR",
        FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        STREAM_CLOSED => "STREAM_CLOSED",
        FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        REFUSED_STREAM => "REFUSED_STREAM",
        CANCEL => "CANCEL",
        COMPRESSION_ERROR => "COMPRESSION_ERROR",
        ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        _ => "another",
    }
}

/// What a client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest payload that every endpoint takes.
pub(crate) const FRAME_MAX: usize = 16_384;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS.
pub(crate) fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let each =
        |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, NONE, 0, &list.iter().flat_map(each).collect::<Vec<u8>>())
}

/// WINDOW_UPDATE.
pub(crate) fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, NONE, stream, &bytes.to_be_bytes())
}

/// RST_STREAM.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, NONE, stream, &code.to_be_bytes())
}

/// A field block of literals that nobody indexes (RFC 7541 §6.2.2).
pub(crate) fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(list: &[(N, V)]) -> Vec<u8> {
    let each =
        |(name, value): &(N, V)| [&[0][..], &text(name.as_ref()), &text(value.as_ref())].concat();
    list.iter().flat_map(each).collect()
}

/// A string that is not compressed (RFC 7541 §5.2).
pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len(), 7, 0), bytes.to_vec()].concat()
}

/// A number with a prefix of so many bits (RFC 7541 §5.1).
pub(crate) fn number(mut value: usize, bits: u32, first: u8) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut bytes = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A frame that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The frame at the beginning, if it is whole, and how long it is.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let payload = bytes.get(9..end)?.to_vec();
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        Some((Self { kind, flags, stream, payload }, end))
    }

    /// The number at a place of its payload.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response, its first field: of the static table, or written out.
    pub(crate) fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // The size of the table may be set first (RFC 7541 §6.3): one byte, or up to the first below 128.
        while let [byte, rest @ ..] = block
            && byte & 0xe0 == 0x20
        {
            let more = rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
            block = if byte & 0x1f == 0x1f { &rest[more..] } else { rest };
        }
        match block {
            [0x88, ..] => 200,
            [0x89, ..] => 204,
            [0x8a, ..] => 206,
            [0x8b, ..] => 304,
            [0x8c, ..] => 400,
            [0x8d, ..] => 404,
            [0x8e, ..] => 500,
            [0x08 | 0x18 | 0x48, length, rest @ ..] if length & 0x80 == 0 => {
                String::from_utf8_lossy(&rest[..usize::from(*length)]).parse().unwrap()
            }
            [0x08 | 0x18 | 0x48, length, rest @ ..] => {
                digits(&rest[..usize::from(length & 0x7f)]).parse().unwrap()
            }
            _ => panic!("no status at the beginning of {}", self.payload.escape_ascii()),
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): five bits up to 2, six from 3 on.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut found) = (0, String::new());
    let value =
        |at: usize, count: usize| bits[at..at + count].iter().fold(0_u8, |sum, bit| sum << 1 | bit);
    while found.len() < 3 {
        let five = value(at, 5);
        let (digit, count) = if five <= 2 { (five, 5) } else { (value(at, 6) - 0x19 + 3, 6) };
        found.push(char::from(b'0' + digit));
        at += count;
    }
    found
}
