//! vegur_unchunked_SUITE: chunks of a backend to a client of HTTP/1.0, which knows none. The end of the connection is
//! the end of the body, so such a client cannot tell a body that was cut (RFC 9112 §8).

use crate::vegur_chunked::{BOUNDS_DATA, PAGE, all_splits, chunk};
use crate::wire::Wire;

const OLD: &str = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What reaches the client of chunks that come in pieces.
#[track_caller]
fn through(wire: &Wire, pieces: &[&str]) -> String {
    let (mut client, mut backend, _) = wire.asked(OLD);
    backend.send(HEAD);
    let head = client.head();
    assert_eq!((head.get("transfer-encoding"), head.get("connection")), (None, Some("close")));
    for piece in pieces {
        backend.try_send(piece);
        backend.pause();
    }
    backend.finish();
    client.rest()
}

#[test]
fn bad_length() {
    let wire = Wire::new();
    assert_eq!(through(&wire, &["3\r\nabc\r\n", "x\r\ndef\r\n0\r\n\r\n"]), "abc");
    assert_eq!(wire.line()["detail"], "bad chunk");
}

#[test]
fn html() {
    assert_eq!(through(&Wire::new(), &[&chunk(PAGE), "0\r\n\r\n"]), PAGE);
}

#[test]
fn short_msg() {
    let wire = Wire::new();
    assert_eq!(through(&wire, &["1\r\na\r\n0\r\n\r\n"]), "a");
    assert_eq!(through(&wire, &["0\r\n\r\n"]), "");
}

#[test]
fn stream() {
    let chunks: Vec<String> = (1..50).map(|length| chunk(&"s".repeat(length))).collect();
    let mut pieces: Vec<&str> = chunks.iter().map(String::as_str).collect();
    pieces.push("0\r\n\r\n");
    assert_eq!(through(&Wire::new(), &pieces), "s".repeat((1..50).sum()));
}

#[test]
fn boundary_chunk() {
    let wire = Wire::new();
    all_splits(2, |pieces| assert_eq!(through(&wire, pieces), BOUNDS_DATA, "{pieces:?}"));
}

#[test]
fn zero_crlf_end() {
    assert_eq!(through(&Wire::new(), &["3\r\nabc\r\n", "0\r\n", "\r\n"]), "abc");
}

#[test]
fn trailers() {
    assert_eq!(through(&Wire::new(), &["3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"]), "abc");
}

#[test]
fn bad_trailers() {
    let wire = Wire::new();
    assert_eq!(through(&wire, &["3\r\nabc\r\n0\r\nX-Sum: 1\r\n"]), "abc");
    assert_eq!(wire.line()["code"], "H18");
}
