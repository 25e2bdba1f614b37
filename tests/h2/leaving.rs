//! Requests that are under way when Homing leaves a connection.

use std::thread;
use std::time::Duration;

use crate::connection::{Came, Connection};
use crate::harness::{Backend, Edge, QUICK, Reply, shop};
use crate::wire::*;

/// Longer than anybody has who is done.
const SLOW: Duration = Duration::from_secs(4);

/// The last stream that a server names which takes what is under way (RFC 9113 §6.8).
const ANY: u32 = (1 << 31) - 1;

#[test]
fn a_request_that_was_under_way_when_the_client_was_told_to_go_has_its_time() {
    let backend = Backend::new("web.1", |_, _| {
        thread::sleep(SLOW);
        Reply::ok("late")
    });
    let head = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n\
         server: { threads: 2, keepalive_timeout: 1s }\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    let mut connection = Connection::open(edge.address());
    loop {
        match connection.next() {
            Came::Frame(frame) if frame.kind == GOAWAY => {
                assert_eq!(frame.number(0), ANY);
                break;
            }
            Came::Frame(_) => {}
            other @ (Came::Closed | Came::Nothing) => panic!("{other:?} instead of GOAWAY"),
        }
    }
    // Homing asks by a PING whether the client knows, and hears nothing of it.
    connection.ask(1, END_STREAM | END_HEADERS, "GET");
    assert_eq!(connection.response(1), (200, b"late".to_vec()));
    assert!(connection.ends(), "after that nobody is waited for");
}
