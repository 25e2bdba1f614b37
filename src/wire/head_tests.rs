//! What a head is, case by case.

use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Result<Option<Head>, Fault> {
    HeadReader::default().read(text, &HeadLimits::default())
}

/// A request with these fields.
fn with(fields: &str) -> Vec<u8> {
    format!("POST /a?b=c HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[track_caller]
fn check_good(text: &[u8], body: Body) {
    assert_eq!(read(text), Ok(Some(Head { bytes: text.len(), body })), "{}", text.escape_ascii());
    let longer = [text, b"GET"].concat();
    assert_eq!(
        read(&longer),
        Ok(Some(Head { bytes: text.len(), body })),
        "{}",
        text.escape_ascii()
    );
}

#[track_caller]
fn check_bad(text: &[u8], fault: Fault) {
    assert_eq!(read(text), Err(fault), "{}", text.escape_ascii());
}

#[test]
fn a_head_tells_where_its_body_ends() {
    check_good(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0));
    check_good(b"GET / HTTP/1.0\r\n\r\n", Body::Length(0));
    check_good(b"OPTIONS * HTTP/1.1\r\nHost: a:80\r\n\r\n", Body::Length(0));
    check_good(b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0));
    check_good(b"GET HTTPS://a:443?x HTTP/1.1\r\nHOST:\t a:443 \r\n\r\n", Body::Length(0));
    check_good(b"M-SEARCH /|{}[]^\"\\?|{}[]^`\\ HTTP/1.1\r\nHost: [::1]\r\n\r\n", Body::Length(0));
    check_good(&with("Content-Length: 5\r\n"), Body::Length(5));
    check_good(&with("transfer-encoding:CHUNKED\r\n"), Body::Chunked);
    check_good(&with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), Body::Length(0));
    check_good(&with("X: \u{fc}\r\nX:\r\n"), Body::Length(0));
}

#[test]
fn a_request_line_is_a_method_a_target_and_a_version() {
    for (line, fault) in [
        ("GET /", Fault::RequestLine),
        ("GET", Fault::RequestLine),
        ("GET / HTTP/1.1 ", Fault::RequestLine),
        ("GET / http/1.1", Fault::RequestLine),
        ("GET / HTTP/1.10", Fault::RequestLine),
        ("GET / HTTP/11", Fault::RequestLine),
        ("GET / HTTP/1,1", Fault::RequestLine),
        ("GET\t/\tHTTP/1.1", Fault::RequestLine),
        (" GET / HTTP/1.1", Fault::Method),
        ("G(T / HTTP/1.1", Fault::Method),
        ("G\u{fc}T / HTTP/1.1", Fault::Method),
        ("GET / HTTP/2.0", Fault::Version),
        ("GET / HTTP/1.2", Fault::Version),
        ("GET / HTTP/0.9", Fault::Version),
        ("PRI * HTTP/2.0", Fault::Version),
        ("CONNECT a:80 HTTP/1.1", Fault::Connect),
        ("CONNECT http://a HTTP/1.1", Fault::Connect),
        ("GET  / HTTP/1.1", Fault::Target),
        ("GET /  HTTP/1.1", Fault::Target),
        ("GET /a b HTTP/1.1", Fault::Target),
        ("GET /a\tb HTTP/1.1", Fault::Target),
        ("GET /a\0b HTTP/1.1", Fault::Target),
        ("GET /a\rb HTTP/1.1", Fault::Target),
        ("GET /a#b HTTP/1.1", Fault::Target),
        ("GET * HTTP/1.1", Fault::Target),
        ("OPTIONS ** HTTP/1.1", Fault::Target),
        ("GET a HTTP/1.1", Fault::Target),
        ("GET a:80 HTTP/1.1", Fault::Target),
        ("GET ftp://a/ HTTP/1.1", Fault::Target),
        ("GET http:/a HTTP/1.1", Fault::Target),
        ("GET http:///a HTTP/1.1", Fault::Target),
        ("GET http://u@a/ HTTP/1.1", Fault::Target),
        ("GET http://a:x/ HTTP/1.1", Fault::Target),
        ("GET /\u{fc} HTTP/1.1", Fault::TargetEightBit),
        ("GET /< HTTP/1.1", Fault::Target),
        ("GET /?> HTTP/1.1", Fault::Target),
        ("GET /` HTTP/1.1", Fault::Target),
        ("GET /?\" HTTP/1.1", Fault::Target),
        ("\r\nGET / HTTP/1.1", Fault::EmptyLine),
    ] {
        check_bad(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), fault);
    }
}

#[test]
fn every_target_that_is_let_through_can_be_read_by_pingora() {
    for byte in 0..=255_u8 {
        for (before, after) in [("/a", "b"), ("/a?b", "c")] {
            let target = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let head = [b"GET ", &target[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            if read(&head).is_ok() {
                assert!(http::uri::PathAndQuery::try_from(&target[..]).is_ok(), "{byte:#x}");
            }
        }
    }
}

#[test]
fn another_protocol_is_told_from_its_first_byte() {
    check_bad(b"\x16\x03\x01\x02", Fault::Method);
    assert_eq!(read(b"G"), Ok(None));
    assert_eq!(read(b"\r"), Ok(None));
    assert_eq!(read(b""), Ok(None));
}

#[test]
fn lines_end_with_crlf_alone() {
    check_bad(b"GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::LineEnd);
    check_bad(b"GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::LineEnd);
    check_bad(b"GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::LineEnd);
    check_bad(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Fault::LineEnd);
    check_bad(b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Fault::LineEnd);
    check_bad(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::LineEnd);
}

#[test]
fn a_host_is_named_once_and_the_same_everywhere() {
    for (text, fault) in [
        ("GET / HTTP/1.1\r\n\r\n", Fault::HostMissing),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Fault::HostMissing),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Fault::HostTwice),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Fault::HostTwice),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Fault::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Fault::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Fault::HostMalformed),
        ("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", Fault::HostMalformed),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Fault::HostDiffers),
        ("GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", Fault::HostDiffers),
    ] {
        check_bad(text.as_bytes(), fault);
    }
}

#[test]
fn a_body_has_one_length() {
    for (fields, fault) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Fault::LengthsDiffer),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", Fault::LengthRepeated),
        ("Content-Length: 5, 5\r\n", Fault::LengthMalformed),
        ("Content-Length: +5\r\n", Fault::LengthMalformed),
        ("Content-Length:\r\n", Fault::LengthMalformed),
        ("Content-Length : 5\r\n", Fault::FieldName),
        ("Content_Length: 5\r\n", Fault::FramingHidden),
        ("Transfer_Encoding: chunked\r\n", Fault::FramingHidden),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Fault::CodingWithLength),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Fault::CodingWithLength),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Fault::CodingMalformed),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::CodingMalformed),
        ("Transfer-Encoding: identity\r\n", Fault::CodingUnknown),
        ("Transfer-Encoding: ,\r\n", Fault::CodingMalformed),
        ("Transfer-Encoding:\x0bchunked\r\n", Fault::Control),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", Fault::Folded),
        ("Connection: Content-Length\r\nContent-Length: 5\r\n", Fault::Nomination),
    ] {
        check_bad(&with(fields), fault);
    }
    check_bad(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInOld);
}

#[test]
fn a_head_has_its_limits() {
    let limits = HeadLimits { bytes: 200, fields: 3, line: 60 };
    let read = |text: String| HeadReader::default().read(text.as_bytes(), &limits);
    let long = "x".repeat(61);
    assert_eq!(read(format!("GET /{long}")), Err(Fault::TargetTooLong));
    assert_eq!(read(format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(Fault::TargetTooLong));
    assert_eq!(read(format!("GET / HTTP/1.1\r\nX: {long}")), Err(Fault::FieldTooLong));
    assert_eq!(
        read("GET / HTTP/1.1\r\nHost: a\r\na:\r\nb:\r\nc:\r\n".into()),
        Err(Fault::TooManyFields)
    );
    let lines = format!("X: {}\r\n", "y".repeat(50)).repeat(3);
    assert_eq!(
        read(format!("GET /{} HTTP/1.1\r\n{lines}\r\n", "z".repeat(40))),
        Err(Fault::HeadTooLong)
    );
    let fits = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "z".repeat(60 - 14));
    assert!(matches!(read(fits), Ok(Some(_))));
    let method = "M".repeat(METHOD_MAX + 1);
    check_bad(format!("{method} / HTTP/1.1\r\n").as_bytes(), Fault::Method);
}

#[test]
fn an_app_can_put_up_with_what_no_two_parsers_read_in_two_ways() {
    let lenient = Lenient { empty_line: true, equal_lengths: true, target_eight_bit: true };
    let read =
        |text: &str| HeadReader::lenient(lenient).read(text.as_bytes(), &HeadLimits::default());
    let all =
        "\r\nPOST /\u{fc} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(read(all), Ok(Some(Head { bytes: all.len(), body: Body::Length(5) })));
    assert_eq!(read("\r\n\r\nGET / HTTP/1.1\r\n"), Err(Fault::EmptyLine));
    assert_eq!(read("GET /\u{fc} \u{fc} HTTP/1.1\r\n"), Err(Fault::Target));
    let differ = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert_eq!(read(differ), Err(Fault::LengthsDiffer));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    #[test]
    fn the_pieces_that_a_head_comes_in_change_nothing(
        fields in prop::collection::vec("[A-Za-z]{1,9}[:; ] {0,2}[ -~]{0,12}\r?\n", 0..6),
        cuts in prop::collection::vec(0_usize..200, 0..8),
    ) {
        let text = with(&fields.concat());
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let mut reader = HeadReader::default();
        let mut verdict = Ok(None);
        for cut in cuts {
            verdict = reader.read(&text[..cut], &HeadLimits::default());
            if verdict != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(verdict, read(&text));
    }
}
