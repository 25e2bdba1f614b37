//! vegur_request_SUITE, groups `handling`, `mocks` and `upgrade`: what is asked of a request.

use crate::wire::{GET, Head, Side, Wire};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The answer to a request that no backend gets.
#[track_caller]
fn refused(request: &str) -> Head {
    let wire = Wire::new();
    let mut client = wire.client();
    client.try_send(request);
    let head = client.head();
    wire.no_backend();
    head
}

/// A request that reaches the backend, as it gets it.
#[track_caller]
fn passes(request: &str) -> Head {
    let wire = Wire::new();
    let (mut client, mut backend, asked) = wire.asked(request);
    backend.send(EMPTY);
    assert_eq!(client.head().status(), 200);
    asked
}

fn fields(count: usize) -> String {
    (1..count).map(|number| format!("X-{number}: 1\r\n")).collect()
}

#[test]
fn no_host() {
    refused("GET / HTTP/1.1\r\n\r\n").fails(400, "H26");
}

#[test]
fn empty_host() {
    refused("GET / HTTP/1.1\r\nHost:\r\n\r\n").fails(400, "H26");
}

#[test]
fn empty_expect() {
    assert_eq!(passes("GET / HTTP/1.1\r\nHost: a\r\nExpect:\r\n\r\n").get("expect"), None);
}

#[test]
fn url_limits() {
    let line = |bytes: usize| {
        let path = "p".repeat(bytes - "GET / HTTP/1.1".len());
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    refused(&line(8193)).fails(414, "N44");
    passes(&line(8192));
}

#[test]
fn header_line_limits() {
    let line = |bytes: usize| {
        let value = "v".repeat(bytes - "X-Long: ".len());
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {value}\r\n\r\n")
    };
    refused(&line(8193)).fails(431, "N42");
    passes(&line(8192));
}

#[test]
fn header_count_limits() {
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(257))).fails(431, "N42");
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(1100))).fails(431, "N42");
    passes(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(240)));
}

#[test]
fn invalid_expect() {
    crate::continue_::fails("200-ok");
}

#[test]
fn absolute_uri() {
    // The authority of the target counts, and `Host` says the same to the backend (RFC 9112 §3.2.2).
    let asked = passes("GET http://a/path?q=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(asked.get("host"), Some("a"));
    let status = refused("CONNECT http://a HTTP/1.1\r\nHost: a\r\n\r\n").status();
    assert!([400, 405].contains(&status), "{status}");
}

#[test]
fn herokuapp_redirect() {
    // Homing redirects nobody: what no app serves is not found.
    let file = "apps:\n  - name: shop\n    domains: [shop.example.com]\n    health: off\n    backends: []\n";
    let edge = crate::harness::Edge::start(file);
    let mut client = Side::new(std::net::TcpStream::connect(edge.address()).unwrap());
    client.send("GET /path?q=1 HTTP/1.1\r\nHost: shop.herokuapp.com\r\n\r\n");
    let head = client.head();
    head.fails(404, "N04");
    assert_eq!(head.get("location"), None);
}

#[test]
fn maintainance_mode_on() {
    let wire = Wire::new();
    wire.edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    let mut client = wire.client();
    client.send(GET);
    client.head().fails(503, "H80");
    wire.no_backend();
}

#[test]
fn upgrade_invalid() {
    // The token without the field asks for nothing, and neither does the field without the token.
    for fields in
        ["Connection: Upgrade\r\n", "Upgrade: x\r\n", "Connection: Upgrade\r\nUpgrade:\r\n"]
    {
        let asked = passes(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!((asked.get("upgrade"), asked.get("connection")), (None, None), "{fields}");
    }
}

#[test]
fn upgrade_websockets() {
    let wire = Wire::new();
    let (mut client, mut backend, asked) = wire.asked(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(
        (asked.get("connection"), asked.get("upgrade")),
        (Some("Upgrade"), Some("websocket"))
    );
    backend.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let head = client.head();
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("websocket")));
    client.send("frame");
    backend.expect("frame").send("other");
    client.expect("other");
}
