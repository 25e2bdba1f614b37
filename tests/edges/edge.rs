//! One edge: a balancer with a clock, a list and a ring of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use rand::rngs::SmallRng;

use homing::balancer::affinity::Presented;
use homing::balancer::affinity::token::IncarnationHash;
use homing::balancer::app::backend::BackendSpec;
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::members::Admission;
use homing::balancer::app::view::{AppView, Tried};
use homing::balancer::assign::{Assignment, Patience, Queued, Request, assign};
use homing::balancer::carry::Carried;
use homing::balancer::name::{AppName, BackendId};
use homing::balancer::state::{Balancer, Event, Spec};

use crate::Cookie;
use crate::model::{Left, Run};

/// When everything begins, in Unix seconds.
const EPOCH: u64 = 1_800_000_000;

/// What a clock says that is off by so many seconds.
pub(crate) fn unix(now: Duration, offset: i64) -> u64 {
    (EPOCH + now.as_secs()).checked_add_signed(offset).unwrap()
}

pub(crate) fn app() -> AppName {
    AppName::parse("shop").unwrap()
}

pub(crate) fn run_of(backend: &BackendSpec) -> Run {
    (backend.id.clone(), backend.incarnation.clone())
}

/// What edges have to agree in to give the same answers: of each backend its run, its weight, and what it admits.
pub(crate) type Knowledge = BTreeMap<BackendId, (IncarnationHash, u16, Admission)>;

pub(crate) struct Edge {
    pub(crate) balancer: Balancer,
    pub(crate) view: Arc<AppView>,
    pub(crate) knowledge: Knowledge,
    /// When its process began.
    pub(crate) began: Duration,
    /// How far its wall clock is from the true time, in seconds.
    pub(crate) offset: i64,
    /// Which list it has, and in which order.
    pub(crate) version: usize,
    pub(crate) list: Vec<BackendSpec>,
    /// Which ring it has.
    pub(crate) ring: usize,
    pub(crate) left: Left,
}

impl Edge {
    /// One that begins with a configuration, and with what the process before it knew.
    pub(crate) fn begin(spec: Spec, carried: Option<Carried>, now: Duration) -> Self {
        let list = spec.apps[0].backends.clone();
        let left = Left::watched_since(spec.taken);
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec)), Duration::ZERO);
        if let Some(carried) = carried {
            balancer.apply(Event::Restored(Box::new(carried)), Duration::ZERO);
        }
        let view = Arc::clone(&balancer.snapshot().apps[0]);
        let (knowledge, began, offset) = (knowledge(&view), now, 0);
        Self { balancer, view, knowledge, began, offset, version: 0, list, ring: 0, left }
    }

    pub(crate) fn unix(&self, now: Duration) -> u64 {
        unix(now, self.offset)
    }

    pub(crate) fn apply(&mut self, event: Event, now: Duration) {
        if self.balancer.apply(event, now - self.began).changed {
            self.view = Arc::clone(&self.balancer.snapshot().apps[0]);
            self.knowledge = knowledge(&self.view);
        }
    }

    pub(crate) fn probe(&mut self, backend: &BackendSpec, down: &[BackendId], now: Duration) {
        let outcome = match down.contains(&backend.id) {
            true => ProbeOutcome::Failed("simulated".into()),
            false => ProbeOutcome::Passed,
        };
        let (backend, address) = (backend.id.clone(), backend.address.clone());
        self.apply(Event::Probed { app: app(), backend, address, outcome }, now);
    }

    pub(crate) fn listed(&self, id: &BackendId) -> Option<&BackendSpec> {
        self.list.iter().find(|backend| backend.id == *id)
    }

    /// Whether both have the same list, in whichever order, and whatever they know of health.
    pub(crate) fn lists_as(&self, other: &Self) -> bool {
        let list = |edge: &'_ Self| {
            edge.knowledge
                .iter()
                .map(|(id, (run, weight, _))| (id.clone(), *run, *weight))
                .collect::<Vec<_>>()
        };
        list(self) == list(other)
    }

    /// What it admits to the backend of this id, where it is on the list.
    pub(crate) fn admission(&self, id: &BackendId) -> Option<Admission> {
        self.knowledge.get(id).map(|(.., admission)| *admission)
    }

    /// What a client presents that shows this cookie.
    pub(crate) fn read(&self, cookie: Option<&Cookie>, now: Duration) -> Presented {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = cookie {
            headers.insert(COOKIE, cookie.line.parse().unwrap());
        }
        self.view.app.affinity.as_ref().unwrap().read(&headers, self.unix(now))
    }

    pub(crate) fn decide(
        &self,
        presented: &Presented,
        patience: Patience,
        now: Duration,
        rng: &mut SmallRng,
    ) -> Assignment {
        let (tried, now) = (&Tried::NONE, self.unix(now));
        let (place, is_safe, in_session) = (None, true, false);
        let request = Request {
            presented,
            tried,
            patience,
            queued: Queued::Not,
            now,
            place,
            is_safe,
            in_session,
        };
        assign(&self.view, &request, rng)
    }

    pub(crate) fn id(&self, assignment: &Assignment) -> Option<&BackendId> {
        assignment.slot().map(|slot| &self.view.app.backend(slot).id)
    }
}

fn knowledge(view: &AppView) -> Knowledge {
    let known = view.admissions().map(|(slot, admission)| {
        let backend = view.app.backend(slot);
        (backend.id.clone(), (backend.incarnation_hash, backend.weight, admission))
    });
    known.collect()
}
