//! Backends that speak HTTP/2: what reaches them, what comes back, and what becomes of connections that end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::sync::Notify;

use crate::harness::{
    Authority, Client, Edge, H2Backend, Launch, TlsBackend, eventually, send, write_key,
};

/// An app at a backend that speaks HTTP/2 in the clear.
fn shop(address: SocketAddr, settings: &str) -> String {
    format!(
        "default_app: shop\napps:\n  - name: shop\n    backend_protocol: h2c\n{settings}    \
         backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    )
}

fn start(backend: &H2Backend, settings: &str) -> Edge {
    Edge::start(&shop(backend.address(), settings))
}

const UNPROBED: &str = "    health: off\n";

/// Status, code and body of what is answered.
fn ask(edge: &Edge, path: &str) -> (u16, String, String) {
    let response = edge.get(path);
    let code = response.header("x-homing-error").unwrap_or("").to_owned();
    (response.status, code, response.text())
}

#[test]
fn a_request_is_what_it_was_and_its_response_comes_back_whole() {
    let backend = H2Backend::new(None, |mut exchange| async move {
        let body = exchange.body().await;
        let mut stream =
            exchange.head(&[("x-own", "yes"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        send(&mut stream, body.into()).await;
        let _gone = stream.send_data(Bytes::new(), true);
    });
    let edge = start(&backend, "    health: { path: /healthz, interval: 100ms }\n");
    let mut client = edge.client();
    let large = "x".repeat(3 << 20);
    client.send(format!(
        "POST /a?b=c HTTP/1.1\r\nHost: shop.example.com\r\nX-Own: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Content-Length: {}\r\n\r\n{large}",
        large.len()
    ));
    let response = client.read();
    assert_eq!((response.status, response.body.len()), (200, large.len()));
    assert_eq!(response.header("x-own"), Some("yes"));
    let cookies = response.all("set-cookie");
    assert!(cookies.contains(&"a=1") && cookies.contains(&"b=2"), "{cookies:?}");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    let said = backend.last();
    assert_eq!(said.line, "POST http://shop.example.com/a?b=c");
    let header = |name: &str| said.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((header("x-own"), header("x-hop"), header("host")), (Some("1"), None, None));
    assert_eq!(header("te"), Some("trailers"));
    assert_eq!(header("x-forwarded-proto"), Some("http"));
    assert!(header("x-request-id").is_some());
    // And again on the same connections.
    assert_eq!(client.get("/", "").status, 200);
    assert_eq!(backend.last().connection, 0);
    assert_eq!(backend.last().headers.get("te"), None, "nobody asked for trailers");
}

#[test]
fn what_is_spoken_is_what_was_agreed_on() {
    let authority = Authority::new("root");
    let own = authority.issue(&["shop.internal"]);
    let offering = |protocols: &[&str]| H2Backend::plain(Some(TlsBackend::new(&own, protocols)));
    let (both, old, none) = (offering(&["h2", "http/1.1"]), offering(&["http/1.1"]), offering(&[]));
    let app = |name: &str, protocol: &str, backend: &H2Backend, health: &str| {
        format!(
            "  - name: {name}\n    domains: [{name}.test]\n    backend_protocol: {protocol}\n    \
             backend_tls: {{ server_name: shop.internal, ca: ca.pem }}\n    health: {health}\n    \
             backends: [{{ id: web.1, address: \"{}\" }}]\n",
            backend.address()
        )
    };
    let probed = "{ path: /healthz, interval: 100ms, fall: 1 }";
    let apps = [
        app("auto", "auto", &both, probed),
        app("h2", "h2", &both, probed),
        app("h1", "http/1.1", &both, probed),
        app("auto-old", "auto", &old, probed),
        app("auto-none", "auto", &none, probed),
        app("h2-old", "h2", &old, "off"),
        app("h2-none", "h2", &none, "off"),
        app("probed", "h2", &none, probed),
    ];
    let launch = Launch::new("", &format!("apps:\n{}", apps.concat()));
    write_key(&launch.directory().join("ca.pem"), &authority.pem);
    let edge = launch.start_ready();
    let ask = |app: &str, more: &str| {
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {app}.test\r\n{more}\r\n"));
        client
    };
    let said = |app: &str| {
        let response = ask(app, "").read();
        let code = response.header("x-homing-error").unwrap_or("").to_owned();
        if code.is_empty() { response.text() } else { code }
    };
    assert_ne!(said("auto"), "h1");
    assert_ne!(said("h2"), "h1");
    for app in ["h1", "auto-old", "auto-none"] {
        assert_eq!(said(app), "h1", "{app}");
    }
    assert_eq!((&*said("h2-old"), &*said("h2-none"), &*said("probed")), ("N21", "N21", "H10"));
    // An upgrade is sent in HTTP/1.1, although the backend prefers HTTP/2.
    let mut client = ask("auto", "Connection: Upgrade\r\nUpgrade: echo\r\n");
    assert_eq!(client.try_read_head().unwrap().status, 101);
    client.send("hello");
    let mut heard = [0; 5];
    client.reader.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    let refused = ask("h2", "Connection: Upgrade\r\nUpgrade: echo\r\n").read();
    assert_eq!((refused.status, refused.header("x-homing-error")), (501, Some("N25")));
    // Chunks would be no body for who speaks HTTP/1.0.
    for (app, status) in [("h2", 505), ("auto", 200)] {
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.0\r\nHost: {app}.test\r\n\r\n"));
        assert_eq!(client.read().status, status, "{app}");
    }
}

#[test]
fn many_requests_share_a_connection_and_no_more_than_the_limit() {
    let waiting = Arc::new((AtomicUsize::new(0), Notify::new()));
    let own = Arc::clone(&waiting);
    let backend = H2Backend::new(None, move |exchange| {
        let own = Arc::clone(&own);
        async move {
            if exchange.path() == "/wait" {
                own.0.fetch_add(1, Ordering::SeqCst);
                own.1.notified().await;
            }
            exchange.ok("done").await;
        }
    });
    let edge = start(&backend, &format!("{UNPROBED}    backend_h2: {{ streams: 3 }}\n"));
    let mut clients: Vec<Client> = (1..=8)
        .map(|count| {
            let mut client = edge.client();
            client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
            eventually("it waits", || (waiting.0.load(Ordering::SeqCst) == count).then_some(()));
            client
        })
        .collect();
    let used = backend.said().iter().map(|said| said.connection).max();
    assert_eq!((backend.most_streams(), used), (3, Some(2)));
    for _ in 0..8 {
        waiting.1.notify_one();
    }
    for client in &mut clients {
        assert_eq!(client.read().text(), "done");
    }
}

/// The window of a connection is that of all its streams.
#[test]
fn a_client_that_does_not_read_stops_nobody_else_on_the_same_connection() {
    let sent = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&sent);
    let backend = H2Backend::new(None, move |mut exchange| {
        let own = Arc::clone(&own);
        async move {
            if exchange.path() != "/endless" {
                return exchange.ok("fine").await;
            }
            let mut stream = exchange.head(&[]);
            while send(&mut stream, vec![b'x'; 16_384].into()).await {
                own.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let edge = start(&backend, &format!("{UNPROBED}    backend_h2: {{ window: 64KiB }}\n"));
    let mut lazy: Vec<Client> = (0..3).map(|_| edge.client()).collect();
    for client in &mut lazy {
        client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_read_head().unwrap();
    }
    eventually("all that is between them is full", || {
        let before = sent.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(500));
        (before > 0 && before == sent.load(Ordering::SeqCst)).then_some(())
    });
    assert_eq!(edge.get("/").text(), "fine");
    assert!(backend.said().iter().all(|said| said.connection == 0));
}

#[test]
fn a_kept_connection_that_is_cut_costs_no_idempotent_request_over_tls_either() {
    let authority = Authority::new("root");
    let own = TlsBackend::new(&authority.issue(&["shop.internal"]), &["h2"]);
    for (tls, settings) in
        [(None, ""), (Some(own), "    backend_tls: { server_name: shop.internal, ca: ca.pem }\n")]
    {
        let is_tls = tls.is_some();
        let backend = H2Backend::plain(tls);
        let mut file = shop(backend.address(), &format!("{UNPROBED}{settings}"));
        if is_tls {
            file = file.replace("h2c", "h2");
        }
        let launch = Launch::new("", &file);
        write_key(&launch.directory().join("ca.pem"), &authority.pem);
        let edge = launch.start_ready();
        assert_eq!(ask(&edge, "/").2, "0");
        assert_eq!(ask(&edge, "/cut"), (200, String::new(), "1".into()), "{settings}");
    }
}

#[test]
fn who_waits_to_be_told_to_send_its_body_is_told_once_there_is_a_backend() {
    let backend = H2Backend::new(None, |mut exchange| async move {
        let body = exchange.body().await;
        assert!(!exchange.request.headers().contains_key("expect"));
        exchange.ok(body).await;
    });
    let edge = start(&backend, UNPROBED);
    let mut client = edge.client();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        assert_eq!(client.try_read_head().unwrap().status, 100);
        client.send("hello");
        assert_eq!(client.read().text(), "hello");
    }
}

#[test]
fn how_a_backend_fails_has_the_name_it_has_in_http_1() {
    let backend = H2Backend::new(None, |mut exchange| async move {
        match exchange.path() {
            "/reset" => exchange.respond.send_reset(Reason::INTERNAL_ERROR),
            "/silent" => std::future::pending().await,
            "/broken" | "/idle" => {
                let is_idle = exchange.path() == "/idle";
                let mut stream = exchange.head(&[("content-length", "10")]);
                let _gone = stream.send_data(Bytes::from_static(b"hal"), false);
                if is_idle {
                    std::future::pending().await
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            "/short" => {
                let mut stream = exchange.head(&[("content-length", "10")]);
                let _gone = stream.send_data(Bytes::from_static(b"hal"), true);
            }
            "/long" => {
                let mut stream = exchange.head(&[("content-length", "1")]);
                let _gone = stream.send_data(Bytes::from_static(b"hal"), true);
            }
            "/large" => {
                let large = "x".repeat(600_000);
                exchange.head(&[("x-large", &large)]).send_data(Bytes::new(), true).unwrap();
            }
            "/lengths" => {
                let fields = [("content-length", "1"), ("content-length", "2")];
                let _refused = exchange.head(&fields).send_data(Bytes::new(), true);
            }
            _ => exchange.ok("fine").await,
        }
    });
    let limits = "    timeouts: { first_byte: 300ms, idle: 300ms }\n";
    let edge = start(&backend, &format!("{UNPROBED}{limits}"));
    for (path, status, code) in
        [("/silent", 503, "H12"), ("/reset", 503, "H13"), ("/large", 502, "H25"), ("/", 200, "")]
    {
        let (got, named, _) = ask(&edge, path);
        assert_eq!((got, &*named), (status, code), "{path}");
    }
    // What is noticed when the head has gone to the client is in the log.
    for (path, code) in [("/broken", "H18"), ("/idle", "H15"), ("/short", "H17"), ("/long", "H17")]
    {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let whole = client.try_read("GET").is_some_and(|response| response.status == 200);
        assert!(!whole, "{path}");
        let line = eventually("the request is logged", || {
            edge.out().into_iter().find(|line| line.contains(&format!("\"path\":\"{path}\"")))
        });
        assert!(line.contains(&format!("\"code\":\"{code}\"")), "{line}");
    }
    let (status, code, _) = ask(&edge, "/lengths");
    assert!(status == 502 && ["H17", "H25"].contains(&&*code), "{status} {code}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, from the static table.
const OK: &[u8] = &[0x88];

/// A backend of single frames: `answer` is called with the number of the connection and of the stream, and the
/// connection; it says whether to go on.
fn raw(answer: impl Fn(usize, u32, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(move || {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface)?;
                stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head)?;
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut payload = vec![0; length as usize];
                    stream.read_exact(&mut payload)?;
                    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    match head[3] {
                        SETTINGS if head[4] == 0 => {
                            stream.write_all(&frame(SETTINGS, 1, 0, &[]))?
                        }
                        HEADERS if !answer(number, id, &mut stream) => return Ok(()),
                        _ => {}
                    }
                }
                #[expect(unreachable_code, reason = "says of which type the errors are")]
                Ok::<(), std::io::Error>(())
            });
        }
    });
    address
}

fn fine(stream: &mut TcpStream, id: u32) -> bool {
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, OK)).is_ok()
}

#[test]
fn what_is_no_http_2_is_a_bad_response() {
    for (what, bytes) in [
        ("a head that cannot be decoded", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 9])),
        (
            "a field name in capitals",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88\0\x01A\x01b"),
        ),
        ("no status", frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b")),
        ("a field of a connection", {
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88\0\x0aconnection\x05close")
        }),
        ("a frame on a stream that nobody opened", frame(0, 0, 7, b"data")),
        ("a frame that is too large", vec![0xff; 64]),
        ("the answer of another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ] {
        let address = raw(move |_, _, stream| {
            let _gone = stream.write_all(&bytes);
            // Until the other side has seen it, and has closed.
            stream.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::Other)
        });
        let edge = Edge::start(&shop(address, UNPROBED));
        let (status, code, _) = ask(&edge, "/");
        assert_eq!((status, &*code), (502, "H17"), "{what}");
    }
}

#[test]
fn a_connection_that_answers_no_ping_is_given_up() {
    // It takes everything, and says nothing.
    let address = raw(|_, _, _| true);
    let ping = "    backend_h2: { ping_interval: 1s }\n";
    let edge = Edge::start(&shop(address, &format!("{UNPROBED}{ping}")));
    let (status, code, _) = ask(&edge, "/");
    assert_eq!((status, &*code), (503, "H13"), "long before `first_byte`");
}

/// The frame that refuses a stream.
type Refusal = fn(u32) -> Vec<u8>;

/// Nobody looked at such requests, whatever their method (RFC 9113 §8.7).
#[test]
fn a_request_that_the_backend_refused_to_look_at_is_sent_again() {
    let refuse: [(&str, Refusal); 3] = [
        ("REFUSED_STREAM", |id| frame(RST_STREAM, 0, id, &7_u32.to_be_bytes())),
        ("GOAWAY", |id| frame(GOAWAY, 0, 0, &[&(id - 1).to_be_bytes()[..], &[0; 4]].concat())),
        ("GOAWAY with an error", |id| {
            frame(GOAWAY, 0, 0, &[&(id - 1).to_be_bytes()[..], &11_u32.to_be_bytes()].concat())
        }),
    ];
    for (what, refusal) in refuse {
        let asked = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&asked);
        let address = raw(move |_, id, stream| match own.fetch_add(1, Ordering::SeqCst) {
            0 => stream.write_all(&refusal(id)).is_ok(),
            _ => fine(stream, id),
        });
        let edge = Edge::start(&shop(address, UNPROBED));
        let mut client = edge.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read().status, 200, "{what}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{what}");
    }
}

#[test]
fn who_has_sent_a_last_word_still_answers_what_it_took_and_is_asked_nothing_more() {
    let address = raw(|number, id, stream| {
        if number == 0 && id > 1 {
            // The one before, and this one, which it takes as the last.
            let last = frame(GOAWAY, 0, 0, &[&id.to_be_bytes()[..], &[0; 4]].concat());
            stream.write_all(&last).unwrap();
        }
        fine(stream, id)
    });
    let edge = Edge::start(&shop(address, UNPROBED));
    for _ in 0..10 {
        assert_eq!(ask(&edge, "/").0, 200);
    }
}

#[test]
fn a_kept_connection_that_the_backend_drops_costs_no_idempotent_request() {
    // Drops each connection in the moment in which another request comes on it.
    let address = raw(|number, id, stream| id == 1 && fine(stream, id) && number < 1000);
    let edge = Edge::start(&shop(address, UNPROBED));
    for _ in 0..20 {
        assert_eq!(ask(&edge, "/").0, 200);
    }
}

#[test]
fn a_backend_that_comes_and_goes_costs_no_idempotent_request_of_many_at_once() {
    let address = raw(|_, id, stream| {
        // A few on each connection, then its end without a word.
        fine(stream, id) && id < 9
    });
    let edge = Edge::start(&shop(address, &format!("{UNPROBED}    retries: {{ max: 5 }}\n")));
    let (edge, together) = (Arc::new(edge), Arc::new(Barrier::new(4)));
    let clients = (0..4).map(|_| {
        let (edge, together) = (Arc::clone(&edge), Arc::clone(&together));
        thread::spawn(move || {
            together.wait();
            let mut client = edge.client();
            (0..50).map(|_| client.get("/", "").status).filter(|status| *status != 200).count()
        })
    });
    let clients: Vec<_> = clients.collect();
    let failed: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(
        failed,
        0,
        "{}",
        edge.out().iter().filter(|l| !l.contains(":200,")).take(3).cloned().collect::<String>()
    );
}
