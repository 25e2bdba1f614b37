//! Clients that come and go, and the balancer that they meet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::{BackendHash, Token};
use homing::balancer::affinity::word::AppWord;
use homing::balancer::affinity::{AffinityPolicy, Pin, Presented, Renewal};
use homing::balancer::app::backend::{Address, Backend, BackendSpec};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::policy::Policy;
use homing::balancer::app::view::Tried;
use homing::balancer::assign::{Assignment, Cause, Patience, Queued, Request, assign};
use homing::balancer::name::{AppName, BackendId};
use homing::balancer::rebalance::RebalancePolicy;
use homing::balancer::rebalance::moves::Presence;
use homing::balancer::state::{AppSpec, Balancer, Event, Spec};
use homing::config;

use super::habits::Habit;

/// Clients that are there on average.
const CLIENTS: f64 = 3000.0;
/// When the backends are added, in seconds.
const SCALE_UP: u64 = 1800;
/// When it is over, in seconds.
const END: u64 = SCALE_UP + 3600;
const EPOCH: u64 = 1_800_000_000;

/// One client.
struct Client {
    token: Option<Token>,
    leaves: u64,
    last: u64,
    /// Holds a stream from its first visit on.
    streams: bool,
    stream: Option<Presence>,
    /// When it was last moved to even out load.
    moved: Option<u64>,
}

/// What happened over time.
pub(crate) struct Course {
    /// Every ten seconds: the time since the scale-up in seconds, the highest load in fair shares, and how many
    /// were moved so far.
    pub(crate) points: Vec<(i64, f64, u64)>,
    /// The least number of clients that had to be moved when the backends were added, if nobody came or went.
    pub(crate) least: f64,
    /// Clients moved after that.
    pub(crate) moved: u64,
    /// Those of them that were moved away from a backend that was added.
    pub(crate) moved_on: u64,
    /// Clients moved in the worst minute, as a part of its budget.
    pub(crate) worst_minute: f64,
    /// The highest load that may be, in fair shares.
    bound: f64,
    /// Clients of a fair share in the end.
    share: f64,
}

impl Course {
    /// How long it took until the highest load was within the bound, in seconds.
    pub(crate) fn time_to_bound(&self) -> Option<i64> {
        self.time_to(self.bound)
    }

    /// The same until it was beyond the bound by no more than what chance explains: then nobody begins to give.
    pub(crate) fn time_to_chance(&self) -> Option<i64> {
        self.time_to(self.beyond(1.0))
    }

    fn time_to(&self, load: f64) -> Option<i64> {
        let mut after = self.points.iter().filter(|(at, ..)| *at >= 0);
        after.find(|(_, highest, _)| *highest <= load).map(|(at, ..)| *at)
    }

    /// So many standard deviations of chance above the bound, in fair shares.
    pub(crate) fn beyond(&self, deviations: f64) -> f64 {
        self.bound + deviations * (self.bound / self.share).sqrt()
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at =
            |time| self.points.iter().find(|(at, ..)| *at >= time).map_or(0.0, |point| point.1);
        let [before, ten, thirty, sixty] = [0, 600, 1800, 3590].map(at);
        write!(
            f,
            "load {before:.2}, after 10 min {ten:.2}, 30 min {thirty:.2}, 60 min {sixty:.2}; within {} after {:?} s; \
             {} moved, least {:.0}; {:.2} of the budget in the worst minute",
            self.bound,
            self.time_to_bound(),
            self.moved,
            self.least,
            self.worst_minute
        )
    }
}

/// One move.
struct Moved {
    /// When, in milliseconds.
    at: u64,
    from: BackendHash,
    /// How many a minute's budget was.
    budget: f64,
}

pub(crate) struct World {
    rng: SmallRng,
    habit: Habit,
    clients_on_average: f64,
    bound: f64,
    balancer: Balancer,
    affinity: AffinityPolicy,
    policy: Arc<Policy>,
    /// In milliseconds.
    now: u64,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    clients: Vec<Client>,
    moves: Vec<Moved>,
    rebalance: Option<RebalancePolicy>,
    /// How many clients may be moved in a minute.
    budget: f64,
    /// Backends of the beginning.
    first: Vec<BackendHash>,
}

impl World {
    pub(crate) fn new(
        habit: Habit,
        rebalance: Option<RebalancePolicy>,
        backends: u16,
        seed: u64,
    ) -> Self {
        let file = "state_dir: s\nlisteners: [{ address: \"127.0.0.1:1\" }]\napps:\n- { name: shop, \
                    domains: [a.example], backends: [] }\n";
        let config = config::parse("simulation.yaml".as_ref(), file.into()).unwrap();
        let affinity = config.apps[0].affinity.clone().unwrap();
        let affinity = AffinityPolicy { rebalance, ..affinity };
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            habit,
            clients_on_average: CLIENTS,
            bound: rebalance.map_or(1.25, |policy| f64::from(policy.bound) / 1000.0),
            balancer: Balancer::default(),
            affinity,
            policy: Arc::clone(&config.apps[0].policy),
            now: 0,
            queue: BinaryHeap::new(),
            clients: Vec::new(),
            moves: Vec::new(),
            rebalance,
            budget: 1.0,
            first: Vec::new(),
        };
        world.list(backends);
        let view = Arc::clone(&world.balancer.snapshot().apps[0]);
        world.first = view.app.backends.iter().map(|backend| backend.hash).collect();
        world
    }

    /// The same with as many clients on average.
    pub(crate) fn with_clients(self, clients_on_average: f64) -> Self {
        Self { clients_on_average, ..self }
    }

    fn app() -> AppName {
        AppName::parse("shop").unwrap()
    }

    fn clock(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn unix(&self) -> u64 {
        EPOCH + self.now / 1000
    }

    fn list(&mut self, backends: u16) {
        let backend = |number: u16| BackendSpec {
            id: BackendId::parse(&format!("web.{number}")).unwrap(),
            address: Address::Tcp(([127, 0, 0, 1], 3000 + number).into()),
            weight: 1,
            incarnation: None,
        };
        let backends: Vec<BackendSpec> = (1..=backends).map(backend).collect();
        let app = AppSpec {
            name: Self::app(),
            affinity: Some(self.affinity.clone()),
            policy: Arc::clone(&self.policy),
            backends: backends.clone(),
        };
        let ring = Keyring::new(vec![Key::from_secret(&[1; 32]).unwrap()]).unwrap();
        let (default_app, taken) = (Some(Self::app()), self.unix());
        let spec = Spec { apps: vec![app.into()], default_app, keyring: ring, taken };
        self.balancer.apply(Event::Configured(Box::new(spec)), self.clock());
        for BackendSpec { id, address, .. } in backends {
            let outcome = ProbeOutcome::Passed;
            let event = Event::Probed { app: Self::app(), backend: id, address, outcome };
            self.balancer.apply(event, self.clock());
        }
    }

    /// Runs the world for an hour, adds backends, and goes on for two more.
    pub(crate) fn scale_up(mut self, backends: u16) -> Course {
        self.fill();
        let mut points = Vec::new();
        let mut least = 0.0;
        for second in 0..END {
            self.run_until(second * 1000);
            if second == SCALE_UP {
                self.list(backends);
                least = self.least();
            }
            if self.balancer.next_tick().is_some_and(|due| due <= self.clock()) {
                self.budget = self.budget();
                self.balancer.apply(Event::Ticked, self.clock());
            }
            if second % 10 == 0 {
                let at = i64::try_from(second).unwrap() - i64::try_from(SCALE_UP).unwrap();
                points.push((at, self.highest(), self.moved().count() as u64));
            }
        }
        let added = |moved: &&Moved| !self.first.contains(&moved.from);
        Course {
            points,
            least,
            moved: self.moved().count() as u64,
            moved_on: self.moved().filter(added).count() as u64,
            worst_minute: self.worst_minute(),
            bound: self.bound,
            share: self.share(),
        }
    }

    /// Clients moved since the scale-up.
    fn moved(&self) -> impl Iterator<Item = &Moved> {
        self.moves.iter().filter(|moved| moved.at >= SCALE_UP * 1000)
    }

    /// How many clients may be moved in a minute, by the count of this moment.
    fn budget(&self) -> f64 {
        let view = Arc::clone(&self.balancer.snapshot().apps[0]);
        let counts = view.app.live.moves().census.count();
        let bound = |backend: &Arc<Backend>| counts.bound(backend.hash);
        let all: u64 = view.app.backends.iter().map(bound).sum();
        let percent = self.rebalance.map_or(0.0, |policy| f64::from(policy.budget_percent));
        (all as f64 * percent / 100.0).max(1.0)
    }

    fn worst_minute(&self) -> f64 {
        let in_minute = |from: &Moved| {
            let until = from.at + 60_000;
            let within = |moved: &&Moved| (from.at..until).contains(&moved.at);
            self.moves.iter().filter(within).count() as f64 / from.budget
        };
        self.moves.iter().map(in_minute).fold(0.0, f64::max)
    }

    /// Everybody who is there at the beginning, and everybody who comes later.
    fn fill(&mut self) {
        let rate = self.clients_on_average / self.habit.mean_visit();
        for _ in 0..self.clients_on_average as usize {
            let at = self.rng.random_range(0..60_000);
            self.arrive(at);
        }
        let mut at = 0.0;
        while at < END as f64 {
            at -= (1.0 - self.rng.random::<f64>()).ln() / rate;
            self.arrive((at * 1000.0) as u64);
        }
    }

    fn arrive(&mut self, at: u64) {
        let leaves = at + (self.habit.visit(&mut self.rng) * 1000.0) as u64;
        let streams = self.rng.random_bool(0.1);
        let client = Client { token: None, leaves, last: 0, streams, stream: None, moved: None };
        self.queue.push(Reverse((at, self.clients.len())));
        self.clients.push(client);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, index))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            self.visit(index);
        }
        self.now = end;
    }

    fn visit(&mut self, index: usize) {
        if self.now >= self.clients[index].leaves {
            self.clients[index].stream = None;
            self.clients[index].token = None;
            return;
        }
        self.request(index);
        let pause = (self.habit.pause(&mut self.rng) * 1000.0) as u64;
        self.queue.push(Reverse((self.now + pause.max(1), index)));
    }

    fn request(&mut self, index: usize) {
        let now = self.unix();
        let view = Arc::clone(&self.balancer.snapshot().apps[0]);
        let quarter = self.affinity.limits.idle / 4;
        let renewal = self.rebalance.map_or(quarter, |policy| policy.renewal());
        let presented = match &self.clients[index].token {
            None => Presented::Nothing,
            Some(token) => {
                let due = token.renewal_is_due(now, renewal);
                let renewal = if due { Renewal::Due } else { Renewal::NotDue };
                Presented::Pin(Pin { token: *token, renewal })
            }
        };
        let moves = view.app.live.moves();
        let _presence = match &presented {
            Presented::Pin(pin) => Some(Presence::request(Arc::clone(moves), pin.mark())),
            Presented::Key(_) | Presented::Nothing | Presented::Unusable(_) => None,
        };
        let request = Request {
            presented: &presented,
            tried: &Tried::NONE,
            patience: Patience::Waits,
            queued: Queued::Not,
            now,
            place: None,
            in_session: false,
            is_safe: self.rng.random_bool(0.8),
        };
        let assignment = assign(&view, &request, &mut self.rng).settle(&view, &request);
        if let Assignment::Move(_, cause) = assignment {
            assert_eq!(cause, Cause::Rebalanced);
            self.check_move(index, &request);
            let from = self.clients[index].token.unwrap().backend;
            self.moves.push(Moved { at: self.now, from, budget: self.budget });
            self.clients[index].moved = Some(self.now);
        }
        let backend = view.app.backend(assignment.slot().unwrap());
        if let Some(token) =
            assignment.token(&view, &presented, AppWord::default(), now, &mut self.rng)
        {
            self.clients[index].token = Some(token);
        }
        let mark = self.clients[index].token.unwrap().client.mark();
        let client = &mut self.clients[index];
        // Who comes for the first time is bound when it comes again, or has a stream.
        if client.streams || matches!(presented, Presented::Pin(_)) {
            moves.census.note(mark, backend.hash, now);
        }
        if client.streams && client.stream.is_none() {
            client.stream = Some(Presence::stream(Arc::clone(moves), mark));
        }
        client.last = self.now;
    }

    /// A move is one at a safe moment, of a client that was not moved lately.
    fn check_move(&self, index: usize, request: &Request<'_>) {
        let client = &self.clients[index];
        let policy = self.rebalance.unwrap();
        let idle = Duration::from_millis(self.now - client.last);
        assert!(idle >= policy.idle, "moved after {idle:?}");
        assert!(request.is_safe && client.stream.is_none());
        let since = client.moved.map(|moved| Duration::from_millis(self.now - moved));
        assert!(since.is_none_or(|since| since >= policy.rest), "moved twice within {since:?}");
    }

    /// Live clients of each backend of the list.
    fn loads(&self) -> Vec<f64> {
        let mut by_backend: HashMap<BackendHash, u32> = HashMap::new();
        for client in &self.clients {
            if let Some(token) = client.token.filter(|_| client.leaves > self.now) {
                *by_backend.entry(token.backend).or_default() += 1;
            }
        }
        let view = Arc::clone(&self.balancer.snapshot().apps[0]);
        let load = |hash| f64::from(by_backend.get(&hash).copied().unwrap_or(0));
        view.app.backends.iter().map(|backend| load(backend.hash)).collect()
    }

    /// Clients of a fair share.
    fn share(&self) -> f64 {
        let loads = self.loads();
        loads.iter().sum::<f64>() / loads.len() as f64
    }

    fn highest(&self) -> f64 {
        self.loads().iter().fold(0.0_f64, |most, load| most.max(*load)) / self.share().max(1.0)
    }

    /// How many clients are beyond the bound at this moment: so many have to be moved, if nobody comes or goes.
    fn least(&self) -> f64 {
        let most = self.share() * self.bound;
        self.loads().iter().map(|load| (load - most).max(0.0)).sum()
    }
}
