//! Who connected to a proxy in front, as it says before anything else: the PROXY protocol of HAProxy
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>), versions 1 and 2, read and written.
//!
//! Reading never asks for a byte that may belong to what follows the header. Own code: of the kept crates, `ppp` (2.3)
//! and `proxy-header` (0.1) read ports such as `+80`, neither holds a checksum against the header or has a limit of its
//! own for version 2, the latter takes any byte after `PROXY`, and neither says how much more may safely be read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Most bytes of a header of version 2. Addresses and the usual facts need less than 536, which any sender may expect
/// to be taken; some add a client certificate. The protocol alone would allow 65551.
pub const HEADER_MAX: usize = 4096;

/// Most bytes of a header of version 1, its CRLF included.
const LINE_MAX: usize = 107;

/// The shortest header there is.
const SHORTEST: usize = b"PROXY UNKNOWN\r\n".len();

/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";

/// How version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The part of version 2 before the addresses.
const FIXED: usize = 16;

/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 0x03;

/// PP2_TYPE_SSL, and PP2_CLIENT_SSL in it: the client came over TLS.
const SSL: (u8, u8) = (0x20, 0x01);

/// Length of the fixed part of PP2_TYPE_SSL.
const SSL_FIXED: usize = 5;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Who connected.
    pub source: SocketAddr,
    /// What was connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// The connection of the client; `None`: not known, or one of the proxy's own, and what the socket tells holds.
    pub ends: Option<Ends>,
    /// Whether the client came over TLS, as far as is said.
    pub secure: bool,
}

/// What became of the bytes that are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The header is whole, and so long in bytes.
    Done(Header, usize),
    /// At least so many more bytes belong to the header.
    More(usize),
}

/// Why a connection is closed that should have begun with a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// It begins with something else.
    Absent,
    /// Its checksum (CRC32C) is of another header.
    Checksum,
    /// The connection ended within it.
    Cut,
    /// It is none.
    Malformed,
    /// It did not come in time.
    Slow,
    /// It is longer than it may be.
    TooLong,
}

impl Refused {
    /// Every reason, in the order of the labels.
    pub const ALL: [Self; 6] =
        [Self::Absent, Self::Checksum, Self::Cut, Self::Malformed, Self::Slow, Self::TooLong];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Checksum => "checksum",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::TooLong => "too_long",
        }
    }
}

/// Reads the header that a connection begins with, of which `bytes` came so far.
///
/// # Errors
/// When it is none, whatever follows.
pub fn read(bytes: &[u8]) -> Result<Step, Refused> {
    let begins = |expected: &[u8]| {
        let common = bytes.len().min(expected.len());
        bytes[..common] == expected[..common]
    };
    if bytes.is_empty() {
        Ok(Step::More(SHORTEST))
    } else if begins(SIGNATURE) {
        read_v2(bytes)
    } else if begins(WORD) {
        read_v1(bytes)
    } else {
        Err(Refused::Absent)
    }
}

/// Section 2.1: a line of ASCII.
fn read_v1(bytes: &[u8]) -> Result<Step, Refused> {
    // Room for the CR, and for the LF after it.
    let bounded = &bytes[..bytes.len().min(LINE_MAX - 1)];
    let end = bounded.iter().position(|byte| *byte == b'\r');
    let line = &bounded[..end.unwrap_or(bounded.len())];
    if line.iter().any(|byte| !(b' '..=b'~').contains(byte)) {
        return Err(Refused::Malformed);
    }
    let Some(end) = end else {
        return match line.len() {
            length if length >= LINE_MAX - 1 => Err(Refused::TooLong),
            length => Ok(Step::More(SHORTEST.saturating_sub(length).max(2))),
        };
    };
    let ends = read_line(&line[WORD.len().min(end)..])?;
    match bytes.get(end + 1) {
        None => Ok(Step::More(1)),
        Some(b'\n') => Ok(Step::Done(Header { ends, secure: false }, end + 2)),
        Some(_) => Err(Refused::Malformed),
    }
}

/// What follows the first word.
fn read_line(line: &[u8]) -> Result<Option<Ends>, Refused> {
    let line = std::str::from_utf8(line).map_err(|_| Refused::Malformed)?;
    let mut words = line.split(' ');
    match words.next() {
        // Whatever follows means nothing.
        Some("UNKNOWN") => Ok(None),
        Some("TCP4") => addresses::<Ipv4Addr>(words),
        Some("TCP6") => addresses::<Ipv6Addr>(words),
        Some(_) | None => Err(Refused::Malformed),
    }
}

fn addresses<'l, A>(mut words: impl Iterator<Item = &'l str>) -> Result<Option<Ends>, Refused>
where
    A: FromStr + Into<IpAddr>,
{
    let mut word = || words.next().ok_or(Refused::Malformed);
    let address = |word: &str| word.parse::<A>().map(Into::into).map_err(|_| Refused::Malformed);
    let (source, destination) = (address(word()?)?, address(word()?)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    let ends = Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    if words.next().is_some() { Err(Refused::Malformed) } else { Ok(Some(ends)) }
}

/// Decimal, without zeros or a sign in front.
fn port(word: &str) -> Result<u16, Refused> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    word.parse().ok().filter(|_| plain && !padded).ok_or(Refused::Malformed)
}

/// Section 2.2: sixteen bytes, addresses, and facts as type, length and value.
fn read_v2(bytes: &[u8]) -> Result<Step, Refused> {
    let is_proxied = match bytes.get(SIGNATURE.len()) {
        None => return Ok(Step::More(FIXED - bytes.len())),
        Some(0x20) => false,
        Some(0x21) => true,
        Some(_) => return Err(Refused::Malformed),
    };
    let family = match bytes.get(SIGNATURE.len() + 1) {
        None => return Ok(Step::More(FIXED - bytes.len())),
        // One of the proxy's own: whatever is said of it means nothing.
        Some(_) if !is_proxied => None,
        Some(0x00) => Some(Family::Unspecified),
        // Both transports: a client of HTTP/3 reaches a proxy by datagrams.
        Some(0x11 | 0x12) => Some(Family::Inet),
        Some(0x21 | 0x22) => Some(Family::Inet6),
        Some(0x31 | 0x32) => Some(Family::Unix),
        Some(_) => return Err(Refused::Malformed),
    };
    let Some(length) = bytes.get(FIXED - 2..FIXED) else {
        return Ok(Step::More(FIXED - bytes.len()));
    };
    let length = FIXED + usize::from(be_u16(length));
    if length > HEADER_MAX {
        return Err(Refused::TooLong);
    }
    if FIXED + family.map_or(0, Family::length) > length {
        return Err(Refused::Malformed);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(Step::More(length - bytes.len()));
    };
    let said = family.map_or(Ok(Header::default()), |family| read_block(header, family))?;
    Ok(Step::Done(said, length))
}

#[derive(Clone, Copy)]
enum Family {
    Inet,
    Inet6,
    Unix,
    Unspecified,
}

impl Family {
    /// Bytes of the addresses.
    fn length(self) -> usize {
        match self {
            Self::Inet => 12,
            Self::Inet6 => 36,
            Self::Unix => 216,
            Self::Unspecified => 0,
        }
    }
}

/// The addresses of a whole header, and the facts after them.
fn read_block(header: &[u8], family: Family) -> Result<Header, Refused> {
    let (block, facts) = header[FIXED..].split_at(family.length());
    let ends = match family {
        Family::Inet => ends::<4>(block, IpAddr::from),
        Family::Inet6 => ends::<16>(block, IpAddr::from),
        Family::Unix | Family::Unspecified => None,
    };
    let secure = read_facts(header, facts)?;
    Ok(Header { ends, secure })
}

/// Two addresses of so many bytes, and their ports.
fn ends<const SIZE: usize>(block: &[u8], address: fn([u8; SIZE]) -> IpAddr) -> Option<Ends> {
    let (source, rest) = block.split_first_chunk::<SIZE>()?;
    let (destination, rest) = rest.split_first_chunk::<SIZE>()?;
    let (source_port, destination_port) = rest.split_at_checked(2)?;
    let end = |bytes: &[u8; SIZE], port| SocketAddr::new(address(*bytes), be_u16(port));
    Some(Ends { source: end(source, source_port), destination: end(destination, destination_port) })
}

/// Reads the facts at the end of `header`. Answers whether one of them says that the client came over TLS.
fn read_facts(header: &[u8], mut facts: &[u8]) -> Result<bool, Refused> {
    let mut secure = false;
    while let Some((kind, rest)) = facts.split_first() {
        let (length, rest) = rest.split_at_checked(2).ok_or(Refused::Malformed)?;
        let length = usize::from(be_u16(length));
        let (value, rest) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
        if *kind == CHECKSUM {
            let told = <[u8; 4]>::try_from(value).map_err(|_| Refused::Malformed)?;
            let at = header.len() - rest.len() - told.len();
            let zeroed = [&header[..at], &[0; 4], rest];
            if crc32c(zeroed.into_iter().flatten()) != u32::from_be_bytes(told) {
                return Err(Refused::Checksum);
            }
        } else if *kind == SSL.0 {
            if value.len() < SSL_FIXED {
                return Err(Refused::Malformed);
            }
            secure |= value[0] & SSL.1 != 0;
        }
        facts = rest;
    }
    Ok(secure)
}

fn be_u16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte))
}

/// The checksum of RFC 9260, appendix A. Bit by bit: a header is short, and few have one.
fn crc32c<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ REVERSED } else { sum >> 1 }
        })
    })
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// For whom we connect to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum For {
    /// A client whose connection to us has these ends.
    Client(Ends),
    /// Ourselves, to see how it is.
    Own,
    /// A client of which nothing is known.
    Stranger,
}

/// Writes the header of a connection to a backend.
pub fn write(version: Version, whom: For) -> Vec<u8> {
    let pair = match whom {
        For::Client(ends) => Some(Pair::of(ends)),
        For::Own | For::Stranger => None,
    };
    match version {
        Version::V1 => write_v1(pair),
        Version::V2 => write_v2(pair, whom == For::Own),
    }
}

/// Ends in one family.
enum Pair {
    V4((Ipv4Addr, u16), (Ipv4Addr, u16)),
    V6((Ipv6Addr, u16), (Ipv6Addr, u16)),
}

impl Pair {
    fn of(ends: Ends) -> Self {
        let Ends { source, destination } = ends;
        let ports = (source.port(), destination.port());
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::V4((from, ports.0), (to, ports.1)),
            (from, to) => Self::V6((mapped(from), ports.0), (mapped(to), ports.1)),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn write_v1(pair: Option<Pair>) -> Vec<u8> {
    match pair {
        Some(Pair::V4((from, from_port), (to, to_port))) => {
            format!("PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        Some(Pair::V6((from, from_port), (to, to_port))) => {
            format!("PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
        None => "PROXY UNKNOWN\r\n".into(),
    }
    .into_bytes()
}

fn write_v2(pair: Option<Pair>, is_own: bool) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let mut put = |command: u8, family: u8, length: u16| {
        header.extend([command, family]);
        header.extend(length.to_be_bytes());
    };
    let (addresses, ports) = match pair {
        Some(Pair::V4((from, from_port), (to, to_port))) => {
            put(0x21, 0x11, 12);
            ([from.octets(), to.octets()].concat(), Some([from_port, to_port]))
        }
        Some(Pair::V6((from, from_port), (to, to_port))) => {
            put(0x21, 0x21, 36);
            ([from.octets(), to.octets()].concat(), Some([from_port, to_port]))
        }
        None => {
            put(if is_own { 0x20 } else { 0x21 }, 0x00, 0);
            (Vec::new(), None)
        }
    };
    header.extend(addresses);
    header.extend(ports.into_iter().flatten().flat_map(u16::to_be_bytes));
    header
}

#[cfg(test)]
#[path = "proxied_tests.rs"]
mod tests;
