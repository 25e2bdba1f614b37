//! Authoritative membership: what is known of each backend, and what it admits therefore.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backend::{Backend, BackendSpec};
use super::health::{Health, HealthTracker};
use super::live::BackendLive;
use super::outliers::{Ejections, Pinned};
use super::panic::Then;
use super::slow_start::{Elapsed, SHARE_WHOLE, SlowStart};

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminState {
    /// Pinned clients continue, until the deadline if there is one; nobody new comes.
    Drain,
    /// Nobody comes.
    Maintenance,
    /// Everybody comes.
    Ready,
}

impl AdminState {
    /// The state that is called so.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Drain, Self::Maintenance, Self::Ready];
        all.into_iter().find(|state| state.as_str() == word)
    }

    /// The word for logs and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Ready => "ready",
        }
    }
}

/// What the process of a backend asks for itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To get no new clients.
    Drain,
    /// The same, but the operator had another word on it: it is not heard any more.
    Overruled,
    /// Nothing.
    #[default]
    #[serde(other)]
    Nothing,
}

/// Why a backend takes nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    /// It was drained, and the time its clients had to leave by themselves is over.
    Drained,
    /// Its requests fail.
    Ejected,
    /// The operator wants it so.
    Maintenance,
    /// It refused a connection and rests for some seconds.
    Quarantined,
    /// Its probes fail.
    Unhealthy,
    /// Nobody probed it yet.
    Unknown,
}

/// What a backend admits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Nobody.
    Closed(Closed),
    /// Everybody.
    Open,
    /// Pinned clients only.
    PinnedOnly,
}

impl Admission {
    /// The labels, by [`Admission::label_index`].
    pub const LABELS: [&'static str; 3] = ["open", "pinned_only", "closed"];

    /// The place of the label.
    pub fn label_index(self) -> usize {
        match self {
            Self::Open => 0,
            Self::PinnedOnly => 1,
            Self::Closed(_) => 2,
        }
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        Self::LABELS[self.label_index()]
    }

    /// Why, in one word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Open => "healthy",
            Self::PinnedOnly => "drain",
            Self::Closed(Closed::Drained) => "drained",
            Self::Closed(Closed::Ejected) => EJECTED,
            Self::Closed(Closed::Maintenance) => "maintenance",
            Self::Closed(Closed::Quarantined) => "quarantined",
            Self::Closed(Closed::Unhealthy) => "unhealthy",
            Self::Closed(Closed::Unknown) => "unknown",
        }
    }
}

/// What backends admit that were ejected.
const EJECTED: &str = "ejected";

/// What a member has to know of its app.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::balancer) struct Around {
    /// Whether no other backend takes new clients: then an ejection, and what it asks for, have to wait.
    pub(in crate::balancer) alone: bool,
    /// What happens to its clients while it is ejected.
    pub(in crate::balancer) pinned: Pinned,
    /// Whether the app panics, and what it does then.
    pub(in crate::balancer) panic: Option<Then>,
}

/// How a backend stands, as far as requests see it at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::balancer) struct Told {
    pub(in crate::balancer) admission: Admission,
    drained: bool,
    given_up: bool,
    asked: Asked,
    reason: &'static str,
}

impl Told {
    /// Why it admitted what it did, for people.
    pub(in crate::balancer) fn reason(self) -> &'static str {
        self.reason
    }
}

/// What is known of one backend.
#[derive(Debug)]
pub struct Member {
    /// The backend.
    pub backend: Arc<Backend>,
    /// What its probes add up to.
    pub health: HealthTracker,
    /// What the operator wants.
    pub administrative: AdminState,
    /// What its process asks for. Ends with the process, as far as that is noticed.
    pub asked: Asked,
    /// Whether it is ejected, since its requests fail.
    pub ejections: Ejections,
    /// What it has to know of its app.
    pub(in crate::balancer) around: Around,
    /// When the pinned clients of a drained backend are moved, on the clock of the events; `None`: never.
    pub drain_deadline: Option<Duration>,
    /// Whether that moment was reached.
    pub drained: bool,
    /// Until when it rests after a refused connection, on the clock of the events.
    pub quarantined_until: Option<Duration>,
    /// For how long it has been open; `None`: it is closed, or was since it was last open.
    pub open_for: Option<Elapsed>,
    /// For how long it has been closed; `None`: it is not.
    pub closed_for: Option<Elapsed>,
    /// Whether that is so long ago that its clients are moved, where others stand in for it.
    pub given_up: bool,
    /// How it stood when that was last told.
    pub(in crate::balancer) told: Option<Told>,
}

impl Member {
    /// A backend that nothing is known of. `probed`: whether anybody will find out.
    pub(in crate::balancer) fn new(spec: BackendSpec, probed: bool) -> Self {
        Self {
            backend: Arc::new(Backend::new(spec, Arc::new(BackendLive::default()))),
            health: if probed { HealthTracker::unknown() } else { HealthTracker::unprobed() },
            administrative: AdminState::Ready,
            asked: Asked::Nothing,
            ejections: Ejections::default(),
            around: Around::default(),
            drain_deadline: None,
            drained: false,
            quarantined_until: None,
            open_for: None,
            closed_for: None,
            given_up: false,
            told: None,
        }
    }

    /// The same backend under a new configuration. Health belongs to the address: another address
    /// is probed anew before it takes anybody. What the operator wants belongs to the id.
    pub(in crate::balancer) fn with(self, spec: BackendSpec, probed: bool) -> Self {
        let moved = self.backend.address != spec.address;
        let another = moved || self.backend.incarnation != spec.incarnation;
        // Probing switched on or off: what was known before is not worth much.
        let forgotten = moved || self.health.is_unprobed() == probed;
        let live = Arc::clone(&self.backend.live);
        if another {
            live.record.forget();
        }
        let fresh = Self::new(spec.clone(), probed);
        Self {
            backend: Arc::new(Backend::new(spec, live)),
            health: if forgotten { fresh.health } else { self.health },
            quarantined_until: if moved { None } else { self.quarantined_until },
            open_for: if moved { None } else { self.open_for },
            asked: if another { Asked::Nothing } else { self.asked },
            ejections: if another { Ejections::default() } else { self.ejections },
            ..self
        }
    }

    /// Takes in that its process asks for no new clients. One that is closed may have ended since, and what
    /// the operator overruled stays so.
    pub(in crate::balancer) fn ask_for_drain(&mut self) {
        if self.asked == Asked::Nothing && self.admission() == Admission::Open {
            self.asked = Asked::Drain;
        }
    }

    /// Forgets what a process asked for that is gone: it answers no probe, or refuses connections.
    pub(in crate::balancer) fn forget_asked(&mut self) {
        let is_there = self.health.health() == Health::Healthy && self.quarantined_until.is_none();
        if !is_there {
            self.asked = Asked::Nothing;
        }
    }

    /// Whether it takes new clients, its process does not ask for none, and its requests do not fail.
    pub(in crate::balancer) fn welcomes(&self) -> bool {
        self.asked != Asked::Drain && !self.ejections.is_on() && self.admission() == Admission::Open
    }

    /// How it stands.
    pub(in crate::balancer) fn stands(&self) -> Told {
        Told {
            admission: self.admission(),
            drained: self.drained,
            given_up: self.given_up,
            asked: self.asked,
            reason: self.reason(),
        }
    }

    /// Takes in what the operator wants, whatever its process asked for. `deadline` counts for a drain only.
    pub(in crate::balancer) fn administer(
        &mut self,
        state: AdminState,
        deadline: Option<Duration>,
        now: Duration,
    ) {
        self.administrative = state;
        self.drain_deadline = deadline.filter(|_| state == AdminState::Drain);
        self.drained = false;
        if self.asked == Asked::Drain {
            self.asked = Asked::Overruled;
        }
        self.pass(now, None);
    }

    /// Ends what ends by itself. Answers whether anything did.
    pub(in crate::balancer) fn pass(&mut self, now: Duration, lend: Option<Duration>) -> bool {
        let rested = self.quarantined_until.take_if(|until| *until <= now).is_some();
        let returned = self.ejections.pass(now);
        if returned {
            self.backend.live.record.forget();
        }
        let drained = !self.drained && self.drain_deadline.is_some_and(|at| at <= now);
        self.drained |= drained;
        let given_up = !self.given_up && self.lent_until(lend).is_some_and(|at| at <= now);
        self.given_up |= given_up;
        rested || returned || drained || given_up
    }

    /// Until when others stand in for it; `lend`: for how long they do, where they do at all.
    fn lent_until(&self, lend: Option<Duration>) -> Option<Duration> {
        Some(self.closed_for?.reaches(lend?))
    }

    /// When anything ends by itself, on the clock of the events.
    pub(in crate::balancer) fn next_end(&self, lend: Option<Duration>) -> Option<Duration> {
        let deadline = self.drain_deadline.filter(|_| !self.drained);
        let lent = self.lent_until(lend).filter(|_| !self.given_up);
        let ejected = self.ejections.until();
        self.quarantined_until.into_iter().chain(ejected).chain(deadline).chain(lent).min()
    }

    /// Takes note of when it opens and closes. A drain changes nothing in that, nor does an ejection: what was open
    /// before is warm after it. A panic, which may end at any moment, makes nothing younger or older.
    pub(in crate::balancer) fn clock_open(&mut self, now: Duration) {
        match self.decided(None) {
            Admission::Closed(Closed::Ejected) => {
                self.closed_for.get_or_insert(Elapsed::new(now, Duration::ZERO));
            }
            Admission::Closed(_) => {
                self.open_for = None;
                self.closed_for.get_or_insert(Elapsed::new(now, Duration::ZERO));
            }
            Admission::Open => {
                self.open_for.get_or_insert(Elapsed::new(now, Duration::ZERO));
                (self.closed_for, self.given_up) = (None, false);
            }
            Admission::PinnedOnly => (self.closed_for, self.given_up) = (None, false),
        }
    }

    /// The share of clients it takes at `now`, in thousandths of what it takes by its weight. One that
    /// drains has its clients for the last time, and lets them all in.
    pub(in crate::balancer) fn share(&self, slow_start: Option<&SlowStart>, now: Duration) -> u16 {
        match (slow_start, self.open_for) {
            (Some(slow_start), Some(open_for)) if self.admission() == Admission::Open => {
                slow_start.share(open_for.at(now))
            }
            (_, _) => SHARE_WHOLE,
        }
    }

    /// What the backend admits: the one table that decides it, but that an app which panics may take nobody new.
    pub fn admission(&self) -> Admission {
        match (self.decided(self.around.panic), self.around.panic) {
            (Admission::Open, Some(Then::Refuse)) => Admission::PinnedOnly,
            (decided, _) => decided,
        }
    }

    /// What it admits by itself, in an app that does this.
    fn decided(&self, panic: Option<Then>) -> Admission {
        match (self.administrative, self.believed(panic), self.quarantined_until) {
            (AdminState::Maintenance, _, _) => Admission::Closed(Closed::Maintenance),
            (_, Health::Unhealthy, _) => Admission::Closed(Closed::Unhealthy),
            (_, Health::Unknown, _) => Admission::Closed(Closed::Unknown),
            (_, Health::Healthy, Some(_)) => Admission::Closed(Closed::Quarantined),
            (AdminState::Drain, Health::Healthy, None) if self.drained => {
                Admission::Closed(Closed::Drained)
            }
            (AdminState::Drain, Health::Healthy, None) => Admission::PinnedOnly,
            (AdminState::Ready, Health::Healthy, None) if self.has_to_go(panic) => {
                match self.around.pinned {
                    Pinned::Keep => Admission::PinnedOnly,
                    Pinned::Move => Admission::Closed(Closed::Ejected),
                }
            }
            (AdminState::Ready, Health::Healthy, None) => match self.asked {
                Asked::Drain if !self.around.alone => Admission::PinnedOnly,
                Asked::Drain | Asked::Nothing | Asked::Overruled => Admission::Open,
            },
        }
    }

    /// Its health, as far as that is believed.
    fn believed(&self, panic: Option<Then>) -> Health {
        match (self.health.health(), panic) {
            (Health::Unhealthy, Some(Then::Spread)) => Health::Healthy,
            (health, _) => health,
        }
    }

    /// Whether it is ejected, and that counts: others take new clients, and verdicts are believed.
    fn has_to_go(&self, panic: Option<Then>) -> bool {
        self.ejections.is_on() && !self.around.alone && panic != Some(Then::Spread)
    }

    /// Why it admits what it does, for people.
    pub fn reason(&self) -> &'static str {
        let (ejected, healthy) = (self.ejections.is_on(), self.health.health() == Health::Healthy);
        match (self.admission(), self.asked) {
            (Admission::Closed(_), _) => self.admission().reason(),
            (Admission::PinnedOnly, _) if self.administrative == AdminState::Drain => "drain",
            (Admission::PinnedOnly, _) if self.has_to_go(self.around.panic) => EJECTED,
            (Admission::PinnedOnly, Asked::Drain) if !self.around.alone => {
                "drain (asked by the app)"
            }
            (Admission::PinnedOnly, _) => "panic (most are unhealthy)",
            (Admission::Open, _) if !healthy => "unhealthy (panic: not believed)",
            (Admission::Open, _) if ejected && self.around.alone => {
                "healthy (ejected, no other is open)"
            }
            (Admission::Open, _) if ejected => "healthy (ejected, panic: not believed)",
            (Admission::Open, Asked::Drain) => "healthy (asks to drain, no other is open)",
            (Admission::Open, Asked::Nothing | Asked::Overruled) => "healthy",
        }
    }
}
