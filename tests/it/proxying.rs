//! Messages pass as they are, in both directions, on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;

use crate::harness::{Backend, Client, Edge, PATIENCE, QUICK, Reply, eventually, scratch, shop};

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    // The connection to the backend is free a moment after the answer was read: now and then one comes too soon.
    let mut in_a_row = 0;
    eventually("ten requests in a row use a connection that is there", || {
        let before = backend.connections();
        assert_eq!(client.get("/", "").header("connection"), Some("keep-alive"));
        in_a_row = if backend.connections() == before { in_a_row + 1 } else { 0 };
        (in_a_row == 10).then_some(())
    });
}

#[test]
fn a_client_of_http_1_0_never_gets_chunks() {
    let backend = Backend::new("web.1", |request, _| match request.path() {
        "/chunked" => {
            let body = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            Reply::Bytes(body.into())
        }
        "/until-closed" => Reply::Last(b"HTTP/1.1 200 OK\r\n\r\nabcde".to_vec()),
        _ => Reply::ok("abcde"),
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for path in ["/chunked", "/until-closed", "/length"] {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.0\r\nHost: a.example\r\n\r\n"));
        let response = client.read();
        assert_eq!(response.header("transfer-encoding"), None, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
        assert_eq!(response.text(), "abcde", "{path}");
        assert!(client.is_closed());
    }
    let mut kept = edge.client();
    kept.send("GET /length HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(kept.read().header("connection"), Some("keep-alive"));
    kept.send("GET /chunked HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    let last = kept.read();
    assert_eq!((last.header("connection"), last.text().as_str()), (Some("close"), "abcde"));
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let backend = Backend::new("web.1", |request, _| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        Reply::Bytes(
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )
            .into(),
        )
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n");
    let response = client.read();
    assert_eq!(
        (response.header("transfer-encoding"), response.text().as_str()),
        (Some("chunked"), "abcdefg")
    );
    assert_eq!(backend.last().header("transfer-encoding"), Some("chunked"));
}

#[test]
fn the_head_of_a_response_has_no_body() {
    let backend = Backend::new("web.1", |request, _| match request.line.starts_with("HEAD") {
        true => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()),
        false => Reply::ok("next"),
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_read("HEAD").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
    assert!(head.token().is_some());
    assert_eq!(client.get("/", "").text(), "next");
}

#[test]
fn a_client_that_waits_to_continue_is_told_to() {
    let backend = Backend::new("web.1", |request, _| Reply::ok(&request.body.len().to_string()));
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read().status, 100);
    client.send("hello");
    let response = client.read();
    assert_eq!((response.status, response.text().as_str()), (200, "5"));
    assert!(response.token().is_some());
}

#[test]
fn interim_responses_pass_and_carry_no_cookie() {
    let backend = Backend::new("web.1", |_, stream| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").unwrap();
        Reply::ok("ok")
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    let hints = client.get("/", "");
    assert_eq!((hints.status, hints.header("link"), hints.token()), (103, Some("</a.css>"), None));
    let response = client.read();
    assert_eq!((response.status, response.token().is_some()), (200, true));
    let mut old = edge.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(old.read().status, 200, "HTTP/1.0 knows none");
}

#[test]
fn events_arrive_one_by_one_as_they_are_sent() {
    let (send, sent) = mpsc::channel::<String>();
    let sent = std::sync::Mutex::new(sent);
    let backend = Backend::new("web.1", move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for event in sent.lock().unwrap().iter() {
            stream.write_all(event.as_bytes()).unwrap();
        }
        Reply::Done
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_read_head().unwrap().status, 200);
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        send.send(event.to_owned()).unwrap();
        // The next one is sent only after this one arrived.
        let mut line = client.read_line().unwrap();
        assert_eq!(usize::from_str_radix(&line, 16).unwrap(), event.len());
        line = client.read_line().unwrap();
        assert_eq!(line, event.trim_end());
        assert_eq!(client.read_line().unwrap(), "");
        assert_eq!(client.read_line().unwrap(), "");
    }
    drop(send);
    assert_eq!(client.read_line().unwrap(), "0");
}

/// A backend whose handler gets the connection right after the head of each request.
fn raw(handler: impl Fn(&mut BufReader<TcpStream>) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            handler(&mut reader);
        }
    });
    address
}

#[test]
fn an_upload_streams_before_it_is_whole() {
    const MIB: usize = 1 << 20;
    const LENGTH: usize = 200 * MIB;
    let (arrived, first) = mpsc::channel();
    let address = raw(move |reader| {
        let mut chunk = vec![0; MIB];
        reader.read_exact(&mut chunk).unwrap();
        arrived.send(()).unwrap();
        let mut left = LENGTH - MIB;
        while left > 0 {
            let read = reader.read(&mut chunk).unwrap();
            assert!(read > 0, "{left} bytes are missing");
            left -= read;
        }
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall of it")
            .unwrap();
    });
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    ));
    let mut client = edge.client();
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
    client.send(vec![7; 2 * MIB]);
    // The backend has a part before the client has sent the rest.
    first.recv_timeout(PATIENCE).unwrap();
    for _ in 0..198 {
        client.send(vec![7; MIB]);
    }
    assert_eq!(client.read().text(), "all of it");
}

#[test]
fn a_download_of_any_size_passes() {
    const MIB: usize = 1 << 20;
    let backend = Backend::new("web.1", |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 * MIB).unwrap();
        for _ in 0..100 {
            stream.write_all(&vec![9; MIB]).unwrap();
        }
        Reply::Done
    });
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    assert_eq!(edge.get("/").body.len(), 100 * MIB);
}

#[test]
fn ipv6_is_served_on_both_sides() {
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let backend = Backend::listening("web.1", listener, |_, _| Reply::ok("six"));
    let edge =
        Edge::start_with("listeners: [{ address: \"[::1]:0\" }]\n", &shop(QUICK, &[&backend]));
    assert_eq!(edge.get("/").text(), "six");
    assert_eq!(backend.last().header("x-forwarded-for"), Some("::1"));
}

#[test]
fn a_backend_may_listen_on_a_unix_socket() {
    let directory = scratch();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|read| read > 0) {
                    let _gone =
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
                }
            });
        }
    });
    let file = format!(
        "default_app: shop\napps:\n  - name: shop\n{QUICK}    backends: [{{ id: web.1, address: \"unix:{}\" }}]\n",
        path.display()
    );
    let edge = Edge::start(&file);
    for _ in 0..3 {
        assert_eq!(edge.get("/").text(), "unix");
    }
}

#[test]
fn several_listeners_serve_the_same_apps() {
    let backend = Backend::named("web.1");
    let head = "listeners: [{ address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" }]\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    assert_eq!(edge.addresses().len(), 2);
    for address in edge.addresses() {
        assert_eq!(Client::connect(*address).get("/", "").status, 200);
    }
}

#[test]
fn a_client_that_dawdles_over_its_head_is_cut() {
    let backend = Backend::named("web.1");
    let head = "server: { threads: 1, head_timeout: 1s, keepalive_timeout: 1s }\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    let mut slow = edge.client();
    let writer = slow.stream.try_clone().unwrap();
    // A byte now and then does not help: the limit is for the whole head.
    let dripping = thread::spawn(move || {
        let mut writer = writer;
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ".iter().cycle() {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let refused = slow.read();
    assert_eq!((refused.status, refused.header("x-homing-error")), (408, Some("N47")));
    assert!(slow.is_closed());
    dripping.join().unwrap();
    // So is one that says nothing more after its first request.
    let mut idle = edge.client();
    idle.get("/", "");
    assert!(idle.is_closed());
    eventually("no connection is left", || {
        (edge.metric("homing_client_connections") < 0.5).then_some(())
    });
}
