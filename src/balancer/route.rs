//! From a host and a path to an app, in constant time however many apps there are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use foldhash::fast::RandomState;

use super::name::{DOMAIN_BYTES_MAX, DomainPattern, PathPrefix};

/// Most path prefixes under one domain. They are tried one after the other.
pub const PREFIXES_MAX: usize = 64;

/// The place of an app in the list of a snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AppIndex(pub usize);

/// Which app serves which host and path.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Box<str>, Site, RandomState>,
    /// `*.example.com` under `example.com`.
    below: HashMap<Box<str>, Site, RandomState>,
    default: Option<AppIndex>,
}

/// The apps under one domain.
#[derive(Debug, Default)]
struct Site {
    whole: Option<AppIndex>,
    /// Longest first.
    prefixes: Vec<(PathPrefix, AppIndex)>,
}

/// Two apps want the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteConflict {
    /// The domain.
    pub domain: DomainPattern,
    /// The prefix, unless it is the whole domain.
    pub prefix: Option<PathPrefix>,
    /// The app that had it first.
    pub taken_by: AppIndex,
}

impl fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.as_ref().map_or("", PathPrefix::as_str);
        write!(f, "`{}{prefix}` leads to two apps", self.domain)
    }
}

impl RouteTable {
    /// Leads `domain` (all of it, or the part under `prefix`) to an app.
    ///
    /// # Errors
    /// When it leads to an app already.
    pub fn add(
        &mut self,
        domain: &DomainPattern,
        prefix: Option<&PathPrefix>,
        app: AppIndex,
    ) -> Result<(), RouteConflict> {
        let (sites, name) = match domain {
            DomainPattern::Exact(name) => (&mut self.exact, name),
            DomainPattern::Below(name) => (&mut self.below, name),
        };
        let site = sites.entry(name.clone()).or_default();
        let taken = match prefix {
            None => site.whole,
            Some(prefix) => {
                site.prefixes.iter().find(|(other, _)| other == prefix).map(|(_, app)| *app)
            }
        };
        if let Some(taken_by) = taken {
            let (domain, prefix) = (domain.clone(), prefix.cloned());
            return Err(RouteConflict { domain, prefix, taken_by });
        }
        match prefix {
            None => site.whole = Some(app),
            Some(prefix) => {
                site.prefixes.push((prefix.clone(), app));
                site.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.as_str().len()));
            }
        }
        Ok(())
    }

    /// How many prefixes a domain has, to keep them within [`PREFIXES_MAX`].
    pub fn prefixes(&self, domain: &DomainPattern) -> usize {
        let site = match domain {
            DomainPattern::Exact(name) => self.exact.get(name),
            DomainPattern::Below(name) => self.below.get(name),
        };
        site.map_or(0, |site| site.prefixes.len())
    }

    /// Leads every host that no domain names to an app.
    pub fn set_default(&mut self, app: AppIndex) {
        self.default = Some(app);
    }

    /// The app for a `Host` (as the client sent it) and a path (without query).
    ///
    /// An exact name comes before a wildcard, a longer wildcard before a shorter, a longer prefix
    /// before a shorter. A domain that leads nowhere for this path does not fall through to a
    /// wildcard: who owns the name answers for all of it.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<AppIndex> {
        let found = match normalised(host) {
            Some(host) => self.site(&host).map(|site| site.find(path)),
            None => None,
        };
        found.unwrap_or(self.default)
    }

    fn site(&self, host: &str) -> Option<&Site> {
        if let Some(site) = self.exact.get(host) {
            return Some(site);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(site) = self.below.get(parent) {
                return Some(site);
            }
            rest = parent;
        }
        None
    }
}

impl Site {
    fn find(&self, path: &[u8]) -> Option<AppIndex> {
        let prefixed = self.prefixes.iter().find(|(prefix, _)| prefix.covers(path));
        prefixed.map(|(_, app)| *app).or(self.whole)
    }
}

/// A host as the table has it: lower case, without port and trailing dot.
fn normalised(host: &[u8]) -> Option<Cow<'_, str>> {
    let host = std::str::from_utf8(host).ok()?;
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > DOMAIN_BYTES_MAX {
        return None;
    }
    Some(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// A `Host` without its port. An IPv6 address keeps its brackets.
pub fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// Whether the names of two patterns overlap, so that a cookie of one may reach the other.
pub fn overlap(one: &DomainPattern, other: &DomainPattern) -> bool {
    let within = |name: &str, parent: &str| {
        name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    match (one, other) {
        (DomainPattern::Exact(a), DomainPattern::Exact(b)) => a == b,
        (DomainPattern::Exact(name), DomainPattern::Below(parent))
        | (DomainPattern::Below(parent), DomainPattern::Exact(name)) => {
            name != parent && within(name, parent)
        }
        (DomainPattern::Below(a), DomainPattern::Below(b)) => within(a, b) || within(b, a),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `routes`: one word each, a domain and perhaps a path; the first is app 0 and so on.
    fn table(routes: &str) -> RouteTable {
        let mut table = RouteTable::default();
        for (index, route) in routes.split_whitespace().enumerate() {
            let (domain, prefix) = match route.find('/') {
                Some(slash) => (&route[..slash], Some(PathPrefix::parse(&route[slash..]).unwrap())),
                None => (route, None),
            };
            let domain = DomainPattern::parse(domain).unwrap();
            table.add(&domain, prefix.as_ref(), AppIndex(index)).unwrap();
        }
        table
    }

    #[track_caller]
    fn check(routes: &str, request: &str, expected: Option<usize>) {
        let (host, path) = request.split_at(request.find('/').unwrap());
        let found = table(routes).find(host.as_bytes(), path.as_bytes());
        assert_eq!(found.map(|app| app.0), expected, "{routes} | {request}");
    }

    #[test]
    fn a_host_is_found_in_any_case_with_any_port_and_a_trailing_dot() {
        check("shop.example.com", "shop.example.com/", Some(0));
        check("shop.example.com", "SHOP.Example.Com:8080/", Some(0));
        check("shop.example.com", "shop.example.com.:80/x", Some(0));
        check("[::1] 127.0.0.1", "[::1]:8080/", Some(0));
        check("[::1] 127.0.0.1", "[::1]/", Some(0));
        check("[::1] 127.0.0.1", "127.0.0.1:80/", Some(1));
    }

    #[test]
    fn an_unknown_host_leads_nowhere() {
        for host in [
            "",
            ".",
            ":80",
            "example.com",
            "shop.example.com.evil",
            "xshop.example.com",
            "[::1",
            "a b",
        ] {
            check("shop.example.com", &format!("{host}/"), None);
        }
        check("shop.example.com", &format!("{}/", "a.".repeat(200)), None);
    }

    #[test]
    fn an_exact_name_comes_before_a_wildcard_and_a_longer_wildcard_before_a_shorter() {
        let routes = "*.example.com a.example.com *.b.example.com";
        check(routes, "a.example.com/", Some(1));
        check(routes, "c.example.com/", Some(0));
        check(routes, "x.y.example.com/", Some(0));
        check(routes, "x.b.example.com/", Some(2));
        check(routes, "b.example.com/", Some(0));
        check(routes, "example.com/", None);
    }

    #[test]
    fn the_longest_prefix_wins_and_the_rest_goes_to_the_whole() {
        let routes = "a.com a.com/api a.com/api/v2";
        check(routes, "a.com/", Some(0));
        check(routes, "a.com/apis", Some(0));
        check(routes, "a.com/api", Some(1));
        check(routes, "a.com/api/v1", Some(1));
        check(routes, "a.com/api/v2/x", Some(2));
        check("a.com/api", "a.com/", None);
    }

    #[test]
    fn a_default_app_takes_what_nobody_names() {
        let mut table = table("a.com");
        table.set_default(AppIndex(7));
        assert_eq!(table.find(b"b.com", b"/"), Some(AppIndex(7)));
        assert_eq!(table.find(b"\xff", b"/"), Some(AppIndex(7)));
        assert_eq!(table.find(b"a.com", b"/"), Some(AppIndex(0)));
    }

    #[test]
    fn two_apps_cannot_have_the_same() {
        let mut table = table("a.com a.com/api");
        let domain = DomainPattern::parse("A.com").unwrap();
        let prefix = PathPrefix::parse("/api").unwrap();
        assert_eq!(table.add(&domain, None, AppIndex(2)).unwrap_err().taken_by, AppIndex(0));
        assert_eq!(
            table.add(&domain, Some(&prefix), AppIndex(2)).unwrap_err().taken_by,
            AppIndex(1)
        );
    }

    #[test]
    fn patterns_overlap_when_one_name_can_match_both() {
        let overlaps = |a: &str, b: &str| {
            overlap(&DomainPattern::parse(a).unwrap(), &DomainPattern::parse(b).unwrap())
        };
        assert!(overlaps("a.com", "a.com"));
        assert!(overlaps("x.a.com", "*.a.com"));
        assert!(overlaps("*.b.a.com", "*.a.com"));
        assert!(!overlaps("a.com", "*.a.com"));
        assert!(!overlaps("xa.com", "*.a.com"));
        assert!(!overlaps("*.ba.com", "*.a.com"));
    }

    proptest! {
        #[test]
        fn no_host_and_no_path_panics(
            host in prop::collection::vec(any::<u8>(), 0..300),
            path in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let _ = table("a.com *.b.com/x [::1]").find(&host, &path);
        }
    }
}
