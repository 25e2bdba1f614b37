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
use super::memo::Memo;
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
    /// What its connection brought before.
    pub memo: Option<&'r Memo>,
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
                write!(f, "path_after {prefix} ({segments})")
            }
            Self::Query(name) => write!(f, "query {name}"),
            Self::SessionCookie(SessionCookie { name, routes }) => {
                write!(f, "session_cookie {name}")?;
                let mut before = " (";
                for (route, id) in routes {
                    write!(f, "{before}{route}: {id}")?;
                    before = ", ";
                }
                f.write_str(if routes.is_empty() { "" } else { ")" })
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
                let hash = by_map.map_or_else(|| BackendHash::of_text(route), BackendHash::of);
                if listed(hash) {
                    return Found::Home(of_value(value), hash);
                }
                if by_map.is_some() && gone == Found::Absent {
                    gone = Found::Gone(of_value(value));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> BackendId {
        BackendId::parse(text).unwrap()
    }

    /// A way as the file has it.
    fn way(text: &str) -> Way {
        let (kind, what) = text.split_once(' ').unwrap_or((text, ""));
        let after = |segments| {
            Way::PathAfter(PathAfter { prefix: PathPrefix::parse(what).unwrap(), segments })
        };
        match kind {
            "address" => Way::Address,
            "header" => Way::Header(what.parse().unwrap()),
            "query" => Way::Query(what.into()),
            "path_after" => after(2),
            "segment" => after(1),
            "session_cookie" => {
                let routes =
                    [("tomcat1", "web.1"), ("tomcat9", "web.9")].map(|(r, b)| (r.into(), id(b)));
                Way::SessionCookie(SessionCookie {
                    name: what.into(),
                    routes: routes.into_iter().collect(),
                })
            }
            other => panic!("no such way: {other}"),
        }
    }

    /// What is found in a request: `GET` without the word, then `name: value` for headers and `@` for the address,
    /// parted by ` | `. The app has `web.1` and `web.2`.
    fn look(way: &Way, request: &str) -> Found {
        let mut parts = request.split(" | ");
        let uri: Uri = parts.next().unwrap().parse().unwrap();
        let (mut headers, mut address) = (HeaderMap::new(), None);
        for part in parts {
            match part.strip_prefix('@') {
                Some(text) => address = Some(text.parse().unwrap()),
                None => {
                    let (name, value) = part.split_once(':').unwrap();
                    let name: HeaderName = name.parse().unwrap();
                    headers.append(name, HeaderValue::from_str(value).unwrap());
                }
            }
        }
        let listed = |hash| ["web.1", "web.2"].iter().any(|own| BackendHash::of(&id(own)) == hash);
        way.look(&Shown { headers: &headers, uri: &uri, address, memo: None }, listed)
    }

    /// `expected`: `-` for nothing, `web.1 of x` for a session of a backend, `gone x` for one of a backend that
    /// left, else the value whose place it is.
    #[track_caller]
    fn check(text: &str, request: &str, expected: &str) {
        let value = |text: &str| of_value(text.as_bytes());
        let expected = match expected.split_once(' ') {
            None if expected == "-" => Found::Absent,
            Some(("gone", session)) => Found::Gone(value(session)),
            Some((home, session)) if session.starts_with("of ") => {
                Found::Home(value(&session[3..]), BackendHash::of(&id(home)))
            }
            Some(_) | None => Found::Place(value(expected)),
        };
        assert_eq!(look(&way(text), request), expected, "{text}: {request}");
    }

    #[test]
    fn a_place_is_the_same_in_every_version() {
        // Computed by Python's hashlib.
        assert_eq!(of_value(b"abc"), 0xf621_3e94_ee3a_cd5c);
        let address = |text: &str| of_address(text.parse().unwrap());
        assert_eq!(address("192.0.2.7"), 0x6524_0a74_b3bc_409c);
        assert_eq!(address("::ffff:192.0.2.7"), 0x6524_0a74_b3bc_409c);
        assert_eq!(address("2001:db8:1:2:aaaa::1"), 0xcf9e_05ef_b24c_a1a5);
        assert_eq!(address("2001:db8:1:2:bbbb::2"), 0xcf9e_05ef_b24c_a1a5);
        assert_ne!(address("2001:db8:1:3::1"), address("2001:db8:1:2::1"));
    }

    #[test]
    fn a_header_is_its_first_value_without_the_space_around_it() {
        check("header x-session-id", "/ | X-Session-Id: abc ", "abc");
        check("header x-session-id", "/ | X-Session-Id: a b", "a b");
        check("header x-session-id", "/ | X-Session-Id:a | X-Session-Id:b", "a");
        check("header x-session-id", "/ | X-Session-Id: | X-Session-Id:b", "-");
        check("header x-session-id", "/ | X-Other:a", "-");
    }

    #[test]
    fn a_query_parameter_is_its_first_value_however_it_is_escaped() {
        check("query sid", "/?sid=abc", "abc");
        check("query sid", "/?a=1&sid=a&sid=b", "a");
        check("query sid", "/?sid=%61b%63", "abc");
        check("query sid", "/?sid=a%2Bb%3d%3D", "a+b==");
        check("query sid", "/?sid=a+b==", "a+b==");
        check("query sid", "/?sid=100%&x", "100%");
        check("query sid", "/?sid=%4", "%4");
        check("query sid", "/?sid=%4g%zz%%41", "%4g%zz%A");
        for nothing in ["/", "/?", "/?sid", "/?sid=", "/?sid=&sid=b", "/?SID=a", "/?xsid=a"] {
            check("query sid", nothing, "-");
        }
    }

    #[test]
    fn the_segments_of_a_path_are_those_after_its_prefix() {
        check("path_after /echo", "/echo/000/abc/websocket", "000/abc");
        check("path_after /echo", "/echo/000/abc/xhr_send?t=1", "000/abc");
        check("path_after /echo", "/echo/000/abc", "000/abc");
        check("path_after /echo", "/echo/000/%61bc/xhr", "000/abc");
        check("segment /rooms", "/rooms/42/messages", "42");
        check("segment /rooms", "/rooms/42", "42");
        let others = ["/echo", "/echo/", "/echo/info", "/echo/iframe.html", "/echo/websocket"];
        let odd = ["/echo//abc/xhr", "/echo/000//xhr", "/echo/000/", "/echoes/000/abc/xhr", "/"];
        for nothing in others.into_iter().chain(odd) {
            check("path_after /echo", nothing, "-");
        }
    }

    #[test]
    fn a_session_cookie_names_its_backend_behind_a_dot() {
        let session = "session_cookie JSESSIONID";
        check(session, "/ | Cookie:JSESSIONID=4F2A.web.1", "web.1 of 4F2A.web.1");
        check(session, "/ | Cookie:a=b; JSESSIONID=\"4F2A.web.2\"", "web.2 of 4F2A.web.2");
        check(session, "/ | Cookie:JSESSIONID=4F2A.tomcat1", "web.1 of 4F2A.tomcat1");
        check(session, "/ | Cookie:JSESSIONID=4F.2A.x.web.1", "web.1 of 4F.2A.x.web.1");
        check(session, "/ | Cookie:JSESSIONID=4F2A.tomcat9", "gone 4F2A.tomcat9");
        for nothing in ["4F2A", "4F2A.", ".", "", "4F2A.web.3", "4F2A.1", "s:4F2A.Zm9v", "web.1"] {
            check(session, &format!("/ | Cookie:JSESSIONID={nothing}"), "-");
        }
        check(session, "/ | Cookie:jsessionid=4F2A.web.1", "-");
        let three = "/ | Cookie:JSESSIONID=1.tomcat9; JSESSIONID=2.x | Cookie:JSESSIONID=3.web.2";
        check(session, three, "web.2 of 3.web.2");
    }

    #[test]
    fn a_route_stands_behind_one_of_the_last_dots() {
        let found = |value: &'static str| routes(value.as_bytes()).collect::<Vec<_>>().join(" ");
        assert_eq!(found("x"), "");
        assert_eq!(found("x.web.1"), "web.1 1");
        assert_eq!(found("x.1.2.3.4.5"), "2.3.4.5 3.4.5 4.5 5");
    }

    #[test]
    fn a_path_parameter_stands_for_the_session_cookie_where_there_is_none() {
        let session = "session_cookie JSESSIONID";
        check(session, "/cart;jsessionid=4F2A.web.1", "web.1 of 4F2A.web.1");
        check(session, "/cart;v=1;JSessionId=4F2A.web.1;w=2/x?y=1", "web.1 of 4F2A.web.1");
        check(session, "/a;jsessionid=1.web.1 | Cookie:JSESSIONID=2.web.2", "web.2 of 2.web.2");
        for nothing in ["/jsessionid=1.web.1", "/;jsessionid", "/;xjsessionid=1.web.1", "/;=1"] {
            check(session, nothing, "-");
        }
    }

    #[test]
    fn the_same_value_leads_to_the_same_place_wherever_it_is_shown_but_as_an_address() {
        let shown = "/rooms/10.0.0.1/x?sid=10.0.0.1 | X-Session-Id: 10.0.0.1 | @10.0.0.1";
        let places = ["header x-session-id", "query sid", "segment /rooms", "address"];
        let [header, query, path, address] = places.map(|text| look(&way(text), shown));
        assert!(header == query && query == path && path != address);
        assert_eq!(look(&Way::Address, "/"), Found::Absent);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn nothing_that_is_shown_panics_and_the_same_is_the_same(
            path in "/[ -~é]{0,40}",
            query in "[ -~é]{0,40}",
            header in prop::collection::vec(any::<u8>(), 0..60),
            address in any::<u128>(),
        ) {
            let uri = Uri::try_from(format!("{path}?{query}")).unwrap_or_default();
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&header) {
                headers.insert("x-session-id", value.clone());
                headers.insert(COOKIE, value);
            }
            let address = Some(IpAddr::from(address.to_be_bytes()));
            let shown = Shown { headers: &headers, uri: &uri, address, memo: None };
            let names = ["address", "header x-session-id", "path_after /a", "query a", "session_cookie a"];
            for way in names.map(way) {
                for listed in [true, false] {
                    let found = way.look(&shown, |_| listed);
                    prop_assert_eq!(found, way.look(&shown, |_| listed));
                }
            }
        }

        /// However a client escapes a value, it leads to the same place.
        #[test]
        fn escapes_change_nothing(value in prop::collection::vec(any::<u8>(), 1..40), which in any::<u64>()) {
            let escape = |(index, byte): (usize, &u8)| match which >> (index % 64) & 1 {
                1 => format!("%{byte:02x}").into_bytes(),
                _ if *byte == b'%' => b"%25".to_vec(),
                _ => vec![*byte],
            };
            let escaped: Vec<u8> = value.iter().enumerate().flat_map(escape).collect();
            prop_assert_eq!(of_escaped(&escaped), of_value(&value));
        }
    }
}
