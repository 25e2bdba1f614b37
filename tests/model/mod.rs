//! What the simulations share: policies as a file makes them, and who left a list when, told apart from the code
//! that they judge.

use std::collections::HashMap;
use std::sync::Arc;

use homing::balancer::affinity::AffinityPolicy;
use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::app::backend::BackendSpec;
use homing::balancer::app::policy::Policy;
use homing::balancer::name::{BackendId, Incarnation};
use homing::config;

/// How far clocks may lie apart, in seconds.
pub(crate) const SKEW: u64 = 60;

/// The policies of an app with these settings, so that defaults are simulated.
pub(crate) fn policies(settings: &str) -> (AffinityPolicy, Arc<Policy>) {
    let file = format!(
        "state_dir: s\nlisteners: [{{ address: \"127.0.0.1:1\" }}]\napps:\n- {{ name: shop, domains: [a.example], \
         {settings}, backends: [] }}\n"
    );
    let config = config::parse("simulation.yaml".as_ref(), file).unwrap();
    let app = &config.apps[0];
    (app.affinity.clone().unwrap(), Arc::clone(&app.policy))
}

/// A ring of these keys, newest first.
pub(crate) fn ring(keys: &[u8]) -> Keyring {
    let key = |number: &u8| Key::from_secret(&[*number; 32]).unwrap();
    Keyring::new(keys.iter().map(key).collect()).unwrap()
}

/// One run of a backend.
pub(crate) type Run = (BackendId, Option<Incarnation>);

/// The runs that left a list, with the times when they did.
#[derive(Default)]
pub(crate) struct Left {
    watched_since: u64,
    times: HashMap<Run, u64>,
}

impl Left {
    /// Nothing is known of before `now`.
    pub(crate) fn watched_since(now: u64) -> Self {
        Self { watched_since: now, times: HashMap::new() }
    }

    /// One list became another at `now`.
    pub(crate) fn edited(&mut self, before: &[BackendSpec], after: &[BackendSpec], now: u64) {
        let run = |backend: &BackendSpec| (backend.id.clone(), backend.incarnation.clone());
        self.times.extend(before.iter().map(|backend| (run(backend), now)));
        for backend in after {
            self.times.remove(&run(backend));
        }
    }

    /// Whether a pin to a backend that is not on the list may be of a newer one.
    pub(crate) fn may_come(&self, run: &Run, issued: u64, now: u64, limit: u64) -> bool {
        let is_news = self.times.get(run).is_none_or(|left| issued > *left);
        is_news && now.saturating_sub(issued) <= limit + SKEW
    }

    /// Whether a pin to a run of a backend of which another is on the list may be of a newer one.
    pub(crate) fn may_come_anew(&self, run: &Run, issued: u64, now: u64, limit: u64) -> bool {
        let is_news = !self.times.contains_key(run) && issued + SKEW >= self.watched_since;
        is_news && now.saturating_sub(issued) <= limit + SKEW
    }
}

/// Runs with `count` seeds in a row, or with the one that `HOMING_SEED` says.
pub(crate) fn each_seed(test: &str, count: u64, run: fn(u64)) {
    let seeds: Vec<u64> = match std::env::var("HOMING_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let first: u64 = rand::random();
            (0..count).map(|number| first.wrapping_add(number)).collect()
        }
    };
    for seed in seeds {
        let failed = std::panic::catch_unwind(|| run(seed)).is_err();
        assert!(!failed, "replay with HOMING_SEED={seed} cargo test --test {test}");
    }
}
