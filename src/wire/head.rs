//! The head of a request, read line by line as it comes (RFC 9112 §2 to §6).

use std::ops::Range;

use memchr::memchr;

use super::fault::{Fault, Lenient};
use super::field::{self, Framing};
use super::host;

/// Most bytes of one line that can be asked for: targets and names of 64 KiB are too long for Pingora.
pub const LINE_MAX: usize = 65_000;

/// Most fields that the parser of Pingora takes in one head.
pub const FIELDS_MAX: usize = 256;

/// Largest head that Pingora reads, in bytes.
pub const BYTES_MAX: usize = 1_048_575;

/// How large a head may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes in all, with the empty line at its end.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
    /// Bytes of one line, without its end: the request line, or a field.
    pub line: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 65_536, fields: 256, line: 8192 }
    }
}

/// How long a method may be, in bytes: what the Heroku router takes. The longest registered one has 17.
const METHOD_MAX: usize = 127;

/// Where the body of a request ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    /// With its last chunk.
    Chunked,
    /// After so many bytes; 0: there is none.
    Length(u64),
}

/// A head that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its bytes, with the empty line at its end.
    pub bytes: usize,
    /// What follows it.
    pub body: Body,
}

/// Reads one head, however many pieces it comes in.
#[derive(Debug, Default)]
pub struct HeadReader {
    lenient: Lenient,
    /// Where the line begins that is read next.
    at: usize,
    line: Line,
    fields: usize,
    nominations: usize,
    version: Version,
    host: Option<Range<usize>>,
    /// The authority of an absolute target.
    authority: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    /// What is wrong unless the app puts up with it.
    put_off: Option<Fault>,
}

/// Which line is next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Line {
    #[default]
    Request,
    Field,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Version {
    Http10,
    #[default]
    Http11,
}

impl HeadReader {
    /// A reader that puts up with more.
    pub fn lenient(lenient: Lenient) -> Self {
        Self { lenient, ..Self::default() }
    }

    /// What the reader puts up with.
    pub fn leniency(&self) -> Lenient {
        self.lenient
    }

    /// Reads on. `bytes` is all that came of the head so far, from its first byte, and may hold more than the head.
    /// `None`: it is not complete.
    ///
    /// # Errors
    /// When it is no head, or one that could be read in two ways.
    pub fn read(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Fault> {
        while let Some(rest) = bytes.get(self.at..) {
            let Some(end) = memchr(b'\n', rest) else {
                // The CR of a line that is complete but for its LF counts as little as that.
                self.check_size(rest.len().saturating_sub(1), bytes.len(), limits)?;
                self.check_start(rest)?;
                return Ok(None);
            };
            let Some(line) = rest[..end].strip_suffix(b"\r") else { return Err(Fault::LineEnd) };
            let start = self.at;
            self.at += end + 1;
            self.check_size(line.len(), self.at, limits)?;
            match self.line {
                Line::Request if line.is_empty() => self.empty_line()?,
                Line::Request => self.request_line(line, start)?,
                Line::Field if line.is_empty() => return self.finish(bytes).map(Some),
                Line::Field => self.field(line, start, limits)?,
            }
        }
        Ok(None)
    }

    fn check_size(&self, line: usize, head: usize, limits: &HeadLimits) -> Result<(), Fault> {
        match self.line {
            Line::Request if line > limits.line => Err(Fault::TargetTooLong),
            Line::Field if line > limits.line => Err(Fault::FieldTooLong),
            Line::Request | Line::Field if head > limits.bytes => Err(Fault::HeadTooLong),
            Line::Request | Line::Field => Ok(()),
        }
    }

    /// Who speaks another protocol, such as TLS, is told at once, and not when its time is over.
    fn check_start(&self, rest: &[u8]) -> Result<(), Fault> {
        let first = rest.first().filter(|byte| self.line == Line::Request && **byte != b'\r');
        match first {
            Some(byte) if !field::is_token(&[*byte]) => Err(Fault::Method),
            _ => Ok(()),
        }
    }

    /// Notes what an app may put up with. Which app that is, and whether it does, is told when the head is whole.
    fn put_off(&mut self, is_forgiven: bool, fault: Fault) {
        if !is_forgiven {
            self.put_off.get_or_insert(fault);
        }
    }

    /// One empty line is put up with where the app wants it, never two.
    fn empty_line(&mut self) -> Result<(), Fault> {
        if self.at > 2 {
            return Err(Fault::EmptyLine);
        }
        self.put_off(self.lenient.empty_line, Fault::EmptyLine);
        Ok(())
    }

    fn request_line(&mut self, line: &[u8], start: usize) -> Result<(), Fault> {
        let end = memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, rest) = (&line[..end], &line[end + 1..]);
        let last = rest.iter().rposition(|byte| *byte == b' ').ok_or(Fault::RequestLine)?;
        let (target, version) = (&rest[..last], &rest[last + 1..]);
        if !field::is_token(method) || method.len() > METHOD_MAX {
            return Err(Fault::Method);
        }
        self.version = read_version(version)?;
        if method == b"CONNECT" {
            return Err(Fault::Connect);
        }
        let authority = self.read_target(method, target)?;
        let offset = start + end + 1;
        self.authority = authority.map(|range| offset + range.start..offset + range.end);
        self.line = Line::Field;
        Ok(())
    }

    /// Checks the target (RFC 9112 §3.2), and tells where its authority is, if it has one.
    fn read_target(&mut self, method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Fault> {
        if !target.iter().fold(true, |so_far, byte| so_far & IN_TARGET[usize::from(*byte)]) {
            let mut query = false;
            for byte in target {
                query |= *byte == b'?';
                if byte.is_ascii() && !is_in_target(*byte, query) {
                    return Err(Fault::Target);
                }
            }
            if !target.is_ascii() {
                self.put_off(self.lenient.target_eight_bit, Fault::TargetEightBit);
            }
        }
        if target.first() == Some(&b'/') {
            return Ok(None);
        }
        if target == b"*" {
            return if method == b"OPTIONS" { Ok(None) } else { Err(Fault::Target) };
        }
        let range = authority(target).ok_or(Fault::Target)?;
        if host::is_valid(&target[range.clone()]) { Ok(Some(range)) } else { Err(Fault::Target) }
    }

    fn field(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Fault::TooManyFields);
        }
        let (name, value) = field::split(line)?;
        match Framing::of(name)? {
            None => {}
            Some(Framing::Connection) => field::nominate(value, &mut self.nominations)?,
            Some(Framing::Host) => {
                if self.host.is_some() {
                    return Err(Fault::HostTwice);
                }
                if !host::is_valid(value) {
                    return Err(Fault::HostMalformed);
                }
                // Spaces around the value are no part of it.
                let skipped = line.len() - line[name.len() + 1..].trim_ascii_start().len();
                let from = start + skipped;
                self.host = Some(from..from + value.len());
            }
            Some(Framing::ContentLength) => {
                let length = field::length(value)?;
                match self.length {
                    Some(first) if first != length => return Err(Fault::LengthsDiffer),
                    Some(_) => self.put_off(self.lenient.equal_lengths, Fault::LengthRepeated),
                    None => self.length = Some(length),
                }
            }
            Some(Framing::TransferEncoding) => {
                if self.chunked {
                    return Err(Fault::CodingMalformed);
                }
                field::coding(value)?;
                self.chunked = true;
            }
        }
        Ok(())
    }

    fn finish(&self, bytes: &[u8]) -> Result<Head, Fault> {
        let named = |range: &Option<Range<usize>>| range.clone().and_then(|range| bytes.get(range));
        match (named(&self.host), named(&self.authority)) {
            (None, _) if self.version == Version::Http11 => return Err(Fault::HostMissing),
            (Some(host), Some(authority)) if host != authority => return Err(Fault::HostDiffers),
            _ => {}
        }
        if self.chunked && self.length.is_some() {
            return Err(Fault::CodingWithLength);
        }
        if self.chunked && self.version == Version::Http10 {
            return Err(Fault::CodingInOld);
        }
        if let Some(fault) = self.put_off {
            return Err(fault);
        }
        let body =
            if self.chunked { Body::Chunked } else { Body::Length(self.length.unwrap_or(0)) };
        Ok(Head { bytes: self.at, body })
    }
}

/// Bytes that may be in a target without a second look.
const IN_TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = is_in_target(byte as u8, true) && is_in_target(byte as u8, false);
        byte += 1;
    }
    table
};

/// Whether an ASCII byte may be in the path or in the query of a target: what browsers do not encode, and what
/// every parser takes for a part of it.
pub const fn is_in_target(byte: u8, query: bool) -> bool {
    match byte {
        b'#' | b'<' | b'>' => false,
        b'"' => !query,
        b'`' => query,
        _ => byte.is_ascii_graphic(),
    }
}

fn read_version(version: &[u8]) -> Result<Version, Fault> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Fault::Version)
        }
        _ => Err(Fault::RequestLine),
    }
}

/// The authority of an absolute target, of `http` or `https` alone.
pub fn authority(target: &[u8]) -> Option<Range<usize>> {
    let begins = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let start = [&b"http://"[..], b"https://"].into_iter().find(|scheme| begins(scheme))?.len();
    let end = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    Some(start..end.map_or(target.len(), |end| start + end))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
