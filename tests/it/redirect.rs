//! Who comes without TLS is sent to it, and browsers are told to come over it at once.

use serde_json::Value;

use crate::harness::{Backend, Client, Edge, QUICK, Reply, eventually, shop};

fn listener(keys: &str) -> String {
    format!("listeners: [{{ address: \"127.0.0.1:0\", {keys} }}]\n")
}

fn edge(head: &str, app: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let file = shop(&format!("{app}{QUICK}"), &[&backend]).replace("default_app: shop\n", "");
    let file = file.replace("- name: shop\n", "- name: shop\n    domains: [shop.example.com]\n");
    let edge = Edge::start_with(head, &file);
    (backend, edge)
}

/// The status and the place that a request is sent to.
fn sent(client: &mut Client, request: &str) -> (u16, Option<String>) {
    client.send(request);
    let response = client.try_read(request.split(' ').next().unwrap()).unwrap();
    (response.status, response.header("location").map(str::to_owned))
}

fn get(edge: &Edge, path: &str, headers: &str) -> (u16, Option<String>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com:8080\r\n{headers}\r\n");
    sent(&mut edge.client(), &request)
}

fn to(location: &str) -> Option<String> {
    Some(location.to_owned())
}

#[test]
fn who_comes_without_tls_is_sent_to_the_same_place_with_it() {
    let (backend, edge) = edge(&listener("redirect_to_https: on, https_port: 8443"), "");
    assert_eq!(get(&edge, "/a?b=c", ""), (308, to("https://shop.example.com:8443/a?b=c")));
    // Whatever the method, and with a body that nobody reads.
    let head = "Host: shop.example.com\r\n";
    for request in [
        format!("HEAD /x HTTP/1.1\r\n{head}\r\n"),
        format!("POST /x HTTP/1.1\r\n{head}Content-Length: 5\r\n\r\nhello"),
        format!(
            "PUT /x HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        "GET http://shop.example.com/x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".to_owned(),
        format!("GET /x HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ] {
        assert_eq!(
            sent(&mut edge.client(), &request),
            (308, to("https://shop.example.com:8443/x"))
        );
    }
    // Without one, the connection goes on.
    let mut client = edge.client();
    assert!((0..2).all(|_| client.get("/", "").status == 308));
    assert_eq!(backend.requests().len(), 0);
    edge.counts("homing_http_requests_total{app=\"shop\",status=\"308\",failure=\"\"}", 8.0);
    edge.counts("homing_http_requests_in_flight{app=\"shop\"}", 0.0);
    let line: Value = serde_json::from_str(&edge.out()[0]).unwrap();
    let told = ["at", "app", "status", "detail", "affinity", "failure"].map(|key| &line[key]);
    let expected = serde_json::json!(["info", "shop", 308, "redirect to https", null, null]);
    assert_eq!(serde_json::json!(told), expected);
}

#[test]
fn nobody_is_sent_to_a_host_that_is_no_apps() {
    let (_backend, edge) = edge(&listener("redirect_to_https: 301"), "");
    assert_eq!(
        get(&edge, "//evil.example/", ""),
        (301, to("https://shop.example.com//evil.example/"))
    );
    let other = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(sent(&mut edge.client(), other), (404, None));
    let malformed = "GET / HTTP/1.1\r\nHost: shop.example.com@evil.example\r\n\r\n";
    assert_eq!(sent(&mut edge.client(), malformed), (400, None));
}

#[test]
fn a_request_without_a_host_cannot_be_sent_anywhere() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(&listener("redirect_to_https: on"), &shop(QUICK, &[&backend]));
    assert_eq!(sent(&mut edge.client(), "GET / HTTP/1.0\r\n\r\n"), (400, None));
    // Any host may be the default app's.
    let any = "GET / HTTP/1.0\r\nHost: any.example\r\n\r\n";
    assert_eq!(sent(&mut edge.client(), any), (308, to("https://any.example/")));
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn who_came_over_tls_to_a_trusted_proxy_and_certificate_authorities_are_served() {
    let head = listener("redirect_to_https: 302") + "trusted_proxies: [127.0.0.1]\n";
    let (backend, edge) = edge(&head, "");
    assert_eq!(get(&edge, "/", "X-Forwarded-Proto: https\r\n"), (200, None));
    assert_eq!(get(&edge, "/.well-known/acme-challenge/token", ""), (200, None));
    assert_eq!(backend.last().path(), "/.well-known/acme-challenge/token");
    let elsewhere = to("https://shop.example.com/.well-known/acme-challenges");
    assert_eq!(get(&edge, "/.well-known/acme-challenges", ""), (302, elsewhere));
    assert_eq!(
        get(&edge, "/", "X-Forwarded-Proto: http\r\n"),
        (302, to("https://shop.example.com/"))
    );
    // A reload holds for connections from then on.
    edge.reload_with("redirect_to_https: 302", "redirect_to_https: off");
    assert_eq!(get(&edge, "/", ""), (200, None));
}

#[test]
fn browsers_are_told_to_come_over_tls_when_they_came_over_it() {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/own" => Reply::with("200 OK", "strict-transport-security: max-age=5\r\n", "own"),
        _ => Reply::ok("ok"),
    });
    let app = format!("    hsts: on\n    limits: {{ max_body: 1 }}\n{QUICK}");
    let edge = Edge::start_with("trusted_proxies: [127.0.0.1]\n", &shop(&app, &[&backend]));
    let told = |path: &str, headers: &str| {
        let response = edge.client().get(path, headers);
        let all = response.all("strict-transport-security");
        (response.status, all.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let tls = "X-Forwarded-Proto: https\r\n";
    let year = || vec!["max-age=31536000".to_owned()];
    assert_eq!(told("/", tls), (200, year()));
    // Not where anybody on the way could have said it (RFC 6797 §7.2).
    assert_eq!(told("/", ""), (200, vec![]));
    // The app's own word stays, and our own pages say it, too.
    assert_eq!(told("/own", tls), (200, vec!["max-age=5".to_owned()]));
    assert_eq!(told("/own", ""), (200, vec!["max-age=5".to_owned()]));
    assert_eq!(told("/", &format!("{tls}Content-Length: 2\r\n")), (413, year()));
    edge.reload_with("hsts: on", "hsts: { max_age: 730d, include_subdomains: on, preload: on }");
    let all = "max-age=63072000; includeSubDomains; preload".to_owned();
    eventually("another word", || (told("/", tls) == (200, vec![all.clone()])).then_some(()));
}
