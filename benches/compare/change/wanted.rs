//! What an edge is told at a moment: everybody is told the same, each in its own words.

use std::net::SocketAddr;

use super::scenario::Step;

/// Backends of the app under load at the start; one more is kept for the scale-up.
pub(crate) const BACKENDS: usize = 3;

/// Weights that the last of them has in turn: it gets up to half of the new clients.
const WEIGHTS: [usize; 3] = [1, 2, 3];

/// One backend of the app under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// From 1 on, the same for ever.
    pub(crate) number: usize,
    pub(crate) address: SocketAddr,
    pub(crate) weight: usize,
}

/// A configuration, before anybody's words.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    addresses: Vec<SocketAddr>,
    count: usize,
    reloads: usize,
    /// Which secret is behind the cookies, from 0 on.
    pub(crate) key: usize,
}

impl Wanted {
    /// The start: three backends of the four or more `addresses`, each with the weight 1.
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, count: BACKENDS, reloads: 0, key: 0 }
    }

    /// What is wanted after `step`; the same as before when the step is not one of the configuration.
    pub(crate) fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Reload => next.reloads += 1,
            Step::Rotate => next.key += 1,
            Step::ScaleUp => next.count += 1,
            Step::Kill | Step::Revive | Step::Restart => {}
        }
        next
    }

    /// The backends of the app under load.
    pub(crate) fn backends(&self) -> Vec<Listed> {
        let weight =
            |number| if number == BACKENDS { WEIGHTS[self.reloads % WEIGHTS.len()] } else { 1 };
        (1..)
            .zip(&self.addresses)
            .take(self.count)
            .map(|(number, address)| Listed { number, address: *address, weight: weight(number) })
            .collect()
    }

    /// The backends of another app, one of which comes and goes with each reload.
    pub(crate) fn elsewhere(&self) -> &[SocketAddr] {
        &self.addresses[..1 + self.reloads % 2]
    }
}
