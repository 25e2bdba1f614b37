//! What the new backend of a client is told: `X-Homing-Moved-From`.

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop};

const NAME: &str = "x-homing-moved-from";

/// Three backends, an edge of the app with these settings, and a client of `web.1`.
fn three(settings: &str) -> ([Backend; 3], Edge, Jar) {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let edge = Edge::start(&shop(settings, &backends.each_ref()));
    let jar = pinned(&edge);
    (backends, edge, jar)
}

fn pinned(edge: &Edge) -> Jar {
    eventually("a client of web.1", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == "web.1").then_some(jar)
    })
}

/// What the backend was told that answered the next request of a client: its id, and the lines.
#[track_caller]
fn told(backends: &[Backend], edge: &Edge, jar: &mut Jar) -> (String, Vec<String>) {
    let response = jar.get(edge.address(), "/");
    assert_eq!(response.status, 200);
    let id = response.text();
    let backend = backends.iter().find(|backend| backend.id() == id).unwrap();
    let lines = backend.last().all(NAME).into_iter().map(str::to_owned).collect();
    (id, lines)
}

#[test]
fn the_new_backend_of_a_moved_client_is_told_once_where_it_was_and_why() {
    let (backends, edge, mut jar) = three(QUICK);
    assert!(backends.iter().all(|b| b.requests().iter().all(|r| r.header(NAME).is_none())));
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    let cookie = jar.header();
    let value = cookie.trim_end().split_once('=').unwrap().1;
    let why = edge.command(&["explain", "--host", "a.example", "--cookie", value]);
    why.is_done("its new backend gets `X-Homing-Moved-From: web.1; cause=unhealthy`");
    let (home, lines) = told(&backends, &edge, &mut jar);
    assert_eq!(lines, ["web.1; cause=unhealthy"]);
    assert_eq!(told(&backends, &edge, &mut jar), (home, vec![]));
}

#[test]
fn a_command_that_moves_clients_is_the_cause() {
    let (backends, edge, mut jar) = three(QUICK);
    edge.command(&["maintenance", "shop/web.1"]).is_done("maintenance");
    assert_eq!(told(&backends, &edge, &mut jar).1, ["web.1; cause=maintenance"]);
}

#[test]
fn a_backend_that_left_the_list_has_no_name_any_more() {
    let (backends, edge, mut jar) = three(QUICK);
    let line = format!("      - {{ id: web.1, address: \"{}\" }}\n", backends[0].address());
    edge.reload_with(&line, "");
    assert_eq!(told(&backends, &edge, &mut jar).1, ["-; cause=removed"]);
}

#[test]
fn another_run_of_a_backend_may_be_told_of_itself() {
    let (backends, edge, mut jar) = three(QUICK);
    edge.reload_with("{ id: web.1,", "{ id: web.1, incarnation: v2,");
    assert_eq!(told(&backends, &edge, &mut jar).1, ["web.1; cause=new_incarnation"]);
}

#[test]
fn where_a_client_was_whose_cookie_is_not_honoured_is_not_known() {
    let (backends, edge, _) = three(QUICK);
    let response = edge.client().get("/", "Cookie: homing-affinity=x\r\n");
    let backend = backends.iter().find(|backend| backend.id() == response.text()).unwrap();
    assert_eq!(backend.last().header(NAME), None);
    edge.counts_affinity("moved", "malformed", 1.0);
}

#[test]
fn a_stand_in_is_told_nothing() {
    let settings = format!("    affinity: {{ on_unavailable: borrow }}\n{QUICK}");
    let (backends, edge, mut jar) = three(&settings);
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    let (id, lines) = told(&backends, &edge, &mut jar);
    assert!(id != "web.1" && lines.is_empty());
}

#[test]
fn a_request_that_was_tried_elsewhere_tells_what_became_of_it() {
    let (backends, edge, mut jar) = three("    health: off\n");
    backends[0].stop();
    assert_eq!(told(&backends, &edge, &mut jar).1, ["web.1; cause=connect_failed"]);
    // A first visit that was tried elsewhere is no move.
    let mut new = Jar::default();
    assert!(told(&backends, &edge, &mut new).1.is_empty());
}

#[test]
fn a_move_that_is_tried_twice_still_names_the_home_of_the_pin() {
    let (backends, edge, jar) = three("    health: off\n");
    edge.command(&["maintenance", "shop/web.1"]).is_done("maintenance");
    backends[1].stop();
    let refused =
        "homing_backend_connects_total{app=\"shop\",backend=\"web.2\",result=\"refused\"}";
    eventually("one of them was tried in vain", || {
        let (id, lines) = told(&backends, &edge, &mut jar.clone());
        assert_eq!((id.as_str(), lines), ("web.3", vec!["web.1; cause=maintenance".to_owned()]));
        (edge.metric(refused) > 0.5).then_some(())
    });
    edge.counts_affinity("moved", "connect_failed", 0.0);
}
