//! The cases: every shape with everything that is done to it, and what is known by name.

use crate::Dice;
use crate::exchange::Delivery;
use crate::shapes::{self, Parts, shapes};
use crate::spoil;

/// A stream of a client.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) delivery: Delivery,
}

/// Streams that are shaken by chance.
const SHAKEN: usize = 700;

/// All of them, the same for the same seed.
pub(crate) fn all(seed: u64) -> Vec<Case> {
    let mut dice = Dice(seed);
    let mut cases = Vec::new();
    for (name, make) in spoiled().into_iter().chain(by_name()) {
        let number = cases.len();
        cases.push(Case { name, delivery: way(&make.render(number), number, &mut dice) });
    }
    let shapes = shapes();
    for _ in 0..SHAKEN {
        let number = cases.len();
        let (name, parts) = &shapes[dice.roll(shapes.len())];
        let bytes = spoil::shake(parts, number, &mut dice);
        let delivery = way(&bytes, number, &mut dice);
        cases.push(Case { name: format!("{name}, shaken"), delivery });
    }
    cases
}

/// How the bytes travel: alone or before a good request, behind one or not, whole or in pieces.
fn way(bytes: &[u8], number: usize, dice: &mut Dice) -> Delivery {
    let mut delivery = Delivery { bytes: Vec::new(), cuts: Vec::new(), pause: None };
    if dice.roll(3) == 0 {
        delivery.bytes = shapes::before(number);
        delivery.pause = Some(delivery.bytes.len());
    }
    let begin = delivery.bytes.len();
    delivery.bytes.extend_from_slice(bytes);
    if dice.roll(4) > 0 {
        delivery.bytes.extend_from_slice(&shapes::after(number));
    }
    let end = delivery.bytes.len();
    delivery.cuts = match dice.roll(8) {
        // Not one byte with another, as far as there are few.
        0 => (begin + 1..end.min(begin + 300)).collect(),
        1..=4 => (0..=dice.roll(4)).map(|_| begin + dice.roll(end - begin)).collect(),
        _ => Vec::new(),
    };
    delivery.cuts.sort_unstable();
    delivery
}

/// Every shape, spoiled.
fn spoiled() -> Vec<(String, Parts)> {
    let mut cases = Vec::new();
    for (shape, parts) in shapes() {
        cases.push((shape.to_owned(), parts.clone()));
        let mut add = |what: String, make: &dyn Fn(&mut Parts)| {
            let mut parts = parts.clone();
            make(&mut parts);
            cases.push((format!("{shape}: {what}"), parts));
        };
        for field in spoil::FIELDS {
            let what = field.escape_ascii().to_string();
            add(format!("with {what}"), &|parts| parts.fields.push(field.to_vec()));
        }
        for field in [&b"Transfer-Encoding: chunked"[..], b"Content-Length: 3", b" X: folded"] {
            let what = field.escape_ascii().to_string();
            add(format!("before all {what}"), &|parts| parts.fields.insert(0, field.to_vec()));
        }
        for host in spoil::HOSTS {
            add(host.escape_ascii().to_string(), &|parts| parts.fields[0] = host.to_vec());
        }
        for (what, spoil) in spoil::LINES {
            add(what.to_owned(), &|parts| parts.line = spoil(&parts.line));
        }
        let in_words = |parts: &mut Parts, target: &str| {
            let words: Vec<&[u8]> = parts.line.split(|byte| *byte == b' ').collect();
            parts.line = [words[0], target.as_bytes(), words[2]].join(&b' ');
        };
        for target in spoil::TARGETS {
            add(format!("target {target:?}"), &|parts| in_words(parts, target));
        }
        if shape == "chunked" {
            for body in spoil::CHUNKS {
                let what = body.escape_ascii().to_string();
                add(what, &|parts| parts.body = body.to_vec());
            }
        }
        add("many fields".to_owned(), &|parts| {
            parts.fields.extend((0..600).map(|number| format!("X-{number}: y").into_bytes()));
        });
        add("a long field".to_owned(), &|parts| {
            parts.fields.push([&b"X: "[..], &[b'y'; 70_000]].concat());
        });
    }
    cases
}

/// What has a name in the literature, and is no shape with one thing done to it.
fn by_name() -> Vec<(String, Parts)> {
    let hidden = "GET /{pat}/hidden HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let raw = |name: &str, text: String| {
        let parts = Parts { line: text.into_bytes(), fields: Vec::new(), body: Vec::new() };
        (name.to_owned(), parts)
    };
    let post = "POST /{pat}/form HTTP/1.1\r\nHost: shop.example.com";
    let chunked = "Transfer-Encoding: chunked";
    let with = |name: &str, fields: &str, body: String| {
        let (line, rest) = (format!("{post}\r\n{fields}").into_bytes(), body.into_bytes());
        (name.to_owned(), Parts { line, fields: Vec::new(), body: rest })
    };
    let early = format!("0\r\n\r\n{hidden}");
    let length = early.len();
    let inner = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let mut cases = vec![
        with("CL.TE", &format!("Content-Length: {length}\r\n{chunked}"), early.clone()),
        with("TE.CL", &format!("{chunked}\r\nContent-Length: 4"), inner.clone()),
        with("CL.0", "Content-Length: 0", hidden.to_owned()),
        with(
            "CL.CL, the first",
            &format!("Content-Length: {length}\r\nContent-Length: 5"),
            early.clone(),
        ),
        with(
            "CL.CL, the last",
            &format!("Content-Length: 5\r\nContent-Length: {length}"),
            early.clone(),
        ),
        with("no length", "X: y", hidden.to_owned()),
        with("a length too short", "Content-Length: 3", "hello".to_owned()),
        with("a length too long", "Content-Length: 500", "hello".to_owned()),
        raw("HTTP/0.9", "GET /{pat}".to_owned()),
        raw("nothing but line ends", "\r\n\r\n\r\n".to_owned()),
        raw("TLS", "\x16\x03\x01\x02\x00\x01\x00".to_owned()),
        raw("a response", "HTTP/1.1 200 OK\r\nContent-Length: 0".to_owned()),
        raw("LF alone", "GET /{pat} HTTP/1.1\nHost: shop.example.com\n\n".to_owned()),
        raw("CR alone", "GET /{pat} HTTP/1.1\rHost: shop.example.com\r\r".to_owned()),
        raw("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM".to_owned()),
        raw("the PROXY protocol", format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n{hidden}")),
    ];
    for hide in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        " Transfer-Encoding: chunked",
    ] {
        cases.push(with(
            &format!("TE.TE with {hide:?}"),
            &format!("{chunked}\r\n{hide}\r\nContent-Length: 4"),
            inner.clone(),
        ));
        cases.push(with(
            &format!("CL.TE with {hide:?}"),
            &format!("Content-Length: {length}\r\n{hide}"),
            early.clone(),
        ));
    }
    for old in [
        "HTTP/1.0\r\nTransfer-Encoding: chunked",
        "HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked",
    ] {
        cases.push(raw("chunks of HTTP/1.0", format!("POST /{{pat}} {old}\r\n\r\n{inner}")));
    }
    // Two and three good ones at once.
    for count in 2..=4 {
        let kinds = [
            hidden.to_owned(),
            format!("{post}\r\n{chunked}\r\n\r\n{inner}"),
            format!("{post}\r\nContent-Length: 3\r\n\r\nabc"),
        ];
        let many: String = (0..count).map(|number| kinds[number % 3].clone()).collect();
        cases.push((format!("{count} at once"), Parts::raw(many.as_bytes())));
    }
    // An end of a connection in every place.
    let whole = format!("{post}\r\n{chunked}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    for end in (1..whole.len()).step_by(3) {
        cases.push((format!("cut at {end}"), Parts::raw(&whole.as_bytes()[..end])));
    }
    cases
}
