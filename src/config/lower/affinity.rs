//! The `affinity` section of an app.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::{Fields, Problems, Toggle, unexpected};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::adopt::adopt;
use super::app::Scope;
use super::rebalance::rebalance;
use super::ways::ways;
use super::{DAY, SECOND, start};
use crate::balancer::affinity::cookie::{CookiePolicy, SameSite, Secure};
use crate::balancer::affinity::first_visit::FirstVisit;
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::token::Limits;
use crate::balancer::affinity::way::Way;
use crate::balancer::affinity::{AffinityPolicy, OnCacheable, OnIncarnationChange, OnUnavailable};
use crate::balancer::name::{DomainPattern, PathPrefix};
use crate::balancer::rebalance::RebalancePolicy;
use crate::balancer::route::overlap;

/// How long a pin is kept without use, unless the file says otherwise.
const IDLE: Duration = DAY;
/// How long a pin may be told to last. Browsers keep no cookie longer than 400 days (RFC 6265bis §5.5).
const LIFE: RangeInclusive<Duration> = SECOND.saturating_mul(60)..=DAY.saturating_mul(400);

/// How long another backend stands in, unless the file says otherwise: longer than a deployment.
const BORROW_LIMIT: Duration = SECOND.saturating_mul(600);
/// How long a request waits for its backend, unless the file says otherwise: a backend that refused a
/// connection rests for 5 seconds, and clients give up after about 30.
const WAIT_LIMIT: Duration = SECOND.saturating_mul(10);
const HOUR: Duration = SECOND.saturating_mul(3600);

/// How long first visits of a client are drawn alike, unless the file says otherwise: a browser has its first
/// response, and the cookie in it, long before.
const FIRST_VISIT_EPOCH: Duration = SECOND.saturating_mul(10);

/// The name of the cookie, unless the file says otherwise.
const COOKIE_NAME: &str = "homing-affinity";

/// Reads the section; `None`: clients are kept on no backend.
pub(super) fn affinity(
    tree: Option<&Tree>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Option<AffinityPolicy> {
    let switches = [Switch::On, Switch::Off];
    let toggle = tree.map_or(Ok(Toggle::On), |tree| Toggle::of(tree, "affinity", &switches));
    let tree = match problems.noted(toggle)? {
        Toggle::Off => return None,
        Toggle::On => Tree::BARE,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`affinity`")?;
    let cookie = cookie(fields.optional("cookie").unwrap_or(Tree::BARE), scope, problems);
    let limits = limits(fields.optional("idle"), fields.optional("lifetime"), problems);
    let on_unavailable = [
        ("move", OnUnavailable::Move),
        ("borrow", OnUnavailable::Borrow),
        ("wait", OnUnavailable::Wait),
        ("strict", OnUnavailable::Refuse),
    ];
    let on_unavailable = problems.choice(fields.optional("on_unavailable"), &on_unavailable);
    let borrow_limit =
        problems.duration_or(fields.optional("borrow_limit"), &(SECOND..=DAY), BORROW_LIMIT);
    let wait_limit =
        problems.duration_or(fields.optional("wait_limit"), &(SECOND..=HOUR), WAIT_LIMIT);
    let on_incarnation_change = [
        ("move", OnIncarnationChange::Move),
        ("follow", OnIncarnationChange::Follow),
        ("refuse", OnIncarnationChange::Refuse),
    ];
    let on_incarnation_change =
        problems.choice(fields.optional("on_incarnation_change"), &on_incarnation_change);
    let on_cacheable =
        [("mark_private", OnCacheable::MarkPrivate), ("leave_alone", OnCacheable::LeaveAlone)];
    let on_cacheable = problems.choice(fields.optional("on_cacheable"), &on_cacheable);
    let rebalance_tree = fields.optional("rebalance");
    let rebalance = rebalance(rebalance_tree, problems);
    forbid_late(rebalance_tree, rebalance.as_ref(), &limits, problems);
    let own = cookie.as_ref().map(|cookie| &*cookie.name);
    let adopt_tree = fields.optional("adopt");
    let adopt = adopt(adopt_tree, own, scope, problems);
    let obey_app = start::obey_app(fields.optional("obey_app"), problems);
    let start_tree = fields.optional("start_on");
    let start_on = start::start_on(start_tree, obey_app, cookie.as_ref(), scope, problems);
    let cookie_name = cookie.as_ref().map_or(COOKIE_NAME, |cookie| &cookie.name);
    let identify_by = ways(fields.optional("identify_by"), cookie_name, scope, problems);
    let first_visit = first_visit(&mut fields, problems);
    if matches!(scope, Scope::App { .. }) && !identify_by.contains(&Way::Cookie) {
        let rests_on_cookie = [
            (start_tree.filter(|_| start_on != StartOn::FirstRequest), "start_on"),
            (rebalance_tree.filter(|_| rebalance.is_some()), "rebalance"),
            (adopt_tree.filter(|_| !adopt.is_empty()), "adopt"),
        ];
        for (tree, key) in rests_on_cookie {
            forbid_without_cookie(tree, key, problems);
        }
    }
    fields.finish(problems);
    Some(AffinityPolicy {
        cookie: cookie?,
        limits,
        on_unavailable: on_unavailable.unwrap_or(OnUnavailable::Move),
        borrow_limit,
        wait_limit,
        on_incarnation_change: on_incarnation_change.unwrap_or(OnIncarnationChange::Move),
        on_cacheable: on_cacheable.unwrap_or(OnCacheable::MarkPrivate),
        rebalance,
        adopt,
        start_on,
        obey_app,
        identify_by,
        first_visit,
    })
}

/// A pin that ends before its client may be moved is never moved.
fn forbid_late(
    tree: Option<&Tree>,
    rebalance: Option<&RebalancePolicy>,
    limits: &Limits,
    problems: &mut Problems,
) {
    let (Some(tree), Some(rebalance)) = (tree, rebalance) else { return };
    let life = limits.lifetime.map_or(limits.idle, |life| life.min(limits.idle));
    if rebalance.idle + rebalance.renewal() >= life {
        let text = "pins end before a client was idle for so long that it may be moved";
        let help =
            "make `idle` of `rebalance` less than two thirds of `idle` and `lifetime` of the pin";
        problems.note(Problem::at(tree.place, text).help(help));
    }
}

/// What is about our cookie is of no use without it.
fn forbid_without_cookie(tree: Option<&Tree>, key: &str, problems: &mut Problems) {
    let Some(tree) = tree else { return };
    let text = format!("`{key}` needs `cookie` in `identify_by`");
    problems.note(Problem::at(tree.place, text).help("no client gets a cookie of ours otherwise"));
}

fn first_visit(fields: &mut Fields<'_>, problems: &mut Problems) -> FirstVisit {
    let choice = fields.optional("first_visit");
    let tree = fields.optional("first_visit_epoch");
    let epoch = problems.duration_or(tree, &(SECOND..=HOUR), FIRST_VISIT_EPOCH);
    let choices = [("random", FirstVisit::Random), ("by_client", FirstVisit::ByClient(epoch))];
    if let Some(tree) = tree
        && !epoch.as_millis().is_multiple_of(1000)
    {
        problems.note(unexpected(tree, "expected whole seconds"));
    }
    problems.choice(choice, &choices).unwrap_or(FirstVisit::Random)
}

fn limits(idle: Option<&Tree>, lifetime: Option<&Tree>, problems: &mut Problems) -> Limits {
    let lifetime_of = |text: &str| match scalar::switch(text) {
        Ok(Switch::Off) => Ok(None),
        Ok(Switch::On) | Err(_) => match scalar::duration_within(text, &LIFE) {
            Ok(life) => Ok(Some(life)),
            Err(expected) => Err(format!("{expected}, or `off`")),
        },
    };
    let life = lifetime.and_then(|tree| problems.scalar(tree, lifetime_of)).flatten();
    let default = life.map_or(IDLE, |life| life.min(IDLE));
    let limits = Limits { idle: problems.duration_or(idle, &LIFE, default), lifetime: life };
    if let (Some(idle), Some(lifetime), Some(life)) = (idle, lifetime, life)
        && limits.idle > life
    {
        let (shown, life) = (idle.value.text(), lifetime.value.text());
        let text = format!("`idle` {shown} is longer than `lifetime` {life}");
        problems.note(Problem::at(idle.place, text).help("lower `idle`, or leave it out"));
    }
    limits
}

/// Reads the cookie, which must reach all of the app.
fn cookie(tree: &Tree, scope: Scope<'_>, problems: &mut Problems) -> Option<CookiePolicy> {
    let mut fields = problems.fields(tree, "`cookie`")?;
    let name_tree = fields.optional("name");
    let name = name_tree.and_then(|tree| problems.scalar(tree, scalar::cookie_name));
    let name = name.unwrap_or_else(|| COOKIE_NAME.into());
    let same_sites =
        [("lax", SameSite::Lax), ("none", SameSite::None), ("strict", SameSite::Strict)];
    let same_site_tree = fields.optional("same_site");
    let same_site = problems.choice(same_site_tree, &same_sites).unwrap_or(SameSite::Lax);
    let partitioned = fields.optional("partitioned");
    let partitioned = partitioned.and_then(|tree| problems.scalar(tree, scalar::switch));
    let partitioned = partitioned == Some(Switch::On);
    let twin = twin(fields.optional("twin"), same_site, scope, problems);

    let needs_secure = [
        (same_site == SameSite::None, "`same_site: none`"),
        (partitioned, "`partitioned: on`"),
        (is_bound_to_host(&name), "a name that begins with `__Host-`"),
        (begins_with(&name, "__Secure-"), "a name that begins with `__Secure-`"),
    ];
    let needs_secure = needs_secure.into_iter().find_map(|(needs, who)| needs.then_some(who));
    let secure = secure(fields.optional("secure"), needs_secure, problems);
    let domain_tree = fields.optional("domain");
    let domain = domain_tree.and_then(|tree| cookie_domain(tree, scope.domains(), problems));
    let path_tree = fields.optional("path");
    let path = cookie_path(path_tree, &name, scope, problems);
    if is_bound_to_host(&name) {
        forbid(domain_tree, "`domain`", problems);
        forbid(path_tree.filter(|_| &*path != "/"), "`path`", problems);
    }
    let domain = domain.filter(|_| !is_bound_to_host(&name));
    fields.finish(problems);
    Some(CookiePolicy { name, same_site, secure, domain, path, partitioned, twin })
}

/// Whether the cookie has a twin, which only one with `SameSite=None` needs.
fn twin(
    tree: Option<&Tree>,
    same_site: SameSite,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> bool {
    let Some(tree) = tree else { return false };
    let on = problems.scalar(tree, scalar::switch) == Some(Switch::On);
    // Elsewhere an app may still say `none`.
    if on && same_site != SameSite::None && matches!(scope, Scope::App { .. }) {
        let problem = Problem::at(tree.place, "`twin: on` needs `same_site: none`");
        problems.note(problem.help("say `same_site: none`; or leave `twin` out, since every browser takes the cookie as it is"));
    }
    on
}

/// Whether browsers take the cookie for one host and all of its paths only (RFC 6265bis §4.1.3.2).
fn is_bound_to_host(name: &str) -> bool {
    begins_with(name, "__Host-")
}

/// Browsers match the prefixes of names without case.
fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn forbid(tree: Option<&Tree>, what: &str, problems: &mut Problems) {
    let Some(tree) = tree else { return };
    let text = format!("a name that begins with `__Host-` forbids {what}");
    problems.note(Problem::at(tree.place, text).help("use `__Secure-`, or leave it out"));
}

/// When the cookie is `Secure`; `needed`: who makes browsers insist on it.
fn secure(tree: Option<&Tree>, needed: Option<&str>, problems: &mut Problems) -> Secure {
    let words = [("auto", Secure::Auto), ("always", Secure::Always), ("never", Secure::Never)];
    let secure = problems.choice(tree, &words);
    if let (Some(who), Some(tree), Some(Secure::Auto | Secure::Never)) = (needed, tree, secure) {
        let problem = Problem::at(tree.place, format!("{who} needs `secure: always`"));
        problems.note(problem.help("browsers drop the cookie otherwise; leave `secure` out"));
    }
    let default = if needed.is_some() { Secure::Always } else { Secure::Auto };
    secure.unwrap_or(default)
}

/// A domain that browsers accept from every domain of the app (RFC 6265 §5.3). One that they refuse
/// reaches no other app either.
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
        let help = "leave `domain` out: the cookie is host-only then";
        problems.note(Problem::at(tree.place, text).help(help));
        return None;
    }
    Some(parsed)
}

/// A path under which all prefixes of the app lie.
fn cookie_path(
    tree: Option<&Tree>,
    name: &str,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Box<str> {
    let path = tree.and_then(|tree| problems.scalar(tree, scalar::cookie_path));
    if let (Some(tree), Some(path), Some(prefixes)) = (tree, &path, scope.prefixes())
        && let Some(missed) = missed_prefix(path, prefixes)
    {
        let text = format!("a cookie with path `{path}` is not sent to `{missed}`");
        problems.note(Problem::at(tree.place, text).help("use `path: /`"));
    }
    path.unwrap_or_else(|| match scope.prefixes() {
        // One prefix: the cookie stays under it, apart from the cookies of neighbours on the domain.
        Some([only]) if !is_bound_to_host(name) => only.as_str().into(),
        Some(_) | None => "/".into(),
    })
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
