//! How many live clients are bound to each backend, and how unevenly.

use super::view::AppView;

impl AppView {
    /// About how many pinned clients were seen lately at each backend, by slot. Where clients are rebalanced, one
    /// that was moved counts at its new backend only.
    pub fn bound_clients(&self) -> Vec<u64> {
        let backends = self.app.backends.iter();
        if let Some(moves) = self.app.live.moves_seen().filter(|_| self.rebalances()) {
            let counts = moves.census.count();
            return backends.map(|backend| counts.bound(backend.hash)).collect();
        }
        backends.map(|backend| backend.live.bound_clients()).collect()
    }

    /// The most clients that an open backend has, as a multiple of its fair share by weight; `bound` is by slot.
    /// `None`: there are none.
    #[expect(clippy::cast_precision_loss, reason = "clients are fewer than 2^53")]
    pub fn imbalance(&self, bound: &[u64]) -> Option<f64> {
        let open = || {
            let slots = self.admissions().map(|(slot, _)| slot).zip(bound);
            let open = slots.filter(|(slot, _)| self.is_open(*slot));
            open.map(|(slot, bound)| (f64::from(self.app.backend(slot).weight), *bound as f64))
        };
        let (weights, clients) =
            open().fold((0.0, 0.0), |sum, (weight, bound)| (sum.0 + weight, sum.1 + bound));
        let load = |(weight, bound)| bound * weights / (weight * clients);
        (clients > 0.0).then(|| open().map(load).fold(0.0, f64::max))
    }
}

#[cfg(test)]
mod tests {
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::testing;

    #[test]
    fn an_imbalance_is_that_of_the_fullest_open_backend() {
        let view = testing::view(OnUnavailable::Move, "a b c! d?");
        assert_eq!(view.imbalance(&[30, 10, 900, 900]), Some(1.5));
        assert_eq!(view.imbalance(&[10, 10, 0, 0]), Some(1.0));
        assert_eq!(view.imbalance(&[0, 0, 5, 5]), None);
    }
}
