//! One to five edges that share keys and nothing else, from one seed: lists, keys, restarts, crashes and verdicts
//! reach each at its own time, and their clocks lie up to a minute apart. Clients with one cookie go to any of
//! them, also to two at once.
//!
//! `HOMING_SEED=123 cargo test --test edges` replays a seed that a failure printed.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

mod model;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::cookie::Scheme;
use homing::balancer::affinity::token::IncarnationHash;
use homing::balancer::affinity::{AffinityPolicy, HandOut, Key, OnUnavailable, Presented, Renewal};
use homing::balancer::app::backend::{Address, BackendSpec};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::members::{Admission, Closed};
use homing::balancer::app::policy::Policy;
use homing::balancer::app::view::{AppView, Tried};
use homing::balancer::assign::{Assignment, Cause, Patience, Request, assign};
use homing::balancer::carry::Carried;
use homing::balancer::name::{AppName, BackendId, Incarnation};
use homing::balancer::state::{AppSpec, Balancer, Event, Spec};

use self::model::{Left, Run};

/// Events of one run; several seeds run.
const EVENTS: usize = 20_000;
const SEEDS: u64 = 15;
const CLIENTS: usize = 24;
const BACKENDS: u16 = 7;

/// When everything begins, in Unix seconds.
const EPOCH: u64 = 1_800_000_000;

/// How far a clock is from the true time, in seconds: two of them are a minute apart.
const OFFSET: i64 = 30;

/// How long a list takes to reach every edge, in seconds: less than the borrow limit of most seeds.
const LAG: u64 = 400;

/// How long a backend that left stays away: until every edge noticed, whatever its clock says. One that returns
/// sooner has left for those who notice late, with the pins it got meanwhile.
const LEFT_FOR: Duration = Duration::from_secs(LAG + 2 * OFFSET.unsigned_abs() + 1);

/// How long a pin goes unused, in seconds.
const IDLE: u64 = 3_600;

/// What a clock says that is off by so many seconds.
fn unix(now: Duration, offset: i64) -> u64 {
    (EPOCH + now.as_secs()).checked_add_signed(offset).unwrap()
}

fn app() -> AppName {
    AppName::parse("shop").unwrap()
}

fn run_of(backend: &BackendSpec) -> Run {
    (backend.id.clone(), backend.incarnation.clone())
}

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

/// What edges have to agree in to give the same answers: of each backend its run, its weight, and what it admits.
type Knowledge = BTreeMap<BackendId, (IncarnationHash, u16, Admission)>;

struct Edge {
    balancer: Balancer,
    view: Arc<AppView>,
    knowledge: Knowledge,
    /// When its process began.
    began: Duration,
    /// How far its wall clock is from the true time, in seconds.
    offset: i64,
    /// Which list it has, and in which order.
    version: usize,
    list: Vec<BackendSpec>,
    /// Which ring it has.
    ring: usize,
    left: Left,
}

impl Edge {
    /// One that begins with a configuration, and with what the process before it knew.
    fn begin(spec: Spec, carried: Option<Carried>, now: Duration) -> Self {
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

    fn unix(&self, now: Duration) -> u64 {
        unix(now, self.offset)
    }

    fn apply(&mut self, event: Event, now: Duration) {
        if self.balancer.apply(event, now - self.began).changed {
            self.view = Arc::clone(&self.balancer.snapshot().apps[0]);
            self.knowledge = knowledge(&self.view);
        }
    }

    fn probe(&mut self, backend: &BackendSpec, down: &[BackendId], now: Duration) {
        let outcome = match down.contains(&backend.id) {
            true => ProbeOutcome::Failed("simulated".into()),
            false => ProbeOutcome::Passed,
        };
        let (backend, address) = (backend.id.clone(), backend.address.clone());
        self.apply(Event::Probed { app: app(), backend, address, outcome }, now);
    }

    fn listed(&self, id: &BackendId) -> Option<&BackendSpec> {
        self.list.iter().find(|backend| backend.id == *id)
    }

    /// What it admits to the backend of this id, where it is on the list.
    fn admission(&self, id: &BackendId) -> Option<Admission> {
        self.knowledge.get(id).map(|(.., admission)| *admission)
    }

    /// What a client presents that shows this cookie.
    fn read(&self, cookie: Option<&Cookie>, now: Duration) -> Presented {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = cookie {
            headers.insert(COOKIE, cookie.line.parse().unwrap());
        }
        self.view.app.affinity.as_ref().unwrap().read(&headers, self.unix(now))
    }

    fn decide(
        &self,
        presented: &Presented,
        patience: Patience,
        now: Duration,
        rng: &mut SmallRng,
    ) -> Assignment {
        let (tried, now) = (&Tried::NONE, self.unix(now));
        let request = Request { presented, tried, patience, now, place: None, is_safe: true };
        assign(&self.view, &request, rng)
    }

    fn id(&self, assignment: &Assignment) -> Option<&BackendId> {
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
    /// The pins that edits of lists cost it, one after another: by the run and the list without it, when they were made.
    cost: HashMap<(Run, usize), u64>,
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
        Spec { apps: vec![app], default_app: None, keyring, taken }
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

    /// A client sends a request, or two at once with the same cookie; the answers come in any order, or late.
    fn visit(&mut self) {
        let index = self.rng.random_range(..CLIENTS);
        let (late, forgets) = (self.chance(500), self.chance(80));
        let client = &mut self.clients[index];
        if let (true, Some(cookie)) = (late, client.late.pop()) {
            client.cookie = Some(cookie);
        }
        client.cookie.take_if(|cookie| forgets || cookie.ends <= self.now);
        let shown = client.cookie.clone();
        if self.chance(500) {
            self.agree(shown.as_ref());
        }
        let mut answers = Vec::new();
        for _ in 0..=u8::from(self.chance(300)) {
            let edge = self.any_edge();
            answers.extend(self.request(index, edge, shown.as_ref()));
        }
        answers.shuffle(&mut self.rng);
        for answer in answers {
            match self.chance(100) {
                true => self.clients[index].late.push(answer),
                false => self.clients[index].cookie = Some(answer),
            }
        }
    }

    fn request(&mut self, index: usize, edge: usize, shown: Option<&Cookie>) -> Option<Cookie> {
        let patience = if self.chance(300) { Patience::Over } else { Patience::Waits };
        let own = &self.edges[edge];
        let presented = own.read(shown, self.now);
        match (&presented, shown) {
            (Presented::Nothing, None) | (Presented::Pin(_), Some(_)) => {}
            _ => panic!("a cookie of ours is not honoured: {presented:?}"),
        }
        let assignment = own.decide(&presented, patience, self.now, &mut self.rng);
        let pin = shown.map(|cookie| &cookie.pin);
        let by_list = self.check(index, edge, pin, &presented, &assignment);
        let (own, now) = (&self.edges[edge], self.edges[edge].unix(self.now));
        let affinity = own.view.app.affinity.as_ref().unwrap();
        let token = match (&assignment, &presented) {
            (Assignment::Follow(_, pin), _) | (Assignment::Borrow(..), Presented::Pin(pin)) => {
                (pin.renewal == Renewal::Due).then(|| pin.token.renewed_at(now))?
            }
            (Assignment::Make(slot) | Assignment::Move(slot, _), _) => {
                let backend = own.view.app.backend(*slot);
                affinity.token(backend, &presented, now, &mut self.rng)
            }
            _ => return None,
        };
        let line = affinity.set_cookie(&token, Scheme::Http, now);
        let age = line.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap();
        let ends = self.now + Duration::from_secs(age.parse().unwrap());
        let run = self.runs[&token.incarnation].clone();
        let pin = match (&assignment, pin) {
            (Assignment::Follow(..) | Assignment::Borrow(..), Some(pin)) => {
                Pin { run: (pin.run.0.clone(), run), ..pin.clone() }
            }
            _ => {
                if !by_list {
                    self.clients[index].cost.clear();
                }
                let id = self.edges[edge].id(&assignment).unwrap().clone();
                let issued = u64::from(token.issued);
                Pin { run: (id, run), issued, made: self.now, disturbed: false }
            }
        };
        let line = line.split(';').next().unwrap().to_owned();
        Some(Cookie { line, ends, pin })
    }

    /// What may become of a pin. Answers whether an edit of a list cost it.
    fn check(
        &mut self,
        index: usize,
        edge: usize,
        pin: Option<&Pin>,
        presented: &Presented,
        assignment: &Assignment,
    ) -> bool {
        let own = &self.edges[edge];
        let Some(pin) = pin else {
            assert!(assignment.cause().is_none(), "{assignment:?} without a pin");
            return false;
        };
        let (unix, limit) = (own.unix(self.now), self.policies.0.borrow_limit.as_secs());
        let listed = own.listed(&pin.run.0).map(run_of);
        let follows = matches!(assignment, Assignment::Follow(..));
        assert!(!follows || own.id(assignment) == Some(&pin.run.0), "{assignment:?} of {pin:?}");
        let what = match &listed {
            None => {
                let may_come = own.left.may_come(&pin.run, pin.issued, unix, limit);
                assert_eq!(assignment.cause(), Some(Cause::Removed), "{pin:?}");
                let moved = matches!(assignment, Assignment::Move(..));
                assert!(!(moved && may_come), "lost though it may be elsewhere: {pin:?}");
                let lent = matches!(assignment, Assignment::Borrow(..));
                assert!(!(lent && !may_come), "lent though it left: {pin:?}");
                let again = own.decide(presented, Patience::Waits, self.now, &mut self.rng);
                assert_eq!(again, *assignment, "by chance");
                if lent { "lent" } else { "left" }
            }
            Some(run) if *run != pin.run => {
                let may_come = own.left.may_come_anew(&pin.run, pin.issued, unix, limit);
                let knows = assignment.cause() == Some(Cause::NewIncarnation);
                assert!(!(knows && may_come), "lost to an older run: {pin:?}");
                if let (Assignment::Follow(_, followed), Presented::Pin(pin)) =
                    (assignment, presented)
                {
                    let same = followed.token.incarnation == pin.token.incarnation;
                    assert_eq!(same, may_come, "a run is written over: {pin:?}");
                }
                if may_come { "followed as it is" } else { "of another run" }
            }
            Some(_) if follows => "followed",
            Some(_) => "away",
        };
        self.note(what);
        if !pin.disturbed {
            self.note("undisturbed");
            let own = &self.edges[edge];
            let waits = own.admission(&pin.run.0) == Some(Admission::Closed(Closed::Unknown));
            let moved = matches!(assignment, Assignment::Make(_) | Assignment::Move(..));
            assert!(!moved && (follows || waits || listed.is_none()), "{assignment:?} of {pin:?}");
        }
        self.check_cost(index, edge, pin, assignment)
    }

    /// No edit of a list costs a client two pins in a row to the same run, but for an edge that crashed and took a newer
    /// run for an older one. Answers whether an edit cost it this pin.
    fn check_cost(
        &mut self,
        index: usize,
        edge: usize,
        pin: &Pin,
        assignment: &Assignment,
    ) -> bool {
        let Assignment::Move(_, Cause::Removed | Cause::NewIncarnation) = assignment else {
            return false;
        };
        let own = &self.edges[edge];
        let left = |version: &usize| {
            self.versions[version - 1].has(&pin.run) && !self.versions[*version].has(&pin.run)
        };
        let Some(edit) = (1..=own.version).rev().find(left) else {
            let age = own.unix(self.now).saturating_sub(pin.issued);
            let late = age > self.policies.0.borrow_limit.as_secs();
            let forgot = assignment.cause() == Some(Cause::NewIncarnation);
            assert!(late || forgot, "{pin:?} never was on a list of this edge");
            return false;
        };
        let made = self.clients[index].cost.insert((pin.run.clone(), edit), pin.issued);
        let lists_take_too_long = self.policies.0.borrow_limit < Duration::from_secs(LAG);
        let again = made.is_some_and(|made| made != pin.issued);
        assert!(!again || lists_take_too_long, "ping-pong: {pin:?} by list {edit}");
        self.note("cost by an edit");
        true
    }

    /// Edges that know the same give the same answers, to a cookie and to a client known by something else.
    fn agree(&mut self, shown: Option<&Cookie>) {
        let place = self.rng.random();
        let keyed = Presented::Key(Key { place, lost: None, cookie: HandOut::Yes });
        for first in 0..self.edges.len() {
            for second in first + 1..self.edges.len() {
                let pair = [&self.edges[first], &self.edges[second]];
                if pair[0].knowledge != pair[1].knowledge {
                    continue;
                }
                let mut answers = |presented: [&Presented; 2]| {
                    let one = |at: usize| {
                        let waits = Patience::Waits;
                        let decided =
                            pair[at].decide(presented[at], waits, self.now, &mut self.rng);
                        (decided, pair[at].id(&decided).cloned())
                    };
                    [0, 1].map(one)
                };
                let [(_, one), (_, other)] = answers([&keyed, &keyed]);
                assert_eq!(one, other, "a client known by its key");
                let Some(pin) = shown.map(|cookie| &cookie.pin) else { continue };
                let [one, other] = pair.map(|edge| edge.read(shown, self.now));
                let [(one, to), (other, or)] = answers([&one, &other]);
                // Of a run that left, one of them may remember what the other never heard of.
                let news = pair.map(|edge| {
                    let limit = self.policies.0.borrow_limit.as_secs();
                    edge.left.may_come_anew(&pin.run, pin.issued, edge.unix(self.now), limit)
                });
                let home = pair[0].listed(&pin.run.0);
                let other_run = home.is_some_and(|home| run_of(home) != pin.run);
                let forgot = other_run && news[0] != news[1];
                let borrows = self.policies.0.on_unavailable == OnUnavailable::Borrow && !other_run;
                let chance = home.is_some() && !borrows && matches!(one, Assignment::Move(..));
                assert!(forgot || chance || to == or, "{one:?} or {other:?} of {pin:?}");
            }
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
    println!(
        "{seed}: {} edges, {} lists, {:?}",
        world.edges.len(),
        world.versions.len(),
        world.seen
    );
}

#[test]
fn edges_agree_as_soon_as_their_lists_do_and_lose_no_pin_while_they_differ() {
    model::each_seed("edges", SEEDS, run);
}
