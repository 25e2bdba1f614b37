//! The words that users write, parsed once into types.

use std::borrow::Borrow;
use std::fmt;

/// Longest name of an app or id of a backend, in bytes. They stand in metric labels, log fields and
/// headers, where 63 (the limit of a DNS label) is what every tool copes with.
const NAME_BYTES_MAX: usize = 63;

/// Longest incarnation, in bytes: a release tag, a commit hash or a boot id all fit.
const INCARNATION_BYTES_MAX: usize = 128;

/// Longest domain, in bytes (RFC 1035 §2.3.4).
pub const DOMAIN_BYTES_MAX: usize = 253;

/// Why a word was refused: what was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NameError(pub &'static str);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The name of an app.
///
/// Invariant: 1 to 63 bytes of `[a-z0-9-]`, first and last not `-`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AppName(Box<str>);

impl AppName {
    /// Parses the name of an app.
    ///
    /// # Errors
    /// When `text` breaks the invariant of the type.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const EXPECTED: NameError = NameError(
            "expected 1 to 63 characters of `a` to `z`, `0` to `9` and `-`, not beginning or ending with `-`",
        );
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits { Ok(Self(text.into())) } else { Err(EXPECTED) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for AppName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The id of a backend, such as `web.1`; unique within its app.
///
/// Invariant: 1 to 63 bytes of `[A-Za-z0-9._-]`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendId(Box<str>);

impl BackendId {
    /// Parses the id of a backend.
    ///
    /// # Errors
    /// When `text` breaks the invariant of the type.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const EXPECTED: NameError =
            NameError("expected 1 to 63 characters of letters, digits, `.`, `_` and `-`");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(Self(text.into())) } else { Err(EXPECTED) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which run of a backend this is: a release, a boot id. A new one has an empty memory.
///
/// Invariant: 1 to 128 visible ASCII characters.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(Box<str>);

impl Incarnation {
    /// Parses an incarnation.
    ///
    /// # Errors
    /// When `text` breaks the invariant of the type.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const EXPECTED: NameError =
            NameError("expected 1 to 128 visible ASCII characters, such as a release or a boot id");
        let fits = (1..=INCARNATION_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(EXPECTED) }
    }

    /// The incarnation as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client may ask for in `Host` to reach an app: one name, or all names below one.
///
/// The names are lower case, without port and trailing dot, and as they travel on the wire: an
/// internationalised name in its `xn--` form.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DomainPattern {
    /// `shop.example.com`: this name alone. An IP address is a name too.
    Exact(Box<str>),
    /// `*.example.com`: every name that ends in `.example.com`, however many labels it adds.
    /// Holds `example.com`.
    Below(Box<str>),
}

impl DomainPattern {
    /// Parses `shop.example.com`, `*.example.com`, `192.0.2.7` or `[2001:db8::1]`.
    ///
    /// # Errors
    /// When `text` is no such name, or holds a port, a path or non-ASCII letters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if !text.is_ascii() {
            return Err(NameError("expected an internationalised name in its ASCII form, `xn--…`"));
        }
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        if let Some(address) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match address.parse::<std::net::Ipv6Addr>() {
                Ok(_) => Ok(Self::Exact(lower.into())),
                Err(_) => Err(NameError("expected an IPv6 address between `[` and `]`")),
            };
        }
        let (name, pattern): (&str, fn(Box<str>) -> Self) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, Self::Below),
            None => (lower, Self::Exact),
        };
        if name.contains('*') {
            return Err(NameError(
                "expected `*` only as the whole first label, as in `*.example.com`",
            ));
        }
        if name.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(NameError("expected an IPv6 address between `[` and `]`"));
        }
        // Before the port: a scheme has a colon as well.
        if name.contains('/') {
            return Err(NameError(
                "expected a name without scheme and path (paths go into `path_prefixes`)",
            ));
        }
        if name.contains(':') {
            return Err(NameError(
                "expected a name without port (every port of a listener is served)",
            ));
        }
        if is_domain(name) {
            Ok(pattern(name.into()))
        } else {
            Err(NameError("expected a domain such as `shop.example.com` or `*.example.com`"))
        }
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 bytes; 253 bytes at most (RFC 1035 §2.3.4).
/// The underscore is no host name's, but development set-ups use it.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(label)
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// The beginning of a path: `/api` matches `/api` and `/api/v2`, never `/apis`.
///
/// Invariant: begins with `/`, is more than `/`, does not end with `/`, holds no `*`, `?`, `#` or
/// space.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// Parses a path prefix.
    ///
    /// # Errors
    /// When `text` breaks the invariant of the type (one trailing `/` is taken off).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // A URL may hold one, but who writes `/api/*` means `/api`, and would wait for requests.
        if text.contains('*') {
            return Err(NameError(
                "expected the beginning of a path without `*` (everything below it is meant)",
            ));
        }
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        let fits = trimmed.len() > 1
            && trimmed.starts_with('/')
            && !trimmed.ends_with('/')
            && trimmed.bytes().all(allowed);
        if fits {
            Ok(Self(trimmed.into()))
        } else {
            Err(NameError("expected the beginning of a path such as `/api`"))
        }
    }

    /// The prefix as text, without a trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path` (no query) lies under this prefix.
    pub fn covers(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.0.as_bytes()) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

macro_rules! shown_as_text {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}
macro_rules! debugged_as_text {
    ($($name:ty),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    )+};
}
shown_as_text!(AppName, BackendId, Incarnation, PathPrefix);
debugged_as_text!(AppName, BackendId, Incarnation);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn domain(text: &str, expected: &str) {
        let shown = match DomainPattern::parse(text) {
            Ok(pattern) => pattern.to_string(),
            Err(_) => "refused".into(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_domain_is_kept_in_lower_case_and_without_its_trailing_dot() {
        domain("Shop.Example.COM.", "shop.example.com");
        domain("*.Example.com", "*.example.com");
        domain("192.0.2.7", "192.0.2.7");
        domain("[2001:DB8::1]", "[2001:db8::1]");
        domain("xn--bcher-kva.example", "xn--bcher-kva.example");
        domain("localhost", "localhost");
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "-a.b",
            "a-.b",
            "a b",
            "shop:80",
            "http://a",
            "a/b",
            "*",
            "a.*.b",
            "*a.b",
            "bücher.de",
            "[::g]",
            "2001:db8::1",
        ] {
            domain(text, "refused");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let prefix = PathPrefix::parse("/api/").unwrap();
        assert!(prefix.covers(b"/api"));
        assert!(prefix.covers(b"/api/"));
        assert!(prefix.covers(b"/api/v2"));
        assert!(!prefix.covers(b"/apis"));
        assert!(!prefix.covers(b"/"));
    }

    #[test]
    fn a_prefix_is_more_than_a_slash() {
        for text in ["", "/", "//", "api", "/a b", "/a?b", "/a#b", "/a/*"] {
            assert!(PathPrefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(AppName::parse("shop-2").is_ok());
        for text in ["", "-a", "a-", "Shop", "a_b", &"a".repeat(64)] {
            assert!(AppName::parse(text).is_err(), "{text}");
        }
        assert!(BackendId::parse("web.1").is_ok());
        assert!(BackendId::parse("web 1").is_err());
        assert!(Incarnation::parse("v42+build").is_ok());
        assert!(Incarnation::parse("").is_err());
    }
}
