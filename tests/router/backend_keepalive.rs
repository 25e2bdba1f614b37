//! Group `backend_keepalive` of vegur_roundtrip_SUITE: connections to backends are kept, unless what came on
//! them forbids it. Names: the option, the client, the backend.

use std::thread;

use crate::backend_close::{Ends, check};
use crate::wire::{Came, GET, Side, Wire};

const BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The client asks on: requests come on a connection that was there before.
#[track_caller]
fn asks_again(wire: &Wire, client: &mut Side, mut backend: Side) {
    for _ in 0..50 {
        client.send(GET);
        let (mut next, came) = wire.next(backend);
        next.head();
        next.send(BODY);
        assert_eq!(client.head().status(), 200);
        client.expect("hi");
        if came == Came::Again {
            return;
        }
        backend = next;
    }
    panic!("no connection is used twice");
}

/// The connection to the backend is closed, and the next request comes on another one.
#[track_caller]
fn asks_elsewhere(wire: &Wire, client: &mut Side, backend: &mut Side) {
    backend.closed();
    client.send(GET);
    let mut next = wire.backend();
    next.head();
    next.send(BODY);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn keepalive_close_close() {
    check("close", "close", Ends::Closed, Ends::Closed);
}

#[test]
fn keepalive_keepalive_keepalive() {
    check("keep-alive", "keep-alive", Ends::Kept, Ends::Kept);
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send(BODY);
    client.head();
    client.expect("hi").silent();
    asks_again(&wire, &mut client, backend);
}

#[test]
fn keepalive_default_default() {
    check("", "", Ends::Kept, Ends::Kept);
}

#[test]
fn keepalive_close_keepalive() {
    check("close", "keep-alive", Ends::Closed, Ends::Kept);
}

#[test]
fn keepalive_keepalive_close() {
    check("keep-alive", "close", Ends::Kept, Ends::Closed);
}

#[test]
fn keepalive_reset() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send(BODY);
    client.head();
    client.expect("hi").silent();
    // A kept connection that the backend closes is none, and no client hears of it.
    drop(backend);
    client.send(GET);
    let mut next = wire.backend();
    next.head();
    next.send(BODY);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn keepalive_http_1_0() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    client.head();
    client.expect("hi");
    asks_elsewhere(&wire, &mut client, &mut backend);
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi");
    client.head();
    client.expect("hi").silent();
    asks_again(&wire, &mut client, backend);
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn keepalive_upgrade_close_server() {
    let (mut client, mut backend, _) = Wire::new().asked(UPGRADE);
    backend.send(SWITCH).send("raw");
    assert_eq!(client.head().status(), 101);
    client.expect("raw").send("bytes");
    backend.expect("bytes");
    drop(backend);
    client.closed();
}

#[test]
fn keepalive_upgrade_close_client() {
    let (mut client, mut backend, _) = Wire::new().asked(UPGRADE);
    backend.send(SWITCH);
    assert_eq!(client.head().status(), 101);
    client.send("bytes");
    backend.expect("bytes");
    drop(client);
    backend.closed();
}

#[test]
fn keepalive_chunked() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    client.head();
    client.expect("2\r\nhi\r\n0\r\n\r\n").silent();
    asks_again(&wire, &mut client, backend);
}

#[test]
fn keepalive_close_delimited() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    backend.send("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhi").finish();
    client.head();
    assert_eq!(client.chunks(), b"hi");
    asks_elsewhere(&wire, &mut client, &mut backend);
}

#[test]
fn keepalive_large_body() {
    const LARGE: usize = 4 << 20;
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    let writer = thread::spawn(move || {
        backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        backend.send("b".repeat(LARGE));
        backend
    });
    client.head();
    client.body(LARGE);
    client.silent();
    asks_again(&wire, &mut client, writer.join().unwrap());
}

/// What a backend sends beyond the end of a response begins no other one.
#[test]
fn keepalive_extra_bytes() {
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
    ] {
        let wire = Wire::new();
        let (mut client, mut backend, _) = wire.asked(GET);
        backend.send(format!("{response}{extra}"));
        let head = client.head();
        match (head.status(), head.get("content-length")) {
            (200, None) => assert_eq!(client.chunks(), b"hi"),
            (200, Some("2")) => drop(client.expect("hi")),
            _ => {}
        }
        asks_elsewhere(&wire, &mut client, &mut backend);
        client.expect("hi").silent();
        // The same where it comes later.
        let (mut client, mut backend, _) = wire.asked(GET);
        backend.send(BODY);
        client.head();
        client.expect("hi").silent();
        backend.send(extra);
        asks_elsewhere(&wire, &mut client, &mut backend);
        client.expect("hi").silent();
    }
}
