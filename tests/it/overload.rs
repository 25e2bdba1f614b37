//! More requests at once than an app or a backend may have.

use std::thread;

use crate::harness::{Client, Edge, Jar, Lively, QUICK, eventually, shop, upgrade};

/// An app with these limits.
fn limited(limits: &str) -> String {
    format!("    limits: {{ {limits} }}\n{QUICK}")
}

/// A client at the backend of this name.
fn pinned(edge: &Edge, home: &str) -> Jar {
    let jar = eventually("a client at home", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == home).then_some(jar)
    });
    // Its place is free when its line is written, which is after it has its answer.
    in_flight(edge, home, 0.0);
    jar
}

/// Sends a request that takes until the gate of its backend opens.
fn ask_slowly(edge: &Edge, jar: &Jar) -> Client {
    let mut client = edge.client();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
    client
}

fn in_flight(edge: &Edge, backend: &str, count: f64) {
    edge.counts(
        &format!("homing_backend_requests_in_flight{{app=\"shop\",backend=\"{backend}\"}}"),
        count,
    );
}

fn waiting(edge: &Edge, backend: &str, count: f64) {
    edge.counts(
        &format!("homing_backend_requests_waiting{{app=\"shop\",backend=\"{backend}\"}}"),
        count,
    );
}

#[test]
fn new_clients_are_drawn_elsewhere_while_a_backend_is_at_its_limit() {
    let [one, two] = ["web.1", "web.2"].map(Lively::named);
    let edge = Edge::start(&shop(&limited("backend_in_flight: 1"), &[&one.backend, &two.backend]));
    let mut slow = ask_slowly(&edge, &pinned(&edge, "web.1"));
    in_flight(&edge, "web.1", 1.0);
    for _ in 0..32 {
        // The place of the one before is free when its line is written, not when its client has the answer.
        in_flight(&edge, "web.2", 0.0);
        assert_eq!(edge.get("/").text(), "web.2");
    }
    in_flight(&edge, "web.2", 0.0);
    let mut other = ask_slowly(&edge, &pinned(&edge, "web.2"));
    in_flight(&edge, "web.2", 1.0);
    let refused = edge.get("/");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("H11")));
    edge.counts_affinity("refused", "overloaded", 1.0);
    one.gate.open();
    two.gate.open();
    assert_eq!((slow.read().text(), other.read().text()), ("web.1".into(), "web.2".into()));
    assert_eq!(edge.get("/").status, 200);
}

#[test]
fn pinned_clients_wait_for_their_backend_first_come_first_served() {
    let [one, two] = ["web.1", "web.2"].map(Lively::named);
    let edge = Edge::start(&shop(&limited("backend_in_flight: 1"), &[&one.backend, &two.backend]));
    let jar = pinned(&edge, "web.1");
    let mut first = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let mut others: Vec<Client> = Vec::new();
    for number in 1..=5_u8 {
        let mut client = edge.client();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
        waiting(&edge, "web.1", number.into());
        others.push(client);
    }
    let told = edge.command(&["explain", "--host", "a", "--cookie", jar.header().trim()]);
    told.is_done("1 of 1 requests in flight, 5 wait");
    told.is_done("waits for a place at web.1");
    one.gate.open();
    assert_eq!(first.read().text(), "web.1");
    assert!(others.iter_mut().all(|client| client.read().text() == "web.1"));
    let paths = one.backend.requests().into_iter().map(|request| request.path().to_owned());
    let paths: Vec<String> = paths.skip_while(|path| path != "/slow").collect();
    assert_eq!(paths, ["/slow", "/1", "/2", "/3", "/4", "/5"]);
    edge.counts_affinity("followed", "", 6.0);
}

#[test]
fn who_leaves_while_it_waits_is_not_served() {
    let one = Lively::named("web.1");
    let limits = "backend_in_flight: 1, queue_timeout: 60s";
    let edge = Edge::start(&shop(&limited(limits), &[&one.backend]));
    let jar = pinned(&edge, "web.1");
    let mut slow = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let ask = |number: usize| {
        let mut client = edge.client();
        // With a body or none: what has no body shows at once that its client left.
        let length = if number == 0 { 4 } else { 0 };
        let head = format!("POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
        client.send(format!("{head}{}\r\n", jar.header()));
        client
    };
    let all: Vec<Client> = (0..=20).map(ask).collect();
    waiting(&edge, "web.1", 21.0);
    let mut all = all.into_iter();
    let mut stays = all.next().unwrap();
    drop(all);
    waiting(&edge, "web.1", 1.0);
    let left =
        "homing_http_requests_total{app=\"shop\",status=\"499\",failure=\"client_interrupted\"}";
    edge.counts(left, 20.0);
    let asked = || one.backend.requests().iter().filter(|one| one.path() == "/left").count();
    assert_eq!(asked(), 0);
    one.gate.open();
    stays.send("body");
    assert_eq!((slow.read().status, stays.read().status), (200, 200));
    assert_eq!(asked(), 1);
    waiting(&edge, "web.1", 0.0);
}

#[test]
fn a_queue_has_an_end_and_a_deadline_and_no_session_is_lost() {
    let one = Lively::named("web.1");
    let limits = "backend_in_flight: 1, queue: 1, queue_timeout: 1s";
    let edge = Edge::start(&shop(&limited(limits), &[&one.backend]));
    let mut jar = pinned(&edge, "web.1");
    let mut slow = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let mut late = edge.client();
    late.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
    waiting(&edge, "web.1", 1.0);
    let full = jar.get(edge.address(), "/");
    assert_eq!((full.status, full.header("x-homing-error")), (503, Some("H11")));
    let late = late.read();
    assert_eq!((late.status, late.header("x-homing-error")), (503, Some("N12")));
    assert_eq!((full.token(), late.token()), (None, None), "the pin is kept");
    edge.counts_affinity("refused", "overloaded", 2.0);
    waiting(&edge, "web.1", 0.0);
    one.gate.open();
    assert_eq!(slow.read().status, 200);
    assert_eq!(jar.get(edge.address(), "/").text(), "web.1");
}

#[test]
fn where_the_app_prefers_it_a_client_is_moved_when_it_waited_in_vain() {
    let [one, two] = ["web.1", "web.2"].map(Lively::named);
    let limits = "backend_in_flight: 1, queue_timeout: 500ms, on_overload: move";
    let edge = Edge::start(&shop(&limited(limits), &[&one.backend, &two.backend]));
    let mut jar = pinned(&edge, "web.1");
    let mut slow = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let moved = jar.get(edge.address(), "/");
    assert_eq!(moved.text(), "web.2");
    assert!(moved.token().is_some());
    edge.counts_affinity("moved", "overloaded", 1.0);
    one.gate.open();
    assert_eq!(slow.read().status, 200);
    assert_eq!(jar.get(edge.address(), "/").text(), "web.2");
}

#[test]
fn a_limit_that_is_raised_lets_those_in_who_wait() {
    let one = Lively::named("web.1");
    let limits = limited("backend_in_flight: 1, queue_timeout: 30s");
    let edge = Edge::start(&shop(&limits, &[&one.backend]));
    let jar = pinned(&edge, "web.1");
    let mut slow = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let answers = thread::scope(|scope| {
        let ask = || edge.client().get("/", &jar.header()).text();
        let waiters = [scope.spawn(ask), scope.spawn(ask)];
        waiting(&edge, "web.1", 2.0);
        edge.reload_with("backend_in_flight: 1", "backend_in_flight: 3");
        waiters.map(|one| one.join().unwrap())
    });
    assert_eq!(answers, ["web.1", "web.1"], "and the slow one still runs");
    edge.reload_with("backend_in_flight: 3", "backend_in_flight: 1, queue: 0");
    assert_eq!(edge.client().get("/", &jar.header()).header("x-homing-error"), Some("H11"));
    one.gate.open();
    assert_eq!(slow.read().status, 200);
    in_flight(&edge, "web.1", 0.0);
    assert_eq!(edge.client().get("/", &jar.header()).status, 200);
}

#[test]
fn a_client_that_waits_goes_elsewhere_when_its_backend_goes_away() {
    let [one, two] = ["web.1", "web.2"].map(Lively::named);
    let limits = limited("backend_in_flight: 1, queue_timeout: 30s");
    let edge = Edge::start(&shop(&limits, &[&one.backend, &two.backend]));
    let jar = pinned(&edge, "web.1");
    let _slow = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let answer = thread::scope(|scope| {
        let waiter = scope.spawn(|| edge.client().get("/", &jar.header()).text());
        waiting(&edge, "web.1", 1.0);
        one.backend.set_healthy(false);
        waiter.join().unwrap()
    });
    assert_eq!(answer, "web.2");
    waiting(&edge, "web.1", 0.0);
    one.gate.open();
}

#[test]
fn streams_take_no_place_of_requests() {
    let one = Lively::named("web.1");
    let limits = limited("app_in_flight: 1, backend_in_flight: 1, queue: 0, reserve_percent: 0");
    let edge = Edge::start(&shop(&limits, &[&one.backend]));
    let mut sockets: Vec<Client> = (0..4).map(|_| edge.client()).collect();
    sockets.iter_mut().for_each(|client| drop(upgrade(client, "")));
    let mut events = edge.client();
    events.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(events.try_read_head().unwrap().status, 200);
    in_flight(&edge, "web.1", 5.0);
    assert_eq!(edge.get("/").status, 200);
    edge.reload_with("reserve_percent: 0", "reserve_percent: 0, connections: 5");
    let refused = edge.get("/");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("H22")));
    drop(events);
    eventually("a place", || (edge.get("/").status == 200).then_some(()));
}

#[test]
fn new_clients_are_turned_away_first_when_an_app_has_much_in_hand() {
    let one = Lively::named("web.1");
    let limits = limited("app_in_flight: 4, reserve_percent: 50");
    let edge = Edge::start(&shop(&limits, &[&one.backend]));
    let mut jar = pinned(&edge, "web.1");
    let mut held: Vec<Client> = (0..2).map(|_| ask_slowly(&edge, &jar)).collect();
    in_flight(&edge, "web.1", 2.0);
    let refused = edge.get("/");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("H11")));
    edge.counts_affinity("refused", "overloaded", 1.0);
    assert_eq!(jar.get(edge.address(), "/").status, 200, "who has a session goes on");
    held.extend((0..2).map(|_| ask_slowly(&edge, &jar)));
    in_flight(&edge, "web.1", 4.0);
    assert_eq!(jar.get(edge.address(), "/").header("x-homing-error"), Some("H11"));
    let told = edge.command(&["explain", "--host", "a", "--cookie", jar.header().trim()]);
    told.is_done("4 of 4 requests in flight");
    one.gate.open();
    assert!(held.iter_mut().all(|client| client.read().status == 200));
    assert_eq!(edge.get("/").status, 200);
}

#[test]
fn a_request_that_waits_for_its_place_ends_with_the_time_it_has_in_all() {
    let one = Lively::named("web.1");
    let settings = "    limits: { backend_in_flight: 1, queue_timeout: 75s }\n    timeouts: { total: 1s }\n    health: off\n";
    let edge = Edge::start(&shop(settings, &[&one.backend]));
    let jar = pinned(&edge, "web.1");
    let mut first = ask_slowly(&edge, &jar);
    in_flight(&edge, "web.1", 1.0);
    let mut second = ask_slowly(&edge, &jar);
    for client in [&mut second, &mut first] {
        let response = client.read();
        assert_eq!((response.status, response.header("x-homing-error")), (503, Some("N15")));
    }
    waiting(&edge, "web.1", 0.0);
    in_flight(&edge, "web.1", 0.0);
    one.gate.open();
}
