//! The bytes of requests and messages.

use std::io::Write;

use super::spec::{Client, Exchange, Life};

/// Payload of a message, before it is masked.
const FILLER: u8 = b'x';

/// Masks a client's frames (RFC 6455 section 5.3); any value will do here.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Appends the whole request of `client`, or the one that opens its WebSocket.
pub(crate) fn write_request(out: &mut Vec<u8>, exchange: &Exchange, life: Life, client: &Client) {
    let (method, path) = match exchange {
        Exchange::Get { path } | Exchange::Echo { path, .. } => ("GET", path),
        Exchange::Post { path, .. } => ("POST", path),
    };
    let fields: [&[&str]; 3] = [
        &[method, " ", path, " HTTP/1.1\r\nHost: ", &client.host, "\r\n"],
        &client.cookie.as_deref().map_or([""; 3], |cookie| ["Cookie: ", cookie, "\r\n"]),
        match (exchange, life) {
            (Exchange::Echo { .. }, _) => &[
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ],
            (_, Life::Single) => &["Connection: close\r\n"],
            (_, Life::Kept | Life::Idle) => &[],
        },
    ];
    for piece in fields.into_iter().flatten() {
        out.extend_from_slice(piece.as_bytes());
    }
    if let Exchange::Post { bytes, .. } = exchange {
        // Writing to memory cannot fail.
        let _ = write!(out, "Content-Length: {bytes}\r\n\r\n");
        out.resize(out.len() + bytes, FILLER);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one masked binary frame of `bytes`, at most 125.
pub(crate) fn write_message(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(&[0x82, 0x80 | bytes as u8]);
    out.extend_from_slice(&MASK);
    out.extend((0..bytes).map(|index| FILLER ^ MASK[index % MASK.len()]));
}

/// Length of the frame that comes back, which is not masked.
pub(crate) fn echo_len(bytes: usize) -> usize {
    bytes + 2
}
