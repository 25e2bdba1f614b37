//! vegur_proxy_SUITE: what a backend is told, and what is known of a request afterwards. Over plain HTTP: Homing has no
//! listener for TLS yet.

use std::net::TcpListener;

use crate::harness::Edge;
use crate::wire::{GET, Head, Side, Wire};

const BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// What the backend gets of a request with more fields.
#[track_caller]
fn asked(fields: &str) -> Head {
    Wire::new().asked(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).2
}

#[test]
fn request_id() {
    let id = |fields: &str| asked(fields).get("x-request-id").unwrap().to_owned();
    assert_eq!(id("").len(), 36);
    let own = "0123456789-abcdefghij";
    assert_eq!(id(&format!("X-Request-Id: {own}\r\n")), own);
    for bad in ["short", "0123456789_abcdefghij", &"x".repeat(201)] {
        assert_eq!(id(&format!("X-Request-Id: {bad}\r\n")).len(), 36, "{bad}");
    }
}

#[test]
fn forwarded_for() {
    assert_eq!(asked("").all("x-forwarded-for"), ["127.0.0.1"]);
    let chain =
        asked("X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n");
    assert_eq!(chain.all("x-forwarded-for"), ["10.0.0.1, 127.0.0.1"]);
    // The port of the connection, not that of `Host`; and no stranger's word.
    assert_eq!(chain.all("x-forwarded-proto"), ["http"]);
    assert_ne!(chain.all("x-forwarded-port"), ["443"]);
}

#[test]
fn via() {
    assert_eq!(asked("Via: 1.0 other\r\n").all("via"), ["1.0 other", "1.1 homing"]);
}

#[test]
fn connect_time_header() {
    // Not told to backends: it is in the access log.
    assert_eq!(asked("").get("connect-time"), None);
    let wire = Wire::new();
    wire.answered(BODY).0.head();
    assert!(wire.line()["connect_ms"].is_u64());
}

#[test]
fn start_time_header() {
    let head = asked("X-Request-Start: 1\r\n");
    let start: u128 = head.get("x-request-start").unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(start <= now && now - start < 60_000, "{start} {now}");
}

#[test]
fn route_time_header() {
    assert_eq!(asked("").get("total-route-time"), None);
    let wire = Wire::new();
    wire.answered(BODY).0.head();
    let line = wire.line();
    assert!(line["first_byte_ms"].as_u64() >= line["connect_ms"].as_u64(), "{line}");
}

#[test]
fn host() {
    for host in ["a", "A.example:8080", "[::1]:80"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(Wire::new().asked(&request).2.all("host"), [host]);
    }
}

#[test]
fn query_string() {
    for target in ["/path?a=1&b=%20;c", "/?", "/p//../q?x=?/#", "/%7Euser/%2F?a[]=1"] {
        let target = target.trim_end_matches('#');
        let asked = Wire::new().asked(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).2;
        assert_eq!(asked.line, format!("GET {target} HTTP/1.1"));
    }
}

#[test]
fn content_length() {
    let (_client, mut backend, asked) =
        Wire::new().asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((asked.all("content-length"), asked.get("transfer-encoding")), (vec!["5"], None));
    backend.expect("hello").silent();
}

#[test]
fn no_content_length() {
    let head = asked("");
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
}

#[test]
fn custom_downstream_headers() {
    // What Homing adds to a response, beside what the app says itself.
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    backends: [{{ id: web.1, address: \"{}\" }}]\n",
        backend.local_addr().unwrap()
    ));
    let mut client = Side::new(std::net::TcpStream::connect(edge.address()).unwrap());
    client.send(GET);
    let mut backend = Side::new(backend.accept().unwrap().0);
    let id = backend.head().get("x-request-id").unwrap().to_owned();
    backend.send("HTTP/1.1 200 OK\r\nSet-Cookie: own=1\r\nContent-Length: 0\r\n\r\n");
    let head = client.head();
    assert_eq!(head.get("x-request-id"), Some(id.as_str()));
    let cookies = head.all("set-cookie");
    assert_eq!((cookies.len(), cookies[0]), (2, "own=1"), "{cookies:?}");
    assert!(cookies[1].starts_with("homing-affinity="), "{cookies:?}");
}

#[test]
fn service_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    affinity: off\n    backends:\n      - {{ id: web.1, address: \"127.0.0.1:1\", weight: 1000 }}\n      - {{ id: web.2, address: \"{}\" }}\n",
        listener.local_addr().unwrap()
    ));
    let mut client = Side::new(std::net::TcpStream::connect(edge.address()).unwrap());
    client.send(GET);
    let mut backend = Side::new(listener.accept().unwrap().0);
    backend.head();
    backend.send(BODY);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn response_attributes() {
    let wire = Wire::new();
    let (mut client, _backend) =
        wire.answered("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(client.head().line, "HTTP/1.1 404 Not Found");
    client.expect("no");
    let line = wire.line();
    assert_eq!((&line["status"], &line["bytes"]), (&404.into(), &2.into()));
}

#[test]
fn request_statistics() {
    let wire = Wire::new();
    let (mut client, mut backend, _) =
        wire.asked("POST /path?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    backend.expect("hello").send(BODY);
    client.head();
    let line = wire.line();
    for (field, value) in [("method", "POST"), ("path", "/path?q=1"), ("backend", "web.1")] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!((&line["bytes"], &line["bytes_received"]), (&2.into(), &5.into()), "{line}");
    for field in ["connect_ms", "first_byte_ms", "service_ms", "duration_ms"] {
        assert!(line[field].is_u64(), "{field}: {line}");
    }
}

#[test]
fn request_keepalive_statistics() {
    let wire = Wire::new();
    let (mut client, backend) = wire.answered(BODY);
    client.head();
    client.expect("hi").silent();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    let (mut backend, _) = wire.next(backend);
    backend.head();
    backend.expect("x").send(BODY);
    client.head();
    let lines = crate::harness::eventually("two lines", || {
        Some(wire.edge.out()).filter(|lines| lines.len() == 2)
    });
    let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    let expected = (&2.into(), &1.into());
    assert_eq!((&second["bytes"], &second["bytes_received"]), expected, "of this request alone");
}

#[test]
fn websockets() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire
        .asked("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    backend.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.head().status(), 101);
    client.send("ping");
    backend.expect("ping").send("pong");
    client.expect("pong");
    drop(client);
    backend.closed();
    assert_eq!(wire.line()["status"], 101);
}
