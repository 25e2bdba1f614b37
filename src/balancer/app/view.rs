//! What one request sees of an app.

use std::sync::Arc;

use rand::{Rng, RngExt};

use super::App;
use super::backend::Slot;
use super::draw::Draw;
use super::members::{Admission, Asked, Closed};
use super::panic::Then;
use super::slow_start::{PinnedStart, SHARE_WHOLE};
use crate::balancer::affinity::Key;
use crate::balancer::rebalance::pace::Plan;
use crate::balancer::rendezvous;

/// Most backends one request tries to connect to.
pub const TRIES_MAX: usize = 10;

/// An app at one moment: its backends and what each admits.
#[derive(Debug)]
pub struct AppView {
    /// The app.
    pub app: Arc<App>,
    /// Whether the operator closed the whole app.
    pub maintenance: bool,
    /// Whether most backends are unhealthy, and what the app does then.
    pub panic: Option<Then>,
    standings: Box<[Standing]>,
    draw: Draw,
    /// Whether a backend starts slowly for pinned clients, too.
    paced: bool,
    /// How many clients may be moved to even out load; `None`: nobody.
    plan: Option<Arc<Plan>>,
}

/// How one backend stands at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// What it admits.
    pub admission: Admission,
    /// Why, for people.
    pub reason: &'static str,
    /// What its process asks for.
    pub asked: Asked,
    /// Whether it is ejected, since its requests fail. It is open all the same while no other backend is.
    pub ejected: bool,
    /// Whether its drain deadline is over: its clients are moved, whatever else it is closed for.
    pub drained: bool,
    /// Whether it was closed for so long that nobody stands in for it any more.
    pub given_up: bool,
    /// Its share of what it takes by its weight, in thousandths; at least 1.
    pub share: u16,
    /// How much more or less new clients it gets for those it has, in thousandths.
    pub appeal: u16,
}

/// The backends that a request tried in vain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    slots: [Option<Slot>; TRIES_MAX],
    count: usize,
}

impl Tried {
    /// None was tried.
    pub const NONE: Self = Self { slots: [None; TRIES_MAX], count: 0 };

    /// Remembers one more; those beyond [`TRIES_MAX`] are not tried any more anyway.
    pub fn push(&mut self, slot: Slot) {
        if let Some(place) = self.slots.get_mut(self.count) {
            *place = Some(slot);
            self.count += 1;
        }
    }

    /// Whether this one was tried.
    pub fn contains(&self, slot: Slot) -> bool {
        self.slots[..self.count].contains(&Some(slot))
    }

    /// Those that `view` still takes for open: news of their failed connects are on the way. What it
    /// knows to be closed may be tried again when it opens.
    #[must_use]
    pub fn unknown_to(&self, view: &AppView) -> Self {
        let open = |slot: &Slot| !matches!(view.admission(*slot), Admission::Closed(_));
        let mut left = Self::default();
        self.slots[..self.count]
            .iter()
            .flatten()
            .copied()
            .filter(open)
            .for_each(|slot| left.push(slot));
        left
    }

    /// Those that were tried, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.slots[..self.count].iter().flatten().copied()
    }

    /// How many were tried.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was tried.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl AppView {
    /// Makes a view of an app that is not in maintenance. `standings` is by slot.
    pub fn new(app: Arc<App>, standings: Vec<Standing>) -> Self {
        let open: Vec<(Slot, u32)> = Slot::all()
            .zip(app.backends.iter().zip(&standings))
            .filter(|(_, (_, standing))| standing.admission == Admission::Open)
            .map(|(slot, (backend, standing))| (slot, effective(backend.weight, standing)))
            .collect();
        let draw = Draw::new(&open);
        let paces = app.policy.slow_start.is_some_and(|start| start.pinned == PinnedStart::Paced);
        let paced = paces && standings.iter().any(|standing| standing.share < SHARE_WHOLE);
        Self {
            app,
            maintenance: false,
            panic: None,
            standings: standings.into(),
            draw,
            paced,
            plan: None,
        }
    }

    /// What the backend of this slot admits.
    pub fn admission(&self, slot: Slot) -> Admission {
        self.standings[slot.index()].admission
    }

    /// Whether the backend of this slot takes new clients.
    pub fn is_open(&self, slot: Slot) -> bool {
        self.admission(slot) == Admission::Open
    }

    /// Whether clients are moved to even out load, now or ever.
    pub fn rebalances(&self) -> bool {
        self.app.affinity.as_ref().is_some_and(|affinity| affinity.policy.rebalance.is_some())
    }

    /// The same view, with what may be moved.
    #[must_use]
    pub fn with_plan(self, plan: Option<Arc<Plan>>) -> Self {
        Self { plan, ..self }
    }

    /// How many clients may be moved to even out load; `None`: nobody.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// The weight by which this backend is drawn, in thousandths: less than its own while it starts
    /// slowly, and more or less for the clients that it has.
    pub fn weight(&self, slot: Slot) -> u32 {
        effective(self.app.backend(slot).weight, &self.standings[slot.index()])
    }

    /// Whether a client with this mark has to wait for its turn at its backend.
    pub fn is_paced(&self, slot: Slot, mark: u64) -> bool {
        let place = || (u128::from(mark) * u128::from(SHARE_WHOLE)) >> 64;
        self.paced && place() >= u128::from(self.standings[slot.index()].share)
    }

    /// Whether the clients of this backend are to be moved: its drain deadline is over.
    pub fn is_drained(&self, slot: Slot) -> bool {
        self.standings[slot.index()].drained
    }

    /// What the process of this backend asks for.
    pub fn asked(&self, slot: Slot) -> Asked {
        self.standings[slot.index()].asked
    }

    /// Whether it is news that the process of this backend asks for no new clients.
    pub fn may_ask_for_drain(&self, slot: Slot) -> bool {
        self.asked(slot) == Asked::Nothing && self.admission(slot) == Admission::Open
    }

    /// Why this backend admits what it does, for people.
    pub fn reason(&self, slot: Slot) -> &'static str {
        self.standings[slot.index()].reason
    }

    /// Whether this backend is ejected, since its requests fail. It is open all the same while no other is.
    pub fn is_ejected(&self, slot: Slot) -> bool {
        self.standings[slot.index()].ejected
    }

    /// What each backend admits, by slot.
    pub fn admissions(&self) -> impl Iterator<Item = (Slot, Admission)> {
        Slot::all().zip(self.standings.iter().map(|standing| standing.admission))
    }

    /// Whether the backend of this slot takes another request: it has less in flight than it may, and nobody waits.
    pub fn has_place(&self, slot: Slot) -> bool {
        let limit = self.app.policy.limits.backend_in_flight;
        limit.is_none_or(|limit| self.app.backend(slot).live.has_place(limit))
    }

    /// Whether a backend takes new clients that was not tried, and has no place for them at present.
    pub fn is_crowded(&self, tried: &Tried) -> bool {
        let limited = self.app.policy.limits.backend_in_flight.is_some();
        let open = |(slot, admission)| admission == Admission::Open && !tried.contains(slot);
        limited && self.admissions().any(open)
    }

    /// Draws one open backend by weight, other than those tried and those without a place.
    ///
    /// Constant time when nothing was tried and what is drawn has a place; else the list is walked.
    pub fn draw(&self, tried: &Tried, rng: &mut impl Rng) -> Option<Slot> {
        if tried.is_empty() {
            let drawn = self.draw.draw(rng)?;
            if self.has_place(drawn) {
                return Some(drawn);
            }
        }
        let left = || self.open(tried);
        let weight = |slot: Slot| u64::from(self.weight(slot));
        let total: u64 = left().map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut point = rng.random_range(..total);
        let drawn = left().find(|slot| {
            let here = weight(*slot);
            let found = point < here;
            point = point.saturating_sub(here);
            found
        });
        // Places may have been taken meanwhile, and the list be shorter.
        drawn.or_else(|| left().next())
    }

    /// Whether the backend of this slot was closed for so long that its clients are moved.
    pub fn is_given_up(&self, slot: Slot) -> bool {
        self.standings[slot.index()].given_up
    }

    /// The open backend that stands in for a client with this mark: the same one as long as it is open, and
    /// others by weight for others. Walks the list.
    pub fn stand_in(&self, mark: u64, tried: &Tried) -> Option<Slot> {
        self.best(mark, self.open(tried), |slot| self.whole_weight(slot).into())
    }

    /// Draws one open backend other than those tried, the same for everybody with this place. One that starts
    /// slowly gets a smaller share, as of all new clients. Walks the list.
    pub fn draw_alike(&self, place: u64, tried: &Tried) -> Option<Slot> {
        self.best(place, self.open(tried), |slot| self.weight(slot).into())
    }

    /// The home of a client that is known by this, whatever it admits at present: the backend that the key
    /// names, or the same one for everybody with its place. Walks the list.
    pub fn home_of(&self, key: &Key) -> Option<Slot> {
        let named = key.home.and_then(|home| self.app.find(home));
        let all = || Slot::all().take(self.app.backends.len());
        named.or_else(|| self.best(key.place, all(), |slot| self.whole_weight(slot).into()))
    }

    fn open(&self, tried: &Tried) -> impl Iterator<Item = Slot> {
        let open = self.admissions().filter(|(_, admission)| *admission == Admission::Open);
        open.map(|(slot, _)| slot).filter(|slot| !tried.contains(*slot) && self.has_place(*slot))
    }

    /// The weight of a backend in thousandths, however it starts.
    fn whole_weight(&self, slot: Slot) -> u32 {
        u32::from(self.app.backend(slot).weight) * u32::from(SHARE_WHOLE)
    }

    /// The one of these backends that suits this place best, each as often as its weight says.
    pub fn best(
        &self,
        place: u64,
        slots: impl Iterator<Item = Slot>,
        weight: impl Fn(Slot) -> f64,
    ) -> Option<Slot> {
        let scored = slots.map(|slot| {
            let candidate = self.app.backend(slot).hash.0;
            (rendezvous::score(place, candidate, weight(slot)), slot)
        });
        scored.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, slot)| slot)
    }

    /// Whether a backend may open by itself before long: it waits for its first verdict, or rests.
    pub fn may_open_soon(&self) -> Option<Closed> {
        let soon = |closed: Closed| {
            let will = |standing: &Standing| {
                standing.admission == Admission::Closed(closed) && !standing.drained
            };
            self.standings.iter().any(will).then_some(closed)
        };
        soon(Closed::Unknown).or_else(|| soon(Closed::Quarantined))
    }
}

/// A weight in thousandths, of which only a share counts, by appeal.
fn effective(weight: u16, standing: &Standing) -> u32 {
    let whole = u32::from(weight) * u32::from(standing.share);
    (u64::from(whole) * u64::from(standing.appeal) / 1000).try_into().unwrap_or(u32::MAX).max(1)
}
