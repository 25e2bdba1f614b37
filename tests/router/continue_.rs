//! Group `continue` of vegur_roundtrip_SUITE: who waits for `100 Continue`, and what ends the wait. The client speaks
//! with the backend itself, as with its option `deep_continue`; Homing never answers 100 in its place.

use crate::wire::{Side, Wire};

const EXPECTS: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

/// The client sends its body, and gets the answer.
#[track_caller]
fn completes(client: &mut Side, backend: &mut Side) {
    client.send("hello");
    backend.expect("hello").send(DONE);
    let head = client.head();
    assert_eq!((head.status(), head.get("connection")), (200, Some("keep-alive")));
    client.expect("done").silent();
}

#[test]
fn back_and_forth() {
    let (mut client, mut backend, head) = Wire::new().asked(EXPECTS);
    assert_eq!(head.get("expect"), Some("100-continue"));
    client.silent();
    backend.send(GO_ON);
    client.expect(GO_ON);
    completes(&mut client, &mut backend);
}

#[test]
fn body_timeout() {
    // The backend says nothing; the client does not wait for ever (RFC 9110 §10.1.1).
    let (mut client, mut backend, _) = Wire::new().asked(EXPECTS);
    client.silent();
    completes(&mut client, &mut backend);
}

#[test]
fn non_terminal() {
    // Interim responses pass, however many (RFC 9110 §15.2)…
    let (mut client, mut backend, _) = Wire::new().asked(EXPECTS);
    backend.send(GO_ON).send(GO_ON);
    client.expect(GO_ON).expect(GO_ON);
    completes(&mut client, &mut backend);
    // … but not for ever.
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(EXPECTS);
    backend.send(GO_ON.repeat(33));
    let last = std::iter::from_fn(|| client.try_head()).find(|head| head.status() != 100);
    last.expect("an error").fails(502, "H17");
    client.rest();
    assert_eq!(backend.rest(), "");
    assert_eq!(wire.line()["detail"], "too many interim responses");
}

const UPGRADES: &str = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\
                        Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn continue_upgrade_httpbis() {
    let (mut client, mut backend, _) = Wire::new().asked(UPGRADES);
    backend.send(GO_ON);
    client.expect(GO_ON).send("hello");
    backend.expect("hello").send(SWITCH);
    assert_eq!(client.head().status(), 101);
    client.send("raw");
    backend.expect("raw").send("bytes");
    client.expect("bytes");
}

#[test]
fn upgrade_no_continue() {
    let (mut client, mut backend, _) = Wire::new().asked(UPGRADES);
    backend.send(SWITCH).send("raw");
    assert_eq!(client.head().status(), 101);
    client.expect("raw").send("bytes");
    backend.expect("bytes");
}

/// A final status in the place of a 100: the body need not come, and nobody can tell whether it will.
#[track_caller]
fn ends_without_the_body(response: &str, body: &str) {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(EXPECTS);
    backend.send(response);
    let head = client.head();
    assert_eq!((head.status(), head.get("connection")), (417, Some("close")));
    client.expect(body).closed();
    backend.closed();
    let line = wire.line();
    assert_eq!(
        (&line["status"], &line["at"], line.get("code")),
        (&417.into(), &"info".into(), None)
    );
}

#[test]
fn terminal_no_continue_partial() {
    let wire = Wire::new();
    let (mut client, mut backend, _) = wire.asked(EXPECTS);
    backend.send("HTTP/1.1 417 No\r\nContent-Length: 10\r\n\r\nhalf");
    // Pingora holds a body of known length back until it fills a packet or ends.
    drop(backend);
    assert_eq!(client.head().get("connection"), Some("close"));
    client.expect("half").closed();
}

#[test]
fn terminal_no_continue_complete() {
    ends_without_the_body("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno", "no");
    ends_without_the_body("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "");
    let chunks = "2\r\nno\r\n0\r\n\r\n";
    let head = "HTTP/1.1 417 No\r\nTransfer-Encoding: chunked\r\n\r\n";
    ends_without_the_body(&format!("{head}{chunks}"), chunks);
}

/// A client that sends its body all the same is heard to the end; then its connection is closed.
#[test]
fn terminal_no_continue_body_sent() {
    let (mut client, mut backend, _) = Wire::new().asked(EXPECTS);
    backend.send(DONE);
    assert_eq!(client.head().get("connection"), Some("close"));
    client.expect("done").send("hello");
    backend.expect("hello");
    client.closed();
}

#[test]
fn no_expect_continue() {
    let (mut client, mut backend) = Wire::new().answered(GO_ON);
    client.expect(GO_ON);
    backend.send(DONE);
    assert_eq!(client.head().status(), 200);
}

#[test]
fn http_1_0_continue() {
    let wire = Wire::new();
    let request = "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let (mut client, mut backend, head) = wire.asked(request);
    assert_eq!(head.get("expect"), None);
    backend.send(GO_ON);
    client.silent();
    client.send("hello");
    backend.expect("hello").send(GO_ON).send(DONE);
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.rest(), "done");
}

/// The expectation is none that can be met, and no backend hears of it.
#[track_caller]
pub(crate) fn fails(expect: &str) {
    let wire = Wire::new();
    let mut client = wire.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: {expect}\r\n\r\n"
    ));
    let head = client.head();
    head.fails(417, "H26");
    assert_eq!(head.get("connection"), Some("close"));
    client.rest();
    wire.no_backend();
    assert_eq!(wire.line()["status"], 417);
}

#[test]
fn unknown_expect() {
    fails("whatever");
    fails("100-continue, whatever");
}

#[test]
fn bad_syntax_expect() {
    fails("100 continue");
}

#[test]
fn bypass() {
    // Nothing of Homing's own: the backend decides, also where it decides at once.
    let (mut client, mut backend, head) =
        Wire::new().asked(&EXPECTS.replace("100-continue", "100-Continue"));
    assert_eq!(head.get("expect"), Some("100-Continue"));
    client.silent();
    backend.send(GO_ON);
    client.expect(GO_ON);
    completes(&mut client, &mut backend);
    let (mut client, _backend) = Wire::new().answered(DONE);
    assert_eq!(client.head().get("connection"), Some("keep-alive"));
    client.expect("done").silent();
}
