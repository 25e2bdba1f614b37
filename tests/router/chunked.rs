//! Group `chunked` of vegur_roundtrip_SUITE: chunks both ways, whole, broken and cut.

use crate::wire::{Side, Wire};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// A client and a backend, and a chunked request whose head the backend has.
fn uploading(wire: &Wire) -> (Side, Side) {
    let (client, backend, head) = wire.asked(POST);
    assert_eq!(
        (head.all("transfer-encoding"), head.get("content-length")),
        (vec!["chunked"], None)
    );
    (client, backend)
}

/// The request is none: the client hears so, and the backend sees no end of it.
#[track_caller]
fn bad_upload(chunks: &str) {
    let wire = Wire::new();
    let mut client = wire.client();
    client.send(POST).send(chunks);
    client.head().fails(400, "H26");
    client.rest();
    // It may be refused before any backend is asked.
    wire.edge.counts("homing_client_connections", 0.0);
    if let Some(mut backend) = wire.try_backend() {
        assert!(!backend.rest().ends_with("0\r\n\r\n"), "a clean end of a broken body");
    }
}

/// The response began; then the client is cut, without a clean end, and the backend is left.
#[track_caller]
fn bad_download(chunks: &str, passed: &str) {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    assert_eq!(client.head().status(), 200);
    backend.send(chunks);
    let rest = client.rest();
    assert!(!rest.contains("0\r\n\r\n"), "a clean end: {rest:?}");
    assert!(!rest.contains("502"), "no page in a body: {rest:?}");
    assert!(passed.starts_with(&data(&rest)), "{rest:?}");
    assert_eq!(backend.rest(), "");
}

/// What chunks carry, as far as they are whole.
fn data(chunks: &str) -> String {
    let mut words = chunks.split("\r\n");
    let mut data = String::new();
    while let (Some(_), Some(word)) = (words.next(), words.next()) {
        data.push_str(word);
    }
    data
}

#[test]
fn passthrough() {
    let wire = Wire::new();
    let (mut client, mut backend) = uploading(&wire);
    client.send("5\r\nhello\r\n");
    backend.expect("5\r\nhello\r\n");
    client.send("6\r\n world\r\n0\r\n\r\n");
    assert_eq!(backend.chunks(), b" world");
    backend.send(HEAD).send("3\r\nabc\r\n");
    assert_eq!(client.head().all("transfer-encoding"), ["chunked"]);
    client.expect("3\r\nabc\r\n");
    backend.send("a;name=value\r\n0123456789\r\n0\r\n\r\n");
    client.expect("A\r\n0123456789\r\n0\r\n\r\n").silent();
}

#[test]
fn passthrough_short_crlf() {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    client.head();
    backend.send("3\r\nabc\r\n0\r\n");
    client.expect("3\r\nabc\r\n").silent();
    backend.send("\r\n");
    client.expect("0\r\n\r\n").silent();
}

#[test]
fn passthrough_early_0length() {
    bad_upload("0\r\n5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn passthrough_partial_early_0length1() {
    bad_upload("5\r\nhello\r\n0\r\n5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn passthrough_partial_early_0length2() {
    let wire = Wire::new();
    let (mut client, mut backend) = uploading(&wire);
    client.send("5\r\nhello\r\n");
    backend.expect("5\r\nhello\r\n");
    client.send("0\r\n5\r\nhello\r\n0\r\n\r\n");
    client.head().fails(400, "H26");
    assert!(!backend.rest().contains("0\r\n\r\n"), "a clean end of a broken body");
}

#[test]
fn passthrough_partial_early_0length3() {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    client.head();
    backend.send("3\r\nabc\r\n0\r\n5\r\nhello\r\n0\r\n\r\n");
    // What follows the last chunk are trailers to Pingora, and no trailer passes. The body is whole.
    client.expect("3\r\nabc\r\n0\r\n\r\n").silent();
}

#[test]
fn interrupted_client() {
    let wire = Wire::new();
    let (mut client, mut backend) = uploading(&wire);
    client.send("5\r\nhel");
    drop(client);
    assert!(!backend.rest().contains("0\r\n\r\n"), "a clean end of a broken body");
    let series =
        "homing_http_requests_total{app=\"shop\",status=\"499\",failure=\"client_interrupted\"}";
    wire.edge.counts(series, 1.0);
}

#[test]
fn interrupted_server() {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    client.head();
    backend.send("5\r\nhel");
    drop(backend);
    assert!(!client.rest().contains("0\r\n\r\n"), "a clean end of a broken body");
}

#[test]
fn bad_chunk() {
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc",
        "10000000000000003\r\nabc",
        "\r\nabc\r\n0\r\n\r\n",
        ";\r\n\r\n",
    ] {
        bad_download(&format!("1\r\nx\r\n{chunks}"), "xabc");
    }
}

#[test]
fn trailers() {
    let (mut client, mut backend) = Wire::new().answered(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(client.head().get("trailer"), None);
    client.expect("3\r\nabc\r\n0\r\n\r\n").silent();
    backend.silent();
}

#[test]
fn trailers_close() {
    let (mut client, mut backend) = Wire::new().answered(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    client.head();
    client.expect("3\r\nabc\r\n0\r\n\r\n").silent();
    backend.closed();
}

#[test]
fn trailers_no_header() {
    let wire = Wire::new();
    let (mut client, mut backend) = uploading(&wire);
    client.send("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    backend.expect("3\r\nabc\r\n0\r\n\r\n");
    backend.send(HEAD).send("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    client.head();
    client.expect("3\r\nabc\r\n0\r\n\r\n").silent();
}

#[test]
fn trailers_client_err() {
    bad_upload("3\r\nabc\r\n0\r\nno trailer\r\n\r\n");
}

#[test]
fn trailers_serv_err() {
    let (mut client, mut backend) = Wire::new().answered(HEAD);
    client.head();
    backend.send("3\r\nabc\r\n0\r\nX-Sum: 1\r\n").finish();
    assert!(!client.rest().contains("0\r\n\r\n"), "a clean end of a broken body");
}
