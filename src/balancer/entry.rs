//! One app with all that is known of its backends, and the view that requests have of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::{Affinity, OnUnavailable};
use super::app::App;
use super::app::backend::BackendSpec;
use super::app::health::Thresholds;
use super::app::live::AppLive;
use super::app::members::{Admission, Member};
use super::app::slow_start::SHARE_WHOLE;
use super::app::view::{AppView, Standing};
use super::carry::{self, CarriedApp};
use super::name::BackendId;
use super::rebalance::RebalancePolicy;
use super::rebalance::pace::{APPEAL_FAIR, Load, PERIOD, Pace, Plan, differs};
use super::state::{AppSpec, Applied, Transition};

/// One app with all that is known of its backends.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) app: Arc<App>,
    pub(super) members: Vec<Member>,
    pub(super) view: Arc<AppView>,
    /// When the shares of backends that start slowly are reckoned anew, on the clock of the events;
    /// `None`: none does.
    shares_due: Option<Duration>,
    /// How clients are evened out; `None`: they are not.
    evening: Option<Evening>,
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
    /// Makes the entry of a configuration; backends that stay keep what is known of them.
    pub(super) fn configured(
        spec: AppSpec,
        affinity: Option<Affinity>,
        last: Option<Self>,
        now: Duration,
        applied: &mut Applied,
    ) -> Self {
        let probed = spec.policy.health.is_some();
        let maintenance = last.as_ref().is_some_and(|last| last.view.maintenance);
        let (live, last, evening) = match last {
            Some(last) => (Arc::clone(&last.app.live), last.members, last.evening),
            None => (Arc::new(AppLive::default()), Vec::new(), None),
        };
        let rebalances = affinity.as_ref().is_some_and(|own| own.policy.rebalance.is_some());
        let evening = rebalances.then(|| evening.unwrap_or_default().beginning(now));
        let mut last: HashMap<BackendId, Member> =
            last.into_iter().map(|member| (member.backend.id.clone(), member)).collect();
        let member = |spec: BackendSpec| match last.remove(&spec.id) {
            Some(survivor) => survivor.with(spec, probed),
            None => Member::new(spec, probed),
        };
        let members: Vec<Member> = spec.backends.into_iter().map(member).collect();
        let backends = members.iter().map(|member| Arc::clone(&member.backend)).collect();
        let app = Arc::new(App::new(spec.name, affinity, spec.policy, backends, live));
        let view = Arc::new(AppView::new(Arc::clone(&app), Vec::new()));
        let mut entry = Self { app, members, view, shares_due: None, evening };
        entry.announce(now, applied);
        entry.look(maintenance, now);
        entry
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
                carry::restore(member, carried, now);
            }
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
        self.view = Arc::new(view);
    }

    /// Tells what changed since it was last told; answers whether anything did.
    fn announce(&mut self, now: Duration, applied: &mut Applied) -> bool {
        let mut changed = false;
        for member in &mut self.members {
            member.clock_open(now);
            let to = member.admission();
            let standing = (to, member.drained, member.given_up);
            let last = member.told.replace(standing);
            changed |= last != Some(standing);
            // Whoever stays on it by a stream is moved, too.
            member.backend.live.set_evict(member.drained);
            let from = last.map(|(admission, ..)| admission);
            if from == Some(to) {
                continue;
            }
            // One closed for another reason is closed as before.
            if from.is_some_and(|from| from.label_index() != to.label_index()) {
                member.backend.live.count_transition(to.label_index());
            }
            let (app, backend) = (self.app.name.clone(), member.backend.id.clone());
            applied.transitions.push(Transition { app, backend, from, to });
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
        let moves = app.live.moves();
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::app::backend::Slot;
    use crate::balancer::app::health::ProbeOutcome;
    use crate::balancer::app::members::AdminState;
    use crate::balancer::app::slow_start::{PinnedStart, SlowStart};
    use crate::balancer::app::view::Tried;
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
}
