//! Headers of the PROXY protocol: what is one, what is none, and that what is written is read.

use proptest::prelude::*;

use super::*;

const V4: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Reads as from a connection that hands out as much as it is asked for and no more, in pieces of this size. Answers
/// with how many bytes were taken, too.
fn taken(bytes: &[u8], piece: usize) -> (Result<Option<Header>, Refused>, usize) {
    let mut there = 0;
    loop {
        match read(&bytes[..there]) {
            Err(refused) => return (Err(refused), there),
            Ok(Step::Done(header, length)) => {
                assert_eq!(length, there, "took another number of bytes than it says");
                return (Ok(Some(header)), there);
            }
            Ok(Step::More(more)) if there == bytes.len() => {
                assert!(more > 0);
                return (Ok(None), there);
            }
            Ok(Step::More(more)) => there = (there + more.min(piece)).min(bytes.len()),
        }
    }
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<Option<Header>, Refused>) {
    for piece in [1, 2, 3, usize::MAX] {
        assert_eq!(taken(bytes, piece).0, expected, "{:?}", String::from_utf8_lossy(bytes));
    }
    let whole = read(bytes).map(|step| match step {
        Step::Done(header, _) => Some(header),
        Step::More(_) => None,
    });
    assert_eq!(whole, expected, "at once: {:?}", String::from_utf8_lossy(bytes));
}

fn told(ends: Ends) -> Result<Option<Header>, Refused> {
    Ok(Some(Header { ends: Some(ends), secure: false }))
}

/// A header of version 2 with these bytes after its length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];

fn fact(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

#[test]
fn a_line_tells_both_ends() {
    let v4 = ends("192.0.2.1:56324", "198.51.100.2:443");
    check(V4, told(v4));
    let v6 = b"PROXY TCP6 2001:db8::1 2001:DB8::2 1 65535\r\n";
    check(v6, told(ends("[2001:db8::1]:1", "[2001:db8::2]:65535")));
    check(
        b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1\r\n",
        told(ends("[::ffff:192.0.2.1]:0", "[::1]:1")),
    );
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 x y 1 2 3\r\n"] {
        check(unknown.as_bytes(), Ok(Some(Header::default())));
    }
    let worst = format!("PROXY UNKNOWN {}\r\n", [["f"; 4].concat().as_str(); 16].join(":"));
    assert!(worst.len() <= LINE_MAX);
    check(worst.as_bytes(), Ok(Some(Header::default())));
}

#[test]
fn a_line_that_is_none_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 \r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 1\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 1\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.2 1 1\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 1\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 1\r\n",
        "PROXY UNKNOWNS ....\r\n",
        "PROXY UNKNOWN\t...\r\n",
        "PROXY UNKNOWN \u{e9} ...\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 1\n\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 1\r\r\n",
        "PROXY \r\n.......",
        "PROXY TCP4 192.0.2.1\0 198.51.100.2 1 1\r\n",
    ] {
        check(line.as_bytes(), Err(Refused::Malformed));
    }
    let long = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    check(long(LINE_MAX).as_bytes(), Ok(Some(Header::default())));
    check(long(LINE_MAX + 1).as_bytes(), Err(Refused::TooLong));
    check(long(9000).as_bytes(), Err(Refused::TooLong));
}

#[test]
fn what_begins_in_another_way_is_no_header() {
    for other in [
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02",
        "PROXY\r\n........",
        "proxy TCP4 ",
        "\r\nGET",
        " PROXY",
    ] {
        check(other.as_bytes(), Err(Refused::Absent));
    }
}

#[test]
fn bytes_tell_both_ends() {
    let expected = ends("192.0.2.1:56324", "198.51.100.2:443");
    check(&v2(0x21, 0x11, &INET), told(expected));
    check(&v2(0x21, 0x12, &INET), told(expected));
    let mut inet6 = [0; 36];
    (inet6[0], inet6[15], inet6[31], inet6[33], inet6[35]) = (0x20, 1, 2, 3, 4);
    check(&v2(0x21, 0x21, &inet6), told(ends("[2000::1]:3", "[::2]:4")));
    // Nobody could send an answer to a path.
    check(&v2(0x21, 0x31, &[b'/'; 216]), Ok(Some(Header::default())));
    check(&v2(0x21, 0x00, &[]), Ok(Some(Header::default())));
    // Whatever is said of a connection of its own means nothing.
    check(&v2(0x20, 0x00, &[]), Ok(Some(Header::default())));
    check(&v2(0x20, 0x11, &INET), Ok(Some(Header::default())));
    check(&v2(0x20, 0xff, b"anything"), Ok(Some(Header::default())));
}

#[test]
fn facts_are_read_as_far_as_they_matter() {
    let expected = ends("192.0.2.1:56324", "198.51.100.2:443");
    let with = |facts: &[u8]| v2(0x21, 0x11, &[&INET, facts].concat());
    let others =
        [fact(0x04, &[0; 9]), fact(0x05, b"id"), fact(0xee, &[]), fact(0x02, b"a.example")]
            .concat();
    check(&with(&others), told(expected));
    let ssl = |client: u8| {
        [
            fact(0x01, b"h2"),
            fact(0x20, &[&[client, 0, 0, 0, 0], &fact(0x21, b"TLSv1.3")[..]].concat()),
        ]
        .concat()
    };
    check(&with(&ssl(1)), Ok(Some(Header { ends: Some(expected), secure: true })));
    check(&with(&ssl(6)), told(expected));
    for wrong in
        [&fact(0x20, &[1, 0, 0, 0])[..], &[0xee], &[0xee, 0], &[0xee, 0, 1], &fact(0x03, &[0; 3])]
    {
        check(&with(wrong), Err(Refused::Malformed));
    }
}

#[test]
fn a_checksum_is_that_of_the_header() {
    // RFC 9260 has no vectors; RFC 3720, B.4, has.
    let sum = |bytes: &[u8]| crc32c(bytes.iter());
    assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
    assert_eq!(sum(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(sum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    assert_eq!(sum(b"123456789"), 0xe306_9283);
    let with = |sum: u32| {
        let facts = [fact(CHECKSUM, &sum.to_be_bytes()), fact(0x04, b"behind")].concat();
        v2(0x21, 0x11, &[&INET[..], &facts].concat())
    };
    let right = sum(&with(0));
    check(&with(right), told(ends("192.0.2.1:56324", "198.51.100.2:443")));
    check(&with(right ^ 1), Err(Refused::Checksum));
}

#[test]
fn bytes_that_are_no_header_are_refused() {
    for (command, family) in [
        (0x11, 0x11),
        (0x31, 0x11),
        (0x22, 0x11),
        (0x2f, 0),
        (0x21, 0x10),
        (0x21, 0x13),
        (0x21, 0x41),
        (0x21, 0x01),
    ] {
        check(&v2(command, family, &INET), Err(Refused::Malformed));
    }
    check(&v2(0x21, 0x11, &INET[..11]), Err(Refused::Malformed));
    check(&v2(0x21, 0x21, &[0; 35]), Err(Refused::Malformed));
    check(&v2(0x21, 0x31, &[0; 215]), Err(Refused::Malformed));
    let filled = |length: usize| v2(0x21, 0x00, &fact(0x04, &vec![0; length - FIXED - 3]));
    check(&filled(HEADER_MAX), Ok(Some(Header::default())));
    check(&filled(HEADER_MAX + 1), Err(Refused::TooLong));
    check(&filled(HEADER_MAX + 1)[..FIXED], Err(Refused::TooLong));
    check(&v2(0x20, 0, &vec![0; HEADER_MAX]), Err(Refused::TooLong));
}

#[test]
fn what_is_written_is_what_the_protocol_says() {
    let client = |source, destination| For::Client(ends(source, destination));
    let v4 = client("[::ffff:192.0.2.1]:56324", "198.51.100.2:443");
    assert_eq!(write(Version::V1, v4), V4);
    assert_eq!(write(Version::V2, v4), v2(0x21, 0x11, &INET));
    let mixed = client("192.0.2.1:1", "[2001:db8::2]:2");
    assert_eq!(write(Version::V1, mixed), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
    for whom in [For::Own, For::Stranger] {
        assert_eq!(write(Version::V1, whom), b"PROXY UNKNOWN\r\n");
    }
    assert_eq!(write(Version::V2, For::Own), v2(0x20, 0, &[]));
    assert_eq!(write(Version::V2, For::Stranger), v2(0x21, 0, &[]));
}

fn end() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_pieces_and_nothing_beyond_it(
        source in end(),
        destination in end(),
        behind in prop::collection::vec(any::<u8>(), 0..40),
        piece in 1_usize..60,
    ) {
        let expected = Ends { source, destination };
        for version in [Version::V1, Version::V2] {
            let header = write(version, For::Client(expected));
            let (read, used) = taken(&[&header[..], &behind].concat(), piece);
            prop_assert_eq!(used, header.len());
            let told = read.unwrap().unwrap().ends.unwrap();
            let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
            prop_assert_eq!((canonical(told.source), canonical(told.destination)), (source, destination));
        }
    }

    #[test]
    fn no_bytes_break_the_reader_and_pieces_change_nothing(
        start in prop::sample::select(vec![
            &b""[..],
            WORD,
            b"PROXY TCP4 1.2.3.4 ",
            SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..120),
        piece in 1_usize..20,
    ) {
        let bytes = [start, &rest].concat();
        let whole = read(&bytes);
        let (parts, used) = taken(&bytes, piece);
        match whole {
            Ok(Step::Done(header, length)) => {
                prop_assert_eq!(parts, Ok(Some(header)));
                prop_assert_eq!(used, length);
            }
            Ok(Step::More(_)) => prop_assert_eq!(parts, Ok(None)),
            Err(refused) => prop_assert_eq!(parts, Err(refused)),
        }
    }
}
