//! The policies of an app as keys and values of the file, so that they can be compared one by one.

use std::time::Duration;

use super::{Change, Pins, adopt, limits};
use crate::balancer::affinity::cookie::{SameSite, Secure};
use crate::balancer::affinity::first_visit::FirstVisit;
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::{AffinityPolicy, OnCacheable, OnIncarnationChange, OnUnavailable};
use crate::balancer::app::policy::{
    BackendTls, HealthPolicy, Probe, StatusRange, Timeouts, Verify,
};
use crate::balancer::rebalance::RebalancePolicy;
use crate::balancer::state::AppSpec;

/// A key of the file, and what it says.
pub(super) type Setting = (&'static str, String);

/// Notes every policy that differs. Where a section is switched on or off, its keys are not compared.
pub(super) fn compare(before: &AppSpec, after: &AppSpec, changes: &mut Vec<Change>) {
    let now = settings(after);
    for (key, from) in settings(before) {
        let to = now.iter().find(|(other, _)| *other == key).map(|(_, to)| to);
        if let Some(to) = to.filter(|to| **to != from) {
            let (app, to, pins) = (after.name.clone(), to.clone(), pins(key, before, after));
            changes.push(Change::Setting { app, key, from, to, pins });
        }
    }
    changes.extend(adopt::hidden(before, after));
}

/// Whose pins another value of this key breaks.
fn pins(key: &str, before: &AppSpec, after: &AppSpec) -> Pins {
    let (Some(old), Some(new)) = (&before.affinity, &after.affinity) else {
        // Other keys of the section are not compared then.
        let lost = key == "affinity" && before.affinity.is_some();
        return if lost { Pins::OfApp(before.name.clone()) } else { Pins::None };
    };
    let shorter = match (old.limits.lifetime, new.limits.lifetime) {
        (Some(old), Some(new)) => new < old,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    match key {
        // The name is sealed into the token.
        "affinity.cookie.name" => Pins::OfApp(before.name.clone()),
        // How old the pins are is not known: all of them, at most.
        "affinity.lifetime" if shorter => Pins::OfApp(before.name.clone()),
        // Who was known by something that is asked later now, or never, may be known as somebody else.
        "affinity.identify_by" if !new.identify_by.starts_with(&old.identify_by) => {
            Pins::OfApp(before.name.clone())
        }
        "affinity.idle" if new.limits.idle < old.limits.idle => Pins::Dormant,
        _ => Pins::None,
    }
}

fn settings(app: &AppSpec) -> Vec<Setting> {
    let policy = &app.policy;
    let mut all = vec![
        ("affinity", switch(app.affinity.as_ref())),
        ("health", switch(policy.health.as_ref())),
        ("backend_tls", switch(policy.tls.as_ref())),
        ("rate_limit", switch(policy.rate_limit.as_ref())),
    ];
    all.extend(app.affinity.iter().flat_map(affinity));
    all.extend(policy.health.iter().flat_map(health));
    all.extend(timeouts(&policy.timeouts));
    all.extend(limits::settings(&policy.limits));
    all.extend(policy.rate_limit.iter().flat_map(limits::rate));
    all.extend(policy.tls.iter().flat_map(tls));
    all
}

fn affinity(policy: &AffinityPolicy) -> Vec<Setting> {
    let cookie = &policy.cookie;
    let same_site = match cookie.same_site {
        SameSite::Lax => "lax",
        SameSite::None => "none",
        SameSite::Strict => "strict",
    };
    let secure = match cookie.secure {
        Secure::Always => "always",
        Secure::Auto => "auto",
        Secure::Never => "never",
    };
    let on_unavailable = match policy.on_unavailable {
        OnUnavailable::Borrow => "borrow",
        OnUnavailable::Move => "move",
        OnUnavailable::Refuse => "strict",
        OnUnavailable::Wait => "wait",
    };
    let on_incarnation_change = match policy.on_incarnation_change {
        OnIncarnationChange::Follow => "follow",
        OnIncarnationChange::Move => "move",
        OnIncarnationChange::Refuse => "refuse",
    };
    let on_cacheable = match policy.on_cacheable {
        OnCacheable::LeaveAlone => "leave_alone",
        OnCacheable::MarkPrivate => "mark_private",
    };
    let (first_visit, epoch) = match policy.first_visit {
        FirstVisit::ByClient(epoch) => ("by_client", Some(epoch)),
        FirstVisit::Random => ("random", None),
    };
    let mut all = vec![
        ("affinity.cookie.name", cookie.name.to_string()),
        ("affinity.cookie.same_site", same_site.into()),
        ("affinity.cookie.secure", secure.into()),
        ("affinity.cookie.domain", cookie.domain.as_deref().unwrap_or("none").into()),
        ("affinity.cookie.path", cookie.path.to_string()),
        ("affinity.cookie.partitioned", on_off(cookie.partitioned)),
        ("affinity.cookie.twin", on_off(cookie.twin)),
        ("affinity.idle", shown(policy.limits.idle)),
        ("affinity.lifetime", policy.limits.lifetime.map_or_else(|| "off".into(), shown)),
        ("affinity.on_unavailable", on_unavailable.into()),
        ("affinity.borrow_limit", shown(policy.borrow_limit)),
        ("affinity.wait_limit", shown(policy.wait_limit)),
        ("affinity.on_incarnation_change", on_incarnation_change.into()),
        ("affinity.on_cacheable", on_cacheable.into()),
        ("affinity.identify_by", list(policy.identify_by.iter().map(ToString::to_string))),
        ("affinity.first_visit", first_visit.into()),
        ("affinity.first_visit_epoch", epoch.map_or_else(|| "none".into(), shown)),
        ("affinity.start_on", start_on(&policy.start_on)),
        ("affinity.obey_app", on_off(policy.obey_app)),
        ("affinity.adopt", adopt::shown(&policy.adopt)),
        ("affinity.rebalance", switch(policy.rebalance.as_ref())),
    ];
    all.extend(policy.rebalance.iter().flat_map(rebalance));
    all
}

fn rebalance(policy: &RebalancePolicy) -> [Setting; 4] {
    [
        ("affinity.rebalance.bound", (f64::from(policy.bound) / 1000.0).to_string()),
        ("affinity.rebalance.budget_percent", policy.budget_percent.to_string()),
        ("affinity.rebalance.idle", shown(policy.idle)),
        ("affinity.rebalance.rest", shown(policy.rest)),
    ]
}

fn health(policy: &HealthPolicy) -> [Setting; 9] {
    let (path, host, statuses) = match &policy.probe {
        Probe::Http { path, host, statuses } => {
            (&**path, &**host, list(statuses.iter().map(range)))
        }
        Probe::Tcp => ("none", "none", "none".into()),
    };
    [
        ("health.path", path.into()),
        ("health.host", host.into()),
        ("health.statuses", statuses),
        ("health.interval", shown(policy.interval)),
        ("health.interval_failing", shown(policy.interval_failing)),
        ("health.jitter_percent", policy.jitter_percent.to_string()),
        ("health.timeout", shown(policy.timeout)),
        ("health.rise", policy.thresholds.rise.to_string()),
        ("health.fall", policy.thresholds.fall.to_string()),
    ]
}

fn timeouts(timeouts: &Timeouts) -> [Setting; 8] {
    [
        ("timeouts.connect", shown(timeouts.connect)),
        ("timeouts.connect_total", shown(timeouts.connect_total)),
        ("timeouts.total", timeouts.total.map_or_else(|| "off".into(), shown)),
        ("timeouts.first_byte", shown(timeouts.first_byte)),
        ("timeouts.idle", shown(timeouts.idle)),
        ("timeouts.upgraded_idle", shown(timeouts.upgraded_idle)),
        ("timeouts.admission", shown(timeouts.admission)),
        ("timeouts.keepalive", shown(timeouts.keepalive)),
    ]
}

fn tls(tls: &BackendTls) -> [Setting; 2] {
    let verify = match tls.verify {
        Verify::Full => "on",
        Verify::Off => "off",
    };
    [
        ("backend_tls.server_name", tls.server_name.to_string()),
        ("backend_tls.verify", verify.into()),
    ]
}

fn start_on(start_on: &StartOn) -> String {
    match start_on {
        StartOn::Cookies(names) => format!("[{}]", names.join(", ")),
        StartOn::FirstRequest => "first_request".into(),
        StartOn::Signal => "signal".into(),
    }
}

fn switch<T>(section: Option<&T>) -> String {
    on_off(section.is_some())
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.into()
}

fn range(range: &StatusRange) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A duration as the file has it.
pub(super) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = |(unit, _): &(u128, &str)| millis > 0 && millis.is_multiple_of(*unit);
    let (unit, word) = units.into_iter().find(fits).unwrap_or((1, "ms"));
    format!("{}{word}", millis / unit)
}
