//! Ejecting backends of one app, never too many of them; and the state that an app is in as a whole.

use std::time::Duration;

use super::app::backend::Address;
use super::app::health::ProbeOutcome;
use super::app::members::{Admission, Around, Closed, Member};
use super::app::outliers::{End, Why};
use super::entry::Entry;
use super::name::BackendId;
use super::state::Applied;

impl Entry {
    /// Ejects a backend whose requests fail, if others take new clients, and not too many are ejected. What was
    /// found at another address than its own is old.
    pub(super) fn eject(
        &mut self,
        backend: &BackendId,
        address: &Address,
        why: Why,
        now: Duration,
        applied: &mut Applied,
    ) {
        let is_it =
            |member: &Member| member.backend.id == *backend && member.backend.address == *address;
        let Some(index) = self.members.iter().position(is_it) else { return };
        let Some(policy) = &self.app.policy.outliers else { return };
        // One that takes nobody new is none to be spared; and in a panic no verdict is worth much.
        let serves = matches!(
            self.members[index].admission(),
            Admission::Open | Admission::Closed(Closed::Quarantined)
        );
        if !serves || self.members[index].ejections.is_on() || self.panic.is_some() {
            return;
        }
        let ejected = self.members.iter().filter(|member| member.ejections.is_on()).count();
        let others = self.members.iter().zip(0..).filter(|(_, other)| *other != index);
        let may_go = others.map(|(member, _)| member).any(Member::welcomes);
        let live = &self.members[index].backend.live;
        if ejected >= policy.ejected_max(self.members.len()) || !may_go {
            live.spared.add(1);
            return;
        }
        live.count_ejection(why);
        self.members[index].ejections.begin(policy, now);
        self.refresh(now, applied);
    }

    /// Takes in what a probe says of an ejected backend, where probes may end that.
    pub(super) fn probe_ejected(
        &mut self,
        backend: &BackendId,
        address: &Address,
        outcome: &ProbeOutcome,
        now: Duration,
    ) {
        let rise = self.thresholds().rise;
        let Some(policy) = &self.app.policy.outliers else { return };
        let is_it = |member: &&mut Member| {
            member.backend.id == *backend && member.backend.address == *address
        };
        if policy.end == End::Probes
            && let Some(member) = self.members.iter_mut().find(is_it)
            && member.ejections.is_on()
            && member.ejections.observe(outcome, rise, now)
        {
            member.backend.live.record.forget();
        }
    }

    /// Ends ejections that a new configuration has no room for, those first that would end first.
    pub(super) fn keep_within_cap(&mut self, now: Duration) {
        let policy = self.app.policy.outliers.as_ref();
        let most = policy.map_or(0, |policy| policy.ejected_max(self.members.len()));
        let mut ejected: Vec<&mut Member> =
            self.members.iter_mut().filter(|member| member.ejections.is_on()).collect();
        ejected.sort_by_key(|member| member.ejections.until());
        let surplus = ejected.len().saturating_sub(most);
        for member in ejected.into_iter().take(surplus) {
            member.ejections.end(now);
            member.backend.live.record.forget();
        }
    }

    /// Tells every backend what it has to know of the app. Answers whether the app panics, or calmed down.
    ///
    /// Backends that ask for no new clients, or are ejected, have their way as long as others take those.
    pub(super) fn look_around(&mut self) -> bool {
        self.members.iter_mut().for_each(Member::forget_asked);
        let policy = &self.app.policy;
        let panic = policy.panic.and_then(|policy| policy.judge(&self.members));
        let pinned = policy.outliers.as_ref().map_or_else(Default::default, |own| own.pinned);
        // As if nobody was left out: a member in need of clients says that itself.
        let around = Around { alone: false, pinned, panic };
        self.members.iter_mut().for_each(|member| member.around = around);
        let alone = !self.members.iter().any(Member::welcomes);
        self.members.iter_mut().for_each(|member| member.around.alone = alone);
        std::mem::replace(&mut self.panic, panic) != panic
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::affinity::{OnUnavailable, Presented};
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::app::members::AdminState;
    use crate::balancer::app::outliers::{OutlierPolicy, Pinned};
    use crate::balancer::app::panic::{PanicPolicy, Then};
    use crate::balancer::app::policy::Policy;
    use crate::balancer::app::view::Tried;
    use crate::balancer::assign::{Assignment, Cause, assign};
    use crate::balancer::carry::Carried;
    use crate::balancer::name::Incarnation;
    use crate::balancer::state::{Balancer, Event, Spec};
    use crate::balancer::testing::*;

    fn listing(ids: &[&str], outliers: Option<OutlierPolicy>, then: Option<Then>) -> Spec {
        let mut spec = spec(ids);
        let panic = then.map(|then| PanicPolicy { below_percent: 50, then });
        let policy = Policy { outliers, panic, ..policy("shop.example.com") };
        spec.apps[0].policy = Arc::new(policy);
        spec
    }

    /// Healthy backends with these policies.
    fn healthy(ids: &[&str], outliers: Option<OutlierPolicy>, then: Option<Then>) -> Balancer {
        let mut balancer = balancer(OnUnavailable::Move, &ids.join(" "));
        let spec = listing(ids, outliers, then);
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        balancer
    }

    fn ejecting(ids: &[&str]) -> Balancer {
        healthy(ids, Some(OUTLIERS), None)
    }

    fn failed(id: &str) -> Event {
        probed(id, ProbeOutcome::Failed("no".into()))
    }

    /// Why each backend admits what it does, with what: `a: healthy open`.
    fn told(balancer: &Balancer) -> String {
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let word = |(slot, admission): (_, Admission)| {
            format!("{}: {} {}", view.app.backend(slot).id, view.reason(slot), admission.as_str())
        };
        view.admissions().map(word).collect::<Vec<_>>().join(", ")
    }

    /// Where a client goes that is pinned to `a`.
    fn pinned_to_a(balancer: &Balancer) -> Assignment {
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let presented = Presented::Pin(pin("a"));
        assign(&view, &request(&presented, &Tried::NONE), &mut SmallRng::seed_from_u64(7))
    }

    const EJECTED: &str = "a: ejected pinned_only, b: healthy open";
    const HEALTHY: &str = "a: healthy open, b: healthy open";

    #[test]
    fn an_ejected_backend_keeps_its_clients_and_gets_no_new_ones_until_its_time_is_over() {
        let mut balancer = ejecting(&["a", "b"]);
        let applied = balancer.apply(outlier("a"), SECOND);
        assert!(applied.changed);
        assert_eq!(applied.transitions[0].reasons, (Some("healthy"), "ejected"));
        assert_eq!(told(&balancer), EJECTED);
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let mut rng = SmallRng::seed_from_u64(7);
        let a = view.app.find(hash("a")).unwrap();
        assert!(view.is_ejected(a));
        assert!((0..100).all(|_| view.draw(&Tried::NONE, &mut rng) != Some(a)));
        assert!(matches!(pinned_to_a(&balancer), Assignment::Follow(slot, _) if slot == a));
        assert_eq!(balancer.next_tick(), Some(31 * SECOND));
        assert!(!balancer.apply(Event::Ticked, 30 * SECOND).changed);
        assert!(balancer.apply(Event::Ticked, 31 * SECOND).changed);
        assert_eq!((told(&balancer).as_str(), balancer.next_tick()), (HEALTHY, None));
        // The second time takes twice as long.
        balancer.apply(outlier("a"), 32 * SECOND);
        assert_eq!(balancer.next_tick(), Some(92 * SECOND));
    }

    #[test]
    fn clients_of_an_ejected_backend_are_moved_where_the_app_wants_it() {
        let policy = OutlierPolicy { pinned: Pinned::Move, ..OUTLIERS };
        let mut balancer = healthy(&["a", "b"], Some(policy), None);
        balancer.apply(outlier("a"), SECOND);
        assert_eq!(told(&balancer), "a: ejected closed, b: healthy open");
        assert!(matches!(pinned_to_a(&balancer), Assignment::Move(_, Cause::Unhealthy)));
    }

    /// The whole after these events, all at once.
    #[track_caller]
    fn check(ids: &[&str], events: impl IntoIterator<Item = Event>, expected: &str) {
        let mut balancer = ejecting(ids);
        for event in events {
            balancer.apply(event, SECOND);
        }
        assert_eq!(told(&balancer), expected);
    }

    #[test]
    fn never_too_many_are_ejected() {
        check(&["a"], [outlier("a")], "a: healthy open");
        check(&["a", "b"], [outlier("a"), outlier("b")], EJECTED);
        let four =
            "a: ejected pinned_only, b: healthy open, c: ejected pinned_only, d: healthy open";
        check(&["a", "b", "c", "d"], ["a", "c", "b", "d"].map(outlier), four);
        let live = |balancer: &Balancer, index: usize| {
            let member = &balancer.members(&balancer.snapshot().apps[0].app.name)[index];
            let live = &member.backend.live;
            (live.ejections(Why::Consecutive), live.ejections(Why::Share), live.spared.read())
        };
        let mut balancer = ejecting(&["a", "b"]);
        for event in [outlier("a"), outlier("a"), outlier("b")] {
            balancer.apply(event, SECOND);
        }
        assert_eq!((live(&balancer, 0), live(&balancer, 1)), ((1, 0, 0), (0, 0, 1)));
    }

    #[test]
    fn who_is_left_has_to_take_new_clients() {
        let drain = administered("b", AdminState::Drain);
        check(&["a", "b"], [drain, outlier("a")], "a: healthy open, b: drain pinned_only");
        check(&["a", "b"], [refused("b"), outlier("a")], "a: healthy open, b: quarantined closed");
    }

    #[test]
    fn one_that_refused_a_connection_is_ejected_when_its_rest_is_over() {
        let mut balancer = ejecting(&["a", "b"]);
        balancer.apply(refused("a"), SECOND);
        balancer.apply(outlier("a"), SECOND);
        assert_eq!(told(&balancer), "a: quarantined closed, b: healthy open");
        balancer.apply(Event::Ticked, 6 * SECOND);
        assert_eq!(told(&balancer), EJECTED);
    }

    #[test]
    fn an_ejection_waits_while_no_other_backend_takes_new_clients() {
        let mut balancer = ejecting(&["a", "b"]);
        balancer.apply(outlier("a"), SECOND);
        balancer.apply(refused("b"), SECOND);
        let alone = "a: healthy (ejected, no other is open) open, b: quarantined closed";
        assert_eq!(told(&balancer), alone);
        balancer.apply(Event::Ticked, 6 * SECOND);
        assert_eq!(told(&balancer), EJECTED);
    }

    #[test]
    fn probes_close_an_ejected_backend_and_end_no_ejection_unless_told_to() {
        let run = |end, outcomes: &[Event]| {
            let policy = OutlierPolicy { end, ..OUTLIERS };
            let mut balancer = healthy(&["a", "b"], Some(policy), None);
            balancer.apply(outlier("a"), SECOND);
            for _ in 0..3 {
                balancer.apply(failed("a"), SECOND);
            }
            assert_eq!(told(&balancer), "a: unhealthy closed, b: healthy open");
            for outcome in outcomes {
                let Event::Probed { outcome, .. } = outcome else { continue };
                balancer.apply(probed("a", outcome.clone()), SECOND);
            }
            told(&balancer)
        };
        let passed = [probed("a", ProbeOutcome::Passed), probed("a", ProbeOutcome::Passed)];
        assert_eq!(run(End::Time, &passed), EJECTED);
        assert_eq!(run(End::Probes, &passed), HEALTHY);
    }

    #[test]
    fn a_configuration_keeps_ejections_as_far_as_it_has_room_for_them() {
        let again = |ids: &[&str], outliers| {
            let mut balancer = ejecting(&["a", "b", "c", "d"]);
            balancer.apply(outlier("a"), SECOND);
            balancer.apply(outlier("b"), 2 * SECOND);
            let spec = listing(ids, outliers, None);
            balancer.apply(Event::Configured(Box::new(spec)), 3 * SECOND);
            told(&balancer)
        };
        let kept =
            "d: healthy open, c: healthy open, b: ejected pinned_only, a: ejected pinned_only";
        assert_eq!(again(&["d", "c", "b", "a"], Some(OUTLIERS)), kept);
        let fewer = "a: healthy open, b: ejected pinned_only, c: healthy open";
        assert_eq!(again(&["a", "b", "c"], Some(OUTLIERS)), fewer);
        assert_eq!(again(&["a"], Some(OUTLIERS)), "a: healthy open");
        assert_eq!(again(&["a", "b"], None), HEALTHY);
        let policy = OutlierPolicy { pinned: Pinned::Move, ..OUTLIERS };
        let moved = "a: ejected closed, b: ejected closed, c: healthy open, d: healthy open";
        assert_eq!(again(&["a", "b", "c", "d"], Some(policy)), moved);
    }

    #[test]
    fn another_process_of_a_backend_is_not_ejected() {
        let mut balancer = ejecting(&["a", "b"]);
        balancer.apply(outlier("a"), SECOND);
        let mut spec = listing(&["a", "b"], Some(OUTLIERS), None);
        spec.apps[0].backends[0].incarnation = Incarnation::parse("v2").ok();
        balancer.apply(Event::Configured(Box::new(spec)), SECOND);
        assert_eq!(told(&balancer), HEALTHY);
    }

    #[test]
    fn a_successor_goes_on_with_an_ejection_and_knows_how_many_there_were() {
        let mut balancer = ejecting(&["a", "b"]);
        balancer.apply(outlier("a"), SECOND);
        balancer.apply(Event::Ticked, 31 * SECOND);
        balancer.apply(outlier("a"), 31 * SECOND);
        let carried = serde_json::to_string(&balancer.carry(41 * SECOND)).unwrap();
        let carried: Carried = serde_json::from_str(&carried).unwrap();
        let heir = |outliers| {
            let mut heir = Balancer::default();
            let spec = listing(&["a", "b"], outliers, None);
            heir.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
            heir.apply(Event::Restored(Box::new(carried.clone())), Duration::ZERO);
            heir
        };
        let mut same = heir(Some(OUTLIERS));
        assert_eq!((told(&same).as_str(), same.next_tick()), (EJECTED, Some(50 * SECOND)));
        same.apply(Event::Ticked, 50 * SECOND);
        same.apply(outlier("a"), 50 * SECOND);
        assert_eq!(same.next_tick(), Some(140 * SECOND), "the third in a row");
        assert_eq!(told(&heir(None)), HEALTHY);
    }

    #[test]
    fn what_was_found_elsewhere_or_of_nobody_changes_nothing() {
        let mut balancer = ejecting(&["a", "b"]);
        let Event::FoundOutlier { app, backend, why, .. } = outlier("a") else { return };
        let address = Address::Tcp("127.0.0.1:2".parse().unwrap());
        let elsewhere = Event::FoundOutlier { app, backend, address, why };
        for event in [elsewhere, outlier("z")] {
            assert!(!balancer.apply(event, SECOND).changed);
        }
        let mut off = healthy(&["a", "b"], None, None);
        assert!(!off.apply(outlier("a"), SECOND).changed);
    }

    /// What an app of four backends does after these events.
    #[track_caller]
    fn check_panic(then: Then, events: impl IntoIterator<Item = Event>, expected: [&str; 4]) {
        let mut balancer = healthy(&["a", "b", "c", "d"], Some(OUTLIERS), Some(then));
        for event in events {
            balancer.apply(event, SECOND);
        }
        let words = ["a", "b", "c", "d"].into_iter().zip(expected);
        let expected: Vec<String> = words.map(|(id, word)| format!("{id}: {word}")).collect();
        assert_eq!(told(&balancer), expected.join(", "));
    }

    fn down<const N: usize>(ids: [&'static str; N]) -> impl Iterator<Item = Event> {
        ids.into_iter().flat_map(|id| (0..3).map(move |_| failed(id)))
    }

    const OPEN: &str = "healthy open";
    const UNHEALTHY: &str = "unhealthy closed";
    const SPREAD: &str = "unhealthy (panic: not believed) open";
    const KEPT: &str = "panic (most are unhealthy) pinned_only";

    #[test]
    fn half_of_the_backends_are_enough_and_less_is_a_panic() {
        let half = [UNHEALTHY, UNHEALTHY, OPEN, OPEN];
        check_panic(Then::Spread, down(["a", "b"]), half);
        check_panic(Then::Refuse, down(["a", "b"]), half);
        check_panic(Then::Spread, down(["a", "b", "c"]), [SPREAD, SPREAD, SPREAD, OPEN]);
        check_panic(Then::Refuse, down(["a", "b", "c"]), [UNHEALTHY, UNHEALTHY, UNHEALTHY, KEPT]);
        check_panic(Then::Spread, down(["a", "b", "c", "d"]), [SPREAD; 4]);
        check_panic(Then::Refuse, down(["a", "b", "c", "d"]), [UNHEALTHY; 4]);
    }

    #[test]
    fn what_the_operator_closed_stays_closed_and_does_not_count() {
        let wishes =
            || [administered("a", AdminState::Maintenance), administered("b", AdminState::Drain)];
        let closed = |c, d| ["maintenance closed", "drain pinned_only", c, d];
        check_panic(Then::Spread, wishes().into_iter().chain(down(["c"])), closed(UNHEALTHY, OPEN));
        let down_as_well = ["maintenance closed", UNHEALTHY, UNHEALTHY, OPEN];
        let three = wishes().into_iter().chain(down(["a", "b", "c"]));
        check_panic(Then::Spread, three, down_as_well);
        let all = || wishes().into_iter().chain(down(["a", "b", "c", "d"]));
        // Also the clients of the one in drain may follow their pins.
        check_panic(Then::Spread, all(), closed(SPREAD, SPREAD));
    }

    #[test]
    fn a_backend_that_refused_a_connection_rests_in_a_panic_too() {
        let resting = ["quarantined closed", SPREAD, SPREAD, OPEN];
        check_panic(Then::Spread, down(["a", "b", "c"]).chain([refused("a")]), resting);
    }

    #[test]
    fn an_ejection_does_not_count_in_a_panic_that_believes_nothing() {
        let spread = [SPREAD, SPREAD, SPREAD, "healthy (ejected, panic: not believed) open"];
        check_panic(Then::Spread, [outlier("d")].into_iter().chain(down(["a", "b", "c"])), spread);
        let after = [SPREAD, SPREAD, SPREAD, OPEN];
        check_panic(Then::Spread, down(["a", "b", "c"]).chain([outlier("d")]), after);
    }

    #[test]
    fn nobody_panics_before_the_first_verdicts() {
        let mut balancer = Balancer::default();
        let spec = listing(&["a", "b"], None, Some(Then::Spread));
        let applied = balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        assert!(applied.panics.is_empty());
        assert_eq!(told(&balancer), "a: unknown closed, b: unknown closed");
    }

    #[test]
    fn a_panic_is_told_of_and_ends_as_soon_as_enough_are_healthy() {
        let mut balancer = healthy(&["a", "b"], None, Some(Then::Spread));
        balancer.apply(failed("a"), SECOND);
        let mut panics = Vec::new();
        for event in down(["a", "b"]) {
            panics.extend(balancer.apply(event, SECOND).panics);
        }
        let app = balancer.snapshot().apps[0].app.name.clone();
        assert_eq!(panics, [(app.clone(), Some(Then::Spread))]);
        assert_eq!(balancer.snapshot().apps[0].panic, Some(Then::Spread));
        assert!(matches!(pinned_to_a(&balancer), Assignment::Follow(..)));
        balancer.apply(probed("b", ProbeOutcome::Passed), SECOND);
        let applied = balancer.apply(probed("b", ProbeOutcome::Passed), SECOND);
        assert_eq!(applied.panics, [(app, None)]);
        assert_eq!(told(&balancer), "a: unhealthy closed, b: healthy open");
        assert!(matches!(pinned_to_a(&balancer), Assignment::Move(_, Cause::Unhealthy)));
    }
}
