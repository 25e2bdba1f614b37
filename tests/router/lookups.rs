//! vegur_request_SUITE, group `lookups`: what a client gets when there is no backend for it. The router of these tests
//! asks another program for its routes; Homing knows its own.

use homing::proxy::failure::Failure;

use crate::harness::Edge;
use crate::wire::{GET, Side, Wire};

/// Asks an edge once, for this app.
#[track_caller]
fn fails(edge: &Edge, status: u16, code: &str) {
    let mut client = Side::new(std::net::TcpStream::connect(edge.address()).unwrap());
    client.send(GET);
    client.head().fails(status, code);
}

fn app(settings: &str, backends: &str) -> String {
    format!("default_app: shop\napps:\n  - name: shop\n{settings}    backends: {backends}\n")
}

/// Ports below 1024 are nobody's by chance.
const NOBODY: &str = "[{ id: web.1, address: \"127.0.0.1:1\" }]";

/// A failure that this group reaches by no request: its answer is a row of the table.
#[track_caller]
fn is_a_row(failure: Failure, status: u16, code: &str) {
    assert!(Failure::ALL.contains(&failure));
    assert_eq!((failure.facts().status, failure.facts().code), (status, code));
}

#[test]
fn no_route() {
    let file = "apps:\n  - name: other\n    domains: [other.example.com]\n    backends: []\n";
    fails(&Edge::start(file), 404, "N04");
}

#[test]
fn backlog_timeout() {
    is_a_row(Failure::BacklogTimeout, 503, "N12");
}

#[test]
fn backlog_too_deep() {
    is_a_row(Failure::BacklogTooDeep, 503, "H11");
}

#[test]
fn conn_limit_reached() {
    is_a_row(Failure::ConnectionLimit, 503, "H22");
}

#[test]
fn route_lookup_failed() {
    is_a_row(Failure::Internal, 503, "H99");
}

#[test]
fn no_web_processes() {
    fails(&Edge::start(&app("", "[]")), 503, "H14");
}

#[test]
fn crashed() {
    let health = "    health: { interval: 100ms, timeout: 1s, rise: 1, fall: 1 }\n";
    fails(&Edge::start(&app(health, NOBODY)), 503, "H10");
}

#[test]
fn backends_quarantined() {
    let edge = Edge::start(&app("    health: off\n    timeouts: { admission: 200ms }\n", NOBODY));
    fails(&edge, 503, "H21");
    fails(&edge, 503, "H34");
}

#[test]
fn backends_starting() {
    // It accepts, and answers no probe.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let backends = format!("[{{ id: web.1, address: \"{}\" }}]", listener.local_addr().unwrap());
    let settings = "    health: { path: /, timeout: 1m }\n    timeouts: { admission: 200ms }\n";
    fails(&Edge::start_unready("", &app(settings, &backends)), 503, "H20");
}

#[test]
fn backends_idle() {
    let wire = Wire::new();
    wire.edge.command(&["maintenance", "shop/web.1"]).is_done("in state maintenance");
    fails(&wire.edge, 503, "H10");
}

#[test]
fn app_blank() {
    fails(&Edge::start(&app("    health: off\n", "[]")), 503, "H14");
}

#[test]
fn app_lookup_failed() {
    is_a_row(Failure::Internal, 503, "H99");
}

#[test]
fn app_not_found() {
    let file = "apps:\n  - name: other\n    domains: [\"*.example.com\"]\n    path_prefixes: [/api]\n    backends: []\n";
    fails(&Edge::start(file), 404, "N04");
}
