//! How many connections there may be, and what happens when there is room for few more.

use std::io::ErrorKind;
use std::net::TcpStream;

use crate::harness::{Backend, Edge, Jar, Launch, QUICK, eventually, install, shop};

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
    // Who asked has left it a moment later.
    edge.counts("homing_client_connections", 10.0);
    held.extend(hold(&edge, 10));
    edge.counts("homing_client_connections", 20.0);
    assert!(edge.client().is_closed());
    closed(&edge, "total", 1.0);
    drop(held);
    eventually("room", || edge.client().try_get("/").filter(|one| one.status == 200));
}

#[test]
fn what_was_closed_is_counted_on_by_a_successor() {
    let backend = Backend::named("web.1");
    let head = "server: { connections_per_address: 1 }\n";
    let edge = Launch::new(head, &shop(QUICK, &[&backend])).replaceable().start_ready();
    edge.counts("homing_client_connections", 0.0);
    let _held = hold(&edge, 1);
    edge.counts("homing_client_connections", 1.0);
    assert!(edge.client().is_closed());
    closed(&edge, "address", 1.0);
    edge.command(&["restart"]).is_done("");
    closed(&edge, "address", 1.0);
    let _held_too = hold(&edge, 1);
    edge.counts("homing_client_connections", 1.0);
    assert!(edge.client().is_closed());
    closed(&edge, "address", 2.0);
}

#[test]
fn when_there_is_little_room_idle_connections_go_and_pinned_clients_stay() {
    let (_backend, edge) = edge("connections: 20, connections_per_address: 20");
    let mut jar = Jar::default();
    let mut idle = edge.client();
    jar.take(&idle.get("/", ""));
    let mut held = hold(&edge, 18);
    assert!(idle.is_closed(), "long before its time");
    edge.counts("homing_client_connections", 18.0);
    held.extend(hold(&edge, 1));
    // One place is left: who asked before has left it a moment later.
    let refused = eventually("nobody new is let in", || {
        edge.client().try_get("/").filter(|response| response.status == 503)
    });
    assert_eq!(refused.header("x-homing-error"), Some("N20"));
    edge.counts("homing_pressure{reason=\"connections\"}", 1.0);
    edge.counts("homing_pressure{reason=\"memory\"}", 0.0);
    let told = "little is left of connections: nobody new is let in";
    edge.command(&["status"]).is_done(told);
    edge.command(&["explain", "--host", "a", "--cookie", ""])
        .is_done("little is left of connections or memory");
    assert_eq!(refused.header("connection"), Some("close"));
    edge.counts_affinity("refused", "overloaded", 1.0);
    let asked = || edge.client().try_get_with("/", &jar.header());
    assert_eq!(eventually("an answer", asked).status, 200, "who has a session goes on");
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
    edge.counts("homing_pressure{reason=\"memory\"}", 1.0);
    assert_eq!(edge.status()["pressure"], serde_json::json!(["memory"]));
    let logged = |of: &'static str| {
        eventually(of, || edge.log().iter().any(|line| line.contains(of)).then_some(()));
    };
    logged("little is left: nobody new is let in");
    assert_eq!(jar.get(edge.address(), "/").status, 200);
    edge.reload_with("memory_limit: 1MiB", "memory_limit: 512GiB");
    eventually("all are well", || (edge.get("/").status == 200).then_some(()));
    edge.counts("homing_pressure{reason=\"memory\"}", 0.0);
    logged("enough is left again");
}

#[test]
fn where_the_app_keeps_nobody_a_connection_that_was_let_in_goes_on() {
    let backend = Backend::named("web.1");
    let head = "server: { memory_limit: off }\n";
    let edge = Edge::start_with(head, &shop(&format!("    affinity: off\n{QUICK}"), &[&backend]));
    let mut kept = edge.client();
    assert_eq!(kept.get("/", "").status, 200);
    edge.reload_with("memory_limit: off", "memory_limit: 1MiB");
    eventually("nobody new is let in", || {
        assert_eq!(kept.get("/", "").status, 200);
        (edge.get("/").header("x-homing-error") == Some("N20")).then_some(())
    });
    assert_eq!(kept.get("/", "").status, 200);
}

#[test]
fn the_last_request_that_a_connection_may_bring_says_so() {
    let (_backend, edge) = edge("requests_per_connection: 2");
    let mut client = edge.client();
    assert_ne!(client.get("/", "").header("connection"), Some("close"));
    assert_eq!(client.get("/", "").header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn with_few_descriptors_there_are_few_connections_and_none_that_was_let_in_is_lost() {
    let backend = Backend::named("web.1");
    let head = "server: { connections_per_address: 500 }\n";
    let edge = Launch::new(head, &shop(QUICK, &[&backend])).replaceable().start_ready();
    install(&edge, "ulimit -n 200; exec \"$HOMING\" \"$@\"");
    edge.command(&["restart"]).is_done("");
    edge.wait_for("web.1", "open");
    let mut jar = Jar::default();
    assert_eq!(jar.get(edge.address(), "/").status, 200);
    edge.counts("homing_client_connections", 0.0);
    let held = hold(&edge, 150);
    // (200 - 64) / 2: each may need another descriptor for its backend.
    edge.counts("homing_client_connections", 68.0);
    closed(&edge, "total", 82.0);
    // Not the first ones, if those who accept overtake each other.
    let is_open = |client: &TcpStream| {
        client.set_nonblocking(true).unwrap();
        client.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    eventually("the others know", || {
        (held.iter().filter(|client| is_open(client)).count() == 68).then_some(())
    });
    let mut first = held.into_iter().filter(is_open);
    drop(first.next());
    edge.counts("homing_client_connections", 67.0);
    assert_eq!(jar.get(edge.address(), "/").status, 200, "who has a session goes on");
    drop(first);
    eventually("room", || edge.client().try_get("/").filter(|one| one.status == 200));
    assert!(edge.log().iter().any(|line| line.contains("few files may be open")));
}
