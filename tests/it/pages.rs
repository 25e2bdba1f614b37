//! What clients get when it fails: whose page, in which form, with which status.

use std::fs;

use crate::harness::{Backend, Edge, Launch, QUICK, Reply, Response, eventually, shop};
use crate::health::TlsServer;

/// An edge whose only backend closes without a response, on `/silent`, and has these errors.
fn edge(errors: &str) -> (Backend, Edge) {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/silent" => Reply::Done,
        _ => Reply::ok("ok"),
    });
    let settings = format!("{QUICK}    errors: {errors}\n");
    let launch = Launch::new("", &shop(&settings, &[&backend]));
    fs::write(launch.directory().join("page.html"), "<b>{{code}} {{status}}</b> {{request_id}}")
        .unwrap();
    (backend, launch.start_ready())
}

#[track_caller]
fn ask(edge: &Edge, path: &str, headers: &str) -> Response {
    edge.client().get(path, headers)
}

#[test]
fn an_app_may_prefer_the_statuses_of_rfc_9110() {
    let (_backend, edge) = edge("{ status: rfc9110 }");
    let page = edge.get("/silent");
    assert_eq!((page.status, page.header("x-homing-error")), (502, Some("H13")));
    let silent =
        "homing_http_requests_total{app=\"shop\",status=\"502\",failure=\"backend_silent\"}";
    edge.counts(silent, 1.0);
    let line = eventually("its line", || edge.out().pop());
    assert!(line.contains("\"status\":502"), "{line}");
}

#[test]
fn a_request_that_no_app_serves_gets_what_the_defaults_say() {
    let backend = Backend::named("web.1");
    let apps = shop(&format!("    domains: [shop.example.com]\n{QUICK}"), &[&backend]);
    let apps = apps.replace("default_app: shop\n", "");
    let ask = |edge: &Edge| {
        let mut client = edge.client();
        client.send("GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n");
        client.read()
    };
    let plain = Edge::start(&apps);
    assert_eq!(ask(&plain).status, 404);
    let defaults = "defaults: { errors: { status: rfc9110, pages: { \"421\": page.html } } }\n";
    let launch = Launch::new(defaults, &apps);
    fs::write(launch.directory().join("page.html"), "{{title}}").unwrap();
    let edge = launch.start_ready();
    let page = ask(&edge);
    assert_eq!((page.status, page.text().as_str()), (421, "No app serves this host"));
    edge.counts(
        "homing_http_requests_total{app=\"-\",status=\"421\",failure=\"unknown_host\"}",
        1.0,
    );
}

#[test]
fn the_page_of_the_operator_carries_the_id_of_the_request() {
    let (_backend, edge) = edge("{ pages: { H13: page.html } }");
    let page = ask(&edge, "/silent", "X-Request-Id: abcdefghij0123456789\r\n");
    assert_eq!(page.text(), "<b>H13 503</b> abcdefghij0123456789");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-request-id"), Some("abcdefghij0123456789"));
    assert_eq!(page.header("retry-after"), None, "a backend may have seen it");
    // Only what it is for.
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    let other = edge.get("/");
    assert!(other.text().contains("Maintenance mode"), "{}", other.text());
    assert_eq!(other.header("retry-after"), Some("60"));
}

#[test]
fn who_asks_for_json_gets_a_problem() {
    let (_backend, edge) = edge("{ pages: { default: page.html } }");
    let page = ask(&edge, "/silent", "Accept: application/json\r\n");
    assert_eq!(page.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
    let id = page.header("x-request-id").unwrap();
    let expected = serde_json::json!({
        "type": "urn:x-homing:failure:backend_silent",
        "title": "Connection closed without response",
        "status": 503,
        "detail": "the same request may be sent again if it is idempotent",
        "instance": format!("urn:uuid:{id}"),
        "code": "H13",
        "error": "backend_silent",
        "request_id": id,
    });
    assert_eq!(problem, expected);
}

#[test]
fn a_page_has_no_body_for_head() {
    let (_backend, edge) = edge("{ pages: { default: page.html } }");
    let mut client = edge.client();
    client.send("HEAD /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_read_head().unwrap();
    assert_eq!(head.status, 503);
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 20);
    assert!(client.is_closed());
}

#[test]
fn a_page_at_a_url_is_fetched_kept_and_there_after_a_restart() {
    let pages = Backend::new("pages", |request, _| match request.path() {
        "/down.html" => Reply::ok("<p>{{code}} from afar</p>"),
        _ => Reply::with("404 Not Found", "", "nothing here"),
    });
    let at = |path: &str| format!("\"http://{}{path}\"", pages.address());
    let errors = format!(
        "{{ pages: {{ H13: {}, maintenance: {}, default: page.html }} }}",
        at("/down.html"),
        at("/none.html")
    );
    let (_backend, mut edge) = edge(&errors);
    let sent = |edge: &Edge| ask(edge, "/silent", "").text();
    eventually("the page is fetched", || (sent(&edge) == "<p>H13 from afar</p>").then_some(()));
    let asked = pages.requests().into_iter().find(|asked| asked.path() == "/down.html").unwrap();
    assert_eq!(asked.header("host"), Some(pages.address().to_string().as_str()));
    // The other one is not there: the next that suits is sent, and the log says so.
    let told = "cannot fetch an error page";
    let line = eventually(told, || edge.log().into_iter().find(|line| line.contains(told)));
    assert!(line.contains("/none.html") && line.contains("the answer is 404"), "{line}");
    pages.stop();
    edge.stop_and_start();
    assert_eq!(sent(&edge), "<p>H13 from afar</p>", "it was kept");
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    assert!(sent(&edge).starts_with("<b>H80 503</b>"));
}

#[test]
fn a_page_that_is_too_long_or_no_text_is_not_used() {
    let pages = Backend::new("pages", |request, _| match request.path() {
        "/long" => Reply::ok(&"x".repeat((64 << 10) + 1)),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec()),
    });
    let errors = format!(
        "{{ pages: {{ H13: \"http://{0}/long\", default: \"http://{0}/bytes\" }} }}",
        pages.address()
    );
    let (_backend, edge) = edge(&errors);
    for why in ["longer than 65536 bytes", "it is not UTF-8"] {
        eventually(why, || edge.log().into_iter().find(|line| line.contains(why)));
    }
    assert!(edge.get("/silent").text().contains("Connection closed without response"));
}

/// Needs `openssl`, which tools/setup.sh installs.
#[test]
fn a_page_over_tls_is_fetched_from_whom_it_is_named_after_alone() {
    let directory = crate::harness::scratch();
    let server = TlsServer::start(directory.path());
    let port = server.address.port();
    let start = |host: &str, trusted: &str| {
        let backend = Backend::new("web.1", |_, _| Reply::Done);
        let errors = format!("    errors: {{ pages: {{ H13: \"https://{host}:{port}/\" }} }}\n");
        let launch = Launch::new("", &shop(&format!("{QUICK}{errors}"), &[&backend]));
        (launch.variable("SSL_CERT_FILE", trusted).start_ready(), backend)
    };
    let ours = directory.path().join("cert.pem");
    let (edge, _backend) = start("localhost", ours.to_str().unwrap());
    eventually("the page is fetched", || edge.get("/").text().contains("s_server").then_some(()));
    let told = "cannot fetch an error page";
    // By another name than that in the certificate; and vouched for by nobody.
    for (host, trusted) in [("127.0.0.1", ours.to_str().unwrap()), ("localhost", "/dev/null")] {
        let (careful, _backend) = start(host, trusted);
        eventually(told, || careful.log().into_iter().find(|line| line.contains(told)));
        assert!(careful.get("/").text().contains("Connection closed"), "{host} {trusted}");
    }
}
