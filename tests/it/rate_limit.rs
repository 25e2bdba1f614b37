//! Clients that ask too often.

use crate::harness::{Backend, Edge, QUICK, Response, shop};

const LIMIT: &str = "    rate_limit: { requests: 1, per: 1h, burst: 3 }\n";

fn edge(head: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(head, &shop(&format!("{LIMIT}{QUICK}"), &[&backend]));
    (backend, edge)
}

fn refused(response: &Response) {
    assert_eq!((response.status, response.header("x-homing-error")), (429, Some("N29")));
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&seconds), "{seconds}");
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let (backend, edge) = edge("");
    let statuses: Vec<u16> = (0..3).map(|_| edge.get("/").status).collect();
    assert_eq!(statuses, [200; 3]);
    let mut client = edge.client();
    refused(&client.get("/", ""));
    refused(&client.get("/", ""));
    assert_eq!(backend.requests().len(), 3);
    let series = "homing_http_requests_total{app=\"shop\",status=\"429\",failure=\"rate_limited\"}";
    edge.counts(series, 2.0);
    edge.counts("homing_http_requests_in_flight{app=\"shop\"}", 0.0);
    // A reload that changes something else keeps the buckets, and another limit begins anew.
    edge.reload_with("rise: 1", "rise: 2");
    refused(&edge.get("/"));
    edge.reload_with("burst: 3", "burst: 4");
    assert_eq!(edge.get("/").status, 200);
    edge.reload_with("{ requests: 1, per: 1h, burst: 4 }", "off");
    assert!((0..9).all(|_| edge.get("/").status == 200));
}

#[test]
fn behind_a_trusted_proxy_each_of_its_clients_has_a_bucket_of_its_own() {
    let (_backend, edge) = edge("trusted_proxies: [127.0.0.1]\n");
    let asked = |client: &str| edge.client().get("/", &format!("X-Forwarded-For: {client}\r\n"));
    for _ in 0..3 {
        assert_eq!(asked("192.0.2.1").status, 200);
    }
    refused(&asked("192.0.2.1"));
    assert_eq!(asked("192.0.2.2").status, 200);
    for part in 0..3 {
        assert_eq!(asked(&format!("2001:db8::{part}")).status, 200);
    }
    refused(&asked("2001:db8::ffff"));
}
