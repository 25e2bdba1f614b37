//! What can be done to a request: to its line, to its fields, to its chunks, to any byte.

use crate::Dice;
use crate::shapes::Parts;

/// Field lines that are added behind the others, one at a time.
pub(crate) const FIELDS: [&[u8]; 104] = [
    // Transfer-Encoding, hidden or not.
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding:\x00chunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding\x00: chunked",
    b"\x00Transfer-Encoding: chunked",
    b"\x0bTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\n chunked",
    b"Transfer-Encoding\r\n : chunked",
    b"Transfer-Encoding:\rchunked",
    b"Transfer-\rEncoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\n\rTransfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\r\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: cow",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: chunk\xe9d",
    b"Transfer-Encoding: chun\xc4\xb1ed",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"TransferEncoding: chunked",
    b"Transfer-Encoding chunked",
    b"Transfer-Encoding",
    b"Foo: bar\r\n\tbaz",
    // Content-Length.
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 6",
    b"Content-Length: 99999",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: -0",
    b"Content-Length: 05",
    b"Content-Length: 5, 5",
    b"Content-Length: 5, 6",
    b"Content-Length: 5,",
    b"Content-Length: 5 5",
    b"Content-Length: 5\x00",
    b"Content-Length: 0x5",
    b"Content-Length: 5.0",
    b"Content-Length: 5e0",
    b"Content-Length: \xd9\xa5",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: 18446744073709551621",
    b"Content-Length: 9223372036854775813",
    b"Content-Length: 00000000000000000000000000000000000005",
    b"Content-Length:",
    b"Content-Length: \t",
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b" Content-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 0",
    b"Content-Length:\r\n 5",
    b"Content-Length: 5\r\n 0",
    b"Content_Length: 5",
    // Host.
    b"Host: shop.example.com",
    b"Host: other.example.com",
    b"host:",
    b"Host : other.example.com",
    b" Host: other.example.com",
    b"X: y\nHost: other.example.com",
    b"X-Forwarded-Host: other.example.com",
    // Connection, Upgrade, Expect.
    b"Connection: close",
    b"Connection: content-length",
    b"Connection: transfer-encoding",
    b"Connection: host",
    b"Connection: close, x-forwarded-for, via",
    b"Connection: keep-alive, x-request-id, cookie",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: 200-maybe",
    // What is none, or strange and right.
    b": empty name",
    b"X\x80: 8-bit name",
    b"X: 8-bit \xff value",
];

/// `Host` in the place of the right one.
pub(crate) const HOSTS: [&[u8]; 24] = [
    b"X-No: host",
    b"Host:",
    b"Host: ",
    b"Host: shop.example.com:80",
    b"Host: shop.example.com:",
    b"Host: shop.example.com:http",
    b"Host: shop.example.com:80:80",
    b"Host: shop.example.com:-1",
    b"Host: shop.example.com:99999",
    b"Host: SHOP.example.com",
    b"Host: shop.example.com.",
    b"Host: shop.example.com, other.example.com",
    b"Host: shop.example.com other.example.com",
    b"Host: shop.example.com/path",
    b"Host: user@shop.example.com",
    b"Host: http://shop.example.com",
    b"Host: shop.example.com\x00",
    b"Host: shop.example.com#x",
    b"Host: shop.example.com?x",
    b"Host: shop\\example.com",
    b"Host: [::1]:80",
    b"Host: [::1",
    b"Host: sh\xc3\xb6p.example.com",
    b"Host: %73hop.example.com",
];

/// Request lines, made of the right one.
pub(crate) const LINES: [(&str, Spoil); 58] = [
    ("a space in front", |line| [b" ", line].concat()),
    ("a tab in front", |line| [b"\t", line].concat()),
    ("a line end in front", |line| [b"\r\n", line].concat()),
    ("two line ends in front", |line| [b"\r\n\r\n", line].concat()),
    ("LF in front", |line| [b"\n", line].concat()),
    ("CR in front", |line| [b"\r", line].concat()),
    ("NUL in front", |line| [b"\0", line].concat()),
    ("a byte order mark", |line| [b"\xef\xbb\xbf", line].concat()),
    ("a space behind", |line| [line, b" "].concat()),
    ("a tab behind", |line| [line, b"\t"].concat()),
    ("CR behind", |line| [line, b"\r"].concat()),
    ("LF behind", |line| [line, b"\n"].concat()),
    ("NUL behind", |line| [line, b"\0"].concat()),
    ("a fourth word", |line| [line, b" more"].concat()),
    ("two spaces", |line| replace(line, b" ", b"  ")),
    ("tabs", |line| replace(line, b" ", b"\t")),
    ("vertical tabs", |line| replace(line, b" ", b"\x0b")),
    ("form feeds", |line| replace(line, b" ", b"\x0c")),
    ("CR for spaces", |line| replace(line, b" ", b"\r")),
    ("no-break spaces", |line| replace(line, b" ", b"\xa0")),
    ("no version", |line| word(line, 2, |_| Vec::new())),
    ("HTTP/0.9 in short", |line| {
        line.splitn(3, |b| *b == b' ').take(2).collect::<Vec<_>>().join(&b' ')
    }),
    ("HTTP/0.9", |line| word(line, 2, |_| b"HTTP/0.9".into())),
    ("HTTP/1.2", |line| word(line, 2, |_| b"HTTP/1.2".into())),
    ("HTTP/2.0", |line| word(line, 2, |_| b"HTTP/2.0".into())),
    ("HTTP/2", |line| word(line, 2, |_| b"HTTP/2".into())),
    ("HTTP/1.10", |line| word(line, 2, |_| b"HTTP/1.10".into())),
    ("HTTP/01.1", |line| word(line, 2, |_| b"HTTP/01.1".into())),
    ("HTTP/1", |line| word(line, 2, |_| b"HTTP/1".into())),
    ("HTTP/1.", |line| word(line, 2, |_| b"HTTP/1.".into())),
    ("http/1.1", |line| word(line, 2, |_| b"http/1.1".into())),
    ("HTTP /1.1", |line| word(line, 2, |_| b"HTTP /1.1".into())),
    ("HTTPS/1.1", |line| word(line, 2, |_| b"HTTPS/1.1".into())),
    ("ICY/1.1", |line| word(line, 2, |_| b"ICY/1.1".into())),
    ("HTTP/1.1x", |line| [line, b"x"].concat()),
    ("a lower case method", |line| word(line, 0, |method| method.to_ascii_lowercase())),
    ("a method of our own", |line| word(line, 0, |_| b"BREW".into())),
    ("a method of odd characters", |line| word(line, 0, |_| b"M!#$%&'*+-.^_`|~1".into())),
    ("no method", |line| word(line, 0, |_| Vec::new())),
    ("a method with a colon", |line| word(line, 0, |_| b"GE:T".into())),
    ("a method with NUL", |line| word(line, 0, |_| b"GE\0T".into())),
    ("a method with 8 bits", |line| word(line, 0, |_| b"G\xc9T".into())),
    ("CONNECT", |line| word(line, 0, |_| b"CONNECT".into())),
    ("CONNECT with an authority", |_| b"CONNECT shop.example.com:80 HTTP/1.1".into()),
    ("PRI", |_| b"PRI * HTTP/2.0".into()),
    ("a space in the target", |line| word(line, 1, |target| [target, b" x"].concat())),
    ("a request in the target", |line| {
        word(line, 1, |t| [t, b" HTTP/1.1\r\nX: y\r\n\r\nGET /evil"].concat())
    }),
    ("LF in the target", |line| word(line, 1, |target| [target, b"\nx"].concat())),
    ("CR in the target", |line| word(line, 1, |target| [target, b"\rx"].concat())),
    ("NUL in the target", |line| word(line, 1, |target| [target, b"\0x"].concat())),
    ("a tab in the target", |line| word(line, 1, |target| [target, b"\tx"].concat())),
    ("8 bits in the target", |line| word(line, 1, |target| [target, b"/\xc3\xa9"].concat())),
    ("a fragment", |line| word(line, 1, |target| [target, b"#x"].concat())),
    ("a percent-encoded line end", |line| {
        word(line, 1, |target| [target, b"%0d%0aX:%20y"].concat())
    }),
    ("a bad percent sign", |line| word(line, 1, |target| [target, b"%zz"].concat())),
    ("a backslash", |line| word(line, 1, |target| [target, b"\\x"].concat())),
    ("dots", |line| word(line, 1, |target| [target, b"/../%2e%2e/./x"].concat())),
    ("a long target", |line| word(line, 1, |target| [target, &[b'x'; 20_000]].concat())),
];

/// Targets in the place of the right one.
pub(crate) const TARGETS: [&str; 26] = [
    "",
    "*",
    "/",
    "//",
    "//other.example.com/",
    "/{pat}?",
    "/{pat}??a=/b",
    "/{pat};a=b",
    "/{pat}/http://other.example.com/",
    "{pat}",
    "?q={pat}",
    "shop.example.com",
    "shop.example.com:80",
    "shop.example.com/{pat}",
    "http://shop.example.com",
    "http://shop.example.com/{pat}/x?y",
    "HTTP://shop.example.com/{pat}",
    "http://SHOP.example.com/{pat}",
    "http://shop.example.com:80/{pat}",
    "http://other.example.com/{pat}",
    "http://shop.example.com@other.example.com/{pat}",
    "http://shop.example.com?q={pat}",
    "http:///{pat}",
    "http:/{pat}",
    "ftp://shop.example.com/{pat}",
    "https://shop.example.com/{pat}",
];

/// Chunked bodies in the place of the right one, with and without what makes them wrong.
pub(crate) const CHUNKS: [&[u8]; 72] = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n00\r\n\r\n",
    b"5\r\nhello\r\n0000000000000000\r\n\r\n",
    b"5\r\nhello\r\n00000000000000000\r\n\r\n",
    b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    b"A\r\nhellohello\r\n0\r\n\r\n",
    b"a\r\nhellohello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5h\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"\t5\r\nhello\r\n0\r\n\r\n",
    b"5\t\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"5.0\r\nhello\r\n0\r\n\r\n",
    b"5\0\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"g\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"100000005\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffe\r\nhello\r\n0\r\n\r\n",
    b"8000000000000000\r\nhello\r\n0\r\n\r\n",
    b"7fffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\nhello\n0\n\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\r\n0\r\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloo\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello\r\n0",
    b"5\r\nhello\r\n",
    b"5\r\nhel",
    b"5\r\nhello\r\n0\r\nGET /{pat}/hidden HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\nGET /{pat}/behind HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\nX",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;a\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n",
    b"5;a=\"b c\"\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\\\"c\"\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\r\n\"\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\n\"\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b\r\"\r\nhello\r\n0\r\n\r\n",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5;a=\0\r\nhello\r\n0\r\n\r\n",
    b"5 ;a=b\r\nhello\r\n0\r\n\r\n",
    b"5; a=b\r\nhello\r\n0\r\n\r\n",
    b"5;;a\r\nhello\r\n0\r\n\r\n",
    b"5;a=\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n0\r\nHost: other.example.com\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\nZ: z\r\n\r\n",
];

/// Makes other bytes of a request line.
pub(crate) type Spoil = fn(&[u8]) -> Vec<u8>;

fn replace(line: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    line.split(|byte| [*byte] == from).collect::<Vec<_>>().join(to)
}

/// Makes another word of the one with this number.
fn word(line: &[u8], number: usize, make: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let words = line.splitn(3, |byte| *byte == b' ').enumerate();
    let made = words.map(|(own, word)| if own == number { make(word) } else { word.to_vec() });
    made.collect::<Vec<_>>().join(&b' ')
}

/// What chance puts into a request.
pub(crate) const BYTES: &[u8] =
    b"\0\t\n\x0b\x0c\r \x1f!\"#%'(),-/0159:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\xa0\xff";

/// Bytes of a whole request, one or two of them changed, doubled, dropped or exchanged by chance.
pub(crate) fn shake(parts: &Parts, number: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = parts.render(number);
    for _ in 0..=dice.roll(2) {
        let at = dice.roll(bytes.len());
        let byte = BYTES[dice.roll(BYTES.len())];
        match dice.roll(5) {
            0 => bytes.insert(at, byte),
            1 => bytes[at] = byte,
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, bytes[at]),
            _ => {
                let end = bytes.len().min(at + 1 + dice.roll(12));
                let piece = bytes[at..end].to_vec();
                let place = dice.roll(bytes.len());
                bytes.splice(place..place, piece);
            }
        }
    }
    bytes
}
