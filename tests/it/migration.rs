//! Clients of another load balancer keep their backends, and get our cookie.

use std::thread;

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::harness::{Backend, Edge, Jar, QUICK, eventually, shop};

const EXPIRED: u64 = 25 * 3600;

fn three() -> [Backend; 3] {
    ["web.1", "web.2", "web.3"].map(Backend::named)
}

fn start(backends: &[Backend; 3], affinity: &str, adopt: &str) -> Edge {
    let settings = format!("{QUICK}    affinity: {{ {affinity}adopt: [{adopt}] }}\n");
    Edge::start(&shop(&settings, &backends.each_ref()))
}

/// Clients that came by way of HAProxy.
fn haproxy(affinity: &str) -> ([Backend; 3], Edge) {
    let backends = three();
    let entry = "{ cookie: SERVERID, format: haproxy, values: { s1: web.1, s2: web.2 } }";
    let edge = start(&backends, affinity, entry);
    (backends, edge)
}

fn adopted(cookie: &str) -> String {
    format!("homing_affinity_adopted_total{{app=\"shop\",cookie=\"{cookie}\"}}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client with this foreign cookie is at home in `web.2`, gets our cookie, and follows it.
#[track_caller]
fn keeps_its_backend(entry: &str, foreign: impl Fn(&Backend) -> String) {
    let backends = three();
    let foreign = format!("c={}", foreign(&backends[1]));
    let edge = start(&backends, "", entry);
    let mut jar = Jar::default();
    for _ in 0..6 {
        let response = edge.client().get("/", &format!("Cookie: a=1; {foreign}; b=2\r\n"));
        assert_eq!(response.text(), "web.2", "{foreign}");
        assert_eq!(response.all("set-cookie").len(), 1, "ours, and no word about the other");
        assert!(response.token().is_some());
        let seen = format!("a=1; {foreign}; b=2");
        assert_eq!(backends[1].last().all("cookie"), [seen.as_str()], "the app sees it");
        jar.take(&response);
    }
    edge.counts(&adopted("c"), 6.0);

    let both = format!("Cookie: {foreign}; {}", jar.header().strip_prefix("Cookie: ").unwrap());
    let response = edge.client().get("/", &both);
    assert_eq!((response.text().as_str(), response.token()), ("web.2", None));
    for _ in 0..5 {
        let response = jar.get(edge.address(), "/");
        assert_eq!((response.text().as_str(), response.token()), ("web.2", None));
    }
    edge.counts_affinity("followed", "", 12.0);
    edge.counts(&adopted("c"), 6.0);

    edge.client().get("/", "Cookie: c=nobody-knows-this\r\n");
    edge.counts_affinity("made", "", 1.0);
    edge.counts(&adopted("c"), 6.0);
}

#[test]
fn a_client_of_haproxy_keeps_its_backend() {
    let entry = "{ cookie: c, format: haproxy, values: { s1: web.1, s2: web.2 } }";
    keeps_its_backend(entry, |_| "s2".into());
    keeps_its_backend(entry, |_| "s2|awFlf".into());
    keeps_its_backend(entry, |_| "s2|awFlf|awFlf".into());
    keeps_its_backend("{ cookie: c, format: haproxy }", |_| "web.2|awFlf".into());
    // HAProxy 2.6.12 sent it, for another address.
    let addresses = "{ \"127.0.0.1:18101\": web.1, \"127.0.0.1:18102\": web.2 }";
    let entry = format!("{{ cookie: c, format: haproxy, key: MYKEY, addresses: {addresses} }}");
    keeps_its_backend(&entry, |_| "464ae5aeb0b624f6".into());
}

#[test]
fn a_client_of_nginx_keeps_its_backend() {
    let md5 = |backend: &Backend| hex(&Md5::digest(backend.address().to_string()));
    keeps_its_backend("{ cookie: c, format: nginx }", md5);
    // nginx 1.31.5 sent it, for another address.
    let addresses = "{ \"127.0.0.1:18101\": web.1, \"127.0.0.1:18102\": web.2 }";
    let entry = format!("{{ cookie: c, format: nginx, addresses: {addresses} }}");
    keeps_its_backend(&entry, |_| "d4515eabe517d737a5750d6f88e0a01e".into());
}

#[test]
fn a_client_of_ingress_nginx_keeps_its_backend() {
    // As lua-resty-balancer 0.05 finds it.
    let endpoints =
        "{ \"10.0.0.1:8080\": web.1, \"10.0.0.2:8080\": web.2, \"10.0.0.3:8080\": web.3 }";
    let entry = format!("{{ cookie: c, format: ingress_nginx, addresses: {endpoints} }}");
    keeps_its_backend(&entry, |_| "1714564125.43.999998".into());
    keeps_its_backend(&entry, |_| "1714564125.43.999998|10f2b49a6900fcbf20f75a8926fab356".into());
    let persistent = |backend: &Backend| {
        let service = "default-shop-80";
        let whose = hex(&Md5::digest(format!("{}{service}", hex(&Md5::digest(service)))));
        let key = hex(&Md5::digest(format!("{service}{}", backend.address())));
        format!("{key}|{whose}")
    };
    let entry = "{ cookie: c, format: ingress_nginx, service: default-shop-80 }";
    keeps_its_backend(entry, persistent);
}

#[test]
fn a_client_of_traefik_keeps_its_backend() {
    let url = |backend: &Backend| format!("http://{}", backend.address());
    keeps_its_backend("{ cookie: c, format: traefik }", url);
    keeps_its_backend("{ cookie: c, format: traefik }", |backend| {
        hex(&Sha256::digest(url(backend))[..8])
    });
}

#[test]
fn a_client_of_a_router_keeps_its_backend_by_a_map() {
    let entry = "{ cookie: c, format: map, values: { \"ACyogCg6+Sw==\": web.2, x: web.1 } }";
    keeps_its_backend(entry, |_| "ACyogCg6+Sw==".into());
}

#[test]
fn a_foreign_cookie_counts_only_while_ours_cannot_be_read() {
    let (_backends, edge) = haproxy("");
    let shows = |ours: &str| {
        let line = format!("Cookie: homing-affinity={ours}; SERVERID=s2\r\n");
        edge.client().get("/", &line).text()
    };
    assert_eq!(shows("garbage"), "web.2");
    edge.counts_affinity("followed", "", 1.0);
    edge.counts(&adopted("SERVERID"), 1.0);
    shows(&crate::affinity::value("web.1", EXPIRED));
    edge.counts_affinity("moved", "expired_idle", 1.0);
    assert_eq!(shows(&crate::affinity::value("web.1", 0)), "web.1");
    edge.counts(&adopted("SERVERID"), 1.0);
}

#[test]
fn the_ladder_holds_for_a_client_that_was_adopted() {
    let (backends, edge) = haproxy("on_unavailable: borrow, ");
    edge.command(&["drain", "shop/web.2"]).is_done("");
    edge.wait_for("web.2", "pinned_only");
    let drained = edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    assert_eq!(drained.text(), "web.2", "a draining backend keeps its clients");
    edge.command(&["ready", "shop/web.2"]).is_done("");
    backends[1].set_healthy(false);
    edge.wait_for("web.2", "closed");

    let mut jar = Jar::default();
    let response = edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    jar.take(&response);
    let stand_in = response.text();
    assert_ne!(stand_in, "web.2");
    assert!(response.token().is_some(), "its pin is kept, and it has to have it");
    for _ in 0..5 {
        let response = jar.get(edge.address(), "/");
        assert_eq!((response.text(), response.token()), (stand_in.clone(), None));
    }
    edge.counts_affinity("borrowed", "unhealthy", 6.0);
    backends[1].set_healthy(true);
    edge.wait_for("web.2", "open");
    assert_eq!(jar.get(edge.address(), "/").text(), "web.2", "home again, by ours alone");
    edge.counts(&adopted("SERVERID"), 2.0);
}

#[test]
fn a_client_whose_backend_is_away_is_moved_or_refused_or_waits_as_the_app_says() {
    let closed = |affinity: &str| {
        let (backends, edge) = haproxy(affinity);
        backends[1].set_healthy(false);
        edge.wait_for("web.2", "closed");
        (backends, edge)
    };
    let (_backends, edge) = closed("");
    let moved = edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    assert!(moved.text() != "web.2" && moved.token().is_some());
    edge.counts_affinity("moved", "unhealthy", 1.0);

    let (_backends, edge) = closed("on_unavailable: strict, ");
    let refused = edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("N10")));

    let (backends, edge) = closed("on_unavailable: wait, wait_limit: 1h, ");
    let mut client = edge.client();
    let waiting = thread::spawn(move || client.get("/", "Cookie: SERVERID=s2\r\n"));
    eventually("it waits", || {
        (edge.metric("homing_http_requests_in_flight{app=\"shop\"}") > 0.5).then_some(())
    });
    backends[1].set_healthy(true);
    let waited = waiting.join().unwrap();
    assert!(waited.text() == "web.2" && waited.token().is_some());
    edge.counts(&adopted("SERVERID"), 1.0);
}

#[test]
fn it_is_told_in_the_log_and_by_explain_and_counted_over_restarts_until_the_entry_goes() {
    let (_backends, edge) = haproxy("");
    let why = edge.command(&["explain", "--host", "a.example", "--cookie", "SERVERID=s2"]);
    why.is_done("`SERVERID` leads to web.2: the client gets our cookie for it");
    why.is_done("to web.2, where the pin leads");
    edge.counts(&adopted("SERVERID"), 0.0);
    edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    edge.counts(&adopted("SERVERID"), 1.0);
    eventually("the line of the request", || {
        edge.out().iter().any(|line| line.contains("\"adopted\":\"SERVERID\"")).then_some(())
    });
    edge.command(&["restart"]).is_done("serves");
    edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    edge.counts(&adopted("SERVERID"), 2.0);
    edge.rewrite("s2: web.2", "s2: web.3");
    edge.counts("homing_config_generation", 3.0);
    assert_eq!(edge.client().get("/", "Cookie: SERVERID=s2\r\n").text(), "web.3");
    edge.counts(&adopted("SERVERID"), 3.0);
    edge.rewrite("{ cookie: SERVERID,", "{ cookie: OTHER,");
    edge.counts("homing_config_generation", 4.0);
    edge.client().get("/", "Cookie: SERVERID=s2\r\n");
    edge.counts_affinity("made", "", 1.0);
    assert!(!edge.ask("/metrics").text().contains("cookie=\"SERVERID\""));
}
