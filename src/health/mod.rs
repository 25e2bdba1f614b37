//! One prober a backend, started and stopped as configurations change; outcomes become events.

mod call;
mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::task::{AbortHandle, JoinSet};

use self::probe::Prober;
use crate::balancer::app::backend::Address;
use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::live::LastProbe;
use crate::balancer::app::policy::HealthPolicy;
use crate::balancer::app::protocol::BackendProtocol;
use crate::balancer::app::tls::BackendTls;
use crate::balancer::app::view::AppView;
use crate::balancer::name::{AppName, BackendId};
use crate::balancer::state::{Event, Snapshot};
use crate::shared::{Clock, Events, Published};
use crate::wire::proxied::Version;

/// Spreads the first probes of many backends: the first verdict is not late by more than this.
const FIRST_PROBE_SPREAD: Duration = Duration::from_millis(100);

/// Probes all backends of the published snapshots, for as long as it is polled.
pub struct Health {
    /// The snapshots.
    pub published: Arc<Published>,
    /// Where outcomes go.
    pub events: Events,
    /// The clock.
    pub clock: Clock,
}

/// What a prober was started for. When any of it changes, another one takes its place.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Target {
    address: Address,
    policy: HealthPolicy,
    tls: Option<BackendTls>,
    protocol: BackendProtocol,
    proxy_protocol: Option<Version>,
}

type Running = HashMap<(AppName, BackendId), (Target, AbortHandle)>;

impl Health {
    /// Runs until it is dropped, and its probers with it.
    pub async fn run(&self) {
        let mut changed = self.published.subscribe();
        let mut tasks = JoinSet::new();
        let mut running = Running::new();
        let mut generation = 0;
        loop {
            let snapshot = Arc::clone(&self.published.load());
            if snapshot.generation != generation {
                generation = snapshot.generation;
                running = self.reconcile(&snapshot, running, &mut tasks);
            }
            tokio::select! {
                // Probers never end by themselves: this only takes aborted ones off the set.
                Some(_aborted) = tasks.join_next() => {}
                changed = changed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps the probers whose target stayed, starts those that are missing, stops the others.
    fn reconcile(
        &self,
        snapshot: &Snapshot,
        mut before: Running,
        tasks: &mut JoinSet<()>,
    ) -> Running {
        let mut now = Running::new();
        for view in snapshot.apps.iter() {
            let Some(policy) = &view.app.policy.health else { continue };
            let mut prober = None;
            for (slot, _) in view.admissions() {
                let backend = view.app.backend(slot);
                let target = Target {
                    address: backend.address.clone(),
                    policy: policy.clone(),
                    tls: view.app.policy.tls.clone(),
                    protocol: view.app.policy.protocol,
                    proxy_protocol: view.app.policy.proxy_protocol,
                };
                let key = (view.app.name.clone(), backend.id.clone());
                let running = match before.remove(&key) {
                    Some((same, running)) if same == target => running,
                    other => {
                        stop(other);
                        let prober = prober.get_or_insert_with(|| Arc::new(Prober::new(&target)));
                        let task =
                            self.task(view, slot.index(), Arc::clone(prober), policy.clone());
                        tasks.spawn(task)
                    }
                };
                now.insert(key, (target, running));
            }
        }
        before.into_values().for_each(|gone| stop(Some(gone)));
        now
    }

    /// Probes one backend for ever.
    fn task(
        &self,
        view: &AppView,
        index: usize,
        prober: Arc<Prober>,
        policy: HealthPolicy,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (app, backend) = (view.app.name.clone(), Arc::clone(&view.app.backends[index]));
        let (events, clock) = (self.events.clone(), self.clock);
        async move {
            let spread = FIRST_PROBE_SPREAD.mul_f64(rand::random());
            tokio::time::sleep(spread).await;
            loop {
                let outcome = prober.probe(&backend.address, policy.timeout).await;
                let pause = match outcome {
                    ProbeOutcome::Failed(_) => policy.interval_failing,
                    ProbeOutcome::Passed => policy.interval,
                };
                let probe = LastProbe { at: clock.unix().as_secs(), outcome: outcome.clone() };
                backend.live.record_probe(probe);
                let (app, id) = (app.clone(), backend.id.clone());
                let address = backend.address.clone();
                events.send(Event::Probed { app, backend: id, address, outcome }).await;
                tokio::time::sleep(jittered(pause, policy.jitter_percent)).await;
            }
        }
    }
}

fn stop(prober: Option<(Target, AbortHandle)>) {
    if let Some((_, running)) = prober {
        running.abort();
    }
}

/// `pause`, a random part of `percent` longer or shorter.
fn jittered(pause: Duration, percent: u8) -> Duration {
    let share = f64::from(percent) / 100.0;
    pause.mul_f64(1.0 + rand::rng().random_range(-share..=share))
}
