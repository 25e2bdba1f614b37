//! Bodies that go both ways at once: a backend that answers while it is asked, and takes no more than it can answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use http::Method;

use crate::harness::{
    Backend, Client, Edge, H2Backend, Http2, QUICK, Received, Reply, Response, send, shop,
};

/// More than all buffers on the way take, in bytes.
const MUCH: usize = 16 << 20;

/// How many bytes backends of HTTP/1.1 answer for each that they get.
const TIMES: usize = 8;

/// The head of a request with a chunked body.
const POST: &str =
    "POST / HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";

const H2C: &str = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n";

/// An edge that listens as `head` says, before one backend.
fn edge(head: &str, protocol: &str, backend: SocketAddr) -> Edge {
    let app = format!(
        "default_app: shop\napps:\n  - name: shop\n    health: off\n    backend_protocol: {protocol}\n    \
         backends: [{{ id: web.1, address: \"{backend}\" }}]\n"
    );
    Edge::start_with(head, &app)
}

/// Speaks HTTP/1.1: reads the head of a request, and leaves the rest to `answer`.
fn backend(answer: fn(BufReader<TcpStream>, TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                answer(reader, stream);
            });
        }
    });
    address
}

/// Reads a chunk; `None`: it is the last.
fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut part = vec![0; usize::from_str_radix(line.trim_end(), 16).unwrap()];
    reader.read_exact(&mut part).unwrap();
    reader.read_line(&mut line).unwrap();
    (!part.is_empty()).then_some(part)
}

/// Answers each byte of a chunked body with `TIMES`. While it waits for them to be taken, it takes none.
fn unpack(mut reader: BufReader<TcpStream>, mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
    while let Some(part) = read_chunk(&mut reader) {
        for _ in 0..TIMES {
            stream.write_all(&part).unwrap();
        }
    }
}

/// Sends back what comes, part by part.
fn h2_backend() -> H2Backend {
    H2Backend::new(None, |mut exchange| async move {
        let mut answer = exchange.head(&[]);
        let body = exchange.request.body_mut();
        while let Some(Ok(part)) = body.data().await {
            let _gone = body.flow_control().release_capacity(part.len());
            if !send(&mut answer, part).await {
                return;
            }
        }
        let _gone = answer.send_data(Bytes::new(), true);
    })
}

fn send_chunks(mut stream: TcpStream, body: &[u8]) {
    for part in body.chunks(100_000) {
        write!(stream, "{:x}\r\n", part.len()).unwrap();
        stream.write_all(part).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
}

/// Sends a body and reads the answer meanwhile.
fn post_over_http1(edge: &Edge, body: &[u8]) -> Response {
    let mut client = Client::connect(edge.address());
    client.send(POST);
    thread::scope(|scope| {
        let stream = client.stream.try_clone().unwrap();
        scope.spawn(move || send_chunks(stream, body));
        client.read()
    })
}

fn post_over_http2(edge: &Edge, body: &[u8]) -> Response {
    let client = Http2::connect(edge.address());
    let asked = client.ask(Method::POST, "/", &[], false);
    client.exchange(asked, body).unwrap()
}

/// Answers with what it gets, and keeps what is not taken yet.
fn patient(mut reader: BufReader<TcpStream>, mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
    let (keep, kept) = mpsc::channel::<Vec<u8>>();
    let sending = thread::spawn(move || {
        while let Ok(part) = kept.recv() {
            stream.write_all(&part).unwrap();
        }
    });
    while let Some(part) = read_chunk(&mut reader) {
        keep.send(part).unwrap();
    }
    drop(keep);
    sending.join().unwrap();
}

/// The same over HTTP/2.
fn patient_h2_backend() -> H2Backend {
    H2Backend::new(None, |mut exchange| async move {
        let mut answer = exchange.head(&[]);
        let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
        let sending = tokio::spawn(async move {
            while let Some(part) = kept.recv().await {
                send(&mut answer, part).await;
            }
            let _gone = answer.send_data(Bytes::new(), true);
        });
        let body = exchange.request.body_mut();
        while let Some(Ok(part)) = body.data().await {
            let _gone = body.flow_control().release_capacity(part.len());
            keep.send(part).unwrap();
        }
        drop(keep);
        sending.await.unwrap();
    })
}

#[test]
fn a_backend_may_answer_while_it_is_asked() {
    let (backend, body) = (backend(unpack), vec![b'x'; MUCH]);
    let plain = post_over_http1(&edge("", "http/1.1", backend), &body);
    let h2 = post_over_http2(&edge(H2C, "http/1.1", backend), &body);
    for response in [plain, h2] {
        assert_eq!((response.status, response.body.len()), (200, MUCH * TIMES));
    }
}

#[test]
fn a_backend_of_http2_may_answer_while_it_is_asked() {
    let backend = h2_backend();
    let body: Vec<u8> = (0..MUCH).map(|place| (place % 251) as u8).collect();
    let plain = post_over_http1(&edge("", "h2c", backend.address()), &body);
    let h2 = post_over_http2(&edge(H2C, "h2c", backend.address()), &body);
    for response in [plain, h2] {
        assert_eq!(response.status, 200);
        assert!(response.body == body, "the answer is what was sent");
    }
}

#[test]
fn a_websocket_over_http2_may_say_much_both_ways_at_once() {
    let backend = Backend::new("web.1", |request: &Received, stream: &mut TcpStream| {
        if request.header("upgrade").is_none() {
            return Reply::ok("plain");
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            for _ in 0..TIMES {
                stream.write_all(&buffer[..read]).unwrap();
            }
        }
        Reply::Done
    });
    let edge = Edge::start_with(H2C, &shop(QUICK, &[&backend]));
    let client = Http2::connect(edge.address());
    assert_eq!(client.get("/", &[]).status, 200, "the settings are known by now");
    let mut asked = client.websocket("/chat", &[]);
    let mut down = client.answer(&mut asked).unwrap().body;
    let (said, mut heard) = (vec![b'x'; MUCH], 0);
    thread::scope(|scope| {
        scope.spawn(|| client.send(&mut asked.body, &said, false).unwrap());
        while heard < MUCH * TIMES {
            heard += client.part(&mut down).unwrap().expect("more of the answer").len();
        }
    });
    assert_eq!(heard, MUCH * TIMES);
}

#[test]
fn who_does_not_listen_yet_may_still_send() {
    let (http1, http2) = (backend(patient), patient_h2_backend());
    let body = vec![b'x'; MUCH];
    for (protocol, backend) in [("http/1.1", http1), ("h2c", http2.address())] {
        let edges = [edge("", protocol, backend), edge(H2C, protocol, backend)];
        let mut client = Client::connect(edges[0].address());
        client.send(POST);
        send_chunks(client.stream.try_clone().unwrap(), &body);
        let h2 = Http2::connect(edges[1].address());
        for response in [client.read(), h2.post("/", &[], &body)] {
            assert_eq!((response.status, response.body.len()), (200, MUCH));
        }
    }
}
