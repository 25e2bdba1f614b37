//! Backends whose requests fail get no new clients for a while, whatever their probes say.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Client, Edge, Jar, Lively, QUICK, Reply, eventually, shop, upgrade};

/// A backend that fails in each way that its client asks for, and answers its probes.
fn failing(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request, _| match request.path() {
        "/error" => Reply::with("503 No", "", "no"),
        "/bug" => Reply::with("500 No", "", "no"),
        "/silent" => Reply::Done,
        "/garbage" => Reply::Last(b"what is this?\r\n\r\n".to_vec()),
        "/broken" => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        "/late" => {
            thread::sleep(Duration::from_secs(2));
            Reply::ok("late")
        }
        _ => Reply::ok(&own),
    })
}

/// Two such backends, and a client that is pinned to `web.1`.
fn two(outliers: &str, more: &str) -> ([Backend; 2], Edge, Jar) {
    let backends = ["web.1", "web.2"].map(failing);
    let settings = format!("{QUICK}    outliers: {outliers}\n{more}");
    let edge = Edge::start(&shop(&settings, &backends.each_ref()));
    let jar = client_of(&edge, "web.1");
    (backends, edge, jar)
}

fn client_of(edge: &Edge, backend: &str) -> Jar {
    eventually("a client of this backend", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == backend).then_some(jar)
    })
}

/// Asks for these paths, one after another, and waits until each was counted.
fn ask(edge: &Edge, jar: &Jar, paths: &[&str]) {
    let ended = || edge.metric("homing_http_request_duration_seconds_count{app=\"shop\"}");
    for path in paths {
        let before = ended();
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
        let _broken = client.try_read("GET");
        eventually("it was counted", || (ended() > before).then_some(()));
    }
}

fn ejections(reason: &str) -> String {
    format!("homing_backend_ejections_total{{app=\"shop\",backend=\"web.1\",reason=\"{reason}\"}}")
}

const EJECTED: &str = "homing_backend_ejected{app=\"shop\",backend=\"web.1\"}";

#[test]
fn a_backend_that_fails_five_times_in_a_row_keeps_its_clients_and_gets_no_new_ones() {
    let (backends, edge, mut jar) = two("{ ejection: 1h, ejection_max: 1h }", "");
    ask(&edge, &jar, &["/error", "/error", "/error", "/error", "/", "/error", "/bug", "/error"]);
    assert!(edge.metric(EJECTED) < 0.5, "not in a row, and a 500 is an answer of the app");
    ask(&edge, &jar, &["/error"; 5]);
    edge.wait_for("web.1", "pinned_only");
    edge.counts(&ejections("consecutive"), 1.0);
    edge.counts(EJECTED, 1.0);
    assert_eq!(jar.get(edge.address(), "/").text(), "web.1", "its session is there");
    let before = backends[0].requests().len();
    assert!((0..30).all(|_| edge.get("/").text() == "web.2"));
    assert_eq!(backends[0].requests().len(), before);
    let status = edge.backend_status("web.1");
    assert_eq!((&status["reason"], &status["health"]), (&"ejected".into(), &"healthy".into()));
    assert_eq!(status["ejected"], true);
    edge.wait_for_log("too many requests in a row failed");
    let why = edge.command(&["explain", "--host", "a.example"]);
    why.is_done("since requests failed, web.1: ejected");
}

#[test]
fn no_answer_a_broken_one_a_late_one_and_none_at_all_are_failures() {
    let more = "    timeouts: { first_byte: 300ms }\n";
    let outliers = "{ consecutive: 4, statuses: [], ejection: 1h, ejection_max: 1h }";
    let (_backends, edge, jar) = two(outliers, more);
    ask(&edge, &jar, &["/error", "/silent", "/garbage", "/late"]);
    assert!(edge.metric(&ejections("consecutive")) < 0.5, "three");
    ask(&edge, &jar, &["/broken"]);
    edge.counts(&ejections("consecutive"), 1.0);
}

#[test]
fn a_refused_connection_counts_as_well() {
    let (backends, edge, jar) = two("{ consecutive: 2, ejection: 1h, ejection_max: 1h }", "");
    ask(&edge, &jar, &["/silent"]);
    backends[0].stop();
    ask(&edge, &jar, &["/"]);
    edge.counts(&ejections("consecutive"), 1.0);
}

#[test]
fn a_client_that_leaves_says_nothing_of_its_backend() {
    let (_backends, edge, jar) = two("{ consecutive: 2 }", "");
    for _ in 0..4 {
        let mut client = edge.client();
        client.send(format!("GET /late HTTP/1.1\r\nHost: a\r\n{}\r\n", jar.header()));
    }
    let left =
        "homing_http_requests_total{app=\"shop\",status=\"499\",failure=\"client_interrupted\"}";
    edge.counts(left, 4.0);
    assert!(edge.metric(EJECTED) < 0.5);
}

#[test]
fn what_follows_an_upgrade_says_nothing_of_a_backend() {
    let (socket, other) = (Lively::named("web.1"), Backend::named("web.2"));
    let settings = format!(
        "{QUICK}    outliers: {{ consecutive: 2 }}\n    timeouts: {{ upgraded_idle: 1s }}\n"
    );
    let edge = Edge::start(&shop(&settings, &[&socket.backend, &other]));
    let jar = client_of(&edge, "web.1");
    let mut clients = [(); 3].map(|()| edge.client());
    for client in &mut clients {
        upgrade(client, &jar.header());
    }
    assert!(clients.iter_mut().all(Client::is_closed), "idle for too long");
    edge.counts("homing_upgraded_connections{app=\"shop\"}", 0.0);
    assert!(edge.metric(EJECTED) < 0.5);
}

#[test]
fn a_large_share_of_failures_is_enough() {
    let share = "{ consecutive: off, failure_percent: 50, requests: 10, interval: 10m, ejection: 1h, ejection_max: 1h }";
    let (_backends, edge, jar) = two(share, "");
    let paths = ["/error", "/"].repeat(6);
    ask(&edge, &jar, &paths[..8]);
    assert!(edge.metric(EJECTED) < 0.5, "too few to tell");
    ask(&edge, &jar, &paths[8..]);
    ask(&edge, &jar, &["/error", "/error"]);
    edge.counts(&ejections("failure_percent"), 1.0);
}

#[test]
fn an_ejection_ends_by_itself() {
    let (_backends, edge, jar) = two("{ ejection: 1s }", "");
    ask(&edge, &jar, &["/error"; 5]);
    edge.counts(&ejections("consecutive"), 1.0);
    edge.wait_for("web.1", "open");
    let mut homes = HashSet::new();
    eventually("new clients come again", || {
        homes.insert(edge.get("/").text());
        (homes.len() == 2).then_some(())
    });
}

#[test]
fn clients_of_an_ejected_backend_move_where_the_app_wants_it() {
    let outliers = "{ pinned: move, ejection: 1h, ejection_max: 1h }";
    let (_backends, edge, mut jar) = two(outliers, "");
    ask(&edge, &jar, &["/error"; 5]);
    edge.wait_for("web.1", "closed");
    assert_eq!(jar.get(edge.address(), "/").text(), "web.2");
    edge.counts_affinity("moved", "unhealthy", 1.0);
}

#[test]
fn the_last_one_that_takes_new_clients_is_spared() {
    let (_backends, edge, jar) = two("{ ejection: 1h, ejection_max: 1h }", "");
    ask(&edge, &jar, &["/error"; 5]);
    edge.wait_for("web.1", "pinned_only");
    let other = client_of(&edge, "web.2");
    ask(&edge, &other, &["/error"; 5]);
    let spared = "homing_backend_ejections_spared_total{app=\"shop\",backend=\"web.2\"}";
    edge.counts(spared, 1.0);
    assert_eq!(edge.get("/").text(), "web.2");
}

#[test]
fn an_ejection_outlives_a_reload_and_a_restart() {
    let (_backends, edge, jar) = two("{ ejection: 1h, ejection_max: 1h }", "");
    ask(&edge, &jar, &["/error"; 5]);
    edge.wait_for("web.1", "pinned_only");
    edge.reload_with("ejection: 1h,", "ejection: 30m,");
    assert_eq!(edge.backend_status("web.1")["reason"], "ejected");
    edge.command(&["restart"]).is_done("serves");
    assert_eq!(edge.backend_status("web.1")["reason"], "ejected");
    assert!((0..20).all(|_| edge.get("/").text() == "web.2"));
    edge.counts(&ejections("consecutive"), 1.0);
    edge.reload_with("{ ejection: 30m, ejection_max: 1h }", "off");
    assert_eq!(edge.backend_status("web.1")["reason"], "healthy");
}
