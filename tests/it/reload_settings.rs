//! Each part of the file that a process takes in while it serves.

use std::fs;

use crate::harness::{Backend, Edge, Jar, Launch, QUICK, Reply, eventually, shop, write_key};

const TOLD: &str = "server: { threads: 2, grace_period: 5s, watch: off }\n";

fn edge(head: &str, settings: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(&format!("{TOLD}{head}"), &shop(settings, &[&backend]));
    (backend, edge)
}

#[test]
fn the_form_of_the_access_log_and_its_place() {
    let (_backend, edge) = edge("access_log: { format: json }\n", QUICK);
    edge.get("/first");
    eventually("a line", || edge.out().iter().any(|line| line.contains("/first")).then_some(()));
    edge.reload_with("format: json", "format: heroku");
    edge.get("/second");
    let heroku = |line: &String| line.contains("path=\"/second\"");
    eventually("a line in the other form", || edge.out().iter().any(heroku).then_some(()));
    edge.reload_with("format: heroku", "format: json, path: access.log");
    edge.get("/third");
    let read = || fs::read_to_string(edge.directory().join("access.log")).ok();
    eventually("a line in a file", || read().filter(|text| text.contains("/third")));
    edge.reload_with("path: access.log", "path: stdout");
    edge.get("/fourth");
    eventually("a line", || edge.out().iter().any(|line| line.contains("/fourth")).then_some(()));
    assert!(!read().unwrap().contains("/fourth"));
}

#[test]
fn an_access_log_that_cannot_be_opened_is_refused() {
    let (_backend, edge) = edge("access_log: { format: json }\n", QUICK);
    edge.rewrite("format: json", "format: json, path: nowhere/access.log");
    edge.command(&["reload"]).is_refused(2, &["nowhere/access.log"]);
    assert_eq!((edge.generation(), edge.get("/").status), (1.0, 200));
}

#[test]
fn trusted_proxies() {
    let (_backend, edge) = edge("trusted_proxies: []\n", QUICK);
    let is_secure = || {
        let response = edge.client().get("/", "X-Forwarded-Proto: https\r\n");
        response.header("set-cookie").unwrap().contains("; Secure")
    };
    assert!(!is_secure());
    edge.reload_with("trusted_proxies: []", "trusted_proxies: [127.0.0.1]");
    assert!(is_secure());
}

#[test]
fn timeouts() {
    let slow = Backend::new("web.1", |request, _| {
        if request.path() == "/slow" {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        Reply::ok("")
    });
    let settings = format!("{QUICK}    timeouts: {{ first_byte: 30s }}\n");
    let edge = Edge::start_with(TOLD, &shop(&settings, &[&slow]));
    assert_eq!(edge.get("/slow").status, 200);
    edge.reload_with("first_byte: 30s", "first_byte: 100ms");
    let late = edge.get("/slow");
    assert_eq!((late.status, late.header("x-homing-error")), (503, Some("H12")));
}

#[test]
fn keys_with_the_new_one_first_and_old_cookies_are_followed_and_sealed_again() {
    let (_backend, edge) = edge("affinity_keys: [{ file: key }]\n", QUICK);
    let mut jar = Jar::default();
    let old = jar.get(edge.address(), "/").token().unwrap();
    write_key(&edge.directory().join("key.new"), "another secret, just as long as it has to be");
    edge.reload_with("[{ file: key }]", "[{ file: key.new }, { file: key }]");
    let new = jar.get(edge.address(), "/").token().expect("it is sealed again");
    edge.counts_affinity("followed", "", 1.0);
    assert_eq!(jar.get(edge.address(), "/").token(), None);
    edge.reload_with("[{ file: key.new }, { file: key }]", "[{ file: key.new }]");
    edge.client().get("/", &format!("Cookie: {new}\r\n"));
    edge.counts_affinity("followed", "", 3.0);
    edge.client().get("/", &format!("Cookie: {old}\r\n"));
    edge.counts_affinity("moved", "unknown_key", 1.0);
}

#[test]
fn a_key_that_changed_in_its_file_is_noticed() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let old = edge.get("/").token().unwrap();
    write_key(&edge.directory().join("key"), "another secret, just as long as it has to be");
    edge.counts("homing_config_reloads_total{outcome=\"accepted\"}", 1.0);
    edge.client().get("/", &format!("Cookie: {old}\r\n"));
    edge.counts_affinity("moved", "unknown_key", 1.0);
}

#[test]
fn a_key_that_cannot_be_read_any_more_is_refused() {
    let (_backend, edge) = edge("affinity_keys: [{ file: key }]\n", QUICK);
    let old = edge.get("/").token().unwrap();
    write_key(&edge.directory().join("key"), "short");
    edge.command(&["reload"]).is_refused(2, &["key"]);
    edge.client().get("/", &format!("Cookie: {old}\r\n"));
    edge.counts_affinity("followed", "", 1.0);
}

#[test]
fn the_name_of_the_cookie() {
    let settings = format!("{QUICK}    affinity: {{ cookie: {{ name: first }} }}\n");
    let (_backend, edge) = edge("", &settings);
    assert!(edge.get("/").header("set-cookie").unwrap().starts_with("first="));
    edge.reload_with("name: first", "name: second");
    assert!(edge.get("/").header("set-cookie").unwrap().starts_with("second="));
}

#[test]
fn how_health_is_asked_for() {
    let backend = Backend::new("web.1", |_, _| Reply::with("404 Not Found", "", ""));
    let edge = Edge::start_with(TOLD, &shop(QUICK, &[&backend]));
    edge.reload_with("path: /healthz", "path: /nothing");
    edge.wait_for("web.1", "closed");
    edge.reload_with("path: /nothing, ", "");
    edge.wait_for("web.1", "open");
}

#[test]
fn the_token_of_the_admin_listener() {
    let backend = Backend::named("web.1");
    let launch = Launch::new(TOLD, &shop(QUICK, &[&backend]));
    write_key(&launch.directory().join("first"), "a first token of the tests");
    write_key(&launch.directory().join("second"), "a second token of the tests");
    let edge = launch.start_ready();
    let ask = |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
        let mut client = crate::harness::Client::connect(edge.admin());
        client.send(format!(
            "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n"
        ));
        client.read().status
    };
    assert_eq!(ask("a first token of the tests"), 404);
    let address = "admin: { address: \"127.0.0.1:0\"";
    edge.reload_with(address, &format!("{address}, token: {{ file: first }}"));
    assert_eq!(ask("a first token of the tests"), 200);
    edge.reload_with("file: first", "file: second");
    assert_eq!(ask("a first token of the tests"), 401);
    assert_eq!(ask("a second token of the tests"), 200);
}

#[test]
fn the_page_of_an_app_in_maintenance() {
    let (_backend, edge) = edge("", QUICK);
    fs::write(edge.directory().join("page.html"), "<p>back at noon</p>").unwrap();
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    assert!(!edge.get("/").text().contains("back at noon"));
    edge.reload_with(
        QUICK,
        &format!("{QUICK}    errors: {{ pages: {{ maintenance: page.html }} }}\n"),
    );
    let page = edge.client().get("/", "Accept: text/html\r\n");
    assert_eq!((page.status, page.text().as_str()), (503, "<p>back at noon</p>"));
}

#[test]
fn a_changed_page_is_taken_in_without_a_word() {
    for (scope, name) in [("apps", "own.html"), ("defaults", "common.html")] {
        let backend = Backend::named("web.1");
        let errors = format!("errors: {{ pages: {{ maintenance: {name} }} }}");
        let (head, settings) = match scope {
            "apps" => (String::new(), format!("{QUICK}    {errors}\n")),
            _ => (format!("defaults: {{ {errors} }}\n"), QUICK.to_owned()),
        };
        let launch = Launch::new(&head, &shop(&settings, &[&backend]));
        let page = launch.directory().join(name);
        fs::write(&page, "<p>back at noon</p>").unwrap();
        let edge = launch.start_ready();
        edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
        let text = || edge.client().get("/", "Accept: text/html\r\n").text();
        assert_eq!(text(), "<p>back at noon</p>", "{scope}");
        fs::write(&page, "<p>back at eight</p>").unwrap();
        eventually("the new page", || (text() == "<p>back at eight</p>").then_some(()));
    }
}

#[test]
fn a_second_app_and_its_domains() {
    let backend = Backend::named("web.1");
    let apps = shop(&format!("    domains: [shop.example.com]\n{QUICK}"), &[&backend]);
    let edge = Edge::start_with(TOLD, &apps.replace("default_app: shop\n", ""));
    let ask = || {
        let mut client = edge.client();
        client.send("GET / HTTP/1.1\r\nHost: new.example.com\r\n\r\n");
        client.read().status
    };
    assert_eq!(ask(), 404);
    let address = backend.address();
    let app = format!(
        "apps:\n  - name: news\n    domains: [new.example.com]\n    backends: [{{ id: n.1, address: \"{address}\" }}]\n"
    );
    edge.reload_with("apps:\n", &app);
    assert_eq!(ask(), 200);
    edge.reload_with("new.example.com", "old.example.com");
    assert_eq!(ask(), 404);
}
