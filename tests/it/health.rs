//! What probes and failed connects do to requests and pins.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Client, Edge, Jar, QUICK, Reply, eventually, scratch, shop};

/// A client whose home is this backend.
fn client_of(edge: &Edge, backend: &str) -> Jar {
    eventually("a client of this backend", || {
        let mut jar = Jar::default();
        (jar.get(edge.address(), "/").text() == backend).then_some(jar)
    })
}

#[test]
fn clients_of_a_dead_backend_move_once_with_a_cause_and_stay_when_it_returns() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    let mut jar = client_of(&edge, "web.2");
    b.set_healthy(false);
    edge.wait_for("web.2", "closed");
    let requests = b.requests().len();
    let moved = jar.get(edge.address(), "/");
    assert_eq!((moved.text().as_str(), moved.token().is_some()), ("web.1", true));
    for _ in 0..20 {
        assert_eq!(edge.get("/").text(), "web.1");
        assert_eq!(jar.get(edge.address(), "/").text(), "web.1");
    }
    assert_eq!(b.requests().len(), requests, "a dead backend gets no request");
    edge.counts_affinity("moved", "unhealthy", 1.0);
    b.set_healthy(true);
    edge.wait_for("web.2", "open");
    for _ in 0..20 {
        assert_eq!(jar.get(edge.address(), "/").text(), "web.1");
    }
    edge.counts_affinity("moved", "unhealthy", 1.0);
}

#[test]
fn a_backend_that_was_not_probed_yet_is_waited_for() {
    // Accepts, and does not answer its first probe before it is told to.
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = "    health: { path: /ready, interval: 100ms, timeout: 20s }\n";
    let backend = Backend::listening("web.1", listener, move |request, _| {
        if request.path() == "/ready"
            && let Some(gate) = gate.lock().unwrap().take()
        {
            let _told = gate.recv();
        }
        Reply::ok("web.1")
    });
    assert_eq!(backend.address(), address);
    let edge = Edge::start_unready("", &shop(settings, &[&backend]));
    assert_eq!(edge.ask("/readyz").status, 503);
    let asked = thread::spawn({
        let address = edge.address();
        move || Client::connect(address).get("/", "")
    });
    eventually("the probe came", || (!backend.requests().is_empty()).then_some(()));
    assert!(backend.requests().iter().all(|request| request.path() == "/ready"));
    go.send(()).unwrap();
    assert_eq!(asked.join().unwrap().status, 200);
    edge.wait_until_ready();
}

#[test]
fn the_wait_for_a_first_verdict_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let settings = "    timeouts: { admission: 300ms }\n    health: { path: /, timeout: 30s }\n";
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n{settings}    backends: [{{ id: web.1, address: \"{silent}\" }}]\n"
    );
    let edge = Edge::start_unready("", &file);
    let response = edge.get("/");
    assert_eq!((response.status, response.header("x-homing-error")), (503, Some("H20")));
}

#[test]
fn a_refused_connection_sends_the_request_elsewhere_and_lets_the_backend_rest() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    // Probed so seldom that only requests find out.
    let settings = "    health: { path: /healthz, interval: 1h, interval_failing: 1h }\n";
    let edge = Edge::start(&shop(settings, &[&a, &b]));
    let mut jar = client_of(&edge, "web.2");
    b.stop();
    let moved = jar.get(edge.address(), "/");
    assert_eq!((moved.status, moved.text().as_str()), (200, "web.1"));
    assert!(moved.token().is_some());
    edge.counts_affinity("moved", "connect_failed", 1.0);
    edge.wait_for("web.2", "closed");
    for _ in 0..50 {
        assert_eq!(edge.get("/").status, 200);
    }
    let refused =
        "homing_backend_connects_total{app=\"shop\",backend=\"web.2\",result=\"refused\"}";
    edge.counts(refused, 1.0);
    // After five seconds it is believed again.
    edge.wait_for("web.2", "open");
}

#[test]
fn a_lone_backend_that_restarts_is_waited_for() {
    let backend = Backend::named("web.1");
    let settings = "    timeouts: { admission: 20s }\n    health: { path: /healthz, interval: 1h, interval_failing: 1h }\n";
    let edge = Edge::start(&shop(settings, &[&backend]));
    let mut jar = client_of(&edge, "web.1");
    let address = backend.stop();
    let asked = thread::spawn({
        let (mut jar, address) = (jar.clone(), edge.address());
        move || jar.get(address, "/")
    });
    edge.wait_for("web.1", "closed");
    let listener = eventually("the port is free", || TcpListener::bind(address).ok());
    let _again = Backend::listening("web.1", listener, |_, _| Reply::ok("web.1 again"));
    assert_eq!(asked.join().unwrap().text(), "web.1 again");
    assert_eq!(jar.get(edge.address(), "/").text(), "web.1 again");
    edge.counts_affinity("moved", "connect_failed", 0.0);
}

#[test]
fn probes_ask_what_the_operator_wants_asked() {
    let seen = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&seen);
    let backend = Backend::new("web.1", move |request, _| {
        if request.path() == "/up?x=1" && request.header("host") == Some("probe.internal") {
            assert_eq!(request.header("user-agent"), Some("homing-probe"));
            own.fetch_add(1, Ordering::SeqCst);
            return Reply::with("418 Teapot", "", "");
        }
        Reply::ok("web.1")
    });
    let settings = "    health: { path: \"/up?x=1\", host: probe.internal, statuses: [418], interval: 100ms }\n";
    let edge = Edge::start(&shop(settings, &[&backend]));
    assert_eq!(edge.get("/").status, 200);
    eventually("several probes", || (seen.load(Ordering::SeqCst) > 3).then_some(()));
    let passed = "homing_health_probes_total{app=\"shop\",backend=\"web.1\",result=\"passed\"}";
    assert!(edge.metric(passed) > 3.0);
}

#[test]
fn the_status_page_says_why_a_backend_is_closed() {
    let backend = Backend::named("web.1");
    let settings = "    health: { path: /healthz, statuses: [204], interval: 100ms }\n";
    let edge = Edge::start(&shop(settings, &[&backend]));
    let status: serde_json::Value = serde_json::from_slice(&edge.ask("/status").body).unwrap();
    let told = &status["apps"][0]["backends"][0];
    assert_eq!(
        (told["admission"].as_str(), told["reason"].as_str()),
        (Some("closed"), Some("unhealthy"))
    );
    assert_eq!(told["last_probe"]["result"], "status 200");
    let refused = edge.get("/");
    assert_eq!((refused.status, refused.header("x-homing-error")), (503, Some("H10")));
}

#[test]
fn without_a_path_a_probe_is_a_connect() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start(&shop("    health: { interval: 100ms, fall: 2 }\n", &[&a, &b]));
    b.stop();
    edge.wait_for("web.2", "closed");
    assert_eq!(edge.get("/").text(), "web.1");
}

#[test]
fn backends_may_go_unprobed() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop("    health: off\n", &[&backend]));
    backend.set_healthy(false);
    assert_eq!(edge.get("/").text(), "web.1");
}

/// Needs `openssl`, which tools/setup.sh installs.
#[test]
fn backends_that_speak_tls_are_probed_and_proxied() {
    let directory = scratch();
    let mut server = TlsServer::start(directory.path());
    let file = |tls: &str| {
        format!(
            "default_app: shop\napps:\n  - name: shop\n    backend_tls: {tls}\n\
             \x20   health: {{ path: /, interval: 100ms, fall: 1 }}\n    backends: [{{ id: web.1, address: \"{}\" }}]\n",
            server.address
        )
    };
    let edge = Edge::start(&file("{ server_name: shop.internal, verify: off }"));
    let response = edge.get("/");
    assert_eq!(response.status, 200, "{}", edge.log().join("\n"));
    assert!(response.text().contains("s_server"), "{}", response.text());
    // Nobody vouches for this certificate.
    let careful = Edge::start(&file("{ server_name: shop.internal }"));
    assert_eq!(careful.get("/").status, 503);
    server.child.kill().unwrap();
}

/// A server that speaks TLS, as `shop.internal` and `localhost`.
pub(crate) struct TlsServer {
    child: Child,
    pub(crate) address: std::net::SocketAddr,
}

impl TlsServer {
    pub(crate) fn start(directory: &std::path::Path) -> Self {
        let (key, certificate) = (directory.join("key.pem"), directory.join("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=shop.internal",
            ])
            .args(["-addext", "subjectAltName=DNS:shop.internal,DNS:localhost"])
            // Who trusts it as it is may take it for a server's.
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
        // Finds a free port: s_server cannot say which it took.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept", &address.to_string()])
            .arg("-key")
            .arg(&key)
            .arg("-cert")
            .arg(&certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("s_server listens", || std::net::TcpStream::connect(address).ok());
        Self { child, address }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn probes_are_spread_by_chance() {
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let own = Arc::clone(&times);
    let backend = Backend::new("web.1", move |_, _| {
        own.lock().unwrap().push(std::time::Instant::now());
        Reply::ok("")
    });
    let settings = "    health: { path: /probe, interval: 200ms, jitter_percent: 50 }\n";
    let _edge = Edge::start(&shop(settings, &[&backend]));
    eventually("some probes", || (times.lock().unwrap().len() > 12).then_some(()));
    let times = times.lock().unwrap();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(95), "{pauses:?}");
    assert!(*most > *least + Duration::from_millis(20), "{pauses:?}");
}
