//! Responses that are right, and what can be done to them.

use crate::Dice;
use crate::response::{self, Outcome, Stream};
use crate::shapes::placed;
use crate::spoil::{BYTES, CHUNKS};

/// What a backend does behind its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    Close,
    Keep,
    Reset,
}

/// What a backend says to one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) method: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
    /// Where it is cut into segments.
    pub(crate) cuts: Vec<usize>,
}

/// What must never reach a client as a response.
pub(crate) const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: 1\r\n\r\npoison";

const STATUS_LINES: [&[u8]; 34] = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200",
    b"HTTP/1.1 599 Odd",
    b"HTTP/1.1 666 Beast",
    b"HTTP/1.1 999 Odd",
    b"HTTP/1.1 099 Low",
    b"HTTP/1.1 20 Short",
    b"HTTP/1.1 2000 Long",
    b"HTTP/1.1 -20 Sign",
    b"HTTP/1.1 +20 Sign",
    b"HTTP/1.1 20x Letter",
    b"HTTP/1.1 200\tOK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1\t200 OK",
    b"HTTP/1.1 200 O\x00K",
    b"HTTP/1.1 200 O\x07K",
    b"HTTP/1.1 200 O\rK",
    b"HTTP/1.1 200 O\nK",
    b"HTTP/1.1 200 \xd6K",
    b"HTTP/1.1 OK 200",
    b"HTTP/1.1",
    b"HTTP/1.2 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/0.9 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.10 200 OK",
    b"HTTP 200 OK",
    b"ICY 200 OK",
    b" HTTP/1.1 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b"\nHTTP/1.1 200 OK",
    b"GET / HTTP/1.1",
    b"what is this?",
];

const FIELDS: [&[u8]; 48] = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\n chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: ,",
    b"Transfer-Encoding:",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 4",
    b"Content-Length: 500",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 0x5",
    b"Content-Length: 05",
    b"Content-Length: 5, 5",
    b"Content-Length: 5, 6",
    b"Content-Length: 5 5",
    b"Content-Length: 5\x00",
    b"Content-Length:",
    b"Content-Length : 5",
    b" Content-Length: 5",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: 18446744073709551621",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"X: y\nContent-Length: 2",
    b"X: y\rContent-Length: 2",
    b"X: y\r\n folded",
    b"X: y\x00z",
    b"X y: z",
    b": empty name",
    b"no colon",
    b"X\x80: 8-bit name",
    b"X: 8-bit \xff value",
    b"Connection: close, content-length",
    b"Upgrade: websocket\r\nConnection: upgrade",
];

/// Heads and bodies that are right, by name and method.
fn shapes() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>, &'static str)> {
    let head = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    let ok = "HTTP/1.1 200 OK";
    let (length, chunked) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    vec![
        ("length", "GET", head(&[ok, "Content-Type: text/plain", length]), "hello"),
        ("chunked", "GET", head(&[ok, chunked]), "5\r\nhello\r\n0\r\n\r\n"),
        ("to the end", "GET", head(&[ok, "Content-Type: text/plain"]), "hello"),
        ("head", "HEAD", head(&[ok, length]), ""),
        ("head without length", "HEAD", head(&[ok, "X: y"]), ""),
        ("no content", "GET", head(&["HTTP/1.1 204 No Content", "X: y"]), ""),
        ("not modified", "GET", head(&["HTTP/1.1 304 Not Modified", length]), ""),
        ("an error", "GET", head(&["HTTP/1.1 500 Oh", length]), "sorry"),
        ("old", "GET", head(&["HTTP/1.0 200 OK", length]), "hello"),
    ]
}

/// Responses that are shaken by chance.
const SHAKEN: usize = 250;

/// All of them, the same for the same dice.
pub(crate) fn all(dice: &mut Dice) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut shaking = dice.clone();
    let mut add = |name: String, method, bytes: Vec<u8>, then| {
        let bytes = placed(&bytes, answers.len());
        let cuts = match dice.roll(4) {
            0 if bytes.len() > 1 => vec![1 + dice.roll(bytes.len() - 1)],
            1 => (1..bytes.len().min(200)).collect(),
            _ => Vec::new(),
        };
        // A backend that waits in the middle of a response is a matter of deadlines.
        let cut = matches!(response::read(&bytes, method, Stream::Open), Outcome::Cut(_));
        let then = if cut && then == Then::Keep { Then::Close } else { then };
        answers.push(Answer { name, method, bytes, then, cuts });
    };
    for (shape, method, head, body) in shapes() {
        let then = if shape == "to the end" { Then::Close } else { Then::Keep };
        let mut one = |what: &str, head: &[Vec<u8>], body: &[u8], then| {
            let bytes = [head.join(&b"\r\n"[..]), b"\r\n\r\n".to_vec(), body.to_vec()].concat();
            add(format!("{shape}: {what}"), method, bytes, then);
        };
        let body = body.as_bytes();
        one("right", &head, body, then);
        for line in STATUS_LINES {
            let mut head = head.clone();
            head[0] = line.to_vec();
            one(&line.escape_ascii().to_string(), &head, body, then);
        }
        for field in FIELDS {
            let what = field.escape_ascii().to_string();
            let more = [&head[..], &[field.to_vec()]].concat();
            one(&format!("with {what}"), &more, body, then);
            // In the place of what frames it.
            let mut other = head.clone();
            *other.last_mut().unwrap() = field.to_vec();
            one(&format!("for {what}"), &other, body, Then::Close);
        }
        let poisoned = [body, POISON.as_bytes()].concat();
        one("poison behind", &head, &poisoned, then);
        one("a line end behind", &head, &[body, b"\r\n"].concat(), then);
        one("closed behind", &head, body, Then::Close);
        one("reset behind", &head, body, Then::Reset);
        for interim in
            ["100 Continue", "103 Early Hints\r\nLink: </x>", "101 Switching Protocols", "199 Odd"]
        {
            let first = format!("HTTP/1.1 {interim}\r\n\r\n").into_bytes();
            let begun = [&first[..], &head[0]].concat();
            let other = [&[begun], &head[1..]].concat();
            one(&format!("{interim} before"), &other, body, then);
        }
        let many: Vec<Vec<u8>> =
            (0..500).map(|number| format!("X-{number}: y").into_bytes()).collect();
        one("many fields", &[&head[..], &many].concat(), body, then);
        let long = [&b"X: "[..], &[b'y'; 600_000]].concat();
        one("a long field", &[&head[..], &[long]].concat(), body, then);
        if shape == "chunked" {
            for chunks in CHUNKS {
                one(&chunks.escape_ascii().to_string(), &head, chunks, then);
                let closed = [chunks, POISON.as_bytes()].concat();
                one(&format!("{} and poison", chunks.escape_ascii()), &head, &closed, Then::Close);
            }
        }
        let whole = [head.join(&b"\r\n"[..]), b"\r\n\r\n".to_vec(), body.to_vec()].concat();
        for end in (0..whole.len()).step_by(4) {
            let then = if end % 8 == 0 { Then::Reset } else { Then::Close };
            add(format!("{shape}: cut at {end}"), method, whole[..end].to_vec(), then);
        }
    }
    for _ in 0..SHAKEN {
        let shapes = shapes();
        let (shape, method, head, body) = &shapes[shaking.roll(shapes.len())];
        let mut bytes = [&head.join(&b"\r\n"[..]), &b"\r\n\r\n"[..], body.as_bytes()].concat();
        let (at, byte) = (shaking.roll(bytes.len()), BYTES[shaking.roll(BYTES.len())]);
        match shaking.roll(3) {
            0 => bytes.insert(at, byte),
            1 => bytes[at] = byte,
            _ => drop(bytes.remove(at)),
        }
        add(format!("{shape}, shaken"), method, bytes, Then::Close);
    }
    answers
}
