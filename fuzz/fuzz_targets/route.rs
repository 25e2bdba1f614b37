//! Any host and path, and any pattern for them: routing agrees with a slow reading of its rules.

#![no_main]

use homing::balancer::name::{DomainPattern, PathPrefix};
use homing::balancer::route::{AppIndex, RouteTable};
use libfuzzer_sys::fuzz_target;

/// Domains and prefixes that are always there.
const KNOWN: [(&str, &str); 6] = [
    ("shop.example.com", ""),
    ("shop.example.com", "/api"),
    ("*.example.com", ""),
    ("*.shop.example.com", "/a"),
    ("[::1]", ""),
    ("192.0.2.7", ""),
];

/// The host as routing understands it: lower case, without port and trailing dot.
fn plain(host: &[u8]) -> Option<String> {
    let host = std::str::from_utf8(host).ok()?;
    // What stands behind the last colon is a port, unless that is one of an IPv6 address; src/wire/host.rs has seen
    // to its digits.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(host.to_ascii_lowercase())
}

fuzz_target!(|input: (String, String, Vec<u8>, Vec<u8>)| {
    let (domain, prefix, host, path) = input;
    let mut routes: Vec<(DomainPattern, Option<PathPrefix>)> = Vec::new();
    let given = [(domain.as_str(), prefix.as_str())];
    for (domain, prefix) in KNOWN.into_iter().chain(given) {
        let Ok(domain) = DomainPattern::parse(domain) else { continue };
        routes.push((domain, PathPrefix::parse(prefix).ok()));
    }
    let mut table = RouteTable::default();
    table.set_default(AppIndex(999));
    let mut taken = Vec::new();
    for (index, (domain, prefix)) in routes.iter().enumerate() {
        let twice = taken.contains(&(domain, prefix));
        assert_eq!(table.add(domain, prefix.as_ref(), AppIndex(index)).is_err(), twice);
        if !twice {
            taken.push((domain, prefix));
        }
    }
    let found = table.find(&host, &path);
    let Some(AppIndex(index)) = found.filter(|app| *app != AppIndex(999)) else { return };
    // Whatever is found fits.
    let (domain, prefix) = &routes[index];
    assert!(prefix.as_ref().is_none_or(|prefix| prefix.covers(&path)));
    let host = plain(&host).expect("a host that is found is text");
    match domain {
        DomainPattern::Exact(name) => assert_eq!(**name, *host),
        DomainPattern::Below(name) => assert!(host.ends_with(&format!(".{name}"))),
    }
});
