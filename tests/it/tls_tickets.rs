//! Sessions are resumed: on the next connection, after a restart, and at another edge with the same keys.

use rustls::HandshakeKind;

use crate::harness::{Authority, Backend, Edge, Launch, Pair, QUICK, TlsClient, shop, write_key};

const NAME: &str = "shop.example.com";

fn edge(backend: &Backend, pair: &Pair, more: &str) -> Edge {
    let head = format!(
        "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ certificate: site.pem, key: site.key }}]{more} }} }}]\n"
    );
    let launch = Launch::new(&head, &shop(QUICK, &[backend]));
    pair.write(launch.directory(), "site");
    launch.start_ready()
}

fn setting() -> (Backend, Authority, Pair) {
    let authority = Authority::new("root");
    let pair = authority.issue(&[NAME]);
    (Backend::named("web.1"), authority, pair)
}

/// Whether the next connection of a client goes on from an earlier one.
#[track_caller]
fn resumes(client: &TlsClient, edge: &Edge) -> bool {
    let (response, stream) = client.get(edge.address(), NAME, "/", "").unwrap();
    assert_eq!(response.status, 200);
    stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[test]
fn the_next_connection_resumes_the_session() {
    let (backend, authority, pair) = setting();
    let edge = edge(&backend, &pair, "");
    for client in [TlsClient::of(&authority), TlsClient::old(&authority)] {
        assert_eq!((resumes(&client, &edge), resumes(&client, &edge)), (false, true));
    }
}

#[test]
fn without_tickets_every_handshake_is_a_whole_one() {
    let (backend, authority, pair) = setting();
    let edge = edge(&backend, &pair, ", session_tickets: off");
    for client in [TlsClient::of(&authority), TlsClient::old(&authority)] {
        assert_eq!((resumes(&client, &edge), resumes(&client, &edge)), (false, false));
    }
}

#[test]
fn a_reload_and_a_restart_keep_sessions_good() {
    let (backend, authority, pair) = setting();
    let edge = edge(&backend, &pair, "");
    let (client, old) = (TlsClient::of(&authority), TlsClient::old(&authority));
    assert!(!resumes(&client, &edge) && !resumes(&old, &edge));
    authority.issue(&[NAME]).write(edge.directory(), "site");
    edge.command(&["reload"]).is_done("certificate `shop.example.com` (ecdsa) serial");
    assert!(resumes(&client, &edge) && resumes(&old, &edge));
    edge.command(&["restart"]).is_done("serves");
    assert!(resumes(&client, &edge));
    // What seals sessions of TLS 1.2 is known to one process only.
    assert!(!resumes(&old, &edge));
}

#[test]
fn another_edge_with_the_same_keys_resumes_the_session_and_one_without_does_not() {
    let (backend, authority, pair) = setting();
    let edges = [(); 3].map(|()| edge(&backend, &pair, ""));
    let secret = "another secret of the tests, long enough for a key";
    write_key(&edges[2].directory().join("next"), secret);
    edges[2].reload_with("[{ file: key }]", "[{ file: next }]");
    let client = TlsClient::of(&authority);
    assert!(!resumes(&client, &edges[0]));
    assert!(resumes(&client, &edges[1]));
    assert!(!resumes(&client, &edges[2]));
}

#[test]
fn a_rotated_key_opens_as_long_as_it_is_listed() {
    let (backend, authority, pair) = setting();
    let edge = edge(&backend, &pair, "");
    let client = TlsClient::of(&authority);
    assert!(!resumes(&client, &edge));
    let secret = "another secret of the tests, long enough for a key";
    write_key(&edge.directory().join("next"), secret);
    edge.reload_with("[{ file: key }]", "[{ file: next }, { file: key }]");
    assert!(resumes(&client, &edge));
    edge.reload_with("[{ file: next }, { file: key }]", "[{ file: next }]");
    // The ticket of the last connection was sealed with the new one already.
    assert!(resumes(&client, &edge));
    let stale = TlsClient::of(&authority);
    edge.reload_with("[{ file: next }]", "[{ file: key }]");
    assert!(!resumes(&stale, &edge));
    edge.reload_with("[{ file: key }]", "[{ file: next }]");
    assert!(!resumes(&stale, &edge));
}
