//! vegur_chunked_SUITE: chunks of a backend, in any pieces, to a client that takes chunks.

use crate::wire::{Read, Wire};

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends `pieces` one by one, then ends the connection of the backend.
#[track_caller]
fn through(pieces: &[&str]) -> Read {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    client.head();
    for piece in pieces {
        // A broken one may end the connection before the last.
        backend.try_send(piece);
    }
    backend.finish();
    client.finish_reading()
}

#[track_caller]
pub(crate) fn whole(came: Read, expected: &str) {
    assert_eq!(came, Read::Whole(expected.into()));
}

#[track_caller]
pub(crate) fn cut(came: &Read) {
    assert!(matches!(came, Read::Cut(_)), "{came:?}");
}

#[test]
fn bad_length() {
    for chunks in ["9\r\nabc\r\n0\r\n\r\n", "x\r\nabc\r\n0\r\n\r\n", "2\r\nabc\r\n0\r\n\r\n"] {
        cut(&through(&[chunks]));
    }
}

pub(crate) const PAGE: &str = "<!DOCTYPE html>\n<title>a</title>\r\n<p>0\r\n\r\n</p>\n";

/// One chunk.
pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[test]
fn html() {
    whole(through(&[&chunk(PAGE), "0\r\n\r\n"]), PAGE);
}

#[test]
fn short_msg() {
    whole(through(&["1\r\na\r\n0\r\n\r\n"]), "a");
    whole(through(&["0\r\n\r\n"]), "");
}

#[test]
fn stream() {
    let chunks: Vec<String> = (1..50).map(|length| chunk(&"s".repeat(length))).collect();
    let mut pieces: Vec<&str> = chunks.iter().map(String::as_str).collect();
    pieces.push("0\r\n\r\n");
    whole(through(&pieces), &"s".repeat((1..50).sum()));
}

#[test]
fn trailers() {
    whole(through(&["3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"]), "abc");
}

#[test]
fn bad_trailers() {
    // Trailers are not read, only left out: bad is what never ends, or has a bare CR or LF at its end.
    cut(&through(&["3\r\nabc\r\n0\r\nX-Sum: 1\r\n"]));
    cut(&through(&["3\r\nabc\r\n0\r\n", &format!("X-Sum: {}\r\n\r\n", "1".repeat(1 << 17))]));
}

#[test]
fn zero_crlf_end() {
    whole(through(&["3\r\nabc\r\n", "0\r\n", "\r\n"]), "abc");
    cut(&through(&["3\r\nabc\r\n", "0\r\n"]));
}

#[test]
fn boundary_chunk() {
    whole(through(&["3\r\nabc", "\r\n0\r\n\r\n"]), "abc");
    whole(through(&["3\r\nabc\r", "\n0\r\n\r\n"]), "abc");
    whole(through(&["3", "\r\nabc\r\n0\r\n\r\n"]), "abc");
}

#[test]
fn zero_chunk_in_middle() {
    // What follows counts as trailers, up to the next empty line.
    whole(through(&["3\r\nabc\r\n0\r\n3\r\ndef\r\n0\r\n\r\n"]), "abc");
}

#[test]
fn bad_next_chunk() {
    cut(&through(&["3\r\nabc\r\nnext\r\n0\r\n\r\n"]));
}

#[test]
fn embedded_cr() {
    whole(through(&["5\r\na\rb\r\n\r\n0\r\n\r\n"]), "a\rb\r\n");
    cut(&through(&["3\r\rabc\r\n0\r\n\r\n"]));
    cut(&through(&["3\r\nabc\r\r0\r\n\r\n"]));
}

pub(crate) const BOUNDS: &str = "5;x=y\r\na\r\n0\r\r\na\r\n0123456789\r\n0\r\nX: 1\r\n\r\n";
pub(crate) const BOUNDS_DATA: &str = "a\r\n0\r0123456789";

/// Every split into two and three parts, each on a connection of its own, sent as three writes.
#[track_caller]
pub(crate) fn all_splits(parts: usize, mut check: impl FnMut(&[&str])) {
    for first in 1..BOUNDS.len() - 1 {
        let (begin, rest) = BOUNDS.split_at(first);
        if parts == 2 {
            check(&[begin, rest]);
            continue;
        }
        // The second cut a few bytes later, and near the end: all pairs would be a thousand connections.
        for second in [1, 2, 3, rest.len() - 1].into_iter().filter(|at| *at < rest.len()) {
            let (middle, end) = rest.split_at(second);
            check(&[begin, middle, end]);
        }
    }
}

/// The same message in pieces, over one edge.
#[track_caller]
fn bounds(parts: usize) {
    let wire = Wire::new();
    all_splits(parts, |pieces| {
        let (mut client, mut backend) = wire.answered(HEAD);
        client.head();
        for piece in pieces {
            backend.send(piece).pause();
        }
        assert_eq!(client.chunks(), BOUNDS_DATA.as_bytes(), "{pieces:?}");
    });
}

#[test]
fn all_bounds_1() {
    bounds(2);
}

#[test]
fn all_bounds_2() {
    bounds(3);
}
