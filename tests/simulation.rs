//! Random events against the balancer, from one seed, against the invariants of ARCHITECTURE.md.
//!
//! `HOMING_SEED=123 cargo test --test simulation` replays a seed that a failure printed.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::cookie::Scheme;
use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::Token;
use homing::balancer::affinity::{AffinityPolicy, Presented};
use homing::balancer::app::backend::{Address, BackendSpec};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::members::{AdminState, Admission};
use homing::balancer::app::policy::Policy;
use homing::balancer::app::view::{AppView, Tried};
use homing::balancer::assign::{Assignment, Cause, assign};
use homing::balancer::name::{AppName, BackendId, Incarnation};
use homing::balancer::state::{AppSpec, Balancer, Event, Snapshot, Spec};
use homing::config;

/// Events of one run; several seeds run, for half a million events in all.
const EVENTS: usize = 50_000;
const SEEDS: u64 = 10;
const CLIENTS: usize = 40;
const BACKENDS: u16 = 8;

/// The policies of an app as the configuration makes them, so that defaults are simulated.
fn policies() -> (AffinityPolicy, Arc<Policy>) {
    let file = "state_dir: s\nlisteners: [{ address: \"127.0.0.1:1\" }]\napps:\n- { name: shop, domains: [a.example], backends: [] }\n";
    let config = config::parse("simulation.yaml".as_ref(), file.to_owned()).unwrap();
    let app = &config.apps[0];
    (app.affinity.clone().unwrap(), Arc::clone(&app.policy))
}

fn key(number: u8) -> Key {
    Key::from_secret(&[number; 32]).unwrap()
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
    /// When the cookie was last renewed, on the wall clock of the simulation.
    used: u64,
}

struct World {
    rng: SmallRng,
    balancer: Balancer,
    clock: Duration,
    unix: u64,
    backends: Vec<BackendSpec>,
    /// The keys of the ring, newest first; the last is retired only after it was unused for a day.
    keys: Vec<u8>,
    next_key: u8,
    clients: Vec<Client>,
    policies: (AffinityPolicy, Arc<Policy>),
    generation: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            balancer: Balancer::default(),
            clock: Duration::ZERO,
            unix: 1_800_000_000,
            backends: Vec::new(),
            keys: vec![1],
            next_key: 2,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            policies: policies(),
            generation: 0,
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
        self.unix += self.rng.random_range(0..60);
        match self.rng.random_range(0..100) {
            0..60 => self.request(),
            60..75 => self.probe(),
            75..80 => self.fail_connect(),
            80..85 => self.administer(),
            85..92 => self.tick(),
            92..95 => {
                self.edit_list();
                self.configure();
            }
            95..97 => self.rotate(),
            // A list that is only shuffled, and a configuration that changes nothing.
            _ => {
                self.backends
                    .sort_by_key(|backend| backend.id.as_str().len() + usize::from(backend.weight));
                self.configure();
            }
        }
    }

    fn edit_list(&mut self) {
        let mut backends = Vec::new();
        for number in 1..=BACKENDS {
            let id = BackendId::parse(&format!("web.{number}")).unwrap();
            let last = self.backends.iter().find(|backend| backend.id == id).cloned();
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
        self.backends = backends;
    }

    fn configure(&mut self) {
        let ring = Keyring::new(self.keys.iter().map(|number| key(*number)).collect()).unwrap();
        let (affinity, policy) = self.policies.clone();
        let app = AppSpec {
            name: Self::app(),
            affinity: Some(affinity),
            policy,
            backends: self.backends.clone(),
        };
        let spec = Spec { apps: vec![app], default_app: Some(Self::app()), keyring: ring };
        let before = self.admissions();
        self.apply(Event::Configured(Box::new(spec)));
        self.generation += 1;
        assert_eq!(self.balancer.snapshot().generation, self.generation);
        // A backend that stays where it is keeps what it admits.
        for (backend, admission) in self.admissions() {
            let stayed = before.get(&backend);
            assert!(
                stayed.is_none_or(|last| *last == admission),
                "{backend:?}: {stayed:?} became {admission:?}"
            );
        }
    }

    /// What each backend admits, by id and address.
    fn admissions(&self) -> HashMap<(BackendId, Address), Admission> {
        let snapshot = self.balancer.snapshot();
        let Some(view) = snapshot.apps.first() else { return HashMap::new() };
        let key = |(slot, admission)| {
            let backend = view.app.backend(slot);
            ((backend.id.clone(), backend.address.clone()), admission)
        };
        view.admissions().map(key).collect()
    }

    /// A new key in front; the oldest goes when there are three, as an operator rotates in days.
    fn rotate(&mut self) {
        self.keys.insert(0, self.next_key);
        self.next_key = self.next_key.wrapping_add(1).max(1);
        if self.keys.len() > 3 {
            self.keys.truncate(3);
            // Whoever did not come for a day has lost its pin to age anyway.
            self.unix += 86_400 + 61;
        }
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
        let Some(backend) = self.any_backend() else { return };
        let outcome = if self.rng.random_bool(0.8) {
            ProbeOutcome::Passed
        } else {
            ProbeOutcome::Failed("simulated".into())
        };
        let (id, address) = (backend.id, backend.address);
        self.apply(Event::Probed { app: Self::app(), backend: id, address, outcome });
    }

    fn fail_connect(&mut self) {
        let Some(backend) = self.any_backend() else { return };
        let (id, address) = (backend.id, backend.address);
        self.apply(Event::ConnectFailed { app: Self::app(), backend: id, address });
    }

    fn administer(&mut self) {
        let Some(backend) = self.any_backend() else { return };
        let states =
            [AdminState::Ready, AdminState::Ready, AdminState::Drain, AdminState::Maintenance];
        let state = states[self.rng.random_range(..states.len())];
        self.apply(Event::Administered {
            app: Self::app(),
            backend: backend.id,
            state,
            deadline: None,
        });
    }

    fn tick(&mut self) {
        self.apply(Event::Ticked);
        assert!(self.balancer.next_tick().is_none_or(|due| due > self.clock));
    }

    /// Applies an event, and checks that a change is told of if and only if there is one.
    fn apply(&mut self, event: Event) {
        let configures = matches!(event, Event::Configured(_));
        let before = self.admissions();
        let transitions = self.balancer.apply(event, self.clock).transitions;
        let changed = before != self.admissions();
        assert!(configures || changed != transitions.is_empty(), "{transitions:?}");
        assert!(transitions.iter().all(|transition| transition.from != Some(transition.to)));
    }

    fn request(&mut self) {
        let snapshot = self.balancer.snapshot();
        let view = Arc::clone(snapshot.find(b"a.example", b"/").expect("the app is there"));
        let index = self.rng.random_range(..CLIENTS);
        let affinity = view.app.affinity.as_ref().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &self.clients[index].cookie {
            headers.insert(COOKIE, cookie.parse().unwrap());
        }
        let presented = affinity.read(&headers, self.unix);
        let assignment = assign(&view, &presented, &Tried::default(), &mut self.rng);
        self.check(&snapshot, &view, &presented, &assignment, index);
        let token = match assignment {
            Assignment::Follow(_, pin) => pin.token.renewed_at(self.unix),
            Assignment::Make(slot) | Assignment::Move(slot, _) => {
                let backend = view.app.backend(slot);
                let now = u32::try_from(self.unix).unwrap();
                Token {
                    backend: backend.hash,
                    incarnation: backend.incarnation_hash,
                    issued: now,
                    renewed: now,
                }
            }
            Assignment::Refuse(_) | Assignment::Wait(_) => return,
            Assignment::Spread(_) => unreachable!("affinity is on"),
        };
        let backend = view.app.backend(assignment.slot().unwrap());
        let line = affinity.set_cookie(&token, Scheme::Http, self.unix, &mut self.rng).value;
        let (id, incarnation) = (backend.id.clone(), backend.incarnation.clone());
        self.clients[index].cookie = Some(line.split(';').next().unwrap().to_owned());
        self.clients[index].home = Some(Home { id, incarnation, used: self.unix });
    }

    /// The invariants, for one request.
    fn check(
        &self,
        snapshot: &Snapshot,
        view: &AppView,
        presented: &Presented,
        assignment: &Assignment,
        index: usize,
    ) {
        assert_eq!(snapshot.generation, self.generation);
        if let Some(slot) = assignment.slot() {
            let admission = view.admission(slot);
            assert!(
                !matches!(admission, Admission::Closed(_)),
                "assigned to a closed backend: {assignment:?}"
            );
            let is_new = !matches!(assignment, Assignment::Follow(..));
            assert!(!is_new || admission == Admission::Open, "a new pin to {admission:?}");
        }
        let Some(home) = &self.clients[index].home else {
            assert!(matches!(presented, Presented::Nothing), "{presented:?}");
            return;
        };
        // Every cookie is in date or idle for a day, and its key is still on the ring.
        let idle = self.unix - home.used > 86_400 + 60;
        let listed = self.backends.iter().find(|backend| backend.id == home.id);
        let expected = match (idle, listed) {
            (true, _) => Some(Cause::ExpiredIdle),
            (false, None) => Some(Cause::Removed),
            (false, Some(backend)) if backend.incarnation != home.incarnation => {
                Some(Cause::NewIncarnation)
            }
            (false, Some(_)) => None,
        };
        match (assignment, expected) {
            (Assignment::Move(_, cause), Some(expected)) => {
                let unknown = idle && *cause == Cause::UnknownKey;
                assert!(*cause == expected || unknown, "{cause:?} instead of {expected:?}");
            }
            (Assignment::Follow(slot, _), None) => assert_eq!(view.app.backend(*slot).id, home.id),
            (Assignment::Move(_, cause), None) => {
                let closed = [Cause::ConnectFailed, Cause::Maintenance, Cause::Unhealthy];
                assert!(closed.contains(cause), "a pin to a surviving backend moved: {cause:?}");
            }
            (Assignment::Refuse(_) | Assignment::Wait(_), _) => {}
            (other, expected) => panic!("{other:?}, expected a move by {expected:?}"),
        }
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
    let seeds: Vec<u64> = match std::env::var("HOMING_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let first: u64 = rand::random();
            (0..SEEDS).map(|number| first.wrapping_add(number)).collect()
        }
    };
    for seed in seeds {
        let failed = std::panic::catch_unwind(|| run(seed)).is_err();
        assert!(!failed, "replay with HOMING_SEED={seed} cargo test --test simulation");
    }
}
