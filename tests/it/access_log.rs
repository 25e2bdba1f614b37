//! One line a request, to standard output or to a file.

use crate::harness::{Backend, Edge, QUICK, eventually, shop};

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
        " status=200 bytes=5 protocol=http1.1 tls=false app=shop affinity=made cause= tries=1",
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
