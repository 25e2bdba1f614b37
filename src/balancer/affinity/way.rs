//! The ways a client is known: by our cookie, or by something else that its requests show.
//!
//! Whatever is not our cookie becomes a *place*: the first 8 bytes of SHA-256 over a label and the value.
//! It is the same on every edge, in every version and under every key, so that edges agree without telling each
//! other; [`rendezvous`](crate::balancer::rendezvous) finds the home of a place. It is not keyed, since a
//! rotation must move nobody: who may choose the value may choose the backend, as who has no cookie may draw again.
//!
//! One label stands for all values that a client chooses, so that the same value leads to the same home whether it
//! comes in a header, in a query parameter or in the path.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Uri};
use sha2::{Digest, Sha256};

use super::cookie::{self, CANDIDATES_MAX};
use super::token::{BackendHash, prefix};
use crate::balancer::name::{BackendId, PathPrefix};

/// Most ways an app looks for its clients in. Each costs a look-up a request, until one is found.
pub const WAYS_MAX: usize = 8;

/// Most dots at the end of a session id that a route may stand after: an id of a backend holds few.
const ROUTE_DOTS_MAX: usize = 4;

const ADDRESS_LABEL: &[u8] = b"homing place address\0";
const VALUE_LABEL: &[u8] = b"homing place value\0";

/// One way a client is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// By its address: the whole of an IPv4 address, the first half of an IPv6 address.
    Address,
    /// By our cookie.
    Cookie,
    /// By the value of a header.
    Header(HeaderName),
    /// By what follows in the path.
    PathAfter(PathAfter),
    /// By the value of a query parameter.
    Query(Box<str>),
    /// By the backend that the app's own session cookie names.
    SessionCookie(SessionCookie),
}

/// The segments of a path that stand for a client, such as `/<server>/<session>` of SockJS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathAfter {
    /// What they come after.
    pub prefix: PathPrefix,
    /// How many there are, at least 1. A path with fewer tells nothing.
    pub segments: usize,
}

/// The app's own session cookie, whose value ends in a dot and the route of a backend: `4F2A….web.1`, as Tomcat
/// (`jvmRoute`), Jetty and JBoss write it. The same is read from a path parameter (`;jsessionid=`), which stands for
/// the cookie where there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionCookie {
    /// Its name. That of the path parameter is the same without regard to case.
    pub name: Box<str>,
    /// Which backend a route means, where it is not the id of one.
    pub routes: BTreeMap<Box<str>, BackendId>,
}

/// What a request shows of its client.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'r> {
    /// The headers.
    pub headers: &'r HeaderMap,
    /// What it asks for.
    pub uri: &'r Uri,
    /// The address of the client, by the word of trusted proxies if there are any.
    pub address: Option<IpAddr>,
}

/// What was found in one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// Nothing that tells anything.
    Absent,
    /// A session of this place, of a backend that is not on the list any more.
    Gone(u64),
    /// A session of this place, of this backend.
    Home(u64, BackendHash),
    /// A value of this place.
    Place(u64),
}

impl Way {
    /// Looks for the client. `listed` says whether the app has this backend. Our own cookie is read elsewhere.
    pub fn look(&self, shown: &Shown<'_>, listed: impl Fn(BackendHash) -> bool) -> Found {
        let place = match self {
            Self::Cookie => None,
            Self::Address => shown.address.map(of_address),
            Self::Header(name) => {
                let value = shown.headers.get(name).map(|value| value.as_bytes().trim_ascii());
                value.filter(|value| !value.is_empty()).map(of_value)
            }
            Self::PathAfter(after) => after.find(shown.uri.path()).map(of_escaped),
            Self::Query(name) => parameter(shown.uri.query().unwrap_or(""), name).map(of_escaped),
            Self::SessionCookie(cookie) => return cookie.look(shown, listed),
        };
        place.map_or(Found::Absent, Found::Place)
    }

    /// Whether a hash finds the home of who is known so: another list of backends may move it.
    pub fn is_hashed(&self) -> bool {
        match self {
            Self::Address | Self::Header(_) | Self::PathAfter(_) | Self::Query(_) => true,
            Self::Cookie | Self::SessionCookie(_) => false,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Cookie => f.write_str("cookie"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::PathAfter(PathAfter { prefix, segments }) => {
                write!(f, "path_after {prefix}, segments {segments}")
            }
            Self::Query(name) => write!(f, "query {name}"),
            Self::SessionCookie(SessionCookie { name, routes }) => {
                write!(f, "session_cookie {name}")?;
                routes.iter().try_for_each(|(route, id)| write!(f, ", {route} is {id}"))
            }
        }
    }
}

impl PathAfter {
    /// The segments, without the slash before and after them; none of them may be empty.
    fn find<'p>(&self, path: &'p str) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?;
        let mut segments = rest.split('/');
        let mut end = 0;
        for _ in 0..self.segments {
            end += segments.next().filter(|segment| !segment.is_empty())?.len() + 1;
        }
        rest.as_bytes().get(..end.saturating_sub(1))
    }
}

impl SessionCookie {
    /// The first session that names a backend on the list; else the first that names one by `routes` alone.
    fn look(&self, shown: &Shown<'_>, listed: impl Fn(BackendHash) -> bool) -> Found {
        let lines = shown.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        let cookies = lines.flat_map(|line| cookie::values(line, &self.name)).map(unquoted);
        let parameters = path_parameters(shown.uri.path().as_bytes(), &self.name);
        let mut gone = Found::Absent;
        for value in cookies.chain(parameters).take(CANDIDATES_MAX) {
            for route in routes(value) {
                let by_map = self.routes.get(route);
                let by_id = || BackendId::parse(route).ok().map(|id| BackendHash::of(&id));
                match by_map.map(BackendHash::of).or_else(by_id) {
                    Some(hash) if listed(hash) => return Found::Home(of_value(value), hash),
                    Some(_) if by_map.is_some() && gone == Found::Absent => {
                        gone = Found::Gone(of_value(value));
                    }
                    Some(_) | None => {}
                }
            }
        }
        gone
    }
}

/// What follows each of the last dots, the longest first: `web.1` of `4F2A.web.1` before its `1`.
fn routes(value: &[u8]) -> impl Iterator<Item = &str> {
    let dots = |from: usize| (from..value.len()).filter(|at| value[*at] == b'.');
    let first = dots(0).rev().take(ROUTE_DOTS_MAX).last().unwrap_or(value.len());
    dots(first).filter_map(|at| std::str::from_utf8(&value[at + 1..]).ok())
}

/// The values of a path parameter (RFC 3986 §3.3), in whichever segment it stands.
fn path_parameters<'p>(path: &'p [u8], name: &str) -> impl Iterator<Item = &'p [u8]> {
    let segments = path.split(|byte| *byte == b'/');
    let parameters = segments.flat_map(|segment| segment.split(|byte| *byte == b';').skip(1));
    parameters.filter_map(move |parameter| {
        let (own, value) = parameter.split_at_checked(name.len())?;
        value.strip_prefix(b"=").filter(|_| own.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// The first value of a query parameter, as it was written; an empty one tells nothing.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q [u8]> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find_map(|(own, value)| (own == name).then_some(value));
    value.filter(|value| !value.is_empty()).map(str::as_bytes)
}

/// A cookie's value without the quotes around it, if there are any (RFC 6265 §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

fn of_address(address: IpAddr) -> u64 {
    let mut hash = Sha256::new_with_prefix(ADDRESS_LABEL);
    with_network(address, |bytes| hash.update(bytes));
    place(hash)
}

fn of_value(value: &[u8]) -> u64 {
    place(Sha256::new_with_prefix(VALUE_LABEL).chain_update(value))
}

/// The place of a value with percent-escapes (RFC 3986 §2.1), resolved: clients differ in what they escape. A `%` that
/// begins none stands for itself, and so does `+`.
fn of_escaped(text: &[u8]) -> u64 {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut hash = Sha256::new_with_prefix(VALUE_LABEL);
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let escaped = match &rest[at + 1..] {
            [high, low, ..] => digit(high).zip(digit(low)),
            [] | [_] => None,
        };
        hash.update(&rest[..at]);
        let byte = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        hash.update([byte.unwrap_or(b'%')]);
        rest = &rest[at + if byte.is_some() { 3 } else { 1 }..];
    }
    hash.update(rest);
    place(hash)
}

fn place(hash: Sha256) -> u64 {
    u64::from_be_bytes(prefix(&hash.finalize()))
}

/// Hands over what stands for a client's address: all of an IPv4 address; of an IPv6 address the first 64 bits, the
/// network that one household, host or phone has, since the rest changes every day (RFC 8981).
pub(super) fn with_network(address: IpAddr, mut take: impl FnMut(&[u8])) {
    match address.to_canonical() {
        IpAddr::V4(address) => take(&address.octets()),
        IpAddr::V6(address) => take(&address.octets()[..8]),
    }
}
