//! Whether a request came on a connection that was opened for another host (RFC 9110 §15.5.20).
//!
//! A client may ask for several hosts on one connection, as long as the certificate that it was shown covers them
//! (RFC 9113 §9.1.1). Beyond that it was led astray, by mistake or on purpose: what was agreed on for one host, such as
//! who the client is, says nothing for another.

/// Whether `host`, as a request names it with its port if any, is none that its connection is for: neither the name
/// that the client asked for when it began TLS, nor one of those on the certificate that it was shown. A client that
/// asked for none may ask for any: it has seen who we are, and could not say more.
pub fn is_misdirected<'n>(
    host: &[u8],
    asked: Option<&str>,
    shown: impl IntoIterator<Item = &'n str>,
) -> bool {
    let Some(asked) = asked else { return false };
    let host = bare(host);
    let covered = |name: &str| covers(name, host);
    !covered(asked) && !shown.into_iter().any(covered)
}

/// A host without its port, the brackets of an IPv6 address, and the dot of the root.
fn bare(host: &[u8]) -> &[u8] {
    if let Some(address) = host.strip_prefix(b"[") {
        return address.split(|byte| *byte == b']').next().unwrap_or_default();
    }
    let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
    name.strip_suffix(b".").unwrap_or(name)
}

/// Whether a name of a certificate is that of `host`: a star stands for one whole label (RFC 9525 §6.3).
fn covers(name: &str, host: &[u8]) -> bool {
    let Some(parent) = name.strip_prefix("*.") else {
        return name.as_bytes().eq_ignore_ascii_case(host);
    };
    let dot = host.iter().position(|byte| *byte == b'.');
    let split = dot.map(|dot| (&host[..dot], &host[dot + 1..]));
    split.is_some_and(|(label, rest)| {
        !label.is_empty() && parent.as_bytes().eq_ignore_ascii_case(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_for_the_name_that_was_asked_for_and_those_on_the_certificate() {
        const NAMES: [&str; 4] = ["a.example", "*.shop.example", "192.0.2.1", "2001:db8::1"];
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
            ("[2001:db8::1]:443", Some("a.example"), false),
            // One that it does not cover.
            ("b.example", Some("a.example"), true),
            ("shop.example", Some("a.example"), true),
            ("x.eu.shop.example", Some("a.example"), true),
            (".shop.example", Some("a.example"), true),
            ("shop.example.evil.example", Some("a.example"), true),
            ("a.example.evil.example", Some("a.example"), true),
            ("192.0.2.2", Some("a.example"), true),
            ("", Some("a.example"), true),
            // Nobody was asked for.
            ("b.example", None, false),
        ] {
            assert_eq!(
                is_misdirected(host.as_bytes(), asked, NAMES),
                misdirected,
                "{host} {asked:?}"
            );
        }
        assert!(is_misdirected(b"b.example", Some("a.example"), []));
    }
}
