//! Calls of gRPC, from a client of HTTP/2 to a backend of HTTP/2: every kind of call, and every way it can end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::harness::{Asked, Client, Edge, Exchange, H2Backend, Http2, eventually, is_refused};

const H2C: &str = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n";

fn shop(address: SocketAddr, settings: &str) -> String {
    format!(
        "default_app: shop\napps:\n  - name: shop\n    backend_protocol: h2c\n{settings}    \
         backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    )
}

const UNPROBED: &str = "    health: off\n";

/// Fields that every call has.
const CALL: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A message with what stands in front of it.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), text.as_bytes()].concat()
}

/// The messages in bytes.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let [_, a, b, c, d, rest @ ..] = bytes {
        let (text, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        all.push(String::from_utf8_lossy(text).into());
        bytes = rest;
    }
    all
}

fn trailers(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.append("x-twice", HeaderValue::from_static("1"));
    trailers.append("x-twice", HeaderValue::from_static("2"));
    trailers.insert("x-raw-bin", HeaderValue::from_static("AAEC/w=="));
    trailers
}

/// What a server has seen of calls that ended otherwise than by its own answer.
#[derive(Default)]
struct Seen {
    resets: Mutex<Vec<Reason>>,
    health: AtomicU8,
    probes: AtomicUsize,
}

impl Seen {
    fn reset(&self) -> Reason {
        eventually("the backend sees the end of the call", || {
            self.resets.lock().unwrap().first().copied()
        })
    }
}

/// A server with a method of each kind.
fn server() -> (H2Backend, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let own = Arc::clone(&seen);
    let backend = H2Backend::new(None, move |exchange| {
        let own = Arc::clone(&own);
        answer(exchange, own)
    });
    (backend, seen)
}

async fn answer(mut exchange: Exchange, seen: Arc<Seen>) {
    let head: &[(&str, &str)] = &[("content-type", "application/grpc"), ("x-initial", "yes")];
    match exchange.path() {
        "/t.T/Unary" => {
            let asked = exchange.body().await;
            let mut stream = exchange.head(head);
            stream.send_data(asked.into(), false).unwrap();
            stream.send_trailers(trailers("0")).unwrap();
        }
        "/t.T/TrailersOnly" => {
            let head = Response::builder().header("content-type", "application/grpc");
            let head = head.header("grpc-status", "5").header("grpc-message", "none%20such");
            exchange.respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
        "/t.T/Server" => {
            exchange.body().await;
            let mut stream = exchange.head(head);
            for number in 0..3 {
                stream.send_data(message(&number.to_string()).into(), false).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stream.send_trailers(trailers("0")).unwrap();
        }
        "/t.T/Client" => {
            let count = messages(&exchange.body().await).len();
            let mut stream = exchange.head(head);
            stream.send_data(message(&count.to_string()).into(), false).unwrap();
            stream.send_trailers(trailers("0")).unwrap();
        }
        "/t.T/Both" => {
            // Nothing is said, not even a head, before there is something to say.
            let mut stream = None;
            while let Some(Ok(part)) = exchange.request.body_mut().data().await {
                let _gone = exchange.request.body_mut().flow_control().release_capacity(part.len());
                if stream.is_none() {
                    stream = Some(exchange.head(head));
                }
                let _gone = stream.as_mut().unwrap().send_data(part, false);
            }
            if let Some(mut stream) = stream {
                let _gone = stream.send_trailers(trailers("0"));
            }
        }
        "/t.T/Break" => {
            let mut stream = exchange.head(head);
            stream.send_data(message("first").into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        // Takes no more than its window.
        "/t.T/Full" => {
            let ended = poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
            seen.resets.lock().unwrap().push(ended.unwrap_or(Reason::STREAM_CLOSED));
        }
        "/t.T/Hang" => {
            let ended = poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
            seen.resets.lock().unwrap().push(ended.unwrap_or(Reason::STREAM_CLOSED));
        }
        "/grpc.health.v1.Health/Check" => {
            seen.probes.fetch_add(1, Ordering::SeqCst);
            let asked = exchange.body().await;
            assert_eq!(asked, [0, 0, 0, 0, 5, 10, 3, b't', b'.', b'T'], "which service");
            let health = seen.health.load(Ordering::SeqCst);
            if health == u8::MAX {
                let head = Response::builder().header("grpc-status", "12").body(()).unwrap();
                exchange.respond.send_response(head, true).unwrap();
                return;
            }
            let mut stream = exchange.head(head);
            stream.send_data(vec![0, 0, 0, 0, 2, 8, health].into(), false).unwrap();
            stream.send_trailers(trailers("0")).unwrap();
        }
        other => panic!("{other}"),
    }
}

fn call(client: &Http2, method: &str, more: &[(&str, &str)]) -> Asked {
    let fields: Vec<_> = CALL.iter().chain(more).copied().collect();
    client.ask(Method::POST, &format!("/t.T/{method}"), &fields, false)
}

/// Asks with messages, and reads the answer: its messages, and how it says it ended.
fn ask(client: &Http2, method: &str, sent: &[&str]) -> (Vec<String>, String) {
    let mut asked = call(client, method, &[]);
    for text in sent {
        client.send(&mut asked.body, &message(text), false).unwrap();
    }
    client.send(&mut asked.body, b"", true).unwrap();
    ended(client, asked)
}

fn ended(client: &Http2, mut asked: Asked) -> (Vec<String>, String) {
    let answer = client.answer(&mut asked).unwrap();
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.header("content-type"), Some("application/grpc"));
    let (response, trailers) = client.rest(answer).unwrap();
    let in_trailers =
        trailers.and_then(|all| Some(all.get("grpc-status")?.to_str().unwrap().to_owned()));
    let in_head = response.header("grpc-status").map(ToOwned::to_owned);
    (messages(&response.body), in_trailers.or(in_head).unwrap_or_default())
}

fn said(texts: &[&str], status: &str) -> (Vec<String>, String) {
    (texts.iter().map(ToString::to_string).collect(), status.to_owned())
}

#[test]
fn every_kind_of_call_is_what_it_was() {
    let (backend, _) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    assert_eq!(ask(&client, "Unary", &["hello"]), said(&["hello"], "0"));
    assert_eq!(ask(&client, "Server", &["go"]), said(&["0", "1", "2"], "0"));
    assert_eq!(ask(&client, "Client", &["a", "b", "c"]), said(&["3"], "0"));
    assert_eq!(ask(&client, "Both", &["a", "b"]), said(&["a", "b"], "0"));
    assert_eq!(ask(&client, "TrailersOnly", &["a"]), said(&[], "5"));
    for said in backend.said() {
        assert_eq!((said.headers["te"].as_bytes(), said.connection), (&b"trailers"[..], 0));
        assert_eq!(said.headers["content-type"], "application/grpc");
    }
}

#[test]
fn what_stands_in_trailers_comes_as_it_was_sent() {
    let (backend, _) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Unary", &[("x-meta-bin", "AAEC"), ("grpc-timeout", "20S")]);
    client.send(&mut asked.body, &message("a"), true).unwrap();
    let answer = client.answer(&mut asked).unwrap();
    assert_eq!(answer.head.header("x-initial"), Some("yes"));
    assert_eq!(answer.head.header("grpc-status"), None);
    let (_, got) = client.rest(answer).unwrap();
    assert_eq!(got, Some(trailers("0")));
    let said = backend.last().headers;
    assert_eq!(
        (said["x-meta-bin"].as_bytes(), said["grpc-timeout"].as_bytes()),
        (&b"AAEC"[..], &b"20S"[..])
    );
    let mut asked = call(&client, "TrailersOnly", &[]);
    client.send(&mut asked.body, b"", true).unwrap();
    let answer = client.answer(&mut asked).unwrap();
    assert_eq!(answer.head.header("grpc-message"), Some("none%20such"));
    assert!(answer.body.is_end_stream(), "a head is all of it");
}

/// Silence is no failure of a call; it has the patience that WebSockets have.
#[test]
fn a_call_may_be_silent_for_longer_than_a_request_and_counts_as_a_stream_meanwhile() {
    let (backend, _) = server();
    let limits = "    timeouts: { first_byte: 200ms, idle: 200ms, total: 300ms }\n";
    let edge = Edge::start_with(H2C, &shop(backend.address(), &format!("{UNPROBED}{limits}")));
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Both", &[]);
    let streams = "homing_backend_streams{app=\"shop\",backend=\"web.1\"}";
    edge.counts(streams, 1.0);
    std::thread::sleep(Duration::from_millis(600));
    client.send(&mut asked.body, &message("a"), false).unwrap();
    let mut answer = client.answer(&mut asked).unwrap();
    for text in ["a", "b", "c"] {
        if text != "a" {
            std::thread::sleep(Duration::from_millis(400));
            client.send(&mut asked.body, &message(text), false).unwrap();
        }
        let part = client.part(&mut answer.body).unwrap().unwrap();
        assert_eq!(messages(&part), [text]);
    }
    edge.counts(streams, 1.0);
    client.send(&mut asked.body, b"", true).unwrap();
    let (_, got) = client.rest(answer).unwrap();
    assert_eq!(got.unwrap()["grpc-status"], "0");
    edge.counts(streams, 0.0);
}

#[test]
fn a_call_that_is_silent_for_too_long_ends_with_deadline_exceeded() {
    let (backend, seen) = server();
    let limits = "    timeouts: { upgraded_idle: 1s }\n";
    let edge = Edge::start_with(H2C, &shop(backend.address(), &format!("{UNPROBED}{limits}")));
    let client = Http2::connect(edge.address());
    assert_eq!(ask(&client, "Hang", &["a"]), said(&[], "4"));
    assert_eq!(seen.reset(), Reason::CANCEL);
}

#[test]
fn a_call_whose_backend_takes_nothing_ends() {
    let (backend, seen) = server();
    let limits = "    timeouts: { idle: 500ms }\n";
    let edge = Edge::start_with(H2C, &shop(backend.address(), &format!("{UNPROBED}{limits}")));
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Full", &[]);
    let much = "x".repeat(50_000);
    while client.send(&mut asked.body, &message(&much), false).is_ok() {}
    seen.reset();
    assert_eq!(ask(&client, "Unary", &["a"]), said(&["a"], "0"));
}

/// The client of the test does not look at the clock itself.
#[test]
fn a_call_ends_with_its_deadline_although_the_client_does_not_give_it_up() {
    let (backend, seen) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Hang", &[("grpc-timeout", "100m")]);
    client.send(&mut asked.body, &message("a"), true).unwrap();
    assert_eq!(ended(&client, asked), said(&[], "4"));
    assert_eq!(seen.reset(), Reason::CANCEL);
    edge.counts(
        "homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"total_timeout\"}",
        1.0,
    );
}

#[test]
fn a_call_that_the_client_gives_up_ends_at_the_backend() {
    for is_whole in [true, false] {
        let (backend, seen) = server();
        let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
        let client = Http2::connect(edge.address());
        let mut asked = call(&client, "Hang", &[]);
        client.send(&mut asked.body, &message("a"), is_whole).unwrap();
        eventually("the call reached the backend", || (!backend.said().is_empty()).then_some(()));
        asked.body.send_reset(Reason::CANCEL);
        assert_eq!(seen.reset(), Reason::CANCEL, "{is_whole}");
        // Nobody else is hurt.
        assert_eq!(ask(&client, "Unary", &["a"]), said(&["a"], "0"));
        assert_eq!(backend.last().connection, 0);
    }
}

#[test]
fn a_client_that_is_gone_ends_its_calls_at_the_backend() {
    let (backend, seen) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Hang", &[]);
    client.send(&mut asked.body, &message("a"), true).unwrap();
    eventually("the call reached the backend", || (!backend.said().is_empty()).then_some(()));
    drop((asked, client));
    assert_eq!(seen.reset(), Reason::CANCEL);
}

#[test]
fn a_call_that_breaks_off_ends_with_a_status_in_its_trailers() {
    let (backend, _) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    assert_eq!(ask(&client, "Break", &["a"]), said(&["first"], "14"));
    eventually("it is logged", || edge.out().iter().any(|line| line.contains("H18")).then_some(()));
}

#[test]
fn a_call_that_fails_gets_a_status_and_no_page() {
    let (mut backend, _) = server();
    backend.stop();
    eventually("the backend is gone", || is_refused(backend.address()).then_some(()));
    let apps = shop(backend.address(), UNPROBED).replace("default_app: shop\n", "").replace(
        "- name: shop\n",
        "- name: shop\n    domains: [shop.example.com]\n    limits: { max_body: 1KiB }\n",
    );
    let edge = Edge::start_with(H2C, &apps);
    let client = Http2::connect(edge.address());
    let mut asked = call(&client, "Unary", &[]);
    client.send(&mut asked.body, &message("a"), true).unwrap();
    let answer = client.answer(&mut asked).unwrap();
    assert!(answer.body.is_end_stream(), "a head is all of it");
    let header = |name| answer.head.header(name);
    assert_eq!((answer.head.status, header("grpc-status")), (200, Some("14")));
    assert_eq!(header("grpc-message"), Some("Backend connection refused"));
    assert_eq!(header("content-type"), Some("application/grpc"));
    assert!(header("x-request-id").is_some());
    edge.counts(
        "homing_http_requests_total{app=\"shop\",status=\"200\",failure=\"connect_refused\"}",
        1.0,
    );
    // grpc-web is plain HTTP, and gets a page.
    let web = [("content-type", "application/grpc-web")];
    assert_eq!(client.post("/t.T/Unary", &web, b"").status, 503);
    // So does who speaks HTTP/1.1, with the head that such a response has.
    let old = Edge::start(&apps);
    let mut client = Client::connect(old.address());
    client.send(
        "POST / HTTP/1.1\r\nHost: none.test\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
    );
    let response = client.read();
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("12")));
}

#[test]
fn the_deadline_of_a_drain_ends_calls_that_are_open_with_unavailable() {
    let (backend, _) = server();
    let edge = Edge::start_with(H2C, &shop(backend.address(), UNPROBED));
    let client = Http2::connect(edge.address());
    let mut begun = call(&client, "Both", &[]);
    client.send(&mut begun.body, &message("a"), false).unwrap();
    let mut answer = client.answer(&mut begun).unwrap();
    assert_eq!(messages(&client.part(&mut answer.body).unwrap().unwrap()), ["a"]);
    let silent = call(&client, "Both", &[]);
    edge.counts("homing_backend_streams{app=\"shop\",backend=\"web.1\"}", 2.0);
    edge.command(&["drain", "shop/web.1", "--deadline", "1s"]).is_done("drain");
    let (_, got) = client.rest(answer).unwrap();
    assert_eq!(got.unwrap()["grpc-status"], "14");
    assert_eq!(ended(&client, silent), said(&[], "14"));
}

#[test]
fn the_health_check_of_grpc_decides_and_says_why() {
    let (backend, seen) = server();
    let health = "    health: { grpc: { service: t.T }, interval: 100ms, interval_failing: 100ms, rise: 1, fall: 1 }\n";
    seen.health.store(1, Ordering::SeqCst);
    let edge = Edge::start_with(H2C, &shop(backend.address(), health));
    let client = Http2::connect(edge.address());
    assert_eq!(ask(&client, "Unary", &["a"]), said(&["a"], "0"));
    for (health, word) in [(2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN"), (u8::MAX, "UNIMPLEMENTED")] {
        seen.health.store(health, Ordering::SeqCst);
        edge.wait_for("web.1", "closed");
        eventually(word, || edge.backend_status("web.1").to_string().contains(word).then_some(()));
        seen.health.store(1, Ordering::SeqCst);
        edge.wait_for("web.1", "open");
    }
    let others = backend.said().iter().filter(|said| said.line.contains("/t.T/")).count();
    assert_eq!(others, 1);
    assert!(seen.probes.load(Ordering::SeqCst) > 6);
}
