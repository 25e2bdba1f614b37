//! The hand of the operator: drain, ready, maintenance, and what outlives everything.

use std::thread;

use crate::harness::{
    Backend, Client, Edge, Jar, Lively, QUICK, echoes, eventually, homing, kill, shop, upgrade,
};

/// Two backends, and a client that is pinned to `web.1`.
fn pair() -> (Lively, Lively, Edge, Jar) {
    let (a, b) = (Lively::named("web.1"), Lively::named("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&a.backend, &b.backend]));
    let pinned = eventually("a client of web.1", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == "web.1").then_some(jar)
    });
    (a, b, edge, pinned)
}

/// All of these make another Homing out of the one that runs.
#[track_caller]
fn through_everything(edge: &mut Edge, check: impl Fn(&Edge)) {
    check(edge);
    edge.command(&["restart"]).is_done("serves");
    check(edge);
    let worker = edge.worker();
    kill("-KILL", worker);
    eventually("another serves", || {
        let told = edge.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&told.out).ok()?;
        (status["process"] != worker).then_some(())
    });
    edge.find_addresses();
    edge.wait_until_ready();
    check(edge);
    edge.stop_and_start();
    check(edge);
}

#[test]
fn a_drain_takes_no_new_pins_and_keeps_the_old_ones() {
    let (_a, _b, edge, mut pinned) = pair();
    edge.command(&["drain", "shop/web.1"]).is_done("shop: web.1 in state drain");
    for _ in 0..10 {
        assert_eq!(edge.get("/").text(), "web.2");
        assert_eq!(pinned.get(edge.address(), "/").text(), "web.1");
    }
    assert_eq!(edge.backend_status("web.1")["admission"], "pinned_only");
    edge.command(&["ready", "shop/web.1"]).is_done("shop: web.1 in state ready");
    eventually("new clients return", || (edge.get("/").text() == "web.1").then_some(()));
}

#[test]
fn the_deadline_of_a_drain_moves_who_is_left_and_ends_their_streams() {
    let (_a, _b, edge, mut pinned) = pair();
    let (mut socket, mut events) = (edge.client(), edge.client());
    upgrade(&mut socket, &pinned.header());
    events.send(format!("GET /events HTTP/1.1\r\nHost: a\r\n{}\r\n", pinned.header()));
    assert_eq!(events.try_read_head().unwrap().status, 200);
    edge.counts("homing_backend_streams{app=\"shop\",backend=\"web.1\"}", 2.0);
    echoes(&mut socket, "before");
    edge.command(&["drain", "shop/web.1", "--deadline", "2s"]).is_done("drain");
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.1");
    assert!(socket.is_closed());
    eventually("the events end", || events.is_closed().then_some(()));
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.2");
    edge.counts_affinity("moved", "drain_deadline", 1.0);
    assert_eq!(edge.backend_status("web.1")["reason"], "drained");
}

#[test]
fn wait_returns_when_nobody_is_left() {
    let (a, _b, edge, mut pinned) = pair();
    let (mut slow, mut socket) = (edge.client(), edge.client());
    slow.send(format!("GET /slow HTTP/1.1\r\nHost: a\r\n{}\r\n", pinned.header()));
    upgrade(&mut socket, &pinned.header());
    let requests = || a.backend.requests().iter().any(|request| request.path() == "/slow");
    eventually("it arrives", || requests().then_some(()));
    thread::scope(|scope| {
        let wait =
            scope.spawn(|| edge.command(&["drain", "shop/web.1", "--wait", "--deadline", "1s"]));
        assert!(socket.is_closed());
        eventually("its deadline is over", || {
            (edge.backend_status("web.1")["admission"] == "closed").then_some(())
        });
        assert_eq!(pinned.get(edge.address(), "/").text(), "web.2");
        // One request is left: two looks go by, and more.
        let probes = "homing_health_probes_total{app=\"shop\",backend=\"web.1\",result=\"passed\"}";
        let before = edge.metric(probes);
        eventually("time passes", || (edge.metric(probes) >= before + 15.0).then_some(()));
        assert!(!wait.is_finished());
        a.gate.open();
        assert_eq!(slow.read().text(), "web.1");
        let told = wait.join().unwrap();
        told.is_done("clients are moved, 1 requests in flight, 0 streams\n");
        told.is_done("clients are moved, 0 requests in flight, 0 streams\n");
        told.is_done("nobody is left: the process can be stopped\n");
    });
}

#[test]
fn wait_ends_when_the_backend_is_made_ready_again() {
    let (_a, _b, edge, _pinned) = pair();
    thread::scope(|scope| {
        let wait = scope.spawn(|| edge.command(&["drain", "shop/web.1", "--wait"]));
        eventually("it drains", || {
            (edge.backend_status("web.1")["administrative"] == "drain").then_some(())
        });
        edge.command(&["ready", "shop/web.1"]).is_done("ready");
        wait.join().unwrap().is_refused(1, &["it was made ready again"]);
    });
}

#[test]
fn maintenance_of_a_backend_moves_its_clients_at_once() {
    let (_a, _b, edge, mut pinned) = pair();
    edge.command(&["maintenance", "shop/web.1"]).is_done("shop: web.1 in state maintenance");
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.2");
    edge.counts_affinity("moved", "maintenance", 1.0);
    edge.command(&["ready", "shop/web.1"]).is_done("ready");
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.2");
}

#[test]
fn an_app_in_maintenance_answers_with_its_page_and_keeps_its_pins() {
    let backends = [Backend::named("web.1"), Backend::named("web.2")];
    let page = crate::harness::scratch();
    let at = page.path().join("page.html");
    std::fs::write(&at, "<p>back at noon</p>").unwrap();
    let settings = format!("{QUICK}    errors: {{ pages: {{ maintenance: {} }} }}\n", at.display());
    let edge = Edge::start(&shop(&settings, &[&backends[0], &backends[1]]));
    let mut jar = Jar::default();
    let home = jar.get(edge.address(), "/").text();
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("shop: in maintenance");
    edge.command(&["status"]).is_done("in maintenance");
    let ask =
        |accept: &str| edge.client().get("/", &format!("Accept: {accept}\r\n{}", jar.header()));
    let page = ask("text/html");
    assert_eq!((page.status, page.header("x-homing-error")), (503, Some("H80")));
    assert_eq!(page.text(), "<p>back at noon</p>");
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert_eq!((page.token(), page.header("cache-control")), (None, Some("no-store")));
    let json = ask("application/json");
    assert_eq!((json.status, json.header("content-type")), (503, Some("application/problem+json")));
    let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert!(body.to_string().contains("H80"), "{body}");
    edge.command(&["maintenance", "off", "-a", "shop"]).is_done("shop: in service");
    for _ in 0..10 {
        assert_eq!(jar.get(edge.address(), "/").text(), home);
    }
    edge.counts_affinity("followed", "", 10.0);
    let asked: usize = backends.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(asked, 11, "no backend was asked meanwhile");
}

#[test]
fn what_is_wanted_outlives_restarts_crashes_and_stops() {
    let (_a, _b, mut edge, pinned) = pair();
    edge.command(&["drain", "shop/web.1", "--deadline", "1h"]).is_done("drain");
    let deadline = edge.backend_status("web.1")["deadline"].clone();
    assert!(deadline.is_u64());
    through_everything(&mut edge, |edge| {
        let status = edge.backend_status("web.1");
        assert_eq!((&status["administrative"], &status["deadline"]), (&"drain".into(), &deadline));
        assert_eq!(edge.get("/").text(), "web.2");
        assert_eq!(pinned.clone().get(edge.address(), "/").text(), "web.1");
    });
}

#[test]
fn an_app_stays_out_of_service_through_restarts_crashes_and_stops() {
    let (_a, _b, mut edge, mut pinned) = pair();
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    edge.command(&["maintenance", "shop/web.2"]).is_done("maintenance");
    through_everything(&mut edge, |edge| {
        assert_eq!(edge.get("/").header("x-homing-error"), Some("H80"));
        assert_eq!(edge.backend_status("web.2")["administrative"], "maintenance");
    });
    edge.command(&["ready", "shop"]).is_done("shop: web.1, web.2 in state ready");
    assert_eq!(pinned.get(edge.address(), "/").text(), "web.1");
    assert_eq!(edge.backend_status("web.2")["administrative"], "ready");
}

#[test]
fn a_drain_that_ended_while_homing_was_stopped_has_ended() {
    let (_a, _b, mut edge, pinned) = pair();
    edge.command(&["drain", "shop/web.1", "--deadline", "1s"]).is_done("drain");
    eventually("its deadline is over", || {
        (edge.backend_status("web.1")["reason"] == "drained").then_some(())
    });
    through_everything(&mut edge, |edge| {
        assert_eq!(pinned.clone().get(edge.address(), "/").text(), "web.2");
    });
}

#[test]
fn a_backend_that_left_and_came_back_is_ready() {
    let (_a, b, edge, _pinned) = pair();
    edge.command(&["drain", "shop/web.2"]).is_done("drain");
    let line = format!("      - {{ id: web.2, address: \"{}\" }}\n", b.backend.address());
    edge.rewrite(&line, "");
    let left = edge.command(&["reload"]);
    assert!(left.code == Some(0), "{left:?}");
    edge.rewrite("    backends:\n", &format!("    backends:\n{line}"));
    edge.command(&["reload"]).is_done("is accepted");
    edge.wait_for("web.2", "open");
    assert_eq!(edge.backend_status("web.2")["administrative"], "ready");
}

#[test]
fn the_status_is_text_for_people_and_json_for_programs() {
    let (_a, b, edge, _pinned) = pair();
    b.backend.set_healthy(false);
    edge.wait_for("web.2", "closed");
    let told = edge.command(&["status"]);
    told.is_done("generation 1, process");
    let line = |id: &str| told.out.lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(line("web.1").contains("open    healthy"), "{told:?}");
    assert!(line("web.2").contains("closed  unhealthy (status 503)"), "{told:?}");
    let status = edge.status();
    assert_eq!(status["apps"][0]["backends"][1]["reason"], "unhealthy");
    assert_eq!(status["finishing"], serde_json::json!([]));
    edge.command(&["status", "-a", "shop"]).is_done("web.1");
    edge.command(&["status", "-a", "mall"]).is_refused(2, &["there is no app `mall`"]);
}

#[test]
fn what_is_not_there_is_told_and_nothing_changed() {
    let (_a, _b, edge, _pinned) = pair();
    for (words, said) in [
        (&["drain", "mall/web.1"][..], "there is no app `mall`"),
        (&["drain", "shop/web.9"], "app `shop` has no backend `web.9`"),
        (&["ready", "shop/web.9"], "app `shop` has no backend `web.9`"),
        (&["maintenance", "mall/web.1"], "there is no app `mall`"),
        (&["maintenance", "on", "-a", "mall"], "there is no app `mall`"),
        (&["maintenance", "perhaps", "-a", "shop"], "say `on` or `off`"),
        (&["maintenance", "shop"], "homing maintenance on -a shop"),
        (&["drain", "shop/"], "APP/BACKEND"),
        (&["drain", "/web.1"], "APP/BACKEND"),
        (&["drain", "shop/web.1", "--deadline", "soon"], "--deadline"),
        (&["drain"], "APP/BACKEND"),
    ] {
        edge.command(words).is_refused(2, &[said]);
    }
    for id in ["web.1", "web.2"] {
        assert_eq!(edge.backend_status(id)["administrative"], "ready");
    }
    assert!(!edge.directory().join("state/administrative.json").exists());
}

#[test]
fn a_homing_that_does_not_run_cannot_be_asked() {
    let (_a, _b, mut edge, _pinned) = pair();
    let state = edge.directory().join("state");
    let from_there = |words: &[&str]| {
        let mut words = words.to_vec();
        words.extend(["--state-dir", state.to_str().unwrap()]);
        crate::harness::Told::from(homing(&words))
    };
    from_there(&["status"]).is_done("web.1");
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    let said = ["cannot reach Homing at", "control.sock", "is Homing running"];
    for words in [
        &["status"][..],
        &["reload"],
        &["restart"],
        &["drain", "shop/web.1"],
        &["ready", "shop/web.1"],
        &["maintenance", "on", "-a", "shop"],
        &["plan"],
    ] {
        edge.command(words).is_refused(1, &said);
    }
    from_there(&["status"]).is_refused(1, &said);
}

#[test]
fn a_running_homing_is_found_although_its_file_is_broken_by_now() {
    let (_a, _b, edge, _pinned) = pair();
    edge.rewrite("    backends:", "    bakends:");
    edge.command(&["drain", "shop/web.1"]).is_done("drain");
    let mut client: Client = edge.client();
    assert_eq!(client.get("/", "").text(), "web.2");
}
