//! What the app says in `X-Homing-Affinity`: heard where that is allowed, and never seen by a client.

use std::collections::BTreeSet;
use std::io::Write;

use crate::harness::{Backend, Edge, Jar, QUICK, Reply, Told, eventually, homing, shop};

const OBEYED: &str = "    affinity: { obey_app: on }\n";

/// Says what the path says, `/end` as `/start,drain`, and answers with its own id.
fn speaking(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request, stream| {
        let said = format!("X-Homing-Affinity: {}\r\n", request.path().trim_start_matches('/'));
        match request.path() {
            "/" => Reply::ok(&own),
            "/lines" => Reply::with("200 OK", &format!("{said}x-homing-affinity: end\r\n"), &own),
            "/interim" => {
                let hints = "HTTP/1.1 103 Early Hints\r\nX-Homing-Affinity: end\r\n\r\n";
                stream.write_all(hints.as_bytes()).unwrap();
                Reply::ok(&own)
            }
            "/socket" => {
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
                Reply::Last(format!("{head}X-Homing-Affinity: end\r\n\r\n").into())
            }
            _ => Reply::with("200 OK", &said, &own),
        }
    })
}

/// Backends, and an edge of the app with these settings.
fn edge(settings: &str) -> ([Backend; 2], Edge) {
    let backends = ["web.1", "web.2"].map(speaking);
    let edge = Edge::start(&shop(&format!("{settings}{QUICK}"), &backends.each_ref()));
    (backends, edge)
}

/// A client of this backend.
fn pinned(edge: &Edge, id: &str) -> Jar {
    eventually("a client of the backend", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == id).then_some(jar)
    })
}

fn reason(edge: &Edge, backend: &str) -> String {
    edge.backend_status(backend)["reason"].as_str().unwrap().to_owned()
}

const DRAINED: &str = "drain (asked by the app)";

fn drained_times(edge: &Edge) -> f64 {
    edge.metric(
        "homing_backend_transitions_total{app=\"shop\",backend=\"web.1\",to=\"pinned_only\"}",
    )
}

/// Waits until everything is known that `web.1` said before: its probes fail and pass again.
fn settle(backends: &[Backend; 2], edge: &Edge) {
    backends[0].set_healthy(false);
    edge.wait_for("web.1", "closed");
    backends[0].set_healthy(true);
    edge.wait_for("web.1", "open");
}

#[test]
fn a_client_never_sees_the_word() {
    for settings in [OBEYED, "", "    affinity: off\n"] {
        let (_backends, edge) = edge(settings);
        for path in ["/end", "/start,drain", "/may-move", "/nonsense", "/lines"] {
            let response = edge.get(path);
            assert_eq!((response.status, response.all("x-homing-affinity").len()), (200, 0));
        }
        let mut client = edge.client();
        let interim = client.get("/interim", "");
        assert_eq!((interim.status, interim.header("x-homing-affinity")), (103, None));
        assert_eq!(client.read().header("x-homing-affinity"), None);
        let upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n";
        let switched = edge.client().get("/socket", upgrade);
        assert_eq!((switched.status, switched.header("x-homing-affinity")), (101, None));
    }
}

#[test]
fn a_pin_that_the_app_ends_is_taken_back_and_the_next_request_is_a_first_visit() {
    let (_backends, edge) = edge(OBEYED);
    let mut jar = Jar::default();
    jar.get(edge.address(), "/");
    let ended = jar.get(edge.address(), "/End");
    assert_eq!(
        ended.all("set-cookie"),
        ["homing-affinity=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"]
    );
    assert_eq!(ended.header("cache-control"), Some("private"));
    assert!(jar.header().is_empty());
    edge.counts_affinity("followed", "", 1.0);
    assert!(jar.get(edge.address(), "/").token().is_some());
    edge.counts_affinity("made", "", 2.0);
}

#[test]
fn a_pin_ends_on_a_101_as_on_any_response() {
    let (_backends, edge) = edge(OBEYED);
    let mut jar = Jar::default();
    jar.get(edge.address(), "/");
    let lines = format!("{}Connection: Upgrade\r\nUpgrade: echo\r\n", jar.header());
    let ended = edge.client().get("/socket", &lines);
    assert!(ended.status == 101 && ended.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[test]
fn a_first_visit_whose_pin_ends_has_none() {
    let (_backends, edge) = edge(OBEYED);
    let first = edge.get("/end");
    assert_eq!((first.header("set-cookie"), first.header("cache-control")), (None, None));
    edge.counts_affinity("off", "", 1.0);
    assert!(edge.affinity("made", "") < 0.5);
    // A cookie that is not to be honoured is taken back as well.
    let bad = edge.client().get("/end,start", "Cookie: homing-affinity=x\r\n");
    assert!(bad.header("set-cookie").unwrap().starts_with("homing-affinity=; "));
    edge.counts_affinity("moved", "malformed", 1.0);
}

#[test]
fn a_client_whose_pin_ended_is_no_client_of_the_backend() {
    let (backends, first) = edge(OBEYED);
    let second = Edge::start(&shop(&format!("{OBEYED}{QUICK}"), &backends.each_ref()));
    let bound = "homing_backend_bound_clients{app=\"shop\",backend=\"web.1\"}";
    let mut jar = pinned(&first, "web.1");
    jar.clone().get(second.address(), "/end");
    second.counts_affinity("followed", "", 1.0);
    assert!(second.metric(bound) < 0.5);
    jar.get(second.address(), "/");
    second.counts(bound, 1.0);
}

#[test]
fn the_word_does_nothing_where_it_is_not_allowed() {
    let (backends, edge) = edge("");
    let mut jar = pinned(&edge, "web.1");
    let response = jar.get(edge.address(), "/end,drain");
    assert_eq!((response.text().as_str(), response.header("set-cookie")), ("web.1", None));
    settle(&backends, &edge);
    assert!(drained_times(&edge) < 0.5);
    assert_eq!(jar.get(edge.address(), "/").text(), "web.1");
}

#[test]
fn what_clients_say_under_our_names_reaches_no_backend() {
    let spoofed = "X-Homing-Affinity: drain\r\nX-Homing-Moved-From: web.2; cause=removed\r\nx-homing-moved-from: -\r\n";
    for head in ["", "trusted_proxies: [127.0.0.1]\n"] {
        let backend = speaking("web.1");
        let edge = Edge::start_with(head, &shop(&format!("{OBEYED}{QUICK}"), &[&backend]));
        for more in ["", "Connection: Upgrade\r\nUpgrade: echo\r\n"] {
            edge.client().get("/", &format!("{spoofed}{more}X-Other: 1\r\n"));
            let seen = backend.last();
            assert_eq!(seen.header("x-other"), Some("1"));
            assert_eq!(seen.header("x-homing-affinity"), None, "{head}{more}");
            assert_eq!(seen.header("x-homing-moved-from"), None, "{head}{more}");
        }
        assert!(drained_times(&edge) < 0.5);
    }
}

#[test]
fn a_backend_that_asks_to_be_drained_keeps_its_clients_and_gets_no_new_ones() {
    let (_backends, edge) = edge(OBEYED);
    let mut jar = pinned(&edge, "web.1");
    for _ in 0..20 {
        assert_eq!(jar.get(edge.address(), "/drain").text(), "web.1");
    }
    edge.wait_for("web.1", "pinned_only");
    for _ in 0..20 {
        assert_eq!(edge.get("/").text(), "web.2");
        assert_eq!(jar.get(edge.address(), "/drain").text(), "web.1");
    }
    assert_eq!(drained_times(&edge), 1.0);
    assert_eq!(reason(&edge, "web.1"), DRAINED);
    assert_eq!(edge.backend_status("web.1")["administrative"], "ready");
    edge.command(&["status"]).is_done(DRAINED);
    edge.wait_for_log("why=\"asked by the app\"");
    let cookie = jar.header();
    let value = cookie.trim_end().split_once('=').unwrap().1;
    let why = edge.command(&["explain", "--host", "a.example", "--cookie", value]);
    why.is_done(DRAINED);
    why.is_done("to web.1, where the pin leads");
}

#[test]
fn a_restart_keeps_what_a_backend_asked_for_and_the_operator_overrules_it() {
    let (_backends, edge) = edge(OBEYED);
    let mut jar = pinned(&edge, "web.1");
    jar.get(edge.address(), "/drain");
    edge.wait_for("web.1", "pinned_only");
    edge.command(&["restart"]).is_done("serves");
    assert_eq!(reason(&edge, "web.1"), DRAINED);
    assert_eq!(edge.get("/").text(), "web.2");
    edge.command(&["ready", "shop/web.1"]).is_done("in state ready");
    assert_eq!(reason(&edge, "web.1"), "healthy");
    // It is said again and again, by the process that was overruled.
    let before = drained_times(&edge);
    for _ in 0..5 {
        assert_eq!(jar.get(edge.address(), "/drain").text(), "web.1");
    }
    let probes = "homing_health_probes_total{app=\"shop\",backend=\"web.1\",result=\"passed\"}";
    let seen = edge.metric(probes);
    eventually("what it said came before", || (edge.metric(probes) > seen + 2.5).then_some(()));
    assert_eq!((reason(&edge, "web.1").as_str(), drained_times(&edge)), ("healthy", before));
    edge.command(&["restart"]).is_done("serves");
    assert_eq!(reason(&edge, "web.1"), "healthy");
    jar.get(edge.address(), "/drain");
    drop(pinned(&edge, "web.1"));
}

#[test]
fn what_a_process_asked_for_ends_with_it() {
    let (backends, edge) = edge(OBEYED);
    let mut jar = pinned(&edge, "web.1");
    jar.get(edge.address(), "/drain");
    edge.wait_for("web.1", "pinned_only");
    // The process stops, and another one starts.
    settle(&backends, &edge);
    assert_eq!(reason(&edge, "web.1"), "healthy");
    jar.get(edge.address(), "/");
    drop(pinned(&edge, "web.1"));
    let mut again = pinned(&edge, "web.1");
    again.get(edge.address(), "/drain");
    edge.wait_for("web.1", "pinned_only");
}

#[test]
fn when_every_backend_asks_to_be_drained_nobody_is_refused() {
    let (_backends, edge) = edge(OBEYED);
    let mut jars = ["web.1", "web.2"].map(|id| pinned(&edge, id));
    jars[0].get(edge.address(), "/drain");
    edge.wait_for("web.1", "pinned_only");
    jars[1].get(edge.address(), "/drain");
    edge.wait_for("web.1", "open");
    let seen: BTreeSet<String> = (0..40).map(|_| edge.get("/drain").text()).collect();
    assert_eq!(seen.len(), 2);
    assert_eq!(reason(&edge, "web.2"), "healthy (asks to drain, no other is open)");
}

#[test]
fn the_word_counts_from_the_moment_it_is_allowed() {
    let (_backends, edge) = edge("    affinity: { obey_app: off }\n");
    let mut jar = Jar::default();
    jar.get(edge.address(), "/");
    assert_eq!(jar.get(edge.address(), "/end").header("set-cookie"), None);
    let next = edge.directory().join("next.yaml");
    let source = std::fs::read_to_string(edge.file()).unwrap();
    std::fs::write(&next, source.replace("obey_app: off", "obey_app: on")).unwrap();
    let plan = Told::from(homing(&["plan", "-c", next.to_str().unwrap()]));
    plan.is_done("affinity.obey_app off -> on");
    edge.reload_with("obey_app: off", "obey_app: on");
    assert!(jar.get(edge.address(), "/end").header("set-cookie").is_some());
}
