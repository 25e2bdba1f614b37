//! What frames are, case by case, and who is never taken for an attacker.

use proptest::prelude::*;

use super::*;

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection that begins with the preface and goes on with these frames.
fn begun(frames: &[Vec<u8>]) -> Vec<u8> {
    [&PREFACE[..], &frame(4, 0, 0, &[]), &frames.concat()].concat()
}

fn read_in(bytes: &[u8], cuts: &[usize]) -> Result<(), FrameFault> {
    let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
    let mut ends: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < bytes.len()).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut at = 0;
    for end in ends {
        reader.read(&bytes[at..end], || Duration::ZERO).map_err(|broken| broken.fault)?;
        at = end;
    }
    Ok(())
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<(), FrameFault>) {
    let each: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(read_in(bytes, &[]), expected, "{}", bytes.escape_ascii());
    assert_eq!(read_in(bytes, &each), expected, "{}", bytes.escape_ascii());
}

const WEIGHTED: [u8; 5] = [0, 0, 0, 0, 15];

#[test]
fn frames_that_a_client_may_send_pass() {
    for frames in [
        &[][..],
        &[frame(0x1, 0x5, 1, b"\x82")],
        &[frame(0x1, 0x0, 1, b""), frame(0x9, 0x0, 1, b"\x82"), frame(0x9, 0x4, 1, b"")],
        &[frame(0x1, 0x2c, 3, &[&[1][..], &WEIGHTED, &[0]].concat())],
        &[frame(0x1, 0xc, 1, &[0])],
        &[frame(0x0, 0x1, 1, b"")],
        &[frame(0x0, 0x8, 1, &[0])],
        &[frame(0x0, 0x9, 1, &[3, b'x', 0, 0, 0])],
        &[frame(0x0, 0x0, 1, &[b'x'; 16_384])],
        &[frame(0x2, 0x0, 7, &WEIGHTED)],
        &[frame(0x3, 0x0, 1, &[0, 0, 0, 8])],
        &[frame(0x4, 0x1, 0, b"")],
        &[frame(0x4, 0x0, 0, &[0, 2, 0, 0, 0, 1, 0, 5, 0, 0xff, 0xff, 0xff])],
        &[frame(0x4, 0x0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff, 0x5a, 0x5a, 1, 2, 3, 4])],
        &[frame(0x6, 0x0, 0, b"12345678"), frame(0x6, 0x1, 0, b"12345678")],
        &[frame(0x7, 0x0, 0, &[0; 8]), frame(0x7, 0x0, 0, &[0; 20])],
        &[frame(0x8, 0x0, 0, &[0, 0, 0, 1]), frame(0x8, 0xff, 1, &[0x80, 0, 0, 1])],
        &[frame(0x10, 0x0, 0, b"\0\0\0\x01u=1"), frame(0xb6, 0xff, 0x8000_0003, b"grease")],
        &[frame(0x6, 0x0, 0x8000_0000, b"12345678")],
    ] {
        check(&begun(frames), Ok(()));
    }
}

#[test]
fn what_is_no_frame_of_its_kind_is_refused_with_the_code_of_the_rfc() {
    use Code::{FlowControl, FrameSize, Protocol, StreamClosed};
    use FrameFault as F;
    let settings = |payload: &[u8]| frame(0x4, 0x0, 0, payload);
    for (frames, fault, code) in [
        (vec![frame(0x1, 0x0, 1, b""), frame(0x2, 0, 1, &WEIGHTED)], F::BlockCut, Protocol),
        (vec![frame(0x1, 0x0, 1, b""), frame(0x1, 0x4, 3, b"")], F::BlockCut, Protocol),
        (vec![frame(0x1, 0x0, 1, b""), frame(0x9, 0x4, 3, b"")], F::BlockCut, Protocol),
        (vec![frame(0x1, 0x0, 1, b""), frame(0xb6, 0, 0, b"")], F::BlockCut, Protocol),
        (vec![frame(0x9, 0x4, 1, b"")], F::BlockMissing, Protocol),
        (vec![frame(0x1, 0x4, 1, b""), frame(0x9, 0x4, 1, b"")], F::BlockMissing, Protocol),
        (vec![frame(0x9, 0x4, 0, b"")], F::StreamMissing, Protocol),
        (vec![frame(0x1, 0x24, 1, &[0, 0, 0, 1, 0])], F::DependsOnItself, Protocol),
        (vec![frame(0x1, 0x2c, 1, &[0, 0x80, 0, 0, 1, 0])], F::DependsOnItself, Protocol),
        (vec![frame(0x2, 0, 5, &[0, 0, 0, 5, 0])], F::DependsOnItself, Protocol),
        (vec![frame(0x0, 0, 1, &[0; 16_385])], F::FrameTooLong, FrameSize),
        (vec![frame(0xb6, 0, 1, &[0; 16_385])], F::FrameTooLong, FrameSize),
        (vec![frame(0x0, 0x8, 1, &[1])], F::Padding, Protocol),
        (vec![frame(0x0, 0x8, 1, &[5, 0, 0, 0, 0])], F::Padding, Protocol),
        (vec![frame(0x1, 0xc, 1, &[2, 0x82])], F::Padding, Protocol),
        (vec![frame(0x1, 0x2c, 1, &[1, 0, 0, 0, 0, 0])], F::Padding, Protocol),
        (vec![frame(0x5, 0x4, 1, &[0, 0, 0, 2])], F::Push, Protocol),
        (vec![settings(&[0, 2, 0, 0, 0, 2])], F::SettingValue, Protocol),
        (vec![settings(&[0, 8, 0, 0, 0, 2])], F::SettingValue, Protocol),
        (vec![settings(&[0, 5, 0, 0, 0x3f, 0xff])], F::SettingValue, Protocol),
        (vec![settings(&[0, 5, 1, 0, 0, 0])], F::SettingValue, Protocol),
        (vec![settings(&[0, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0])], F::SettingValue, Protocol),
        (vec![settings(&[0, 4, 0x80, 0, 0, 0])], F::SettingWindow, FlowControl),
        (
            vec![frame(0x1, 0x5, 1, b"\x82"), frame(0x0, 0x1, 1, b"x")],
            F::StreamClosed,
            StreamClosed,
        ),
        (
            vec![frame(0x1, 0x5, 1, b"\x82"), frame(0x1, 0x5, 1, b"\x82")],
            F::StreamClosed,
            StreamClosed,
        ),
        (vec![frame(0x1, 0x5, 2, b"\x82")], F::StreamEven, Protocol),
        (vec![frame(0x0, 0x0, 0, b"x")], F::StreamMissing, Protocol),
        (vec![frame(0x1, 0x5, 0, b"\x82")], F::StreamMissing, Protocol),
        (vec![frame(0x2, 0x0, 0, &WEIGHTED)], F::StreamMissing, Protocol),
        (vec![frame(0x3, 0x0, 0, &[0; 4])], F::StreamMissing, Protocol),
        (vec![frame(0x4, 0x0, 1, b"")], F::StreamNamed, Protocol),
        (vec![frame(0x6, 0x0, 1, &[0; 8])], F::StreamNamed, Protocol),
        (vec![frame(0x7, 0x0, 1, &[0; 8])], F::StreamNamed, Protocol),
        (vec![frame(0x8, 0x0, 0, &[0; 4])], F::WindowZero, Protocol),
        (vec![frame(0x8, 0x0, 1, &[0x80, 0, 0, 0])], F::WindowZero, Protocol),
        (vec![frame(0x0, 0x8, 1, b"")], F::WrongLength, FrameSize),
        (vec![frame(0x1, 0xc, 1, b"")], F::WrongLength, FrameSize),
        (vec![frame(0x1, 0x24, 1, &[0; 4])], F::WrongLength, FrameSize),
        (vec![frame(0x2, 0x0, 1, &[0; 4])], F::WrongLength, FrameSize),
        (vec![frame(0x3, 0x0, 1, &[0; 3])], F::WrongLength, FrameSize),
        (vec![frame(0x4, 0x1, 0, &[0; 6])], F::WrongLength, FrameSize),
        (vec![frame(0x4, 0x0, 0, &[0; 5])], F::WrongLength, FrameSize),
        (vec![frame(0x6, 0x0, 0, &[0; 7])], F::WrongLength, FrameSize),
        (vec![frame(0x7, 0x0, 0, &[0; 7])], F::WrongLength, FrameSize),
        (vec![frame(0x8, 0x0, 0, &[0; 5])], F::WrongLength, FrameSize),
    ] {
        check(&begun(&frames), Err(fault));
        assert_eq!(fault.code(), code, "{fault:?}");
    }
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    let with = |block: &[u8]| begun(&[frame(0x1, 0x4, 1, b"\x83"), frame(0x1, 0x5, 1, block)]);
    for block in [
        &b"\x82"[..],
        b"\x8e",
        b"\x42\x03200",
        b"\x04\x01/",
        b"\x14\x01/",
        b"\0\x07:method\x03GET",
        b"\x10\x02:x\0",
        // ":method" in Huffman's code.
        b"\x40\x85\xb9\x49\x53\x39\xe4\x83\xc5\x83\x7f",
    ] {
        check(&with(block), Err(FrameFault::TrailerPseudo));
    }
    for block in [
        &b""[..],
        b"\x90",
        b"\x0f\x01\x01x",
        b"\0\x01x\x01y",
        b"\0\x82\xf3\xff\0",
        b"\xbe",
        b"\x20\x90",
        b"\0",
    ] {
        check(&with(block), Ok(()));
    }
    let padded =
        begun(&[frame(0x1, 0x4, 1, b"\x83"), frame(0x1, 0x2d, 1, b"\x01\0\0\0\0\0\x82\0")]);
    check(&padded, Err(FrameFault::TrailerPseudo));
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    check(&PREFACE[..], Ok(()));
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Err(FrameFault::Preface));
    check(b"GET / HTTP/1.1\r\n", Err(FrameFault::Preface));
    for first in [frame(0x6, 0, 0, &[0; 8]), frame(0x1, 0x5, 1, b"\x82"), frame(0x4, 0x1, 0, b"")] {
        check(&[&PREFACE[..], &first].concat(), Err(FrameFault::PrefaceWithoutSettings));
    }
}

#[test]
fn what_came_before_a_fault_may_be_handed_on() {
    let (good, bad) = (begun(&[frame(0x6, 0, 0, &[0; 8])]), frame(0x6, 0, 0, &[0; 7]));
    let whole = [&good[..], &bad].concat();
    let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
    let broken = reader.read(&whole, || Duration::ZERO).unwrap_err();
    assert_eq!(broken, Broken { good: good.len(), fault: FrameFault::WrongLength });
    // One that began in an earlier piece leaves nothing of this one.
    let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
    assert_eq!(reader.read(&whole[..good.len() + 3], || Duration::ZERO), Ok(()));
    let broken = reader.read(&whole[good.len() + 3..], || Duration::ZERO).unwrap_err();
    assert_eq!(broken, Broken { good: 0, fault: FrameFault::WrongLength });
}

#[test]
fn it_is_known_whether_a_field_block_is_open() {
    let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
    let mut is_open_after = |bytes: &[u8]| {
        reader.read(bytes, || Duration::ZERO).unwrap();
        reader.is_in_block()
    };
    assert!(!is_open_after(&begun(&[])));
    let head = frame(0x1, 0x1, 1, b"\x82\x84");
    assert!(is_open_after(&head[..10]));
    assert!(is_open_after(&head[10..]));
    assert!(!is_open_after(&frame(0x9, 0x4, 1, b"")));
}

/// A client that sends the same again and again.
struct Sender {
    reader: FrameReader,
    now: Duration,
}

impl Sender {
    fn new() -> Self {
        let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
        reader.read(&begun(&[]), || Duration::ZERO).unwrap();
        Self { reader, now: Duration::ZERO }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), FrameFault> {
        let now = self.now;
        self.reader.read(frame, || now).map_err(|broken| broken.fault)
    }
}

#[test]
fn floods_end() {
    use FrameFault::{TooManyFrames, TooManyResets};
    let setting = [0, 3, 0, 0, 0, 1];
    for (each, fault, at_most) in [
        (frame(0x0, 0x0, 1, b""), TooManyFrames, 10_001),
        (frame(0x0, 0x8, 1, &[0]), TooManyFrames, 10_001),
        (frame(0x0, 0x8, 1, &[[255].as_slice(), &[0; 255]].concat()), TooManyFrames, 10_001),
        (frame(0x2, 0x0, 1, &WEIGHTED), TooManyFrames, 10_001),
        (frame(0x3, 0x0, 1, &[0, 0, 0, 8]), TooManyResets, 501),
        (frame(0x4, 0x0, 0, b""), TooManyFrames, 10_001),
        (frame(0x4, 0x0, 0, &setting.repeat(2000)), TooManyFrames, 6),
        (frame(0x6, 0x0, 0, &[0; 8]), TooManyFrames, 10_001),
        (frame(0x6, 0x1, 0, &[0; 8]), TooManyFrames, 10_001),
        (frame(0x7, 0x0, 0, &[0; 8]), TooManyFrames, 10_001),
        (frame(0x8, 0x0, 1, &[0, 0, 0, 1]), TooManyFrames, 10_001),
        (frame(0x9, 0x0, 1, b""), TooManyFrames, 10_001),
        (frame(0xb6, 0x0, 0, b"grease"), TooManyFrames, 10_001),
    ] {
        let mut sender = Sender::new();
        if each[3] == 0x9 {
            sender.send(&frame(0x1, 0x0, 1, b"")).unwrap();
        }
        let mut count = 1;
        let found = loop {
            match sender.send(&each) {
                Ok(()) if count <= at_most => count += 1,
                other => break other,
            }
        };
        assert_eq!(found, Err(fault), "{}", each[..9].escape_ascii());
    }
}

#[test]
fn answers_that_a_flood_provokes_do_not_pay_for_it() {
    // What is sent for each: an acknowledged PING, an acknowledged SETTINGS, a byte into a window of one.
    for (each, sent) in [
        (frame(0x6, 0x0, 0, &[0; 8]), 17),
        (frame(0x4, 0x0, 0, b""), 9),
        (frame(0x8, 0x0, 1, &[0, 0, 0, 1]), 10),
    ] {
        let mut sender = Sender::new();
        let found = (0..20_000).try_for_each(|_| {
            sender.reader.note_sent(sent);
            sender.send(&each)
        });
        assert_eq!(found, Err(FrameFault::TooManyFrames), "{sent} bytes");
    }
}

#[test]
fn requests_that_are_all_given_up_end_soon() {
    let mut sender = Sender::new();
    let given_up = (0..10_000_u32).position(|number| {
        sender.send(&frame(0x1, 0x5, 2 * number + 1, b"\x82")).unwrap();
        sender.send(&frame(0x3, 0x0, 2 * number + 1, &[0, 0, 0, 8])).is_err()
    });
    assert!(given_up.is_some_and(|count| count < 700), "{given_up:?}");
}

/// What a client does again and again, at its pace: `(what, frames, bytes that are sent to it, how often a second)`.
fn honest() -> Vec<(&'static str, Vec<Vec<u8>>, usize, u32)> {
    let post = frame(0x1, 0x4, 1, &[0x83; 40]);
    let request = |number: u32| frame(0x1, 0x5, number, &[0x82; 40]);
    let window = |stream| frame(0x8, 0, stream, &[0, 0, 0x80, 0]);
    let ping = frame(0x6, 0, 0, &[0; 8]);
    let data = |bytes: usize| frame(0x0, 0, 1, &vec![b'x'; bytes]);
    vec![
        ("a gRPC client that keeps its connection alive", vec![ping.clone()], 17, 1),
        // grpc-go sends a PING with each answer, once a round trip: here 0.2 ms.
        (
            "a gRPC client that measures the line",
            vec![post.clone(), data(20), frame(0x0, 1, 1, b""), ping.clone()],
            120,
            5000,
        ),
        ("a stream of small messages to it", vec![ping.clone()], 17 + 34, 4000),
        ("a stream of small messages from it", vec![data(12)], 0, 50_000),
        // Go opens windows every 4 KB, the stream's and the connection's: 1 GB/s.
        ("a download by a Go client", vec![window(0), window(1)], 4096, 250_000),
        ("a download by curl or nghttp2", vec![window(0), window(1)], 32_768, 30_000),
        (
            "a client that opens a window for each DATA frame",
            vec![window(0), window(1)],
            16_393,
            60_000,
        ),
        ("events for such a client", vec![window(0), window(1)], 150, 2000),
        (
            "a browser with a page",
            vec![request(1), frame(0x2, 0, 1, &WEIGHTED), window(1)],
            8000,
            500,
        ),
        ("an upload", vec![data(16_384)], 26, 60_000),
        ("many small uploads", vec![post, data(100), frame(0x0, 1, 1, b"")], 120, 20_000),
        (
            "one in five requests is given up",
            vec![
                request(1),
                request(3),
                request(5),
                request(7),
                request(9),
                frame(0x3, 0, 1, &[0, 0, 0, 8]),
            ],
            500,
            20_000,
        ),
    ]
}

/// The frame on a later stream, if it is of one.
fn moved(frame: &[u8], by: u32) -> Vec<u8> {
    let (head, payload) = frame.split_first_chunk::<9>().unwrap();
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    let stream = if stream == 0 { 0 } else { stream + by };
    [&head[..5], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn honest_clients_are_never_ended() {
    for (what, frames, sent, often) in honest() {
        let mut sender = Sender::new();
        // Two minutes, or as much of them as the test has time for.
        for number in 0..(often * 120).min(100_000) {
            for each in &frames {
                let each = moved(each, 16 * number);
                assert_eq!(sender.send(&each), Ok(()), "{what}, after {number}");
            }
            sender.reader.note_sent(sent);
            sender.now += Duration::from_secs(1) / often;
        }
    }
}

#[test]
fn a_browser_may_leave_several_pages_in_a_second() {
    let mut sender = Sender::new();
    for page in 0..5 {
        for number in 0..100 {
            sender.send(&frame(0x1, 0x5, page * 200 + 2 * number + 1, b"\x82")).unwrap();
        }
        for number in 0..100 {
            let stream = page * 200 + 2 * number + 1;
            assert_eq!(sender.send(&frame(0x3, 0x0, stream, &[0, 0, 0, 8])), Ok(()), "page {page}");
        }
    }
}

/// Frames, mostly of known kinds and right lengths.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![Just(4_usize), Just(5), Just(6), Just(8), 0_usize..30];
    (0_u8..12, any::<u8>(), 0_u32..4, length, any::<u8>()).prop_map(
        |(kind, flags, stream, length, byte)| frame(kind, flags, stream, &vec![byte; length]),
    )
}

proptest! {
    #[test]
    fn the_pieces_that_frames_come_in_change_nothing(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(1_usize..200, 0..12),
    ) {
        let bytes = begun(&frames);
        let whole = read_in(&bytes, &[]);
        prop_assert_eq!(read_in(&bytes, &cuts), whole);
        let each: Vec<usize> = (1..bytes.len()).collect();
        prop_assert_eq!(read_in(&bytes, &each), whole);
    }

    #[test]
    fn no_bytes_break_the_frame_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = begun(&[bytes]);
        let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
        if let Err(broken) = reader.read(&bytes, || Duration::ZERO) {
            prop_assert!(broken.good <= bytes.len());
            // What may be handed on has no fault.
            prop_assert_eq!(read_in(&bytes[..broken.good], &[]), Ok(()));
        }
    }
}
