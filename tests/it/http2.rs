//! HTTP/2 from clients: many requests on one connection, each with its own home, deadline, page and line.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use http::{Method, Request};

use crate::harness::{
    Asked, Backend, Client, Edge, H2Backend, Http2, QUICK, Received, Reply, echo, eventually, send,
    shop,
};

const H2C: &str = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n";

fn edge(settings: &str, backends: &[&Backend]) -> Edge {
    Edge::start_with(H2C, &shop(&format!("{settings}{QUICK}"), backends))
}

fn get(client: &Http2, path: &str, headers: &[(&str, &str)]) -> Asked {
    client.ask(Method::GET, path, headers, true)
}

/// Answers with the body it got.
fn echoing(id: &str) -> Backend {
    Backend::new(id, |request: &Received, _: &mut TcpStream| {
        let length = request.body.len();
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&request.body);
        Reply::Bytes(bytes)
    })
}

/// Answers once the test says so.
fn waiting(id: &str) -> (Backend, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let own = id.to_owned();
    let backend = Backend::new(id, move |request: &Received, _: &mut TcpStream| {
        if request.path() == "/wait" {
            let _told = wait.lock().unwrap().recv();
        }
        Reply::ok(&own)
    });
    (backend, go)
}

#[test]
fn each_request_of_a_connection_goes_home_by_its_own_cookie() {
    let backends = ["web.1", "web.2", "web.3"].map(Backend::named);
    let edge = edge("", &backends.each_ref());
    let client = Http2::connect(edge.address());
    let first: Vec<_> = (0..30).map(|_| get(&client, "/", &[])).collect();
    let pins: Vec<_> = first
        .into_iter()
        .map(|asked| {
            let response = client.read(asked).unwrap();
            assert_eq!(response.status, 200);
            (response.token().expect("a cookie"), response.text())
        })
        .collect();
    let homes: std::collections::BTreeSet<_> = pins.iter().map(|(_, home)| home).collect();
    assert_eq!(homes.len(), 3, "drawn for each request");
    // All at once, and all on one connection.
    let again: Vec<_> =
        pins.iter().map(|(token, _)| get(&client, "/", &[("cookie", token)])).collect();
    for (asked, (_, home)) in again.into_iter().zip(&pins) {
        let response = client.read(asked).unwrap();
        assert_eq!((&response.text(), response.token()), (home, None));
    }
    edge.counts_affinity("followed", "", 30.0);
    let line: serde_json::Value = serde_json::from_str(&edge.out()[0]).unwrap();
    assert_eq!(line["protocol"], "http2.0");
}

#[test]
fn a_cookie_that_is_split_over_fields_is_one_for_us_and_for_the_backend() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let edge = edge("", &[&a, &b]);
    let client = Http2::connect(edge.address());
    let first = client.get("/", &[]);
    let (token, home) = (first.token().unwrap(), first.text());
    for _ in 0..10 {
        let split = [("cookie", "a=1"), ("cookie", token.as_str()), ("cookie", "b=2")];
        assert_eq!(client.get("/split", &split).text(), home);
    }
    let asked = if home == "web.1" { a.last() } else { b.last() };
    assert_eq!(asked.all("cookie"), ["a=1; b=2"], "one line, less ours");
}

#[test]
fn the_backend_is_told_who_asks_as_with_http1() {
    let backend = Backend::named("web.1");
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let spoof = [("x-forwarded-for", "1.2.3.4"), ("x-homing-moved-from", "x"), ("te", "trailers")];
    assert_eq!(client.get("/a?b=c", &spoof).status, 200);
    let asked = backend.last();
    assert_eq!(asked.line, "GET /a?b=c HTTP/1.1");
    assert_eq!(asked.all("host"), ["shop.example.com"]);
    assert_eq!(asked.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.header("via"), Some("2 homing"));
    assert_eq!(asked.header("x-homing-moved-from"), None);
    assert_eq!(asked.header("te"), None);
}

#[test]
fn bodies_pass_both_ways_beyond_every_window() {
    let backend = echoing("web.1");
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert!(client.post("/", &[], &body).body == body, "with chunks to the backend");
    let length = body.len().to_string();
    assert!(client.post("/", &[("content-length", &length)], &body).body == body);
    assert!(client.get("/", &[]).body.is_empty());
}

#[test]
fn a_body_whose_last_frame_is_empty_ends_once() {
    let backend = echoing("web.1");
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    for _ in 0..5 {
        assert_eq!(client.post("/", &[], b"hello").text(), "hello");
    }
    let lines: Vec<_> = backend.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["POST / HTTP/1.1"; 5], "nothing is left between two requests");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_request_that_misses_its_deadline_gets_its_page_and_its_neighbours_notice_nothing() {
    let (backend, go) = waiting("web.1");
    let edge = edge("    timeouts: { first_byte: 1s }\n", &[&backend]);
    let client = Http2::connect(edge.address());
    let late = get(&client, "/wait", &[]);
    assert_eq!(client.get("/", &[]).text(), "web.1");
    let response = client.read(late).unwrap();
    assert_eq!((response.status, response.header("x-homing-error")), (503, Some("H12")));
    assert_eq!(client.get("/", &[]).text(), "web.1", "on the same connection");
    drop(go);
}

#[test]
fn a_body_that_does_not_come_or_is_too_large_is_refused_on_its_stream_alone() {
    let backend = echoing("web.1");
    let edge = edge("    timeouts: { idle: 1s }\n    limits: { max_body: 1000 }\n", &[&backend]);
    let client = Http2::connect(edge.address());
    let mut late = client.ask(Method::POST, "/late", &[], false);
    client.send(&mut late.body, b"half", false).unwrap();
    let large = client.post("/large", &[("content-length", "5000")], &[0; 5000]);
    assert_eq!((large.status, large.header("x-homing-error")), (413, Some("N43")));
    // Nobody is told: that who does not send would read an answer is not to be expected, with HTTP/1 as well.
    assert!(client.read(late).is_err());
    assert_eq!(client.post("/", &[], b"hi").body, b"hi");
    eventually("the line of it", || edge.out().iter().any(|l| l.contains("H28")).then_some(()));
}

#[test]
fn a_client_that_takes_a_request_back_frees_its_backend() {
    let (backend, go) = waiting("web.1");
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let mut left = get(&client, "/wait", &[]);
    let in_flight = "homing_backend_requests_in_flight{app=\"shop\",backend=\"web.1\"}";
    edge.counts(in_flight, 1.0);
    left.body.send_reset(Reason::CANCEL);
    edge.counts(in_flight, 0.0);
    eventually("the line of it", || edge.out().iter().any(|l| l.contains("H27")).then_some(()));
    drop(go);
    assert_eq!(client.get("/", &[]).status, 200);
}

#[test]
fn a_client_that_leaves_with_its_whole_response_was_served() {
    let backend = H2Backend::new(None, |mut exchange| async move {
        let mut stream = exchange.head(&[("content-length", "5")]);
        send(&mut stream, Bytes::from_static(b"whole")).await;
        // Its end does not come before it is given up.
        let _reset = poll_fn(|cx| stream.poll_reset(cx)).await;
    });
    let app = format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    backend_protocol: h2c\n    \
         backends: [{{ id: web.1, address: \"{}\" }}]\n",
        backend.address()
    );
    let edge = Edge::start_with(H2C, &app);
    let client = Http2::connect(edge.address());
    let mut asked = get(&client, "/", &[]);
    let mut body = client.answer(&mut asked).unwrap().body;
    assert_eq!(client.part(&mut body).unwrap().as_deref(), Some(&b"whole"[..]));
    asked.body.send_reset(Reason::CANCEL);
    let line = eventually("its line", || edge.out().first().cloned());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &5.into()));
    assert_eq!((&line["at"], line.get("code")), (&"info".into(), None));
}

#[test]
fn a_response_that_breaks_off_is_no_whole_one_for_the_client() {
    let backend = Backend::new("web.1", |_: &Received, _: &mut TcpStream| {
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
    });
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let asked = get(&client, "/", &[]);
    let error = client.read(asked).expect_err("a reset");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    eventually("the line of it", || edge.out().iter().any(|l| l.contains("H18")).then_some(()));
}

#[test]
fn what_two_readers_could_take_differently_gets_the_page_it_gets_in_http1() {
    let backend = Backend::named("web.1");
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let refused = |headers: &[(&str, &str)]| {
        let response = client.get("/", headers);
        let line = eventually("its line", || {
            let id = response.header("x-request-id").unwrap();
            edge.out().into_iter().find(|line| line.contains(id))
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        (response.status, line["detail"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(refused(&[("host", "other.example.com")]), (400, "host differs from target".into()));
    let twice = [("host", "shop.example.com"), ("host", "shop.example.com")];
    assert_eq!(refused(&twice), (400, "host twice".into()));
    let large = "x".repeat(9000);
    assert_eq!(refused(&[("x-large", &large)]), (431, "field too long".into()));
    let many: Vec<_> = (0..300).map(|_| ("x", "y")).collect();
    assert_eq!(refused(&many), (431, "too many fields".into()));
    assert_eq!(refused(&[("content_length", "1")]), (400, "framing field with underscore".into()));
    let lengths = [("content-length", "0"), ("content-length", "0")];
    assert_eq!(refused(&lengths), (400, "content length twice".into()));
    assert_eq!(client.get("/", &[("host", "SHOP.example.com")]).status, 200);
    assert!(backend.requests().iter().all(|request| request.line == "GET / HTTP/1.1"));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn an_idle_connection_is_told_to_go_and_a_busy_one_is_not() {
    let (backend, go) = waiting("web.1");
    let head = format!("server: {{ threads: 2, keepalive_timeout: 1s }}\n{H2C}");
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let (idle, busy) = (Http2::connect(edge.address()), Http2::connect(edge.address()));
    let asked = get(&busy, "/wait", &[]);
    assert_eq!(idle.get("/", &[]).status, 200);
    idle.ended().expect("a connection that ends in order");
    go.send(()).unwrap();
    assert_eq!(busy.read(asked).unwrap().text(), "web.1");
    busy.ended().expect("when its time has come");
}

#[test]
fn a_stop_lets_requests_finish_and_takes_no_more() {
    let (backend, go) = waiting("web.1");
    let mut edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let asked = get(&client, "/wait", &[]);
    edge.counts("homing_backend_requests_in_flight{app=\"shop\",backend=\"web.1\"}", 1.0);
    edge.signal("-TERM");
    let refused = eventually("the client is told", || {
        let request = Request::get("http://shop.example.com/").body(()).unwrap();
        client.request(request, true).and_then(|asked| client.read(asked)).err()
    });
    assert!(refused.is_go_away() || refused.is_io() || refused.reason().is_some(), "{refused}");
    go.send(()).unwrap();
    assert_eq!(client.read(asked).unwrap().text(), "web.1");
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn a_client_may_have_as_many_streams_as_the_file_says_and_as_many_requests() {
    let (backend, go) = waiting("web.1");
    let limits = "http2_streams: 3, requests_per_connection: 5";
    let head = format!("server: {{ threads: 2, {limits} }}\n{H2C}");
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let client = Http2::connect(edge.address());
    let asked = get(&client, "/wait", &[]);
    assert_eq!(client.get("/", &[]).status, 200);
    assert_eq!(client.streams(), 3);
    for _ in 0..3 {
        assert_eq!(client.get("/", &[]).status, 200);
    }
    go.send(()).unwrap();
    assert_eq!(client.read(asked).unwrap().status, 200);
    client.ended().expect("after the fifth");
}

#[test]
fn interim_responses_pass_and_the_last_word_too() {
    let backend = Backend::new("web.1", |request: &Received, stream: &mut TcpStream| {
        if request.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
        Reply::ok("done")
    });
    let edge = edge("", &[&backend]);
    let client = Http2::connect(edge.address());
    let expects = [("expect", "100-continue"), ("content-length", "2")];
    let mut asked = client.ask(Method::POST, "/", &expects, false);
    client.send(&mut asked.body, b"hi", true).unwrap();
    assert_eq!(client.read(asked).unwrap().text(), "done");
    assert_eq!(client.get("/", &[("expect", "the moon")]).status, 417);
}

#[test]
fn a_websocket_over_http2_is_one_for_the_backend_and_follows_its_cookie() {
    let switching = |id: &str| {
        let own = id.to_owned();
        Backend::new(id, move |request: &Received, stream: &mut TcpStream| {
            let Some("websocket") = request.header("upgrade") else { return Reply::ok("plain") };
            let key = request.header("sec-websocket-key").expect("a key");
            assert_eq!(key.len(), 24);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\nX-Backend: {own}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            echo(stream)
        })
    };
    let (a, b) = (switching("web.1"), switching("web.2"));
    let edge = edge("", &[&a, &b]);
    let client = Http2::connect(edge.address());
    assert_eq!(client.get("/", &[]).status, 200, "the settings are known by now");
    let mut asked = client.websocket("/chat", &[]);
    let answer = client.answer(&mut asked).unwrap();
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.header("sec-websocket-accept"), None);
    assert_eq!(answer.head.header("sec-websocket-protocol"), Some("chat"));
    let token = answer.head.token().expect("a cookie");
    let home = answer.head.header("x-backend").unwrap().to_owned();
    let mut down = answer.body;
    for text in ["hello", "again"] {
        client.send(&mut asked.body, text.as_bytes(), false).unwrap();
        assert_eq!(client.part(&mut down).unwrap().as_deref(), Some(text.as_bytes()));
    }
    edge.counts("homing_upgraded_connections{app=\"shop\"}", 1.0);
    for _ in 0..5 {
        let answer = client.answer(&mut client.websocket("/chat", &[("cookie", &token)])).unwrap();
        assert_eq!(answer.head.header("x-backend"), Some(home.as_str()));
    }
    client.send(&mut asked.body, b"", true).unwrap();
    assert_eq!(client.part(&mut down).unwrap(), None::<Bytes>, "its end is the end of both");
    edge.counts("homing_upgraded_connections{app=\"shop\"}", 0.0);
}

#[test]
fn a_stream_of_a_drained_backend_ends_and_the_connection_stays() {
    let backends = ["web.1", "web.2"].map(|id| {
        let own = id.to_owned();
        Backend::new(id, move |request: &Received, stream: &mut TcpStream| {
            if request.path() != "/events" {
                return Reply::ok(&own);
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
            stream.write_all(head.as_bytes()).unwrap();
            let _end = stream.read(&mut [0]);
            Reply::Done
        })
    });
    let edge = edge("", &backends.each_ref());
    let client = Http2::connect(edge.address());
    let first = client.get("/", &[]);
    let (token, home) = (first.token().unwrap(), first.text());
    let mut asked = get(&client, "/events", &[("cookie", &token)]);
    let mut answer = client.answer(&mut asked).unwrap();
    assert!(client.part(&mut answer.body).unwrap().is_some());
    edge.command(&["drain", &format!("shop/{home}"), "--deadline", "1s"]).is_done("");
    assert!(client.rest(answer).is_err(), "its stream is reset");
    let moved = client.get("/", &[("cookie", &token)]);
    assert_eq!(moved.status, 200);
    assert_ne!(moved.text(), home);
}

#[test]
fn who_speaks_http1_at_a_listener_of_http2_is_closed_and_nobody_waits() {
    let backend = Backend::named("web.1");
    let head = format!("server: {{ threads: 2, head_timeout: 1s }}\n{H2C}");
    let edge = Edge::start_with(&head, &shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut rest = Vec::new();
    let _end = client.reader.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    // Silence, and half a preface.
    for part in ["", "PRI * HTTP/2.0\r\n"] {
        let mut client = Client::connect(edge.address());
        client.send(part);
        let mut rest = Vec::new();
        let _end = client.reader.read_to_end(&mut rest);
    }
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(Http2::connect(edge.address()).get("/", &[]).status, 200);
}

#[test]
fn a_reader_that_stops_is_cut_off_and_its_neighbours_read_on() {
    let body = Arc::new("x".repeat(5_000_000));
    let backend = Backend::new("web.1", move |request: &Received, _: &mut TcpStream| {
        if request.path() == "/large" { Reply::ok(&body) } else { Reply::ok("web.1") }
    });
    let edge = edge("    timeouts: { idle: 1s }\n", &[&backend]);
    let client = Http2::connect(edge.address());
    let mut asked = get(&client, "/large", &[]);
    let answer = client.answer(&mut asked).unwrap();
    eventually("the line of it", || {
        assert_eq!(client.get("/", &[]).status, 200);
        edge.out().iter().any(|line| line.contains("H28")).then_some(())
    });
    assert!(client.rest(answer).is_err(), "not the whole of it");
}

#[test]
fn a_stop_does_not_wait_for_who_never_began() {
    let backend = Backend::named("web.1");
    let mut edge = edge("", &[&backend]);
    let _silent = edge.client();
    edge.counts("homing_client_connections", 1.0);
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    assert!(edge.log().iter().any(|line| line.contains("connections_cut=0")), "{:?}", edge.log());
}

#[test]
fn a_media_type_gives_nobody_the_patience_that_calls_have() {
    let (backend, go) = waiting("web.1");
    let edge = edge("    timeouts: { first_byte: 1s }\n", &[&backend]);
    let client = Http2::connect(edge.address());
    let call = [("content-type", "application/grpc")];
    // The backend speaks HTTP/1, in which there are no calls.
    let asked = client.ask(Method::POST, "/wait", &call, true);
    let response = client.read(asked).unwrap();
    assert_eq!((response.status, response.header("x-homing-error")), (503, Some("H12")));
    drop(go);
}
