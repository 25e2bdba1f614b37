//! Every [`PERIOD`]: who has too many clients and who too few, and how many may be moved until the next.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::RebalancePolicy;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::view::{AppView, Tried};

/// How often the plan is made anew.
pub const PERIOD: Duration = Duration::from_secs(5);

/// Periods of a minute.
const PERIODS: u16 = 12;

/// At first only clients that were idle for this many times the least are moved; while too few of them come,
/// half as long will do: the youngest idle pins are moved last.
const IDLE_FACTOR_MAX: u32 = 8;

/// Lowest and highest appeal of a backend to new clients, in thousandths of what its weight says.
const APPEAL: std::ops::RangeInclusive<f64> = 250.0..=4000.0;

/// An appeal that changed by less, in percent, is not told anew.
const APPEAL_STEP_PERCENT: u16 = 10;

/// Appeal of a backend that has its fair share.
pub const APPEAL_FAIR: u16 = 1000;

/// How one backend stands.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which one.
    pub backend: BackendHash,
    /// Whether it takes new clients; if not, its clients are nobody's business here.
    pub is_open: bool,
    /// By what it is drawn, in thousandths.
    pub weight: u32,
    /// About how many live clients are bound to it.
    pub bound: u64,
}

/// What may be moved until the next period.
#[derive(Debug)]
pub struct Plan {
    /// How many times [`RebalancePolicy::idle`] a client must have been idle.
    pub idle_factor: u32,
    /// How many clients may still leave each backend, by slot.
    leave: Box<[AtomicU32]>,
    /// How many clients each backend lacks, by slot.
    lacks: Box<[f64]>,
}

impl Plan {
    /// Takes one of the clients that may leave; `false`: there are none left.
    pub fn take(&self, from: Slot) -> bool {
        let leave = &self.leave[from.index()];
        let order = Ordering::Relaxed;
        leave.fetch_update(order, order, |left| left.checked_sub(1)).is_ok()
    }

    /// Lets nobody leave any more.
    pub fn close(&self) {
        self.leave.iter().for_each(|leave| leave.store(0, Ordering::Relaxed));
    }

    /// Whether anybody may still leave this backend.
    pub fn gives(&self, from: Slot) -> bool {
        self.leave[from.index()].load(Ordering::Relaxed) > 0
    }

    /// The backend that a client with this mark moves to: each gets its part of what it lacks.
    pub fn receiver(&self, view: &AppView, mark: u64, tried: &Tried) -> Option<Slot> {
        let lacks = |slot: Slot| self.lacks[slot.index()];
        let takes = |slot| view.is_open(slot) && !tried.contains(slot) && view.has_place(slot);
        let lacking =
            Slot::all().take(self.lacks.len()).filter(|slot| lacks(*slot) >= 1.0 && takes(*slot));
        view.best(mark, lacking, lacks)
    }
}

/// What is remembered from one period to the next.
#[derive(Debug, Default)]
pub struct Pace {
    /// Clients moved in each of the last [`PERIODS`].
    history: VecDeque<u64>,
    /// All clients moved until the last period.
    moved: u64,
    idle_factor: u32,
    /// How many might have been moved in the last period.
    allowed: u64,
    /// Backends that give clients away until they are within the bound.
    giving: HashSet<BackendHash>,
}

/// What a period decides.
#[derive(Debug)]
pub struct Decided {
    /// What may be moved; `None`: nothing.
    pub plan: Option<Plan>,
    /// How much more or less than by its weight each backend is drawn, in thousandths.
    pub appeals: Vec<u16>,
}

impl Pace {
    /// Decides the next period. `scale`: how many clients stand behind each one that was counted; `moved`:
    /// how many were moved ever.
    pub fn decide(
        &mut self,
        policy: &RebalancePolicy,
        loads: &[Load],
        scale: u64,
        moved: u64,
    ) -> Decided {
        let last = moved.saturating_sub(self.moved);
        self.moved = moved;
        self.history.push_front(last);
        self.history.truncate(usize::from(PERIODS));
        let fair = Fair::of(loads);
        let excess = self.excess(policy, loads, &fair, scale);
        let wanted: f64 = excess.iter().sum();
        let allowance = self.allowance(policy, fair.bound);
        self.adapt(wanted > 0.0, last);
        let leave = quotas(&excess, wanted, allowance);
        self.allowed = leave.iter().map(|quota| u64::from(*quota)).sum();
        let plan = (self.allowed > 0).then(|| Plan {
            idle_factor: self.idle_factor,
            leave: leave.into_iter().map(AtomicU32::new).collect(),
            lacks: loads.iter().map(|load| fair.lack(load)).collect(),
        });
        let appeals = loads.iter().map(|load| fair.appeal(load)).collect();
        Decided { plan, appeals }
    }

    /// How many clients each backend has beyond the bound. One begins to give when it is beyond by more than
    /// chance explains, and ends when it is within.
    fn excess(
        &mut self,
        policy: &RebalancePolicy,
        loads: &[Load],
        fair: &Fair,
        scale: u64,
    ) -> Vec<f64> {
        let mut giving = HashSet::new();
        let mut excess = |load: &Load| {
            let bound = fair.share(load) * f64::from(policy.bound) / 1000.0;
            let beyond = float(load.bound) - bound;
            let gives = self.giving.contains(&load.backend);
            // The standard deviation of clients that came by chance, and that of a sample of them: what lies
            // within it goes as it came.
            let sampled =
                if scale > 1 { 2.0 * (float(load.bound) * float(scale)).sqrt() } else { 0.0 };
            let chance = bound.sqrt().max(sampled);
            if !load.is_open || beyond < (if gives { 0.5 } else { chance.max(1.0) }) {
                return 0.0;
            }
            giving.insert(load.backend);
            beyond
        };
        let excess = loads.iter().map(&mut excess).collect();
        self.giving = giving;
        excess
    }

    /// How many clients may be moved until the next period, so that no minute has more than its budget.
    fn allowance(&self, policy: &RebalancePolicy, bound: u64) -> u64 {
        let minute = (bound * u64::from(policy.budget_percent) / 100).max(1);
        let spent: u64 = self.history.iter().sum();
        minute.div_ceil(u64::from(PERIODS)).min(minute.saturating_sub(spent))
    }

    /// Is content with younger idle pins while too few old ones come.
    fn adapt(&mut self, is_wanted: bool, moved: u64) {
        if !is_wanted || self.idle_factor == 0 {
            self.idle_factor = IDLE_FACTOR_MAX;
        } else if moved * 2 < self.allowed {
            self.idle_factor = (self.idle_factor / 2).max(1);
        }
    }
}

/// What each open backend would have if all had their share.
struct Fair {
    bound: u64,
    weight: f64,
}

impl Fair {
    fn of(loads: &[Load]) -> Self {
        let open = || loads.iter().filter(|load| load.is_open);
        let weight: u64 = open().map(|load| u64::from(load.weight)).sum();
        Self { bound: open().map(|load| load.bound).sum(), weight: float(weight) }
    }

    fn share(&self, load: &Load) -> f64 {
        if self.weight > 0.0 {
            float(self.bound) * f64::from(load.weight) / self.weight
        } else {
            0.0
        }
    }

    fn lack(&self, load: &Load) -> f64 {
        if load.is_open { (self.share(load) - float(load.bound)).max(0.0) } else { 0.0 }
    }

    /// A backend that has twice its share is drawn half as often.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within APPEAL, which fits"
    )]
    fn appeal(&self, load: &Load) -> u16 {
        if !load.is_open || self.bound == 0 {
            return APPEAL_FAIR;
        }
        let appeal = 1000.0 * (self.share(load) + 1.0) / (float(load.bound) + 1.0);
        appeal.clamp(*APPEAL.start(), *APPEAL.end()).round() as u16
    }
}

/// Whether an appeal changed enough to be told.
pub fn differs(last: u16, appeal: u16) -> bool {
    u32::from(last.abs_diff(appeal)) * 100 > u32::from(last) * u32::from(APPEAL_STEP_PERCENT)
}

/// Shares `allowance` among those who have too many, by how many.
fn quotas(excess: &[f64], wanted: f64, allowance: u64) -> Vec<u32> {
    let mut left = allowance;
    let mut quota = |excess: &f64| {
        let part = (float(allowance) * excess / wanted.max(1.0)).ceil().min(excess.ceil());
        let part = whole(part).min(left);
        left -= part;
        u32::try_from(part).unwrap_or(u32::MAX)
    };
    excess.iter().map(&mut quota).collect()
}

#[expect(clippy::cast_precision_loss, reason = "clients are fewer than 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, finite and not negative"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::testing::{REBALANCE, hash};

    /// Backends `a`, `b`, … of the same weight with as many clients; `None`: one that is not open.
    fn loads(bound: &[Option<u64>]) -> Vec<Load> {
        let names = ["a", "b", "c", "d", "e", "f"];
        let load = |(bound, name): (&Option<u64>, &str)| Load {
            backend: hash(name),
            is_open: bound.is_some(),
            weight: 1000,
            bound: bound.unwrap_or(500),
        };
        bound.iter().zip(names).map(load).collect()
    }

    fn leave(decided: &Decided) -> Vec<u32> {
        let plan = decided.plan.as_ref();
        plan.map_or(vec![], |plan| plan.leave.iter().map(|q| q.load(Ordering::Relaxed)).collect())
    }

    #[track_caller]
    fn check(bound: &[Option<u64>], expected: &[u32]) {
        let decided = Pace::default().decide(&REBALANCE, &loads(bound), 1, 0);
        assert_eq!(leave(&decided), expected, "{bound:?}");
    }

    #[test]
    fn clients_leave_backends_beyond_the_bound_as_the_budget_of_a_minute_lets_them() {
        // 600 clients, 60 a minute, 5 in five seconds; fair is 200, the bound 250.
        check(&[Some(600), Some(0), Some(0)], &[5, 0, 0]);
        check(&[Some(300), Some(300), Some(0)], &[3, 2, 0]);
        check(&[Some(200), Some(200), Some(200)], &[]);
        check(&[Some(249), Some(200), Some(151)], &[]);
        // Beyond by less than chance explains.
        check(&[Some(260), Some(200), Some(140)], &[]);
    }

    #[test]
    fn a_backend_that_is_not_open_neither_gives_nor_counts() {
        check(&[Some(300), None, Some(0)], &[3, 0, 0]);
        check(&[None, Some(100), Some(100)], &[]);
        check(&[], &[]);
        check(&[None], &[]);
    }

    #[test]
    fn a_few_clients_are_evened_out_one_by_one() {
        check(&[Some(8), Some(0)], &[1, 0]);
        check(&[Some(1), Some(0)], &[]);
    }

    #[test]
    fn a_weight_is_a_share() {
        let mut loads = loads(&[Some(600), Some(200)]);
        assert!(Pace::default().decide(&REBALANCE, &loads, 1, 0).plan.is_some());
        loads[0].weight = 3000;
        assert!(Pace::default().decide(&REBALANCE, &loads, 1, 0).plan.is_none());
    }

    #[test]
    fn no_minute_has_more_than_its_budget() {
        let (mut pace, mut moved) = (Pace::default(), 0);
        let loads = loads(&[Some(6000), Some(0)]);
        let mut periods: Vec<u64> = Vec::new();
        for _ in 0..100 {
            let quota: u32 = leave(&pace.decide(&REBALANCE, &loads, 1, moved)).iter().sum();
            moved += u64::from(quota);
            periods.push(quota.into());
        }
        assert!(moved > 4000, "{moved}");
        // A minute may begin within a period: it lies in thirteen.
        assert!(periods.windows(13).all(|minute| minute.iter().sum::<u64>() <= 600));
    }

    #[test]
    fn one_that_began_to_give_ends_within_the_bound() {
        let mut pace = Pace::default();
        let mut gives = |bound: u64| {
            let loads = loads(&[Some(bound), Some(400 - bound)]);
            pace.decide(&REBALANCE, &loads, 1, 0).plan.is_some()
        };
        assert!(!gives(260));
        assert!(gives(300));
        assert!(gives(260));
        assert!(!gives(250));
        assert!(!gives(260));
    }

    #[test]
    fn a_sample_has_to_say_more_than_chance_does() {
        let loads = loads(&[Some(300 * 64), Some(100 * 64)]);
        assert!(Pace::default().decide(&REBALANCE, &loads, 1, 0).plan.is_some());
        assert!(Pace::default().decide(&REBALANCE, &loads, 64, 0).plan.is_some());
        let loads = self::loads(&[Some(30 * 64), Some(14 * 64)]);
        assert!(Pace::default().decide(&REBALANCE, &loads, 1, 0).plan.is_some());
        assert!(Pace::default().decide(&REBALANCE, &loads, 64, 0).plan.is_none());
    }

    #[test]
    fn the_longest_idle_are_moved_first_and_younger_ones_while_those_are_too_few() {
        let (mut pace, loads) = (Pace::default(), loads(&[Some(600), Some(0)]));
        let mut factor = |moved| {
            pace.decide(&REBALANCE, &loads, 1, moved).plan.map_or(0, |plan| plan.idle_factor)
        };
        assert_eq!([0, 0, 0, 0, 0].map(&mut factor), [8, 4, 2, 1, 1]);
        let (mut pace, mut moved) = (Pace::default(), 0);
        for _ in 0..5 {
            let decided = pace.decide(&REBALANCE, &loads, 1, moved);
            assert_eq!(decided.plan.as_ref().unwrap().idle_factor, 8);
            moved += u64::from(leave(&decided).iter().sum::<u32>());
        }
    }

    #[test]
    fn new_clients_are_drawn_to_those_who_have_few() {
        let appeals =
            |bound: &[Option<u64>]| Pace::default().decide(&REBALANCE, &loads(bound), 1, 0).appeals;
        assert_eq!(appeals(&[Some(100), Some(100)]), [1000, 1000]);
        assert_eq!(appeals(&[Some(199), Some(49)]), [625, 2500]);
        assert_eq!(appeals(&[Some(5000), Some(0), None]), [500, 4000, 1000]);
        assert_eq!(appeals(&[Some(0), Some(0)]), [1000, 1000]);
        assert!(differs(1000, 1101) && !differs(1000, 1100) && !differs(1000, 900));
    }
}
