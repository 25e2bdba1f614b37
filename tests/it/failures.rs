//! Every failure names the party at fault.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Backend, Edge, QUICK, Reply, eventually, shop};

#[track_caller]
fn check(edge: &Edge, path: &str, status: u16, code: &str, label: &str) {
    let response = edge.get(path);
    assert_eq!(
        (response.status, response.header("x-homing-error")),
        (status, Some(code)),
        "{path}"
    );
    assert_eq!(response.header("connection"), Some("close"));
    let series = format!(
        "homing_http_requests_total{{app=\"shop\",status=\"{status}\",failure=\"{label}\"}}"
    );
    edge.counts(&series, 1.0);
}

#[test]
fn a_backend_at_fault_is_named() {
    let backend = Backend::new("web.1", |request, stream| match request.path() {
        "/silent" => Reply::Done,
        "/garbage" => Reply::Last(b"what is this?\r\n\r\n".to_vec()),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(3));
            Reply::ok("late")
        }
        "/lengths" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
            stream.write_all(head.as_bytes()).unwrap();
            Reply::Done
        }
        _ => Reply::ok("ok"),
    });
    let settings = format!("    timeouts: {{ first_byte: 500ms }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]));
    check(&edge, "/silent", 503, "H13", "backend_silent");
    check(&edge, "/garbage", 502, "H17", "bad_response");
    check(&edge, "/slow", 503, "H12", "first_byte_timeout");
    assert_eq!(edge.get("/lengths").status, 502);
    assert_eq!(edge.get("/fine").status, 200);
}

#[test]
fn the_first_byte_may_take_longer_than_two_later_ones() {
    let backend = Backend::new("web.1", |_, stream| {
        std::thread::sleep(Duration::from_millis(900));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let _cut = stream.write_all(b"cd");
        Reply::Done
    });
    let settings = format!("    timeouts: {{ first_byte: 10s, idle: 500ms }}\n{QUICK}");
    let edge = Edge::start_with("access_log: { format: heroku }\n", &shop(&settings, &[&backend]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_read_head().unwrap().status, 200);
    assert_eq!(client.read_line().as_deref(), Some("ab"), "then it is cut");
    let line = eventually("its line", || edge.out().pop());
    assert!(line.starts_with("sock=backend at=error code=H15"), "{line}");
}

#[test]
fn a_backend_that_breaks_off_cuts_the_response() {
    let backend = Backend::new("web.1", |_, _| {
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_read("GET").is_none());
    let series =
        "homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"backend_interrupted\"}";
    eventually(series, || (edge.metric(series) > 0.5).then_some(()));
}

#[test]
fn refused_everywhere_is_told_from_nobody_there() {
    // Ports below 1024 are nobody's by chance.
    let mut nobody = 1..;
    let mut gone = || format!("127.0.0.1:{}", nobody.next().unwrap());
    let settings = "    timeouts: { admission: 200ms }\n    health: off\n";
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n{settings}    backends:\n      - {{ id: web.1, address: \"{}\" }}\n      - {{ id: web.2, address: \"{}\" }}\n",
        gone(),
        gone()
    );
    let edge = Edge::start(&file);
    check(&edge, "/", 503, "H21", "connect_refused");
    let refused =
        "homing_backend_connects_total{app=\"shop\",backend=\"web.1\",result=\"refused\"}";
    edge.counts(refused, 1.0);
    let line = eventually("its line", || edge.out().pop());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut tried: Vec<&str> =
        line["tried"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    tried.sort_unstable();
    assert_eq!(tried, ["web.1", "web.2"], "{line}");
    // Both rest now.
    let resting = edge.get("/");
    assert_eq!((resting.status, resting.header("x-homing-error")), (503, Some("H34")));
    let empty = Edge::start(&shop(QUICK, &[]));
    check(&empty, "/", 503, "H14", "no_backend");
}

#[test]
fn an_unanswered_connect_is_a_timeout() {
    // A full queue: the kernel answers no further connect.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        held.push(stream);
    }
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n    timeouts: {{ connect: 200ms, admission: 200ms }}\n    health: off\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    );
    let edge = Edge::start(&file);
    check(&edge, "/", 503, "H19", "connect_timeout");
}

#[test]
fn a_request_whose_body_is_gone_is_not_sent_twice() {
    let backend = Backend::new("web.1", |_, _| Reply::Done);
    let other = Backend::new("web.2", |_, _| Reply::Done);
    let edge = Edge::start(&shop(QUICK, &[&backend, &other]));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.read().header("x-homing-error"), Some("H13"));
    assert_eq!(backend.requests().len() + other.requests().len(), 1);
}

#[test]
fn a_client_that_leaves_is_logged_as_such() {
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new("web.1", move |_, _| {
        let _told = wait.lock().unwrap().recv_timeout(crate::harness::PATIENCE);
        Reply::ok("")
    });
    let edge = Edge::start_with("access_log: { format: heroku }\n", &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the backend has it", || (!backend.requests().is_empty()).then_some(()));
    drop(client);
    let line = eventually("its line", || edge.out().pop());
    assert!(line.starts_with("sock=client at=warning code=H27 desc=\"Client Request Interrupted\" method=GET path=\"/left\""), "{line}");
    assert!(line.contains(" status=499 "), "{line}");
    send.send(()).unwrap();
}

#[test]
fn a_client_that_stalls_is_not_blamed_on_the_backend() {
    let backend = Backend::named("web.1");
    let settings = format!("    timeouts: {{ idle: 500ms }}\n{QUICK}");
    let edge = Edge::start_with("access_log: { format: heroku }\n", &shop(&settings, &[&backend]));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    assert!(client.is_closed());
    let line = eventually("its line", || edge.out().pop());
    assert!(line.starts_with("sock=client at=warning code=H28"), "{line}");
}

#[test]
fn a_body_that_is_no_body_is_the_clients_fault() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n");
    let response = client.read();
    assert_eq!((response.status, response.header("x-homing-error")), (400, Some("H26")));
}

#[test]
fn an_upload_to_a_backend_that_does_not_read_ends() {
    // Accepts, and neither reads nor answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n    timeouts: {{ idle: 500ms }}\n    health: off\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    );
    let edge = Edge::start(&file);
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let uploading = std::thread::spawn(move || while writer.write_all(&[7; 1 << 16]).is_ok() {});
    uploading.join().unwrap();
    edge.counts("homing_client_connections", 0.0);
    edge.counts("homing_http_requests_in_flight{app=\"shop\"}", 0.0);
    edge.counts(
        "homing_http_requests_total{app=\"shop\",status=\"503\",failure=\"backend_idle\"}",
        1.0,
    );
}
