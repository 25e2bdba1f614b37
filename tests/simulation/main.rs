//! Random events against the balancer, from one seed, against the invariants of ARCHITECTURE.md.
//!
//! `HOMING_SEED=123 cargo test --test simulation` replays a seed that a failure printed.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

mod check;
#[path = "../model/mod.rs"]
mod model;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::cookie::Scheme;
use homing::balancer::affinity::token::BackendHash;
use homing::balancer::affinity::word::AppWord;
use homing::balancer::affinity::{AffinityPolicy, Presented};
use homing::balancer::app::backend::{Address, BackendSpec};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::members::{AdminState, Admission, Asked, Closed, Member};
use homing::balancer::app::outliers::Why;
use homing::balancer::app::panic::Then;
use homing::balancer::app::policy::Policy;
use homing::balancer::app::view::{AppView, Tried};
use homing::balancer::assign::{Assignment, Patience, Queued, Request, assign};
use homing::balancer::carry::Carried;
use homing::balancer::name::{AppName, BackendId, Incarnation};
use homing::balancer::state::{AppSpec, Balancer, Event, Spec};

use self::model::{Left, Run, SKEW};

/// Events of one run; several seeds run, for more than a million events in all.
const EVENTS: usize = 60_000;
const SEEDS: u64 = 18;
const CLIENTS: usize = 40;
const BACKENDS: u16 = 8;

/// How long an unused pin is honoured, in seconds: a day, and what clocks may lie apart.
const IDLE: u64 = 86_400 + SKEW;

/// The policies of an app as the configuration makes them, so that defaults are simulated. Seeds in a
/// row have different ones.
fn policies(seed: u64) -> (AffinityPolicy, Arc<Policy>) {
    let slow_start = ["off", "30s", "{ duration: 30s, pinned: paced }"][(seed % 3) as usize];
    let on_unavailable = ["move", "borrow", "strict", "wait"][(seed / 3 % 4) as usize];
    let affinity = format!("{{ on_unavailable: {on_unavailable} }}");
    let outliers = [
        "off",
        "on",
        "{ pinned: move, max_ejected_percent: 100, ejection: 2m }",
        "{ end: probes }",
        "on",
    ];
    let panic = ["off", "{ then: spread }", "off", "{ then: refuse, below_percent: 40 }"];
    let (outliers, panic) = (outliers[(seed % 5) as usize], panic[(seed % 4) as usize]);
    model::policies(&format!(
        "slow_start: {slow_start}, affinity: {affinity}, outliers: {outliers}, panic: {panic}"
    ))
}

/// One client: its cookie, and where it was when it was last served.
#[derive(Default)]
struct Client {
    cookie: Option<String>,
    home: Option<Home>,
}

#[derive(Clone)]
struct Home {
    id: BackendId,
    incarnation: Option<Incarnation>,
    /// When the pin was made, on the wall clock of the simulation.
    issued: u64,
    /// When the cookie was last renewed, on the wall clock of the simulation.
    renewed: u64,
    /// The key it was sealed with.
    key: u8,
}

/// What the operator wants of a backend: what a durable file would hold.
#[derive(Clone, Copy)]
struct Wish {
    state: AdminState,
    /// On the clock of the process.
    deadline: Option<Duration>,
    /// Whether the balancer was told that the deadline is over.
    drained: bool,
}

impl Home {
    fn run(&self) -> Run {
        (self.id.clone(), self.incarnation.clone())
    }
}

struct World {
    rng: SmallRng,
    balancer: Balancer,
    clock: Duration,
    unix: u64,
    backends: Vec<BackendSpec>,
    /// What the operator wants of backends other than that they are ready.
    wishes: HashMap<BackendId, Wish>,
    /// Whether the operator closed the app.
    maintenance: bool,
    /// The keys of the ring, newest first.
    keys: Vec<u8>,
    next_key: u8,
    clients: Vec<Client>,
    policies: (AffinityPolicy, Arc<Policy>),
    generation: u64,
    /// Who left the list since the last crash.
    left: Left,
    /// Whether the last request would have waited for its home.
    patience: Patience,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            balancer: Balancer::default(),
            clock: Duration::ZERO,
            unix: 1_800_000_000,
            backends: Vec::new(),
            wishes: HashMap::new(),
            maintenance: false,
            keys: vec![1],
            next_key: 2,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            policies: policies(seed),
            generation: 0,
            left: Left::watched_since(1_800_000_000),
            patience: Patience::Waits,
        };
        world.edit_list();
        world.configure();
        world
    }

    fn app() -> AppName {
        AppName::parse("shop").unwrap()
    }

    fn step(&mut self) {
        self.clock += Duration::from_millis(self.rng.random_range(0..2_000));
        self.pass_wall_time();
        match self.rng.random_range(0..1000) {
            0..560 => self.request(),
            560..600 => self.find_outlier(),
            600..740 => self.probe(),
            740..775 => self.fail_connect(),
            775..790 => self.ask_for_drain(),
            790..840 => self.administer(),
            840..850 => self.maintain(),
            850..920 => self.tick(),
            920..950 => {
                self.edit_list();
                self.configure();
            }
            950..970 => self.rotate(),
            970..976 => self.restart(),
            976..978 => self.crash(),
            // A list that is only shuffled, and a configuration that changes nothing.
            _ => {
                self.backends
                    .sort_by_key(|backend| backend.id.as_str().len() + usize::from(backend.weight));
                self.configure();
            }
        }
    }

    /// The wall clock goes on, is set a little back or forward, and once in a while hours forward.
    fn pass_wall_time(&mut self) {
        self.unix += self.rng.random_range(0..60);
        match self.rng.random_range(0..10_000) {
            0..100 => self.unix = self.unix - 30 + self.rng.random_range(0..=60),
            100..102 => self.unix += self.rng.random_range(1..40) * 3600,
            _ => {}
        }
    }

    fn edit_list(&mut self) {
        let before = std::mem::take(&mut self.backends);
        self.backends = self.edited_list(&before);
        self.left.edited(&before, &self.backends, self.unix);
    }

    fn edited_list(&mut self, before: &[BackendSpec]) -> Vec<BackendSpec> {
        let mut backends = Vec::new();
        if self.rng.random_bool(0.005) {
            return backends;
        }
        for number in 1..=BACKENDS {
            let id = BackendId::parse(&format!("web.{number}")).unwrap();
            let last = before.iter().find(|backend| backend.id == id).cloned();
            if self.rng.random_bool(0.2) {
                continue;
            }
            let mut backend = last.unwrap_or_else(|| BackendSpec {
                address: Address::Tcp(([127, 0, 0, 1], 3000 + number).into()),
                incarnation: None,
                weight: 1,
                id,
            });
            backend.weight = self.rng.random_range(1..5);
            if self.rng.random_bool(0.1) {
                let port = self.rng.random_range(4000..5000);
                backend.address = Address::Tcp(([127, 0, 0, 1], port).into());
            }
            if self.rng.random_bool(0.05) {
                let release = self.rng.random_range(0..100);
                backend.incarnation = Some(Incarnation::parse(&format!("v{release}")).unwrap());
            }
            backends.push(backend);
        }
        backends
    }

    fn spec(&self) -> Spec {
        let (keyring, (affinity, policy)) = (model::ring(&self.keys), self.policies.clone());
        let app = AppSpec {
            name: Self::app(),
            affinity: Some(affinity),
            policy,
            backends: self.backends.clone(),
        };
        Spec { apps: vec![app.into()], default_app: Some(Self::app()), keyring, taken: self.unix }
    }

    fn configure(&mut self) {
        let mut before = self.admissions();
        let panic = self.panic();
        // What a process asked for and ejections may end here, or have to wait, as others come and go.
        let may_change = |m: &&Member| m.asked == Asked::Drain || m.ejections.is_on();
        for member in self.balancer.members(&Self::app()).iter().filter(may_change) {
            before.remove(&(member.backend.id.clone(), member.backend.address.clone()));
        }
        self.apply(Event::Configured(Box::new(self.spec())));
        self.generation += 1;
        let backends = &self.backends;
        self.wishes.retain(|id, _| backends.iter().any(|backend| backend.id == *id));
        if panic != self.panic() {
            return;
        }
        // A backend that stays where it is keeps what it admits.
        for (backend, admission) in self.admissions() {
            let stayed = before.get(&backend);
            assert!(
                stayed.is_none_or(|last| *last == admission),
                "{backend:?}: {stayed:?} became {admission:?}"
            );
        }
    }

    /// What the app does, if it panics.
    fn panic(&self) -> Option<Then> {
        self.balancer.snapshot().apps.iter().next()?.panic
    }

    /// Another process takes over, with all that this one knew.
    fn restart(&mut self) {
        self.tick();
        let before = self.admissions();
        let weights = self.weights();
        let homes: Vec<Option<BackendId>> = (0..CLIENTS).map(|index| self.home_of(index)).collect();
        let carried = serde_json::to_string(&self.balancer.carry(self.clock)).unwrap();
        let carried: Carried = serde_json::from_str(&carried).unwrap();
        self.start(Some(carried));
        self.generation += 1;
        assert_eq!(before, self.admissions(), "a restart changed what is admitted");
        for (id, weight) in self.weights() {
            assert!(weight >= weights[&id], "a restart took a share from {id}");
        }
        for (index, home) in homes.into_iter().enumerate().filter(|(_, home)| home.is_some()) {
            assert_eq!(home, self.home_of(index), "a restart lost a pin");
        }
    }

    /// Another process starts after this one died: only what is written down is known.
    fn crash(&mut self) {
        self.left = Left::watched_since(self.unix);
        self.start(None);
        self.generation = 1;
    }

    fn start(&mut self, carried: Option<Carried>) {
        self.balancer = Balancer::default();
        let ended = std::mem::take(&mut self.clock);
        self.apply(Event::Configured(Box::new(self.spec())));
        if let Some(carried) = carried {
            self.apply(Event::Restored(Box::new(carried)));
        }
        let written = self.wishes.clone();
        for (id, wish) in written.into_iter().filter(|(_, wish)| wish.state != AdminState::Ready) {
            let deadline = wish.deadline.map(|deadline| deadline.saturating_sub(ended));
            self.wish(id, wish.state, deadline);
        }
        self.apply(Event::AppMaintained { app: Self::app(), on: self.maintenance });
    }

    /// Where a client would follow its pin to, if the app were open.
    fn home_of(&mut self, index: usize) -> Option<BackendId> {
        if self.maintenance {
            return None;
        }
        let view = Arc::clone(&self.balancer.snapshot().apps[0]);
        let presented = self.present(&view, index);
        match assign(&view, &self.asked(&presented, Patience::Waits), &mut self.rng) {
            Assignment::Follow(slot, _) => Some(view.app.backend(slot).id.clone()),
            Assignment::Borrow(..)
            | Assignment::FollowOrMove(..)
            | Assignment::Make(_)
            | Assignment::Move(..)
            | Assignment::Refuse(_)
            | Assignment::Spread(_)
            | Assignment::Wait(_) => None,
        }
    }

    /// The weight by which each open backend is drawn.
    fn weights(&self) -> HashMap<BackendId, u32> {
        let view = Arc::clone(&self.balancer.snapshot().apps[0]);
        let open = view.admissions().filter(|(_, admission)| *admission == Admission::Open);
        open.map(|(slot, _)| (view.app.backend(slot).id.clone(), view.weight(slot))).collect()
    }

    /// What each backend admits, by id and address.
    fn admissions(&self) -> HashMap<(BackendId, Address), Admission> {
        let snapshot = self.balancer.snapshot();
        let Some(view) = snapshot.apps.iter().next() else { return HashMap::new() };
        let key = |(slot, admission)| {
            let backend = view.app.backend(slot);
            ((backend.id.clone(), backend.address.clone()), admission)
        };
        view.admissions().map(key).collect()
    }

    /// A new key in front; the oldest goes when there are three.
    fn rotate(&mut self) {
        self.keys.insert(0, self.next_key);
        self.next_key = self.next_key.wrapping_add(1).max(1);
        self.keys.truncate(3);
        self.configure();
    }

    fn any_backend(&mut self) -> Option<BackendSpec> {
        if self.backends.is_empty() {
            return None;
        }
        let index = self.rng.random_range(..self.backends.len());
        Some(self.backends[index].clone())
    }

    fn probe(&mut self) {
        let Some(BackendSpec { id: backend, address, .. }) = self.any_backend() else { return };
        let outcome = if self.rng.random_bool(0.8) {
            ProbeOutcome::Passed
        } else {
            ProbeOutcome::Failed("simulated".into())
        };
        self.apply(Event::Probed { app: Self::app(), backend, address, outcome });
    }

    fn fail_connect(&mut self) {
        let Some(BackendSpec { id: backend, address, .. }) = self.any_backend() else { return };
        self.apply(Event::ConnectFailed { app: Self::app(), backend, address });
    }

    fn find_outlier(&mut self) {
        let Some(BackendSpec { id: backend, address, .. }) = self.any_backend() else { return };
        let before = Arc::clone(&self.balancer.snapshot().apps[0]);
        let why = Why::ALL[self.rng.random_range(..Why::ALL.len())];
        self.apply(Event::FoundOutlier {
            app: Self::app(),
            backend: backend.clone(),
            address,
            why,
        });
        let after = Arc::clone(&self.balancer.snapshot().apps[0]);
        let slot = after.app.find(BackendHash::of(&backend)).unwrap();
        if before.is_ejected(slot) || !after.is_ejected(slot) {
            return;
        }
        assert!(before.panic.is_none(), "ejected in a panic");
        let to = before.admission(slot);
        let resting = Admission::Closed(Closed::Quarantined);
        assert!(to == Admission::Open || to == resting, "ejected though {to:?}");
        let open = |(slot, to): (_, Admission)| to == Admission::Open && !after.is_ejected(slot);
        assert!(after.admissions().any(open), "nobody is left for new clients");
        assert!(self.balancer.next_tick().is_some(), "an ejection that never ends");
    }

    /// Never more are ejected than the app allows, and never without an end.
    fn check_ejections(&self) {
        let app = Self::app();
        let members = self.balancer.members(&app);
        let ejected = members.iter().filter(|member| member.ejections.is_on()).count();
        let Some(policy) = &self.policies.1.outliers else {
            assert_eq!(ejected, 0, "ejected where nobody looks for outliers");
            return;
        };
        let share = members.len() * usize::from(policy.max_ejected_percent) / 100;
        assert!(ejected <= share.max(1) && (ejected == 0 || ejected < members.len()));
        let last = members.iter().filter_map(|member| member.ejections.until()).max();
        assert!(last.is_none_or(|until| until <= self.clock + policy.ejection_max));
    }

    fn ask_for_drain(&mut self) {
        let Some(BackendSpec { id: backend, address, .. }) = self.any_backend() else { return };
        self.apply(Event::AskedToDrain { app: Self::app(), backend, address });
    }

    fn administer(&mut self) {
        let Some(backend) = self.any_backend() else { return };
        let states =
            [AdminState::Ready, AdminState::Ready, AdminState::Drain, AdminState::Maintenance];
        let state = states[self.rng.random_range(..states.len())];
        let seconds = Duration::from_secs(self.rng.random_range(0..60));
        let deadline = match self.rng.random_range(0..4) {
            0 => None,
            1 => Some(self.clock.saturating_sub(seconds)),
            _ => Some(self.clock + seconds),
        };
        self.wish(backend.id, state, deadline);
    }

    fn wish(&mut self, backend: BackendId, state: AdminState, deadline: Option<Duration>) {
        let is_over = deadline.is_some_and(|deadline| deadline <= self.clock);
        let drained = state == AdminState::Drain && is_over;
        self.wishes.insert(backend.clone(), Wish { state, deadline, drained });
        self.apply(Event::Administered { app: Self::app(), backend, state, deadline });
    }

    fn maintain(&mut self) {
        self.maintenance = self.rng.random_bool(0.15);
        self.apply(Event::AppMaintained { app: Self::app(), on: self.maintenance });
    }

    fn tick(&mut self) {
        let due = self.balancer.next_tick().is_some_and(|due| due <= self.clock);
        let changed = self.apply(Event::Ticked);
        assert!(due || !changed, "a tick that was not due changed something");
        for wish in self.wishes.values_mut().filter(|wish| wish.state == AdminState::Drain) {
            wish.drained = wish.deadline.is_some_and(|deadline| deadline <= self.clock);
        }
        assert!(self.balancer.next_tick().is_none_or(|due| due > self.clock));
    }

    /// Applies an event, and checks that a change is told of if and only if there is one. Answers
    /// whether there is.
    fn apply(&mut self, event: Event) -> bool {
        let configures = matches!(event, Event::Configured(_));
        let before = self.balancer.snapshot();
        let applied = self.balancer.apply(event, self.clock);
        self.check_ejections();
        assert!(applied.transitions.iter().all(|change| change.from != Some(change.to)));
        if configures {
            return applied.changed;
        }
        let (before, after) = (&before.apps[0], &self.balancer.snapshot().apps[0]);
        let changed = !before.admissions().eq(after.admissions());
        assert!(changed != applied.transitions.is_empty(), "{:?}", applied.transitions);
        assert_eq!(applied.changed, !Arc::ptr_eq(before, after));
        applied.changed
    }

    /// What a client shows the app.
    fn present(&self, view: &AppView, index: usize) -> Presented {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &self.clients[index].cookie {
            headers.insert(COOKIE, cookie.parse().unwrap());
        }
        view.app.affinity.as_ref().unwrap().read(&headers, self.unix)
    }

    fn asked<'r>(&self, presented: &'r Presented, patience: Patience) -> Request<'r> {
        let tried = &Tried::NONE;
        Request {
            presented,
            tried,
            patience,
            queued: Queued::Not,
            now: self.unix,
            place: None,
            is_safe: true,
            in_session: false,
        }
    }

    fn request(&mut self) {
        let snapshot = self.balancer.snapshot();
        let view = Arc::clone(snapshot.find(b"a.example", b"/").expect("the app is there"));
        let index = self.rng.random_range(..CLIENTS);
        let presented = self.present(&view, index);
        let patience = if self.rng.random_bool(0.3) { Patience::Over } else { Patience::Waits };
        let assignment = assign(&view, &self.asked(&presented, patience), &mut self.rng);
        self.patience = patience;
        self.check(&snapshot, &view, &presented, &assignment, index);
        let assignment = if self.rng.random_bool(0.2) { assignment.give_up() } else { assignment };
        let Some(token) =
            assignment.token(&view, &presented, AppWord::default(), self.unix, &mut self.rng)
        else {
            return;
        };
        let affinity = view.app.affinity.as_ref().unwrap();
        let backend = view.app.backend(assignment.slot().unwrap());
        let line = affinity.set_cookies(&token, Scheme::Http, self.unix).next().unwrap();
        // A pin that is kept may be of a run that is on no list any more.
        let kept = matches!(assignment, Assignment::Borrow(..) | Assignment::Follow(..));
        let last = self.clients[index].home.take().filter(|_| kept);
        let here = (backend.id.clone(), backend.incarnation.clone());
        let (id, incarnation) = last.map_or(here, |home| (home.id, home.incarnation));
        self.clients[index].cookie = Some(line.split(';').next().unwrap().to_owned());
        let (issued, renewed, key) = (u64::from(token.issued), self.unix, self.keys[0]);
        self.clients[index].home = Some(Home { id, incarnation, issued, renewed, key });
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..EVENTS {
        world.step();
    }
}

#[test]
fn the_invariants_hold_under_random_events() {
    model::each_seed("simulation", SEEDS, run);
}
