//! Connections over TLS: whom a proxy in front connects for, and which hosts may be asked for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Backend, Edge, Launch, PATIENCE, QUICK, shop};

const NAMES: [&str; 2] = ["shop.example.com", "*.shop.example.com"];

/// An edge that speaks TLS with a certificate for [`NAMES`], and what a client needs to believe it.
fn edge(keys: &str, head: &str) -> (Backend, Edge, Arc<ClientConfig>) {
    let backend = Backend::named("web.1");
    let listener = format!(
        "listeners: [{{ address: \"127.0.0.1:0\", {keys}tls: {{ certificates: [{{ certificate: c.pem, key: k.pem }}] }} }}]\n{head}"
    );
    let launch = Launch::new(&listener, &shop(QUICK, &[&backend]));
    let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
    std::fs::write(launch.directory().join("c.pem"), made.cert.pem()).unwrap();
    let key = launch.directory().join("k.pem");
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    (backend, launch.start_ready(), Arc::new(config))
}

/// Begins with `header`, asks for `name` over TLS and then for `host`, and reads the status and the rest.
fn ask(edge: &Edge, config: &Arc<ClientConfig>, header: &str, name: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(edge.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(header.as_bytes()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{FORWARDED}\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return String::new();
    }
    let mut text = String::new();
    let _end = stream.read_to_string(&mut text);
    text
}

const FORWARDED: &str = "X-Forwarded-For: 203.0.113.1\r\n";

fn status(text: &str) -> &str {
    text.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn a_header_comes_before_tls() {
    let (backend, edge, config) = edge("proxy_protocol: [127.0.0.1], ", "");
    let header = "PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n";
    let name = NAMES[0];
    assert_eq!(status(&ask(&edge, &config, header, name, name)), "200");
    let seen = backend.last();
    let told = ["x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"]
        .map(|name| seen.header(name).unwrap().to_owned());
    assert_eq!(told, ["203.0.113.1, 192.0.2.1", "443", "https"]);
    assert_eq!(ask(&edge, &config, "", name, name), "");
    edge.counts("homing_proxy_protocol_refused_total{reason=\"absent\"}", 1.0);
}

#[test]
fn a_host_is_that_of_the_certificate_or_misdirected() {
    let (backend, edge, config) = edge("", "");
    let asked = |host| ask(&edge, &config, "", NAMES[0], host);
    for host in ["shop.example.com", "SHOP.example.com:8443", "eu.shop.example.com"] {
        assert_eq!(status(&asked(host)), "200", "{host}");
    }
    assert_eq!(backend.requests().len(), 3);
    for host in ["example.com", "a.eu.shop.example.com", "shop.example.com.evil.example"] {
        let text = asked(host);
        assert_eq!(status(&text), "421", "{host}");
        assert!(text.to_lowercase().contains("\r\nx-homing-error: h31\r\n"), "{text}");
    }
    assert_eq!(backend.requests().len(), 3);
    edge.counts(
        "homing_http_requests_total{app=\"shop\",status=\"421\",failure=\"misdirected\"}",
        3.0,
    );
    edge.counts("homing_http_requests_in_flight{app=\"shop\"}", 0.0);
}

#[test]
fn a_trusted_proxy_may_bring_the_clients_of_many_hosts() {
    let (_backend, edge, config) = edge("", "trusted_proxies: [127.0.0.1]\n");
    assert_eq!(status(&ask(&edge, &config, "", NAMES[0], "other.example.com")), "200");
}
