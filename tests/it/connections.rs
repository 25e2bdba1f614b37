//! How many connections there may be, and what happens when there is room for few more.

use std::net::TcpStream;

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop};

fn edge(server: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let head = format!("server: {{ {server} }}\n");
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    edge.counts("homing_client_connections", 0.0);
    (backend, edge)
}

/// Opens so many connections that send nothing.
fn hold(edge: &Edge, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(edge.address()).unwrap()).collect()
}

fn closed(edge: &Edge, reason: &str, count: f64) {
    edge.counts(&format!("homing_client_connections_closed_total{{reason=\"{reason}\"}}"), count);
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let (_backend, edge) = edge("connections_per_address: 3");
    let mut held = hold(&edge, 3);
    edge.counts("homing_client_connections", 3.0);
    assert!(edge.client().is_closed());
    closed(&edge, "address", 1.0);
    held.pop();
    edge.counts("homing_client_connections", 2.0);
    assert_eq!(edge.get("/").status, 200);
    edge.reload_with("connections_per_address: 3", "connections_per_address: 9");
    let _more = hold(&edge, 2);
    assert_eq!(edge.get("/").status, 200);
    closed(&edge, "total", 0.0);
}

#[test]
fn a_trusted_proxy_brings_as_many_as_it_likes_and_the_total_holds_for_it() {
    let backend = Backend::named("web.1");
    let head =
        "server: { connections: 20, connections_per_address: 1 }\ntrusted_proxies: [127.0.0.1]\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    let mut held = hold(&edge, 10);
    assert_eq!(edge.get("/").status, 200);
    closed(&edge, "address", 0.0);
    held.extend(hold(&edge, 10));
    edge.counts("homing_client_connections", 20.0);
    assert!(edge.client().is_closed());
    closed(&edge, "total", 1.0);
    drop(held);
    eventually("room", || edge.client().try_get("/").filter(|one| one.status == 200));
}

#[test]
fn when_there_is_little_room_idle_connections_go_and_pinned_clients_stay() {
    let (_backend, edge) = edge("connections: 10, connections_per_address: 10");
    let mut jar = Jar::default();
    let mut idle = edge.client();
    jar.take(&idle.get("/", ""));
    let held = hold(&edge, 9);
    assert!(idle.is_closed(), "long before its time");
    edge.counts("homing_client_connections", 9.0);
    let asked = |jar: &Jar| edge.client().try_get_with("/", &jar.header());
    let last = eventually("pressure", || {
        let held = TcpStream::connect(edge.address()).ok();
        (edge.metric("homing_client_connections") > 9.5).then_some(held)
    });
    drop(last);
    let mut new = edge.client();
    let refused = eventually("nobody new is let in", || {
        let response = new.try_get("/")?;
        (response.status == 503).then_some(response)
    });
    assert_eq!(refused.header("x-homing-error"), Some("N20"));
    assert_eq!(refused.header("connection"), Some("close"));
    drop(new);
    let pinned = eventually("who has a session goes on", || asked(&jar));
    assert_eq!(pinned.status, 200);
    edge.counts_affinity("refused", "overloaded", 1.0);
    drop(held);
    eventually("room", || edge.client().try_get("/").filter(|one| one.status == 200));
}

#[test]
fn when_memory_runs_out_nobody_new_is_let_in() {
    let (_backend, edge) = edge("memory_limit: off");
    let mut jar = Jar::default();
    assert_eq!(jar.get(edge.address(), "/").status, 200);
    edge.reload_with("memory_limit: off", "memory_limit: 1MiB");
    eventually("nobody new is let in", || {
        (edge.get("/").header("x-homing-error") == Some("N20")).then_some(())
    });
    assert_eq!(jar.get(edge.address(), "/").status, 200);
    edge.reload_with("memory_limit: 1MiB", "memory_limit: 512GiB");
    eventually("all are well", || (edge.get("/").status == 200).then_some(()));
}

#[test]
fn the_last_request_that_a_connection_may_bring_says_so() {
    let (_backend, edge) = edge("requests_per_connection: 2");
    let mut client = edge.client();
    assert_ne!(client.get("/", "").header("connection"), Some("close"));
    assert_eq!(client.get("/", "").header("connection"), Some("close"));
    assert!(client.is_closed());
}
