//! RFC 9113 §8: what a request is; RFC 7541: how its fields are written; RFC 8441: what CONNECT may ask for.

use crate::case::{Case, May, case};
use crate::connection::Connection;
use crate::wire::*;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        good(),
        pseudo(),
        paths(),
        names(),
        values(),
        lengths(),
        trailers(),
        connects(),
        blocks(),
        indexed(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is changed of the fields of a right request.
type Change = fn(&mut Vec<(String, String)>);

/// A `GET` with changed fields.
fn changed(rule: &'static str, may: May, change: Change) -> Case {
    case(rule, may, move |client| {
        let mut list = client.right("GET");
        change(&mut list);
        client.send(&frame(HEADERS, WHOLE, 1, &fields(&list)));
    })
}

/// A `GET` with one more field.
fn with(rule: &'static str, may: May, name: &'static str, value: &'static [u8]) -> Case {
    case(rule, may, move |client| client.ask_with(1, WHOLE, "GET", &[(name, value)]))
}

fn set(list: &mut [(String, String)], name: &str, value: &str) {
    list.iter_mut().find(|(key, _)| key == name).unwrap().1 = value.to_owned();
}

fn add(list: &mut Vec<(String, String)>, name: &str, value: &str) {
    list.push((name.to_owned(), value.to_owned()));
}

fn drop_field(list: &mut Vec<(String, String)>, name: &str) {
    list.retain(|(key, _)| key != name);
}

fn good() -> Vec<Case> {
    use May::Served;
    vec![
        case("9113 §8.1: GET", Served, |client| client.ask(1, WHOLE, "GET")),
        case("9113 §8.1: HEAD", Served, |client| client.ask(1, WHOLE, "HEAD")),
        case("9113 §8.1: POST with DATA", Served, |client| {
            client.ask(1, END_HEADERS, "POST");
            client.send(&frame(DATA, END_STREAM, 1, b"hello"));
        }),
        case("9113 §8.1: POST with trailers", Served, |client| {
            client.ask_with(1, END_HEADERS, "POST", &[("trailer", b"x-check")]);
            client.send(&frame(DATA, NONE, 1, b"hello"));
            client.send(&frame(HEADERS, WHOLE, 1, &fields(&[("x-check", "ok")])));
        }),
        case("9113 §8.1: an end in an empty DATA", Served, |client| {
            client.ask(1, END_HEADERS, "GET");
            client.send(&frame(DATA, END_STREAM, 1, b""));
        }),
        case("9113 §8.2.3: cookies in several fields", Served, |client| {
            client.ask_with(
                1,
                WHOLE,
                "GET",
                &[("cookie", b"a=b"), ("x", b"y"), ("cookie", b"c=d; e=f")],
            );
        }),
        with("9113 §8.2.2: te: trailers", Served, "te", b"trailers"),
        changed("9113 §8.3.1: Host that says what :authority says", Served, |list| {
            add(list, "host", "shop.example.com");
        }),
        changed("9113 §8.3.1: Host in place of :authority", Served, |list| {
            drop_field(list, ":authority");
            add(list, "host", "shop.example.com");
        }),
    ]
}

fn pseudo() -> Vec<Case> {
    use May::Malformed;
    vec![
        changed("9113 §8.3: an unknown pseudo-header", Malformed, |list| {
            list.insert(1, (":unknown".to_owned(), "x".to_owned()));
        }),
        changed("9113 §8.3: :status in a request", Malformed, |list| {
            list.insert(1, (":status".to_owned(), "200".to_owned()));
        }),
        changed("9113 §8.3: a pseudo-header behind a field", Malformed, |list| {
            list.insert(3, ("x".to_owned(), "y".to_owned()));
        }),
        changed("9113 §8.3.1: no :method", Malformed, |list| drop_field(list, ":method")),
        changed("9113 §8.3.1: no :scheme", Malformed, |list| drop_field(list, ":scheme")),
        changed("9113 §8.3.1: :method twice", Malformed, |list| list.insert(1, list[0].clone())),
        changed("9113 §8.3.1: :scheme twice", Malformed, |list| list.insert(1, list[1].clone())),
        changed("9113 §8.3.1: :path twice", Malformed, |list| list.insert(1, list[3].clone())),
        changed("9113 §8.3.1: :authority twice", Malformed, |list| {
            list.insert(1, list[2].clone())
        }),
        changed("9113 §8.3.1: a :method that is none", Malformed, |list| {
            set(list, ":method", "GE T")
        }),
        changed("9113 §8.3.1: an empty :method", Malformed, |list| set(list, ":method", "")),
        changed("9113 §8.3.1: a :scheme that is none", Malformed, |list| {
            set(list, ":scheme", "ht tp")
        }),
        changed("9113 §8.3.1: an empty :scheme", Malformed, |list| set(list, ":scheme", "")),
        changed("9113 §8.3.1: a scheme that is not HTTP", Malformed, |list| {
            set(list, ":scheme", "ftp")
        }),
        changed("9113 §8.3.1: an :authority with user information", Malformed, |list| {
            set(list, ":authority", "user@shop.example.com");
        }),
        changed("9113 §8.3.1: an :authority with a path", Malformed, |list| {
            set(list, ":authority", "shop.example.com/x");
        }),
        changed("9113 §8.3.1: an :authority with a space", Malformed, |list| {
            set(list, ":authority", "shop example.com");
        }),
        changed("9113 §8.3.1: an empty :authority", Malformed, |list| set(list, ":authority", "")),
        changed("9113 §8.3.1: neither :authority nor Host", Malformed, |list| {
            drop_field(list, ":authority")
        }),
        changed("9113 §8.3.1: Host that says another than :authority", Malformed, |list| {
            add(list, "host", "other.example.com");
        }),
        changed("9113 §8.3.1: Host with another port than :authority", Malformed, |list| {
            add(list, "host", "shop.example.com:81");
        }),
        changed("9110 §7.2: Host twice", Malformed, |list| {
            add(list, "host", "shop.example.com");
            add(list, "host", "other.example.com");
        }),
        changed("9110 §7.2: Host that is none, in place of :authority", Malformed, |list| {
            drop_field(list, ":authority");
            add(list, "host", "shop example.com");
        }),
    ]
}

/// A `GET` of a path that is none. The number of the case is not in it: nothing may come at all.
fn path(rule: &'static str, form: &'static str) -> Case {
    case(rule, May::Malformed, move |client| {
        let path = form.replace('/', &client.path);
        let mut list = client.right("GET");
        set(&mut list, ":path", &path);
        client.send(&frame(HEADERS, WHOLE, 1, &fields(&list)));
    })
}

fn paths() -> Vec<Case> {
    vec![
        changed("9113 §8.3.1: no :path", May::Malformed, |list| drop_field(list, ":path")),
        path("9113 §8.3.1: an empty :path", ""),
        path("9113 §8.3.1: * for another method than OPTIONS", "*"),
        path("9113 §8.3.1: a :path without a slash", "x/"),
        path("9113 §8.3.1: a :path in absolute form", "http:///shop.example.com/"),
        // The http crate cuts it off before anybody sees it: what is left is what everybody decides about.
        changed("9113 §8.3.1: a :path with a fragment", May::Served, |list| {
            list[3].1.push_str("#x")
        }),
        path("9113 §8.3.1: a :path with a space", "/ x"),
        path("9113 §8.2.1: a :path with CR and LF", "/ HTTP/1.1\r\nX: y\r\n\r\n"),
        path("9113 §8.2.1: a :path with a control character", "/\u{1}"),
        path("9113 §8.2.1: a :path with NUL", "/\0"),
        path("9113 §8.2.1: a :path with DEL", "/\u{7f}"),
        path("9112 §3.2: a :path beyond ASCII", "/\u{fc}"),
    ]
}

fn names() -> Vec<Case> {
    use May::Malformed;
    let mut cases = vec![
        with("9113 §8.2.1: an upper case name", Malformed, "X-Upper", b"y"),
        with("9113 §8.2.1: an upper case letter at the end of a name", Malformed, "x-uppeR", b"y"),
        with("9113 §8.2.1: an empty name", Malformed, "", b"y"),
        with("9113 §8.2.1: a name with a space", Malformed, "x y", b"z"),
        with("9113 §8.2.1: a name with a space behind it", Malformed, "x ", b"z"),
        with("9113 §8.2.1: a name with a colon", Malformed, "x:y", b"z"),
        with("9113 §8.2.1: a name with CR and LF", Malformed, "x\r\ny", b"z"),
        with("9113 §8.2.1: a name with NUL", Malformed, "x\0", b"z"),
        with("9113 §8.2.1: a name with DEL", Malformed, "x\u{7f}", b"z"),
        with("9113 §8.2.1: a name beyond ASCII", Malformed, "x\u{fc}", b"z"),
        with("9113 §8.2.1: a name with a parenthesis", Malformed, "x(y)", b"z"),
    ];
    const SPECIFIC: [(&str, &str, &[u8]); 9] = [
        ("9113 §8.2.2: Connection", "connection", b"keep-alive"),
        ("9113 §8.2.2: Connection with upgrade", "connection", b"upgrade"),
        ("9113 §8.2.2: Keep-Alive", "keep-alive", b"timeout=5"),
        ("9113 §8.2.2: Proxy-Connection", "proxy-connection", b"keep-alive"),
        ("9113 §8.2.2: Transfer-Encoding", "transfer-encoding", b"chunked"),
        ("9113 §8.2.2: Transfer-Encoding in another case", "transfer-encoding", b"Chunked"),
        ("9113 §8.2.2: Upgrade", "upgrade", b"websocket"),
        ("9113 §8.2.2: te other than trailers", "te", b"gzip"),
        ("9113 §8.2.2: te with more than trailers", "te", b"trailers, deflate;q=0.5"),
    ];
    cases.extend(SPECIFIC.map(|(rule, name, value)| with(rule, Malformed, name, value)));
    cases
}

fn values() -> Vec<Case> {
    use May::{Malformed, Served};
    vec![
        with("9113 §8.2.1: a value with NUL", Malformed, "x", b"a\0b"),
        with("9113 §8.2.1: a value with CR", Malformed, "x", b"a\rb"),
        with("9113 §8.2.1: a value with LF", Malformed, "x", b"a\nb"),
        with("9113 §8.2.1: a value with CR and LF", Malformed, "x", b"a\r\ny: z"),
        with("9113 §8.2.1: a value with a control character", Malformed, "x", b"a\x01b"),
        with("9113 §8.2.1: a value with DEL", Malformed, "x", b"a\x7fb"),
        with("9113 §8.2.1: a value with a space before it", Malformed, "x", b" a"),
        with("9113 §8.2.1: a value with a tab before it", Malformed, "x", b"\ta"),
        with("9113 §8.2.1: a value with a space behind it", Malformed, "x", b"a "),
        with("9110 §5.5: a value beyond ASCII", Served, "x", b"\xc3\xbc"),
        with("9110 §5.5: a value with a tab in it", Served, "x", b"a\tb"),
        with("9110 §5.5: an empty value", Served, "x", b""),
    ]
}

/// A `POST` with such lengths, and with such DATA.
fn body(
    rule: &'static str,
    may: May,
    lengths: &'static [&'static [u8]],
    data: &'static [&'static [u8]],
) -> Case {
    case(rule, may, move |client| {
        let more: Vec<(&str, &[u8])> =
            lengths.iter().map(|length| ("content-length", *length)).collect();
        client.ask_with(1, if data.is_empty() { WHOLE } else { END_HEADERS }, "POST", &more);
        for (number, piece) in data.iter().enumerate() {
            let flags = if number + 1 == data.len() { END_STREAM } else { NONE };
            client.send(&frame(DATA, flags, 1, piece));
        }
    })
}

fn lengths() -> Vec<Case> {
    use May::{Malformed, MalformedLater, Served};
    vec![
        body("9113 §8.1.1: DATA as long as it says", Served, &[b"5"], &[b"hel", b"lo"]),
        body("9113 §8.1.1: a length of nothing, and nothing", Served, &[b"0"], &[]),
        body("9113 §8.1.1: a length and no DATA at all", Malformed, &[b"5"], &[]),
        body("9113 §8.1.1: one DATA longer than it says", MalformedLater, &[b"1"], &[b"test"]),
        body("9113 §8.1.1: one DATA shorter than it says", MalformedLater, &[b"5"], &[b"test"]),
        body(
            "9113 §8.1.1: several DATA longer than it says",
            MalformedLater,
            &[b"1"],
            &[b"te", b"st"],
        ),
        body(
            "9113 §8.1.1: several DATA shorter than it says",
            MalformedLater,
            &[b"9"],
            &[b"te", b"st"],
        ),
        body("9113 §8.1.1: an empty DATA where some was to come", MalformedLater, &[b"1"], &[b""]),
        body("9112 §6.3: a length that is none", Malformed, &[b"five"], &[b"hello"]),
        body("9112 §6.3: a length below nothing", Malformed, &[b"-5"], &[b"hello"]),
        body("9112 §6.3: a length with a sign", Malformed, &[b"+5"], &[b"hello"]),
        body("9112 §6.3: two lengths that differ", Malformed, &[b"5", b"6"], &[b"hello"]),
        body("9112 §6.3: a list of lengths", Malformed, &[b"5, 6"], &[b"hello"]),
        body(
            "9112 §6.3: a length that no number holds",
            Malformed,
            &[b"99999999999999999999"],
            &[b"hello"],
        ),
    ]
}

/// A `POST` with these trailers.
fn trailer(rule: &'static str, may: May, name: &'static str, value: &'static [u8]) -> Case {
    case(rule, may, move |client| {
        client.ask(1, END_HEADERS, "POST");
        client.send(&frame(DATA, NONE, 1, b"hello"));
        client.send(&frame(HEADERS, WHOLE, 1, &fields(&[(name, value)])));
    })
}

fn trailers() -> Vec<Case> {
    use May::MalformedLater;
    vec![
        trailer("9113 §8.1: trailers with a pseudo-header", MalformedLater, ":method", b"POST"),
        trailer("9113 §8.1: trailers with an upper case name", MalformedLater, "X-Upper", b"y"),
        trailer("9113 §8.1: trailers with Connection", MalformedLater, "connection", b"close"),
        trailer("9113 §8.1: trailers with CR and LF", MalformedLater, "x", b"a\r\ny: z"),
        case(
            "9113 §8.1: DATA behind trailers",
            May::Reset(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            |client| {
                client.path.push_str("hold");
                client.ask(1, END_HEADERS, "POST");
                client.send(&frame(HEADERS, WHOLE, 1, &fields(&[("x", "y")])));
                client.send(&frame(DATA, END_STREAM, 1, b"x"));
            },
        ),
    ]
}

fn connects() -> Vec<Case> {
    use May::Malformed;
    const REFUSED: May = May::Refused(&[400, 405, 501]);
    let connect = |client: &mut Connection, more: &[(&str, &str)]| {
        let list =
            [&[(":method", "CONNECT"), (":authority", "shop.example.com:443")], more].concat();
        client.send(&frame(HEADERS, END_HEADERS, 1, &fields(&list)));
    };
    vec![
        case("9113 §8.5: CONNECT", REFUSED, move |client| connect(client, &[])),
        case("9113 §8.5: CONNECT with :path and :scheme", Malformed, move |client| {
            connect(client, &[(":scheme", "http"), (":path", "/")]);
        }),
        case("8441 §4: :protocol without CONNECT", Malformed, |client| {
            let mut list = client.right("GET");
            list.insert(1, (":protocol".to_owned(), "websocket".to_owned()));
            client.send(&frame(HEADERS, WHOLE, 1, &fields(&list)));
        }),
        case("8441 §4: CONNECT with :protocol and no :path", Malformed, move |client| {
            connect(client, &[(":protocol", "websocket"), (":scheme", "http")]);
        }),
        case(
            "8441 §4: CONNECT for an unknown protocol",
            May::Refused(&[400, 404, 405, 501]),
            |client| {
                let mut list = client.right("CONNECT");
                list.insert(1, (":protocol".to_owned(), "gopher".to_owned()));
                client.send(&frame(HEADERS, END_HEADERS, 1, &fields(&list)));
            },
        ),
    ]
}

/// A block written in another way.
fn written(rule: &'static str, may: May, write: fn(&Connection) -> Vec<u8>) -> Case {
    case(rule, may, move |client| {
        let block = write(client);
        client.send(&frame(HEADERS, WHOLE, 1, &block));
    })
}

/// `GET` and `http` of the static table, and the path.
fn start(client: &Connection) -> Vec<u8> {
    [&[0x82, 0x86, 0x04][..], &text(client.path.as_bytes())].concat()
}

fn blocks() -> Vec<Case> {
    use May::Served;
    vec![
        written("7541 §6.1: indexed fields", Served, |client| {
            [start(client), [0x01, 16].to_vec(), b"shop.example.com".to_vec()].concat()
        }),
        written("7541 §6.2.1: a literal with indexing, of a known name", Served, |client| {
            [start(client), [0x41, 16].to_vec(), b"shop.example.com".to_vec()].concat()
        }),
        written(
            "7541 §6.2.1: a literal with indexing, of a new name, and its index",
            Served,
            |client| {
                let new = [&[0x40][..], &text(b"x-new"), &text(b"value"), &[0xbe]].concat();
                [start(client), [0x01, 16].to_vec(), b"shop.example.com".to_vec(), new].concat()
            },
        ),
        written("7541 §6.2.3: a literal that is never indexed", Served, |client| {
            [start(client), [0x11, 16].to_vec(), b"shop.example.com".to_vec()].concat()
        }),
        written("7541 §5.2: a literal in Huffman's code", Served, |client| {
            // "www.example.com", from RFC 7541, C.4.1.
            let coded =
                [0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
            let plain = [0x01, 16].iter().copied().chain(*b"shop.example.com");
            let field = [&[0x00][..], &text(b"x-site"), &coded].concat();
            [start(client), plain.collect(), field].concat()
        }),
        written("7541 §6.3: a smaller table, at the beginning", Served, |client| {
            [vec![0x30], start(client), [0x01, 16].to_vec(), b"shop.example.com".to_vec()].concat()
        }),
        written("7541 §6.3: two changes of the table", Served, |client| {
            [
                vec![0x20, 0x3f, 0x09],
                start(client),
                [0x01, 16].to_vec(),
                b"shop.example.com".to_vec(),
            ]
            .concat()
        }),
    ]
}

fn indexed() -> Vec<Case> {
    const BAD: May = May::End(&[COMPRESSION_ERROR, PROTOCOL_ERROR]);
    fn host(client: &Connection) -> Vec<u8> {
        [start(client), [0x01, 16].to_vec(), b"shop.example.com".to_vec()].concat()
    }
    vec![
        written("7541 §2.3.3: an index beyond both tables", BAD, |client| {
            [host(client), vec![0xc6]].concat()
        }),
        written("7541 §2.3.3: a name beyond both tables", BAD, |client| {
            [&host(client)[..], &[0x7f, 0x40], &text(b"x")].concat()
        }),
        written("7541 §4.2: a change of the table at the end", BAD, |client| {
            [host(client), vec![0x20]].concat()
        }),
        written("7541 §5.1: a number that does not end", BAD, |client| {
            [&host(client)[..], &[0xff; 12]].concat()
        }),
        written("7541 §5.2: padding longer than 7 bits", BAD, |client| {
            [&host(client)[..], &[0x00], &text(b"x"), &[0x82, 0x07, 0xff]].concat()
        }),
        written("7541 §5.2: padding of zeros", BAD, |client| {
            [&host(client)[..], &[0x00], &text(b"x"), &[0x81, 0x00]].concat()
        }),
        written("7541 §5.2: the symbol EOS", BAD, |client| {
            [&host(client)[..], &[0x00], &text(b"x"), &[0x84, 0xff, 0xff, 0xff, 0xff]].concat()
        }),
        written("7541 §5.2: a string longer than its block", BAD, |client| {
            [&host(client)[..], &[0x00], &text(b"x"), &[0x7f, 0x80, 0x10]].concat()
        }),
        written("7541 §6.1: the index 0", BAD, |client| [host(client), vec![0x80]].concat()),
        written("7541 §6.3: a table larger than SETTINGS allow", BAD, |client| {
            [&[0x3f, 0xe1, 0xff, 0x03][..], &host(client)].concat()
        }),
    ]
}
