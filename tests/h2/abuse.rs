//! Floods and stalls: each ends, or costs nothing; memory and processor time stay within bounds; everybody else is
//! served meanwhile.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::backend::{BIG, Backend};
use crate::connection::{Came, Connection, SOON};
use crate::flood::{Flooded, Reads, flood};
use crate::harness::eventually;
use crate::process::Processes;
use crate::shared::turn;
use crate::start;
use crate::wire::*;

/// How much memory an attack may add, in bytes: what is allowed to one connection in windows and heads, some times.
const MEMORY: u64 = 96 * 1024 * 1024;

/// How many honest requests an attack may be as dear as, in processor time.
const WORTH: f64 = 2000.0;

/// Honest requests by which that is measured.
const MEASURED: u32 = 1000;

/// Runs an attack, and holds everything else to what it has to be.
#[track_caller]
fn attack<T>(what: &str, run: impl FnOnce(SocketAddr) -> T) -> T {
    let _alone = turn();
    let backend = Backend::start();
    let edge = start(&backend);
    let (address, processes) = (edge.address(), Processes::of(edge.pid()));
    let begin = processes.processor();
    let mut client = Connection::open(address);
    for number in 0..MEASURED {
        client.ask(2 * number + 1, WHOLE, "GET");
        assert_eq!(client.response(2 * number + 1).0, 200);
    }
    let each = (processes.processor() - begin).max(0.01) / f64::from(MEASURED);
    backend.forget();

    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let good = {
        let (served, over) = (Arc::clone(&served), Arc::clone(&over));
        thread::spawn(move || serve_honestly(address, &served, &over))
    };
    eventually("the good client is served", || (served.load(Ordering::SeqCst) > 0).then_some(()));
    let memory = {
        let (processes, over) = (processes.clone(), Arc::clone(&over));
        thread::spawn(move || {
            let (before, mut most) = (processes.memory(), 0);
            while !over.load(Ordering::SeqCst) {
                most = processes.memory().max(most);
                thread::sleep(Duration::from_millis(5));
            }
            most.saturating_sub(before)
        })
    };
    let (before, first) = (processes.processor(), served.load(Ordering::SeqCst));
    let result = run(address);
    let spent = processes.processor() - before;
    over.store(true, Ordering::SeqCst);
    good.join().expect("the good client is served");
    let honest = served.load(Ordering::SeqCst) - first;
    let memory = memory.join().unwrap();
    // Those beside it may be dearer: caches are cold, and the machine is busy.
    let worth = spent / each - 3.0 * f64::from(honest);
    let (micros, kibibytes) = (each * 1e6, memory / 1024);
    crate::shared::tell(&format!(
        "{what}: {spent:.2} s of processor time, as {worth:.0} requests (of {micros:.0} us), \
         {kibibytes} KiB of memory, {honest} honest requests meanwhile",
    ));
    assert!(memory < MEMORY, "{what}: {memory} bytes of memory");
    assert!(worth < WORTH, "{what}: as dear as {worth:.0} requests");
    result
}

/// Asks again and again, over several connections, and counts how often.
fn serve_honestly(address: SocketAddr, served: &AtomicU32, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let mut client = Connection::open(address);
        for number in 0..50 {
            client.ask(2 * number + 1, WHOLE, "GET");
            assert_eq!(client.response(2 * number + 1).0, 200);
            served.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A connection that has begun, to flood.
fn begun(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    send(&stream, &[PREFACE, &settings(&[]), &frame(SETTINGS, ACK, 0, b"")].concat());
    stream
}

fn send(mut stream: &TcpStream, bytes: &[u8]) {
    std::io::Write::write_all(&mut stream, bytes).unwrap();
}

/// A right `GET`.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let list = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop.example.com"),
        (":path", path),
    ];
    frame(HEADERS, WHOLE, stream, &fields(&list))
}

/// So many of these, a hundred at once.
fn repeated(frame: Vec<u8>, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let piece = frame.repeat(100);
    std::iter::repeat_n(piece, count / 100)
}

const CALM: Flooded = Flooded { taken: false, code: Some(ENHANCE_YOUR_CALM), ended: true };

/// That it was told to calm down; the last bytes may have been taken before.
#[track_caller]
fn assert_calmed(found: Flooded) {
    assert_eq!(Flooded { taken: false, ..found }, CALM);
}

#[test]
fn streams_that_are_opened_and_reset_end_their_connection() {
    let flooded = attack("rapid reset", |address| {
        let pairs = (0..10_000)
            .map(|number| [get(2 * number + 1, "/"), reset(2 * number + 1, CANCEL)].concat());
        flood(&begun(address), Reads::Yes, pairs)
    });
    assert_calmed(flooded);
}

#[test]
fn requests_that_were_begun_before_they_are_reset_end_their_connection() {
    // Each is looked at before it is given up, and none waits for that: what h2 bounds is never met.
    let flooded = attack("rapid reset, slowly", |address| {
        let streams = |round: u32| (50 * round..50 * (round + 1)).map(|number| 2 * number + 1);
        let rounds = (0..200).flat_map(|round| {
            let asked = streams(round).flat_map(|stream| get(stream, "/hold")).collect();
            let given_up = streams(round).flat_map(|stream| reset(stream, CANCEL)).collect();
            [asked, given_up]
        });
        flood(
            &begun(address),
            Reads::Yes,
            rounds.inspect(|_| thread::sleep(Duration::from_millis(20))),
        )
    });
    assert_calmed(flooded);
}

#[test]
fn streams_that_we_are_made_to_reset_end_their_connection() {
    // CVE-2025-8671: each stream is reset by us, for a window that grows above all bounds.
    let flooded = attack("made to reset", |address| {
        let pairs = (0..10_000).map(|number| {
            let stream = 2 * number + 1;
            [get(stream, "/hold"), window(stream, 0x7fff_ffff)].concat()
        });
        flood(&begun(address), Reads::Yes, pairs)
    });
    assert_calmed(flooded);
}

#[test]
fn a_field_block_does_not_go_on_for_ever() {
    for (what, piece) in
        [("empty CONTINUATIONs", 0), ("CONTINUATIONs", 1000), ("long CONTINUATIONs", FRAME_MAX)]
    {
        let flooded = attack(what, |address| {
            let stream = begun(address);
            send(&stream, &frame(HEADERS, END_STREAM, 1, b"\x82\x86\x84"));
            let block: Vec<u8> =
                fields(&[("x", "y")]).into_iter().cycle().take(piece / 5 * 5).collect();
            flood(&stream, Reads::Yes, repeated(frame(CONTINUATION, NONE, 1, &block), 10_000))
        });
        assert_calmed(flooded);
    }
}

#[test]
fn a_small_block_does_not_become_a_large_list() {
    let flooded = attack("HPACK bomb", |address| {
        let stream = begun(address);
        let value = [b'x'; 4000];
        let bomb = |number: u32| {
            let path = [&[0x82, 0x86, 0x84][..], &[0x01, 1, b'a']].concat();
            let entry = [&[0x40][..], &text(b"x"), &text(&value)].concat();
            let block = [path, entry, vec![0xbe; 12_000]].concat();
            frame(HEADERS, WHOLE, 2 * number + 1, &block)
        };
        flood(&stream, Reads::Yes, (0..1000).map(bomb))
    });
    assert!(flooded.ended, "{flooded:?}");
    assert_eq!(flooded.code, Some(ENHANCE_YOUR_CALM));
}

#[test]
fn a_list_that_is_too_large_is_refused_and_its_connection_goes_on() {
    attack("large header lists", |address| {
        let mut client = Connection::open(address);
        for number in 0..20 {
            let stream = 2 * number + 1;
            let value = [b'x'; 4000];
            let list: Vec<(String, &[u8])> =
                (0..20).map(|number| (format!("x-{number}"), &value[..])).collect();
            let block = [fields(&client.right("GET")), fields(&list)].concat();
            let mut parts = block.chunks(FRAME_MAX).peekable();
            client.send(&frame(HEADERS, END_STREAM, stream, parts.next().unwrap()));
            while let Some(part) = parts.next() {
                let flags = if parts.peek().is_none() { END_HEADERS } else { NONE };
                client.send(&frame(CONTINUATION, flags, stream, part));
            }
            assert_eq!(client.response(stream).0, 431);
        }
        client.ask(101, WHOLE, "GET");
        assert_eq!(client.response(101).0, 200);
    });
}

#[test]
fn frames_that_bring_nothing_end_their_connection() {
    for (what, each) in [
        ("PING", frame(PING, NONE, 0, b"12345678")),
        ("answers to PING", frame(PING, ACK, 0, b"12345678")),
        ("SETTINGS", settings(&[(0x4, 1)])),
        ("PRIORITY", frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 1])),
        ("PRIORITY_UPDATE", frame(PRIORITY_UPDATE, NONE, 0, b"\0\0\0\x01u=1")),
        ("WINDOW_UPDATE", window(0, 1)),
        ("unknown frames", frame(0xb6, NONE, 0, b"")),
    ] {
        let flooded =
            attack(what, |address| flood(&begun(address), Reads::Yes, repeated(each, 300_000)));
        assert_calmed(flooded);
    }
}

#[test]
fn empty_data_ends_its_connection() {
    let flooded = attack("empty DATA", |address| {
        let stream = begun(address);
        let list = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a.example.com"),
            (":path", "/"),
        ];
        send(&stream, &frame(HEADERS, END_HEADERS, 1, &fields(&list)));
        flood(&stream, Reads::Yes, repeated(frame(DATA, NONE, 1, b""), 100_000))
    });
    assert_calmed(flooded);
}

#[test]
fn who_reads_no_answers_is_not_read_either() {
    for (what, each) in [
        ("PING, unread", frame(PING, NONE, 0, b"12345678")),
        ("SETTINGS, unread", settings(&[(0x3, 1)])),
    ] {
        attack(what, |address| {
            flood(&begun(address), Reads::No, repeated(each, 300_000));
        });
    }
}

#[test]
fn a_window_that_opens_byte_by_byte_costs_little() {
    attack("1-byte windows", |address| {
        let mut client = Connection::open_with(address, &[(0x4, 0)]);
        client.path = "/big".to_owned();
        client.ask(1, WHOLE, "GET");
        // As many bytes as it gets until it is ended.
        for _ in 0..100 {
            client.send(&window(1, 1).repeat(1000));
        }
        while !matches!(client.next_within(Duration::from_secs(2)), Came::Closed | Came::Nothing) {}
    });
}

#[test]
fn responses_that_nobody_reads_take_bounded_memory() {
    attack("windows of nothing", |address| {
        let mut client = Connection::open_with(address, &[(0x4, 0)]);
        client.path = "/big".to_owned();
        (0..100).for_each(|number| client.ask(2 * number + 1, WHOLE, "GET"));
        // All of them are under way: each has its head.
        let mut heads = 0;
        while heads < 100 {
            match client.next() {
                Came::Frame(came) if came.kind == HEADERS => heads += 1,
                Came::Frame(_) => {}
                other @ (Came::Closed | Came::Nothing) => panic!("{other:?} after {heads} heads"),
            }
        }
        // What is read ahead of them is read soon.
        thread::sleep(Duration::from_secs(1));
        assert!(100 * BIG as u64 > 8 * MEMORY, "as much as would tell");
    });
}

#[test]
fn connections_that_say_nothing_are_ended() {
    attack("silence", |address| {
        let silent: Vec<TcpStream> = (0..50)
            .flat_map(|_| {
                let (nothing, half) =
                    (TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap());
                send(&half, &PREFACE[..11]);
                [nothing, half]
            })
            .collect();
        for mut stream in silent {
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut bytes = Vec::new();
            let ended = std::io::Read::read_to_end(&mut stream, &mut bytes);
            // A reset is an end as well.
            let waits = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!waits, "a connection without a preface stays open");
        }
    });
}

#[test]
fn a_field_block_that_is_never_whole_is_ended() {
    attack("half a field block", |address| {
        let mut clients: Vec<Connection> = (0..20).map(|_| Connection::open(address)).collect();
        for client in &mut clients {
            client.send(&frame(HEADERS, END_STREAM, 1, b"\x82\x86"));
        }
        for client in &mut clients {
            assert!(client.ends(), "a field block may take for ever");
        }
    });
}
