//! The `affinity` section of an app.

use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::{DAY, SECOND};
use crate::balancer::affinity::cookie::{CookiePolicy, SameSite, Secure};
use crate::balancer::affinity::token::Limits;
use crate::balancer::affinity::{AffinityPolicy, OnCacheable, OnUnavailable};
use crate::balancer::name::{DomainPattern, PathPrefix};
use crate::balancer::route::overlap;

/// How long a pin is kept without use, unless the file says otherwise.
const IDLE: std::time::Duration = DAY;
/// Longest life of a cookie that browsers grant (RFC 6265bis §5.5).
const LIFE_MAX: std::time::Duration = DAY.saturating_mul(400);

/// The name of the cookie, unless the file says otherwise.
const COOKIE_NAME: &str = "homing-affinity";

/// Reads the section. `domains` and `prefixes` are the app's: its cookie must reach them.
pub(super) fn affinity(
    tree: Option<&Tree>,
    domains: &[DomainPattern],
    prefixes: &[PathPrefix],
    problems: &mut Problems,
) -> Option<AffinityPolicy> {
    let nothing = Tree { place: super::Place::START, value: Value::Map(Vec::new()) };
    let tree = match tree {
        Some(tree) if matches!(tree.value, Value::Scalar(_)) => {
            match problems.scalar(tree, scalar::switch)? {
                Switch::Off => return None,
                Switch::On => &nothing,
            }
        }
        Some(tree) => tree,
        None => &nothing,
    };
    let mut fields = problems.fields(tree, "`affinity`");
    let cookie = cookie(fields.optional("cookie").unwrap_or(&nothing), domains, prefixes, problems);
    let limits = limits(fields.optional("idle"), fields.optional("lifetime"), problems);
    let on_unavailable = [("move", OnUnavailable::Move), ("strict", OnUnavailable::Refuse)];
    let on_cacheable =
        [("mark_private", OnCacheable::MarkPrivate), ("leave_alone", OnCacheable::LeaveAlone)];
    let policy = AffinityPolicy {
        cookie,
        limits,
        on_unavailable: fields
            .optional("on_unavailable")
            .and_then(|tree| problems.choice(tree, &on_unavailable))
            .unwrap_or(OnUnavailable::Move),
        on_cacheable: fields
            .optional("on_cacheable")
            .and_then(|tree| problems.choice(tree, &on_cacheable))
            .unwrap_or(OnCacheable::MarkPrivate),
    };
    fields.finish(problems);
    Some(policy)
}

fn limits(idle: Option<&Tree>, lifetime: Option<&Tree>, problems: &mut Problems) -> Limits {
    let life = match lifetime {
        Some(Tree { value: Value::Scalar(word), .. }) if word == "off" => None,
        Some(tree) => problems.duration(tree, 60 * SECOND, LIFE_MAX),
        None => None,
    };
    let given = idle.and_then(|tree| Some((tree, problems.duration(tree, 60 * SECOND, LIFE_MAX)?)));
    if let (Some((tree, idle)), Some(life)) = (given, life)
        && idle > life
    {
        let (idle, life) = (scalar::shown(idle), scalar::shown(life));
        let text = format!("`idle` {idle} is longer than `lifetime` {life}");
        problems.note(Problem::at(tree.place, text).help("lower `idle`, or leave it out"));
    }
    let default = life.map_or(IDLE, |life| life.min(IDLE));
    Limits { idle: given.map_or(default, |(_, idle)| idle), lifetime: life }
}

fn cookie(
    tree: &Tree,
    domains: &[DomainPattern],
    prefixes: &[PathPrefix],
    problems: &mut Problems,
) -> CookiePolicy {
    let mut fields = problems.fields(tree, "`cookie`");
    let name_tree = fields.optional("name");
    let name = name_tree.and_then(|tree| problems.scalar(tree, scalar::cookie_name));
    let name = name.unwrap_or_else(|| COOKIE_NAME.into());
    let same_sites =
        [("lax", SameSite::Lax), ("none", SameSite::None), ("strict", SameSite::Strict)];
    let same_site_tree = fields.optional("same_site");
    let same_site = same_site_tree.and_then(|tree| problems.choice(tree, &same_sites));
    let same_site = same_site.unwrap_or(SameSite::Lax);
    let partitioned_tree = fields.optional("partitioned");
    let partitioned = partitioned_tree.and_then(|tree| problems.scalar(tree, scalar::switch));
    let partitioned = partitioned == Some(Switch::On);

    // Who needs `Secure`, and where that was asked for.
    let needs_secure = [
        (same_site == SameSite::None, same_site_tree, "`same_site: none`"),
        (partitioned, partitioned_tree, "`partitioned: on`"),
        (name.starts_with("__Host-"), name_tree, "a name that begins with `__Host-`"),
        (name.starts_with("__Secure-"), name_tree, "a name that begins with `__Secure-`"),
    ];
    let needs_secure = needs_secure.into_iter().find(|(needed, _, _)| *needed);
    let secures = [("auto", Secure::Auto), ("always", Secure::Always), ("never", Secure::Never)];
    let secure_tree = fields.optional("secure");
    let secure = secure_tree.and_then(|tree| problems.choice(tree, &secures));
    if let (Some((_, _, who)), Some(tree), Some(Secure::Auto | Secure::Never)) =
        (needs_secure, secure_tree, secure)
    {
        let problem = Problem::at(tree.place, format!("{who} needs `secure: always`"));
        problems.note(problem.help("browsers drop the cookie otherwise; leave `secure` out"));
    }
    let default = if needs_secure.is_some() { Secure::Always } else { Secure::Auto };

    let domain_tree = fields.optional("domain");
    let domain = domain_tree.and_then(|tree| cookie_domain(tree, domains, problems));
    let path_tree = fields.optional("path");
    let path = path_tree.and_then(|tree| problems.scalar(tree, scalar::cookie_path));
    // One prefix: the cookie stays under it, apart from the cookies of neighbours on the domain.
    let default_path = match prefixes {
        [only] => only.as_str(),
        _ => "/",
    };
    if let (Some(tree), Some(path)) = (path_tree, &path)
        && let Some(missed) = missed_prefix(path, prefixes)
    {
        let text = format!("a cookie with path `{path}` is not sent to `{missed}`");
        problems.note(Problem::at(tree.place, text).help("use `path: /`"));
    }
    let path = path.unwrap_or_else(|| default_path.into());
    if name.starts_with("__Host-") {
        let wrong = [(domain_tree, "`domain`"), (path_tree.filter(|_| &*path != "/"), "`path`")];
        for (tree, what) in wrong {
            if let Some(tree) = tree {
                let text = format!("a name that begins with `__Host-` forbids {what}");
                problems
                    .note(Problem::at(tree.place, text).help("use `__Secure-`, or leave it out"));
            }
        }
    }
    fields.finish(problems);
    let path = if name.starts_with("__Host-") { "/".into() } else { path };
    CookiePolicy { name, same_site, secure: secure.unwrap_or(default), domain, path, partitioned }
}

/// A domain that browsers accept from every domain of the app (RFC 6265 §5.3).
fn cookie_domain(
    tree: &Tree,
    domains: &[DomainPattern],
    problems: &mut Problems,
) -> Option<Box<str>> {
    let parsed =
        problems.scalar(tree, |text| match DomainPattern::parse(text.trim_start_matches('.')) {
            Ok(DomainPattern::Exact(name)) if name.parse::<std::net::IpAddr>().is_err() => Ok(name),
            Ok(_) | Err(_) => Err("expected the domain of a cookie such as `example.com`"),
        })?;
    let exact = DomainPattern::Exact(parsed.clone());
    let below = DomainPattern::Below(parsed.clone());
    let foreign = domains.iter().find(|domain| {
        let is_parent = matches!(domain, DomainPattern::Below(name) if *name == parsed);
        **domain != exact && !is_parent && !overlap(domain, &below)
    });
    if let Some(foreign) = foreign {
        let text = format!("browsers refuse a cookie for `{parsed}` from `{foreign}`");
        problems.note(
            Problem::at(tree.place, text).help("leave `domain` out: the cookie is host-only then"),
        );
    }
    Some(parsed)
}

fn missed_prefix<'p>(path: &str, prefixes: &'p [PathPrefix]) -> Option<&'p str> {
    let covering = PathPrefix::parse(path).ok();
    let reached = |prefix: &&PathPrefix| {
        path == "/" || covering.as_ref().is_some_and(|path| path.covers(prefix.as_str().as_bytes()))
    };
    if prefixes.is_empty() {
        return (path != "/").then_some("/");
    }
    prefixes.iter().find(|prefix| !reached(prefix)).map(PathPrefix::as_str)
}
