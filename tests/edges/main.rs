//! One to five edges that share keys and nothing else, from one seed: lists, keys, restarts, crashes and verdicts
//! reach each at its own time, and their clocks lie up to a minute apart. Clients with one cookie go to any of
//! them, also to two at once.
//!
//! `HOMING_SEED=123 cargo test --test edges` replays a seed that a failure printed.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod check;
mod edge;
#[path = "../model/mod.rs"]
mod model;
mod visit;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::AffinityPolicy;
use homing::balancer::affinity::token::IncarnationHash;
use homing::balancer::app::backend::{Address, BackendSpec};
use homing::balancer::app::members::{Admission, Closed};
use homing::balancer::app::policy::Policy;
use homing::balancer::carry::Carried;
use homing::balancer::name::{BackendId, Incarnation};
use homing::balancer::state::{AppSpec, Event, Spec};

use self::edge::{Edge, app, run_of, unix};
use self::model::Run;

/// Events of one run; several seeds run.
const EVENTS: usize = 20_000;
const SEEDS: u64 = 15;
const CLIENTS: usize = 24;
const BACKENDS: u16 = 7;

/// How far a clock is from the true time, in seconds: two of them are a minute apart.
const OFFSET: i64 = 30;

/// How long a list takes to reach every edge, in seconds: less than the borrow limit of most seeds.
const LAG: u64 = 400;

/// How long a backend that left stays away: until every edge noticed, whatever its clock says. One that returns
/// sooner has left for those who notice late, with the pins it got meanwhile.
const LEFT_FOR: Duration = Duration::from_secs(LAG + 2 * OFFSET.unsigned_abs() + 1);

/// How long a pin goes unused, in seconds.
const IDLE: u64 = 3_600;

/// A list, as the operator wrote it for all edges.
struct Version {
    backends: Vec<BackendSpec>,
    born: Duration,
}

impl Version {
    fn has(&self, run: &Run) -> bool {
        self.backends.iter().any(|backend| run_of(backend) == *run)
    }
}

/// A pin, as the world knows it.
#[derive(Clone, Debug)]
struct Pin {
    run: Run,
    /// What its token says.
    issued: u64,
    /// The true time when it was made.
    made: Duration,
    /// Whether anything happened that may cost it: its run is not on the newest list, or takes nobody somewhere.
    disturbed: bool,
}

/// What a response brings.
#[derive(Clone, Debug)]
struct Cookie {
    line: String,
    /// The true time when the client drops it.
    ends: Duration,
    pin: Pin,
}

#[derive(Default)]
struct Client {
    cookie: Option<Cookie>,
    /// Responses that are still on their way.
    late: Vec<Cookie>,
    /// The pins that edits of lists cost it, one after another: by the run and the list without it, when it was moved.
    cost: HashMap<(Run, usize), Duration>,
}

struct World {
    rng: SmallRng,
    now: Duration,
    edges: Vec<Edge>,
    versions: Vec<Version>,
    /// Rings, newest key first, and since when all edges have the last of them.
    rings: Vec<Vec<u8>>,
    ring_settled: Option<Duration>,
    /// Backends that answer no probe.
    down: Vec<BackendId>,
    runs: HashMap<IncarnationHash, Option<Incarnation>>,
    /// When backends left the newest list, by their numbers.
    gone: HashMap<u16, Duration>,
    /// The last run of each backend that had more than one, by its number.
    last_run: HashMap<u16, Incarnation>,
    clients: Vec<Client>,
    policies: (AffinityPolicy, Arc<Policy>),
    /// What was seen, so that a world in which nothing happens fails.
    seen: BTreeMap<&'static str, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let on_unavailable = ["move", "borrow", "strict", "wait"][(seed % 4) as usize];
        let on_run = ["move", "follow", "refuse"][(seed / 4 % 3) as usize];
        let limit = ["10m", "10m", "100s"][(seed / 12 % 3) as usize];
        let lifetime = ["off", "2h"][(seed % 2) as usize];
        let affinity = format!(
            "{{ on_unavailable: {on_unavailable}, on_incarnation_change: {on_run}, borrow_limit: {limit}, \
             idle: 1h, lifetime: {lifetime} }}"
        );
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Duration::from_secs(1),
            edges: Vec::new(),
            versions: Vec::new(),
            rings: vec![vec![1]],
            ring_settled: None,
            down: Vec::new(),
            runs: HashMap::from([(IncarnationHash::of(None), None)]),
            gone: HashMap::new(),
            last_run: HashMap::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            policies: model::policies(&format!("affinity: {affinity}")),
            seen: BTreeMap::new(),
        };
        world.edit();
        for _ in 0..=seed % 5 {
            let offset = world.rng.random_range(-OFFSET..=OFFSET);
            let list = world.versions[0].backends.clone();
            let spec = world.spec(list, 0, unix(world.now, offset));
            let edge = Edge { offset, ..Edge::begin(spec, None, world.now) };
            world.edges.push(edge);
        }
        world
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.random_range(0..1000) < of_thousand
    }

    fn any_edge(&mut self) -> usize {
        self.rng.random_range(..self.edges.len())
    }

    fn spec(&self, backends: Vec<BackendSpec>, ring: usize, taken: u64) -> Spec {
        let (keyring, (affinity, policy)) = (model::ring(&self.rings[ring]), self.policies.clone());
        let app = AppSpec { name: app(), affinity: Some(affinity), policy, backends };
        Spec { apps: vec![app.into()], default_app: None, keyring, taken }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.random_range(0..6_000));
        match self.rng.random_range(0..1000) {
            0..560 => self.visit(),
            560..860 => self.probe(),
            860..880 => self.fail_connect(),
            880..888 => self.edit(),
            888..950 => self.reload(),
            950..960 => self.rotate(),
            960..970 => self.restart(),
            970..973 => self.crash(),
            973..980 => self.fall_or_rise(),
            _ => self.drift(),
        }
        self.catch_up();
        for edge in 0..self.edges.len() {
            let now = self.now - self.edges[edge].began;
            if self.edges[edge].balancer.next_tick().is_some_and(|due| due <= now) {
                self.edges[edge].apply(Event::Ticked, self.now);
            }
        }
        self.disturb();
    }

    /// The operator writes another list.
    fn edit(&mut self) {
        let mut next = Vec::new();
        let last = self.versions.last().map_or(&[][..], |version| &version.backends).to_vec();
        for number in 1..=BACKENDS {
            let id = BackendId::parse(&format!("web.{number}")).unwrap();
            let found = last.iter().find(|backend| backend.id == id).cloned();
            let may_return = self.gone.get(&number).is_none_or(|gone| self.now - *gone > LEFT_FOR);
            let stays = match found {
                Some(_) => self.chance(850),
                None => may_return && self.chance(450),
            };
            if !stays && number > 1 {
                let _left_before = self.gone.entry(number).or_insert(self.now);
                continue;
            }
            self.gone.remove(&number);
            let address = Address::Tcp(([127, 0, 0, 1], 3000 + number).into());
            // One that comes back is the run that left, or a new one: no run comes back after another.
            let incarnation = self.last_run.get(&number).cloned();
            let mut backend = found.unwrap_or(BackendSpec { id, address, weight: 1, incarnation });
            if self.chance(150) {
                backend.weight = self.rng.random_range(1..5);
            }
            if self.chance(80) {
                let port = self.rng.random_range(4000..5000);
                backend.address = Address::Tcp(([127, 0, 0, 1], port).into());
            }
            if self.chance(60) {
                let run = Incarnation::parse(&format!("v{}", self.runs.len())).unwrap();
                self.runs.insert(IncarnationHash::of(Some(&run)), Some(run.clone()));
                self.last_run.insert(number, run.clone());
                backend.incarnation = Some(run);
            }
            next.push(backend);
        }
        self.versions.push(Version { backends: next, born: self.now });
    }

    /// An edge takes the list it has anew, or a newer one.
    fn reload(&mut self) {
        let edge = self.any_edge();
        let newest = self.versions.len() - 1;
        let version = self.rng.random_range(self.edges[edge].version..=newest);
        self.take(edge, version);
    }

    /// No list takes longer than it may.
    fn catch_up(&mut self) {
        let newest = self.versions.len() - 1;
        for edge in 0..self.edges.len() {
            let next = self.versions.get(self.edges[edge].version + 1);
            if next.is_some_and(|next| self.now - next.born > Duration::from_secs(LAG)) {
                self.take(edge, newest);
            }
        }
    }

    fn take(&mut self, edge: usize, version: usize) {
        let mut list = self.versions[version].backends.clone();
        list.shuffle(&mut self.rng);
        let (ring, now) = (self.edges[edge].ring, self.now);
        let taken = self.edges[edge].unix(now);
        let spec = self.spec(list.clone(), ring, taken);
        let edge = &mut self.edges[edge];
        edge.left.edited(&edge.list, &list, taken);
        (edge.version, edge.list) = (version, list);
        edge.apply(Event::Configured(Box::new(spec)), now);
    }

    /// The next step of a rotation on one edge, or the next step of it: a key last, first, and the other gone.
    fn rotate(&mut self) {
        let newest = self.rings.len() - 1;
        let waits: Vec<usize> =
            (0..self.edges.len()).filter(|edge| self.edges[*edge].ring < newest).collect();
        if let Some(edge) = waits.get(self.rng.random_range(..waits.len().max(1))) {
            self.edges[*edge].ring = newest;
            let version = self.edges[*edge].version;
            return self.take(*edge, version);
        }
        let settled = *self.ring_settled.get_or_insert(self.now);
        let next = match self.rings[newest][..] {
            [only] => vec![only, only.wrapping_add(1)],
            [old, new] if new == old.wrapping_add(1) => vec![new, old],
            // Nobody holds a token under the old key when its idle life is over.
            [new, _] if self.now - settled > Duration::from_secs(IDLE) => vec![new],
            _ => return,
        };
        self.note("rotated");
        self.ring_settled = None;
        self.rings.push(next);
    }

    fn restart(&mut self) {
        let edge = self.any_edge();
        let own = &self.edges[edge];
        let carried = own.balancer.carry(self.now - own.began);
        let carried = serde_json::to_string(&carried).unwrap();
        let carried: Carried = serde_json::from_str(&carried).unwrap();
        let version = self.rng.random_range(own.version..self.versions.len());
        self.begin(edge, version, Some(carried));
    }

    /// Another process begins with the list that was accepted last, and knows nothing else.
    fn crash(&mut self) {
        let edge = self.any_edge();
        let version = self.edges[edge].version;
        self.begin(edge, version, None);
    }

    fn begin(&mut self, index: usize, version: usize, carried: Option<Carried>) {
        let mut list = self.versions[version].backends.clone();
        list.shuffle(&mut self.rng);
        let taken = self.edges[index].unix(self.now);
        let (offset, ring) = (self.edges[index].offset, self.edges[index].ring);
        let restarts = carried.is_some();
        let edge = Edge::begin(self.spec(list, ring, taken), carried, self.now);
        let last = std::mem::replace(&mut self.edges[index], edge);
        let edge = &mut self.edges[index];
        (edge.offset, edge.ring, edge.version) = (offset, ring, version);
        if restarts {
            edge.left = last.left;
            edge.left.edited(&last.list, &edge.list, taken);
        } else if version < self.versions.len() - 1 {
            // It may have forgotten that a run is older than the one it has.
            let lags =
                |pin: &Pin| edge.listed(&pin.run.0).is_some_and(|own| run_of(own) != pin.run);
            self.clients
                .iter_mut()
                .flat_map(Client::pins)
                .for_each(|pin| pin.disturbed |= lags(pin));
        }
        if self.chance(800) {
            self.probe_all(index);
        }
    }

    fn probe_all(&mut self, edge: usize) {
        for backend in self.edges[edge].list.clone() {
            self.edges[edge].probe(&backend, &self.down, self.now);
        }
    }

    fn probe(&mut self) {
        let edge = self.any_edge();
        if self.chance(300) {
            return self.probe_all(edge);
        }
        let backend = self.rng.random_range(..self.edges[edge].list.len());
        let backend = self.edges[edge].list[backend].clone();
        // Once in a while one edge sees what others do not.
        let wrong = self.chance(20).then(|| vec![backend.id.clone()]);
        let down = wrong.as_ref().unwrap_or(&self.down);
        self.edges[edge].probe(&backend, down, self.now);
    }

    fn fail_connect(&mut self) {
        let edge = self.any_edge();
        let Some(id) = self.down.first().cloned() else { return };
        if let Some(BackendSpec { id, address, .. }) = self.edges[edge].listed(&id).cloned() {
            let event = Event::ConnectFailed { app: app(), backend: id, address };
            self.edges[edge].apply(event, self.now);
        }
    }

    fn fall_or_rise(&mut self) {
        let number = self.rng.random_range(1..=BACKENDS);
        let id = BackendId::parse(&format!("web.{number}")).unwrap();
        if self.down.pop().is_none() {
            self.down.push(id);
        }
    }

    /// Clocks go a little fast or slow, and are set right.
    fn drift(&mut self) {
        let edge = self.any_edge();
        let by = self.rng.random_range(-1..=1);
        let offset = &mut self.edges[edge].offset;
        *offset = (*offset + by).clamp(-OFFSET, OFFSET);
    }

    /// Marks the pins that may be lost from now on.
    fn disturb(&mut self) {
        let Self { edges, versions, clients, policies, now, .. } = self;
        let newest = versions.last().unwrap();
        let is_lost = |pin: &Pin, edge: &Edge| {
            let is_late = *now - pin.made > policies.0.borrow_limit;
            match edge.listed(&pin.run.0) {
                Some(own) => {
                    let admission = edge.admission(&own.id).unwrap();
                    let closed =
                        matches!(admission, Admission::Closed(why) if why != Closed::Unknown);
                    closed || run_of(own) != pin.run && is_late
                }
                None => is_late,
            }
        };
        for pin in clients.iter_mut().flat_map(Client::pins) {
            let gone = !newest.has(&pin.run);
            pin.disturbed |= gone || edges.iter().any(|edge| is_lost(pin, edge));
        }
    }
}

impl Client {
    fn pins(&mut self) -> impl Iterator<Item = &mut Pin> {
        self.cookie.iter_mut().chain(&mut self.late).map(|cookie| &mut cookie.pin)
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..EVENTS {
        world.step();
    }
    // A world in which nothing happens proves nothing.
    let several = if world.edges.len() > 1 { 1 } else { 0 };
    for (what, least) in [
        ("followed", 3_000),
        ("undisturbed", 2_000),
        ("left", 50),
        ("rotated", 10),
        ("lent", several),
    ] {
        let seen = world.seen.get(what).copied().unwrap_or_default();
        assert!(seen >= least, "{what}: {seen}, {:?}", world.seen);
    }
}

#[test]
fn edges_agree_as_soon_as_their_lists_do_and_lose_no_pin_while_they_differ() {
    model::each_seed("edges", SEEDS, run);
}
