//! One process hands over to the next, and loses nothing.

use std::path::Path;
use std::thread;

use crate::harness::{
    Backend, Edge, Jar, Lively, QUICK, echoes, eventually, is_refused, shop, upgrade,
};

const SUCCEEDED: &str = "homing_restarts_total{outcome=\"succeeded\"}";

fn one() -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    (backend, edge)
}

#[track_caller]
fn restart(edge: &Edge) {
    edge.command(&["restart"]).is_done("serves");
}

fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn the_command_brings_another_process_and_the_service_keeps_its_own() {
    let (_backend, mut edge) = one();
    let (before, mut jar) = (edge.worker(), Jar::default());
    jar.get(edge.address(), "/");
    let told = edge.command(&["restart"]);
    let after = edge.worker();
    told.is_done(&format!("worker {after} serves"));
    assert_ne!(before, after);
    assert!(!edge.has_ended());
    assert_eq!(jar.get(edge.address(), "/").status, 200);
    edge.counts_affinity("followed", "", 1.0);
    edge.counts("homing_backend_bound_clients{app=\"shop\",backend=\"web.1\"}", 1.0);
    eventually("the one before ends", || (!is_alive(before)).then_some(()));
}

#[test]
fn a_signal_restarts() {
    let (_backend, edge) = one();
    let before = edge.worker();
    edge.signal("-USR2");
    edge.counts(SUCCEEDED, 1.0);
    assert_ne!(before, edge.worker());
}

#[test]
fn a_new_listener_is_served_and_a_removed_one_refused() {
    let (_backend, mut edge) = one();
    let first = edge.address();
    let both =
        format!("listeners: [{{ address: \"127.0.0.1:0\" }}, {{ address: \"{}\" }}]", spare());
    edge.rewrite("listeners: [{ address: \"127.0.0.1:0\" }]", &both);
    restart(&edge);
    edge.find_addresses();
    let second = edge.addresses()[1];
    assert_eq!((edge.address(), edge.get("/").status), (first, 200));
    assert_eq!(Jar::default().get(second, "/").status, 200);
    edge.rewrite("[{ address: \"127.0.0.1:0\" }, ", "[");
    restart(&edge);
    assert_eq!(Jar::default().get(second, "/").status, 200);
    eventually("the removed one is closed", || is_refused(first).then_some(()));
}

/// An address that is free at the moment.
fn spare() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn another_number_of_threads() {
    let (_backend, edge) = one();
    // Those that serve are named as the service is, and so is the main one.
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", edge.worker())).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let names = tasks.flatten().filter_map(|task| name(task).ok());
        names.filter(|name| name.trim() == "homing").count()
    };
    assert_eq!(threads(), 1 + 2);
    edge.rewrite("threads: 2", "threads: 12");
    restart(&edge);
    assert_eq!(threads(), 1 + 12);
}

#[test]
fn a_second_homing_on_the_same_state_directory_is_refused() {
    let (_backend, edge) = one();
    let who = format!("another Homing (process {}) runs with", edge.pid());
    edge.command(&["run"]).is_refused(1, &[&who, "state", "`homing restart` replaces it"]);
    assert_eq!(edge.get("/").status, 200);
    edge.command(&["status"]).is_done("process");
}

#[test]
fn what_is_known_of_health_passes_to_the_successor() {
    let (good, bad) = (Backend::named("web.1"), Backend::named("web.2"));
    bad.set_healthy(false);
    let patient = QUICK.replace("100ms", "300ms").replace("fall: 1", "fall: 100");
    let edge = Edge::start(&shop(QUICK, &[&good, &bad]));
    edge.rewrite(QUICK, &patient);
    edge.command(&["reload"]).is_done("generation 2");
    let mut jar = Jar::default();
    jar.get(edge.address(), "/");
    // From here on a first verdict would be a bad one for the one, and take long for the other.
    good.set_healthy(false);
    for _ in 0..3 {
        restart(&edge);
        assert_eq!(edge.backend_status("web.1")["admission"], "open");
        assert_eq!(edge.backend_status("web.2")["reason"], "unhealthy");
        assert_eq!(jar.get(edge.address(), "/").text(), "web.1");
    }
    edge.counts_affinity("followed", "", 3.0);
    assert_eq!(edge.affinity("moved", "unhealthy"), 0.0);
}

#[test]
fn a_rest_after_a_failed_connect_goes_on_in_the_successor() {
    let (good, bad) = (Backend::named("web.1"), Backend::named("web.2"));
    // Probes come too seldom to see what happens to it.
    let rare = "    health: { path: /healthz, interval: 1h, rise: 1, fall: 100 }\n";
    let edge = Edge::start(&shop(rare, &[&good, &bad]));
    bad.stop();
    eventually("one finds out", || {
        edge.get("/");
        (edge.backend_status("web.2")["reason"] == "quarantined").then_some(())
    });
    restart(&edge);
    assert_eq!(edge.backend_status("web.2")["reason"], "quarantined");
}

#[test]
fn what_the_operator_wants_passes_to_the_successor() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    edge.command(&["drain", "shop/web.1"]).is_done("drain");
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    restart(&edge);
    assert_eq!(edge.get("/").status, 503);
    edge.command(&["maintenance", "off", "-a", "shop"]).is_done("in service");
    assert_eq!(edge.backend_status("web.1")["admission"], "pinned_only");
    assert_eq!(edge.get("/").text(), "web.2");
}

#[test]
fn counters_never_go_down() {
    let (_backend, edge) = one();
    let series = "homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"\"}";
    for _ in 0..20 {
        edge.get("/");
    }
    edge.counts(series, 20.0);
    let ended = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut last = 0.0;
            while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                let now = edge.metric(series);
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
        for count in 1..=3 {
            restart(&edge);
            edge.get("/");
            edge.counts(series, 20.0 + f64::from(count));
        }
        ended.store(true, std::sync::atomic::Ordering::SeqCst);
        looks.join().unwrap();
    });
}

#[test]
fn a_websocket_stays_where_it_is_and_is_listed() {
    let lively = Lively::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&lively.backend]));
    let (before, mut socket) = (edge.worker(), edge.client());
    upgrade(&mut socket, "");
    restart(&edge);
    let finishing = eventually("it is listed", || {
        let status = edge.status();
        let first = status["finishing"].as_array().unwrap().first().cloned();
        first.filter(|one| one["reported_ms_ago"].is_u64())
    });
    assert_eq!(
        (finishing["process"].as_u64(), finishing["streams"].as_u64()),
        (Some(before.into()), Some(1))
    );
    edge.command(&["status"])
        .is_done(&format!("process {before} finishes: 1 connections, 1 streams, cut in"));
    assert_eq!(edge.backend_status("web.1")["streams"], 1);
    echoes(&mut socket, "still here");
    drop(socket);
    eventually("the one before ends", || (!is_alive(before)).then_some(()));
    eventually("it is listed no more", || {
        edge.status()["finishing"].as_array().unwrap().is_empty().then_some(())
    });
}

#[test]
fn the_grace_period_of_a_restart_ends_what_stays() {
    let lively = Lively::named("web.1");
    let server = "server: { threads: 2, grace_period: 5s, restart_grace_period: 1s }\n";
    let edge = Edge::start_with(server, &shop(QUICK, &[&lively.backend]));
    let (before, mut socket) = (edge.worker(), edge.client());
    upgrade(&mut socket, "");
    restart(&edge);
    assert!(socket.is_closed());
    eventually("the one before ends", || (!is_alive(before)).then_some(()));
}

#[test]
fn a_drain_reaches_the_websockets_of_a_replaced_process() {
    let (a, b) = (Lively::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&a.backend]));
    let mut socket = edge.client();
    upgrade(&mut socket, "");
    edge.rewrite(
        "    backends:\n",
        &format!("    backends:\n      - {{ id: web.2, address: \"{}\" }}\n", b.address()),
    );
    restart(&edge);
    echoes(&mut socket, "still here");
    edge.command(&["drain", "shop/web.1", "--deadline", "1s"]).is_done("drain");
    assert!(socket.is_closed());
}

#[test]
fn a_kept_connection_is_moved_over_politely() {
    let (_backend, edge) = one();
    let mut client = edge.client();
    assert_eq!(client.get("/", "").header("connection"), Some("keep-alive"));
    restart(&edge);
    let last = client.get("/", "");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(edge.client().get("/", "").header("connection"), Some("keep-alive"));
}

#[test]
fn a_request_that_runs_finishes_in_the_process_that_has_it() {
    let lively = Lively::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&lively.backend]));
    let mut slow = edge.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it arrives", || lively.backend.requests().pop());
    restart(&edge);
    eventually("it is seen from the successor", || {
        (edge.backend_status("web.1")["requests_in_flight"] == 1).then_some(())
    });
    lively.gate.open();
    assert_eq!(slow.read().text(), "web.1");
}
