//! Who left the list of an app, and when: so that who left is told from who is not on it yet.
//!
//! Lists reach edges at different times. A token that names a backend which is not on the list of this edge was
//! made before it left, or by an edge with a newer list. The first is what [`Departed`] remembers: each run of a
//! backend that left, for as long as another edge may have an older list. All else is news that this edge has not
//! heard. After a crash nothing is remembered, and who left before is taken for news: such a client is lent to its
//! stand-in, where it would be moved to at once otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{BACKENDS_MAX, Backend};
use crate::balancer::affinity::token::{BackendHash, IncarnationHash, SKEW_SECONDS, Token};

/// Most runs that are remembered; those that left first are forgotten first. As many as a list has.
pub const DEPARTED_MAX: usize = BACKENDS_MAX;

/// For how long those who left are remembered, in seconds: a day, as long as the longest borrow limit.
pub const REMEMBERED_SECONDS: u64 = 86_400;

/// One run of a backend, as a token names it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Run {
    /// The backend.
    pub backend: BackendHash,
    /// Which run of it.
    pub incarnation: IncarnationHash,
}

impl Run {
    /// The run of a backend on the list.
    pub fn of(backend: &Backend) -> Self {
        Self { backend: backend.hash, incarnation: backend.incarnation_hash }
    }

    /// The run that a token names.
    pub fn named_by(token: &Token) -> Self {
        Self { backend: token.backend, incarnation: token.incarnation }
    }
}

/// What is remembered of earlier lists of an app. Times are Unix seconds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Departed {
    watched_since: u64,
    left: HashMap<Run, u64>,
}

impl Departed {
    /// Nobody is known to have left: the list is watched from `now` on.
    pub fn watched_since(now: u64) -> Self {
        Self { watched_since: now, left: HashMap::new() }
    }

    /// The same as another process remembered it, which may have watched for longer.
    pub fn restored(watched_since: u64, left: impl IntoIterator<Item = (Run, u64)>) -> Self {
        let mut departed = Self { watched_since, left: left.into_iter().collect() };
        departed.forget_beyond(DEPARTED_MAX);
        departed
    }

    /// Takes note that the list became another one at `now`.
    pub fn note(&mut self, before: &[Arc<Backend>], after: &[Arc<Backend>], now: u64) {
        self.left.extend(before.iter().map(|backend| (Run::of(backend), now)));
        self.welcome(after);
        self.left.retain(|_, left| now.saturating_sub(*left) <= REMEMBERED_SECONDS);
        self.forget_beyond(DEPARTED_MAX);
    }

    /// Those on the list are not among those who left.
    pub fn welcome(&mut self, list: &[Arc<Backend>]) {
        for backend in list {
            self.left.remove(&Run::of(backend));
        }
    }

    fn forget_beyond(&mut self, count: usize) {
        let Some(excess) = self.left.len().checked_sub(count).filter(|excess| *excess > 0) else {
            return;
        };
        let mut by_time: Vec<(u64, Run)> =
            self.left.iter().map(|(run, left)| (*left, *run)).collect();
        by_time.sort_unstable();
        for (_, run) in &by_time[..excess] {
            self.left.remove(run);
        }
    }

    /// Whether the backend of a token, which is not on the list, may be on a newer list of another edge at `now`: it
    /// was not here, or the token was made after it left. Lists differ for `limit` at most, and [`SKEW_SECONDS`] more
    /// by the clocks.
    ///
    /// Of a backend that left, the time counts as this clock has it: most pins of the last minute before are this
    /// edge's own, and one that is back elsewhere within a minute is rare.
    pub fn may_come(&self, token: &Token, limit: Duration, now: u64) -> bool {
        let left = self.left.get(&Run::named_by(token));
        let is_news = left.is_none_or(|left| u64::from(token.issued) > *left);
        is_news && !token.is_older_than(limit, now)
    }

    /// Whether the run that a token names, while another run of its backend is on the list, may be on a newer list of
    /// another edge at `now`. One that was here is over, whenever the token was made: no run comes back. Nor
    /// is one news that was made before this edge began to watch: there nobody would remember that it left.
    pub fn may_come_anew(&self, token: &Token, limit: Duration, now: u64) -> bool {
        let made = u64::from(token.issued).saturating_add(SKEW_SECONDS);
        let was_here = self.left.contains_key(&Run::named_by(token));
        !was_here && made >= self.watched_since && !token.is_older_than(limit, now)
    }

    /// Since when the list is watched.
    pub fn since(&self) -> u64 {
        self.watched_since
    }

    /// When which run left.
    pub fn left(&self) -> impl Iterator<Item = (Run, u64)> {
        self.left.iter().map(|(run, left)| (*run, *left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::testing;

    const LIMIT: Duration = Duration::from_secs(600);

    /// A list, one word a backend: `a`, or an earlier incarnation of it, `a'`.
    fn list(words: &str) -> Vec<Arc<Backend>> {
        let spec = testing::listed(testing::affinity(OnUnavailable::Move), words, 0);
        let backends = spec.apps.into_iter().flat_map(|app| app.backends.clone());
        backends.map(|backend| Arc::new(Backend::new(backend, Arc::default()))).collect()
    }

    fn departed(lists: &[(u64, &str)]) -> Departed {
        let mut departed = Departed::watched_since(lists[0].0);
        for pair in lists.windows(2) {
            departed.note(&list(pair[0].1), &list(pair[1].1), pair[1].0);
        }
        departed
    }

    #[test]
    fn who_left_is_remembered_for_a_day() {
        let lists = [(1_000, "a b c"), (2_000, "a b'"), (2_100, "a b")];
        let mut left: Vec<u64> = departed(&lists).left().map(|(_, left)| left).collect();
        left.sort_unstable();
        assert_eq!(left, [2_000, 2_100], "c and b'; b is back");
        let count = |now| departed(&[&lists[..], &[(now, "a b")]].concat()).left().count();
        assert_eq!([count(88_400), count(88_401), count(88_500), count(88_501)], [2, 1, 1, 0]);
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nobody() {
        let departed = departed(&[(9_000, "a b"), (9_100, "a"), (50, "a")]);
        assert_eq!(departed.left().count(), 1);
    }

    #[test]
    fn those_who_left_first_are_forgotten_first() {
        let run =
            |number: u64| Run { backend: BackendHash(number), incarnation: IncarnationHash(0) };
        let most = DEPARTED_MAX as u64;
        let departed = Departed::restored(0, (0..most + 5).map(|number| (run(number), number)));
        assert_eq!(departed.left().count(), DEPARTED_MAX);
        assert_eq!(departed.left().map(|(_, left)| left).min(), Some(5));
    }

    /// Whether a pin may be of a newer list.
    #[track_caller]
    fn check(departed: &Departed, pin: (&str, u32), now: u64, backend: bool, run: bool) {
        let token = Token { issued: pin.1, ..testing::pin(pin.0).token };
        let told =
            (departed.may_come(&token, LIMIT, now), departed.may_come_anew(&token, LIMIT, now));
        assert_eq!(told, (backend, run), "{pin:?} at {now}");
    }

    #[test]
    fn a_pin_made_after_its_backend_left_is_of_a_newer_list() {
        let departed = departed(&[(1_000, "a b"), (2_000, "a")]);
        check(&departed, ("b", 1_999), 2_000, false, false);
        check(&departed, ("b", 2_000), 2_000, false, false);
        check(&departed, ("b", 2_001), 2_000, true, false);
        check(&departed, ("b", 2_001), 2_661, true, false);
        check(&departed, ("b", 2_001), 2_662, false, false);
    }

    #[test]
    fn a_pin_to_what_was_never_here_is_of_a_newer_list() {
        let departed = departed(&[(1_000, "a b"), (2_000, "a")]);
        check(&departed, ("c", 2_000), 2_660, true, true);
        check(&departed, ("c", 2_000), 2_661, false, false);
        // From a clock that is ahead, and from one that may be behind when this edge began.
        check(&departed, ("c", 2_060), 2_000, true, true);
        check(&departed, ("c", 940), 1_000, true, true);
        check(&departed, ("c", 939), 1_000, true, false);
    }
}
