//! vegur_client_SUITE: how responses are read.

use crate::wire::{GET, Wire};

/// The status line as the client gets it.
#[track_caller]
fn status_line(sent: &str) -> String {
    let (mut client, _backend) =
        Wire::new().answered(format!("{sent}\r\nContent-Length: 0\r\n\r\n"));
    client.head().line
}

#[test]
fn missing_reason_phrase() {
    assert_eq!(status_line("HTTP/1.1 200"), "HTTP/1.1 200 ");
}

#[test]
fn deliberate_reason_phrase() {
    assert_eq!(status_line("HTTP/1.1 200 Everything is fine"), "HTTP/1.1 200 Everything is fine");
}

#[test]
fn blank_reason_phrase() {
    assert_eq!(status_line("HTTP/1.1 200 "), "HTTP/1.1 200 ");
}

#[test]
fn order_preservation() {
    let (mut client, _backend) = Wire::new()
        .answered("HTTP/1.1 200 OK\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\nContent-Length: 0\r\n\r\n");
    let head = client.head();
    assert_eq!((head.all("x-b"), head.all("x-a")), (vec!["1", "3"], vec!["2"]));
}

#[test]
fn first_read_timeout() {
    let wire = Wire::with("    timeouts: { first_byte: 300ms }\n");
    let (mut client, mut backend, _) = wire.asked(GET);
    client.head().fails(503, "H12");
    backend.closed();
}

#[test]
fn other_read_timeout() {
    let wire = Wire::with("    timeouts: { idle: 300ms }\n");
    let (mut client, mut backend) =
        wire.answered("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    client.head();
    client.expect("half").closed();
    backend.closed();
    assert_eq!(wire.line()["code"], "H15");
}

/// What is no head of HTTP/1.1 is none, and nothing of it reaches the client.
#[test]
fn garbage() {
    for response in [
        "what is this?\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nna me: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw",
    ] {
        let wire = Wire::new();
        let (mut client, mut backend) = wire.answered(response);
        client.head().fails(502, "H17");
        client.rest();
        assert_eq!(backend.rest(), "", "{response:?}");
        assert!(wire.line()["detail"].is_string(), "{response:?}");
    }
}

/// What Pingora repairs is written anew: no client reads it in another way.
#[test]
fn repaired() {
    for response in [
        "HTTP/1.1 200 OK\r\nX-Fold: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nX-Fold : a b\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\nX-Fold: a b\nContent-Length: 2\n\nhi",
    ] {
        let (mut client, _backend) = Wire::new().answered(response);
        let head = client.head();
        assert_eq!((head.get("x-fold"), head.all("content-length")), (Some("a b"), vec!["2"]));
        client.expect("hi").silent();
    }
    // The length beside chunks is dropped, and what it might have meant opens no other response.
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nextra";
    let (mut client, mut backend) = Wire::new().answered(both);
    let head = client.head();
    assert_eq!(
        (head.get("content-length"), head.get("transfer-encoding")),
        (None, Some("chunked"))
    );
    assert_eq!(client.chunks(), b"hi");
    backend.closed();
}
