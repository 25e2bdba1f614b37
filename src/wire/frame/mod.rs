//! The frames that a client sends over HTTP/2 (RFC 9113 §4, §6), read while their bytes pass by: nothing is kept of a
//! payload but the few bytes at its beginning that a rule is about.
//!
//! Two things are decided here. What a frame looks like, whatever the streams are about: the h2 crate refuses that
//! too, but mostly as `PROTOCOL_ERROR` where the RFC names another code. And how much of what costs us and earns the
//! client nothing it may send: h2 bounds what takes memory, and not what takes time. What streams, windows and field
//! blocks hold is left to h2. `docs/http2.md` tells who bounds what.

mod budget;
mod fault;

use std::time::Duration;

pub use self::budget::Allowance;
use self::budget::Budget;
pub use self::fault::{Code, FrameFault};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

/// A setting (RFC 9113 §6.5.1).
const SETTING_BYTES: usize = 6;

/// A priority in HEADERS (§6.2).
const PRIORITY_BYTES: usize = 5;

/// As much of a field as tells whether it is a pseudo-header field: how it is written, the length of a new name, and
/// its first byte.
const FIELD_BYTES: usize = 3;

/// How many of the requests that ended last are known, so that what goes on with them gets the right code. For older
/// ones it is h2's.
const ENDED_MAX: usize = 64;

/// Frames that a client may send for nothing beside each request: it may tell a priority and change it, open the
/// windows of the stream, give it up.
const FRAMES_PER_REQUEST: u64 = 8;

/// Bytes that a client sends as DATA and that allow for another frame.
const DATA_BYTES_PER_FRAME: u64 = 256;

/// Bytes that we send and that allow for another frame of the client. Clients open windows every 4 KB (Go) to
/// several MB, two at a time, and some measure the line with a PING each time that something comes (gRPC). What we
/// answer to a PING (17 bytes) or send into a window of one byte (10) must not pay for the next one.
const SENT_BYTES_PER_FRAME: u64 = 64;

/// What a stream costs that is given up, in requests: who gives up fewer than one in four is never limited.
const REQUESTS_PER_RESET: u64 = 4;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// How much a client may send of what brings it nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameLimits {
    /// Longest payload of a frame, in bytes: what our SETTINGS say.
    pub frame_bytes: u32,
    /// Frames that bring their sender nothing. One costs a microsecond of processor time or so: 5000 a second are less
    /// than a hundredth of a core. No client that is not broken sends as many: a gRPC client on the same machine
    /// that measures the line all the time comes nearest.
    pub frames: Allowance,
    /// Streams that a client gives up, in requests: each takes four, each request gives one back. A browser gives up
    /// a page with a hundred of them; nobody does so five times a second.
    pub resets: Allowance,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 16_384,
            frames: Allowance { most: 10_000, per_second: 5000 },
            resets: Allowance {
                most: 500 * REQUESTS_PER_RESET,
                per_second: 50 * REQUESTS_PER_RESET,
            },
        }
    }
}

/// The first fault of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Broken {
    /// How many bytes of the piece may still be handed on: the whole frames before the fault.
    pub good: usize,
    /// What is wrong.
    pub fault: FrameFault,
}

/// Reads the frames of one connection, however many pieces they come in.
#[derive(Debug)]
pub struct FrameReader {
    limits: FrameLimits,
    frames: Budget,
    resets: Budget,
    step: Step,
    /// The head, and then the beginning of the payload.
    held: [u8; HEAD_BYTES],
    held_bytes: usize,
    frame: Frame,
    /// The stream whose field block goes on in the next frame.
    block: Option<u32>,
    /// The last stream that was opened.
    highest: u32,
    /// Streams that the client ended, the newest over the oldest.
    ended: [u32; ENDED_MAX],
    ended_count: usize,
    /// Bytes of work that did not yet make a frame.
    rest_in: u64,
    rest_out: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// So many bytes of the preface came.
    Preface(usize),
    /// The head of the first frame.
    First,
    Head,
    /// The beginning of a payload: so many bytes that a rule is about.
    Begin(usize),
    /// What no rule is about.
    Payload,
}

/// The frame that is read at present.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: u32,
    /// What did not come yet.
    left: u32,
    /// Whether these are HEADERS behind a request.
    is_trailer: bool,
}

/// The kinds of frames (RFC 9113 §6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Continuation,
    Data,
    GoAway,
    Headers,
    Ping,
    Priority,
    PushPromise,
    Reset,
    Settings,
    Unknown,
    WindowUpdate,
}

impl Frame {
    fn of(head: [u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        // The first bit is reserved, and ignored.
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Self { kind, flags, stream, length, left: length, is_trailer: false }
    }

    fn kind(self) -> Kind {
        match self.kind {
            0x0 => Kind::Data,
            0x1 => Kind::Headers,
            0x2 => Kind::Priority,
            0x3 => Kind::Reset,
            0x4 => Kind::Settings,
            0x5 => Kind::PushPromise,
            0x6 => Kind::Ping,
            0x7 => Kind::GoAway,
            0x8 => Kind::WindowUpdate,
            0x9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What is wrong with its head alone.
    fn fault(self) -> Option<FrameFault> {
        use FrameFault::{Push, StreamEven, StreamMissing, StreamNamed, WrongLength};
        let in_stream = self.stream != 0;
        let needs = |length: bool| (!length).then_some(WrongLength);
        let of_stream = |good: bool| if in_stream { needs(good) } else { Some(StreamMissing) };
        let of_connection = |good: bool| if in_stream { Some(StreamNamed) } else { needs(good) };
        match self.kind() {
            Kind::Continuation => of_stream(true),
            Kind::Data => of_stream(!self.has(PADDED) || self.length >= 1),
            Kind::GoAway => of_connection(self.length >= 8),
            Kind::Headers if in_stream && self.stream.is_multiple_of(2) => Some(StreamEven),
            Kind::Headers => of_stream(self.length as usize >= self.prefix_bytes()),
            Kind::Ping => of_connection(self.length == 8),
            Kind::Priority => of_stream(self.length == 5),
            Kind::PushPromise => Some(Push),
            Kind::Reset => of_stream(self.length == 4),
            Kind::Settings if self.has(ACK) => of_connection(self.length == 0),
            Kind::Settings => of_connection(self.length.is_multiple_of(6)),
            Kind::WindowUpdate => needs(self.length == 4),
            Kind::Unknown => None,
        }
    }

    /// How many bytes of DATA or HEADERS stand before what they carry.
    fn prefix_bytes(self) -> usize {
        let is_weighted = self.kind() == Kind::Headers && self.has(PRIORITY);
        usize::from(self.has(PADDED)) + if is_weighted { PRIORITY_BYTES } else { 0 }
    }

    /// How many bytes at the beginning of its payload a rule is about.
    fn begin_bytes(self) -> usize {
        match self.kind() {
            Kind::Data => self.prefix_bytes(),
            Kind::Headers if self.is_trailer => {
                (self.prefix_bytes() + FIELD_BYTES).min(self.length as usize)
            }
            Kind::Headers => self.prefix_bytes(),
            Kind::Priority | Kind::WindowUpdate => 4,
            Kind::Settings if self.length > 0 => SETTING_BYTES,
            Kind::Continuation
            | Kind::GoAway
            | Kind::Ping
            | Kind::PushPromise
            | Kind::Reset
            | Kind::Settings
            | Kind::Unknown => 0,
        }
    }

    /// What is wrong with the beginning of its payload.
    fn begin_fault(self, begin: &[u8]) -> Option<FrameFault> {
        match self.kind() {
            Kind::Data => (u32::from(begin[0]) >= self.length).then_some(FrameFault::Padding),
            Kind::Headers => self.headers_fault(begin),
            Kind::Priority => self.dependency_fault(begin),
            Kind::Settings => setting_fault(number(&begin[..2]), number(&begin[2..])),
            Kind::WindowUpdate => {
                (number(begin) & 0x7fff_ffff == 0).then_some(FrameFault::WindowZero)
            }
            Kind::Continuation
            | Kind::GoAway
            | Kind::Ping
            | Kind::PushPromise
            | Kind::Reset
            | Kind::Unknown => None,
        }
    }

    fn headers_fault(self, begin: &[u8]) -> Option<FrameFault> {
        let (prefix, field) = begin.split_at(self.prefix_bytes());
        let padding = if self.has(PADDED) { u32::from(prefix[0]) } else { 0 };
        if prefix.len() as u32 + padding > self.length {
            return Some(FrameFault::Padding);
        }
        if let Some(priority) = prefix.last_chunk::<PRIORITY_BYTES>()
            && let Some(fault) = self.dependency_fault(priority)
        {
            return Some(fault);
        }
        (self.is_trailer && is_pseudo(field)).then_some(FrameFault::TrailerPseudo)
    }

    /// `bytes` begin with the stream that this one depends on.
    fn dependency_fault(self, bytes: &[u8]) -> Option<FrameFault> {
        let depends = number(&bytes[..4]) & 0x7fff_ffff == self.stream;
        depends.then_some(FrameFault::DependsOnItself)
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Whether a field is a pseudo-header field, as far as its beginning tells (RFC 7541 §6, appendix A): of the static
/// table the first 14 are, and a name may be written out. Pseudo-header fields come first, or h2 refuses them.
fn is_pseudo(field: &[u8]) -> bool {
    const STATIC_PSEUDO: std::ops::RangeInclusive<u8> = 1..=14;
    let Some(first) = field.first() else { return false };
    let name = match first {
        0x80.. => first & 0x7f,
        0x40.. => first & 0x3f,
        0x20.. => return false,
        _ => first & 0x0f,
    };
    let is_written = match field.get(1..3) {
        Some([length, begin]) if length & 0x80 == 0 => *begin == b':',
        // A colon in Huffman's code: 1011100.
        Some([_, begin]) => begin & 0xfe == 0xb8,
        _ => false,
    };
    STATIC_PSEUDO.contains(&name) || (name == 0 && *first < 0x80 && is_written)
}
/// What is wrong with a setting (RFC 9113 §6.5.2, RFC 8441 §3).
fn setting_fault(name: u32, value: u32) -> Option<FrameFault> {
    match name {
        0x2 | 0x8 if value > 1 => Some(FrameFault::SettingValue),
        0x4 if value > 0x7fff_ffff => Some(FrameFault::SettingWindow),
        0x5 if !(16_384..=16_777_215).contains(&value) => Some(FrameFault::SettingValue),
        _ => None,
    }
}

impl FrameReader {
    /// A reader for a connection that begins `now`, on any clock that never goes back.
    pub fn new(limits: FrameLimits, now: Duration) -> Self {
        Self {
            limits,
            frames: Budget::new(limits.frames, now),
            resets: Budget::new(limits.resets, now),
            step: Step::Preface(0),
            held: [0; HEAD_BYTES],
            held_bytes: 0,
            frame: Frame::default(),
            block: None,
            highest: 0,
            ended: [0; ENDED_MAX],
            ended_count: 0,
            rest_in: 0,
            rest_out: 0,
        }
    }

    /// Whether a field block was begun that is not whole yet.
    pub fn is_in_block(&self) -> bool {
        let at_block = matches!(self.step, Step::Begin(_) | Step::Payload)
            && matches!(self.frame.kind(), Kind::Headers | Kind::Continuation);
        self.block.is_some() || at_block
    }

    /// Counts what was sent to the client.
    pub fn note_sent(&mut self, bytes: usize) {
        self.rest_out += bytes as u64;
        self.frames.earn(self.rest_out / SENT_BYTES_PER_FRAME);
        self.rest_out %= SENT_BYTES_PER_FRAME;
    }

    /// Reads the next piece. `now` is asked only when a budget is used up.
    ///
    /// # Errors
    /// At the first fault. Nothing may be read after it.
    pub fn read(&mut self, piece: &[u8], now: impl Fn() -> Duration) -> Result<(), Broken> {
        let (mut at, mut good) = (0, 0);
        while at < piece.len() {
            if self.held_bytes == 0 && matches!(self.step, Step::First | Step::Head) {
                good = at;
            }
            let taken = self.step(&piece[at..], &now);
            at += taken.map_err(|fault| Broken { good, fault })?;
        }
        Ok(())
    }

    /// Takes what belongs to the present step. Answers how many bytes that were.
    fn step(&mut self, rest: &[u8], now: &impl Fn() -> Duration) -> Result<usize, FrameFault> {
        match self.step {
            Step::Preface(came) => self.preface(came, rest),
            Step::First | Step::Head => {
                let (taken, is_whole) = self.hold(rest, HEAD_BYTES);
                if is_whole {
                    self.head(now)?;
                }
                Ok(taken)
            }
            Step::Begin(wanted) => {
                let (taken, is_whole) = self.hold(rest, wanted);
                self.frame.left -= taken as u32;
                if is_whole {
                    self.begin(wanted, now)?;
                }
                Ok(taken)
            }
            Step::Payload => {
                let taken = rest.len().min(self.frame.left as usize);
                self.frame.left -= taken as u32;
                if self.frame.left == 0 {
                    self.step = Step::Head;
                }
                Ok(taken)
            }
        }
    }

    fn preface(&mut self, came: usize, rest: &[u8]) -> Result<usize, FrameFault> {
        let taken = rest.len().min(PREFACE.len() - came);
        let end = came + taken;
        if PREFACE[came..end] != rest[..taken] {
            return Err(FrameFault::Preface);
        }
        self.step = if end == PREFACE.len() { Step::First } else { Step::Preface(end) };
        Ok(taken)
    }

    /// Keeps bytes until there are `wanted`. Answers how many were taken, and whether that is all.
    fn hold(&mut self, rest: &[u8], wanted: usize) -> (usize, bool) {
        let taken = rest.len().min(wanted - self.held_bytes);
        self.held[self.held_bytes..self.held_bytes + taken].copy_from_slice(&rest[..taken]);
        self.held_bytes += taken;
        let is_whole = self.held_bytes == wanted;
        if is_whole {
            self.held_bytes = 0;
        }
        (taken, is_whole)
    }

    /// A head is whole.
    fn head(&mut self, now: &impl Fn() -> Duration) -> Result<(), FrameFault> {
        let mut frame = Frame::of(self.held);
        if frame.length > self.limits.frame_bytes {
            return Err(FrameFault::FrameTooLong);
        }
        if self.step == Step::First && (frame.kind() != Kind::Settings || frame.has(ACK)) {
            return Err(FrameFault::PrefaceWithoutSettings);
        }
        self.note_block(frame)?;
        if let Some(fault) = frame.fault() {
            return Err(fault);
        }
        frame.is_trailer = self.note_stream(frame)?;
        self.frame = frame;
        self.step = match frame.begin_bytes() {
            0 if frame.left == 0 => Step::Head,
            0 => Step::Payload,
            count => Step::Begin(count),
        };
        self.charge(frame, now)
    }

    /// Follows which field block is open.
    fn note_block(&mut self, frame: Frame) -> Result<(), FrameFault> {
        match (self.block, frame.kind()) {
            (Some(stream), Kind::Continuation) if stream != frame.stream => {
                return Err(FrameFault::BlockCut);
            }
            (Some(_), Kind::Continuation) | (None, Kind::Headers) => {
                self.block = (!frame.has(END_HEADERS)).then_some(frame.stream);
            }
            (Some(_), _) => return Err(FrameFault::BlockCut),
            (None, Kind::Continuation) if frame.stream != 0 => {
                return Err(FrameFault::BlockMissing);
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Follows which requests were begun and ended. Answers whether these are HEADERS behind a request.
    fn note_stream(&mut self, frame: Frame) -> Result<bool, FrameFault> {
        let kind = frame.kind();
        if !matches!(kind, Kind::Data | Kind::Headers) {
            return Ok(false);
        }
        let is_new = frame.stream > self.highest;
        if !is_new && self.ended.contains(&frame.stream) {
            return Err(FrameFault::StreamClosed);
        }
        if is_new && kind == Kind::Headers {
            self.highest = frame.stream;
        }
        if frame.has(END_STREAM) {
            self.ended[self.ended_count % ENDED_MAX] = frame.stream;
            self.ended_count += 1;
        }
        Ok(kind == Kind::Headers && !is_new)
    }

    /// Takes the price of a frame whose head is known.
    fn charge(&mut self, frame: Frame, now: &impl Fn() -> Duration) -> Result<(), FrameFault> {
        match frame.kind() {
            Kind::Data if frame.length == 0 && !frame.has(END_STREAM) => self.spend(1, now),
            Kind::Data => {
                self.rest_in += u64::from(frame.length);
                self.frames.earn(self.rest_in / DATA_BYTES_PER_FRAME);
                self.rest_in %= DATA_BYTES_PER_FRAME;
                Ok(())
            }
            Kind::Headers => {
                self.frames.earn(FRAMES_PER_REQUEST);
                self.resets.earn(1);
                Ok(())
            }
            Kind::Reset if !self.resets.spend(REQUESTS_PER_RESET, now) => {
                Err(FrameFault::TooManyResets)
            }
            // Each setting is a step of work.
            Kind::Settings => self.spend(1 + u64::from(frame.length) / 6, now),
            Kind::Continuation
            | Kind::GoAway
            | Kind::Ping
            | Kind::Priority
            | Kind::PushPromise
            | Kind::Reset
            | Kind::Unknown
            | Kind::WindowUpdate => self.spend(1, now),
        }
    }

    fn spend(&mut self, amount: u64, now: &impl Fn() -> Duration) -> Result<(), FrameFault> {
        if self.frames.spend(amount, now) { Ok(()) } else { Err(FrameFault::TooManyFrames) }
    }

    /// The beginning of a payload is whole.
    fn begin(&mut self, bytes: usize, now: &impl Fn() -> Duration) -> Result<(), FrameFault> {
        let begin = self.held;
        if let Some(fault) = self.frame.begin_fault(&begin[..bytes]) {
            return Err(fault);
        }
        let is_padding =
            self.frame.kind() == Kind::Data && u32::from(begin[0]) + 1 == self.frame.length;
        self.step = match self.frame.left {
            0 => Step::Head,
            _ if self.frame.kind() == Kind::Settings => Step::Begin(SETTING_BYTES),
            _ => Step::Payload,
        };
        // Nothing but padding earned as if it were data, and is none.
        if is_padding && !self.frame.has(END_STREAM) { self.spend(2, now) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
