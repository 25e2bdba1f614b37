//! What is refused as it comes: one row a case, on the wire, with its page, its line in the log and its counters.
//! `docs/validation.md` is the same table in words.

use std::io::Write;

use serde_json::Value;

use crate::harness::*;

/// What is sent, the status that answers, and what the log says was wrong.
type Row = (&'static str, u16, &'static str);

const HEADS: &[Row] = &[
    ("GET /\r\nHost: a\r\n\r\n", 400, "bad request line"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", 400, "bad request line"),
    ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad method"),
    ("\x16\x03\x01", 400, "bad method"),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, "CONNECT"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unknown version"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "unknown version"),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad target"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad target"),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad target"),
    ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad target"),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad target"),
    ("GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target beyond ASCII"),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "empty line before the request"),
    ("GET / HTTP/1.1\nHost: a\n\n", 400, "line without CRLF"),
    ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "line without CRLF"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, "control character"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400, "bad field name"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n", 400, "bad field name"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "folded field"),
    ("GET / HTTP/1.1\r\n\r\n", 400, "no host"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host twice"),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad host"),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "bad host"),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "bad host"),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "host differs from target"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400, "bad content length"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400, "bad content length"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        400,
        "content lengths differ",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        400,
        "content length twice",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\nx",
        400,
        "framing field with underscore",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "transfer coding and content length",
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "transfer coding in HTTP/1.0",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        400,
        "bad transfer coding",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        501,
        "unknown transfer coding",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
        400,
        "control character",
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400, "bad field name"),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n", 400, "bad connection field"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: a,b,c,d,e,f,g,h,i\r\n\r\n",
        400,
        "bad connection field",
    ),
];

const BODIES: &[Row] = &[
    ("x\r\n", 400, "bad chunk size"),
    ("-1\r\n", 400, "bad chunk size"),
    ("fffffffffffffffff\r\n", 400, "bad chunk size"),
    ("1;\n\r\n", 400, "bad chunk extension"),
    ("1 \r\nx\r\n0\r\n\r\n", 400, "bad chunk extension"),
    ("1\r\nxy\r\n0\r\n\r\n", 400, "chunk without CRLF"),
    ("1\nx\r\n0\r\n\r\n", 400, "bad chunk extension"),
    ("0\r\nx\r\n\r\n", 400, "bad trailer"),
    ("0\r\nx : y\r\n\r\n", 400, "bad trailer"),
];

/// The last line of the access log of a request that failed.
fn line(edge: &Edge, count: usize) -> Value {
    eventually("the line of the request", || {
        let lines = edge.out();
        let line = lines.get(count - 1)?;
        serde_json::from_str(line).ok()
    })
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_refused() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for (index, (head, status, detail)) in HEADS.iter().enumerate() {
        let mut client = edge.client();
        client.send(head);
        let response = client.read();
        assert_eq!(response.status, *status, "{head:?}");
        assert_eq!(response.header("connection"), Some("close"), "{head:?}");
        assert!(client.is_closed(), "{head:?}");
        let line = line(&edge, index + 1);
        assert_eq!(line["detail"], *detail, "{head:?} {line}");
        assert_eq!(line["status"], *status, "{head:?} {line}");
    }
    assert_eq!(backend.requests().len(), 0);
    edge.counts(
        r#"homing_http_requests_total{app="shop",status="505",failure="unknown_version"}"#,
        2.0,
    );
    edge.counts(
        r#"homing_http_requests_total{app="shop",status="405",failure="method_refused"}"#,
        1.0,
    );
}

#[test]
fn what_is_known_of_a_refused_request_is_on_its_page_and_in_the_log() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send(
        "PUT /a?b HTTP/1.1\r\nHost: shop.example.com\r\nX-Request-Id: abcdefghij0123456789\r\n\
         Accept: application/json\r\nX : y\r\n\r\n",
    );
    let response = client.read();
    let page: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(response.header("x-request-id"), Some("abcdefghij0123456789"));
    assert_eq!(page["status"], 400);
    let line = line(&edge, 1);
    assert_eq!(line["method"], "PUT");
    assert_eq!(line["path"], "/a?b");
    assert_eq!(line["host"], "shop.example.com");
    assert_eq!(line["code"], "H26");
    assert_eq!(line["app"], "shop");
}

#[test]
fn a_body_that_is_not_in_chunks_never_ends_for_the_backend() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    for (index, (body, status, detail)) in BODIES.iter().enumerate() {
        let mut client = edge.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(body);
        let response = client.read();
        assert_eq!(response.status, *status, "{body:?}");
        assert!(client.is_closed(), "{body:?}");
        assert_eq!(line(&edge, index + 1)["detail"], *detail, "{body:?}");
    }
    assert_eq!(backend.requests().len(), 0);
    edge.counts(
        r#"homing_http_requests_total{app="shop",status="400",failure="bad_chunk"}"#,
        BODIES.len() as f64,
    );
}

#[test]
fn extensions_and_trailers_are_read_and_not_handed_on() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=\"b\"\r\nabc\r\n2\r\nde\r\n0;z\r\nContent-Length: 7\r\nX: y\r\n\r\n\
         GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.read().status, 200);
    assert_eq!(client.read().status, 200);
    let requests = backend.requests();
    assert_eq!(requests[0].body, b"abcde");
    assert!(requests[0].header("x").is_none() && requests[0].header("content-length").is_none());
    assert_eq!(requests[1].path(), "/next");
}

#[test]
fn requests_that_are_sent_at_once_are_served_one_after_another() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    let mut all = String::new();
    for index in 0..300 {
        let body = "x".repeat(index % 7 * 100);
        let length = body.len();
        all +=
            &format!("POST /{index} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    }
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    for _ in 0..300 {
        assert_eq!(client.read().status, 200);
    }
    writing.join().unwrap();
    let paths: Vec<String> = backend.requests().iter().map(|r| r.path().to_owned()).collect();
    let expected: Vec<String> = (0..300).map(|index| format!("/{index}")).collect();
    assert_eq!(paths, expected);
    assert!(
        backend.requests().iter().enumerate().all(|(index, r)| r.body.len() == index % 7 * 100)
    );
}

#[test]
fn who_says_that_it_sends_no_more_still_gets_what_it_asked_for_before() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read().status, 200);
    assert_eq!(client.read().status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_good_request_before_a_bad_one_is_served() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\nGET /3",
    );
    assert_eq!(client.read().status, 200);
    assert_eq!(client.read().status, 400);
    assert!(client.is_closed());
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn the_size_of_a_head_is_limited() {
    let backend = Backend::named("web.1");
    let head = "server: { threads: 1, head_bytes: 16384, head_fields: 20, head_line: 4096 }\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    let status = |text: String| {
        let mut client = edge.client();
        client.send(text);
        client.read().status
    };
    let long = "x".repeat(4096);
    assert_eq!(status(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")), 431);
    let fields: String = (0..20).map(|index| format!("X-{index}: y\r\n")).collect();
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")), 431);
    let fields: String = (0..5).map(|index| format!("X-{index}: {}\r\n", &long[..4000])).collect();
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")), 431);
    let fits: String = (0..3).map(|index| format!("X-{index}: {}\r\n", &long[..4000])).collect();
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\n{fits}\r\n")), 200);
    // A client that goes on sending still reads why it was refused.
    assert_eq!(
        status(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(500_000))),
        431
    );
}

#[test]
fn an_app_may_put_up_with_what_its_clients_send() {
    let backend = Backend::named("web.1");
    let lenient = format!("{QUICK}    lenient: [empty_line, equal_lengths, target_eight_bit]\n");
    let edge = Edge::start(&shop(&lenient, &[&backend]));
    let mut client = edge.client();
    client.send(
        "\r\nPOST /\u{fc} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(client.read().status, 200);
    client.send("\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read().status, 200);
    let requests = backend.requests();
    assert_eq!(requests[0].all("content-length"), ["2"]);
    assert_eq!(requests[0].line, "POST /\u{fc} HTTP/1.1");
    assert_eq!(requests[0].body, b"hi");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_all_the_same() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.stream.set_nodelay(true).unwrap();
    for byte in b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nT: u\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.read().status, 200);
    assert_eq!(backend.last().body, b"hi");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_head_is_told_of_in_the_log() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let mut client = edge.client();
    client.send("GET /half HTTP/1.1\r\nHost: a\r\nX-");
    drop(client);
    let line = line(&edge, 1);
    assert_eq!(line["detail"], "head cut off");
    assert_eq!(line["path"], "/half");
    assert_eq!(line["code"], "H27");
    // One that says nothing at all asked for nothing.
    drop(edge.client());
    edge.get("/whole");
    assert_eq!(self::line(&edge, 2)["path"], "/whole");
}

#[test]
fn what_an_app_puts_up_with_does_not_hang_on_how_it_comes() {
    let backend = Backend::named("web.1");
    let lenient = format!("{QUICK}    lenient: [empty_line, equal_lengths, target_eight_bit]\n");
    let edge = Edge::start(&shop(&lenient, &[&backend]));
    let mut client = edge.client();
    client.stream.set_nodelay(true).unwrap();
    let head =
        "\r\nPOST /\u{fc} HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\nHost: a\r\n\r\nhi";
    for byte in head.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.read().status, 200);
    // Some clients send an empty line after a body, and then nothing.
    client.send("\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed(), "without a word");
}

#[test]
fn a_page_of_ours_that_nobody_reads_has_an_end() {
    let backend = Backend::named("web.1");
    let limits = "limits: { read_rate: 500, rate_grace: 1s }";
    let settings = format!("    domains: [shop.example.com]\n    {limits}\n{QUICK}");
    let edge = Edge::start(&shop(&settings, &[&backend]).replace("default_app: shop\n", ""));
    // More pages than any buffer between us holds, and none of them read.
    let mut client = edge.client();
    let mut writer = client.stream.try_clone().unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n".repeat(1000);
    let writing = std::thread::spawn(move || {
        (0..10_000).any(|_| writer.write_all(requests.as_bytes()).is_err())
    });
    assert!(writing.join().unwrap(), "the connection was cut while it was written to");
    eventually("no connection is left", || {
        (edge.metric("homing_client_connections") < 0.5).then_some(())
    });
    assert!(client.stream.write_all(b"x").is_err());
}

#[test]
fn http2_frames_can_hold_what_http1_cannot_and_it_is_refused() {
    let backend = Backend::named("web.1");
    let head = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n";
    let edge = Edge::start_with(head, &shop(QUICK, &[&backend]));
    let client = Http2::connect(edge.address());
    for (number, value) in (1..).zip([" x", "x ", "\tx", "x\t"]) {
        assert_eq!(client.get("/", &[("x-padded", value)]).status, 400, "{value:?}");
        assert_eq!(line(&edge, number)["detail"], "field value with spaces around");
    }
    assert_eq!(client.get("/", &[("x-padded", "x x")]).status, 200);
    assert_eq!(backend.requests().len(), 1);
}
