//! Requests that are under way when Homing leaves a connection.

use std::thread;
use std::time::Duration;

use crate::connection::{Came, Connection};
use crate::harness::{Backend, Edge, QUICK, Reply, shop};
use crate::wire::*;

/// Longer than anybody has who is done, and than Homing believes that a client may not know yet.
const SLOW: Duration = Duration::from_secs(8);
const LATE: Duration = Duration::from_secs(6);

/// The last stream that a server names which takes what is under way (RFC 9113 §6.8).
const ANY: u32 = (1 << 31) - 1;

#[test]
fn what_was_under_way_when_the_client_was_told_to_go_has_its_time_and_what_comes_later_is_refused()
{
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
    thread::sleep(LATE);
    connection.ask(3, END_STREAM | END_HEADERS, "GET");
    loop {
        let frame = connection.frame();
        if frame.stream == 3 {
            assert_eq!((frame.kind, frame.number(0)), (RST_STREAM, REFUSED_STREAM));
            break;
        }
    }
    assert_eq!(connection.response(1), (200, b"late".to_vec()));
    assert!(connection.ends(), "after that nobody is waited for");
}
