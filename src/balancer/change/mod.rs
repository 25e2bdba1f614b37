//! What a new configuration changes, and whose pins that breaks: asked before it is taken.

mod adopt;
mod backends;
mod limits;
pub mod plan;
pub mod settings;

use std::fmt;

use super::affinity::keyring::{KeyId, Keyring};
use super::app::backend::{Address, BackendSpec};
use super::name::{AppName, BackendId, DomainPattern, Incarnation, PathPrefix};
use super::state::{AppSpec, Spec};

/// One difference between two configurations. The order of apps, backends, domains and path prefixes
/// is none.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields say what they are: whose, what, from what, to what")]
pub enum Change {
    /// An app is new.
    AppAdded { app: AppName, backends: usize },
    /// An app goes.
    AppRemoved { app: AppName, backends: usize },
    /// A backend is new.
    BackendAdded { app: AppName, backend: BackendId, address: Address },
    /// A backend goes.
    BackendRemoved { app: AppName, backend: BackendId },
    /// Another app takes the hosts that no domain names.
    DefaultApp { from: Option<AppName>, to: Option<AppName> },
    /// A name leads to the app.
    DomainAdded { app: AppName, domain: DomainPattern },
    /// A name leads to the app no longer.
    DomainRemoved { app: AppName, domain: DomainPattern },
    /// A key is new.
    KeyAdded { key: KeyId, role: KeyRole },
    /// A key goes; the role is that before.
    KeyRemoved { key: KeyId, role: KeyRole },
    /// The keys that stay are in another order.
    KeysReordered { sealing: KeyId },
    /// A part of its names is the app's.
    PrefixAdded { app: AppName, prefix: PathPrefix },
    /// A part of its names is the app's no longer.
    PrefixRemoved { app: AppName, prefix: PathPrefix },
    /// A backend is elsewhere.
    Readdressed { app: AppName, backend: BackendId, from: Address, to: Address },
    /// A backend is another run of itself.
    Reincarnated {
        app: AppName,
        backend: BackendId,
        from: Option<Incarnation>,
        to: Option<Incarnation>,
    },
    /// A backend has another share of new clients.
    Reweighted { app: AppName, backend: BackendId, from: u16, to: u16 },
    /// A policy of the app says something else; `key` is its place in the file, such as
    /// `timeouts.idle`.
    Setting { app: AppName, key: &'static str, from: String, to: String, pins: Pins },
}

/// What a key does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyRole {
    /// It opens what it sealed before.
    Opens,
    /// It seals: the first of the ring.
    Seals,
}

/// Whose pins a change breaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pins {
    /// Those of all apps.
    All,
    /// Those of some clients that did not come lately; nobody knows how many there are.
    Dormant,
    /// Nobody's.
    None,
    /// Those of this app.
    OfApp(AppName),
    /// Those of this backend.
    OfBackend(AppName, BackendId),
}

/// The direction of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// Something is new.
    Added,
    /// Something stays, and is different.
    Changed,
    /// Something goes.
    Removed,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "-",
        })
    }
}

/// Every change from one configuration to another: apps in the order of `after`, then those that go,
/// then what concerns all of them. Empty: they ask for the same.
pub fn between(before: &Spec, after: &Spec) -> Vec<Change> {
    let (old, new) = (before.by_name(), after.by_name());
    let mut changes = Vec::new();
    for app in &after.apps {
        match old.get(&app.name) {
            Some(old) if old.is(app) || *old == app => {}
            Some(old) => of_app(old, app, &mut changes),
            None => changes
                .push(Change::AppAdded { app: app.name.clone(), backends: app.backends.len() }),
        }
    }
    let gone = before.apps.iter().filter(|app| !new.contains_key(&app.name));
    changes.extend(
        gone.map(|app| Change::AppRemoved { app: app.name.clone(), backends: app.backends.len() }),
    );
    if before.default_app != after.default_app {
        let (from, to) = (before.default_app.clone(), after.default_app.clone());
        changes.push(Change::DefaultApp { from, to });
    }
    of_keys(&before.keyring, &after.keyring, &mut changes);
    changes
}

fn of_app(before: &AppSpec, after: &AppSpec, changes: &mut Vec<Change>) {
    let app = &after.name;
    let (old, new) = (&before.policy, &after.policy);
    changes.extend(
        missing(&new.domains, &old.domains)
            .map(|domain| Change::DomainAdded { app: app.clone(), domain: domain.clone() }),
    );
    changes.extend(
        missing(&old.domains, &new.domains)
            .map(|domain| Change::DomainRemoved { app: app.clone(), domain: domain.clone() }),
    );
    let (old, new) = (&old.path_prefixes, &new.path_prefixes);
    changes.extend(
        missing(new, old)
            .map(|prefix| Change::PrefixAdded { app: app.clone(), prefix: prefix.clone() }),
    );
    changes.extend(
        missing(old, new)
            .map(|prefix| Change::PrefixRemoved { app: app.clone(), prefix: prefix.clone() }),
    );
    settings::compare(before, after, changes);
    of_backends(before, after, changes);
}

/// What is in `these` and not in `those`.
fn missing<'a, T: PartialEq>(these: &'a [T], those: &'a [T]) -> impl Iterator<Item = &'a T> {
    these.iter().filter(|one| !those.contains(one))
}

fn of_backends(before: &AppSpec, after: &AppSpec, changes: &mut Vec<Change>) {
    let named = |app: &'_ AppSpec, id: &BackendId| app.backends.iter().position(|b| b.id == *id);
    let app = &after.name;
    for backend in &after.backends {
        match named(before, &backend.id) {
            Some(index) => of_backend(app, &before.backends[index], backend, changes),
            None => changes.push(Change::BackendAdded {
                app: app.clone(),
                backend: backend.id.clone(),
                address: backend.address.clone(),
            }),
        }
    }
    let gone = before.backends.iter().filter(|backend| named(after, &backend.id).is_none());
    changes.extend(
        gone.map(|backend| Change::BackendRemoved {
            app: app.clone(),
            backend: backend.id.clone(),
        }),
    );
}

fn of_backend(app: &AppName, old: &BackendSpec, new: &BackendSpec, changes: &mut Vec<Change>) {
    let name = || (app.clone(), new.id.clone());
    if old.address != new.address {
        let ((app, backend), from, to) = (name(), old.address.clone(), new.address.clone());
        changes.push(Change::Readdressed { app, backend, from, to });
    }
    if old.incarnation != new.incarnation {
        let ((app, backend), from, to) = (name(), old.incarnation.clone(), new.incarnation.clone());
        changes.push(Change::Reincarnated { app, backend, from, to });
    }
    if old.weight != new.weight {
        let (app, backend) = name();
        changes.push(Change::Reweighted { app, backend, from: old.weight, to: new.weight });
    }
}

fn of_keys(before: &Keyring, after: &Keyring, changes: &mut Vec<Change>) {
    let ids = |ring: &Keyring| ring.keys().iter().map(|key| key.id()).collect::<Vec<KeyId>>();
    let (old, new) = (ids(before), ids(after));
    let role = |ring: &[KeyId], key: &KeyId| match ring.first() == Some(key) {
        true => KeyRole::Seals,
        false => KeyRole::Opens,
    };
    let added =
        missing(&new, &old).map(|key| Change::KeyAdded { key: *key, role: role(&new, key) });
    changes.extend(added);
    let removed =
        missing(&old, &new).map(|key| Change::KeyRemoved { key: *key, role: role(&old, key) });
    changes.extend(removed);
    let kept = |these: &[KeyId], those: &[KeyId]| {
        these.iter().filter(|key| those.contains(key)).copied().collect::<Vec<_>>()
    };
    if let (true, Some(sealing)) = (kept(&old, &new) != kept(&new, &old), new.first()) {
        changes.push(Change::KeysReordered { sealing: *sealing });
    }
}

impl Change {
    /// Whose pins it breaks. One that moves a backend to another address, or changes what new clients
    /// get, breaks none; a key that only opens lost all clients that came since it was replaced.
    pub fn pins(&self) -> Pins {
        match self {
            Self::AppRemoved { app, .. } => Pins::OfApp(app.clone()),
            Self::BackendRemoved { app, backend } | Self::Reincarnated { app, backend, .. } => {
                Pins::OfBackend(app.clone(), backend.clone())
            }
            Self::KeyRemoved { role: KeyRole::Seals, .. } => Pins::All,
            Self::KeyRemoved { role: KeyRole::Opens, .. } => Pins::Dormant,
            Self::Setting { pins, .. } => pins.clone(),
            Self::AppAdded { .. }
            | Self::BackendAdded { .. }
            | Self::DefaultApp { .. }
            | Self::DomainAdded { .. }
            | Self::DomainRemoved { .. }
            | Self::KeyAdded { .. }
            | Self::KeysReordered { .. }
            | Self::PrefixAdded { .. }
            | Self::PrefixRemoved { .. }
            | Self::Readdressed { .. }
            | Self::Reweighted { .. } => Pins::None,
        }
    }

    /// Its direction.
    pub fn sign(&self) -> Sign {
        match self {
            Self::AppAdded { .. }
            | Self::BackendAdded { .. }
            | Self::DomainAdded { .. }
            | Self::KeyAdded { .. }
            | Self::PrefixAdded { .. } => Sign::Added,
            Self::DefaultApp { .. }
            | Self::KeysReordered { .. }
            | Self::Readdressed { .. }
            | Self::Reincarnated { .. }
            | Self::Reweighted { .. }
            | Self::Setting { .. } => Sign::Changed,
            Self::AppRemoved { .. }
            | Self::BackendRemoved { .. }
            | Self::DomainRemoved { .. }
            | Self::KeyRemoved { .. }
            | Self::PrefixRemoved { .. } => Sign::Removed,
        }
    }

    /// The app it concerns; `None`: all of them.
    pub fn app(&self) -> Option<&AppName> {
        match self {
            Self::AppAdded { app, .. }
            | Self::AppRemoved { app, .. }
            | Self::BackendAdded { app, .. }
            | Self::BackendRemoved { app, .. }
            | Self::DomainAdded { app, .. }
            | Self::DomainRemoved { app, .. }
            | Self::PrefixAdded { app, .. }
            | Self::PrefixRemoved { app, .. }
            | Self::Readdressed { app, .. }
            | Self::Reincarnated { app, .. }
            | Self::Reweighted { app, .. }
            | Self::Setting { app, .. } => Some(app),
            Self::DefaultApp { .. }
            | Self::KeyAdded { .. }
            | Self::KeyRemoved { .. }
            | Self::KeysReordered { .. } => None,
        }
    }

    /// The backend it concerns; `None`: no single one.
    pub fn backend(&self) -> Option<&BackendId> {
        match self {
            Self::BackendAdded { backend, .. }
            | Self::BackendRemoved { backend, .. }
            | Self::Readdressed { backend, .. }
            | Self::Reincarnated { backend, .. }
            | Self::Reweighted { backend, .. } => Some(backend),
            Self::AppAdded { .. }
            | Self::AppRemoved { .. }
            | Self::DefaultApp { .. }
            | Self::DomainAdded { .. }
            | Self::DomainRemoved { .. }
            | Self::KeyAdded { .. }
            | Self::KeyRemoved { .. }
            | Self::KeysReordered { .. }
            | Self::PrefixAdded { .. }
            | Self::PrefixRemoved { .. }
            | Self::Setting { .. } => None,
        }
    }
}

/// What changes, in the words of the file; whose it is stands elsewhere.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppAdded { backends, .. } => {
                write!(f, "joins with {}", plan::several(*backends, "backend"))
            }
            Self::AppRemoved { backends, .. } => {
                write!(f, "leaves with {}", plan::several(*backends, "backend"))
            }
            Self::BackendAdded { address, .. } => write!(f, "joins at {address}"),
            Self::BackendRemoved { .. } => f.write_str("leaves"),
            Self::DefaultApp { from, to } => write!(f, "default_app {} -> {}", or(from), or(to)),
            Self::DomainAdded { domain, .. } | Self::DomainRemoved { domain, .. } => {
                write!(f, "domain {domain}")
            }
            Self::KeyAdded { key, role: KeyRole::Opens } => write!(f, "key {key} opens"),
            Self::KeyAdded { key, role: KeyRole::Seals } => {
                write!(f, "key {key} seals from now on")
            }
            Self::KeyRemoved { key, role: KeyRole::Opens } => {
                write!(f, "key {key}, for pins that nobody used since it was replaced")
            }
            Self::KeyRemoved { key, role: KeyRole::Seals } => {
                write!(f, "key {key}, with which every pin is sealed")
            }
            Self::KeysReordered { sealing } => write!(f, "order of keys, {sealing} seals"),
            Self::PrefixAdded { prefix, .. } | Self::PrefixRemoved { prefix, .. } => {
                write!(f, "path prefix {prefix}")
            }
            Self::Readdressed { from, to, .. } => write!(f, "address {from} -> {to}"),
            Self::Reincarnated { from, to, .. } => {
                write!(f, "incarnation {} -> {}", or(from), or(to))
            }
            Self::Reweighted { from, to, .. } => write!(f, "weight {from} -> {to}"),
            Self::Setting { key, from, to, .. } => write!(f, "{key} {from} -> {to}"),
        }
    }
}

fn or(word: &Option<impl fmt::Display>) -> String {
    word.as_ref().map_or_else(|| "none".into(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::balancer::affinity::cookie::{SameSite, Secure};
    use crate::balancer::affinity::first_visit::FirstVisit;
    use crate::balancer::affinity::keyring::Key;
    use crate::balancer::affinity::start::StartOn;
    use crate::balancer::affinity::way::Way;
    use crate::balancer::affinity::{AffinityPolicy, OnCacheable, OnUnavailable};
    use crate::balancer::app::policy::{HealthPolicy, Policy, Probe, StatusRange};
    use crate::balancer::app::tls::{BackendTls, Verify};
    use crate::balancer::failure::Statuses;
    use crate::balancer::failure::page::{Page, Pages, Which};
    use crate::balancer::testing::*;

    /// A change, and what is told of it.
    type Row<T> = (fn(&mut T), &'static str);

    const HOUR: Duration = Duration::from_secs(3600);

    /// What a change of the app `shop` with the backends `a` and `b` is, and whose pins it breaks: one
    /// line a change.
    fn changes(change: impl FnOnce(&mut Spec)) -> Vec<String> {
        let before = spec(&["a", "b"]);
        let mut after = before.clone();
        change(&mut after);
        told(&before, &after)
    }

    fn told(before: &Spec, after: &Spec) -> Vec<String> {
        let whose = |pins: Pins| match pins {
            Pins::All => "all".to_owned(),
            Pins::Dormant => "dormant".to_owned(),
            Pins::None => "none".to_owned(),
            Pins::OfApp(app) => app.to_string(),
            Pins::OfBackend(app, backend) => format!("{app}/{backend}"),
        };
        let told = |one: Change| {
            let subject = one.backend().map(|id| format!("{id} ")).unwrap_or_default();
            format!("{} {subject}{one}: {}", one.sign(), whose(one.pins()))
        };
        between(before, after).into_iter().map(told).collect()
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Spec), expected: &str) {
        assert_eq!(changes(change), [expected]);
    }

    fn affinity(spec: &mut Spec) -> &mut AffinityPolicy {
        spec.apps[0].affinity.as_mut().unwrap()
    }

    fn policy(spec: &mut Spec) -> &mut Policy {
        Arc::make_mut(&mut spec.apps[0].policy)
    }

    fn health(spec: &mut Spec) -> &mut HealthPolicy {
        policy(spec).health.as_mut().unwrap()
    }

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    fn domain(text: &str) -> DomainPattern {
        DomainPattern::parse(text).unwrap()
    }

    fn ring(bytes: &[u8]) -> Keyring {
        let key = |byte: &u8| Key::from_secret(&[*byte; 32]).unwrap();
        Keyring::new(bytes.iter().map(key).collect()).unwrap()
    }

    #[test]
    fn another_order_is_no_change() {
        assert!(changes(|_| {}).is_empty());
        let other = |spec: &mut Spec| {
            let mut blog = spec.apps[0].clone();
            blog.name = AppName::parse("blog").unwrap();
            spec.apps.push(blog);
            policy(spec).domains.push(domain("b.example.com"));
        };
        let mut before = spec(&["a", "b"]);
        other(&mut before);
        let mut after = before.clone();
        policy(&mut after).domains.reverse();
        after.apps[0].backends.reverse();
        after.apps.reverse();
        assert_eq!(told(&before, &after), Vec::<String>::new());
    }

    #[test]
    fn apps_and_backends_come_and_go() {
        let add = |spec: &mut Spec| {
            spec.apps.push(spec.apps[0].clone());
            spec.apps[1].name = AppName::parse("blog").unwrap();
        };
        check(add, "+ joins with 2 backends: none");
        check(|spec| spec.apps.clear(), "- leaves with 2 backends: shop");
        check(|spec| spec.apps[0].backends.push(backend("c")), "+ c joins at 127.0.0.1:1: none");
        check(|spec| spec.apps[0].backends.truncate(1), "- b leaves: shop/b");
        let moved = |spec: &mut Spec| spec.apps[0].backends[0].address = tcp("127.0.0.1:2");
        check(moved, "~ a address 127.0.0.1:1 -> 127.0.0.1:2: none");
        check(|spec| spec.apps[0].backends[0].weight = 3, "~ a weight 1 -> 3: none");
        let again = |spec: &mut Spec| {
            spec.apps[0].backends[0].incarnation = Some(Incarnation::parse("v2").unwrap());
        };
        check(again, "~ a incarnation none -> v2: shop/a");
    }

    #[test]
    fn routes_come_and_go() {
        check(
            |spec| policy(spec).domains.push(domain("*.b.example.com")),
            "+ domain *.b.example.com: none",
        );
        check(|spec| policy(spec).domains.clear(), "- domain shop.example.com: none");
        let prefix = || PathPrefix::parse("/api").unwrap();
        check(|spec| policy(spec).path_prefixes.push(prefix()), "+ path prefix /api: none");
        let mut before = spec(&["a"]);
        policy(&mut before).path_prefixes.push(prefix());
        assert_eq!(told(&before, &spec(&["a"])), ["- path prefix /api: none"]);
        let default = |spec: &mut Spec| spec.default_app = Some(AppName::parse("shop").unwrap());
        check(default, "~ default_app none -> shop: none");
    }

    #[test]
    fn affinity_changes_and_takes_pins_with_it_where_it_must() {
        check(|spec| spec.apps[0].affinity = None, "~ affinity on -> off: shop");
        let mut before = spec(&["a", "b"]);
        before.apps[0].affinity = None;
        assert_eq!(told(&before, &spec(&["a", "b"])), ["~ affinity off -> on: none"]);
        let renamed = "~ affinity.cookie.name homing-affinity -> x: shop";
        check(|spec| affinity(spec).cookie.name = "x".into(), renamed);
        let by_client = |a: &mut AffinityPolicy| a.first_visit = FirstVisit::ByClient(10 * SECOND);
        assert_eq!(
            changes(|spec| by_client(affinity(spec))),
            [
                "~ affinity.first_visit random -> by_client: none",
                "~ affinity.first_visit_epoch none -> 10s: none"
            ]
        );
        let rows: [Row<AffinityPolicy>; 16] = [
            (|a| a.cookie.twin = true, "cookie.twin off -> on: none"),
            (|a| a.start_on = StartOn::Signal, "start_on first_request -> signal: none"),
            (|a| a.obey_app = true, "obey_app off -> on: none"),
            (|a| a.cookie.same_site = SameSite::Strict, "cookie.same_site lax -> strict: none"),
            (|a| a.cookie.secure = Secure::Always, "cookie.secure auto -> always: none"),
            (|a| a.cookie.domain = Some("a.b".into()), "cookie.domain none -> a.b: none"),
            (|a| a.cookie.path = "/api".into(), "cookie.path / -> /api: none"),
            (|a| a.cookie.partitioned = true, "cookie.partitioned off -> on: none"),
            (|a| a.limits.idle = HOUR, "idle 1d -> 1h: dormant"),
            (|a| a.limits.idle = 30 * HOUR, "idle 1d -> 30h: none"),
            (|a| a.limits.lifetime = Some(48 * HOUR), "lifetime off -> 2d: shop"),
            (|a| a.on_unavailable = OnUnavailable::Refuse, "on_unavailable move -> strict: none"),
            (
                |a| a.on_cacheable = OnCacheable::LeaveAlone,
                "on_cacheable mark_private -> leave_alone: none",
            ),
            (|a| a.cookie.same_site = SameSite::None, "cookie.same_site lax -> none: none"),
            (
                |a| a.identify_by = Box::new([Way::Cookie, Way::Address]),
                "identify_by [cookie] -> [cookie, address]: none",
            ),
            (
                |a| a.identify_by = Box::new([Way::Query("sid".into()), Way::Cookie]),
                "identify_by [cookie] -> [query sid, cookie]: shop",
            ),
        ];
        for (change, expected) in rows {
            check(|spec| change(affinity(spec)), &format!("~ affinity.{expected}"));
        }
    }

    #[test]
    fn policies_change_key_by_key() {
        check(|spec| policy(spec).health = None, "~ health on -> off: none");
        let rows: [Row<HealthPolicy>; 6] = [
            (|h| h.interval = 10 * SECOND, "interval 5s -> 10s"),
            (|h| h.interval_failing = Duration::from_millis(500), "interval_failing 1s -> 500ms"),
            (|h| h.jitter_percent = 20, "jitter_percent 10 -> 20"),
            (|h| h.timeout = SECOND, "timeout 2s -> 1s"),
            (|h| h.thresholds.rise = 1, "rise 2 -> 1"),
            (|h| h.thresholds.fall = 1, "fall 3 -> 1"),
        ];
        for (change, expected) in rows {
            check(|spec| change(health(spec)), &format!("~ health.{expected}: none"));
        }
        let asked = |spec: &mut Spec| {
            let statuses =
                vec![StatusRange { first: 200, last: 399 }, StatusRange { first: 404, last: 404 }];
            health(spec).probe = Probe::Http { path: "/up".into(), host: "a".into(), statuses };
        };
        assert_eq!(
            changes(asked),
            [
                "~ health.path none -> /up: none",
                "~ health.host none -> a: none",
                "~ health.statuses none -> [200-399, 404]: none"
            ]
        );
        check(|spec| policy(spec).timeouts.idle = 60 * SECOND, "~ timeouts.idle 55s -> 1m: none");
        let statuses = "~ errors.status heroku -> rfc9110: none";
        check(|spec| policy(spec).errors.statuses = Statuses::Rfc9110, statuses);
        let page = (Which::Default, Page { name: "a.html".into(), kept: None });
        let pages = "~ errors.pages [] -> [default: a.html]: none";
        check(|spec| policy(spec).errors.pages = Pages::new(vec![page]), pages);
        let tls = || Some(BackendTls::new("a", Verify::Full));
        check(|spec| policy(spec).tls = tls(), "~ backend_tls off -> on: none");
        let (mut before, mut after) = (spec(&["a"]), spec(&["a"]));
        (policy(&mut before).tls, policy(&mut after).tls) = (tls(), tls());
        if let Some(tls) = &mut policy(&mut after).tls {
            tls.verify = Verify::Off;
        }
        assert_eq!(told(&before, &after), ["~ backend_tls.verify on -> off: none"]);
    }

    #[test]
    fn a_key_takes_the_pins_with_it_that_it_alone_opens() {
        let turn = |before: &[u8], after: &[u8]| {
            let (mut old, mut new) = (spec(&["a"]), spec(&["a"]));
            (old.keyring, new.keyring) = (ring(before), ring(after));
            told(&old, &new)
        };
        let id = |byte: u8| ring(&[byte]).keys()[0].id();
        let (one, two) = (id(1), id(2));
        assert_eq!(turn(&[1], &[2, 1]), [format!("+ key {two} seals from now on: none")]);
        assert_eq!(turn(&[1], &[1, 2]), [format!("+ key {two} opens: none")]);
        assert_eq!(turn(&[1, 2], &[2, 1]), [format!("~ order of keys, {two} seals: none")]);
        let unused = "for pins that nobody used since it was replaced: dormant";
        assert_eq!(turn(&[2, 1], &[2]), [format!("- key {one}, {unused}")]);
        let all = "with which every pin is sealed: all";
        assert_eq!(turn(&[1, 2], &[2]), [format!("- key {one}, {all}")]);
        assert_eq!(
            turn(&[1], &[2]),
            [format!("+ key {two} seals from now on: none"), format!("- key {one}, {all}")]
        );
    }
}
