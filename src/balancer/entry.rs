//! One app with all that is known of its backends, and the view that requests have of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::{Affinity, OnUnavailable};
use super::app::App;
use super::app::backend::{Backend, BackendSpec};
use super::app::departed::Departed;
use super::app::health::Thresholds;
use super::app::live::AppLive;
use super::app::members::{Admission, Member, Told};
use super::app::panic::Then;
use super::app::slow_start::SHARE_WHOLE;
use super::app::view::{AppView, Standing};
use super::carry::{self, CarriedApp};
use super::name::BackendId;
use super::rebalance::RebalancePolicy;
use super::rebalance::pace::{APPEAL_FAIR, Load, PERIOD, Pace, Plan, differs};
use super::shared::Shared;
use super::state::{AppSpec, Applied, Transition};

/// One app with all that is known of its backends.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the operator asked for.
    spec: Shared<AppSpec>,
    pub(super) app: Arc<App>,
    pub(super) members: Vec<Member>,
    pub(super) view: Arc<AppView>,
    /// When the shares of backends that start slowly are reckoned anew, on the clock of the events;
    /// `None`: none does.
    shares_due: Option<Duration>,
    /// How clients are evened out; `None`: they are not.
    evening: Option<Evening>,
    /// Whether most backends are unhealthy, and what the app does then.
    pub(super) panic: Option<Then>,
}

/// How the clients of an app are evened out.
#[derive(Debug, Default)]
struct Evening {
    pace: Pace,
    /// When the next period begins, on the clock of the events.
    due: Duration,
    plan: Option<Arc<Plan>>,
    /// How much more or less each backend is drawn, by slot, in thousandths; empty: nobody was counted yet.
    appeals: Vec<u16>,
}

impl Entry {
    /// Makes the entry of a configuration that was taken at `taken` (Unix seconds); backends that stay keep
    /// what is known of them.
    pub(super) fn configured(
        spec: Shared<AppSpec>,
        mut affinity: Option<Affinity>,
        last: Option<Self>,
        taken: u64,
        now: Duration,
        applied: &mut Applied,
    ) -> Self {
        let probed = spec.policy.health.is_some();
        let maintenance = last.as_ref().is_some_and(|last| last.view.maintenance);
        let app_before = last.as_ref().map(|last| Arc::clone(&last.app));
        let (live, last, evening) = match last {
            Some(last) => (Arc::clone(&last.app.live), last.members, last.evening),
            None => (Arc::new(AppLive::default()), Vec::new(), None),
        };
        if let Some(own) = &mut affinity {
            let before = app_before.as_ref().and_then(|app| app.affinity.as_ref());
            own.rebalances_since(before, taken);
        }
        let rebalances = affinity.as_ref().is_some_and(|own| own.policy.rebalance.is_some());
        let evening = rebalances.then(|| evening.unwrap_or_default().beginning(now));
        let mut last: HashMap<BackendId, Member> =
            last.into_iter().map(|member| (member.backend.id.clone(), member)).collect();
        let member = |spec: BackendSpec| match last.remove(&spec.id) {
            Some(survivor) => survivor.with(spec, probed),
            None => Member::new(spec, probed),
        };
        let members: Vec<Member> = spec.backends.iter().cloned().map(member).collect();
        let backends: Vec<Arc<Backend>> =
            members.iter().map(|member| Arc::clone(&member.backend)).collect();
        let departed = departed(app_before.as_deref(), affinity.as_ref(), &backends, taken);
        let (name, policy) = (spec.name.clone(), Arc::clone(&spec.policy));
        let app = App::new(name, affinity, policy, backends, live, departed);
        let app = Arc::new(app);
        let view = Arc::new(AppView::new(Arc::clone(&app), Vec::new()));
        let mut entry = Self { spec, app, members, view, shares_due: None, evening, panic: None };
        entry.keep_within_cap(now);
        entry.announce(now, applied);
        entry.look(maintenance, now);
        entry
    }

    /// What the operator asked for.
    pub(super) fn spec(&self) -> &Shared<AppSpec> {
        &self.spec
    }

    /// Whether a configuration with the same keys, which asks for this, changes nothing here as long as the app has no
    /// neighbours. Their tokens are read with what is theirs: an app that has any, or had, is made anew.
    pub(super) fn is_as(&self, spec: &Shared<AppSpec>) -> bool {
        let had_neighbours = self.app.affinity.as_ref().is_some_and(Affinity::has_neighbours);
        !had_neighbours && (self.spec.is(spec) || self.spec == *spec)
    }

    /// The same under a configuration that changes nothing here.
    pub(super) fn staying(self, spec: Shared<AppSpec>) -> Self {
        Self { spec, ..self }
    }

    /// How many probes in a row change the health of a backend.
    pub(super) fn thresholds(&self) -> Thresholds {
        let health = self.app.policy.health.as_ref();
        health.map_or(Thresholds { rise: 1, fall: 1 }, |health| health.thresholds)
    }

    /// Closes the whole app, or opens it again.
    pub(super) fn maintain(&mut self, on: bool, now: Duration, applied: &mut Applied) {
        if self.view.maintenance != on {
            self.look(on, now);
            applied.changed = true;
        }
    }

    /// Takes in what another process knew of the backends.
    pub(super) fn restore(&mut self, carried: &CarriedApp, now: Duration, applied: &mut Applied) {
        for member in &mut self.members {
            if let Some(carried) = carried.backends.get(member.backend.id.as_str()) {
                carry::restore(member, carried, self.app.policy.outliers.as_ref(), now);
            }
        }
        self.keep_within_cap(now);
        if let Some(departed) = carry::departed(&self.app, carried) {
            self.app = Arc::new(self.app.with_departed(departed));
        }
        self.announce(now, applied);
        self.look(self.view.maintenance, now);
        applied.changed = true;
    }

    /// Ends what ends by itself.
    pub(super) fn pass(&mut self, now: Duration, applied: &mut Applied) {
        let mut ended = false;
        let lend = self.lend();
        for member in &mut self.members {
            ended |= member.pass(now, lend);
        }
        if ended || self.shares_due.is_some_and(|due| due <= now) {
            self.refresh(now, applied);
        }
        if self.evening.as_ref().is_some_and(|evening| evening.due <= now) {
            self.even_out(now, applied);
        }
    }

    /// Decides who may be moved until the next period.
    fn even_out(&mut self, now: Duration, applied: &mut Applied) {
        let policy = self.app.affinity.as_ref().and_then(|own| own.policy.rebalance);
        let (Some(evening), Some(policy)) = (&mut self.evening, policy) else { return };
        if evening.decide(&policy, &self.app, &self.members, now) {
            self.look(self.view.maintenance, now);
            applied.changed = true;
        }
    }

    /// When anything ends by itself, on the clock of the events.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let lend = self.lend();
        let ends = self.members.iter().filter_map(|member| member.next_end(lend));
        let evening = self.evening.as_ref().map(|evening| evening.due);
        ends.chain(self.shares_due).chain(evening).min()
    }

    /// How long others stand in for a backend that is closed, where they do.
    fn lend(&self) -> Option<Duration> {
        let policy = &self.app.affinity.as_ref()?.policy;
        (policy.on_unavailable == OnUnavailable::Borrow).then_some(policy.borrow_limit)
    }

    /// Makes a new view if anything changed for requests, and tells which admissions did.
    pub(super) fn refresh(&mut self, now: Duration, applied: &mut Applied) {
        let shares_due = self.shares_due.is_some_and(|due| due <= now);
        if self.announce(now, applied) || shares_due {
            self.look(self.view.maintenance, now);
            applied.changed = true;
        }
    }

    /// Makes a new view.
    fn look(&mut self, maintenance: bool, now: Duration) {
        let slow_start = self.app.policy.slow_start.as_ref();
        let evening = self.evening.as_ref();
        let appeal = |index| evening.and_then(|evening| evening.appeals.get(index)).copied();
        let standing = |(index, member): (usize, &Member)| Standing {
            admission: member.admission(),
            reason: member.reason(),
            asked: member.asked,
            ejected: member.ejections.is_on(),
            drained: member.drained,
            given_up: member.given_up,
            share: member.share(slow_start, now),
            appeal: appeal(index).unwrap_or(APPEAL_FAIR),
        };
        let standings: Vec<Standing> = self.members.iter().enumerate().map(standing).collect();
        let grows = standings.iter().any(|standing| standing.share < SHARE_WHOLE);
        self.shares_due = slow_start.filter(|_| grows).map(|start| now + start.step());
        let plan = evening.and_then(|evening| evening.plan.clone());
        let mut view = AppView::new(Arc::clone(&self.app), standings).with_plan(plan);
        view.maintenance = maintenance;
        view.panic = self.panic;
        self.view = Arc::new(view);
    }

    /// Tells what changed since it was last told; answers whether anything did.
    fn announce(&mut self, now: Duration, applied: &mut Applied) -> bool {
        let mut changed = self.look_around();
        if changed {
            applied.panics.push((self.app.name.clone(), self.panic));
        }
        for member in &mut self.members {
            member.clock_open(now);
            let to = member.admission();
            let standing = member.stands();
            let last = member.told.replace(standing);
            changed |= last != Some(standing);
            // Whoever stays on it by a stream is moved, too.
            member.backend.live.set_evict(member.drained);
            let from = last.map(|last| last.admission);
            if from == Some(to) {
                continue;
            }
            // One closed for another reason is closed as before.
            if from.is_some_and(|from| from.label_index() != to.label_index()) {
                member.backend.live.count_transition(to.label_index());
            }
            let (app, backend) = (self.app.name.clone(), member.backend.id.clone());
            let reasons = (last.map(Told::reason), standing.reason());
            applied.transitions.push(Transition { app, backend, from, to, reasons });
        }
        changed
    }
}

impl Evening {
    /// The same under a new configuration, whose slots are others.
    fn beginning(mut self, now: Duration) -> Self {
        self.close();
        self.appeals.clear();
        self.due = self.due.max(now + PERIOD);
        self
    }

    /// Ends the plan, also for requests that still hold it.
    fn close(&mut self) {
        if let Some(plan) = self.plan.take() {
            plan.close();
        }
    }

    /// Decides the next period. Answers whether requests are to know.
    fn decide(
        &mut self,
        policy: &RebalancePolicy,
        app: &App,
        members: &[Member],
        now: Duration,
    ) -> bool {
        self.due = now + PERIOD;
        let had_plan = self.plan.is_some();
        self.close();
        // Where nobody came yet there is nothing to even out.
        let Some(moves) = app.live.moves_seen() else { return had_plan };
        moves.refresh();
        moves.forget();
        let counts = moves.census.sweep();
        let slow_start = app.policy.slow_start.as_ref();
        let load = |member: &Member| Load {
            backend: member.backend.hash,
            is_open: member.admission() == Admission::Open,
            weight: u32::from(member.backend.weight) * u32::from(member.share(slow_start, now)),
            bound: counts.bound(member.backend.hash),
        };
        let loads: Vec<Load> = members.iter().map(load).collect();
        let decided = self.pace.decide(policy, &loads, counts.scale(), moves.moved.read());
        self.plan = decided.plan.map(Arc::new);
        let appeals = || self.appeals.iter().zip(&decided.appeals);
        let told = self.appeals.len() == decided.appeals.len()
            && !appeals().any(|(last, appeal)| differs(*last, *appeal));
        if !told {
            self.appeals = decided.appeals;
        }
        !told || had_plan || self.plan.is_some()
    }
}

/// Who left when the list of an app became `backends`, at `taken` (Unix seconds).
fn departed(
    before: Option<&App>,
    affinity: Option<&Affinity>,
    backends: &[Arc<Backend>],
    taken: u64,
) -> Departed {
    // Without pins nobody asks.
    if affinity.is_none() {
        return Departed::default();
    }
    match before.filter(|before| before.affinity.is_some()) {
        Some(before) => {
            let mut departed = before.departed.clone();
            departed.note(&before.backends, backends, taken);
            departed
        }
        None => Departed::watched_since(taken),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::app::backend::{Address, Slot};
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::app::members::{AdminState, Admission};
    use crate::balancer::app::policy::Policy;
    use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
    use crate::balancer::app::view::Tried;
    use crate::balancer::name::Incarnation;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing::*;

    /// Two backends with a slow start of 10 seconds. `a` has been open for long.
    fn slow() -> Balancer {
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(slow_spec(&["a", "b"]))), Duration::ZERO);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(Event::Ticked, 100 * SECOND);
        balancer
    }

    fn slow_spec(ids: &[&str]) -> crate::balancer::state::Spec {
        let mut spec = spec(ids);
        let mut policy = policy("shop.example.com");
        let duration = 10 * SECOND;
        policy.slow_start = Some(SlowStart { duration, pinned: PinnedStart::AtOnce });
        spec.apps[0].policy = Arc::new(policy);
        spec
    }

    /// The weight of `b` in thousandths, after a tick.
    fn weight_of_b(balancer: &mut Balancer, now: Duration) -> u32 {
        balancer.apply(Event::Ticked, now);
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        view.weight(view.app.find(hash("b")).unwrap())
    }

    #[test]
    fn a_backend_that_opens_grows_to_its_weight() {
        let mut balancer = slow();
        assert_eq!(balancer.next_tick(), None);
        balancer.apply(probed("b", ProbeOutcome::Passed), 100 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 100 * SECOND), 100);
        let due = 100 * SECOND + Duration::from_millis(500);
        assert_eq!(balancer.next_tick(), Some(due));
        let applied = balancer.apply(Event::Ticked, due);
        assert!(applied.changed && applied.transitions.is_empty());
        assert!(!balancer.apply(Event::Ticked, due).changed);
        assert_eq!(weight_of_b(&mut balancer, 105 * SECOND), 550);
        assert_eq!(weight_of_b(&mut balancer, 110 * SECOND), 1000);
        assert_eq!(balancer.next_tick(), None);
    }

    #[test]
    fn a_start_begins_anew_after_a_close_and_not_after_a_drain() {
        let mut balancer = slow();
        balancer.apply(probed("b", ProbeOutcome::Passed), 100 * SECOND);
        balancer.apply(administered("b", AdminState::Drain), 105 * SECOND);
        balancer.apply(administered("b", AdminState::Ready), 200 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 200 * SECOND), 1000);
        balancer.apply(refused("b"), 300 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 305 * SECOND), 100);
        // Closed within a drain: it begins when the drain ends.
        balancer.apply(administered("b", AdminState::Drain), 400 * SECOND);
        balancer.apply(refused("b"), 401 * SECOND);
        balancer.apply(Event::Ticked, 450 * SECOND);
        balancer.apply(administered("b", AdminState::Ready), 500 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 505 * SECOND), 550);
    }

    #[test]
    fn a_configuration_does_not_start_anything_anew() {
        let mut balancer = slow();
        balancer.apply(probed("b", ProbeOutcome::Passed), 100 * SECOND);
        let again = Event::Configured(Box::new(slow_spec(&["b", "a"])));
        balancer.apply(again, 105 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 105 * SECOND), 550);
        balancer.apply(Event::Configured(Box::new(spec(&["a", "b"]))), 105 * SECOND);
        assert_eq!(weight_of_b(&mut balancer, 105 * SECOND), 1000);
        assert_eq!(balancer.next_tick(), None);
    }

    #[test]
    fn clients_are_drawn_by_the_share_also_on_a_retry() {
        let mut balancer = slow();
        balancer.apply(Event::Configured(Box::new(slow_spec(&["a", "b", "c"]))), 100 * SECOND);
        balancer.apply(probed("b", ProbeOutcome::Passed), 100 * SECOND);
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let mut tried = Tried::default();
        tried.push(view.app.find(hash("c")).unwrap());
        let b = view.app.find(hash("b")).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        for tried in [Tried::default(), tried] {
            let drawn = (0..11_000).filter(|_| view.draw(&tried, &mut rng) == Some(b)).count();
            // One in eleven, within five standard deviations.
            assert!((850..1150).contains(&drawn), "{drawn}");
        }
        assert!(Slot::all().take(3).all(|slot| view.weight(slot) > 0));
    }

    /// Why each backend of the app admits what it does.
    fn reasons(balancer: &Balancer) -> String {
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let word = |(slot, _)| format!("{}: {}", view.app.backend(slot).id, view.reason(slot));
        view.admissions().map(word).collect::<Vec<_>>().join(", ")
    }

    const ASKED: &str = "drain (asked by the app)";
    const ALONE: &str = "healthy (asks to drain, no other is open)";

    /// `a` and `b`, and `b` asked to be drained.
    fn asked() -> Balancer {
        let mut balancer = balancer(OnUnavailable::Move, "a b");
        let applied = balancer.apply(asked_to_drain("b"), SECOND);
        assert!(applied.changed && applied.transitions.len() == 1);
        assert_eq!(reasons(&balancer), format!("a: healthy, b: {ASKED}"));
        balancer
    }

    #[track_caller]
    fn check_asked(events: impl IntoIterator<Item = Event>, expected: &str) {
        let mut balancer = asked();
        for event in events {
            balancer.apply(event, 2 * SECOND);
        }
        balancer.apply(Event::Ticked, 60 * SECOND);
        assert_eq!(reasons(&balancer), expected);
    }

    #[test]
    fn a_backend_that_asks_for_it_gets_pinned_clients_only() {
        let balancer = asked();
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let mut rng = SmallRng::seed_from_u64(7);
        let b = view.app.find(hash("b")).unwrap();
        assert_eq!(view.admission(b), Admission::PinnedOnly);
        assert!((0..100).all(|_| view.draw(&Tried::NONE, &mut rng) != Some(b)));
        let member = &balancer.members(&view.app.name)[1];
        assert_eq!(member.administrative, AdminState::Ready);
    }

    #[test]
    fn what_is_asked_again_is_no_news() {
        let mut balancer = asked();
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        assert!(!view.may_ask_for_drain(view.app.find(hash("b")).unwrap()));
        assert!(view.may_ask_for_drain(view.app.find(hash("a")).unwrap()));
        assert!(!balancer.apply(asked_to_drain("b"), SECOND).changed);
        balancer.apply(probed("b", ProbeOutcome::Passed), SECOND);
        assert_eq!(reasons(&balancer), format!("a: healthy, b: {ASKED}"));
    }

    #[test]
    fn what_a_process_asked_for_ends_with_it() {
        let failed = || probed("b", ProbeOutcome::Failed("no".into()));
        let passed = || probed("b", ProbeOutcome::Passed);
        check_asked([failed(), failed()], &format!("a: healthy, b: {ASKED}"));
        check_asked([failed(), failed(), failed(), passed(), passed()], "a: healthy, b: healthy");
        check_asked([refused("b")], "a: healthy, b: healthy");
        // What it said with its last breath comes late.
        check_asked([refused("b"), asked_to_drain("b")], "a: healthy, b: healthy");
        let mut spec = spec(&["a", "b"]);
        check_asked(
            [Event::Configured(Box::new(spec.clone()))],
            &format!("a: healthy, b: {ASKED}"),
        );
        spec.apps[0].backends[1].incarnation = Incarnation::parse("v2").ok();
        check_asked([Event::Configured(Box::new(spec.clone()))], "a: healthy, b: healthy");
        spec.apps[0].backends[1] = backend("b");
        spec.apps[0].backends[1].address = Address::Tcp("127.0.0.1:2".parse().unwrap());
        check_asked([Event::Configured(Box::new(spec))], "a: healthy, b: unknown");
    }

    #[test]
    fn a_backend_that_nobody_probes_and_that_moves_is_another_process() {
        let mut balancer = asked();
        let unprobed = |port: u16| {
            let mut spec = spec(&["a", "b"]);
            let none = Policy { health: None, ..policy("shop.example.com") };
            spec.apps[0].policy = Arc::new(none);
            spec.apps[0].backends[1].address = Address::Tcp(([127, 0, 0, 1], port).into());
            Event::Configured(Box::new(spec))
        };
        balancer.apply(unprobed(1), SECOND);
        assert_eq!(reasons(&balancer), format!("a: healthy, b: {ASKED}"));
        balancer.apply(unprobed(2), SECOND);
        assert_eq!(reasons(&balancer), "a: healthy, b: healthy");
    }

    #[test]
    fn the_operator_overrules_what_a_process_asks_for_until_it_ends() {
        let ready = || administered("b", AdminState::Ready);
        check_asked([ready()], "a: healthy, b: healthy");
        check_asked([ready(), asked_to_drain("b")], "a: healthy, b: healthy");
        check_asked([administered("b", AdminState::Drain)], "a: healthy, b: drain");
        let drained = [administered("b", AdminState::Drain), ready(), asked_to_drain("b")];
        check_asked(drained, "a: healthy, b: healthy");
        let mut balancer = asked();
        for event in [ready(), refused("b")] {
            balancer.apply(event, 2 * SECOND);
        }
        balancer.apply(Event::Ticked, 60 * SECOND);
        balancer.apply(asked_to_drain("b"), 61 * SECOND);
        assert_eq!(reasons(&balancer), format!("a: healthy, b: {ASKED}"), "another process");
    }

    #[test]
    fn an_overruled_process_is_not_listened_to() {
        let mut balancer = asked();
        balancer.apply(administered("b", AdminState::Ready), SECOND);
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        assert!(!view.may_ask_for_drain(view.app.find(hash("b")).unwrap()));
    }

    #[test]
    fn when_all_ask_to_be_drained_all_stay_open() {
        let mut balancer = asked();
        let applied = balancer.apply(asked_to_drain("a"), SECOND);
        assert!(applied.changed);
        assert_eq!(reasons(&balancer), format!("a: {ALONE}, b: {ALONE}"));
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        assert!(!view.may_ask_for_drain(view.app.find(hash("a")).unwrap()), "it is known");
        // Another process takes the place of `b`: now `a` has its way.
        balancer.apply(refused("b"), SECOND);
        balancer.apply(Event::Ticked, 60 * SECOND);
        assert_eq!(reasons(&balancer), format!("a: {ASKED}, b: healthy"));
    }

    #[test]
    fn the_last_one_that_is_open_closes_and_the_one_that_asked_opens() {
        let failed = || probed("a", ProbeOutcome::Failed("no".into()));
        check_asked([failed(), failed(), failed()], &format!("a: unhealthy, b: {ALONE}"));
        check_asked([administered("a", AdminState::Drain)], &format!("a: drain, b: {ALONE}"));
        let back = [administered("a", AdminState::Drain), administered("a", AdminState::Ready)];
        check_asked(back, &format!("a: healthy, b: {ASKED}"));
    }
}
