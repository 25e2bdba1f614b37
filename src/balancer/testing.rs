//! What the tests of the core share: small configurations, and a small language for views.

use std::sync::Arc;
use std::time::Duration;

use super::affinity::AffinityPolicy;
use super::affinity::keyring::Keyring;
use super::app::backend::{Address, BackendSpec};
use super::app::health::{ProbeOutcome, Thresholds};
use super::app::limits::AppLimits;
use super::app::members::AdminState;
use super::app::outliers::{End, OutlierPolicy, Pinned, Why};
use super::app::policy::Policy;
use super::app::protocol::BackendProtocol;
use super::app::response_limits::ResponseLimits;
use super::app::retries::RetryPolicy;
use super::app::view::{AppView, Tried};
use super::assign::{Patience, Queued, Request};
use super::name::{AppName, BackendId, DomainPattern};
use super::state::{AppSpec, Balancer, Event, Spec};
use crate::balancer::affinity::cookie::{CookiePolicy, SameSite, Secure};
use crate::balancer::affinity::first_visit::FirstVisit;
use crate::balancer::affinity::keyring::Key;
use crate::balancer::affinity::start::StartOn;
use crate::balancer::affinity::token::{
    BackendHash, ClientId, IncarnationHash, Limits, Notes, Token,
};
use crate::balancer::affinity::way::Way;
use crate::balancer::affinity::{
    OnCacheable, OnIncarnationChange, OnUnavailable, Pin, Presented, Renewal,
};
use crate::balancer::app::policy::{HealthPolicy, Probe, Timeouts};
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::name::Incarnation;
use crate::balancer::rebalance::RebalancePolicy;
use crate::wire::fault::Lenient;

/// When configurations of tests are accepted, in Unix seconds: long after pins of tests are made.
pub(crate) const TAKEN: u64 = 1_000_000;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn hash(id: &str) -> BackendHash {
    BackendHash::of(&BackendId::parse(id).unwrap())
}

/// A pin to `a`, or to an earlier incarnation of it when written `a'`.
pub(crate) fn pin(text: &str) -> Pin {
    let id = text.trim_end_matches('\'');
    let earlier = text.ends_with('\'').then(|| Incarnation::parse("earlier").unwrap());
    let token = Token {
        client: ClientId::new(7),
        notes: Notes::default(),
        backend: hash(id),
        incarnation: IncarnationHash::of(earlier.as_ref()),
        issued: 1,
        renewed: 1,
    };
    Pin { token, renewal: Renewal::NotDue }
}

/// What the file says with `rebalance: on`.
pub(crate) const REBALANCE: RebalancePolicy = RebalancePolicy {
    bound: 1250,
    budget_percent: 10,
    idle: Duration::from_secs(60),
    rest: Duration::from_secs(3600),
};

/// What the file says with `outliers: on`, but that no status counts.
pub(crate) const OUTLIERS: OutlierPolicy = OutlierPolicy {
    consecutive: Some(5),
    share: None,
    statuses: Vec::new(),
    ejection: Duration::from_secs(30),
    ejection_max: Duration::from_secs(300),
    max_ejected_percent: 50,
    pinned: Pinned::Keep,
    end: End::Time,
};

/// What holds without a word in the file.
pub(crate) const RETRIES: RetryPolicy =
    RetryPolicy { max: 9, budget_percent: 20, min_per_second: 10 };

pub(crate) fn keyring() -> Keyring {
    Keyring::new(vec![Key::from_secret(&[1; 32]).unwrap()]).unwrap()
}

pub(crate) fn affinity(on_unavailable: OnUnavailable) -> AffinityPolicy {
    AffinityPolicy {
        cookie: CookiePolicy {
            name: "homing-affinity".into(),
            same_site: SameSite::Lax,
            secure: Secure::Auto,
            domain: None,
            path: "/".into(),
            partitioned: false,
            twin: false,
        },
        limits: Limits { idle: 86_400 * SECOND, lifetime: None },
        on_unavailable,
        borrow_limit: 600 * SECOND,
        wait_limit: 10 * SECOND,
        on_incarnation_change: OnIncarnationChange::Move,
        on_cacheable: OnCacheable::MarkPrivate,
        rebalance: None,
        adopt: Arc::default(),
        start_on: StartOn::FirstRequest,
        obey_app: false,
        identify_by: Box::new([Way::Cookie]),
        first_visit: FirstVisit::Random,
    }
}

pub(crate) fn policy(domains: &str) -> Policy {
    Policy {
        domains: domains.split_whitespace().map(|d| DomainPattern::parse(d).unwrap()).collect(),
        path_prefixes: Vec::new(),
        health: Some(HealthPolicy {
            probe: Probe::Tcp,
            interval: 5 * SECOND,
            interval_failing: SECOND,
            jitter_percent: 10,
            timeout: 2 * SECOND,
            thresholds: Thresholds { rise: 2, fall: 3 },
        }),
        timeouts: Timeouts {
            connect: 5 * SECOND,
            connect_total: 15 * SECOND,
            total: None,
            first_byte: 30 * SECOND,
            idle: 55 * SECOND,
            upgraded_idle: 3600 * SECOND,
            admission: 10 * SECOND,
            keepalive: 50 * SECOND,
        },
        response_limits: ResponseLimits::default(),
        limits: AppLimits::default(),
        rate_limit: None,
        tls: None,
        protocol: BackendProtocol::Http1,
        proxy_protocol: None,
        hsts: None,
        slow_start: None,
        outliers: None,
        retries: RETRIES,
        panic: None,
        lenient: Lenient::default(),
        errors: ErrorPolicy::default(),
    }
}

pub(crate) fn backend(id: &str) -> BackendSpec {
    BackendSpec {
        id: BackendId::parse(id).unwrap(),
        address: Address::Tcp("127.0.0.1:1".parse().unwrap()),
        weight: 1,
        incarnation: None,
    }
}

pub(crate) fn spec(backends: &[&str]) -> Spec {
    let app = AppSpec {
        name: AppName::parse("shop").unwrap(),
        affinity: Some(affinity(OnUnavailable::Move)),
        policy: Arc::new(policy("shop.example.com")),
        backends: backends.iter().map(|id| backend(id)).collect(),
    };
    Spec { apps: vec![app.into()], default_app: None, keyring: keyring(), taken: TAKEN }
}

/// A list that was accepted at `taken` (Unix seconds), one word a backend: `a`, or an earlier incarnation of it, `a'`.
pub(crate) fn listed(policy: AffinityPolicy, words: &str, taken: u64) -> Spec {
    let of = |word: &str| BackendSpec {
        incarnation: word.ends_with('\'').then(|| Incarnation::parse("earlier").unwrap()),
        ..backend(word.trim_end_matches('\''))
    };
    let mut spec = spec(&[]);
    spec.taken = taken;
    spec.apps[0].affinity = Some(policy);
    spec.apps[0].backends = words.split_whitespace().map(of).collect();
    spec
}

pub(crate) fn probed(id: &str, outcome: ProbeOutcome) -> Event {
    Event::Probed {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        address: backend(id).address,
        outcome,
    }
}

pub(crate) fn refused(id: &str) -> Event {
    Event::ConnectFailed {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        address: backend(id).address,
    }
}

pub(crate) fn outlier(id: &str) -> Event {
    Event::FoundOutlier {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        address: backend(id).address,
        why: Why::Consecutive,
    }
}

pub(crate) fn asked_to_drain(id: &str) -> Event {
    Event::AskedToDrain {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        address: backend(id).address,
    }
}

pub(crate) fn administered(id: &str, state: AdminState) -> Event {
    Event::Administered {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        state,
        deadline: None,
    }
}

/// A drain whose deadline is at `deadline`.
pub(crate) fn drained(id: &str, deadline: Duration) -> Event {
    Event::Administered {
        app: AppName::parse("shop").unwrap(),
        backend: BackendId::parse(id).unwrap(),
        state: AdminState::Drain,
        deadline: Some(deadline),
    }
}

pub(crate) fn maintained(on: bool) -> Event {
    Event::AppMaintained { app: AppName::parse("shop").unwrap(), on }
}

/// A view of one app. One word a backend, an id and what it admits: `a` open, `a?` pinned only,
/// `a!` unhealthy, `a-` maintenance, `a~` unknown, `a*` quarantined; with a `/` behind, drained.
pub(crate) fn view(on_unavailable: OnUnavailable, backends: &str) -> Arc<AppView> {
    Arc::clone(&balancer(on_unavailable, backends).snapshot().apps[0])
}

/// A balancer with the same app.
pub(crate) fn balancer(on_unavailable: OnUnavailable, backends: &str) -> Balancer {
    let words: Vec<&str> = backends.split_whitespace().collect();
    let ids: Vec<&str> =
        words.iter().map(|word| word.trim_end_matches(['?', '!', '-', '~', '*', '/'])).collect();
    let mut spec = spec(&ids);
    spec.apps[0].affinity = Some(affinity(on_unavailable));
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
    for (word, id) in words.iter().zip(ids) {
        let failed = ProbeOutcome::Failed("no".into());
        let marks = word.trim_start_matches(id);
        let mut events = match marks.trim_end_matches('/') {
            "" => vec![probed(id, ProbeOutcome::Passed)],
            "?" => vec![probed(id, ProbeOutcome::Passed), administered(id, AdminState::Drain)],
            "!" => vec![probed(id, failed)],
            "-" => {
                vec![probed(id, ProbeOutcome::Passed), administered(id, AdminState::Maintenance)]
            }
            "~" => vec![],
            "*" => vec![probed(id, ProbeOutcome::Passed), refused(id)],
            other => panic!("no such mark: {other}"),
        };
        if marks.ends_with('/') {
            events.push(drained(id, Duration::ZERO));
        }
        for event in events {
            balancer.apply(event, Duration::ZERO);
        }
    }
    balancer
}

/// A request that shows this, long after its pin was made, has all the time, and is no safe one.
pub(crate) fn request<'r>(presented: &'r Presented, tried: &'r Tried) -> Request<'r> {
    Request {
        presented,
        tried,
        patience: Patience::Waits,
        queued: Queued::Not,
        now: TAKEN,
        place: None,
        is_safe: false,
        in_session: false,
    }
}
