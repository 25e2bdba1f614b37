//! Group `body_less` of vegur_roundtrip_SUITE: nobody waits for a body that cannot come.

use crate::wire::{Came, GET, Wire};

const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const NEXT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

/// A request, and a response without a body. Then the client asks again on its connection, unless it closes it.
struct Case {
    request: &'static str,
    response: &'static str,
    /// A field, and what the client gets of it.
    field: (&'static str, Option<&'static str>),
    /// Whether the connection of the backend may be used again.
    backend_stays: bool,
}

impl Case {
    #[track_caller]
    fn keeps_the_client(self) {
        let wire = Wire::new();
        let (mut client, mut backend, _) = wire.asked(self.request);
        backend.send(self.response);
        let head = client.head();
        assert_eq!(head.get(self.field.0), self.field.1, "{head:?}");
        assert_eq!(head.get("connection"), Some("keep-alive"));
        client.silent();
        client.send(GET);
        let (mut next, came) = wire.next(backend);
        assert!(self.backend_stays || came == Came::Anew);
        next.head();
        next.send(NEXT);
        assert_eq!(client.head().status(), 200);
        client.expect("next");
    }

    #[track_caller]
    fn closes_the_client(self) {
        let wire = Wire::new();
        let (mut client, mut backend, _) = wire.asked(self.request);
        backend.send(self.response);
        let head = client.head();
        assert_eq!(head.get(self.field.0), self.field.1, "{head:?}");
        assert_eq!(head.get("connection"), Some("close"));
        client.closed();
    }
}

const CHUNKED: (&str, Option<&str>) = ("transfer-encoding", Some("chunked"));
const NO_LENGTH: (&str, Option<&str>) = ("content-length", None);
const NO_CHUNKS: (&str, Option<&str>) = ("transfer-encoding", None);

#[test]
fn head_small_body_expect() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let field = ("content-length", Some("10"));
    Case { request: HEAD, response, field, backend_stays: true }.keeps_the_client();
}

#[test]
fn head_large_body_expect() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    let field = ("content-length", Some("1000000000"));
    Case { request: HEAD, response, field, backend_stays: true }.keeps_the_client();
}

#[test]
fn head_no_body_expect() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let field = ("content-length", Some("0"));
    Case { request: HEAD, response, field, backend_stays: true }.keeps_the_client();
}

#[test]
fn head_chunked_expect() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    Case { request: HEAD, response, field: CHUNKED, backend_stays: true }.keeps_the_client();
}

#[test]
fn head_close_expect() {
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    Case { request: HEAD, response, field: NO_LENGTH, backend_stays: false }.keeps_the_client();
}

#[test]
fn head_close_expect_client() {
    let request = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    Case { request, response, field: NO_LENGTH, backend_stays: false }.closes_the_client();
}

#[test]
fn status_204() {
    let response = "HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n";
    Case { request: GET, response, field: NO_LENGTH, backend_stays: true }.keeps_the_client();
}

#[test]
fn status_304() {
    let response = "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n";
    let field = ("content-length", Some("10"));
    Case { request: GET, response, field, backend_stays: true }.keeps_the_client();
}

#[test]
fn status_chunked_204() {
    let response = "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n";
    Case { request: GET, response, field: NO_CHUNKS, backend_stays: true }.keeps_the_client();
}

#[test]
fn status_close_304() {
    let response = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
    Case { request: GET, response, field: NO_LENGTH, backend_stays: false }.keeps_the_client();
}

#[test]
fn status_close_304_client() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
    Case { request, response, field: NO_LENGTH, backend_stays: false }.closes_the_client();
}

#[test]
fn valid_status_204() {
    let response = "HTTP/1.1 204 No Content\r\n\r\n";
    Case { request: GET, response, field: NO_LENGTH, backend_stays: true }.keeps_the_client();
}

#[test]
fn valid_status_304() {
    let response = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n";
    let field = ("etag", Some("\"1\""));
    Case { request: GET, response, field, backend_stays: true }.keeps_the_client();
}

#[test]
fn valid_head() {
    let response = "HTTP/1.1 200 OK\r\n\r\n";
    Case { request: HEAD, response, field: NO_CHUNKS, backend_stays: true }.keeps_the_client();
}

#[test]
fn bad_transfer_encoding() {
    let wire = Wire::new();
    let mut client = wire.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,\r\n\r\n");
    let status = client.head().status();
    assert!([400, 501].contains(&status), "{status}");
    wire.no_backend();
}
