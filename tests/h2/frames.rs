//! RFC 9113 §3 to §7: frames, streams, windows, errors.

use crate::case::{BEHIND, Case, How, May, case, one};
use crate::connection::{Came, Connection};
use crate::wire::*;

const PROTOCOL_OR_CLOSED: &[u32] = &[PROTOCOL_ERROR, STREAM_CLOSED];

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [preface(), format(), blocks(), streams(), identifiers(), kinds(), rest()]
        .into_iter()
        .flatten()
        .collect()
}

fn silent(rule: &'static str, may: May, bytes: &'static [&'static [u8]]) -> Case {
    let send = Box::new(move |client: &mut Connection| client.send(&bytes.concat()));
    Case { rule, may, how: How::Silent, send }
}

/// HEADERS of a right request, cut after so many bytes, without END_HEADERS.
fn begin_block(client: &mut Connection, stream: u32, flags: u8) -> Vec<u8> {
    let block = fields(&client.right("GET"));
    let (first, rest) = block.split_at(block.len() / 2);
    client.send(&frame(HEADERS, flags, stream, first));
    rest.to_vec()
}

/// A request that was answered, so that its stream is closed.
fn answered(client: &mut Connection, stream: u32) {
    client.ask(stream, WHOLE, "GET");
    client.response(stream);
}

fn preface() -> Vec<Case> {
    const PING_HEAD: &[u8] = b"\0\0\x08\x06\0\0\0\0\0";
    const SETTINGS_HEAD: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    vec![
        silent(
            "9113 §3.4: bytes that are no preface",
            May::Close,
            &[b"INVALID CONNECTION PREFACE\r\n\r\n"],
        ),
        silent(
            "9113 §3.4: a request of HTTP/1.1",
            May::Close,
            &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        ),
        silent(
            "9113 §3.4: a preface with another end",
            May::Close,
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"],
        ),
        silent(
            "9113 §3.4: no SETTINGS behind the preface",
            May::Close,
            &[PREFACE, PING_HEAD, b"12345678"],
        ),
        Case {
            rule: "9113 §3.4: the server begins with SETTINGS",
            may: May::GoOn,
            how: How::Silent,
            send: Box::new(|client| {
                client.send(&[PREFACE, SETTINGS_HEAD].concat());
                let first = client.frame();
                assert_eq!((first.kind, first.flags & ACK, first.stream), (SETTINGS, 0, 0));
                client.send(&frame(PING, NONE, 0, BEHIND));
            }),
        },
        Case {
            rule: "9113 §3.4: a preface byte by byte",
            may: May::Served,
            how: How::Silent,
            send: Box::new(|client| {
                for byte in [PREFACE, SETTINGS_HEAD].concat() {
                    client.send(&[byte]);
                }
                client.ask(1, WHOLE, "GET");
            }),
        },
    ]
}

fn format() -> Vec<Case> {
    use May::{End, GoOn, Reset, Served};
    vec![
        one("9113 §4.1: an unknown frame is passed over", GoOn, frame(0x16, 0xff, 0, b"grease")),
        one("9113 §4.1: an unknown frame of a stream", GoOn, frame(0xb6, 0, 7, &[0; 16_384])),
        one("9113 §4.1: flags that are not defined", GoOn, frame(PING, 0x16, 0, b"12345678")),
        one("9113 §4.1: the reserved bit", GoOn, frame(PING, NONE, 0x8000_0000, b"12345678")),
        case("9113 §4.2: DATA of 2^14 bytes", Served, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM, 1, &[b'x'; FRAME_MAX]));
        }),
        case("9113 §4.2: DATA longer than that", Reset(&[FRAME_SIZE_ERROR]), |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM, 1, &[b'x'; FRAME_MAX + 1]));
        }),
        case("9113 §4.2: HEADERS longer than that", End(&[FRAME_SIZE_ERROR]), |client| {
            let name = [b'x'; FRAME_MAX];
            client.ask_with(1, WHOLE, "GET", &[("x", &name)]);
        }),
        case(
            "9113 §4.2: a short frame where a long one was announced",
            End(&[FRAME_SIZE_ERROR]),
            |client| {
                client.send(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01");
            },
        ),
        case(
            "9113 §4.3: a field block that is none",
            End(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            |client| {
                client.send(&frame(HEADERS, WHOLE, 1, &[0x00, 0x85]));
            },
        ),
        one("9113 §5.5: an unknown frame on the connection", GoOn, frame(0x20, 0, 0, b"12345678")),
    ]
}

fn blocks() -> Vec<Case> {
    use May::{End, Served};
    const BAD: May = End(&[PROTOCOL_ERROR]);
    vec![
        case("9113 §4.3: PRIORITY within a field block", BAD, |client| {
            begin_block(client, 1, END_STREAM);
            client.send(&frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 255]));
        }),
        case("9113 §4.3: HEADERS of another stream within a field block", BAD, |client| {
            begin_block(client, 1, END_STREAM);
            client.ask(3, WHOLE, "GET");
        }),
        case("9113 §5.5: an unknown frame within a field block", BAD, |client| {
            begin_block(client, 1, END_STREAM);
            client.send(&frame(0x16, NONE, 1, b"grease"));
        }),
        case("9113 §6.2: DATA within a field block", BAD, |client| {
            begin_block(client, 1, NONE);
            client.send(&frame(DATA, END_STREAM, 1, b"x"));
        }),
        case("9113 §6.2: PING within a field block", BAD, |client| {
            begin_block(client, 1, END_STREAM);
            client.send(&frame(PING, NONE, 0, b"12345678"));
        }),
        case("9113 §6.10: one CONTINUATION", Served, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, END_HEADERS, 1, &rest));
        }),
        case("9113 §6.10: several CONTINUATIONs, one of them empty", Served, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, NONE, 1, b""));
            client.send(&frame(CONTINUATION, NONE, 1, &rest[..5]));
            client.send(&frame(CONTINUATION, END_HEADERS, 1, &rest[5..]));
        }),
        case("9113 §6.10: CONTINUATION behind the end of its block", BAD, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, END_HEADERS, 1, &rest));
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §6.10: CONTINUATION behind whole HEADERS", BAD, |client| {
            client.ask(1, WHOLE, "GET");
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §6.10: CONTINUATION behind DATA", BAD, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, NONE, 1, b"x"));
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §6.10: CONTINUATION of stream 0", BAD, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, END_HEADERS, 0, &rest));
        }),
        case("9113 §6.10: CONTINUATION of another stream", BAD, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, END_HEADERS, 3, &rest));
        }),
        case("9113 §6.10: another frame behind CONTINUATION", BAD, |client| {
            let rest = begin_block(client, 1, END_STREAM);
            client.send(&frame(CONTINUATION, NONE, 1, &rest));
            client.send(&frame(DATA, END_STREAM, 1, b"x"));
        }),
    ]
}

fn streams() -> Vec<Case> {
    use May::{End, GoOn, Reset, Served};
    const CLOSED: May = Reset(&[STREAM_CLOSED]);
    const EITHER: May = Reset(PROTOCOL_OR_CLOSED);
    vec![
        one("9113 §5.1: DATA, idle", EITHER, frame(DATA, END_STREAM, 1, b"x")),
        one("9113 §5.1: RST_STREAM, idle", End(&[PROTOCOL_ERROR]), reset(1, CANCEL)),
        one("9113 §5.1: WINDOW_UPDATE, idle", End(&[PROTOCOL_ERROR]), window(1, 100)),
        one(
            "9113 §5.1: CONTINUATION, idle",
            End(&[PROTOCOL_ERROR]),
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ),
        one("9113 §5.1: PRIORITY, idle", GoOn, frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 255])),
        case("9113 §5.1: DATA, half-closed (remote)", CLOSED, |client| {
            client.path.push_str("hold");
            client.ask(1, WHOLE, "GET");
            client.send(&frame(DATA, END_STREAM, 1, b"x"));
        }),
        case("9113 §5.1: HEADERS, half-closed (remote)", CLOSED, |client| {
            client.path.push_str("hold");
            client.ask(1, WHOLE, "GET");
            client.ask(1, WHOLE, "GET");
        }),
        case("9113 §5.1: CONTINUATION, half-closed (remote)", EITHER, |client| {
            client.path.push_str("hold");
            client.ask(1, WHOLE, "GET");
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §5.1: WINDOW_UPDATE, half-closed (remote)", Served, |client| {
            client.ask(1, WHOLE, "GET");
            client.send(&window(1, 1));
        }),
        case("9113 §5.1: PRIORITY, half-closed (remote)", Served, |client| {
            client.ask(1, WHOLE, "GET");
            client.send(&frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 255]));
        }),
        case("9113 §5.1: RST_STREAM, half-closed (remote)", GoOn, |client| {
            client.path.push_str("hold");
            client.ask(1, WHOLE, "GET");
            client.send(&reset(1, CANCEL));
        }),
        case("9113 §5.1: RST_STREAM, open", GoOn, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&reset(1, CANCEL));
        }),
        case("9113 §5.1: DATA behind an own RST_STREAM", CLOSED, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&reset(1, CANCEL));
            client.send(&frame(DATA, END_STREAM, 1, b"x"));
        }),
        case("9113 §5.1: HEADERS behind an own RST_STREAM", EITHER, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&reset(1, CANCEL));
            client.ask(1, WHOLE, "GET");
        }),
        case("9113 §5.1: CONTINUATION behind an own RST_STREAM", EITHER, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&reset(1, CANCEL));
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §5.1: DATA, closed", CLOSED, |client| {
            answered(client, 1);
            client.send(&frame(DATA, END_STREAM, 1, b"x"));
        }),
        case("9113 §5.1: HEADERS, closed", EITHER, |client| {
            answered(client, 1);
            client.ask(1, WHOLE, "GET");
        }),
        case("9113 §5.1: CONTINUATION, closed", EITHER, |client| {
            answered(client, 1);
            client.send(&frame(CONTINUATION, END_HEADERS, 1, b""));
        }),
        case("9113 §5.1: PRIORITY, closed", GoOn, |client| {
            answered(client, 1);
            client.send(&frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 255]));
        }),
        case("9113 §5.1: WINDOW_UPDATE and RST_STREAM, closed", GoOn, |client| {
            answered(client, 1);
            client.send(&[window(1, 1), reset(1, 0)].concat());
        }),
    ]
}

fn identifiers() -> Vec<Case> {
    use May::{End, GoOn, Reset, Served};
    const BAD: May = End(&[PROTOCOL_ERROR]);
    vec![
        case("9113 §5.1.1: an even stream", BAD, |client| client.ask(2, WHOLE, "GET")),
        case("9113 §5.1.1: a stream below the last one", Reset(PROTOCOL_OR_CLOSED), |client| {
            client.ask(5, WHOLE, "GET");
            client.ask(3, WHOLE, "GET");
        }),
        case("9113 §5.1.1: a request on stream 0", BAD, |client| client.ask(0, WHOLE, "GET")),
        case("9113 §5.1.1: streams may be left out", Served, |client| {
            client.ask(77, WHOLE, "GET")
        }),
        case("9113 §5.1.2: more streams than SETTINGS allow", GoOn, |client| {
            let most = client.settings.iter().find(|(name, _)| *name == 0x3);
            let most = most.expect("streams are limited").1;
            client.path.push_str("hold");
            for number in 0..=most {
                client.ask(2 * number + 1, WHOLE, "GET");
            }
            let refused = refusal(client);
            assert_eq!((refused.stream, refused.number(0)), (2 * most + 1, REFUSED_STREAM));
            // The others leave, or the sibling would find no place.
            for number in 0..most {
                client.send(&reset(2 * number + 1, CANCEL));
            }
        }),
        one("9113 §5.3: HEADERS that depend on themselves", Reset(&[PROTOCOL_ERROR]), {
            let block = fields(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]);
            frame(HEADERS, WHOLE | WEIGHTED, 1, &[&[0, 0, 0, 1, 15], &block[..]].concat())
        }),
        one("9113 §5.3: PRIORITY that depends on itself", Reset(&[PROTOCOL_ERROR]), {
            frame(PRIORITY, NONE, 3, &[0, 0, 0, 3, 15])
        }),
        one(
            "9113 §5.4.1: GOAWAY and close behind a bad PING",
            May::Close,
            frame(PING, NONE, 0, b"123456"),
        ),
        one("9113 §5.4.2: a reset is not answered with one", GoOn, {
            let block = fields(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]);
            [frame(HEADERS, END_HEADERS, 1, &block), reset(1, CANCEL), reset(1, CANCEL)].concat()
        }),
    ]
}

/// The first RST_STREAM.
#[track_caller]
fn refusal(client: &mut Connection) -> Frame {
    loop {
        match client.next() {
            Came::Frame(frame) if frame.kind == RST_STREAM => return frame,
            Came::Frame(_) => {}
            other @ (Came::Closed | Came::Nothing) => panic!("{other:?} instead of a reset"),
        }
    }
}

fn kinds() -> Vec<Case> {
    use May::{End, GoOn, Malformed, Reset, Served};
    const BAD: May = End(&[PROTOCOL_ERROR]);
    const SIZE: May = End(&[FRAME_SIZE_ERROR]);
    vec![
        one("9113 §6.1: DATA of stream 0", BAD, frame(DATA, END_STREAM, 0, b"x")),
        case("9113 §6.1: DATA with padding", Served, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM | PADDED, 1, b"\x06hello\0\0\0\0\0\0"));
        }),
        case("9113 §6.1: several DATA, the last one empty", Served, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, NONE, 1, b"hel"));
            client.send(&frame(DATA, NONE, 1, b"lo"));
            client.send(&frame(DATA, END_STREAM, 1, b""));
        }),
        case("9113 §6.1: more padding than DATA", BAD, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM | PADDED, 1, b"\x07hello"));
        }),
        case("9113 §6.1: padding of DATA without its length", SIZE, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM | PADDED, 1, b""));
        }),
        case("9113 §6.2: HEADERS with padding and priority", Served, |client| {
            let block = fields(&client.right("GET"));
            let payload = [&[2][..], &[0, 0, 0, 0, 15], &block, &[0, 0]].concat();
            client.send(&frame(HEADERS, WHOLE | PADDED | WEIGHTED, 1, &payload));
        }),
        case("9113 §6.2: more padding than HEADERS", BAD, |client| {
            let block = fields(&client.right("GET"));
            let padding = u8::try_from(block.len()).unwrap() + 1;
            client.send(&frame(HEADERS, WHOLE | PADDED, 1, &[&[padding], &block[..]].concat()));
        }),
        case("9113 §6.2: HEADERS without the priority they announce", SIZE, |client| {
            client.send(&frame(HEADERS, WHOLE | WEIGHTED, 1, &[0, 0, 0]));
        }),
        case("9113 §6.2: HEADERS without fields", Malformed, |client| {
            client.send(&frame(HEADERS, WHOLE, 1, b""));
        }),
        one("9113 §6.3: PRIORITY of stream 0", BAD, frame(PRIORITY, NONE, 0, &[0, 0, 0, 1, 255])),
        one(
            "9113 §6.3: PRIORITY of 4 bytes",
            Reset(&[FRAME_SIZE_ERROR]),
            frame(PRIORITY, NONE, 1, &[0; 4]),
        ),
        case("9113 §6.3: PRIORITY of a stream above, then a request below", Served, |client| {
            client.send(&frame(PRIORITY, NONE, 7, &[0, 0, 0, 5, 0]));
            client.send(&frame(PRIORITY, NONE, 5, &[0x80, 0, 0, 0, 255]));
            client.ask(1, WHOLE, "GET");
        }),
        one("9113 §6.4: RST_STREAM of stream 0", BAD, reset(0, CANCEL)),
        case("9113 §6.4: RST_STREAM of 3 bytes", SIZE, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(RST_STREAM, NONE, 1, &[0; 3]));
        }),
        one(
            "9113 §6.6: PUSH_PROMISE from a client",
            BAD,
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        case("9113 §6.7: PING is answered in kind", GoOn, |client| {
            client.send(&frame(PING, NONE, 0, b"payload!"));
            let pong = client.frame();
            assert_eq!((pong.kind, pong.flags, &pong.payload[..]), (PING, ACK, &b"payload!"[..]));
        }),
        case("9113 §6.7: a PING that is an answer gets none", GoOn, |client| {
            client.send(&frame(PING, ACK, 0, b"nobody's"));
            client.send(&frame(PING, NONE, 0, b"anyone's"));
            let pong = client.frame();
            assert_eq!((pong.kind, pong.flags, &pong.payload[..]), (PING, ACK, &b"anyone's"[..]));
        }),
        one("9113 §6.7: PING of a stream", BAD, frame(PING, NONE, 1, b"12345678")),
        one("9113 §6.7: PING of 6 bytes", SIZE, frame(PING, NONE, 0, b"123456")),
        one("9113 §6.7: PING of 9 bytes", SIZE, frame(PING, NONE, 0, b"123456789")),
        one("9113 §6.8: GOAWAY of a stream", BAD, frame(GOAWAY, NONE, 1, &[0; 8])),
        one("9113 §6.8: GOAWAY of 7 bytes", SIZE, frame(GOAWAY, NONE, 0, &[0; 7])),
        case("9113 §6.8: what was asked before GOAWAY is answered", May::Close, |client| {
            client.ask(1, WHOLE, "GET");
            client.send(&frame(GOAWAY, NONE, 0, &[0; 8]));
            assert_eq!(client.response(1).0, 200);
        }),
        case("9113 §7: GOAWAY with an unknown code", May::Close, |client| {
            client.send(&frame(GOAWAY, NONE, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]));
        }),
        case("9113 §7: RST_STREAM with an unknown code", GoOn, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&reset(1, 0xff));
        }),
    ]
}

fn rest() -> Vec<Case> {
    use May::{GoOn, Malformed, Served};
    vec![
        one("9218 §7.1: PRIORITY_UPDATE is passed over", GoOn, {
            frame(PRIORITY_UPDATE, NONE, 0, b"\0\0\0\x01u=1, i")
        }),
        case("9218 §4: the field priority is a field", Served, |client| {
            client.ask_with(1, WHOLE, "GET", &[("priority", b"u=1, i")]);
        }),
        case("8701: GREASE before and behind a request", Served, |client| {
            client.send(&settings(&[(0x0a0a, 1), (0x1a2a, 2)]));
            client.send(&frame(0x0b, 0xff, 0, b"grease"));
            client.ask(1, WHOLE, "GET");
            client.send(&frame(0x2a, 0xff, 1, b"grease"));
        }),
        case(
            "9113 §8.1: HEADERS in the middle of a request that do not end it",
            May::MalformedLater,
            |client| {
                client.ask(1, END_HEADERS, "POST");
                client.send(&frame(DATA, NONE, 1, b"x"));
                client.send(&frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")])));
                client.send(&frame(DATA, END_STREAM, 1, b"x"));
            },
        ),
        case("9113 §8.1: a request that only ends", Malformed, |client| {
            client.send(&frame(HEADERS, WHOLE, 1, &fields(&[("x", "y")])));
        }),
    ]
}
