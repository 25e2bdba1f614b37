//! One client, one decision: whether it is moved now, and where to. What is shared between requests sits here,
//! found again by the next configuration as other counters are.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::census::Census;
use crate::balancer::affinity::Pin;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::live::Counter;
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Request;

/// How long a move is remembered, in seconds: requests that left before the client had its new cookie follow
/// it.
const REMEMBERED_SECONDS: u64 = 300;

/// Most moves that are remembered; while so many are, nobody is moved.
const REMEMBERED_MAX: usize = 1 << 16;

/// Counters of requests in hand, by the mark of their client. Two clients that share one are taken for busy
/// more often than they are.
const HANDS: usize = 1 << 12;

/// What the requests of an app know of each other.
#[derive(Debug)]
pub struct Moves {
    /// Who is bound where.
    pub census: Census,
    /// Clients that were moved.
    pub moved: Counter,
    hands: Box<[AtomicU32]>,
    /// Open streams of each client, by mark.
    streams: Mutex<HashMap<u64, u32>>,
    /// Clients whose streams a process that was replaced still has, by mark.
    elsewhere: Mutex<HashSet<u64>>,
    /// Where clients were moved to lately, by mark.
    remembered: Mutex<HashMap<u64, Remembered>>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    from: BackendHash,
    to: BackendHash,
    /// When, in Unix seconds.
    at: u64,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            census: Census::default(),
            moved: Counter::default(),
            hands: std::iter::repeat_with(AtomicU32::default).take(HANDS).collect(),
            streams: Mutex::default(),
            elsewhere: Mutex::default(),
            remembered: Mutex::default(),
        }
    }
}

impl Moves {
    /// Decides where a client goes whose pin leads to `from` and may be given up; `None`: it stays.
    ///
    /// A client that was moved lately is sent the same way again: its request left before it knew. When that
    /// was tried in vain, it stays after all. Another one is moved if the plan has a place for it and the
    /// moment is safe: its request is, and it has nothing else in hand; or the app said so.
    pub fn settle(
        &self,
        view: &AppView,
        from: Slot,
        pin: &Pin,
        request: &Request<'_>,
    ) -> Option<Slot> {
        let (mark, now, tried) = (pin.mark(), request.now, request.tried);
        let mut remembered = lock(&self.remembered);
        if let Some(last) = remembered.get(&mark).filter(|last| last.concerns(pin, now)) {
            let to = view.app.find(last.to).filter(|slot| *slot != from && view.is_open(*slot));
            if to.is_some_and(|to| tried.contains(to)) {
                remembered.remove(&mark);
                self.census.note(mark, pin.token.backend, now);
                return None;
            }
            return to;
        }
        let plan = view.plan()?;
        let affinity = view.app.affinity.as_ref()?;
        let may = pin.token.notes.may_move
            || (request.is_safe
                && self.is_alone(mark)
                && affinity.was_idle(pin, plan.idle_factor, now));
        if !may || remembered.len() >= REMEMBERED_MAX {
            return None;
        }
        let to = plan.receiver(view, mark, tried).filter(|to| *to != from)?;
        if !plan.take(from) {
            return None;
        }
        let backend = view.app.backend(to).hash;
        let from = pin.token.backend;
        remembered.insert(mark, Remembered { from, to: backend, at: now });
        self.moved.add(1);
        self.census.note(mark, backend, now);
        Some(to)
    }

    /// Whether the client of this pin was moved elsewhere while a request of it was under way.
    pub fn went_elsewhere(&self, pin: &Pin, now: u64) -> bool {
        let last = lock(&self.remembered).get(&pin.mark()).copied();
        last.is_some_and(|last| last.concerns(pin, now))
    }

    /// Forgets moves that everybody knows of by now.
    pub(in crate::balancer) fn forget(&self) {
        let mut remembered = lock(&self.remembered);
        let now = self.census.latest();
        remembered.retain(|_, last| last.is_recent(now));
    }

    /// Whether a client has one request in hand at most, and no stream.
    fn is_alone(&self, mark: u64) -> bool {
        self.hand(mark).load(Ordering::Relaxed) <= 1
            && !lock(&self.streams).contains_key(&mark)
            && !lock(&self.elsewhere).contains(&mark)
    }

    fn hand(&self, mark: u64) -> &AtomicU32 {
        &self.hands[usize::try_from(mark).unwrap_or(usize::MAX) % HANDS]
    }

    /// The marks of clients with open streams.
    pub(super) fn streaming(&self) -> Vec<u64> {
        let streams = lock(&self.streams);
        streams.keys().chain(lock(&self.elsewhere).iter()).copied().collect()
    }

    /// Notes that a process which was replaced has streams of these clients.
    pub(super) fn stream_elsewhere(&self, marks: &[u64]) {
        lock(&self.elsewhere).extend(marks);
    }

    /// Notes that there is no such process any more.
    pub(super) fn forget_elsewhere(&self) {
        lock(&self.elsewhere).clear();
    }

    /// Notes clients with open streams once more: they are live, though they ask for nothing.
    pub(in crate::balancer) fn refresh(&self) {
        self.streaming().into_iter().for_each(|mark| self.census.refresh(mark));
    }
}

impl Remembered {
    fn is_recent(self, now: u64) -> bool {
        now.abs_diff(self.at) <= REMEMBERED_SECONDS
    }

    /// Whether this is the pin that the client had before. One that was made later is another story.
    fn concerns(self, pin: &Pin, now: u64) -> bool {
        let is_before = u64::from(pin.token.issued) <= self.at;
        self.is_recent(now) && self.from == pin.token.backend && is_before
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request of a client, or a stream of it, for as long as this value lives.
#[derive(Debug)]
pub struct Presence {
    moves: Arc<Moves>,
    mark: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Request,
    Stream,
}

impl Presence {
    /// A request of the client with this mark.
    pub fn request(moves: Arc<Moves>, mark: u64) -> Self {
        moves.hand(mark).fetch_add(1, Ordering::Relaxed);
        Self { moves, mark, kind: Kind::Request }
    }

    /// A stream of it: it may last for hours, so that it is known by name.
    pub fn stream(moves: Arc<Moves>, mark: u64) -> Self {
        *lock(&moves.streams).entry(mark).or_default() += 1;
        Self { moves, mark, kind: Kind::Stream }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        match self.kind {
            Kind::Request => {
                self.moves.hand(self.mark).fetch_sub(1, Ordering::Relaxed);
            }
            Kind::Stream => {
                let mut streams = lock(&self.moves.streams);
                if let Some(count) = streams.get_mut(&self.mark) {
                    *count -= 1;
                    if *count == 0 {
                        streams.remove(&self.mark);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balancer::affinity::Presented;
    use crate::balancer::affinity::token::{ClientId, Notes, Token};
    use crate::balancer::app::view::Tried;
    use crate::balancer::rebalance::RebalancePolicy;
    use crate::balancer::rebalance::pace::PERIOD;
    use crate::balancer::state::{Balancer, Event};
    use crate::balancer::testing;

    const NOW: u64 = 1_800_000_000;

    /// Backend `a` with 100 clients, and `b` with none; one period later.
    fn uneven() -> Balancer {
        let policy = RebalancePolicy { budget_percent: 100, ..testing::REBALANCE };
        let mut spec = testing::spec(&["a", "b"]);
        if let Some(affinity) = &mut spec.apps[0].affinity {
            affinity.rebalance = Some(policy);
        }
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        for id in ["a", "b"] {
            balancer.apply(
                testing::probed(id, crate::balancer::app::health::ProbeOutcome::Passed),
                Duration::ZERO,
            );
        }
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        for number in 0..100 {
            let mark = ClientId::new(number).mark();
            view.app.live.moves().census.note(mark, testing::hash("a"), NOW);
        }
        balancer.apply(Event::Ticked, PERIOD);
        balancer
    }

    /// A pin of a client to `a`, last renewed so long before [`NOW`].
    fn pin(client: u64, age: u32, notes: Notes) -> Pin {
        let pin = testing::pin("a");
        let then = u32::try_from(NOW).unwrap() - age;
        let client = ClientId::new(client);
        Pin { token: Token { client, notes, issued: then, renewed: then, ..pin.token }, ..pin }
    }

    fn idle(client: u64) -> Pin {
        pin(client, 10_000, Notes::default())
    }

    struct Fixture {
        balancer: Balancer,
    }

    impl Fixture {
        fn view(&self) -> Arc<AppView> {
            Arc::clone(&self.balancer.snapshot().apps[0])
        }

        fn settle(&self, pin: &Pin, is_safe: bool) -> Option<String> {
            self.settle_after(pin, is_safe, &Tried::NONE)
        }

        fn settle_after(&self, pin: &Pin, is_safe: bool, tried: &Tried) -> Option<String> {
            let view = self.view();
            let from = view.app.find(testing::hash("a")).unwrap();
            let presented = Presented::Pin(*pin);
            let asked = testing::request(&presented, tried);
            let to = view.app.live.moves().settle(
                &view,
                from,
                pin,
                &Request { is_safe, now: NOW, ..asked },
            );
            to.map(|slot| view.app.backend(slot).id.to_string())
        }
    }

    fn fixture() -> Fixture {
        Fixture { balancer: uneven() }
    }

    #[test]
    fn an_idle_client_of_a_backend_with_too_many_is_moved_to_one_with_few() {
        let world = fixture();
        assert_eq!(world.settle(&idle(1), true).as_deref(), Some("b"));
        let moves = Arc::clone(world.view().app.live.moves());
        assert_eq!(moves.moved.read(), 1);
        assert_eq!(moves.census.count().bound(testing::hash("b")), 1);
    }

    #[test]
    fn a_client_stays_while_the_moment_is_not_safe() {
        let world = fixture();
        assert_eq!(world.settle(&idle(1), false), None, "a method that is not safe");
        assert_eq!(world.settle(&pin(1, 100, Notes::default()), true), None, "not idle");
        let moves = world.view().app.live.moves().clone();
        let mark = idle(1).mark();
        let here = Presence::request(Arc::clone(&moves), mark);
        let other = Presence::request(Arc::clone(&moves), mark);
        assert_eq!(world.settle(&idle(1), true), None, "another request is in hand");
        drop(other);
        let streams = [
            Presence::stream(Arc::clone(&moves), mark),
            Presence::stream(Arc::clone(&moves), mark),
        ];
        assert_eq!(world.settle(&idle(1), true), None, "a stream is open");
        let [one, two] = streams;
        drop(one);
        assert_eq!(world.settle(&idle(1), true), None, "another one is");
        drop(two);
        moves.stream_elsewhere(&[mark]);
        assert_eq!(world.settle(&idle(1), true), None, "the process before has one");
        moves.forget_elsewhere();
        assert_eq!(world.settle(&idle(1), true).as_deref(), Some("b"));
        drop(here);
    }

    #[test]
    fn the_word_of_the_app_makes_any_moment_safe() {
        let world = fixture();
        let moves = world.view().app.live.moves().clone();
        let may = pin(1, 0, Notes { may_move: true, rebalanced: false });
        let _stream = Presence::stream(moves, may.mark());
        assert_eq!(world.settle(&may, false).as_deref(), Some("b"));
    }

    #[test]
    fn requests_that_left_before_a_move_was_known_follow_it_and_cost_nothing() {
        let world = fixture();
        let first = world.settle(&idle(1), true);
        let moves = world.view().app.live.moves().clone();
        for is_safe in [true, false] {
            assert_eq!(world.settle(&idle(1), is_safe), first);
        }
        assert_eq!(moves.moved.read(), 1);
        assert!(moves.went_elsewhere(&idle(1), NOW));
        assert!(!moves.went_elsewhere(&idle(2), NOW));
        assert!(!moves.went_elsewhere(&idle(1), NOW + 301));
        moves.census.note(7, testing::hash("a"), NOW + 301);
        moves.forget();
        assert!(lock(&moves.remembered).is_empty());
    }

    #[test]
    fn a_client_stays_when_the_backend_it_was_moved_to_cannot_be_reached() {
        let world = fixture();
        assert_eq!(world.settle(&idle(1), true).as_deref(), Some("b"));
        let mut tried = Tried::default();
        tried.push(world.view().app.find(testing::hash("b")).unwrap());
        assert_eq!(world.settle_after(&idle(1), true, &tried), None);
        let moves = world.view().app.live.moves().clone();
        assert!(!moves.went_elsewhere(&idle(1), NOW), "its cookie is its own again");
        assert_eq!(world.settle_after(&idle(2), true, &tried), None);
    }

    #[test]
    fn a_pin_that_was_made_after_a_move_is_another_story() {
        let world = fixture();
        assert_eq!(world.settle(&idle(1), true).as_deref(), Some("b"));
        let moves = world.view().app.live.moves().clone();
        let mut back = pin(1, 0, Notes::default());
        back.token.issued += 1;
        assert_eq!(world.settle(&back, false), None);
        assert!(!moves.went_elsewhere(&back, NOW + 10));
        let elsewhere =
            Pin { token: Token { backend: testing::hash("c"), ..idle(1).token }, ..idle(1) };
        assert!(!moves.went_elsewhere(&elsewhere, NOW + 10));
    }

    #[test]
    fn no_more_are_moved_than_the_plan_says_nor_after_its_end() {
        let mut world = fixture();
        // 100 a minute, and 9 in five seconds.
        let moved = (0..100).filter(|client| world.settle(&idle(*client), true).is_some());
        assert_eq!(moved.count(), 9);
        let stale = world.view();
        world.balancer.apply(Event::Ticked, 2 * PERIOD);
        let from = stale.app.find(testing::hash("a")).unwrap();
        let moves = stale.app.live.moves();
        let presented = Presented::Pin(idle(99));
        let asked = testing::request(&presented, &Tried::NONE);
        let asked = Request { is_safe: true, now: NOW, ..asked };
        assert_eq!(moves.settle(&stale, from, &idle(99), &asked), None);
        assert_eq!(world.settle(&idle(99), true).as_deref(), Some("b"));
    }

    #[test]
    fn nobody_is_moved_to_a_backend_that_closed_meanwhile() {
        let mut world = fixture();
        world.balancer.apply(testing::refused("b"), PERIOD);
        assert_eq!(world.settle(&idle(1), true), None);
    }

    #[test]
    fn a_reload_keeps_who_is_bound_where() {
        let mut world = fixture();
        let mut spec = testing::spec(&["c", "b", "a"]);
        if let Some(affinity) = &mut spec.apps[0].affinity {
            affinity.rebalance = world.view().app.affinity.as_ref().unwrap().policy.rebalance;
        }
        world.balancer.apply(Event::Configured(Box::new(spec)), PERIOD);
        assert_eq!(world.settle(&idle(1), true), None, "the plan was for other slots");
        world.balancer.apply(Event::Ticked, 2 * PERIOD);
        assert_eq!(world.settle(&idle(1), true).as_deref(), Some("b"));
    }
}
