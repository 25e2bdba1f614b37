//! Host and port as a request names them (RFC 9110 §7.2, RFC 3986 §3.2.2).

use std::net::Ipv6Addr;

/// Whether `value` is a host with an optional port: a name, an IPv4 address, or an IPv6 address in brackets.
/// User information, an empty name and a port that is none are refused.
pub fn is_valid(value: &[u8]) -> bool {
    let (name, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let address = std::str::from_utf8(&rest[..end]).ok();
            if address.and_then(|text| text.parse::<Ipv6Addr>().ok()).is_none() {
                return false;
            }
            (&b"v6"[..], &rest[end + 1..])
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            value.split_at(end)
        }
    };
    is_name(name) && is_port(port)
}

/// Letters, digits and what names hold: no escapes, which two parsers could undo differently.
fn is_name(name: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    !name.is_empty() && name.iter().all(known)
}

/// Nothing, or a colon and a port.
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else { return port.is_empty() };
    let number = || std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
    (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) && number().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "a",
            "shop.example.com",
            "shop.example.com.",
            "shop_1.example.com",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "a:65535",
            "xn--bcher-kva.example",
            "A.EXAMPLE:0",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn whatever_else_it_is_no_host() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:x",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:123456",
            "u@a",
            "u:p@a",
            "a b",
            "a/b",
            "a,b",
            "a%41",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[a]",
            "[]",
            "::1",
            "a:80:80",
            "a?b",
            "a#b",
            "b\u{fc}cher.example",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }
}
