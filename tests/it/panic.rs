//! What happens when most backends are unhealthy is the operator's choice.

use std::collections::HashSet;

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop};

const PANIC: &str = "homing_app_panic{app=\"shop\"}";

/// Three backends, and a client of each.
fn three(panic: &str) -> ([Backend; 3], Edge, [Jar; 3]) {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let settings = format!("{QUICK}    panic: {panic}\n");
    let edge = Edge::start(&shop(&settings, &backends.each_ref()));
    let jars = ["web.1", "web.2", "web.3"].map(|id| {
        eventually("a client of this backend", || {
            let mut jar = Jar::default();
            (jar.get(edge.address(), "/").text() == id).then_some(jar)
        })
    });
    (backends, edge, jars)
}

/// Two of three are unhealthy from now on, though they serve.
fn two_down(backends: &[Backend; 3], edge: &Edge) {
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    assert!(edge.metric(PANIC) < 0.5, "two of three are enough");
    backends[1].set_healthy(false);
    edge.counts(PANIC, 1.0);
}

#[test]
fn with_spread_no_verdict_is_believed() {
    let (backends, edge, mut jars) = three("{ below_percent: 50, then: spread }");
    two_down(&backends, &edge);
    for (jar, backend) in jars.iter_mut().zip(&backends) {
        assert_eq!(jar.get(edge.address(), "/").text(), backend.id());
    }
    assert!(edge.affinity("moved", "unhealthy") < 0.5);
    let mut homes = HashSet::new();
    eventually("new clients go everywhere", || {
        homes.insert(edge.get("/").text());
        (homes.len() == 3).then_some(())
    });
    assert_eq!(edge.status()["apps"][0]["panic"], "spread");
    assert_eq!(edge.backend_status("web.1")["reason"], "unhealthy (panic: not believed)");
    edge.command(&["explain", "--host", "a.example"]).is_done("which is not believed");
    edge.wait_for_log("the app panics");
    backends[1].set_healthy(true);
    edge.counts(PANIC, 0.0);
    edge.wait_for("web.1", "closed");
    assert_ne!(jars[0].get(edge.address(), "/").text(), "web.1");
    edge.wait_for_log("the app calmed down");
}

#[test]
fn what_the_operator_closed_stays_closed() {
    let (backends, edge, _jars) = three("{ then: spread }");
    edge.command(&["maintenance", "shop/web.3"]).is_done("");
    for backend in &backends[..2] {
        backend.set_healthy(false);
    }
    edge.counts(PANIC, 1.0);
    assert!((0..30).all(|_| edge.get("/").text() != "web.3"));
}

#[test]
fn with_refuse_the_healthy_ones_keep_their_clients_and_take_no_others() {
    let (backends, edge, mut jars) = three("{ then: refuse }");
    two_down(&backends, &edge);
    assert_eq!(jars[2].get(edge.address(), "/").text(), "web.3");
    let fresh = edge.get("/");
    assert_eq!((fresh.status, fresh.header("x-homing-error")), (503, Some("H10")));
    assert_eq!(jars[0].get(edge.address(), "/").status, 503, "its backend is not there");
    assert_eq!(edge.backend_status("web.3")["reason"], "panic (most are unhealthy)");
    for backend in &backends {
        backend.set_healthy(true);
    }
    edge.wait_for("web.1", "open");
    assert_eq!(jars[0].get(edge.address(), "/").text(), "web.1");
}
