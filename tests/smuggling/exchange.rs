//! One stream of a client: how it is sent, what comes back, and whether that is right.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use crate::recorder::{Entry, answer};
use crate::request::{End, Reading};
use crate::response::{self, Outcome, Stream};

/// How long Homing may be silent about what is none, or not whole, before the client says that it is over. It is
/// no limit for Homing: what it does afterwards is judged alike.
const QUIET: Duration = Duration::from_millis(150);

/// Between two parts of a stream, so that they travel apart.
const GAP: Duration = Duration::from_millis(1);

/// What a client sends, and how.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) bytes: Vec<u8>,
    /// Where it is cut into segments, in order.
    pub(crate) cuts: Vec<usize>,
    /// Where the client waits for its first response before it goes on.
    pub(crate) pause: Option<usize>,
}

/// What the client got.
#[derive(Clone, Debug)]
pub(crate) struct Saw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) how: Over,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Closed,
    Hung,
    Reset,
}

/// Sends it, and reads until the connection is over.
pub(crate) fn deliver(address: SocketAddr, delivery: &Delivery, expected: &Reading) -> Saw {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut saw = Saw { bytes: Vec::new(), how: Over::Hung };
    let (first, second) = delivery.bytes.split_at(delivery.pause.unwrap_or(0));
    if !first.is_empty() {
        let _gone = stream.write_all(first);
        let end = Instant::now() + PATIENCE;
        while responses(&saw.bytes, expected) == 0 && Instant::now() < end {
            if let Some(how) = step(&mut stream, &mut saw.bytes, PATIENCE) {
                return Saw { how, ..saw };
            }
        }
    }
    let base = first.len();
    let mut from = 0;
    for cut in delivery.cuts.iter().copied().chain([delivery.bytes.len()]) {
        let part = &second[from..cut.saturating_sub(base).max(from)];
        from += part.len();
        if stream.write_all(part).is_err() {
            break;
        }
        if from < second.len() {
            std::thread::sleep(GAP);
        }
    }
    finish(&mut stream, &mut saw, expected);
    saw
}

fn finish(stream: &mut TcpStream, saw: &mut Saw, expected: &Reading) {
    let (end, mut finished) = (Instant::now() + PATIENCE, false);
    let clean = matches!(expected.end, End::Clean);
    while Instant::now() < end {
        let answered = responses(&saw.bytes, expected) >= expected.requests.len();
        if answered && clean && !finished {
            let _gone = stream.shutdown(Shutdown::Write);
            finished = true;
        }
        let limit = if finished || !answered { PATIENCE } else { QUIET };
        match step(stream, &mut saw.bytes, limit) {
            Some(Over::Hung) if !finished => {
                let _gone = stream.shutdown(Shutdown::Write);
                finished = true;
            }
            Some(how) => {
                saw.how = how;
                return;
            }
            None => {}
        }
    }
}

/// Reads once. Answers when the connection is over, or nothing came in time.
pub(crate) fn step(stream: &mut TcpStream, bytes: &mut Vec<u8>, limit: Duration) -> Option<Over> {
    let mut buffer = [0; 4096];
    stream.set_read_timeout(Some(limit)).unwrap();
    match stream.read(&mut buffer) {
        Ok(0) => Some(Over::Closed),
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            None
        }
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            Some(Over::Hung)
        }
        Err(_) => Some(Over::Reset),
    }
}

/// How many responses are whole.
fn responses(mut bytes: &[u8], expected: &Reading) -> usize {
    let mut count = 0;
    for request in &expected.requests {
        match response::read(bytes, &request.method, Stream::Open) {
            Outcome::Whole(_, end) => bytes = &bytes[end..],
            Outcome::Cut(_) | Outcome::Refused(..) => break,
        }
        count += 1;
    }
    count
}

/// Judges what the backend wrote down.
pub(crate) fn judge_backend(expected: &Reading, entries: &[Entry]) -> Result<usize, String> {
    let mut whole = 0;
    for (number, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Strange(why, bytes) => {
                return Err(format!("the backend got what is no request ({why}): {bytes:?}"));
            }
            Entry::Whole(request) => {
                let Some(meant) = expected.requests.get(whole) else {
                    return Err(format!("the backend got one request too many: {request:?}"));
                };
                if !request.says(meant) {
                    return Err(format!("the backend got {request:?} instead of {meant:?}"));
                }
                if let Some((name, value)) = invented(request, meant) {
                    return Err(format!(
                        "the backend got a field that nobody sent: {name}: {value}"
                    ));
                }
                whole += 1;
            }
            Entry::Unfinished(None) => return Err("the backend got half a head".to_owned()),
            Entry::Unfinished(Some(request)) => {
                // One that is in doubt may be refused in its body.
                let doubted = || expected.requests.get(whole).filter(|meant| meant.doubt.is_some());
                let begun = expected.begun().filter(|_| whole == expected.requests.len());
                let Some(meant) = begun.or_else(doubted) else {
                    return Err(format!("the backend got half of a request: {request:?}"));
                };
                if !request.head_says(meant) || !meant.body.starts_with(&request.body) {
                    return Err(format!(
                        "the backend got half of {request:?} instead of {meant:?}"
                    ));
                }
                if number + 1 != entries.len() {
                    return Err("something follows a request that is not whole".to_owned());
                }
            }
        }
    }
    Ok(whole)
}

/// A field at the backend that neither the client nor Homing by its documents puts there.
fn invented(
    got: &crate::request::Request,
    meant: &crate::request::Request,
) -> Option<(String, String)> {
    const OURS: [&str; 9] = [
        "via",
        "x-forwarded-for",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
        "x-request-start",
        "transfer-encoding",
        "connection",
        "host",
    ];
    let mut others = got.fields.iter().filter(|(name, value)| {
        let ours = OURS.iter().any(|own| name.eq_ignore_ascii_case(own));
        let same =
            |(own, said): &(String, Vec<u8>)| own.eq_ignore_ascii_case(name) && said == value;
        !ours && !meant.fields.iter().any(same)
    });
    let (name, value) = others.next()?;
    Some((name.clone(), String::from_utf8_lossy(value).into_owned()))
}

/// Judges what the client got. `whole`: how many requests reached the backend.
pub(crate) fn judge_client(
    expected: &Reading,
    sent: &[u8],
    saw: &Saw,
    whole: usize,
) -> Result<(), String> {
    if saw.how == Over::Hung {
        return Err(format!("the connection stays open behind {:?}", lossy(&saw.bytes)));
    }
    // Where it can be told that the client asked for a head alone, an error has no body.
    let mut asked = &sent[expected.used..];
    while let [..=b' ', rest @ ..] = asked {
        asked = rest;
    }
    let hint = match response::read(&rest_of(&saw.bytes, expected), "GET", Stream::Closed) {
        Outcome::Cut(Some(_)) if asked.starts_with(b"HEAD") => "HEAD",
        Outcome::Cut(_) | Outcome::Refused(..) | Outcome::Whole(..) => "GET",
    };
    let methods = expected.requests.iter().map(|request| request.method.as_str()).chain([hint]);
    let (mut rest, mut good) = (&saw.bytes[..], 0);
    for (number, method) in methods.enumerate() {
        if rest.is_empty() {
            break;
        }
        let response = match response::read(rest, method, Stream::Closed) {
            Outcome::Whole(response, end) => {
                rest = &rest[end..];
                response
            }
            Outcome::Cut(_) if saw.how == Over::Reset => break,
            Outcome::Cut(_) => return Err(format!("the client got half of {:?}", lossy(rest))),
            Outcome::Refused(why, _) => {
                return Err(format!("the client got none ({why}): {:?}", lossy(rest)));
            }
        };
        if response.status >= 400 {
            if !rest.is_empty() {
                return Err(format!("bytes behind an error: {:?}", lossy(rest)));
            }
            break;
        }
        let Some(request) = expected.requests.get(number) else {
            return Err(format!("what is no request got {response:?}"));
        };
        if method != "HEAD" && response.body != answer(request).as_bytes() {
            return Err(format!("{request:?} got the answer {:?}", lossy(&response.body)));
        }
        good += 1;
    }
    if !rest.is_empty() && saw.how != Over::Reset {
        return Err(format!("bytes that answer nothing: {:?}", lossy(rest)));
    }
    if good > whole {
        return Err(format!("{good} good answers to {whole} requests"));
    }
    // What the reference takes without a doubt is served.
    if let Some(first) = expected.requests.first().filter(|first| first.doubt.is_none())
        && good == 0
    {
        return Err(format!("{first:?} was not served: {:?}", lossy(&saw.bytes)));
    }
    Ok(())
}

/// What stands behind the responses to whole requests.
fn rest_of(bytes: &[u8], expected: &Reading) -> Vec<u8> {
    let mut rest = bytes;
    for request in &expected.requests {
        match response::read(rest, &request.method, Stream::Open) {
            Outcome::Whole(_, end) => rest = &rest[end..],
            Outcome::Cut(_) | Outcome::Refused(..) => break,
        }
    }
    rest.to_vec()
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
