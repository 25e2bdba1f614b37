//! One word of the file to one value; each with its message.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::header::{COOKIE, HeaderName};
use ipnet::IpNet;

use crate::balancer::app::backend::Address;
use crate::balancer::app::policy::StatusRange;

/// Longest path of a Unix socket, in bytes (`sockaddr_un` of Linux, less the final zero).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// A span of time: `500ms`, `5s`, `2m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a duration such as `500ms`, `5s`, `2m`, `1h` or `7d`";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
    let number: u64 = text[..digits].parse().map_err(|_| EXPECTED)?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(EXPECTED)
}

/// A duration within limits.
pub(super) fn duration_within(
    text: &str,
    limits: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let duration = duration(text)?;
    if limits.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (shown(*limits.start()), shown(*limits.end()));
    Err(format!("expected a duration from {least} to {most}"))
}

/// A whole number within limits.
pub(super) fn number<T>(text: &str, limits: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let (least, most) = (limits.start(), limits.end());
    let number = text.parse().ok().filter(|number| limits.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {least} to {most}"))
}

/// A number of bytes within limits: `65536`, `64KiB`, `10MiB`, `2GiB`.
pub(super) fn size<T>(text: &str, limits: &RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1_u64 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit| text[..digits].parse::<u64>().ok()?.checked_mul(unit));
    let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
    bytes.filter(|bytes| limits.contains(bytes)).ok_or_else(|| {
        let (least, most) = (limits.start(), limits.end());
        format!("expected a size such as `65536`, `64KiB` or `2GiB`, from {least} to {most} bytes")
    })
}

/// A value, or `off` for none.
pub(super) fn or_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    or_word(text, "off", switch(text) == Ok(Switch::Off), parse)
}

/// A value, or `auto` for none.
pub(super) fn or_auto<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    or_word(text, "auto", text == "auto", parse)
}

fn or_word<T>(
    text: &str,
    word: &str,
    is_word: bool,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if is_word {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|expected| format!("{expected}, or `{word}`"))
}

/// A duration as the file has it.
fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    if millis == 0 {
        return "0s".into();
    }
    match units.iter().find(|(_, unit)| millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// An address to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected an IP address and port such as `0.0.0.0:8080` or `[::]:8080`")
}

/// The address of the admin listener.
pub(super) fn admin_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and port such as `127.0.0.1:9180`")
}

/// The address of a backend.
pub(super) fn backend_address(text: &str) -> Result<Address, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fits = path.starts_with('/') && path.len() <= UNIX_PATH_BYTES_MAX;
        return if fits {
            Ok(Address::Unix(PathBuf::from(path)))
        } else {
            Err("expected the absolute path of a Unix socket, at most 107 bytes, after `unix:`")
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err("expected a port from 1 to 65535"),
        Ok(address) => Ok(Address::Tcp(address)),
        Err(_) => {
            Err("expected an IP address and port such as `127.0.0.1:3001`, or `unix:/run/app.sock`")
        }
    }
}

/// An IP network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(
        |_| "expected a network such as `10.0.0.0/8` or `2001:db8::/32`, or one IP address",
    )
}

/// One HTTP status or a range of them: `200`, `200-399`.
pub(super) fn statuses(text: &str) -> Result<StatusRange, &'static str> {
    const EXPECTED: &str = "expected an HTTP status such as `200` or a range such as `200-399`";
    let status = |text: &str| match text.trim().parse::<u16>() {
        Ok(status @ 100..=599) => Ok(status),
        Ok(_) | Err(_) => Err(EXPECTED),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = StatusRange { first: status(first)?, last: status(last)? };
    if range.first <= range.last { Ok(range) } else { Err(EXPECTED) }
}

/// An absolute URL of HTTP, without a password and a fragment.
pub(super) fn url(text: &str) -> Result<Box<str>, &'static str> {
    const EXPECTED: &str = "expected a URL such as `https://pages.example.com/503.html`";
    let uri = text.parse::<http::Uri>().map_err(|_| EXPECTED)?;
    let host = uri.host().filter(|host| !host.is_empty());
    let right = matches!(uri.scheme_str(), Some("http" | "https")) && host.is_some();
    let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let port = uri.port().is_none_or(|port| port.as_u16() > 0);
    if right && bare && port && !text.contains('#') { Ok(text.into()) } else { Err(EXPECTED) }
}

/// A path that is asked for, with its query if any.
pub(super) fn request_path(text: &str) -> Result<Box<str>, &'static str> {
    let fits =
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if fits { Ok(text.into()) } else { Err("expected a path such as `/healthz`") }
}

/// The name of a cookie: a token of RFC 9110 §5.6.2.
pub(super) fn cookie_name(text: &str) -> Result<Box<str>, &'static str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(token) {
        Ok(text.into())
    } else {
        Err("expected the name of a cookie: 1 to 64 letters, digits and `-._~!#$%&'*+^|`")
    }
}

/// The name of a header (RFC 9110 §5.1) that a client may be known by.
pub(super) fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    match text.parse::<HeaderName>() {
        Ok(COOKIE) => Err("expected another header: `session_cookie` reads one cookie"),
        Ok(name) => Ok(name),
        Err(_) => Err("expected the name of a header such as `X-Session-Id`"),
    }
}

/// The name of a query parameter, as it is written in a URL.
pub(super) fn parameter(text: &str) -> Result<Box<str>, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"&=#?".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.into())
    } else {
        Err("expected the name of a query parameter such as `sid`, 1 to 64 characters")
    }
}

/// The route at the end of a session id.
pub(super) fn route(text: &str) -> Result<Box<str>, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b";,\"".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.into())
    } else {
        Err("expected a route such as `tomcat1`, 1 to 64 characters")
    }
}

/// The path of a cookie (RFC 6265 §4.1.1).
pub(super) fn cookie_path(text: &str) -> Result<Box<str>, &'static str> {
    let fits =
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if fits { Ok(text.into()) } else { Err("expected the path of a cookie such as `/` or `/app`") }
}

/// The name of a host for `Host` or SNI, perhaps with a port.
pub(super) fn host(text: &str) -> Result<Box<str>, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
    if fits { Ok(text.into()) } else { Err("expected the name of a host such as `shop.internal`") }
}

/// A switch.
pub(super) fn switch(text: &str) -> Result<Switch, &'static str> {
    match text {
        "on" | "true" | "yes" => Ok(Switch::On),
        "off" | "false" | "no" => Ok(Switch::Off),
        _ => Err("expected `on` or `off`"),
    }
}

/// A switch of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Switch {
    Off,
    On,
}

impl Switch {
    /// The word for it, of the several that are understood.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_may_carry_a_unit() {
        for (text, bytes) in [("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("2GiB", 2 << 30)] {
            assert_eq!(size(text, &(0..=u64::MAX)), Ok(bytes));
        }
        for text in ["", "KiB", "1 KiB", "1KB", "1kib", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(size(text, &(0..=u64::MAX)).is_err(), "{text}");
        }
        assert_eq!(size("1KiB", &(0..=1024_usize)), Ok(1024));
        assert!(size("1025", &(0..=1024_usize)).is_err());
        assert!(size("300", &(0..=u8::MAX)).is_err());
    }

    #[test]
    fn a_word_may_stand_for_no_value() {
        let parse = |text: &str| number(text, &(1..=9_u64));
        for word in ["off", "no", "false"] {
            assert_eq!(or_off(word, parse), Ok(None));
        }
        assert_eq!((or_off("7", parse), or_auto("7", parse)), (Ok(Some(7)), Ok(Some(7))));
        assert_eq!(or_auto("auto", parse), Ok(None));
        let expected = |word| Err(format!("expected a whole number from 1 to 9, or `{word}`"));
        assert_eq!(
            (or_off("auto", parse), or_auto("off", parse)),
            (expected("off"), expected("auto"))
        );
        assert_eq!(
            (or_off("on", parse), or_auto("10", parse)),
            (expected("off"), expected("auto"))
        );
    }

    #[test]
    fn an_address_is_an_ip_and_a_port_or_a_unix_socket() {
        for text in ["127.0.0.1:3001", "[::1]:3001", "unix:/run/app.sock"] {
            assert_eq!(backend_address(text).unwrap().to_string(), text);
        }
        for text in
            ["", "localhost:80", "127.0.0.1", "127.0.0.1:0", "::1:80", "unix:", "unix:app.sock"]
        {
            assert!(backend_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_is_absolute_and_holds_no_secret() {
        for text in
            ["http://a/", "https://a.example:8443/x?y=1", "http://127.0.0.1:80", "http://[::1]/"]
        {
            assert_eq!(&*url(text).unwrap(), text);
        }
        for text in [
            "",
            "/x",
            "ftp://a/",
            "http://",
            "http://u:p@a/",
            "http://a:0/",
            "http://a/#b",
            "http:///x",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_status_is_a_number_or_a_range() {
        assert_eq!(statuses("200-399"), Ok(StatusRange { first: 200, last: 399 }));
        assert_eq!(statuses("204"), Ok(StatusRange { first: 204, last: 204 }));
        for text in ["", "20", "600", "300-200", "2xx"] {
            assert!(statuses(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_may_be_one_address() {
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert!(network("10.0.0.0/33").is_err());
    }
}
