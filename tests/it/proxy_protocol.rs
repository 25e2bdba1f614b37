//! The PROXY protocol: proxies in front say for whom they connect, and backends are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::harness::{Backend, Client, Edge, QUICK, Received, Reply, eventually, scratch, shop};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 1 for this client.
fn line(client: &str) -> String {
    format!("PROXY TCP4 {client} 198.51.100.7 40000 443\r\n")
}

/// A header of version 2 with these bytes after its length.
fn bytes(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, rest].concat()
}

/// The addresses of a client, as version 2 has them.
fn block(client: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d] = client;
    [a, b, c, d, 198, 51, 100, 7, 0x9c, 0x40, 0x20, 0xfb]
}

/// An edge whose listener is spoken to by proxies of these networks, which clients of the tests (127.0.0.1) may be.
fn edge(head: &str, networks: &str, app: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let listener = format!(
        "listeners: [{{ address: \"127.0.0.1:0\", proxy_protocol: [{networks}] }}]\n{head}"
    );
    let edge = Edge::start_with(&listener, &shop(&format!("{app}{QUICK}"), &[&backend]));
    (backend, edge)
}

fn refused(reason: &str) -> String {
    format!("homing_proxy_protocol_refused_total{{reason=\"{reason}\"}}")
}

fn forwarded(request: &Received) -> [&str; 3] {
    ["x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"]
        .map(|name| request.header(name).unwrap())
}

/// Waits until there are lines for requests of these clients, in whatever order they were written.
fn logs(edge: &Edge, expected: &[&str]) {
    eventually(&format!("lines for {expected:?}"), || {
        let lines: Vec<Value> =
            edge.out().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut clients: Vec<_> = lines.iter().filter_map(|line| line["client"].as_str()).collect();
        clients.sort_unstable();
        (clients == expected).then_some(())
    });
}

#[test]
fn a_proxy_in_front_says_who_the_client_is_and_where_it_connected() {
    let (backend, edge) = edge("", "127.0.0.0/8", "");
    let mut client = edge.client();
    client.send(line("192.0.2.1"));
    // Every request of the connection is that client's.
    for _ in 0..2 {
        assert_eq!(client.get("/", "X-Forwarded-For: 203.0.113.9\r\n").status, 200);
        assert_eq!(forwarded(&backend.last()), ["203.0.113.9, 192.0.2.1", "443", "http"]);
    }
    let mut client = edge.client();
    client.send(bytes(0x21, 0x11, &block([192, 0, 2, 2])));
    assert_eq!(client.get("/", "").status, 200);
    assert_eq!(forwarded(&backend.last()), ["192.0.2.2", "8443", "http"]);
    // Which the log says, too.
    logs(&edge, &["192.0.2.1", "192.0.2.1", "192.0.2.2"]);
    let mut client = edge.client();
    let tls = [&block([192, 0, 2, 3])[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    client.send(bytes(0x21, 0x11, &tls));
    let response = client.get("/", "");
    assert_eq!(forwarded(&backend.last()), ["192.0.2.3", "8443", "https"]);
    assert!(response.header("set-cookie").unwrap().contains("; Secure"));
}

#[test]
fn a_header_may_come_in_pieces_and_in_one_piece_with_the_request() {
    let (backend, edge) = edge("", "127.0.0.1", "");
    let request = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let header = bytes(0x21, 0x11, &[&block([192, 0, 2, 2])[..], &[0xee, 0, 2, 1, 2]].concat());
    for header in [line("192.0.2.2").into_bytes(), header] {
        let whole = [&header[..], request.as_bytes()].concat();
        let mut client = edge.client();
        client.send(&whole);
        assert_eq!(client.read().status, 200);
        assert_eq!(forwarded(&backend.last())[0], "192.0.2.2");
        let mut client = edge.client();
        for piece in whole.chunks(1) {
            client.send(piece);
        }
        assert_eq!(client.read().status, 200);
        assert_eq!(forwarded(&backend.last())[0], "192.0.2.2");
    }
}

#[test]
fn a_connection_of_the_proxy_itself_or_of_an_unknown_client_is_its_own() {
    let (backend, edge) = edge("", "127.0.0.1", "");
    let port = edge.address().port().to_string();
    let unknown = b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec();
    let unix = bytes(0x21, 0x31, &[b'/'; 216]);
    let own = bytes(0x20, 0x11, &block([192, 0, 2, 2]));
    for header in [unknown, unix, own, bytes(0x20, 0, &[]), bytes(0x21, 0, &[])] {
        let mut client = edge.client();
        client.send(header);
        assert_eq!(client.get("/", "").status, 200);
        assert_eq!(forwarded(&backend.last()), ["127.0.0.1", port.as_str(), "http"]);
    }
    // Who only looks whether we are there says nothing, and nothing is said of it.
    drop(edge.client());
    edge.counts("homing_client_connections", 0.0);
    let reasons = ["absent", "checksum", "cut", "malformed", "slow", "too_long"];
    assert!(reasons.iter().all(|reason| edge.metric(&refused(reason)) == 0.0));
}

#[test]
fn who_should_begin_with_a_header_and_does_not_is_cut_off() {
    let (backend, edge) = edge("server: { head_timeout: 1s }\n", "127.0.0.1", "");
    let wrong_sum = [&block([192, 0, 2, 2])[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
    let long = bytes(0x21, 0x11, &vec![0; 4096]);
    let cases: [(&str, Vec<u8>); 6] = [
        ("absent", b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".to_vec()),
        ("absent", b"\x16\x03\x01\x02\0\x01".to_vec()),
        ("malformed", line("192.0.2.300").into_bytes()),
        ("checksum", bytes(0x21, 0x11, &wrong_sum)),
        ("too_long", long),
        ("slow", b"PROXY TCP4 192.0.2.1".to_vec()),
    ];
    for (number, (reason, sent)) in cases.iter().enumerate() {
        let mut client = edge.client();
        client.send(sent);
        assert!(client.is_closed(), "{reason}");
        edge.counts(&refused(reason), if number == 1 { 2.0 } else { 1.0 });
    }
    let mut client = edge.client();
    client.send("PROXY TCP4 ");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
    edge.counts(&refused("cut"), 1.0);
    // Nor is anything read of it as a request.
    let mut client = edge.client();
    client.send(format!("{}{}", line("192.0.2.1"), line("192.0.2.2")));
    assert_eq!(client.read().status, 400);
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn from_anybody_else_a_header_is_no_request_and_none_is_needed() {
    let (backend, edge) = edge("", "10.0.0.0/8, 127.0.0.9", "");
    assert_eq!(edge.get("/").status, 200);
    for header in [line("192.0.2.1").into_bytes(), bytes(0x21, 0x11, &block([192, 0, 2, 1]))] {
        let mut client = edge.client();
        client.send([&header[..], b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"].concat());
        assert_eq!(client.read().status, 400);
    }
    assert_eq!(backend.requests().len(), 1);
    // A reload holds for connections from then on.
    edge.reload_with("10.0.0.0/8, 127.0.0.9", "127.0.0.0/8");
    let mut client = edge.client();
    client.send(line("192.0.2.1"));
    assert_eq!(client.get("/", "").status, 200);
    assert_eq!(forwarded(&backend.last())[0], "192.0.2.1");
}

#[test]
fn clients_behind_a_proxy_are_counted_one_by_one() {
    let limit = "    rate_limit: { requests: 1, per: 1h, burst: 2 }\n";
    let head = "server: { connections_per_address: 2 }\n";
    let (_backend, edge) = edge(head, "127.0.0.1", limit);
    let connect = |address: &str| {
        let mut client = edge.client();
        client.send(line(address));
        client
    };
    // As many connections as each may have, and as many requests.
    let mut held: Vec<Client> =
        ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"].map(connect).into();
    let statuses: Vec<u16> = held.iter_mut().map(|client| client.get("/", "").status).collect();
    assert_eq!(statuses, [200; 4]);
    assert_eq!(held[0].get("/", "").status, 429);
    assert_eq!(connect("192.0.2.3").get("/", "").status, 200);
    assert!(connect("192.0.2.1").is_closed());
    edge.counts("homing_client_connections_closed_total{reason=\"address\"}", 1.0);
    held.drain(..2);
    eventually("the first client may connect again", || {
        let response = connect("192.0.2.1").try_get("/");
        (response?.status == 429).then_some(())
    });
}

#[test]
fn the_word_of_the_client_in_a_header_counts_as_if_it_had_connected() {
    let (_backend, edge) = edge("trusted_proxies: [192.0.2.0/24]\n", "127.0.0.1", "");
    let ask = |address: &str| {
        let mut client = edge.client();
        client.send(line(address));
        client.get("/", "X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.1\r\n");
    };
    ["192.0.2.1", "198.51.100.1", "127.0.0.1"].into_iter().for_each(ask);
    logs(&edge, &["127.0.0.1", "198.51.100.1", "203.0.113.1"]);
}

#[test]
fn a_process_that_stops_does_not_wait_for_a_header_that_nobody_sends() {
    let (_backend, mut edge) = edge("", "127.0.0.1", "");
    let _silent = edge.client();
    eventually("it is there", || (edge.metric("homing_client_connections") > 0.5).then_some(()));
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    eventually("it was not cut", || {
        edge.log().iter().any(|line| line.contains("stopped connections_cut=0")).then_some(())
    });
}

/// What a backend got that wants a header on each connection.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Heard {
    /// The number of the connection.
    connection: usize,
    header: Vec<u8>,
    path: String,
}

/// A backend that closes connections which do not begin with a header.
struct Strict {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Strict {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let own = Arc::clone(&heard);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let own = Arc::clone(&own);
                thread::spawn(move || serve(connection, stream.unwrap(), &own));
            }
        });
        Self { address, heard }
    }

    fn app(&self, settings: &str) -> String {
        let address = self.address;
        format!(
            "default_app: shop\napps:\n  - name: shop\n{settings}    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
        )
    }

    /// What it heard so far on this path.
    fn heard(&self, path: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.path == path).cloned().collect()
    }
}

fn serve(connection: usize, stream: TcpStream, all: &Mutex<Vec<Heard>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let header = header(&mut reader)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        all.lock().unwrap().push(Heard { connection, header: header.clone(), path });
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
    }
}

fn header(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut header = vec![0; V2.len()];
    reader.read_exact(&mut header).ok()?;
    if header == V2 {
        header.resize(V2.len() + 4, 0);
        reader.read_exact(&mut header[V2.len()..]).ok()?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
        reader.read_exact(&mut rest).ok()?;
        header.extend(rest);
        return Some(header);
    }
    reader.read_until(b'\n', &mut header).ok()?;
    header.starts_with(b"PROXY ").then_some(header)
}

#[test]
fn a_backend_is_told_of_each_client_on_connections_of_its_own() {
    for version in ["v1", "v2"] {
        let backend = Strict::start();
        // It is ready, thus probes pass: they are told of as our own.
        let edge = Edge::start(&backend.app(&format!("    proxy_protocol: {version}\n{QUICK}")));
        let (mut one, mut two) = (edge.client(), edge.client());
        for (client, path) in [(&mut one, "/one"), (&mut two, "/two")] {
            // Kept for the client that it is of. The next request may come before it is back.
            eventually("a connection is kept", || {
                assert_eq!(client.get(path, "").status, 200);
                let heard = backend.heard(path);
                let kept = heard.windows(2).any(|two| two[0].connection == two[1].connection);
                kept.then_some(())
            });
        }
        let (first, second) = (backend.heard("/one"), backend.heard("/two"));
        for (heard, client) in [(&first, &one), (&second, &two)] {
            let (from, to) = (client.stream.local_addr().unwrap(), edge.address());
            let expected = match version {
                "v1" => {
                    let ports = format!("{} {}", from.port(), to.port());
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {ports}\r\n").into_bytes()
                }
                _ => {
                    let ip = Ipv4Addr::LOCALHOST.octets();
                    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                    bytes(0x21, 0x11, &[&ip, &ip, &ports[..]].concat())
                }
            };
            assert!(heard.iter().all(|heard| heard.header == expected), "{heard:?}");
        }
        let connections = |heard: &[Heard]| -> std::collections::BTreeSet<_> {
            heard.iter().map(|heard| heard.connection).collect()
        };
        let (of_one, of_two) = (connections(&first), connections(&second));
        assert!(of_one.is_disjoint(&of_two), "{of_one:?}, {of_two:?}");
        let probes = backend.heard("/healthz");
        let own = if version == "v1" { b"PROXY UNKNOWN\r\n".to_vec() } else { bytes(0x20, 0, &[]) };
        assert!(!probes.is_empty() && probes.iter().all(|probe| probe.header == own), "{probes:?}");
        // Who comes later gets no connection that somebody left.
        drop((one, two));
        assert_eq!(edge.get("/three").status, 200);
        let third = backend.heard("/three").remove(0).connection;
        assert!(!of_one.contains(&third) && !of_two.contains(&third));
    }
}

#[test]
fn what_a_proxy_in_front_says_is_said_to_the_backend() {
    let backend = Strict::start();
    let listener = "listeners: [{ address: \"127.0.0.1:0\", proxy_protocol: [127.0.0.1] }]\n";
    let edge =
        Edge::start_with(listener, &backend.app(&format!("    proxy_protocol: v2\n{QUICK}")));
    let mut client = edge.client();
    client.send("PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n");
    assert_eq!(client.get("/", "").status, 200);
    let ends = [
        &[0x20, 1, 0xd, 0xb8][..],
        &[0; 11],
        &[1, 0x20, 1, 0xd, 0xb8],
        &[0; 11],
        &[2, 0x12, 0x34, 1, 0xbb],
    ];
    assert_eq!(backend.heard("/")[0].header, bytes(0x21, 0x21, &ends.concat()));
    let mut client = edge.client();
    client.send("PROXY UNKNOWN\r\n");
    assert_eq!(client.get("/own", "").status, 200);
    // It is as if the proxy had connected for itself.
    let port = client.stream.local_addr().unwrap().port().to_be_bytes();
    let heard = backend.heard("/own")[0].header.clone();
    assert_eq!(heard[16..20], Ipv4Addr::LOCALHOST.octets());
    assert_eq!(heard[24..26], port);
}

#[test]
fn a_header_goes_before_tls_and_with_probes_that_only_connect() {
    let directory = scratch();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (tls, plain) = ("backend_tls: { server_name: a.example, verify: off }", "backend_tls: off");
    for (settings, first) in [(tls, Some(0x16)), (plain, None)] {
        let app = format!(
            "default_app: shop\napps:\n  - name: shop\n    proxy_protocol: v2\n    {settings}\n    backends: [{{ id: web.1, address: \"unix:{}\" }}]\n",
            path.display()
        );
        let edge = Edge::start_unready("listeners: [{ address: \"127.0.0.1:0\" }]\n", &app);
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        assert_eq!(header(&mut reader), Some(bytes(0x20, 0, &[])), "a probe of {settings}");
        let next = reader.bytes().next();
        assert_eq!(next.map(Result::unwrap), first, "behind the header of a probe of {settings}");
        drop(edge);
    }
}

#[test]
fn whether_backends_are_told_changes_with_a_reload() {
    let backend = Backend::new("web.1", |_, _| Reply::ok("plain"));
    let settings = format!("    proxy_protocol: off\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]));
    assert_eq!(edge.get("/").status, 200);
    edge.reload_with("proxy_protocol: off", "proxy_protocol: v1");
    // It takes the header for a request that it does not understand, and its probes fail.
    edge.wait_for("web.1", "closed");
    edge.reload_with("proxy_protocol: v1", "proxy_protocol: off");
    edge.wait_for("web.1", "open");
    assert_eq!(edge.get("/").text(), "plain");
}
