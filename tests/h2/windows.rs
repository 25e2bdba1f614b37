//! RFC 9113 §6.5 and §6.9: settings and windows.

use crate::case::{Case, How, May, case, one};
use crate::connection::{Came, Connection};
use crate::wire::*;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [settings_cases(), windows()].into_iter().flatten().collect()
}

fn settings_cases() -> Vec<Case> {
    use May::{End, GoOn};
    const BAD: May = End(&[PROTOCOL_ERROR]);
    const SIZE: May = End(&[FRAME_SIZE_ERROR]);
    vec![
        one(
            "9113 §6.5: SETTINGS that acknowledge and set",
            SIZE,
            frame(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1]),
        ),
        one("9113 §6.5: SETTINGS of a stream", BAD, frame(SETTINGS, NONE, 1, &[0, 3, 0, 0, 0, 1])),
        one("9113 §6.5: SETTINGS of 3 bytes", SIZE, frame(SETTINGS, NONE, 0, &[0, 3, 0])),
        one("9113 §6.5: an acknowledgement of nothing", BAD, frame(SETTINGS, ACK, 0, b"")),
        one("9113 §6.5.2: ENABLE_PUSH of 2", BAD, settings(&[(0x2, 2)])),
        one(
            "9113 §6.5.2: INITIAL_WINDOW_SIZE of 2^31",
            End(&[FLOW_CONTROL_ERROR]),
            settings(&[(0x4, 1 << 31)]),
        ),
        one("9113 §6.5.2: MAX_FRAME_SIZE of 2^14 - 1", BAD, settings(&[(0x5, (1 << 14) - 1)])),
        one("9113 §6.5.2: MAX_FRAME_SIZE of 2^24", BAD, settings(&[(0x5, 1 << 24)])),
        one("8441 §3: ENABLE_CONNECT_PROTOCOL of 2", BAD, settings(&[(0x8, 2)])),
        one("9113 §6.5.2: an unknown setting", GoOn, settings(&[(0xff, 1), (0x5a5a, 7)])),
        one("9113 §6.5.2: a header table of 4 GB", GoOn, settings(&[(0x1, u32::MAX)])),
        case("9113 §6.5.3: SETTINGS are acknowledged", GoOn, |client| {
            client.send(&settings(&[(0x3, 100)]));
            let ack = client.frame();
            assert_eq!((ack.kind, ack.flags, ack.payload.len()), (SETTINGS, ACK, 0));
        }),
        case("9113 §6.5.3: of a setting that is there twice the last one counts", GoOn, |client| {
            client.send(&settings(&[(0x4, 100), (0x4, 1)]));
            client.ask(1, WHOLE, "GET");
            assert_eq!(first_data(client, 1).payload.len(), 1);
            client.send(&settings(&[(0x4, 65_535)]));
        }),
        Case {
            rule: "9113 §6.5.3: our SETTINGS are never acknowledged",
            may: May::Served,
            how: How::Silent,
            send: Box::new(|client| {
                client.send(&[PREFACE, &settings(&[(0x1, 0)])].concat());
                client.ask(1, WHOLE, "GET");
            }),
        },
    ]
}

/// The first DATA of a stream.
#[track_caller]
fn first_data(client: &mut Connection, stream: u32) -> Frame {
    loop {
        match client.next() {
            Came::Frame(frame) if frame.kind == DATA && frame.stream == stream => return frame,
            Came::Frame(_) => {}
            other @ (Came::Closed | Came::Nothing) => panic!("{other:?} instead of DATA"),
        }
    }
}

fn windows() -> Vec<Case> {
    use May::{End, GoOn, Reset};
    vec![
        one("9113 §6.9: WINDOW_UPDATE by nothing", End(&[PROTOCOL_ERROR]), window(0, 0)),
        case(
            "9113 §6.9: WINDOW_UPDATE of a stream by nothing",
            Reset(&[PROTOCOL_ERROR]),
            |client| {
                client.ask(1, END_HEADERS, "POST");
                client.send(&window(1, 0));
            },
        ),
        one("9113 §6.9: WINDOW_UPDATE of 3 bytes", End(&[FRAME_SIZE_ERROR]), {
            frame(WINDOW_UPDATE, NONE, 0, &[0, 0, 1])
        }),
        case("9113 §6.9.1: a window of one byte", GoOn, |client| {
            client.send(&settings(&[(0x4, 1)]));
            client.ask(1, WHOLE, "GET");
            assert_eq!(first_data(client, 1).payload.len(), 1);
            client.send(&settings(&[(0x4, 65_535)]));
        }),
        one(
            "9113 §6.9.1: the window of the connection above 2^31 - 1",
            End(&[FLOW_CONTROL_ERROR]),
            [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(),
        ),
        case(
            "9113 §6.9.1: the window of a stream above 2^31 - 1",
            Reset(&[FLOW_CONTROL_ERROR]),
            |client| {
                client.ask(1, END_HEADERS, "POST");
                client.send(&[window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)].concat());
            },
        ),
        // And then more than that of the connection.
        Case {
            how: How::Alone,
            ..case(
                "9113 §6.9.1: more DATA than the window of the stream",
                Reset(&[FLOW_CONTROL_ERROR]),
                |client| {
                    client.path.push_str("unread");
                    let window = client.settings.iter().find(|(name, _)| *name == 0x4);
                    let window = window.map_or(65_535, |(_, bytes)| *bytes as usize);
                    client.ask(1, END_HEADERS, "POST");
                    // More than all buffers on the way hold to a backend that reads nothing.
                    let piece = frame(DATA, NONE, 1, &[b'x'; FRAME_MAX]);
                    client.send(&piece.repeat(window / FRAME_MAX + 320));
                },
            )
        },
        case("9113 §6.9.2: a window that grows later", GoOn, |client| {
            client.send(&settings(&[(0x4, 0)]));
            client.ask(1, WHOLE, "GET");
            client.send(&settings(&[(0x4, 1)]));
            assert_eq!(first_data(client, 1).payload.len(), 1);
            client.send(&settings(&[(0x4, 65_535)]));
        }),
        case("9113 §6.9.2: a window below nothing", GoOn, |client| {
            client.send(&settings(&[(0x4, 3)]));
            client.ask(1, WHOLE, "GET");
            assert_eq!(first_data(client, 1).payload.len(), 3);
            client.send(&settings(&[(0x4, 2)]));
            client.send(&window(1, 2));
            assert_eq!(first_data(client, 1).payload.len(), 1);
            client.send(&settings(&[(0x4, 65_535)]));
        }),
        one(
            "9113 §6.9.2: SETTINGS that begin windows above 2^31 - 1",
            End(&[FLOW_CONTROL_ERROR]),
            settings(&[(0x4, u32::MAX)]),
        ),
        case(
            "9113 §6.9.2: SETTINGS that make an open window too large",
            End(&[FLOW_CONTROL_ERROR]),
            |client| {
                client.path.push_str("hold");
                client.ask(1, WHOLE, "GET");
                client.send(&window(1, 0x7fff_ffff - 65_535));
                client.send(&settings(&[(0x4, 65_536)]));
            },
        ),
    ]
}
