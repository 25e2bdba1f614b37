//! WebSocket and any other protocol, routed by the cookie, counted, and kept alive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Client, Edge, QUICK, Received, Reply, echo, eventually, shop};

/// More than all buffers on the way take, in bytes.
const MUCH: usize = 32 << 20;

/// The answer that leaves HTTP for the protocol `x`.
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

/// Switches protocols and echoes what comes.
fn switching(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request: &Received, stream: &mut TcpStream| {
        let Some(protocol) = request.header("upgrade") else { return Reply::ok("plain") };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Backend: {own}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        echo(stream)
    })
}

fn upgrade(client: &mut Client, protocol: &str, headers: &str) -> crate::harness::Response {
    client.send(format!(
        "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n{headers}\r\n"
    ));
    client.read()
}

fn streams(backend: &str) -> String {
    format!("homing_backend_streams{{app=\"shop\",backend=\"{backend}\"}}")
}

fn echoes(client: &mut Client, text: &str) {
    client.send(text);
    let mut echo = vec![0; text.len()];
    client.reader.read_exact(&mut echo).unwrap();
    assert_eq!(echo, text.as_bytes());
}

#[test]
fn a_websocket_gets_its_cookie_on_the_101_and_follows_it() {
    let (a, b) = (switching("web.1"), switching("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&a, &b]));
    let headers = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let mut first = edge.client();
    let response = upgrade(&mut first, "websocket", headers);
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("Upgrade"));
    let token = response.token().expect("a cookie on the 101");
    let home = response.header("x-backend").unwrap().to_owned();
    echoes(&mut first, "hello");
    edge.counts("homing_upgraded_connections{app=\"shop\"}", 1.0);
    edge.counts(&streams(&home), 1.0);
    for _ in 0..10 {
        let mut again = edge.client();
        let response = upgrade(&mut again, "websocket", &format!("{headers}Cookie: {token}\r\n"));
        assert_eq!(response.header("x-backend"), Some(home.as_str()));
        assert_eq!(response.token(), None);
        echoes(&mut again, "again");
    }
    drop(first);
    eventually("no upgraded connection is left", || {
        (edge.metric("homing_upgraded_connections{app=\"shop\"}") < 0.5).then_some(())
    });
    edge.counts(&streams(&home), 0.0);
    let backend = if home == "web.1" { &a } else { &b };
    assert!(backend.last().header("cookie").is_none(), "our cookie is ours alone");
}

#[test]
fn server_sent_events_are_a_stream_while_they_last() {
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new("web.1", move |_, stream: &mut TcpStream| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n";
        stream.write_all(head.as_bytes()).unwrap();
        let _told = wait.lock().unwrap().recv_timeout(crate::harness::PATIENCE);
        Reply::Done
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    edge.counts(&streams("web.1"), 1.0);
    send.send(()).unwrap();
    edge.counts(&streams("web.1"), 0.0);
}

#[test]
fn any_other_protocol_passes_too_without_what_concerns_the_connection() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    let response =
        upgrade(&mut client, "my-protocol/2", "Keep-Alive: timeout=5\r\nTE: trailers\r\n");
    assert_eq!((response.status, response.header("upgrade")), (101, Some("my-protocol/2")));
    echoes(&mut client, "\0\x01raw\r\nbytes");
    let seen = backend.last();
    assert_eq!(seen.header("upgrade"), Some("my-protocol/2"));
    assert_eq!(seen.all("connection"), ["Upgrade"]);
    assert_eq!((seen.header("keep-alive"), seen.header("te")), (None, None));
}

#[test]
fn an_upgrade_to_http_2_in_clear_text_is_not_passed_on() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
    assert_eq!(client.read().text(), "plain");
    assert_eq!(
        (backend.last().header("upgrade"), backend.last().header("http2-settings")),
        (None, None)
    );
}

#[test]
fn upgrade_without_its_connection_token_is_not_passed_on() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let response = edge.client().get("/", "Upgrade: websocket\r\n");
    assert_eq!((response.status, response.text().as_str()), (200, "plain"), "{response:?}");
}

#[test]
fn a_backend_that_will_not_switch_is_believed() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    let response = upgrade(&mut client, "websocket", "");
    assert_eq!((response.status, response.text().as_str()), (200, "web.1"));
}

/// The one test that has to last: Pingora's own limit is 60 s.
#[test]
fn an_idle_websocket_lives_longer_than_a_minute() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "websocket", "").status, 101);
    echoes(&mut client, "before");
    thread::sleep(Duration::from_secs(62));
    echoes(&mut client, "after");
}

#[test]
fn an_upgraded_connection_ends_when_it_is_idle_for_too_long() {
    let backend = switching("web.1");
    let settings = format!("    timeouts: {{ upgraded_idle: 1s }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "websocket", "").status, 101);
    echoes(&mut client, "before");
    assert!(client.is_closed());
}

#[test]
fn a_first_frame_beside_the_101_does_not_shorten_the_life_of_a_websocket() {
    let backend = Backend::new("web.1", |_, stream| {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello").unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read > 0) {
            stream.write_all(&byte).unwrap();
        }
        Reply::Done
    });
    let settings = format!("    timeouts: {{ idle: 500ms, upgraded_idle: 3s }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "websocket", "").status, 101);
    let mut hello = [0; 5];
    client.reader.read_exact(&mut hello).unwrap();
    thread::sleep(Duration::from_millis(1500));
    echoes(&mut client, "x");
    // Then it ends, and not with a page of ours in the stream.
    assert!(client.is_closed());
}

#[test]
fn both_sides_may_say_much_at_once() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "my-protocol", "").status, 101);
    let said: Vec<u8> = (0..MUCH).map(|place| (place % 251) as u8).collect();
    let mut heard = vec![0; MUCH];
    thread::scope(|scope| {
        let (mut speaking, said) = (client.stream.try_clone().unwrap(), &said);
        scope.spawn(move || speaking.write_all(said).unwrap());
        client.reader.read_exact(&mut heard).unwrap();
    });
    assert!(heard == said, "the echo is what was said");
}

#[test]
fn who_does_not_listen_yet_may_speak() {
    let backend = Backend::new("web.1", |_, stream| {
        stream.write_all(SWITCHED).unwrap();
        thread::scope(|scope| {
            let mut speaking = stream.try_clone().unwrap();
            scope.spawn(move || speaking.write_all(&vec![b'b'; MUCH]).unwrap());
            stream.read_exact(&mut vec![0; MUCH]).unwrap();
        });
        stream.write_all(b"all").unwrap();
        echo(stream)
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "x", "").status, 101);
    client.stream.write_all(&vec![b'c'; MUCH]).unwrap();
    let mut heard = vec![0; MUCH + 3];
    client.reader.read_exact(&mut heard).unwrap();
    assert!(heard[..MUCH].iter().all(|byte| *byte == b'b'));
    assert_eq!(&heard[MUCH..], b"all");
}

#[test]
fn what_a_backend_says_last_still_arrives_whatever_the_client_says_meanwhile() {
    let backend = Backend::new("web.1", |_, stream| {
        stream.write_all(SWITCHED).unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&vec![b'b'; MUCH]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Else the kernel drops what is not sent yet, for what is not read.
        let _left = stream.read_to_end(&mut Vec::new());
        Reply::Done
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    assert_eq!(upgrade(&mut client, "x", "").status, 101);
    client.send("tell");
    let mut heard = vec![0; MUCH];
    for piece in heard.chunks_mut(MUCH / 16) {
        // The last of it comes when we are done with the backend.
        client.send("more");
        client.reader.read_exact(piece).unwrap();
    }
    assert!(heard == vec![b'b'; MUCH]);
    assert!(client.is_closed());
}

#[test]
fn switching_protocols_unasked_is_no_response() {
    let backend = Backend::new("web.1", |_, _| Reply::Last([SWITCHED, b"raw"].concat()));
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let response = edge.get("/");
    assert_eq!((response.status, response.header("x-homing-error")), (502, Some("H17")));
}

#[test]
fn http_2_is_found_wherever_it_stands_on_the_list() {
    let backend = switching("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for lines in ["Upgrade: websocket, h2c", "Upgrade: x\r\nUpgrade: H2C"] {
        let response = edge.client().get("/", &format!("Connection: Upgrade\r\n{lines}\r\n"));
        assert_eq!(response.text(), "plain", "{lines}");
    }
}
