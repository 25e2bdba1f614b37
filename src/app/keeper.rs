//! The one writer: receives events, applies them to the balancer, publishes what requests read.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::balancer::app::health::ProbeOutcome;
use crate::balancer::app::panic::Then;
use crate::balancer::carry::Carried;
use crate::balancer::name::AppName;
use crate::balancer::state::{Balancer, Event, Snapshot, Transition};
use crate::shared::{Clock, Published, Retired};

/// How long a replaced snapshot that somebody reads is kept, at least. A request reads it for microseconds.
const RETIRED_INTERVAL: Duration = Duration::from_millis(100);

/// Questions that may wait. There is one who asks, one at a time.
const ASKED_MAX: usize = 16;

/// Owns the balancer.
pub(super) struct Keeper {
    balancer: Balancer,
    events: mpsc::Receiver<Event>,
    asked: mpsc::Receiver<Ask>,
    published: Arc<Published>,
    retired: Retired,
    clock: Clock,
}

/// What is asked by those who wait for it.
#[derive(Debug)]
enum Ask {
    Apply(Box<Event>, oneshot::Sender<()>),
    Carry(oneshot::Sender<Carried>),
}

/// The way to ask.
#[derive(Clone, Debug)]
pub(super) struct Line(mpsc::Sender<Ask>);

impl Line {
    /// Has an event applied, and waits until requests see it.
    pub(super) async fn apply(&self, event: Event) {
        let (done, applied) = oneshot::channel();
        // The keeper is gone only when the process ends.
        let _ended = self.0.send(Ask::Apply(Box::new(event), done)).await;
        let _ended = applied.await;
    }

    /// What a successor is to know of the backends.
    pub(super) async fn carry(&self) -> Option<Carried> {
        let (reply, carried) = oneshot::channel();
        self.0.send(Ask::Carry(reply)).await.ok()?;
        carried.await.ok()
    }
}

impl Keeper {
    pub(super) fn new(
        events: mpsc::Receiver<Event>,
        published: Arc<Published>,
        clock: Clock,
    ) -> (Self, Line) {
        let (line, asked) = mpsc::channel(ASKED_MAX);
        let keeper = Self {
            balancer: Balancer::default(),
            events,
            asked,
            published,
            retired: Retired::default(),
            clock,
        };
        (keeper, Line(line))
    }

    /// Begins: with what was configured, what the operator wants, and what the process before knew. Told
    /// in one line: what every backend admits at first is on the status page.
    pub(super) fn begin(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let _all_are_new = self.balancer.apply(event, self.clock.monotonic());
        }
        self.publish_configuration();
    }

    fn publish_configuration(&mut self) {
        let snapshot = self.balancer.snapshot();
        let backends: usize = snapshot.apps.iter().map(|view| view.app.backends.len()).sum();
        let (generation, apps) = (snapshot.generation, snapshot.apps.len());
        tracing::info!(generation, apps, backends, "configuration accepted");
        self.publish(snapshot);
    }

    fn publish(&mut self, snapshot: Snapshot) {
        let before = self.published.store(snapshot);
        self.retired.keep(before);
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
                Some(ask) = self.asked.recv() => {
                    self.answer(ask);
                    continue;
                }
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => Event::Ticked,
                () = tokio::time::sleep(RETIRED_INTERVAL), if !self.retired.is_empty() => {
                    self.retired.free();
                    continue;
                }
            };
            self.apply(event);
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Apply(event, done) => {
                self.apply(*event);
                let _nobody_waits = done.send(());
            }
            Ask::Carry(reply) => {
                let _nobody_waits = reply.send(self.balancer.carry(self.clock.monotonic()));
            }
        }
    }

    /// Applies one event; publishes when anything changed for requests.
    fn apply(&mut self, event: Event) {
        let why = why(&event);
        let maintained = match &event {
            Event::AppMaintained { app, on } => Some((app.clone(), *on)),
            Event::Administered { .. }
            | Event::AskedToDrain { .. }
            | Event::Configured(_)
            | Event::ConnectFailed { .. }
            | Event::FoundOutlier { .. }
            | Event::Probed { .. }
            | Event::Restored(_)
            | Event::Ticked => None,
        };
        let configures = matches!(event, Event::Configured(_));
        let applied = self.balancer.apply(event, self.clock.monotonic());
        if !applied.changed {
            return;
        }
        if configures {
            self.publish_configuration();
        } else {
            self.publish(self.balancer.snapshot());
        }
        if let Some((app, maintenance)) = maintained {
            tracing::info!(%app, maintenance, %why, "app changed");
        }
        for (app, panic) in applied.panics {
            report_panic(&app, panic);
        }
        for transition in applied.transitions {
            report(&transition, &why);
        }
    }
}

/// Why anything changes by this event, for people.
fn why(event: &Event) -> Cow<'static, str> {
    let why = match event {
        Event::Probed { outcome: ProbeOutcome::Failed(reason), .. } => {
            return Cow::Owned(reason.to_string());
        }
        Event::Probed { outcome: ProbeOutcome::Passed, .. } => "passed",
        Event::ConnectFailed { .. } => "a connection failed",
        Event::AskedToDrain { .. } => "asked by the app",
        Event::FoundOutlier { why, .. } => why.text(),
        Event::Ticked => "its time is over",
        Event::Administered { .. } | Event::AppMaintained { .. } => "by command",
        Event::Configured(_) => "by configuration",
        Event::Restored(_) => "as the process before knew it",
    };
    Cow::Borrowed(why)
}

fn report(transition: &Transition, why: &str) {
    let Transition { app, backend, to, reasons: (from, reason), .. } = transition;
    let from = from.unwrap_or("absent");
    tracing::info!(%app, %backend, from, to = reason, admission = to.as_str(), why, "backend changed");
}

/// Someone should look: most of an app is down, or its probes are wrong.
fn report_panic(app: &AppName, panic: Option<Then>) {
    match panic {
        Some(then) => {
            tracing::warn!(%app, then = then.as_str(), "most backends are unhealthy: the app panics")
        }
        None => tracing::info!(%app, "enough backends are healthy: the app calmed down"),
    }
}
