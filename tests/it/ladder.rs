//! What happens to a pinned client whose backend takes nobody: move, borrow, wait, strict.

use std::thread;

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop};

/// Three backends, and a client that is pinned to `web.1`.
fn three(affinity: &str) -> ([Backend; 3], Edge, Jar) {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let settings = format!("{QUICK}    affinity: {{ {affinity} }}\n");
    let edge = Edge::start(&shop(&settings, &backends.each_ref()));
    let pinned = eventually("a client of web.1", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == "web.1").then_some(jar)
    });
    (backends, edge, pinned)
}

fn down(backends: &[Backend; 3], edge: &Edge) {
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
}

fn up(backends: &[Backend; 3], edge: &Edge) {
    backends[0].set_healthy(true);
    edge.wait_for("web.1", "open");
}

#[test]
fn a_stand_in_is_borrowed_and_the_client_returns_home() {
    let (backends, edge, mut pinned) = three("on_unavailable: borrow");
    down(&backends, &edge);
    let first = pinned.get(edge.address(), "/");
    assert_eq!((first.status, first.token()), (200, None), "the pin stays as it is");
    assert_ne!(first.text(), "web.1");
    for _ in 0..5 {
        assert_eq!(pinned.get(edge.address(), "/").text(), first.text(), "one stand-in");
    }
    edge.counts_affinity("borrowed", "unhealthy", 6.0);
    let cookie = pinned.header();
    let value = cookie.trim_end().split_once('=').unwrap().1;
    let why = edge.command(&["explain", "--host", "a.example", "--cookie", value]);
    why.is_done("stands in, and the pin stays: unhealthy");
    why.is_done("outcome      borrowed, cause unhealthy");
    up(&backends, &edge);
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.1");
    assert!(edge.affinity("moved", "unhealthy") < 0.5);
}

#[test]
fn a_backend_that_is_away_for_longer_than_the_limit_loses_its_clients() {
    let (backends, edge, mut pinned) = three("on_unavailable: borrow, borrow_limit: 1s");
    down(&backends, &edge);
    let moved = eventually("the client is moved", || {
        let response = pinned.get(edge.address(), "/");
        response.token().is_some().then(|| response.text())
    });
    edge.counts_affinity("moved", "unhealthy", 1.0);
    up(&backends, &edge);
    assert_eq!(pinned.get(edge.address(), "/").text(), moved);
}

#[test]
fn a_request_waits_for_its_home_and_is_served_there() {
    let (backends, edge, mut pinned) = three("on_unavailable: wait, wait_limit: 1h");
    down(&backends, &edge);
    let address = edge.address();
    let waiting = thread::spawn(move || pinned.get(address, "/").text());
    eventually("it waits", || {
        (edge.metric("homing_http_requests_in_flight{app=\"shop\"}") > 0.5).then_some(())
    });
    up(&backends, &edge);
    assert_eq!(waiting.join().unwrap(), "web.1");
}

#[test]
fn a_request_that_waited_for_its_home_in_vain_goes_elsewhere() {
    let (backends, edge, mut pinned) = three("on_unavailable: wait, wait_limit: 1s");
    down(&backends, &edge);
    let response = pinned.get(edge.address(), "/");
    assert!(response.status == 200 && response.token().is_some(), "{response:?}");
    assert_ne!(response.text(), "web.1");
    edge.counts_affinity("moved", "unhealthy", 1.0);
}

#[test]
fn another_run_of_a_backend_is_followed_or_refused_as_the_app_says() {
    let (_backends, edge, mut pinned) = three("on_incarnation_change: follow");
    edge.rewrite("{ id: web.1,", "{ id: web.1, incarnation: v2,");
    edge.counts("homing_config_generation", 2.0);
    let response = pinned.get(edge.address(), "/");
    assert_eq!(response.text(), "web.1");
    assert!(response.token().is_some(), "the pin is of the new run from now on");
    edge.rewrite("on_incarnation_change: follow", "on_incarnation_change: refuse");
    edge.counts("homing_config_generation", 3.0);
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.1", "of the run that is known");
    edge.rewrite("incarnation: v2", "incarnation: v3");
    edge.counts("homing_config_generation", 4.0);
    let refused = pinned.get(edge.address(), "/");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("N10")));
    edge.counts_affinity("refused", "new_incarnation", 1.0);
}
