//! What becomes of requests that are right, and what is told of connections that are not.

use crate::backend::{Backend, Seen};
use crate::connection::Connection;
use crate::start;
use crate::wire::*;

/// Sends a request with these fields and this body, and says what its backend saw.
fn seen(change: impl Fn(&mut Vec<(String, String)>), body: &[Vec<u8>]) -> Seen {
    let backend = Backend::start();
    let edge = start(&backend);
    let mut client = Connection::open(edge.address());
    let mut list = client.right(if body.is_empty() { "GET" } else { "POST" });
    change(&mut list);
    client.send(&frame(
        HEADERS,
        if body.is_empty() { WHOLE } else { END_HEADERS },
        1,
        &fields(&list),
    ));
    body.iter().for_each(|each| client.send(each));
    assert_eq!(client.response(1).0, 200);
    backend.seen("").pop().unwrap()
}

fn add(list: &mut Vec<(String, String)>, name: &str, value: &str) {
    list.push((name.to_owned(), value.to_owned()));
}

#[test]
fn cookies_that_came_in_several_fields_are_one_line() {
    let seen = seen(
        |list| {
            for (name, value) in
                [("cookie", "a=b"), ("x", "y"), ("cookie", "c=d; e=f"), ("cookie", "g=h")]
            {
                add(list, name, value);
            }
        },
        &[],
    );
    assert_eq!(seen.all("cookie"), ["a=b; c=d; e=f; g=h"]);
}

#[test]
fn an_asterisk_is_for_options() {
    let seen = seen(
        |list| {
            list[0].1 = "OPTIONS".to_owned();
            list[3].1 = "*".to_owned();
        },
        &[],
    );
    assert_eq!(seen.line, "OPTIONS * HTTP/1.1");
}

#[test]
fn a_host_that_says_the_same_is_there_once() {
    let seen = seen(|list| add(list, "host", "SHOP.example.com"), &[]);
    assert_eq!(seen.all("host").len(), 1);
}

#[test]
fn a_body_without_padding_reaches_the_backend() {
    let body = [
        frame(DATA, PADDED, 1, b"\x03hel\0\0\0"),
        frame(DATA, NONE, 1, b"lo"),
        frame(HEADERS, WHOLE, 1, &fields(&[("x-check", "ok")])),
    ];
    let seen = seen(|_| {}, &body);
    assert_eq!(seen.body, b"hello");
    assert!(seen.all("x-check").is_empty(), "a trailer is no field");
}

#[test]
fn what_ended_a_connection_is_counted_and_told() {
    let backend = Backend::start();
    let edge = start(&backend);
    for (bytes, fault, code) in [
        (frame(PING, NONE, 0, b"123"), "wrong_length", FRAME_SIZE_ERROR),
        (frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), "push", PROTOCOL_ERROR),
        // The client reads why, although it did not read before it had sent all of it.
        (frame(PRIORITY, NONE, 1, &[0; 5]).repeat(50_000), "too_many_frames", ENHANCE_YOUR_CALM),
        // What h2 found: a field that no table has.
        (frame(HEADERS, WHOLE, 1, &[0x80]), "h2", PROTOCOL_ERROR),
    ] {
        let mut client = Connection::open(edge.address());
        client.send(&bytes);
        assert_eq!(client.farewell(), Some(code), "{fault}");
        edge.counts(&format!("homing_http2_faults_total{{fault=\"{fault}\"}}"), 1.0);
    }
}
