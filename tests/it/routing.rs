//! A host and a path lead to an app.

use crate::harness::{Backend, Edge, QUICK};

fn app(name: &str, routes: &str, backend: &Backend) -> String {
    let address = backend.address();
    format!(
        "  - name: {name}\n    {routes}\n    affinity: off\n{QUICK}    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    )
}

#[track_caller]
fn check(edge: &Edge, host: &str, path: &str, expected: &str) {
    let mut client = edge.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = client.read();
    let answer = if response.status == 200 { response.text() } else { response.status.to_string() };
    assert_eq!(answer, expected, "{host}{path}");
}

#[test]
fn hosts_and_paths_lead_to_their_apps() {
    let [shop, api, wild] = ["shop", "api", "wild"].map(Backend::named);
    let file = format!(
        "apps:\n{}{}{}",
        app("shop", "domains: [shop.example.com, \"[::1]\"]", &shop),
        app("api", "domains: [shop.example.com]\n    path_prefixes: [/api, /v2]", &api),
        app("wild", "domains: [\"*.example.com\"]", &wild),
    );
    let edge = Edge::start(&file);
    check(&edge, "shop.example.com", "/", "shop");
    check(&edge, "SHOP.Example.COM:8080", "/", "shop");
    check(&edge, "shop.example.com.", "/x?/api", "shop");
    check(&edge, "[::1]:80", "/", "shop");
    check(&edge, "shop.example.com", "/api", "api");
    check(&edge, "shop.example.com", "/api/x?y", "api");
    check(&edge, "shop.example.com", "/v2/", "api");
    check(&edge, "shop.example.com", "/apis", "shop");
    check(&edge, "a.example.com", "/", "wild");
    check(&edge, "a.b.example.com", "/api", "wild");
    check(&edge, "example.com", "/", "404");
    check(&edge, "other.example", "/", "404");
    let unknown = "homing_http_requests_total{app=\"-\",status=\"404\",failure=\"unknown_host\"}";
    edge.counts(unknown, 2.0);
}

#[test]
fn an_absolute_target_says_the_host() {
    let backend = Backend::named("shop");
    let edge =
        Edge::start(&format!("apps:\n{}", app("shop", "domains: [shop.example.com]", &backend)));
    let mut client = edge.client();
    client.send("GET http://shop.example.com/x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    assert_eq!(client.read().text(), "shop");
}

#[test]
fn a_default_app_takes_every_other_host() {
    let backend = Backend::named("shop");
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n{}",
        app("shop", "domains: [shop.example.com]", &backend)
    ));
    check(&edge, "other.example", "/", "shop");
}

#[test]
fn a_request_without_host_is_refused() {
    let backend = Backend::named("shop");
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n{}",
        app("shop", "domains: [shop.example.com]", &backend)
    ));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.read().status, 400);
    assert!(backend.requests().is_empty());
}

#[test]
fn an_unknown_host_is_told_so_in_its_language() {
    let backend = Backend::named("shop");
    let edge = Edge::start(&format!("apps:\n{}", app("shop", "domains: [a.example]", &backend)));
    let html = edge.client().get("/", "Accept: text/html\r\n");
    assert_eq!((html.status, html.header("content-type")), (404, Some("text/html; charset=utf-8")));
    let id = html.header("x-request-id").unwrap().to_owned();
    assert!(html.text().contains(&id) && html.text().contains("N04"));
    let mut client = edge.client();
    let json = client.get("/", "Accept: application/json\r\n");
    let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!((body["code"].as_str(), body["status"].as_u64()), (Some("N04"), Some(404)));
    assert_eq!(body["request_id"].as_str(), json.header("x-request-id"));
    // The connection is still good.
    assert_eq!(client.get("/", "").status, 404);
    client.send("HEAD / HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(client.try_read("HEAD").unwrap().status, 404);
}

#[test]
fn a_client_of_http_1_0_may_name_the_host_in_its_target_alone() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&format!(
        "apps:\n  - name: shop\n    domains: [shop.example.com]\n{QUICK}    backends: [{{ id: web.1, address: {} }}]\n",
        backend.address()
    ));
    let status = |target: &str| {
        let mut client = edge.client();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        client.read().status
    };
    assert_eq!(status("http://shop.example.com/a"), 200);
    assert_eq!(backend.last().path(), "/a");
    assert_eq!(status("http://other.example.com/a"), 404);
    assert_eq!(status("/a"), 404);
}
