//! Whether a request came on a connection that was opened for another host (RFC 9110 §15.5.20).
//!
//! A client may ask for several hosts on one connection, as long as the certificate that it was shown covers them
//! (RFC 9113 §9.1.1). Beyond that it was led astray, by mistake or on purpose: what was agreed on for one host, such as
//! who the client is, says nothing for another.

use std::net::IpAddr;

/// A name on the certificate that a client was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown<'n> {
    /// An IP address.
    Address(IpAddr),
    /// Any one label before this domain (RFC 9525 §6.3).
    Below(&'n str),
    /// A host.
    Host(&'n str),
}

/// Whether `host`, as a request names it with its port if any, is none that its connection is for: neither the name
/// that the client asked for when it began TLS, nor one of those on the certificate that it was shown. A client that
/// asked for none may ask for any: it has seen who we are, and could not say more. So may a request without a host.
pub fn is_misdirected<'n>(
    host: &[u8],
    asked: Option<&str>,
    shown: impl IntoIterator<Item = Shown<'n>>,
) -> bool {
    let Some(asked) = asked.filter(|_| !host.is_empty()) else { return false };
    let host = bare(host);
    !is_same(asked, host) && !shown.into_iter().any(|name| covers(name, host))
}

/// A host without its port, the brackets of an IPv6 address, and the dot of the root.
fn bare(host: &[u8]) -> &[u8] {
    if let Some(address) = host.strip_prefix(b"[") {
        return address.split(|byte| *byte == b']').next().unwrap_or_default();
    }
    let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
    name.strip_suffix(b".").unwrap_or(name)
}

fn is_same(name: &str, host: &[u8]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.as_bytes().eq_ignore_ascii_case(host)
}

fn covers(name: Shown<'_>, host: &[u8]) -> bool {
    match name {
        Shown::Host(name) => is_same(name, host),
        Shown::Below(domain) => {
            let dot = host.iter().position(|byte| *byte == b'.').filter(|dot| *dot > 0);
            dot.is_some_and(|dot| is_same(domain, &host[dot + 1..]))
        }
        Shown::Address(address) => {
            let told = std::str::from_utf8(host).ok().and_then(|text| text.parse().ok());
            told == Some(address)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_for_the_name_that_was_asked_for_and_those_on_the_certificate() {
        let names = [
            Shown::Host("a.example"),
            Shown::Below("shop.example"),
            Shown::Address("192.0.2.1".parse().unwrap()),
            Shown::Address("2001:db8::1".parse().unwrap()),
        ];
        for (host, asked, misdirected) in [
            ("a.example", Some("a.example"), false),
            ("A.EXAMPLE.:8443", Some("a.example"), false),
            // The name that was asked for, also where a default certificate without it was shown.
            ("other.example", Some("other.example"), false),
            ("other.example:443", Some("Other.Example"), false),
            // Another one that the certificate covers: connections are shared.
            ("eu.shop.example", Some("a.example"), false),
            ("a.example", Some("eu.shop.example"), false),
            ("192.0.2.1:443", Some("a.example"), false),
            ("[2001:DB8:0::1]:443", Some("a.example"), false),
            // One that it does not cover.
            ("b.example", Some("a.example"), true),
            ("shop.example", Some("a.example"), true),
            ("x.eu.shop.example", Some("a.example"), true),
            (".shop.example", Some("a.example"), true),
            ("shop.example.evil.example", Some("a.example"), true),
            ("a.example.evil.example", Some("a.example"), true),
            ("192.0.2.2", Some("a.example"), true),
            // None is named, by a client of HTTP/1.0.
            ("", Some("a.example"), false),
            // Nobody was asked for.
            ("b.example", None, false),
        ] {
            assert_eq!(
                is_misdirected(host.as_bytes(), asked, names),
                misdirected,
                "{host} {asked:?}"
            );
        }
        assert!(is_misdirected(b"b.example", Some("a.example"), []));
    }
}
