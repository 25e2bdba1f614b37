//! Which apps have something that ends by itself, and when.

use std::collections::BTreeSet;
use std::time::Duration;

/// When each app is to be looked at again, on the clock of the events. Costs nothing for those that are not.
#[derive(Debug, Default)]
pub(super) struct Due {
    first: BTreeSet<(Duration, usize)>,
    /// By index of the app.
    at: Vec<Option<Duration>>,
}

impl Due {
    /// Nothing is due in any of so many apps.
    pub(super) fn of(apps: usize) -> Self {
        Self { first: BTreeSet::new(), at: vec![None; apps] }
    }

    /// An app is to be looked at again at this moment, and at no other; `None`: not at all.
    pub(super) fn set(&mut self, app: usize, at: Option<Duration>) {
        let before = std::mem::replace(&mut self.at[app], at);
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.first.remove(&(before, app));
        }
        self.first.extend(at.map(|at| (at, app)));
    }

    /// When the first one is.
    pub(super) fn next(&self) -> Option<Duration> {
        self.first.first().map(|(at, _)| *at)
    }

    /// Those that are to be looked at by `now`, by index.
    pub(super) fn by(&self, now: Duration) -> Vec<usize> {
        self.first.iter().take_while(|(at, _)| *at <= now).map(|(_, app)| *app).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_due_is_told_and_nobody_else() {
        let mut due = Due::of(4);
        assert_eq!(due.next(), None);
        for (app, at) in [(0, 3), (1, 1), (3, 2)] {
            due.set(app, Some(at * SECOND));
        }
        assert_eq!((due.next(), due.by(2 * SECOND)), (Some(SECOND), vec![1, 3]));
        assert_eq!(due.by(SECOND / 2), [0; 0]);
    }

    #[test]
    fn the_last_word_on_an_app_counts() {
        let mut due = Due::of(2);
        due.set(0, Some(SECOND));
        due.set(0, Some(5 * SECOND));
        due.set(1, Some(2 * SECOND));
        due.set(1, None);
        assert_eq!((due.next(), due.by(9 * SECOND)), (Some(5 * SECOND), vec![0]));
    }
}
