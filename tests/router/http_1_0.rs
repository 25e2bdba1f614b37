//! Group `http_1_0` of vegur_roundtrip_SUITE.

use crate::wire::Wire;

const OLD: &str = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
const BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn advertise_1_1() {
    let wire = Wire::new();
    let (mut client, mut backend, asked) = wire.asked(OLD);
    assert_eq!(asked.line, "GET / HTTP/1.1");
    backend.send(BODY);
    assert_eq!(client.head().line, "HTTP/1.1 200 OK");
}

#[test]
fn conn_close_default() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(OLD);
    backend.send(BODY);
    assert_eq!(client.head().get("connection"), Some("close"));
    client.expect("hi").closed();
}

#[test]
fn conn_keepalive_opt() {
    let wire = Wire::new();
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let (mut client, mut backend, _) = wire.asked(request);
    backend.send(BODY);
    assert_eq!(client.head().get("connection"), Some("keep-alive"));
    client.expect("hi").silent();
    client.send(request);
    let (mut next, _) = wire.next(backend);
    next.head();
    next.send(BODY);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn chunked_to_1_0() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(OLD);
    backend.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n4\r\n you\r\n0\r\n\r\n",
    );
    let head = client.head();
    assert_eq!((head.get("transfer-encoding"), head.get("connection")), (None, Some("close")));
    assert_eq!(client.rest(), "hi you");
}
