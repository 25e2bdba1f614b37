//! Group `headers` of vegur_roundtrip_SUITE: what passes of a head, and what is refused.

use crate::wire::{GET, Wire};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn post(lengths: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\nhello")
}

/// The request is refused, and no backend hears of it.
#[track_caller]
fn refused(request: &str, status: u16) {
    let wire = Wire::new();
    let mut client = wire.client();
    client.send(request);
    assert_eq!(client.head().status(), status);
    client.rest();
    wire.no_backend();
}

/// The client gets an error, and the backend is left.
#[track_caller]
fn restricted(response: &str, detail: &str) {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(GET);
    // It may be cut off before the whole of it is out.
    backend.try_send(response);
    client.head().fails(502, "H25");
    client.rest();
    assert_eq!(backend.rest(), "", "it is asked nothing more");
    assert_eq!(wire.line()["detail"], detail);
}

#[test]
fn duplicate_different_lengths_req() {
    refused(&post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400);
}

#[test]
fn duplicate_csv_lengths_req() {
    refused(&post("Content-Length: 5, 5\r\n"), 400);
}

#[test]
fn duplicate_identical_lengths_req() {
    refused(&post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
}

#[test]
fn duplicate_identical_lengths_resp() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    let (mut client, _backend) = Wire::new().answered(response);
    assert_eq!(client.head().all("content-length"), ["5"]);
    client.expect("hello");
}

#[test]
fn duplicate_different_lengths_resp() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello";
    restricted(response, "invalid content length");
}

#[test]
fn duplicate_csv_lengths_resp() {
    restricted("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "invalid content length");
}

#[test]
fn delete_hop_by_hop() {
    let fields = "Connection: X-Named\r\nX-Named: 1\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Authorization: Basic eA==\r\nProxy-Authentication: x\r\nTrailer: X-Sum\r\n";
    let wire = Wire::new();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (mut client, mut backend, asked) = wire.asked(&request);
    backend.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
    let answered = client.head();
    for name in ["te", "keep-alive", "trailer", "x-named"] {
        assert_eq!((asked.get(name), answered.get(name)), (None, None), "{name}");
    }
    assert_eq!(asked.get("proxy-authorization"), None);
    for head in [asked, answered] {
        assert_eq!(head.get("proxy-authentication"), Some("x"));
    }
}

#[test]
fn response_cookie_limits() {
    let cookie = |bytes: usize| {
        let value = "c".repeat(bytes - "Set-Cookie: ".len());
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: {value}\r\nContent-Length: 0\r\n\r\n")
    };
    restricted(&cookie(8193), "oversized cookie");
    assert_eq!(Wire::new().answered(cookie(8192)).0.head().status(), 200);
}

#[test]
fn response_header_line_limits() {
    let line = |bytes: usize| {
        let value = "v".repeat(bytes - "X-Long: ".len());
        format!("HTTP/1.1 200 OK\r\nX-Long: {value}\r\nContent-Length: 0\r\n\r\n")
    };
    restricted(&line(1 << 20), "oversized header");
    restricted(&line((1 << 19) + 1), "oversized header");
    assert_eq!(Wire::new().answered(line(1 << 19)).0.head().status(), 200);
}

#[test]
fn response_status_limits() {
    let line = |bytes: usize| {
        let reason = "r".repeat(bytes - "HTTP/1.1 200 ".len());
        format!("HTTP/1.1 200 {reason}\r\nContent-Length: 0\r\n\r\n")
    };
    restricted(&line(1 << 20), "oversized header");
    restricted(&line(8193), "oversized status line");
    assert_eq!(Wire::new().answered(line(8192)).0.head().status(), 200);
}

#[test]
fn via() {
    let wire = Wire::new();
    let (mut client, mut backend, asked) = wire.asked(GET);
    assert_eq!(asked.all("via"), ["1.1 homing"]);
    backend.send(EMPTY);
    assert_eq!(client.head().get("via"), None);
}

#[test]
fn via_chain() {
    let wire = Wire::new();
    let (mut client, mut backend, asked) =
        wire.asked("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 proxy\r\n\r\n");
    assert_eq!(asked.all("via"), ["1.1 proxy", "1.1 homing"]);
    backend.send("HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.head().all("via"), ["1.1 proxy"]);
}

#[test]
fn bad_status() {
    let response = "HTTP/1.1 666 THE NUMBER OF THE BEAST\r\nContent-Length: 0\r\n\r\n";
    let (mut client, _backend) = Wire::new().answered(response);
    assert_eq!(client.head().line, "HTTP/1.1 666 THE NUMBER OF THE BEAST");
}

#[test]
fn preserve_case() {
    let fields = "x-lower: 1\r\nX-UPPER: 2\r\nx-MiXed: 3\r\n";
    let wire = Wire::new();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let (mut client, mut backend, asked) = wire.asked(&request);
    backend.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
    for head in [asked, client.head()] {
        let names: Vec<&str> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["x-lower", "X-UPPER", "x-MiXed"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
    }
}

#[test]
fn header_order() {
    let fields = "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\nX-A: 4\r\n";
    let wire = Wire::new();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (mut client, mut backend, asked) = wire.asked(&request);
    backend.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
    for head in [asked, client.head()] {
        assert_eq!(head.all("x-a"), ["1", "3", "4"]);
    }
}

#[test]
fn host_nofold() {
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
}

#[test]
fn host_conflict() {
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
}
