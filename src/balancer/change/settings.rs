//! The policies of an app as keys and values of the file, so that they can be compared one by one.

use std::time::Duration;

use super::{Change, Pins, adopt, backends, limits};
use crate::balancer::affinity::cookie::{SameSite, Secure};
use crate::balancer::affinity::first_visit::FirstVisit;
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::{AffinityPolicy, OnCacheable, OnIncarnationChange, OnUnavailable};
use crate::balancer::app::hsts::Hsts;
use crate::balancer::app::outliers::{End, FailureShare, OutlierPolicy, Pinned};
use crate::balancer::app::panic::PanicPolicy;
use crate::balancer::app::policy::{HealthPolicy, Policy, Probe, StatusRange, Timeouts};
use crate::balancer::app::response_limits::ResponseLimits;
use crate::balancer::app::retries::RetryPolicy;
use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
use crate::balancer::failure::Statuses;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::rebalance::RebalancePolicy;
use crate::balancer::state::AppSpec;
use crate::wire::fault::Lenient;
use crate::wire::proxied::Version;

/// A key of the file, and what it says.
pub type Setting = (&'static str, String);

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
    changes.extend(backends::hidden(before, after));
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
    // Field by field, so that none is forgotten. Names and prefixes are compared elsewhere.
    let Policy {
        domains: _,
        path_prefixes: _,
        health: probes,
        timeouts: times,
        response_limits: heads,
        limits: own_limits,
        rate_limit,
        tls: backend_tls,
        protocol,
        proxy_protocol: introduction,
        hsts: transport,
        slow_start: start,
        outliers: failing,
        retries: again,
        panic: panics,
        lenient: leniency,
        errors: pages,
    } = &*app.policy;
    let mut all = vec![
        ("affinity", switch(app.affinity.as_ref())),
        ("health", switch(probes.as_ref())),
        ("backend_tls", switch(backend_tls.as_ref())),
        ("hsts", switch(transport.as_ref())),
        ("proxy_protocol", proxy_protocol(*introduction).into()),
        ("outliers", switch(failing.as_ref())),
        ("panic", switch(panics.as_ref())),
        ("retries", on_off(again.max > 0)),
        ("rate_limit", switch(rate_limit.as_ref())),
        ("slow_start", switch(start.as_ref())),
    ];
    all.extend(app.affinity.iter().flat_map(affinity));
    all.extend(probes.iter().flat_map(health));
    all.extend(timeouts(times));
    all.extend(response_limits(*heads));
    all.extend(errors(pages));
    all.extend(limits::settings(own_limits));
    all.extend(rate_limit.iter().flat_map(limits::rate));
    all.extend(backend_tls.iter().flat_map(backends::tls));
    all.extend(backends::protocol(*protocol));
    all.extend(transport.iter().flat_map(|told| hsts(&told.hsts)));
    all.extend(start.iter().flat_map(slow_start));
    all.push(("lenient", lenient(*leniency)));
    all.extend(failing.iter().flat_map(outliers));
    all.extend(panics.iter().flat_map(panic));
    all.extend(Some(again).filter(|own| own.max > 0).into_iter().flat_map(retries));
    all
}

fn proxy_protocol(version: Option<Version>) -> &'static str {
    match version {
        None => "off",
        Some(Version::V1) => "v1",
        Some(Version::V2) => "v2",
    }
}

fn lenient(lenient: Lenient) -> String {
    let Lenient { empty_line, equal_lengths, target_eight_bit } = lenient;
    let words = [
        ("empty_line", empty_line),
        ("equal_lengths", equal_lengths),
        ("target_eight_bit", target_eight_bit),
    ];
    list(words.into_iter().filter(|(_, on)| *on).map(|(word, _)| word.to_owned()))
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

fn health(policy: &HealthPolicy) -> [Setting; 10] {
    let none = || "none".to_owned();
    let (path, host, statuses, grpc) = match &policy.probe {
        Probe::Http { path, host, statuses } => {
            (&**path, &**host, list(statuses.iter().map(range)), none())
        }
        Probe::Grpc { service, host } => ("none", &**host, none(), format!("\"{service}\"")),
        Probe::Tcp => ("none", "none", none(), none()),
    };
    [
        ("health.path", path.into()),
        ("health.host", host.into()),
        ("health.statuses", statuses),
        ("health.grpc.service", grpc),
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

fn response_limits(limits: ResponseLimits) -> [Setting; 5] {
    [
        ("response_limits.status_line_bytes", limits.status_line_bytes.to_string()),
        ("response_limits.field_bytes", limits.field_bytes.to_string()),
        ("response_limits.cookie_bytes", limits.cookie_bytes.to_string()),
        ("response_limits.head_bytes", limits.head_bytes.to_string()),
        ("response_limits.fields", limits.fields.to_string()),
    ]
}

/// The keys of `errors`.
pub(crate) fn errors(errors: &ErrorPolicy) -> [Setting; 2] {
    let statuses = match errors.statuses {
        Statuses::Heroku => "heroku",
        Statuses::Rfc9110 => "rfc9110",
    };
    let pages = errors.pages.all().map(|(which, page)| format!("{which}: {}", page.name));
    [("errors.status", statuses.into()), ("errors.pages", list(pages))]
}

fn hsts(hsts: &Hsts) -> [Setting; 3] {
    let Hsts { max_age, include_subdomains, preload } = hsts;
    [
        ("hsts.max_age", shown(*max_age)),
        ("hsts.include_subdomains", on_off(*include_subdomains)),
        ("hsts.preload", on_off(*preload)),
    ]
}

fn slow_start(start: &SlowStart) -> [Setting; 2] {
    let pinned = match start.pinned {
        PinnedStart::AtOnce => "at_once",
        PinnedStart::Paced => "paced",
    };
    [("slow_start.duration", shown(start.duration)), ("slow_start.pinned", pinned.into())]
}

fn outliers(policy: &OutlierPolicy) -> [Setting; 10] {
    let or_off = |number: Option<u32>| number.map_or_else(|| "off".into(), |n| n.to_string());
    let share = policy.share.as_ref();
    let of_share = |shown: fn(&FailureShare) -> String| share.map_or_else(|| "none".into(), shown);
    let pinned = match policy.pinned {
        Pinned::Keep => "keep",
        Pinned::Move => "move",
    };
    let end = match policy.end {
        End::Probes => "probes",
        End::Time => "time",
    };
    [
        ("outliers.consecutive", or_off(policy.consecutive)),
        ("outliers.failure_percent", or_off(share.map(|share| share.percent.into()))),
        ("outliers.requests", of_share(|share| share.requests.to_string())),
        ("outliers.interval", of_share(|share| shown(share.interval))),
        ("outliers.statuses", list(policy.statuses.iter().map(range))),
        ("outliers.ejection", shown(policy.ejection)),
        ("outliers.ejection_max", shown(policy.ejection_max)),
        ("outliers.max_ejected_percent", policy.max_ejected_percent.to_string()),
        ("outliers.pinned", pinned.into()),
        ("outliers.end", end.into()),
    ]
}

fn panic(policy: &PanicPolicy) -> [Setting; 2] {
    [
        ("panic.below_percent", policy.below_percent.to_string()),
        ("panic.then", policy.then.as_str().into()),
    ]
}

fn retries(policy: &RetryPolicy) -> [Setting; 3] {
    [
        ("retries.max", policy.max.to_string()),
        ("retries.budget_percent", policy.budget_percent.to_string()),
        ("retries.min_per_second", policy.min_per_second.to_string()),
    ]
}

fn start_on(start_on: &StartOn) -> String {
    match start_on {
        StartOn::Cookies(names) => format!("[{}]", names.join(", ")),
        StartOn::FirstRequest => "first_request".into(),
        StartOn::Signal => "signal".into(),
    }
}

/// Whether there is a section.
pub(crate) fn switch<T>(section: Option<&T>) -> String {
    on_off(section.is_some())
}

/// A switch as the file has it.
pub(crate) fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.into()
}

fn range(range: &StatusRange) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    }
}

/// A list as the file has it.
pub(crate) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A duration as the file has it.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = |(unit, _): &(u128, &str)| millis > 0 && millis.is_multiple_of(*unit);
    let (unit, word) = units.into_iter().find(fits).unwrap_or((1, "ms"));
    format!("{}{word}", millis / unit)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::balancer::app::panic::Then;
    use crate::balancer::testing::{OUTLIERS, RETRIES, SECOND, policy, spec};

    /// What differs when one policy becomes the other: `key from -> to`.
    fn changed(before: Policy, after: Policy) -> Vec<String> {
        let app = |policy| {
            let mut app = spec(&["a"]).apps.remove(0);
            app.policy = Arc::new(policy);
            app
        };
        let mut changes = Vec::new();
        compare(&app(before), &app(after), &mut changes);
        let told = |change: &Change| {
            let Change::Setting { key, from, to, .. } = change else { return None };
            Some(format!("{key} {from} -> {to}"))
        };
        changes.iter().filter_map(told).collect()
    }

    fn plain() -> Policy {
        policy("shop.example.com")
    }

    #[test]
    fn what_follows_from_failed_requests_is_compared_key_by_key() {
        let on = |outliers| Policy { outliers: Some(outliers), ..plain() };
        assert_eq!(changed(plain(), on(OUTLIERS)), ["outliers off -> on"]);
        let share = FailureShare { percent: 50, requests: 20, interval: 10 * SECOND };
        let other = OutlierPolicy {
            consecutive: None,
            share: Some(share),
            statuses: vec![StatusRange { first: 500, last: 500 }],
            ejection: 10 * SECOND,
            ejection_max: 60 * SECOND,
            max_ejected_percent: 20,
            pinned: Pinned::Move,
            end: End::Probes,
        };
        let expected = [
            "outliers.consecutive 5 -> off",
            "outliers.failure_percent off -> 50",
            "outliers.requests none -> 20",
            "outliers.interval none -> 10s",
            "outliers.statuses [] -> [500]",
            "outliers.ejection 30s -> 10s",
            "outliers.ejection_max 5m -> 1m",
            "outliers.max_ejected_percent 50 -> 20",
            "outliers.pinned keep -> move",
            "outliers.end time -> probes",
        ];
        assert_eq!(changed(on(OUTLIERS), on(other)), expected);
    }

    #[test]
    fn how_backends_are_told_of_clients_is_compared() {
        let told = |proxy_protocol| Policy { proxy_protocol, ..plain() };
        let (v1, v2) = (told(Some(Version::V1)), told(Some(Version::V2)));
        assert_eq!(changed(plain(), v1.clone()), ["proxy_protocol off -> v1"]);
        assert_eq!(changed(v1, v2), ["proxy_protocol v1 -> v2"]);
    }

    #[test]
    fn what_browsers_are_told_is_compared_key_by_key() {
        let on = |max_age, include_subdomains, preload| {
            let hsts = Hsts { max_age, include_subdomains, preload };
            Policy { hsts: Some(hsts.into()), ..plain() }
        };
        let (short, long) = (on(300 * SECOND, false, false), on(31_536_000 * SECOND, true, true));
        assert_eq!(changed(plain(), short.clone()), ["hsts off -> on"]);
        let expected = [
            "hsts.max_age 5m -> 365d",
            "hsts.include_subdomains off -> on",
            "hsts.preload off -> on",
        ];
        assert_eq!(changed(short, long), expected);
    }

    #[test]
    fn a_slow_start_is_compared_key_by_key() {
        let on = |seconds, pinned| {
            let duration = Duration::from_secs(seconds);
            Policy { slow_start: Some(SlowStart { duration, pinned }), ..plain() }
        };
        assert_eq!(changed(plain(), on(30, PinnedStart::AtOnce)), ["slow_start off -> on"]);
        let expected = ["slow_start.duration 30s -> 1m", "slow_start.pinned at_once -> paced"];
        assert_eq!(changed(on(30, PinnedStart::AtOnce), on(60, PinnedStart::Paced)), expected);
    }

    #[test]
    fn retries_and_panic_are_compared_key_by_key() {
        let retries = |retries| Policy { retries, ..plain() };
        let off = RetryPolicy { max: 0, ..RETRIES };
        assert_eq!(changed(plain(), retries(off)), ["retries on -> off"]);
        let other = RetryPolicy { max: 2, budget_percent: 10, min_per_second: 1 };
        let expected = [
            "retries.max 9 -> 2",
            "retries.budget_percent 20 -> 10",
            "retries.min_per_second 10 -> 1",
        ];
        assert_eq!(changed(plain(), retries(other)), expected);
        let panic = |below_percent, then| {
            let panic = Some(PanicPolicy { below_percent, then });
            Policy { panic, ..plain() }
        };
        assert_eq!(changed(plain(), panic(50, Then::Spread)), ["panic off -> on"]);
        let expected = ["panic.below_percent 50 -> 30", "panic.then spread -> refuse"];
        assert_eq!(changed(panic(50, Then::Spread), panic(30, Then::Refuse)), expected);
    }
}
