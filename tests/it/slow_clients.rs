//! Clients that are slow, or send too much; and backends that take too long.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Edge, Lively, QUICK, Reply, eventually, shop};

/// Bytes of a response that no kernel holds for a client.
const LARGE: usize = 32 << 20;

/// How often a slow client does something.
const BEAT: Duration = Duration::from_millis(100);

/// An app whose backend answers `/large` with many bytes, and everything else with its id.
fn edge(settings: &str) -> (Backend, Edge) {
    let backend = Backend::new("web.1", |request, stream| match request.path() {
        "/large" => {
            let _cut = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            let _cut = stream.write_all(&vec![7; LARGE]);
            Reply::Done
        }
        _ => Reply::ok("web.1"),
    });
    let edge = Edge::start(&shop(&format!("{settings}{QUICK}"), &[&backend]));
    (backend, edge)
}

fn failed(edge: &Edge, status: u16, label: &str) {
    edge.counts(
        &format!(
            "homing_http_requests_total{{app=\"shop\",status=\"{status}\",failure=\"{label}\"}}"
        ),
        1.0,
    );
}

/// Reads a large response, `bytes` at a time for so many beats, and the rest at once. Answers with how much came.
fn read_slowly(edge: &Edge, bytes: usize, beats: usize) -> usize {
    let mut client = edge.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_read_head().unwrap().status, 200);
    let mut buffer = vec![0; bytes];
    let mut all = 0;
    for beat in 0.. {
        match client.reader.read(&mut buffer) {
            Ok(read) if read > 0 => all += read,
            Ok(_) | Err(_) => break,
        }
        if all == LARGE {
            break;
        }
        if beat < beats {
            thread::sleep(BEAT);
        }
    }
    all
}

#[test]
fn who_reads_slowly_but_steadily_gets_everything() {
    let (_backend, edge) = edge("    timeouts: { idle: 3s }\n");
    // The kernel of a client tells of room when a sixteenth of it is free, ours when a third of what it holds is gone:
    // sooner than this deadline the one, later the other.
    assert_eq!(read_slowly(&edge, 32 << 10, 100), LARGE);
}

#[test]
fn who_does_not_read_at_all_is_cut_and_named() {
    let (_backend, edge) = edge("    timeouts: { idle: 1s }\n");
    let mut client = edge.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    failed(&edge, 200, "client_idle");
    edge.counts("homing_client_connections", 0.0);
}

#[test]
fn who_reads_in_drops_is_cut() {
    let (_backend, edge) =
        edge("    limits: { read_rate: 1000000, rate_grace: 1s }\n    timeouts: { idle: 30s }\n");
    assert!(read_slowly(&edge, 32 << 10, 200) < LARGE);
    failed(&edge, 200, "client_idle");
}

#[test]
fn a_body_that_drips_ends() {
    let (_backend, edge) =
        edge("    limits: { body_rate: 1000, rate_grace: 1s }\n    timeouts: { idle: 30s }\n");
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while writer.write_all(b"x").is_ok() {
            thread::sleep(BEAT);
        }
    });
    let response = client.read();
    assert_eq!((response.status, response.header("x-homing-error")), (408, Some("N48")));
    failed(&edge, 408, "body_too_slow");
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn a_body_that_is_slow_since_its_backend_is_goes_on() {
    // More than all kernels on the way hold: those take some 4 MB, worth 4 seconds at this rate.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let edge = Edge::start(&format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    limits: {{ body_rate: 1000000, rate_grace: 1s }}\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    ));
    let mut client = edge.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\nx"));
    let (mut backend, _) = listener.accept().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nx") {
        let read = backend.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..read]);
    }
    // Homing waits for the client now; and then, for longer than it may, for the backend.
    thread::sleep(2 * BEAT);
    let mut writer = client.stream.try_clone().unwrap();
    let rest = thread::spawn(move || writer.write_all(&vec![7; LARGE - 2]).is_ok());
    thread::sleep(Duration::from_secs(8));
    let mut left = LARGE - 1;
    while left > 0 {
        let read = backend.read(&mut buffer).unwrap();
        assert!(read > 0, "{left} bytes did not come");
        left -= read;
        if left == 1 {
            client.send("x");
        }
    }
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(client.read().status, 200);
    assert!(rest.join().unwrap());
}

#[test]
fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let (backend, edge) = edge("    limits: { max_body: 1KiB }\n");
    let head = "POST /body HTTP/1.1\r\nHost: a\r\n";
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let mut client = edge.client();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"));
    assert_eq!(client.read().status, 200, "as much as it may");
    let before = backend.requests().len();
    client.send(format!("{head}Content-Length: 1025\r\n\r\n"));
    let announced = client.read();
    assert_eq!((announced.status, announced.header("x-homing-error")), (413, Some("N43")));
    assert!(client.is_closed());
    assert_eq!(backend.requests().len(), before, "the backend was not asked");
    let mut client = edge.client();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n"));
    let summed = client.read();
    assert_eq!((summed.status, summed.header("x-homing-error")), (413, Some("N43")));
    let mut client = edge.client();
    let asking = "Connection: Upgrade\r\nUpgrade: other\r\nTransfer-Encoding: chunked";
    client.send(format!("{head}{asking}\r\n\r\n{chunk}1\r\nx\r\n"));
    let asked = client.read();
    assert_eq!(
        (asked.status, asked.header("x-homing-error")),
        (413, Some("N43")),
        "no upgrade yet"
    );
}

#[test]
fn a_body_that_is_sent_again_counts_once() {
    let (asked, size) = (AtomicUsize::new(0), 40 << 10);
    // Closes each connection instead of answering its second request.
    let backend =
        Backend::new("web.1", move |_, _| match asked.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Reply::ok("web.1"),
            _ => Reply::Done,
        });
    let settings = "    health: off\n    retries: on\n    limits: { max_body: 64KiB }\n";
    let edge = Edge::start(&shop(settings, &[&backend]));
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    eventually("a kept connection that is closed is met", || {
        let mut client = edge.client();
        client.send(&put);
        client.send(vec![7; size]);
        assert_eq!(client.read().status, 200);
        let retried = edge.metric("homing_retries_total{app=\"shop\",result=\"allowed\"}");
        (retried > 0.5).then_some(())
    });
    assert_eq!(backend.last().body.len(), size);
}

#[test]
fn a_whole_request_may_have_an_end_and_a_stream_has_none() {
    let one = Lively::named("web.1");
    let settings = format!("    timeouts: {{ total: 1s }}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&one.backend]));
    let mut events = edge.client();
    events.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(events.try_read_head().unwrap().status, 200);
    assert_eq!(edge.get("/").status, 200);
    let late = edge.get("/slow");
    assert_eq!((late.status, late.header("x-homing-error")), (503, Some("N15")));
    failed(&edge, 503, "total_timeout");
    thread::sleep(Duration::from_millis(500));
    edge.counts("homing_backend_streams{app=\"shop\",backend=\"web.1\"}", 1.0);
    one.gate.open();
}

#[test]
fn all_attempts_to_connect_have_an_end_together() {
    // Full queues: the kernel answers no further connect.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let mut held = Vec::new();
    let mut file = "default_app: shop\napps:\n  - name: shop\n    timeouts: { connect: 500ms, connect_total: 700ms, admission: 0s }\n    health: off\n    backends:\n".to_owned();
    for (number, listener) in listeners.iter().enumerate() {
        let address = listener.local_addr().unwrap();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            held.push(stream);
        }
        file.push_str(&format!("      - {{ id: web.{number}, address: \"{address}\" }}\n"));
    }
    let edge = Edge::start(&file);
    assert_eq!(edge.get("/").header("x-homing-error"), Some("H19"));
    let tried = (0..3).map(|number| {
        edge.metric(&format!("homing_backend_connects_total{{app=\"shop\",backend=\"web.{number}\",result=\"timed_out\"}}"))
    });
    let tried: Vec<f64> = tried.collect();
    assert!(tried.iter().sum::<f64>() < 2.5, "the third was not tried: {tried:?}");
}

#[test]
fn a_thousand_slow_clients_hold_no_good_one_up() {
    const EACH: usize = 334;
    let (_backend, edge) = edge("    limits: { app_in_flight: off }\n");
    let open = || TcpStream::connect(edge.address()).unwrap();
    let mut slow: Vec<TcpStream> = (0..3 * EACH).map(|_| open()).collect();
    let (heads, others) = slow.split_at_mut(EACH);
    let (bodies, readers) = others.split_at_mut(EACH);
    heads
        .iter_mut()
        .for_each(|client| client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-").unwrap());
    for client in bodies {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nx").unwrap();
    }
    // Fewer: each of these responses is a large one.
    for client in &mut readers[..32] {
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for client in &mut readers[32..] {
        client.write_all(b"G").unwrap();
    }
    edge.counts("homing_client_connections", (3 * EACH) as f64);
    let end = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&end);
    let mut dripping: Vec<TcpStream> = slow.iter().map(|one| one.try_clone().unwrap()).collect();
    let drip = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            for client in &mut dripping[..2 * EACH] {
                let _cut = client.write(b"x");
            }
            thread::sleep(BEAT);
        }
    });
    let begun = Instant::now();
    let mut client = edge.client();
    for _ in 0..200 {
        assert_eq!(client.get("/", "").status, 200);
        assert_eq!(edge.get("/").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    end.store(true, Ordering::Relaxed);
    drip.join().unwrap();
    drop(slow);
    eventually("they are gone", || (edge.metric("homing_client_connections") < 2.5).then_some(()));
}
