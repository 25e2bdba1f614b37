//! One line a request, to standard output or to a file.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::harness::{Backend, Edge, QUICK, Reply, echo, eventually, shop};

#[test]
fn a_json_line_tells_all_of_a_request() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let response = edge.get("/path?query=1");
    let line = eventually("its line", || edge.out().pop());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (field, expected) in [
        ("at", "info"),
        ("method", "GET"),
        ("path", "/path?query=1"),
        ("host", "shop.example.com"),
        ("client", "127.0.0.1"),
        ("fwd", "127.0.0.1"),
        ("app", "shop"),
        ("backend", "web.1"),
        ("affinity", "made"),
        ("protocol", "http1.1"),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert_eq!(line["request_id"].as_str(), response.header("x-request-id"));
    assert_eq!((line["status"].as_u64(), line["bytes"].as_u64()), (Some(200), Some(5)));
    assert_eq!((line["tries"].as_u64(), line["tls"].as_bool()), (Some(1), Some(false)));
    assert!(line["cause"].is_null() && line["connect_ms"].is_u64() && line["service_ms"].is_u64());
}

#[test]
fn the_line_of_the_heroku_router_is_there_for_who_parses_it() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with("access_log: { format: heroku }\n", &shop(QUICK, &[&backend]));
    edge.get("/path");
    let line = eventually("its line", || edge.out().pop());
    assert!(
        line.starts_with("at=info method=GET path=\"/path\" host=shop.example.com request_id="),
        "{line}"
    );
    for part in [
        " fwd=\"127.0.0.1\" dyno=web.1 connect=",
        " status=200 bytes=5 protocol=http1.1 tls=false app=shop affinity=made affinity_cause= tries=1 first_byte=",
        " bytes_received=0",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_file_is_opened_again_after_a_rotation() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with("access_log: { path: access.log }\n", &shop(QUICK, &[&backend]));
    let path = edge.directory().join("access.log");
    let moved = edge.directory().join("access.log.1");
    let has = |path: &std::path::Path, text: &str| {
        std::fs::read_to_string(path).ok().filter(|log| log.contains(text)).map(|_| ())
    };
    edge.get("/one");
    eventually("the first line", || has(&path, "/one"));
    std::fs::rename(&path, &moved).unwrap();
    edge.signal("-USR1");
    eventually("the new file", || path.exists().then_some(()));
    edge.get("/two");
    eventually("the second line", || has(&path, "/two"));
    assert!(has(&moved, "/two").is_none());
}

#[test]
fn no_line_is_lost_when_the_process_ends() {
    let backend = Backend::named("web.1");
    let mut edge =
        Edge::start_with("access_log: { path: access.log }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    for _ in 0..500 {
        client.get("/", "");
    }
    drop(client);
    edge.signal("-TERM");
    assert!(edge.wait().success());
    let log = std::fs::read_to_string(edge.directory().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 500);
}

#[test]
fn requests_may_go_unlogged() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with("access_log: { format: off }\n", &shop(QUICK, &[&backend]));
    for _ in 0..10 {
        edge.get("/");
    }
    assert!(edge.out().is_empty());
}

fn last(edge: &Edge, path: &str) -> serde_json::Value {
    let is_it = |line: &serde_json::Value| line["path"] == path;
    eventually("its line", || {
        edge.out().iter().rev().map(|line| serde_json::from_str(line).unwrap()).find(is_it)
    })
}

#[test]
fn a_line_names_the_backends_that_were_tried_in_vain() {
    let backend = Backend::named("web.2");
    // Port 1 is nobody's, and this weight makes it nearly everybody's first choice.
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    backends:\n      \
         - {{ id: web.1, address: \"127.0.0.1:1\", weight: 1000 }}\n      - {{ id: web.2, address: \"{}\" }}\n",
        backend.address()
    );
    let edge = Edge::start(&file);
    assert_eq!(edge.get("/tried").status, 200);
    let line = last(&edge, "/tried");
    assert_eq!(line["tried"], serde_json::json!(["web.1"]), "{line}");
    assert_eq!((line["backend"].as_str(), line["tries"].as_u64()), (Some("web.2"), Some(2)));
    // It rests now: nothing is tried in vain.
    assert_eq!(edge.get("/not").status, 200);
    assert!(last(&edge, "/not").get("tried").is_none());
}

#[test]
fn a_failure_is_named_as_in_the_metrics() {
    let backend = Backend::new("web.1", |_, _| Reply::Done);
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    edge.get("/silent");
    let line = last(&edge, "/silent");
    let told = ["failure", "code", "at"].map(|field| line[field].as_str());
    assert_eq!(told, [Some("backend_silent"), Some("H13"), Some("error")]);
    edge.command(&["maintenance", "on", "-a", "shop"]).is_done("in maintenance");
    edge.get("/closed");
    assert_eq!(last(&edge, "/closed")["at"], "info", "the operator meant it");
}

#[test]
fn a_line_counts_what_followed_an_upgrade() {
    let backend = Backend::new("web.1", |request, stream| {
        let protocol = request.header("upgrade").unwrap();
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ";
        stream.write_all(format!("{head}{protocol}\r\n\r\n").as_bytes()).unwrap();
        echo(stream)
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.read().status, 101);
    for text in ["hello", "again"] {
        client.send(text);
        let mut echoed = vec![0; text.len()];
        client.reader.read_exact(&mut echoed).unwrap();
    }
    drop(client);
    let line = last(&edge, "/up");
    assert!(line["upgraded_ms"].is_u64(), "{line}");
    assert_eq!((line["bytes"].as_u64(), line["bytes_received"].as_u64()), (Some(10), Some(10)));
}

#[test]
fn a_request_whose_connection_is_cut_has_its_line() {
    // Accepts, and neither reads nor answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n    timeouts: {{ idle: 500ms }}\n    health: off\n    \
         errors: {{ status: rfc9110 }}\n    backends: [{{ id: web.1, address: \"{}\" }}]\n",
        listener.local_addr().unwrap()
    );
    let edge = Edge::start(&file);
    let mut client = edge.client();
    client.send("POST /stuck HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    while writer.write_all(&[7; 1 << 16]).is_ok() {}
    let line = last(&edge, "/stuck");
    for (field, expected) in [
        ("method", "POST"),
        ("host", "a.example"),
        ("code", "H15"),
        ("failure", "backend_idle"),
        ("backend", "web.1"),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert!(line["bytes_received"].as_u64().unwrap() > 1 << 16, "{line}");
    assert_eq!(line["status"], 504);
    let counted =
        "homing_http_requests_total{app=\"shop\",status=\"504\",failure=\"backend_idle\"}";
    edge.counts(counted, 1.0);
}
