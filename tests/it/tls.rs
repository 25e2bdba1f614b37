//! A listener of TLS: which certificate it shows, what is spoken there, and what becomes of those who fail.

use std::io::{Read, Write};

use serde_json::Value;

use crate::harness::{
    Authority, Backend, Client, Edge, Launch, QUICK, Reply, TlsClient, der, eventually, shop, shown,
};

/// A listener with these keys in `tls`, less the certificates, which are those of the files.
fn listener(files: &[&str], more: &str) -> String {
    let all: Vec<String> =
        files.iter().map(|f| format!("{{ certificate: {f}.pem, key: {f}.key }}")).collect();
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{}]{more} }} }}]\n",
        all.join(", ")
    )
}

/// An edge with one certificate for `shop.example.com`, and a backend that tells all it was told.
fn one(more: &str) -> (Backend, Authority, Edge) {
    let backend = Backend::new("web.1", |request, _| Reply::ok(&format!("{:?}", request.headers)));
    let authority = Authority::new("root");
    let launch = Launch::new(&listener(&["site"], more), &shop(QUICK, &[&backend]));
    authority.issue(&["shop.example.com"]).write(launch.directory(), "site");
    (backend, authority, launch.start_ready())
}

fn failures(reason: &str) -> String {
    format!("homing_tls_handshake_failures_total{{reason=\"{reason}\"}}")
}

fn handshakes(version: &str, resumed: &str) -> String {
    format!("homing_tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}}")
}

#[test]
fn requests_over_tls_come_as_https_and_their_cookie_is_secure() {
    let (backend, authority, edge) = one("");
    for (client, version) in
        [(TlsClient::of(&authority), "1.3"), (TlsClient::old(&authority), "1.2")]
    {
        let got = client.get(edge.address(), "shop.example.com", "/", "").unwrap();
        let (response, stream) = got;
        assert_eq!(response.status, 200);
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let cookie = response.header("set-cookie").unwrap();
        assert!(cookie.contains("; Secure"), "{cookie}");
        edge.counts(&handshakes(version, "no"), 1.0);
        let last = backend.requests().pop().unwrap();
        assert_eq!(last.header("x-forwarded-proto"), Some("https"));
        let line = eventually("the line", || {
            let line = edge.out().pop()?;
            line.contains(&format!("tls{version}")).then_some(line)
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["tls_version"], format!("tls{version}"));
        assert_eq!((&line["tls"], &line["tls_name"]), (&true.into(), &"shop.example.com".into()));
    }
}

#[test]
fn several_requests_share_a_connection_and_its_end_is_said() {
    let (_backend, authority, edge) = one("");
    let client = TlsClient::of(&authority);
    let (_, mut stream) = client.get(edge.address(), "shop.example.com", "/", "").unwrap();
    let last = "GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";
    stream.write_all(last.as_bytes()).unwrap();
    // rustls tells an end without `close_notify` as an error.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200 "));
    edge.counts(&handshakes("1.3", "no"), 1.0);
}

#[test]
fn a_client_is_shown_the_certificate_of_its_name_and_else_the_first() {
    let backend = Backend::named("web.1");
    let (authority, files) = (Authority::new("root"), ["first", "exact", "wild"]);
    let launch = Launch::new(&listener(&files, ""), &shop(QUICK, &[&backend]));
    let pairs = [["first.example.com"], ["shop.example.com"], ["*.example.com"]]
        .map(|names| authority.issue(&names));
    for (pair, file) in pairs.iter().zip(files) {
        pair.write(launch.directory(), file);
    }
    let edge = launch.start_ready();
    let client = TlsClient::of(&authority);
    let check = |name: &str, expected: usize| {
        let stream = client.connect(edge.address(), name).unwrap();
        assert!(shown(&stream) == der(&pairs[expected]), "{name}");
    };
    check("first.example.com", 0);
    check("shop.example.com", 1);
    check("other.example.com", 2);
    let of_another = client.status(edge.address(), "shop.example.org").unwrap_err();
    assert!(of_another.contains("not valid for name"), "{of_another}");
    edge.counts(&failures("alert"), 1.0);
    // Who says no name gets the first.
    let nameless = client.but(|config| config.enable_sni = false);
    let stream = nameless.connect(edge.address(), "first.example.com").unwrap();
    assert!(shown(&stream) == der(&pairs[0]));
}

#[test]
fn a_strict_listener_refuses_names_that_it_does_not_know() {
    let (_backend, authority, edge) = one(", strict_sni: on");
    let client = TlsClient::of(&authority);
    assert_eq!(client.status(edge.address(), "shop.example.com"), Ok(200));
    let refused = client.status(edge.address(), "www.example.com").unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    edge.counts(&failures("unknown_name"), 1.0);
    let nameless = client.but(|config| config.enable_sni = false);
    assert_eq!(nameless.status(edge.address(), "shop.example.com"), Ok(200));
}

#[test]
fn an_old_client_is_refused_where_a_newer_version_is_asked_for() {
    let (_backend, authority, edge) = one(", min_version: 1.3");
    let refused = TlsClient::old(&authority).status(edge.address(), "shop.example.com");
    assert!(refused.unwrap_err().contains("ProtocolVersion"));
    edge.counts(&failures("incompatible"), 1.0);
    assert_eq!(TlsClient::of(&authority).status(edge.address(), "shop.example.com"), Ok(200));
}

#[test]
fn a_protocol_that_is_not_spoken_is_not_agreed_on() {
    let (_backend, authority, edge) = one("");
    let client = TlsClient::of(&authority);
    let speaking = |names: &[&str]| {
        let names = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        client.but(|config| config.alpn_protocols = names)
    };
    let agreed = |names: &[&str]| {
        let stream = speaking(names).connect(edge.address(), "shop.example.com").unwrap();
        stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    };
    assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&["acme", "http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&[]), None);
    let refused = speaking(&["ftp"]).status(edge.address(), "shop.example.com").unwrap_err();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    edge.counts(&failures("no_protocol"), 1.0);
    assert_eq!(speaking(&[]).status(edge.address(), "shop.example.com"), Ok(200));
}

#[test]
fn who_speaks_http_is_told_to_speak_https() {
    let (_backend, _authority, edge) = one("");
    let told = edge.get("/");
    assert_eq!((told.status, told.header("connection")), (400, Some("close")));
    assert!(told.text().contains("https://"), "{}", told.text());
    edge.counts(&failures("plain_http"), 1.0);
    // Also one that has more to say.
    let mut client = Client::connect(edge.address());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n{}",
        "x".repeat(30_000)
    ));
    assert_eq!(client.read().status, 400);
    drop(client);
    edge.counts(&failures("plain_http"), 2.0);
    // And one that does not hang up.
    let mut client = Client::connect(edge.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read().status, 400);
    edge.counts(&failures("plain_http"), 3.0);
    assert_eq!(edge.metric(&failures("timed_out")), 0.0);
}

#[test]
fn what_is_no_tls_and_who_leaves_or_waits_is_counted_and_cut() {
    let head = "server: { threads: 2, head_timeout: 1s }\n";
    let backend = Backend::named("web.1");
    let launch =
        Launch::new(&format!("{head}{}", listener(&["site"], "")), &shop(QUICK, &[&backend]));
    Authority::new("root").issue(&["shop.example.com"]).write(launch.directory(), "site");
    let edge = launch.start_ready();
    let mut noise = Client::connect(edge.address());
    noise.send([1; 16]);
    // An alert, then the end.
    let mut said = Vec::new();
    let _reset = noise.reader.read_to_end(&mut said);
    assert_eq!(said.first(), Some(&21));
    edge.counts(&failures("malformed"), 1.0);
    drop(Client::connect(edge.address()));
    edge.counts(&failures("closed"), 1.0);
    let mut silent = Client::connect(edge.address());
    assert!(silent.is_closed());
    edge.counts(&failures("timed_out"), 1.0);
    edge.counts("homing_client_connections", 0.0);
}

#[test]
fn the_demo_speaks_https_with_a_certificate_of_its_own() {
    use std::io::BufRead;
    let mut demo = std::process::Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["demo", "--tls", "--address", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines =
        std::io::BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut line = |mark: &str| {
        let found = lines.find(|line| line.contains(mark)).unwrap();
        found.split(mark).nth(1).unwrap().to_owned()
    };
    let port = line("https://localhost:").split('/').next().unwrap().parse().unwrap();
    let path = line("CURL_CA_BUNDLE=");
    line("fingerprint is");
    let client = TlsClient::believing(&std::fs::read_to_string(path.trim()).unwrap());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let got = eventually("the demo serves", || client.get(address, "localhost", "/", "").ok());
    assert!(got.0.text().ends_with(" remembers visit 1 of yours\n"), "{}", got.0.text());
    crate::harness::kill("-TERM", demo.id());
    demo.wait().unwrap();
    assert!(!std::path::Path::new(path.trim()).exists());
}
