//! One thing that a client does, what may come of it, and whether everybody else is served as before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::connection::{Came, Connection, SOON};
use crate::wire::*;

/// A stream that no case uses.
const SIBLING: u32 = 9001;

/// What the PING behind each case says.
pub(crate) const BEHIND: &[u8; 8] = b"behindit";

/// A case, named by the rule that it is about.
pub(crate) struct Case {
    /// The section of the RFC, and the rule.
    pub(crate) rule: &'static str,
    pub(crate) may: May,
    pub(crate) how: How,
    pub(crate) send: Box<dyn Fn(&mut Connection)>,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// With settings, both ways.
    Open,
    /// The same, and all of it may end with the case.
    Alone,
    /// With nothing.
    Silent,
}

/// What may come of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum May {
    /// Nothing: the connection goes on.
    GoOn,
    /// The connection ends, with one of these codes.
    End(&'static [u32]),
    /// The connection ends, whether or not it is said why.
    Close,
    /// The stream is reset, or the connection ends, with one of these codes. Where one is allowed, so is the other
    /// (RFC 9113 §5.4.1).
    Reset(&'static [u32]),
    /// The request is malformed: the stream is reset as such, or answered with 400 (§8.1.1), or the connection ends.
    Malformed,
    /// The same, found only after the request was begun: its backend may have seen a part of it.
    MalformedLater,
    /// The request is answered with one of these, by Homing alone.
    Refused(&'static [u16]),
    /// The request is answered by its backend.
    Served,
}

impl May {
    /// What the page says of it.
    pub(crate) fn told(self) -> String {
        let list = |codes: &[u32]| {
            codes.iter().map(|code| format!("`{}`", name(*code))).collect::<Vec<_>>().join(" or ")
        };
        match self {
            Self::GoOn => "the connection goes on".to_owned(),
            Self::End(codes) => format!("GOAWAY, {}", list(codes)),
            Self::Close => "the connection ends".to_owned(),
            Self::Reset(codes) => format!("RST_STREAM or GOAWAY, {}", list(codes)),
            Self::Malformed => "400, or RST_STREAM, `PROTOCOL_ERROR`".to_owned(),
            Self::MalformedLater => {
                "the same; a backend may have seen the beginning, never all of it".to_owned()
            }
            Self::Refused(list) => list.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
            Self::Served => "served".to_owned(),
        }
    }
}

/// A case on a connection that has begun.
pub(crate) fn case(rule: &'static str, may: May, send: impl Fn(&mut Connection) + 'static) -> Case {
    Case { rule, may, how: How::Open, send: Box::new(send) }
}

/// A case that sends one frame.
pub(crate) fn one(rule: &'static str, may: May, frame: Vec<u8>) -> Case {
    case(rule, may, move |client| client.send(&frame))
}

/// What came of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Closed,
    GoneAway(u32),
    Nothing,
    Pong,
    Reset(u32),
    Status(u16),
}

/// Whether everything is as it has to be.
pub(crate) fn judge(
    case: &Case,
    number: usize,
    edge: SocketAddr,
    backend: &Backend,
) -> Result<(), String> {
    let mut client = match case.how {
        How::Open | How::Alone => Connection::open(edge),
        How::Silent => Connection::silent(edge),
    };
    client.path = format!("/case/{number}/");
    (case.send)(&mut client);
    if case.how != How::Silent {
        client.send(&frame(PING, NONE, 0, BEHIND));
    }
    let outcome = await_outcome(&mut client, case.may);
    let ended = match (case.may, outcome) {
        (May::GoOn, Outcome::Pong) | (May::Served, Outcome::Status(200)) => false,
        (May::End(codes), Outcome::GoneAway(code)) if codes.contains(&code) => true,
        (May::Close, Outcome::Closed | Outcome::GoneAway(_)) => true,
        (May::Reset(codes), Outcome::GoneAway(code)) if codes.contains(&code) => true,
        (May::Reset(codes), Outcome::Reset(code)) if codes.contains(&code) => false,
        (
            May::Malformed | May::MalformedLater,
            Outcome::Reset(PROTOCOL_ERROR) | Outcome::Status(400),
        ) => false,
        (May::Malformed | May::MalformedLater, Outcome::GoneAway(PROTOCOL_ERROR)) => true,
        (May::Refused(list), Outcome::Status(status)) if list.contains(&status) => false,
        _ => return Err(format!("{outcome:?} came, where {:?} may", case.may)),
    };
    if ended && !client.ends() {
        return Err(format!("{outcome:?}, but the connection stays open"));
    }
    if !ended && case.how == How::Open {
        client.path = format!("/sibling/{number}/");
        client.ask(SIBLING, WHOLE, "GET");
        expect_served(&mut client, SIBLING)?;
    }
    let mut other = Connection::open(edge);
    other.path = format!("/other/{number}/");
    other.ask(1, WHOLE, "GET");
    expect_served(&mut other, 1)?;
    judge_backend(case.may, &backend.seen(&format!("/case/{number}/")))
}

/// Reads until it is clear what came of it.
fn await_outcome(client: &mut Connection, may: May) -> Outcome {
    let end = Instant::now() + SOON;
    let mut status = None;
    while Instant::now() < end {
        let came = match client.next_within(end.saturating_duration_since(Instant::now())) {
            Came::Frame(came) => came,
            Came::Closed => return Outcome::Closed,
            Came::Nothing => return Outcome::Nothing,
        };
        let answers =
            matches!(may, May::Served | May::Refused(_) | May::Malformed | May::MalformedLater);
        match came.kind {
            GOAWAY if came.number(4) != 0 => return Outcome::GoneAway(came.number(4)),
            RST_STREAM if status.is_none() => return Outcome::Reset(came.number(0)),
            // An answer without the rest of the request may be followed by a reset that says so.
            HEADERS if answers && came.status() >= 200 => status = Some(came.status()),
            PING if came.flags & ACK != 0 && came.payload == BEHIND && matches!(may, May::GoOn) => {
                return Outcome::Pong;
            }
            _ => {}
        }
        if let Some(status) = status
            && came.flags & END_STREAM != 0
            && [HEADERS, DATA].contains(&came.kind)
        {
            return Outcome::Status(status);
        }
    }
    Outcome::Nothing
}

fn expect_served(client: &mut Connection, stream: u32) -> Result<(), String> {
    let end = Instant::now() + SOON;
    let mut status = None;
    while Instant::now() < end {
        match client.next_within(Duration::from_secs(5)) {
            Came::Frame(came) if came.stream == stream && came.kind == HEADERS => {
                status = Some(came.status());
            }
            Came::Frame(came) if came.stream == stream && came.kind == RST_STREAM => {
                return Err(format!("{} was reset: {}", client.path, came.number(0)));
            }
            Came::Frame(came) if came.stream == stream && came.flags & END_STREAM != 0 => break,
            Came::Frame(_) => {}
            other @ (Came::Closed | Came::Nothing) => {
                return Err(format!("{} got {other:?}", client.path));
            }
        }
    }
    match status {
        Some(200) => Ok(()),
        other => Err(format!("{} was answered {other:?}", client.path)),
    }
}

/// What a backend may have seen of it.
fn judge_backend(may: May, seen: &[crate::backend::Seen]) -> Result<(), String> {
    let (begun, whole) = (seen.len(), seen.iter().filter(|seen| seen.whole).count());
    let good = match may {
        May::Malformed | May::Refused(_) => begun == 0,
        May::MalformedLater => whole == 0,
        May::Served => whole == 1,
        May::Close | May::End(_) | May::GoOn | May::Reset(_) => true,
    };
    if good { Ok(()) } else { Err(format!("its backend saw {seen:?}")) }
}
