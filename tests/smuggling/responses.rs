//! Spoiled responses of a backend, through Homing to clients that read strictly.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::answers::{self, Answer, Then};
use crate::exchange::{Over, lossy, step};
use crate::harness::{Client, Edge, PATIENCE};
use crate::request::Reading;
use crate::requests::{LANES, TOLD, edge, told};
use crate::response::{self, Outcome, PUT_UP_WITH, Stream};
use crate::{Dice, seed, tell};

/// How long a client that has half of a response waits for more, before it says that it has enough.
const QUIET: Duration = Duration::from_millis(400);

/// A backend that says to `/answer/N` what stands there, and its path to everything else.
fn backend(answers: &Arc<Vec<Answer>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answers) = (listener.local_addr().unwrap(), Arc::clone(answers));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answers = Arc::clone(&answers);
            thread::spawn(move || serve(&answers, stream));
        }
    });
    address
}

fn serve(answers: &[Answer], mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        let reading = Reading::of(&bytes);
        bytes.drain(..reading.used);
        for request in reading.requests {
            let number = request.path.strip_prefix("/answer/").and_then(|text| text.parse().ok());
            let Some(answer) = number.and_then(|number: usize| answers.get(number)) else {
                let (body, length) = (&request.path, request.path.len());
                let _gone = stream.write_all(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes(),
                );
                continue;
            };
            // What comes a moment after a whole response, no reader can tell from the response to the next request.
            let whole = match response::read(&answer.bytes, answer.method, Stream::Open) {
                Outcome::Whole(_, end) => end,
                Outcome::Cut(_) | Outcome::Refused(..) => answer.bytes.len(),
            };
            let mut from = 0;
            let cuts = answer.cuts.iter().copied().filter(|cut| *cut < whole);
            for cut in cuts.chain([answer.bytes.len()]) {
                if stream.write_all(&answer.bytes[from..cut]).is_err() {
                    return;
                }
                from = cut;
            }
            match answer.then {
                Then::Keep => {}
                Then::Close => {
                    let _gone = stream.shutdown(Shutdown::Write);
                }
                Then::Reset => {
                    let _set =
                        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                    return;
                }
            }
        }
    }
}

/// Asks for one of the answers on a connection of its own, and then for something right on the same.
fn ask(address: SocketAddr, number: usize, method: &str) -> Result<(Vec<u8>, Over), String> {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{method} /answer/{number} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut bytes, end) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < end {
        if let Outcome::Whole(_, whole) = response::read(&bytes, method, Stream::Open) {
            if whole < bytes.len() {
                return Err(format!("more than one response: {:?}", lossy(&bytes)));
            }
            let own = format!("/own/{number}");
            let next = format!("GET {own} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
            let mut after = Vec::new();
            let _gone = stream.write_all(next.as_bytes());
            let _gone = stream.set_read_timeout(Some(PATIENCE));
            while !matches!(response::read(&after, "GET", Stream::Open), Outcome::Whole(..)) {
                if step(&mut stream, &mut after, PATIENCE).is_some() {
                    break;
                }
            }
            return match response::read(&after, "GET", Stream::Open) {
                Outcome::Whole(answer, end)
                    if answer.body == own.as_bytes() && end == after.len() =>
                {
                    Ok((bytes, Over::Hung))
                }
                Outcome::Cut(_) if after.is_empty() => Ok((bytes, Over::Closed)),
                Outcome::Whole(..) | Outcome::Cut(_) | Outcome::Refused(..) => {
                    Err(format!("the next request got {:?}", lossy(&after)))
                }
            };
        }
        let limit = if bytes.is_empty() { PATIENCE } else { QUIET };
        match step(&mut stream, &mut bytes, limit) {
            None => {}
            Some(how) => return Ok((bytes, how)),
        }
    }
    Err("neither an answer nor an end".to_owned())
}

/// Judges what a client got of an answer.
fn judge(answer: &Answer, bytes: &[u8], how: Over) -> Result<&'static str, String> {
    let behind = match answer.then {
        Then::Close => Stream::Closed,
        Then::Keep | Then::Reset => Stream::Open,
    };
    let mut meant = response::read(&answer.bytes, answer.method, behind);
    if let Outcome::Refused(why, _) = meant
        && PUT_UP_WITH.contains(&why)
    {
        let cleaned = response::cleaned(&answer.bytes);
        meant = match response::read(&cleaned, answer.method, behind) {
            Outcome::Whole(mut response, _) => {
                response.doubt = Some(why);
                Outcome::Whole(response, answer.bytes.len())
            }
            other @ (Outcome::Cut(_) | Outcome::Refused(..)) => other,
        };
    }
    // A reset may overtake what was sent before it.
    if let (Outcome::Whole(response, _), Then::Reset) = (&mut meant, answer.then) {
        response.doubt = Some("a reset");
    }
    let over = if how == Over::Closed { Stream::Closed } else { Stream::Open };
    let got = match response::read(bytes, answer.method, over) {
        Outcome::Whole(response, end) if end < bytes.len() => {
            return Err(format!("bytes behind {response:?}: {:?}", lossy(&bytes[end..])));
        }
        Outcome::Refused(why, _) => {
            return Err(format!("the client got none ({why}): {:?}", lossy(bytes)));
        }
        Outcome::Cut(head) if head.is_none() && !bytes.is_empty() && how != Over::Reset => {
            return Err(format!("the client got half a head: {:?}", lossy(bytes)));
        }
        Outcome::Cut(head) => Err(head),
        Outcome::Whole(response, _) => Ok(response),
    };
    let own_error =
        matches!(&got, Ok(own) if own.status >= 500 && own.header("x-homing-error").is_some());
    match (meant, got) {
        (Outcome::Whole(meant, end), Ok(got)) => {
            let doubt = meant.doubt.is_some() || end < answer.bytes.len();
            if own_error && doubt {
                return Ok("refused in doubt");
            }
            if got.status != meant.status || got.body != meant.body {
                return Err(format!("got {got:?} instead of {meant:?}"));
            }
            if let Some(name) = response::leaks(&got) {
                return Err(format!("a field of one connection goes on: {name}"));
            }
            Ok("right")
        }
        (Outcome::Whole(meant, end), Err(_)) => {
            let doubt = meant.doubt.is_some() || end < answer.bytes.len();
            if doubt { Ok("cut in doubt") } else { Err(format!("cut, instead of {meant:?}")) }
        }
        (Outcome::Cut(_) | Outcome::Refused(..), Ok(_)) if own_error => Ok("refused"),
        (Outcome::Cut(why), Ok(got)) => Err(format!("half of {why:?} ends cleanly: {got:?}")),
        (Outcome::Refused(why, _), Ok(got)) => {
            Err(format!("what is none ({why}) ends cleanly: {got:?}"))
        }
        (Outcome::Cut(None) | Outcome::Refused(_, None), Err(Some(head))) => {
            Err(format!("a head that is none goes on: {head:?}"))
        }
        (Outcome::Cut(_) | Outcome::Refused(..), Err(_)) => Ok("cut"),
    }
}

fn run(edge: &Edge, number: usize, answer: &Answer) -> Result<&'static str, String> {
    let (bytes, how) = ask(edge.address(), number, answer.method)?;
    let judged = judge(answer, &bytes, how)?;
    // Whoever comes next gets what is its own, whatever connections are kept.
    for turn in 0..2 {
        let own = format!("/next/{number}/{turn}");
        let next = Client::connect(edge.address()).get(&own, "Connection: close\r\n");
        if next.status != 200 || next.text() != own {
            return Err(format!("the next client got {next:?}"));
        }
    }
    Ok(judged)
}

#[test]
fn no_response_is_read_otherwise_by_a_client_than_by_a_strict_reader() {
    let answers = Arc::new(answers::all(&mut Dice(seed())));
    let (failures, counts) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<&str, usize>::new()));
    thread::scope(|scope| {
        for lane in 0..LANES {
            let (answers, failures, counts) = (&answers, &failures, &counts);
            scope.spawn(move || {
                let edge = edge(backend(answers));
                for (number, answer) in answers.iter().enumerate().skip(lane).step_by(LANES) {
                    match run(&edge, number, answer) {
                        Ok(kind) => *counts.lock().unwrap().entry(kind).or_default() += 1,
                        Err(why) => failures.lock().unwrap().push(told(
                            number,
                            &answer.name,
                            &answer.bytes,
                            &why,
                        )),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (count, wrong) = (answers.len(), failures.len());
    tell(&format!("{count} responses: {:?}, {wrong} wrong", counts.into_inner().unwrap()));
    assert!(failures.is_empty(), "{wrong} wrong\n{}", failures[..wrong.min(TOLD)].join("\n"));
}
