//! The one writer: receives events, applies them to the balancer, publishes what requests read.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::balancer::app::members::Admission;
use crate::balancer::state::{Balancer, Event, Spec, Transition};
use crate::shared::{Clock, Published};

/// Owns the balancer.
pub(super) struct Keeper {
    balancer: Balancer,
    events: mpsc::Receiver<Event>,
    published: Arc<Published>,
    clock: Clock,
}

impl Keeper {
    pub(super) fn new(
        events: mpsc::Receiver<Event>,
        published: Arc<Published>,
        clock: Clock,
    ) -> Self {
        Self { balancer: Balancer::default(), events, published, clock }
    }

    /// Takes a configuration in and publishes it.
    pub(super) fn configure(&mut self, spec: Spec) {
        self.balancer.apply(Event::Configured(Box::new(spec)), self.clock.monotonic());
        let snapshot = self.balancer.snapshot();
        let backends: usize = snapshot.apps.iter().map(|view| view.app.backends.len()).sum();
        let (generation, apps) = (snapshot.generation, snapshot.apps.len());
        tracing::info!(generation, apps, backends, "configuration accepted");
        self.published.store(snapshot);
    }

    /// Applies events for as long as it is polled.
    pub(super) async fn run(&mut self) {
        loop {
            let wake =
                self.balancer.next_tick().map(|at| at.saturating_sub(self.clock.monotonic()));
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => event,
                    None => return,
                },
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => Event::Ticked,
            };
            self.apply(event);
        }
    }

    /// Applies one event; publishes when anything changed for requests.
    fn apply(&mut self, event: Event) {
        let why = match &event {
            Event::Probed { outcome, .. } => outcome.to_string(),
            Event::ConnectFailed { .. } => "a connection failed".into(),
            Event::Ticked => "its time is over".into(),
            Event::Administered { .. } => "by command".into(),
            Event::AppMaintained { .. } => "by command".into(),
            Event::Configured(_) => "by configuration".into(),
            Event::Restored(_) => "as the process before knew it".into(),
        };
        let maintained = match &event {
            Event::AppMaintained { app, on } => Some((app.clone(), *on)),
            Event::Administered { .. }
            | Event::Configured(_)
            | Event::ConnectFailed { .. }
            | Event::Probed { .. }
            | Event::Restored(_)
            | Event::Ticked => None,
        };
        let applied = self.balancer.apply(event, self.clock.monotonic());
        if !applied.changed {
            return;
        }
        self.published.store(self.balancer.snapshot());
        if let Some((app, maintenance)) = maintained {
            tracing::info!(%app, maintenance, why, "app changed");
        }
        for transition in applied.transitions {
            report(&transition, &why);
        }
    }
}

fn report(transition: &Transition, why: &str) {
    let Transition { app, backend, from, to } = transition;
    let from = from.map_or("absent", Admission::reason);
    tracing::info!(%app, %backend, from, to = to.reason(), admission = to.as_str(), why, "backend changed");
}
