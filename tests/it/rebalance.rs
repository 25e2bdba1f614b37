//! After a scale-up some clients move: few, when they are idle, and never in the middle of anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::affinity::cookie;
use crate::harness::{
    Backend, Client, Edge, Jar, Lively, QUICK, Reply, SECRET, eventually, eventually_within, shop,
    upgrade,
};

/// How old the cookies of idle clients are, in seconds.
const IDLE: u64 = 300;

const CLIENTS: usize = 24;

/// Clients that are pinned to `web.1` and were seen there, when `web.2` is added.
struct ScaledUp {
    edge: Edge,
    first: Lively,
    _second: Backend,
    /// The cookie that each client had when it was last active.
    cookies: Vec<String>,
}

/// How long cookies of before say nothing of who is idle, with `idle: 2s`: a renewal, and a minute for clocks.
const RHYTHM: Duration = Duration::from_secs(63);

impl ScaledUp {
    fn new(rebalance: &str) -> Self {
        let (first, second) = (Lively::named("web.1"), Backend::named("web.2"));
        let settings = format!("{QUICK}    affinity: {{ rebalance: {rebalance} }}\n");
        let edge = Edge::start(&shop(&settings, &[&first.backend]));
        let cookies: Vec<String> =
            (0..CLIENTS).map(|_| cookie(SECRET, "shop", "web.1", None, IDLE)).collect();
        for cookie in &cookies {
            assert_eq!(edge.client().get("/", cookie).text(), "web.1");
        }
        let added =
            format!("backends:\n      - {{ id: web.2, address: \"{}\" }}\n", second.address());
        edge.reload_with("backends:\n", &added);
        edge.wait_for("web.2", "open");
        Self { edge, first, _second: second, cookies }
    }

    fn address(&self) -> SocketAddr {
        self.edge.address()
    }

    /// Where a client is sent that asks for the first time after a pause.
    fn visit(&self, client: usize, method: &str) -> String {
        let mut connection = Client::connect(self.address());
        let cookie = &self.cookies[client];
        connection.send(format!(
            "{method} / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n{cookie}\r\n"
        ));
        connection.read().text()
    }
}

#[test]
fn idle_clients_move_and_those_who_are_busy_stay() {
    let world = ScaledUp::new("off");
    // The first four: one posts, one has a WebSocket, one has a request in hand, one was active just now.
    let mut socket = Client::connect(world.address());
    upgrade(&mut socket, &world.cookies[1]);
    let switched_on = Instant::now();
    world.edge.reload_with("rebalance: off", "rebalance: { budget_percent: 100, idle: 2s }");
    eventually_within(2 * RHYTHM, "cookies are renewed in the new rhythm", || {
        let early = switched_on.elapsed() < RHYTHM;
        assert!(!early || world.visit(3, "GET") == "web.1", "those of before told who was idle");
        (!early).then_some(())
    });
    let mut slow = Client::connect(world.address());
    slow.send(format!("GET /slow HTTP/1.1\r\nHost: a.example\r\n{}\r\n", world.cookies[2]));
    let active = cookie(SECRET, "shop", "web.1", None, 3);
    let mut moved = Vec::new();
    eventually("some clients move", || {
        assert_eq!(world.visit(0, "POST"), "web.1");
        assert_eq!(world.visit(1, "GET"), "web.1");
        assert_eq!(world.visit(2, "GET"), "web.1");
        assert_eq!(world.edge.client().get("/", &active).text(), "web.1");
        let client = (4..CLIENTS)
            .find(|client| !moved.contains(client) && world.visit(*client, "GET") == "web.2");
        moved.extend(client);
        (moved.len() >= 3).then_some(())
    });
    // What left before the client knew goes the same way, whatever it is.
    assert_eq!(world.visit(moved[0], "POST"), "web.2");
    let counted = world.edge.affinity("moved", "rebalanced");
    assert!(counted >= 4.0, "{counted}");
    let ratio = world.edge.metric("homing_affinity_imbalance_ratio{app=\"shop\"}");
    assert!(ratio < 1.9, "{ratio}");
    world.first.gate.open();
    assert_eq!(slow.read().text(), "web.1");
}

#[test]
fn a_client_that_moved_is_pinned_there_and_not_moved_again() {
    let world = ScaledUp::new("{ budget_percent: 100, idle: 2s }");
    let token = eventually_within(3 * RHYTHM, "a client moves", || {
        (0..CLIENTS).find_map(|client| {
            let response = world.edge.client().get("/", &world.cookies[client]);
            (response.text() == "web.2").then(|| response.token().unwrap())
        })
    });
    let again = world.edge.client().get("/", &format!("Cookie: {token}\r\n"));
    assert_eq!((again.text().as_str(), again.token()), ("web.2", None));
    let value = token.split_once('=').unwrap().1;
    let told = world.edge.command(&["explain", "--host", "a.example", "--cookie", value]);
    told.is_done("to web.2, where the pin leads");
}

#[test]
fn who_is_bound_where_is_known_after_a_restart() {
    let world = ScaledUp::new("{ budget_percent: 1, idle: 1h }");
    let series = "homing_backend_bound_clients{app=\"shop\",backend=\"web.1\"}";
    world.edge.counts(series, 24.0);
    world.edge.command(&["restart"]).is_done("serves");
    world.edge.counts(series, 24.0);
}

#[test]
fn a_client_moves_at_once_when_the_app_says_that_it_may() {
    let first = Backend::new("web.1", |_, _| {
        Reply::with("200 OK", "X-Homing-Affinity: may-move\r\n", "web.1")
    });
    let second = Backend::named("web.2");
    let settings = format!(
        "{QUICK}    affinity: {{ obey_app: on, rebalance: {{ budget_percent: 100, idle: 1h }} }}\n"
    );
    let edge = Edge::start(&shop(&settings, &[&first, &second]));
    // All are active: only the word of the app makes them move.
    let mut jars: Vec<Jar> = (0..CLIENTS).map(|_| Jar::default()).collect();
    for jar in &mut jars {
        let cookie = cookie(SECRET, "shop", "web.1", None, 0);
        let response = edge.client().get("/", &cookie);
        assert_eq!(response.header("x-homing-affinity"), None);
        let (name, value) =
            cookie.trim().strip_prefix("Cookie: ").unwrap().split_once('=').unwrap();
        jar.set(name, value);
    }
    eventually("a client moves", || {
        jars.iter_mut().any(|jar| jar.get(edge.address(), "/").text() == "web.2").then_some(())
    });
    let told = second.last();
    assert_eq!(told.header("x-homing-moved-from"), Some("web.1; cause=rebalanced"));
    edge.counts_affinity("moved", "rebalanced", 1.0);
}

#[test]
fn nobody_moves_where_it_is_switched_off() {
    let world = ScaledUp::new("off");
    for client in 0..CLIENTS {
        assert_eq!(world.visit(client, "GET"), "web.1");
    }
    world.edge.counts("homing_affinity_imbalance_ratio{app=\"shop\"}", 2.0);
}
