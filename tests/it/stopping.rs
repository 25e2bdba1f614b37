//! The end of a process.

use std::net::TcpStream;
use std::sync::mpsc;

use crate::harness::{Backend, Edge, PATIENCE, QUICK, Reply, eventually, shop};

/// A backend that answers when it is told to.
fn gated() -> (Backend, mpsc::Sender<()>) {
    let (send, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new("web.1", move |request, _| {
        if request.path() == "/slow" {
            let _told = wait.lock().unwrap().recv_timeout(PATIENCE);
        }
        Reply::ok("done")
    });
    (backend, send)
}

#[test]
fn a_running_request_finishes_and_nothing_new_is_accepted() {
    let (backend, go) = gated();
    let mut edge =
        Edge::start_with("server: { threads: 2, grace_period: 20s }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the backend has it", || (!backend.requests().is_empty()).then_some(()));
    edge.signal("-TERM");
    eventually("nothing new is accepted", || TcpStream::connect(edge.address()).err());
    assert_eq!(edge.ask("/readyz").text(), "stopping\n");
    assert!(!edge.has_ended());
    go.send(()).unwrap();
    let response = client.read();
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn a_kept_connection_is_closed_politely() {
    let (backend, _go) = gated();
    let mut edge =
        Edge::start_with("server: { threads: 2, grace_period: 20s }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    assert_eq!(client.get("/", "").header("connection"), Some("keep-alive"));
    edge.signal("-TERM");
    eventually("nothing new is accepted", || TcpStream::connect(edge.address()).err());
    let last = client.get("/", "");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn the_grace_period_ends_what_does_not() {
    let (backend, _go) = gated();
    let mut edge =
        Edge::start_with("server: { threads: 2, grace_period: 1s }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the backend has it", || (!backend.requests().is_empty()).then_some(()));
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    assert!(client.is_closed());
}

#[test]
fn an_interrupt_ends_at_once_also_while_stopping() {
    let (backend, _go) = gated();
    let mut edge =
        Edge::start_with("server: { threads: 2, grace_period: 1h }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the backend has it", || (!backend.requests().is_empty()).then_some(()));
    edge.signal("-TERM");
    eventually("nothing new is accepted", || TcpStream::connect(edge.address()).err());
    edge.signal("-INT");
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn no_signal_but_those_that_ask_for_it_ends_anything() {
    let (backend, _go) = gated();
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for name in ["-HUP", "-USR1", "-USR2"] {
        edge.signal(name);
    }
    edge.counts("homing_config_reloads_total{outcome=\"accepted\"}", 1.0);
    edge.counts("homing_restarts_total{outcome=\"succeeded\"}", 1.0);
    assert_eq!(edge.get("/").status, 200);
}
