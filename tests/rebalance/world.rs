//! Clients that come and go, and the balancer that they meet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::{BackendHash, Token};
use homing::balancer::affinity::{AffinityPolicy, Pin, Presented, Renewal};
use homing::balancer::app::backend::{Address, BackendSpec};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::policy::Policy;
use homing::balancer::app::view::Tried;
use homing::balancer::assign::{Assignment, Cause, Patience, Request, assign};
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
    /// The least number of clients that had to be moved when the backends were added.
    pub(crate) least: f64,
    pub(crate) moved: u64,
    pub(crate) bound: f64,
    pub(crate) lowest: Vec<String>,
    /// Clients moved in the worst minute, in percent of all.
    pub(crate) worst_minute: f64,
}

impl Course {
    /// How long it took until the highest load was within the bound, in seconds.
    pub(crate) fn time_to_bound(&self) -> Option<i64> {
        let mut after = self.points.iter().filter(|(at, ..)| *at >= 0);
        after.find(|(_, load, _)| *load <= self.bound * 1.02).map(|(at, ..)| *at)
    }

    pub(crate) fn summary(&self) -> String {
        let at = |time| self.points.iter().find(|(at, ..)| *at >= time).map_or(0.0, |point| point.1);
        format!(
            "load {:.2} -> {:.2} {:.2} {:.2} {:.2}, lowest {:?}, bound {} after {:?} s, moved {} of least {:.0} = {:.2}, worst minute {:.1} %",
            at(0), at(300), at(600), at(1800), at(3500), self.lowest, self.bound, self.time_to_bound(), self.moved, self.least,
            self.moved as f64 / self.least, self.worst_minute
        )
    }
}

pub(crate) struct World {
    rng: SmallRng,
    habit: Habit,
    bound: f64,
    balancer: Balancer,
    affinity: AffinityPolicy,
    policy: Arc<Policy>,
    /// In milliseconds.
    now: u64,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    clients: Vec<Client>,
    moves: Vec<u64>,
}

impl World {
    pub(crate) fn new(habit: Habit, rebalance: RebalancePolicy, backends: u16, seed: u64) -> Self {
        let file = "state_dir: s\nlisteners: [{ address: \"127.0.0.1:1\" }]\napps:\n- { name: shop, \
                    domains: [a.example], backends: [] }\n";
        let config = config::parse("simulation.yaml".as_ref(), file.into()).unwrap();
        let affinity = config.apps[0].affinity.clone().unwrap();
        let affinity = AffinityPolicy { rebalance: Some(rebalance), ..affinity };
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            habit,
            bound: f64::from(rebalance.bound) / 1000.0,
            balancer: Balancer::default(),
            affinity,
            policy: Arc::clone(&config.apps[0].policy),
            now: 0,
            queue: BinaryHeap::new(),
            clients: Vec::new(),
            moves: Vec::new(),
        };
        world.list(backends);
        world
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
        let spec = Spec { apps: vec![app], default_app: Some(Self::app()), keyring: ring };
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
        let mut lows = Vec::new();
        for second in 0..END {
            self.run_until(second * 1000);
            if second == SCALE_UP {
                self.list(backends);
                least = self.least();
            }
            if self.balancer.next_tick().is_some_and(|due| due <= self.clock()) {
                self.balancer.apply(Event::Ticked, self.clock());
            }
            if second >= SCALE_UP && (second - SCALE_UP) % 900 == 890 { lows.push(format!("{:.2}", self.lowest())); }
            if second % 10 == 0 {
                let at = i64::try_from(second).unwrap() - i64::try_from(SCALE_UP).unwrap();
                let moved = self.moves.iter().filter(|moved| **moved >= SCALE_UP * 1000).count();
                points.push((at, self.highest(), moved as u64));
            }
        }
        let moved = points.last().unwrap().2;
        let worst_minute = self.worst_minute();
        let lowest = lows.clone(); Course { lowest, points, least, moved, bound: self.bound, worst_minute }
    }

    fn worst_minute(&self) -> f64 {
        let in_minute = |from: &u64| {
            let until = from + 60_000;
            self.moves.iter().filter(|at| (*from..until).contains(*at)).count()
        };
        let worst = self.moves.iter().map(in_minute).max().unwrap_or(0);
        worst as f64 * 100.0 / CLIENTS
    }

    /// Everybody who is there at the beginning, and everybody who comes later.
    fn fill(&mut self) {
        let rate = CLIENTS / self.habit.mean_visit();
        for _ in 0..CLIENTS as usize {
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
        let affinity = view.app.affinity.as_ref().unwrap();
        let renewal = self.affinity.rebalance.unwrap().renewal();
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
            _ => None,
        };
        let request = Request {
            presented: &presented,
            tried: &Tried::NONE,
            patience: Patience::Waits,
            now,
            place: None,
            is_safe: self.rng.random_bool(0.8),
        };
        let assignment = assign(&view, &request, &mut self.rng).settle(&view, &request);
        if let Assignment::Move(_, cause) = assignment {
            assert_eq!(cause, Cause::Rebalanced);
            self.check_move(index, &request);
            self.moves.push(self.now);
            self.clients[index].moved = Some(self.now);
        }
        let backend = view.app.backend(assignment.slot().unwrap());
        let _ = affinity;
        if let Some(token) = assignment.token(&view, &presented, now, &mut self.rng) {
            self.clients[index].token = Some(token);
        }
        let mark = self.clients[index].token.unwrap().client.mark();
        moves.census.note(mark, backend.hash, now);
        let client = &mut self.clients[index];
        if client.streams && client.stream.is_none() {
            client.stream = Some(Presence::stream(Arc::clone(moves), mark));
        }
        client.last = self.now;
    }

    /// A move is one at a safe moment, of a client that was not moved lately.
    fn check_move(&self, index: usize, request: &Request<'_>) {
        let client = &self.clients[index];
        let policy = self.affinity.rebalance.unwrap();
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

    fn highest(&self) -> f64 {
        let loads = self.loads();
        let fair = loads.iter().sum::<f64>() / loads.len() as f64;
        loads.iter().fold(0.0_f64, |most, load| most.max(*load)) / fair.max(1.0)
    }

    fn lowest(&self) -> f64 {
        let loads = self.loads();
        let fair = loads.iter().sum::<f64>() / loads.len() as f64;
        loads.iter().fold(f64::MAX, |most, load| most.min(*load)) / fair.max(1.0)
    }

    /// How many clients are beyond the bound at this moment: so many have to be moved, if nobody comes or goes.
    fn least(&self) -> f64 {
        let loads = self.loads();
        let fair = loads.iter().sum::<f64>() / loads.len() as f64;
        loads.iter().map(|load| (load - fair * self.bound).max(0.0)).sum()
    }
}
