//! Group `large_body` of vegur_roundtrip_SUITE: bodies larger than any buffer, and answers during uploads.

use std::thread;

use crate::wire::{GET, Side, Wire};

/// Larger than the buffers of both kernels and of Homing together, in bytes.
const LARGE: usize = 8 << 20;

/// More than a backend reads that is not interested, in bytes.
const EARLY: usize = 1 << 16;

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

/// The backend sends a large body as it is told to, while the client reads it.
#[track_caller]
fn download(head: &str, closes: bool) -> (Side, Side) {
    let (mut client, mut backend, _) = Wire::new().asked(GET);
    backend.send(head);
    let writer = thread::spawn(move || {
        backend.send(large());
        if closes {
            backend.finish();
        }
        backend
    });
    let answered = client.head();
    let body = match answered.get("transfer-encoding") {
        Some(_) => client.chunks(),
        None => client.body(LARGE),
    };
    assert!(body == large(), "the body is another one");
    client.silent();
    (client, writer.join().unwrap())
}

/// The backend answers before the upload is whole.
fn answer_during(upload: &str, begin: &str, response: &str, body: usize) -> (Side, Side) {
    let (mut client, mut backend, _) = Wire::new().asked(upload);
    client.send(begin);
    backend.expect(begin).send(response).send("b".repeat(body));
    (client, backend)
}

#[test]
fn large_body_stream() {
    download(&format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"), false).1.silent();
}

#[test]
fn large_body_close() {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n");
    download(&head, false).1.closed();
}

#[test]
fn large_body_close_delimited() {
    download("HTTP/1.1 200 OK\r\n\r\n", true).1.closed();
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";

#[test]
fn large_body_request_response_interrupt() {
    let response = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\n";
    let (mut client, backend) = answer_during(UPLOAD, "begin", response, 3);
    drop(backend);
    let head = client.head();
    assert_eq!((head.status(), head.get("connection")), (413, Some("close")));
    client.expect("bbb");
    // The rest of the upload has no reader: the connection ends.
    while client.try_send([0; 1 << 14]) {}
}

#[test]
fn large_chunked_request_response_interrupt() {
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\n";
    let (mut client, backend) = answer_during(upload, "5\r\nbegin\r\n", response, 3);
    drop(backend);
    let head = client.head();
    assert_eq!((head.status(), head.get("connection")), (413, Some("close")));
    client.expect("bbb");
    while client.try_send("4000\r\n") && client.try_send([0; 0x4000]) && client.try_send("\r\n") {}
}

#[test]
fn large_close_request_response_interrupt() {
    let response = "HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n";
    let (mut client, backend) = answer_during(UPLOAD, "begin", response, 3);
    drop(backend);
    let head = client.head();
    assert_eq!((head.status(), head.get("connection")), (413, Some("close")));
    assert_eq!(client.chunks(), b"bbb");
    while client.try_send([0; 1 << 14]) {}
}

#[test]
fn large_close_request_response_interrupt_undetected() {
    let response = "HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n";
    let (mut client, backend) = answer_during(UPLOAD, "begin", response, EARLY);
    drop(backend);
    client.try_send([0; 1 << 14]);
    assert_eq!(client.head().status(), 413);
    assert_eq!(client.chunks().len(), EARLY);
}

#[test]
fn weird_content_length() {
    // Space around a value is no part of it (RFC 9110 §5.5).
    let (mut client, _backend) =
        Wire::new().answered("HTTP/1.1 200 OK\r\nContent-Length: 5 \r\n\r\nhello");
    assert_eq!(client.head().get("content-length"), Some("5"));
    client.expect("hello").silent();
}
