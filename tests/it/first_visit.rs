//! A browser's first requests, sent at once over several connections before it has a cookie.

use crate::harness::{Backend, Client, Edge, Jar, QUICK, Response, shop};

/// As many connections to one host as browsers open for HTTP/1.1.
const CONNECTIONS: usize = 6;

/// Longer than the test: no epoch ends in it.
const BY_CLIENT: &str = "first_visit: by_client, first_visit_epoch: 1h";

fn four() -> [Backend; 4] {
    ["web.1", "web.2", "web.3", "web.4"].map(Backend::named)
}

fn edge(affinity: &str, backends: &[Backend; 4]) -> Edge {
    let settings = format!("{QUICK}    affinity: {{ {affinity} }}\n");
    Edge::start(&shop(&settings, &backends.each_ref()))
}

/// A browser: one store of cookies for all of its connections.
struct Browser {
    agent: String,
    jar: Jar,
    connections: Vec<Client>,
}

impl Browser {
    /// Opens its connections, one after the other over these edges.
    fn open(agent: &str, edges: &[&Edge]) -> Self {
        let connections =
            edges.iter().cycle().take(CONNECTIONS).map(|edge| edge.client()).collect();
        Self { agent: agent.to_owned(), jar: Jar::default(), connections }
    }

    /// Sends a request on every connection before it reads the first response; the last cookie wins. Answers with
    /// the backends that it reached.
    fn load(&mut self) -> Vec<String> {
        let cookies = self.jar.header();
        for (number, connection) in self.connections.iter_mut().enumerate() {
            let head = format!("GET /{number}.js HTTP/1.1\r\nHost: shop.example.com\r\n");
            connection.send(format!("{head}User-Agent: {}\r\n{cookies}\r\n", self.agent));
        }
        let responses: Vec<Response> = self.connections.iter_mut().map(Client::read).collect();
        responses.iter().for_each(|response| self.jar.take(response));
        let mut reached: Vec<String> = responses.iter().map(Response::text).collect();
        reached.sort();
        reached.dedup();
        reached
    }
}

#[test]
fn the_first_requests_of_a_browser_agree_on_a_backend_and_the_next_ones_return_there() {
    let backends = four();
    let edges = [edge(BY_CLIENT, &backends), edge(BY_CLIENT, &backends)];
    let mut homes = Vec::new();
    for number in 0..24 {
        let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Firefox/{number}.0");
        let mut browser = Browser::open(&agent, &[&edges[0], &edges[1]]);
        let first = browser.load();
        assert_eq!(first.len(), 1, "all connections, over both edges: {first:?}");
        assert_eq!(browser.load(), first);
        assert_eq!(browser.load(), first);
        homes.extend(first);
    }
    homes.sort();
    homes.dedup();
    assert!(homes.len() > 2, "browsers are spread: {homes:?}");
    let half = f64::from(24 * 3);
    for edge in &edges {
        edge.counts_affinity("made", "", half);
        edge.counts_affinity("followed", "", 2.0 * half);
    }
}

#[test]
fn by_default_each_first_request_is_drawn_by_chance() {
    let backends = four();
    let edge = edge("idle: 24h", &backends);
    // That all six agree by chance, ten times in a row, never happens.
    let scattered = (0..10).any(|_| {
        let mut browser = Browser::open("Firefox", &[&edge]);
        browser.load().len() > 1
    });
    assert!(scattered);
}

#[test]
fn the_same_agent_at_another_address_is_another_client() {
    let backends = four();
    let settings = format!("{QUICK}    affinity: {{ {BY_CLIENT} }}\n");
    let edge =
        Edge::start_with("trusted_proxies: [127.0.0.1]\n", &shop(&settings, &backends.each_ref()));
    let home = |address: &str| {
        let headers = format!("X-Forwarded-For: {address}\r\nUser-Agent: Firefox\r\n");
        edge.client().get("/", &headers).text()
    };
    let mut homes: Vec<String> = (0..40).map(|host| home(&format!("192.0.2.{host}"))).collect();
    assert_eq!(homes[7], home("192.0.2.7"));
    homes.sort();
    homes.dedup();
    assert!(homes.len() > 2, "addresses are spread: {homes:?}");
}

#[test]
fn a_first_visit_is_drawn_among_those_that_are_open() {
    let backends = four();
    let edge = edge(BY_CLIENT, &backends);
    let mut browser = Browser::open("Firefox", &[&edge]);
    let first = browser.load();
    let home = backends.iter().find(|backend| backend.id() == first[0]).unwrap();
    home.set_healthy(false);
    edge.wait_for(home.id(), "closed");
    let mut other = Browser::open("Firefox", &[&edge]);
    let second = other.load();
    assert!(second.len() == 1 && second != first, "{first:?}, {second:?}");
    home.set_healthy(true);
    edge.wait_for(home.id(), "open");
    assert_eq!(other.load(), second, "it has a pin by now");
    let told = edge.command(&[
        "explain",
        "--host",
        "a.example",
        "--header",
        "User-Agent: Firefox",
        "--address",
        "127.0.0.1",
    ]);
    told.is_done(&format!(
        "decision     a first visit: {} is drawn, for all of this client",
        first[0]
    ));
}
