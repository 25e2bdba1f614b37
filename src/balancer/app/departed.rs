//! Who left the list of an app, and when: so that who left is told from who is not on it yet.
//!
//! Lists reach edges at different times. A token that names a backend which is not on the list of this edge
//! was made by one with an older list, or by one with a newer list. The first is what [`Departed`]
//! remembers: each run of a backend that left, until no token of before may be honoured any more. All else is
//! news that this edge has not heard, unless it began to watch the list after the token was made: who
//! left before, nobody remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{BACKENDS_MAX, Backend};
use crate::balancer::affinity::token::{BackendHash, IncarnationHash, SKEW_SECONDS, Token};

/// Most runs that are remembered; those that left first are forgotten first. As many as a list has.
pub const DEPARTED_MAX: usize = BACKENDS_MAX;

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

    /// Takes note that the list became another one at `now`. Tokens count for `limit` after they were made.
    pub fn note(
        &mut self,
        before: &[Arc<Backend>],
        after: &[Arc<Backend>],
        limit: Duration,
        now: u64,
    ) {
        let gone = before.iter().map(|backend| (Run::of(backend), now));
        self.left.extend(gone);
        self.welcome(after);
        // A token of before was made when clocks were as far apart as they may be, and is read likewise.
        let kept = limit.as_secs().saturating_add(2 * SKEW_SECONDS);
        self.left.retain(|_, left| now.saturating_sub(*left) <= kept);
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

    /// Whether the backend of a token, which is not on the list, may be on a newer list of another edge at `now`:
    /// the token was made after it left here, or it never was here. Lists differ for `limit` at most, and clocks
    /// are [`SKEW_SECONDS`] apart at most, both in favour of the pin.
    pub fn may_come(&self, token: &Token, limit: Duration, now: u64) -> bool {
        let left = self.left.get(&Run::named_by(token)).copied();
        is_after(token, left.unwrap_or(self.watched_since)) && !token.is_older_than(limit, now)
    }

    /// The same of the run that a token names, while another run of its backend is on the list. One that was here is
    /// over, whenever the token was made: no run comes back.
    pub fn may_come_anew(&self, token: &Token, limit: Duration, now: u64) -> bool {
        !self.left.contains_key(&Run::named_by(token)) && self.may_come(token, limit, now)
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

/// Whether a token was made after `time`, as far as clocks tell.
fn is_after(token: &Token, time: u64) -> bool {
    u64::from(token.issued).saturating_add(SKEW_SECONDS) >= time
}
