//! State out, state in: what a process hands to the one that takes over from it.
//!
//! [`Balancer::carry`] says it as plain values, and [`Event::Restored`](super::state::Event::Restored)
//! takes it in, right after the first configuration. The monotonic clocks of two processes differ, so that
//! spans are told as what is left and what has passed; the wall clock is one. What the operator wants and the
//! counters are not in here: they outlive a crash, too, and are kept elsewhere. Unknown fields, apps and
//! backends are left out, so that two versions understand each other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::affinity::token::{BackendHash, IncarnationHash};
use super::app::App;
use super::app::departed::{Departed, Run};
use super::app::health::{Health, HealthTracker, ProbeOutcome};
use super::app::live::LastProbe;
use super::app::members::{Asked, Member};
use super::app::outliers::{Ejections, OutlierPolicy};
use super::app::slow_start::Elapsed;
use super::state::{Balancer, QUARANTINE};

/// What is known of all apps, for another process.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Carried {
    /// How many configurations were accepted so far.
    pub generation: u64,
    /// The apps, by name.
    pub apps: BTreeMap<String, CarriedApp>,
}

/// What is known of one app.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CarriedApp {
    /// The backends, by id.
    pub backends: BTreeMap<String, CarriedBackend>,
    /// Since when its list is watched, in Unix seconds; `None`: it is not.
    pub watched_since: Option<u64>,
    /// The runs of backends that are on the list, or left it not long ago.
    pub runs: Vec<CarriedRun>,
}

/// Whether there is no need to say it: who reads nothing takes this.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One run of a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CarriedRun {
    /// The hash of the backend's id.
    pub backend: u64,
    /// The hash of its incarnation.
    pub incarnation: u32,
    /// When it left the list, in Unix seconds; `None`: it is on the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
}

impl CarriedRun {
    fn new(run: Run, left: Option<u64>) -> Self {
        Self { backend: run.backend.0, incarnation: run.incarnation.0, left }
    }

    fn run(self) -> Run {
        Run { backend: BackendHash(self.backend), incarnation: IncarnationHash(self.incarnation) }
    }
}

/// What is known of one backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CarriedBackend {
    /// Where it listens. What is known holds for this address only.
    pub address: String,
    /// What its probes add up to.
    pub health: CarriedHealth,
    /// How many of the last probes in a row say otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub contrary: u16,
    /// Whether it is probed at all.
    pub probed: bool,
    /// How long it has still to rest, in milliseconds; `None`: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_left_ms: Option<u64>,
    /// For how long it has been open, in milliseconds; `None`: it was closed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<u64>,
    /// For how long it has been closed, in milliseconds; `None`: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_ms: Option<u64>,
    /// Which run of it this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// What its process asks for. Holds for this run only.
    #[serde(skip_serializing_if = "is_default")]
    pub asked: Asked,
    /// How long it is still ejected, in milliseconds; `None`: it is not. Holds for this run only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected_left_ms: Option<u64>,
    /// How often it was ejected in a row. Holds for this run only.
    #[serde(skip_serializing_if = "is_default")]
    pub ejections: u32,
    /// How its last probe ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<CarriedProbe>,
}

/// [`Health`] as it is carried. A word of another version counts as unknown.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CarriedHealth {
    /// Probes pass.
    Healthy,
    /// Probes fail.
    Unhealthy,
    /// No probe answered yet.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The last probe of a backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CarriedProbe {
    /// When it ended, in Unix seconds.
    pub at: u64,
    /// How it ended: `passed`, or why it did not.
    pub result: String,
}

impl Balancer {
    /// Says all that another process should know. `now` is on the clock of the events.
    pub fn carry(&self, now: Duration) -> Carried {
        let carried = |(app, members): (&App, &[Member])| {
            let outliers = app.policy.outliers.as_ref();
            let backend =
                |member: &Member| (member.backend.id.to_string(), carry(member, outliers, now));
            let carried = CarriedApp {
                backends: members.iter().map(backend).collect(),
                watched_since: app.affinity.as_ref().map(|_| app.departed.since()),
                runs: runs(app),
            };
            (app.name.to_string(), carried)
        };
        Carried { generation: self.generation(), apps: self.apps().map(carried).collect() }
    }
}

fn runs(app: &App) -> Vec<CarriedRun> {
    if app.affinity.is_none() {
        return Vec::new();
    }
    let listed = app.backends.iter().map(|backend| CarriedRun::new(Run::of(backend), None));
    let left = app.departed.left().map(|(run, left)| CarriedRun::new(run, Some(left)));
    listed.chain(left).collect()
}

/// Who left the list of `app`, as another process remembered it; `None`: it did not. What that process had on
/// its list, and this one has not, left when this one began.
pub(super) fn departed(app: &App, carried: &CarriedApp) -> Option<Departed> {
    app.affinity.as_ref()?;
    let began = app.departed.since();
    let left = carried.runs.iter().map(|run| (run.run(), run.left.unwrap_or(began)));
    let mut departed = Departed::restored(carried.watched_since?.min(began), left);
    departed.welcome(&app.backends);
    Some(departed)
}

fn carry(member: &Member, outliers: Option<&OutlierPolicy>, now: Duration) -> CarriedBackend {
    let left = |until: Duration| millis(until.saturating_sub(now));
    CarriedBackend {
        address: member.backend.address.to_string(),
        health: member.health.health().into(),
        contrary: member.health.contrary(),
        probed: !member.health.is_unprobed(),
        quarantine_left_ms: member.quarantined_until.map(left),
        open_ms: member.open_for.map(|open_for| millis(open_for.at(now))),
        closed_ms: member.closed_for.map(|closed_for| millis(closed_for.at(now))),
        incarnation: incarnation(member),
        asked: member.asked,
        ejected_left_ms: member.ejections.until().map(left),
        ejections: outliers.map_or(0, |own| member.ejections.strikes(own.ejection, now)),
        last_probe: member
            .backend
            .live
            .last_probe()
            .map(|probe| CarriedProbe { at: probe.at, result: probe.outcome.to_string() }),
    }
}

/// Takes in what another process knew of a backend. A verdict of our own is younger, and stays.
pub(super) fn restore(
    member: &mut Member,
    carried: &CarriedBackend,
    outliers: Option<&OutlierPolicy>,
    now: Duration,
) {
    if member.backend.address.to_string() != carried.address {
        return;
    }
    if carried.probed && member.health.health() == Health::Unknown {
        member.health = HealthTracker::restored(carried.health.into(), carried.contrary);
    }
    // No rest is longer than a whole one, whatever is said.
    let left = |millis| Duration::from_millis(millis).min(QUARANTINE);
    member.quarantined_until = carried.quarantine_left_ms.map(|millis| now + left(millis));
    member.open_for =
        carried.open_ms.map(|millis| Elapsed::new(now, Duration::from_millis(millis)));
    member.closed_for =
        carried.closed_ms.map(|millis| Elapsed::new(now, Duration::from_millis(millis)));
    if incarnation(member) == carried.incarnation {
        member.asked = carried.asked;
        if let Some(policy) = outliers {
            let left = carried.ejected_left_ms.map(Duration::from_millis);
            member.ejections = Ejections::restored(left, carried.ejections, policy, now);
        }
    }
    if let Some(CarriedProbe { at, result }) = &carried.last_probe {
        let passed = *result == ProbeOutcome::Passed.to_string();
        let outcome = if passed {
            ProbeOutcome::Passed
        } else {
            ProbeOutcome::Failed(result.as_str().into())
        };
        member.backend.live.remember_probe(LastProbe { at: *at, outcome });
    }
}

fn incarnation(member: &Member) -> Option<String> {
    member.backend.incarnation.as_ref().map(ToString::to_string)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<Health> for CarriedHealth {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
            Health::Unknown => Self::Unknown,
        }
    }
}

impl From<CarriedHealth> for Health {
    fn from(health: CarriedHealth) -> Self {
        match health {
            CarriedHealth::Healthy => Self::Healthy,
            CarriedHealth::Unhealthy => Self::Unhealthy,
            CarriedHealth::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::app::backend::Address;
    use crate::balancer::app::members::{AdminState, Admission};
    use crate::balancer::app::policy::Policy;
    use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
    use crate::balancer::name::{AppName, Incarnation};
    use crate::balancer::state::{Event, Spec};
    use crate::balancer::testing::*;

    const IDS: [&str; 3] = ["a", "b", "c"];

    fn slow_spec() -> Spec {
        let mut spec = spec(&IDS);
        let slow_start = Some(SlowStart { duration: 30 * SECOND, pinned: PinnedStart::Paced });
        spec.apps[0].policy = Arc::new(Policy { slow_start, ..policy("shop.example.com") });
        spec
    }

    fn configured(spec: Spec) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        balancer
    }

    /// What a successor makes of it, whose clock begins at zero.
    fn successor(carried: Carried, spec: Spec) -> Balancer {
        let mut balancer = configured(spec);
        let applied = balancer.apply(Event::Restored(Box::new(carried)), Duration::ZERO);
        assert!(applied.changed);
        balancer
    }

    fn through_json(carried: &Carried) -> Carried {
        serde_json::from_str(&serde_json::to_string(carried).unwrap()).unwrap()
    }

    /// Admission and weight of each backend.
    fn seen(balancer: &Balancer) -> Vec<(Admission, u32)> {
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        view.admissions().map(|(slot, admission)| (admission, view.weight(slot))).collect()
    }

    fn event(kind: u8, id: &str) -> Event {
        match kind {
            0 => probed(id, ProbeOutcome::Failed("no".into())),
            1 => refused(id),
            2 => Event::Ticked,
            _ => probed(id, ProbeOutcome::Passed),
        }
    }

    proptest! {
        #[test]
        fn a_successor_admits_what_its_predecessor_did(
            steps in prop::collection::vec((0_u8..6, 0_usize..3, 0_u64..5_000), 0..60)
        ) {
            let mut balancer = configured(slow_spec());
            let mut now = Duration::ZERO;
            for (kind, backend, millis) in steps {
                now += Duration::from_millis(millis);
                balancer.apply(event(kind, IDS[backend]), now);
            }
            balancer.apply(Event::Ticked, now);
            let carried = balancer.carry(now);
            let mut heir = successor(through_json(&carried), slow_spec());
            let (was, is) = (seen(&balancer), seen(&heir));
            for ((was, last), (is, weight)) in was.into_iter().zip(is) {
                prop_assert_eq!(was, is);
                // The last step of a slow start lies behind by at most its length, of 45 thousandths.
                prop_assert!((last..=last + 46).contains(&weight), "{} became {}", last, weight);
            }
            prop_assert_eq!(heir.snapshot().generation, 2);
            let again = heir.carry(Duration::ZERO);
            prop_assert_eq!(again.apps, carried.apps);
            // The counts of contrary probes go on as well.
            for (id, kind) in IDS.iter().flat_map(|id| [(id, 0), (id, 0), (id, 3)]) {
                balancer.apply(event(kind, id), now);
                heir.apply(event(kind, id), Duration::ZERO);
            }
            let health = |balancer: &Balancer| {
                let app = AppName::parse("shop").unwrap();
                balancer.members(&app).iter().map(|m| m.health.health()).collect::<Vec<_>>()
            };
            prop_assert_eq!(health(&balancer), health(&heir));
        }

        #[test]
        fn what_is_damaged_is_no_panic(place in 0_usize..2_000, byte in 32_u8..127, digits in "[0-9]{0,20}") {
            let mut balancer = configured(slow_spec());
            balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
            balancer.apply(refused("b"), Duration::ZERO);
            let text = serde_json::to_string(&balancer.carry(SECOND)).unwrap();
            let mut damaged = text.clone().into_bytes();
            let place = place % damaged.len();
            damaged[place] = byte;
            let grown = text.replacen(":0,", &format!(":{digits}9,"), 3);
            for text in [damaged.as_slice(), grown.as_bytes()] {
                let Ok(carried) = serde_json::from_slice::<Carried>(text) else { continue };
                let mut heir = successor(carried, slow_spec());
                for id in IDS {
                    heir.apply(event(0, id), SECOND);
                }
                heir.apply(Event::Ticked, 1_000 * SECOND);
                heir.carry(2_000 * SECOND);
            }
        }
    }

    #[test]
    fn numbers_out_of_this_world_are_no_panic() {
        let mut carried = configured(slow_spec()).carry(Duration::ZERO);
        carried.generation = u64::MAX;
        for backend in carried.apps.values_mut().flat_map(|app| app.backends.values_mut()) {
            backend.health = CarriedHealth::Healthy;
            backend.contrary = u16::MAX;
            backend.quarantine_left_ms = Some(u64::MAX);
            backend.open_ms = Some(u64::MAX);
        }
        let mut heir = successor(carried, slow_spec());
        assert_eq!(heir.next_tick(), Some(QUARANTINE));
        heir.apply(event(0, "a"), SECOND);
        heir.apply(Event::Ticked, QUARANTINE);
        let again = heir.carry(1_000_000 * SECOND);
        assert_eq!(again.generation, u64::MAX);
    }

    #[test]
    fn what_is_not_configured_is_ignored_and_so_is_another_address() {
        let mut balancer = configured(spec(&IDS));
        for id in IDS {
            balancer.apply(probed(id, ProbeOutcome::Passed), Duration::ZERO);
        }
        let mut carried = balancer.carry(Duration::ZERO);
        carried.apps.insert("gone".into(), CarriedApp::default());
        let mut moved = spec(&["a", "d"]);
        moved.apps[0].backends[0].address = Address::Tcp("127.0.0.1:2".parse().unwrap());
        let heir = successor(carried.clone(), moved);
        let unknown = Admission::Closed(crate::balancer::app::members::Closed::Unknown);
        assert!(seen(&heir).iter().all(|(admission, _)| *admission == unknown));
        // Probes were off, and are on now: nothing is known.
        let backends = carried.apps.get_mut("shop").unwrap().backends.values_mut();
        backends.for_each(|backend| backend.probed = false);
        assert!(seen(&successor(carried, spec(&IDS))).iter().all(|(one, _)| *one == unknown));
    }

    /// What is known of who left, as `[(id, when)]`, and since when.
    fn who_left(balancer: &Balancer) -> (u64, Vec<(&'static str, u64)>) {
        let departed = &balancer.snapshot().apps[0].app.departed;
        let word = |run: Run| {
            ["a", "a'", "b", "c"].into_iter().find(|word| run == Run::named_by(&pin(word).token))
        };
        let mut left: Vec<_> = departed.left().map(|(run, at)| (word(run).unwrap(), at)).collect();
        left.sort_unstable();
        (departed.since(), left)
    }

    fn listing(words: &str, taken: u64) -> Spec {
        listed(affinity(OnUnavailable::Move), words, taken)
    }

    #[test]
    fn who_left_the_list_is_remembered_over_a_restart() {
        let mut balancer = configured(listing("a' b c", 1_000));
        balancer.apply(Event::Configured(Box::new(listing("a b", 2_000))), SECOND);
        assert_eq!(who_left(&balancer), (1_000, vec![("a'", 2_000), ("c", 2_000)]));
        let carried = || through_json(&balancer.carry(SECOND));
        let same = successor(carried(), listing("b a", 2_500));
        assert_eq!(who_left(&same), who_left(&balancer));
        // The successor has another list: who is not on it left then, and who is on it is there.
        let other = successor(carried(), listing("a c", 2_500));
        assert_eq!(who_left(&other), (1_000, vec![("a'", 2_000), ("b", 2_500)]));
        // One that remembers nothing, as after a crash, and one that could not know.
        assert_eq!(who_left(&configured(listing("a b", 2_500))), (2_500, vec![]));
        let mut older = carried();
        for app in older.apps.values_mut() {
            (app.watched_since, app.runs) = (None, Vec::new());
        }
        assert_eq!(who_left(&successor(older, listing("a b", 2_500))), (2_500, vec![]));
    }

    #[test]
    fn an_app_without_affinity_remembers_nobody() {
        let without = |words, taken| {
            let mut spec = listing(words, taken);
            spec.apps[0].affinity = None;
            spec
        };
        let mut balancer = configured(without("a b", 1_000));
        balancer.apply(Event::Configured(Box::new(without("a", 2_000))), SECOND);
        let app = &balancer.carry(SECOND).apps["shop"];
        assert_eq!((app.watched_since, app.runs.len()), (None, 0));
        // Switched on, it watches from then on.
        balancer.apply(Event::Configured(Box::new(listing("a", 3_000))), SECOND);
        assert_eq!(who_left(&balancer), (3_000, vec![]));
    }

    #[test]
    fn another_version_is_understood() {
        let text = r#"{"generation":7,"more":[1],"apps":{"shop":{"x":1,"backends":{
            "a":{"address":"127.0.0.1:1","health":"healthy","probed":true,"y":null},
            "b":{"address":"127.0.0.1:1","health":"splendid","probed":true},"c":{}}}}}"#;
        let heir = successor(serde_json::from_str(text).unwrap(), spec(&IDS));
        let reasons: Vec<_> = seen(&heir).iter().map(|(admission, _)| admission.reason()).collect();
        assert_eq!(reasons, ["healthy", "unknown", "unknown"]);
        assert_eq!(heir.snapshot().generation, 8);
    }

    #[test]
    fn the_last_probe_is_handed_over_and_not_counted() {
        let balancer = configured(spec(&["a"]));
        let shop = AppName::parse("shop").unwrap();
        let outcome = ProbeOutcome::Failed("status 500".into());
        balancer.members(&shop)[0].backend.live.record_probe(LastProbe { at: 5, outcome });
        let carried = through_json(&balancer.carry(Duration::ZERO));
        let heir = successor(carried, spec(&["a"]));
        let live = &heir.members(&shop)[0].backend.live;
        let last = live.last_probe().unwrap();
        assert_eq!((last.at, last.outcome.to_string()), (5, "status 500".into()));
        assert_eq!(live.probes_failed.read(), 0);
    }

    #[test]
    fn what_a_process_asks_for_is_carried_while_it_is_the_same() {
        let mut balancer = configured(spec(&IDS));
        for id in IDS {
            balancer.apply(probed(id, ProbeOutcome::Passed), Duration::ZERO);
        }
        balancer.apply(asked_to_drain("a"), Duration::ZERO);
        balancer.apply(asked_to_drain("b"), Duration::ZERO);
        balancer.apply(administered("b", AdminState::Ready), Duration::ZERO);
        let carried = through_json(&balancer.carry(SECOND));
        let asked = |heir: &Balancer| {
            let app = AppName::parse("shop").unwrap();
            heir.members(&app).iter().map(|member| member.asked).collect::<Vec<_>>()
        };
        let same = successor(carried.clone(), spec(&IDS));
        assert_eq!(asked(&same), [Asked::Drain, Asked::Overruled, Asked::Nothing]);
        assert_eq!(seen(&same)[0].0, Admission::PinnedOnly);
        let mut another = spec(&IDS);
        another.apps[0].backends[0].incarnation = Incarnation::parse("v2").ok();
        another.apps[0].backends[1].address = Address::Tcp("127.0.0.1:2".parse().unwrap());
        let another = successor(carried, another);
        assert_eq!(asked(&another), [Asked::Nothing; 3]);
    }

    #[test]
    fn what_the_operator_wants_may_come_before_or_after() {
        let mut balancer = configured(slow_spec());
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(administered("a", AdminState::Drain), SECOND);
        let carried = balancer.carry(2 * SECOND);
        let mut after = successor(carried.clone(), slow_spec());
        after.apply(administered("a", AdminState::Drain), Duration::ZERO);
        let mut before = configured(slow_spec());
        before.apply(administered("a", AdminState::Drain), Duration::ZERO);
        before.apply(Event::Restored(Box::new(carried)), Duration::ZERO);
        assert_eq!(seen(&after), seen(&before));
        assert_eq!(seen(&after)[0].0, Admission::PinnedOnly);
    }
}
