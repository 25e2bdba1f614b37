//! What a backend is told of its client, and what neither side hands on.

use crate::harness::{Backend, Edge, QUICK, Reply, shop};

fn edge(head: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    (backend, edge)
}

#[test]
fn the_backend_is_told_of_the_client() {
    let (backend, edge) = edge("");
    let response = edge.get("/");
    let seen = backend.last();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-port"), [edge.address().port().to_string()]);
    assert_eq!(seen.all("via"), ["1.1 homing"]);
    assert_eq!(seen.header("host"), Some("shop.example.com"));
    let start: u128 = seen.header("x-request-start").unwrap().parse().unwrap();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now.abs_diff(start) < 60_000, "milliseconds since 1970");
    let id = seen.header("x-request-id").unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(response.header("x-request-id"), Some(id));
}

#[test]
fn a_stranger_is_not_believed_but_its_list_is_continued() {
    let (backend, edge) = edge("");
    edge.client().get(
        "/",
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
         X-Forwarded-Host: evil.example\r\nForwarded: for=1.2.3.4\r\nX-Request-Start: 1\r\nVia: 1.1 other\r\n",
    );
    let seen = backend.last();
    assert_eq!(seen.all("x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-port"), [edge.address().port().to_string()]);
    assert!(seen.all("x-forwarded-host").is_empty() && seen.all("forwarded").is_empty());
    assert_ne!(seen.header("x-request-start"), Some("1"));
    assert_eq!(seen.all("via"), ["1.1 other", "1.1 homing"]);
}

#[test]
fn a_trusted_proxy_is_believed() {
    let (backend, edge) = edge("trusted_proxies: [127.0.0.0/8]\naccess_log: { format: json }\n");
    edge.client().get(
        "/",
        "X-Forwarded-For: 1.2.3.4, 127.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Host: a.example\r\nX-Request-Start: 12\r\n",
    );
    let seen = backend.last();
    assert_eq!(seen.all("x-forwarded-for"), ["1.2.3.4, 127.0.0.9, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-port"), ["443"]);
    assert_eq!(seen.all("x-forwarded-host"), ["a.example"]);
    assert_eq!(seen.all("x-request-start"), ["12"]);
    let line = crate::harness::eventually("its line", || edge.out().pop());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["client"].as_str(), line["tls"].as_bool()), (Some("1.2.3.4"), Some(true)));
}

#[test]
fn a_request_id_of_the_client_is_kept_when_it_is_one() {
    let (backend, edge) = edge("");
    let good = "abcDEF123+/=-abcDEF123";
    assert_eq!(
        edge.client().get("/", &format!("X-Request-Id: {good}\r\n")).header("x-request-id"),
        Some(good)
    );
    assert_eq!(backend.last().all("x-request-id"), [good]);
    for bad in ["short", "under_score_under_score_under", &"x".repeat(201)] {
        let response = edge.client().get("/", &format!("X-Request-Id: {bad}\r\n"));
        assert_eq!(response.header("x-request-id").unwrap().len(), 36, "{bad}");
        assert_ne!(backend.last().header("x-request-id"), Some(bad));
    }
}

#[test]
fn what_concerns_one_connection_is_not_handed_on() {
    let backend = Backend::new("web.1", |_, _| {
        let lines = "Connection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nUpgrade: h2\r\nTrailer: x\r\nX-Public: 2\r\n";
        Reply::with("200 OK", lines, "")
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let response = edge.client().get(
        "/",
        "Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authorization: x\r\nTE: trailers\r\nX-Other: 2\r\n",
    );
    let seen = backend.last();
    for name in ["x-mine", "keep-alive", "proxy-authorization", "te", "connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-other"), Some("2"));
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade", "trailer"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(
        (response.header("x-public"), response.header("connection")),
        (Some("2"), Some("keep-alive"))
    );
}

#[test]
fn the_backend_is_asked_in_origin_form_and_told_a_host() {
    let (backend, edge) = edge("");
    let own = backend.address().to_string();
    for (line, fields, target, host) in [
        ("GET http://a.example/x?y HTTP/1.1", "Host: a.example\r\n", "/x?y", "a.example"),
        ("GET http://a.example?y HTTP/1.1", "Host: a.example\r\n", "/?y", "a.example"),
        ("GET http://a.example HTTP/1.1", "Host: a.example\r\n", "/", "a.example"),
        ("OPTIONS http://a.example HTTP/1.1", "Host: a.example\r\n", "*", "a.example"),
        ("OPTIONS * HTTP/1.1", "Host: a.example\r\n", "*", "a.example"),
        ("GET http://a.example/x HTTP/1.0", "", "/x", "a.example"),
        ("GET /x HTTP/1.0", "", "/x", own.as_str()),
    ] {
        let mut client = edge.client();
        client.send(format!("{line}\r\n{fields}\r\n"));
        assert_eq!(client.read().status, 200, "{line}");
        let seen = backend.last();
        assert_eq!((seen.path(), seen.header("host")), (target, Some(host)), "{line}");
    }
}
