//! What the crate h2 bounds by itself, and what it does not: why `src/wire/frame` counts what it counts, and nothing
//! else. A new version that bounds less, or more, is seen here.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};

use crate::flood::{Flooded, Reads, flood};
use crate::wire::*;

/// Whether requests are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Accepts {
    /// Each at once, and nothing is done about it.
    All,
    /// None.
    Nobody,
}

/// A server of the library alone, for one connection.
fn serve(accepts: Accepts) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = listener.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut options = Builder::new();
            options.max_concurrent_streams(128).max_header_list_size(65_536);
            if accepts == Accepts::All {
                // How soon a request is looked at is chance here.
                options.max_pending_accept_reset_streams(usize::MAX);
            }
            let mut server = options.handshake::<_, Bytes>(stream).await.unwrap();
            let mut held: Vec<(_, SendResponse<Bytes>)> = Vec::new();
            match accepts {
                Accepts::All => {
                    while let Some(Ok((request, response))) = server.accept().await {
                        held.push((request.into_body(), response));
                    }
                }
                Accepts::Nobody => {
                    let _ended = std::future::poll_fn(|cx| server.poll_closed(cx)).await;
                }
            }
        });
        // What is left unread would take the last words with it.
        thread::sleep(std::time::Duration::from_secs(2));
    });
    address
}

/// Sends `first` once and `each` again and again.
fn send(accepts: Accepts, first: &[u8], count: u32, each: impl Fn(u32) -> Vec<u8>) -> Flooded {
    let mut stream = TcpStream::connect(serve(accepts)).unwrap();
    let begin = [PREFACE, &settings(&[]), &frame(SETTINGS, ACK, 0, b""), first].concat();
    std::io::Write::write_all(&mut stream, &begin).unwrap();
    flood(&stream, Reads::Yes, (0..count).map(each))
}

fn open(stream: u32, flags: u8) -> Vec<u8> {
    let list = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    frame(HEADERS, flags, stream, &fields(&list))
}

#[track_caller]
fn assert_bounded(what: &str, found: Flooded) {
    assert_eq!(found.code, Some(ENHANCE_YOUR_CALM), "{what}: {found:?}");
}

#[track_caller]
fn assert_unbounded(what: &str, found: Flooded) {
    assert_eq!(found, Flooded { taken: true, code: None, ended: false }, "{what}");
}

#[test]
fn h2_bounds_what_takes_memory() {
    let taken_back =
        |number: u32| [open(2 * number + 1, WHOLE), reset(2 * number + 1, CANCEL)].concat();
    assert_bounded("resets before anybody looks", send(Accepts::Nobody, b"", 100, taken_back));
    let upload = open(1, END_HEADERS);
    let empty = |_| frame(DATA, NONE, 1, b"");
    assert_bounded("empty DATA", send(Accepts::All, &upload, 1000, empty));
    let small = |_| frame(DATA, NONE, 1, b"x");
    assert_bounded("small DATA that nobody reads", send(Accepts::All, &upload, 10_000, small));
    let begin = frame(HEADERS, END_STREAM, 1, b"\x82\x86\x84");
    let more = |_| frame(CONTINUATION, NONE, 1, b"");
    assert_bounded("CONTINUATIONs", send(Accepts::All, &begin, 100, more));
    let entry = [&[0x82, 0x86, 0x84, 0x40][..], &text(b"x"), &text(&[b'x'; 4000])].concat();
    let bomb = |_| frame(HEADERS, WHOLE, 1, &[&entry[..], &[0xbe; 1000]].concat());
    assert_bounded("a list of fields", send(Accepts::All, b"", 1, bomb));
    let faulty =
        |number: u32| [open(2 * number + 1, WHOLE), window(2 * number + 1, 0x7fff_ffff)].concat();
    assert_bounded("resets for faults", send(Accepts::All, b"", 5000, faulty));
}

#[test]
fn h2_does_not_bound_what_takes_time() {
    let taken_back =
        |number: u32| [open(2 * number + 1, WHOLE), reset(2 * number + 1, CANCEL)].concat();
    let flooded = send(Accepts::All, b"", 5000, taken_back);
    assert_unbounded("resets of requests that were begun", flooded);
    for (what, each) in [
        ("PING", frame(PING, NONE, 0, b"12345678")),
        ("answers to PING", frame(PING, ACK, 0, b"12345678")),
        ("SETTINGS", settings(&[(0x3, 1)])),
        ("PRIORITY", frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xb6, NONE, 0, b"x")),
    ] {
        let flooded = send(Accepts::All, b"", 200, |_| each.repeat(100));
        assert_unbounded(what, flooded);
    }
    let opened = open(1, END_HEADERS);
    let windows = send(Accepts::All, &opened, 200, |_| window(1, 1).repeat(100));
    assert_unbounded("WINDOW_UPDATE", windows);
}
