//! One client, one decision: whether it is moved now, and where to. What is shared between requests sits here,
//! found again by the next configuration as other counters are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::census::Census;
use crate::balancer::affinity::Pin;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::live::Counter;
use crate::balancer::app::view::{AppView, Tried};

/// How long a move is remembered, in seconds: requests that left before the client had its new cookie follow
/// it.
const REMEMBERED_SECONDS: u64 = 300;

/// Most moves that are remembered; while so many are, nobody is moved.
const REMEMBERED_MAX: usize = 1 << 16;

/// Counters of requests in hand, by the mark of their client. Two clients that share one are taken for busy
/// more often than they are.
const HANDS: usize = 1 << 14;

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
    /// Where clients were moved to lately, by mark.
    remembered: Mutex<HashMap<u64, Remembered>>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
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
            remembered: Mutex::default(),
        }
    }
}

impl Moves {
    /// Decides where a client goes whose pin leads to `from` and may be given up; `None`: it stays.
    ///
    /// A client that was moved lately is sent the same way again: its request left before it knew. Another
    /// one is moved if the plan has a place for it and the moment is safe: its request is, and it has nothing
    /// else in hand; or the app said so.
    pub fn settle(
        &self,
        view: &AppView,
        from: Slot,
        pin: &Pin,
        is_safe: bool,
        now: u64,
    ) -> Option<Slot> {
        let mark = pin.mark();
        let mut remembered = lock(&self.remembered);
        if let Some(last) = remembered.get(&mark).filter(|last| last.is_recent(now)) {
            return view.app.find(last.to).filter(|slot| *slot != from && view.is_open(*slot));
        }
        let plan = view.plan()?;
        let policy = view.app.affinity.as_ref()?.policy.rebalance?;
        let may = pin.token.notes.may_move
            || (is_safe && self.is_alone(mark) && policy.is_idle(pin, plan.idle_factor, now));
        if !may || remembered.len() >= REMEMBERED_MAX {
            return None;
        }
        let to = plan.receiver(view, mark, &Tried::NONE).filter(|to| *to != from)?;
        if !plan.take(from) {
            return None;
        }
        let backend = view.app.backend(to).hash;
        remembered.insert(mark, Remembered { to: backend, at: now });
        self.moved.add(1);
        self.census.note(mark, backend, now);
        Some(to)
    }

    /// Whether the client of this pin was moved elsewhere while a request of it was under way.
    pub fn went_elsewhere(&self, pin: &Pin, now: u64) -> bool {
        let last = lock(&self.remembered).get(&pin.mark()).copied();
        last.is_some_and(|last| last.is_recent(now) && last.to != pin.token.backend)
    }

    /// Forgets moves that everybody knows of by now.
    pub(in crate::balancer) fn forget(&self) {
        let mut remembered = lock(&self.remembered);
        let now = self.census.latest();
        remembered.retain(|_, last| last.is_recent(now));
    }

    /// Whether a client has one request in hand at most, and no stream.
    fn is_alone(&self, mark: u64) -> bool {
        self.hand(mark).load(Ordering::Relaxed) <= 1 && !lock(&self.streams).contains_key(&mark)
    }

    fn hand(&self, mark: u64) -> &AtomicU32 {
        &self.hands[usize::try_from(mark).unwrap_or(usize::MAX) % HANDS]
    }

    /// Notes clients with open streams once more: they are live, though they ask for nothing.
    pub(in crate::balancer) fn refresh(&self) {
        let marks: Vec<u64> = lock(&self.streams).keys().copied().collect();
        marks.into_iter().for_each(|mark| self.census.refresh(mark));
    }
}

impl Remembered {
    fn is_recent(self, now: u64) -> bool {
        now.saturating_sub(self.at) <= REMEMBERED_SECONDS
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
