//! Events in, snapshots out: the only place where anything changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::keyring::Keyring;
use super::affinity::{Affinity, AffinityPolicy};
use super::app::App;
use super::app::backend::{Address, Backend, BackendSpec};
use super::app::health::{HealthTracker, ProbeOutcome, Thresholds};
use super::app::live::{AppLive, BackendLive};
use super::app::members::{AdminState, Admission, Member};
use super::app::policy::Policy;
use super::app::view::AppView;
use super::name::{AppName, BackendId, DomainPattern};
use super::route::{AppIndex, RouteTable};

/// How long a backend rests after it refused a connection or did not answer one in time.
pub const QUARANTINE: Duration = Duration::from_secs(5);

/// Most neighbours whose tokens are told from forged ones; each costs two HMACs for a bad cookie.
const NEIGHBOURS_MAX: usize = 8;

/// Everything the operator asked for that requests depend on.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The apps.
    pub apps: Vec<AppSpec>,
    /// The app for hosts that no domain names.
    pub default_app: Option<AppName>,
    /// The secrets.
    pub keyring: Keyring,
}

/// One app, as the operator asked for it.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// Its name, unique.
    pub name: AppName,
    /// How it keeps clients on their backends.
    pub affinity: Option<AffinityPolicy>,
    /// How it is probed and proxied.
    pub policy: Arc<Policy>,
    /// Its backends, ids unique.
    pub backends: Vec<BackendSpec>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The operator wants something else of a backend.
    Administered {
        /// The app.
        app: AppName,
        /// The backend.
        backend: BackendId,
        /// What the operator wants.
        state: AdminState,
    },
    /// A configuration was accepted.
    Configured(Box<Spec>),
    /// A backend refused a connection, or did not answer one in time.
    ConnectFailed {
        /// The app.
        app: AppName,
        /// The backend.
        backend: BackendId,
        /// Where it was tried.
        address: Address,
    },
    /// A probe ended.
    Probed {
        /// The app.
        app: AppName,
        /// The backend.
        backend: BackendId,
        /// Where it was probed.
        address: Address,
        /// How it ended.
        outcome: ProbeOutcome,
    },
    /// Time passed.
    Ticked,
}

/// A change of admission of one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The app.
    pub app: AppName,
    /// The backend.
    pub backend: BackendId,
    /// What it admitted before; `None`: it was not there.
    pub from: Option<Admission>,
    /// What it admits now.
    pub to: Admission,
}

/// What one request reads. Never changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many configurations were accepted so far.
    pub generation: u64,
    /// Which app serves what; shared by all snapshots of a generation.
    pub routes: Arc<RouteTable>,
    /// The apps, by index.
    pub apps: Vec<Arc<AppView>>,
}

impl Snapshot {
    /// The app for a host and a path.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<&Arc<AppView>> {
        self.routes.find(host, path).map(|index| &self.apps[index.0])
    }

    /// The app of this name.
    pub fn app(&self, name: &str) -> Option<&Arc<AppView>> {
        self.apps.iter().find(|view| view.app.name.as_str() == name)
    }
}

/// All that is known of apps and backends.
#[derive(Debug, Default)]
pub struct Balancer {
    generation: u64,
    routes: Arc<RouteTable>,
    apps: Vec<Entry>,
    index: HashMap<AppName, usize>,
}

impl Balancer {
    /// Takes one event in. `now` is a monotonic clock, the same for all events. Answers with what
    /// changed for requests; when nothing did, the last snapshot still holds.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Transition> {
        match event {
            Event::Administered { app, backend, state } => {
                self.change(&app, &backend, None, |member, _| member.administrative = state)
            }
            Event::Configured(spec) => self.configure(*spec),
            Event::ConnectFailed { app, backend, address } => {
                self.change(&app, &backend, Some(&address), |member, _| {
                    member.quarantined_until = Some(now + QUARANTINE);
                })
            }
            Event::Probed { app, backend, address, outcome } => {
                self.change(&app, &backend, Some(&address), |member, thresholds| {
                    member.health.observe(&outcome, thresholds);
                })
            }
            Event::Ticked => self.end_quarantines(now),
        }
    }

    /// When the next [`Event::Ticked`] is due, on the clock of the events.
    pub fn next_tick(&self) -> Option<Duration> {
        let members = self.apps.iter().flat_map(|entry| &entry.members);
        members.filter_map(|member| member.quarantined_until).min()
    }

    /// What requests are to read from now on.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            routes: Arc::clone(&self.routes),
            apps: self.apps.iter().map(|entry| Arc::clone(&entry.view)).collect(),
        }
    }

    /// The members of an app, for the status page.
    pub fn members(&self, app: &AppName) -> &[Member] {
        self.index.get(app).map_or(&[], |index| &self.apps[*index].members)
    }

    /// Changes one backend. `address` is where the news come from: news of an address that the
    /// backend has left are old, and change nothing.
    fn change(
        &mut self,
        app: &AppName,
        backend: &BackendId,
        address: Option<&Address>,
        change: impl FnOnce(&mut Member, Thresholds),
    ) -> Vec<Transition> {
        // News can arrive after a reload removed the app or the backend: nothing to change.
        let Some(entry) = self.index.get(app).map(|index| &mut self.apps[*index]) else {
            return Vec::new();
        };
        let thresholds = entry.thresholds();
        let Some(member) = entry.members.iter_mut().find(|member| member.backend.id == *backend)
        else {
            return Vec::new();
        };
        if address.is_some_and(|address| *address != member.backend.address) {
            return Vec::new();
        }
        change(member, thresholds);
        entry.refresh()
    }

    fn end_quarantines(&mut self, now: Duration) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for entry in &mut self.apps {
            let mut rested = false;
            for member in &mut entry.members {
                rested |= member.quarantined_until.take_if(|until| *until <= now).is_some();
            }
            if rested {
                transitions.extend(entry.refresh());
            }
        }
        transitions
    }

    fn configure(&mut self, spec: Spec) -> Vec<Transition> {
        let drained = self.apps.drain(..);
        let mut before: HashMap<AppName, Entry> =
            drained.map(|entry| (entry.app.name.clone(), entry)).collect();
        self.generation += 1;
        self.routes = Arc::new(routes(&spec));
        self.index = spec.apps.iter().map(|app| app.name.clone()).zip(0..).collect();
        let affinities = affinities(&spec);
        let mut transitions = Vec::new();
        for (app, affinity) in spec.apps.into_iter().zip(affinities) {
            let last = before.remove(&app.name);
            let mut entry = Entry::configured(app, affinity, last);
            transitions.extend(entry.announce());
            self.apps.push(entry);
        }
        transitions
    }
}

/// One app with all that is known of its backends.
#[derive(Debug)]
struct Entry {
    app: Arc<App>,
    members: Vec<Member>,
    view: Arc<AppView>,
    /// What each backend admitted when it was last told of, by id.
    told: HashMap<BackendId, Admission>,
}

impl Entry {
    /// Makes the entry of a configuration; backends that stay keep what is known of them.
    fn configured(spec: AppSpec, affinity: Option<Affinity>, last: Option<Self>) -> Self {
        let probed = spec.policy.health.is_some();
        let (live, told, last) = match last {
            Some(last) => (Arc::clone(&last.app.live), last.told, last.members),
            None => (Arc::new(AppLive::default()), HashMap::new(), Vec::new()),
        };
        let mut last: HashMap<BackendId, Member> =
            last.into_iter().map(|member| (member.backend.id.clone(), member)).collect();
        let member = |spec: BackendSpec| {
            let survivor = last.remove(&spec.id);
            survivor
                .map_or_else(|| new_member(spec.clone(), probed), |last| last.with(&spec, probed))
        };
        let members: Vec<Member> = spec.backends.into_iter().map(member).collect();
        let backends = members.iter().map(|member| Arc::clone(&member.backend)).collect();
        let app = Arc::new(App::new(spec.name, affinity, spec.policy, backends, live));
        let view = Arc::new(AppView::new(Arc::clone(&app), admissions(&members)));
        Self { app, members, view, told }
    }

    fn thresholds(&self) -> Thresholds {
        let health = self.app.policy.health.as_ref();
        health.map_or(Thresholds { rise: 1, fall: 1 }, |health| health.thresholds)
    }

    /// Makes a new view if any admission changed, and tells which.
    fn refresh(&mut self) -> Vec<Transition> {
        let transitions = self.announce();
        if !transitions.is_empty() {
            self.view = Arc::new(AppView::new(Arc::clone(&self.app), admissions(&self.members)));
        }
        transitions
    }

    /// What changed since it was last told.
    fn announce(&mut self) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let mut told = HashMap::with_capacity(self.members.len());
        for member in &self.members {
            let (id, to) = (&member.backend.id, member.admission());
            let from = self.told.get(id).copied();
            if from != Some(to) {
                // One closed for another reason is closed as before.
                if from.is_some_and(|from| from.label_index() != to.label_index()) {
                    member.backend.live.count_transition(to.label_index());
                }
                let (app, backend) = (self.app.name.clone(), id.clone());
                transitions.push(Transition { app, backend, from, to });
            }
            told.insert(id.clone(), to);
        }
        self.told = told;
        transitions
    }
}

fn new_member(spec: BackendSpec, probed: bool) -> Member {
    Member {
        backend: Arc::new(Backend::new(spec, Arc::new(BackendLive::default()))),
        health: if probed { HealthTracker::unknown() } else { HealthTracker::unprobed() },
        administrative: AdminState::Ready,
        quarantined_until: None,
    }
}

impl Member {
    /// The same backend under a new configuration. Health belongs to the address: another address
    /// is probed anew before it takes anybody. What the operator wants belongs to the id.
    fn with(self, spec: &BackendSpec, probed: bool) -> Self {
        let moved = self.backend.address != spec.address;
        let fresh = new_member(spec.clone(), probed);
        // Probing switched on or off: what was known before is not worth much.
        let unprobed = self.health.is_unprobed();
        Self {
            backend: Arc::new(Backend::new(spec.clone(), Arc::clone(&self.backend.live))),
            health: if moved || unprobed == probed { fresh.health } else { self.health },
            administrative: self.administrative,
            quarantined_until: if moved { None } else { self.quarantined_until },
        }
    }
}

fn admissions(members: &[Member]) -> Vec<Admission> {
    members.iter().map(Member::admission).collect()
}

/// The routes of a configuration. Conflicts were refused before; the first app keeps a name.
fn routes(spec: &Spec) -> RouteTable {
    let mut routes = RouteTable::default();
    for (app, index) in spec.apps.iter().zip(0..) {
        for domain in &app.policy.domains {
            let prefixes = &app.policy.path_prefixes;
            let whole = prefixes.is_empty().then_some(None);
            for prefix in whole.into_iter().chain(prefixes.iter().map(Some)) {
                let _first_one_keeps_it = routes.add(domain, prefix, AppIndex(index));
            }
        }
        if spec.default_app.as_ref() == Some(&app.name) {
            routes.set_default(AppIndex(index));
        }
    }
    routes
}

/// The affinity of each app, with the neighbours whose tokens may stray there.
fn affinities(spec: &Spec) -> Vec<Option<Affinity>> {
    let ready = |app: &AppSpec| {
        app.affinity.clone().map(|policy| Affinity::new(policy, &app.name, &spec.keyring))
    };
    let mut all: Vec<Option<Affinity>> = spec.apps.iter().map(ready).collect();
    let mut under: HashMap<&DomainPattern, Vec<usize>> = HashMap::new();
    for (app, index) in spec.apps.iter().zip(0..) {
        for domain in &app.policy.domains {
            under.entry(domain).or_default().push(index);
        }
    }
    let shared = under.into_values().filter(|apps| apps.len() > 1);
    for apps in shared {
        for index in &apps {
            let sealer = |other: &usize| all[*other].as_ref().map(|one| Arc::clone(one.sealer()));
            let others = apps.iter().filter(|other| *other != index);
            let neighbours = others.filter_map(sealer).take(NEIGHBOURS_MAX).collect();
            if let Some(affinity) = &mut all[*index] {
                affinity.set_neighbours(neighbours);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::testing::*;

    fn configured(ids: &[&str]) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(spec(ids))), Duration::ZERO);
        balancer
    }

    fn admitted(balancer: &Balancer) -> String {
        let view = &balancer.snapshot().apps[0];
        let word = |(backend, (_, admission)): (&Arc<Backend>, (_, Admission))| {
            format!("{}:{}", backend.id, admission.reason())
        };
        view.app.backends.iter().zip(view.admissions()).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_new_backend_is_unknown_until_its_first_probe() {
        let mut balancer = configured(&["a", "b"]);
        assert_eq!(admitted(&balancer), "a:unknown b:unknown");
        let transitions = balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        assert_eq!(transitions.len(), 1);
        assert_eq!(admitted(&balancer), "a:healthy b:unknown");
    }

    #[test]
    fn a_probe_that_changes_nothing_makes_no_new_view() {
        let mut balancer = configured(&["a"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        let before = Arc::clone(&balancer.snapshot().apps[0]);
        assert!(balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO).is_empty());
        assert!(Arc::ptr_eq(&before, &balancer.snapshot().apps[0]));
    }

    #[test]
    fn a_backend_that_refused_a_connection_rests_for_five_seconds() {
        let mut balancer = configured(&["a"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(refused("a"), SECOND);
        assert_eq!(admitted(&balancer), "a:quarantined");
        assert_eq!(balancer.next_tick(), Some(6 * SECOND));
        assert!(balancer.apply(Event::Ticked, 5 * SECOND).is_empty());
        assert_eq!(balancer.apply(Event::Ticked, 6 * SECOND).len(), 1);
        assert_eq!(admitted(&balancer), "a:healthy");
        assert_eq!(balancer.next_tick(), None);
    }

    #[test]
    fn a_configuration_keeps_what_is_known_of_backends_that_stay() {
        let mut balancer = configured(&["a", "b"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(probed("b", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(administered("b", AdminState::Drain), Duration::ZERO);
        let live = Arc::clone(&balancer.members(&AppName::parse("shop").unwrap())[1].backend.live);
        live.requests.add(3);
        let transitions =
            balancer.apply(Event::Configured(Box::new(spec(&["c", "b", "a"]))), Duration::ZERO);
        assert_eq!(admitted(&balancer), "c:unknown b:drain a:healthy");
        assert_eq!(transitions.len(), 1, "{transitions:?}");
        let kept = &balancer.members(&AppName::parse("shop").unwrap())[1].backend.live;
        assert_eq!(kept.requests.read(), 3);
    }

    #[test]
    fn a_backend_at_another_address_is_probed_before_it_takes_anybody() {
        let mut balancer = configured(&["a"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        let mut moved = spec(&["a"]);
        moved.apps[0].backends[0].address = Address::Tcp("127.0.0.1:2".parse().unwrap());
        balancer.apply(Event::Configured(Box::new(moved)), Duration::ZERO);
        assert_eq!(admitted(&balancer), "a:unknown");
        // A probe of the old address ends late.
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        assert_eq!(admitted(&balancer), "a:unknown");
    }

    #[test]
    fn a_backend_closed_for_another_reason_is_closed_as_before() {
        let mut balancer = configured(&["a"]);
        let failed = ProbeOutcome::Failed("no".into());
        assert_eq!(balancer.apply(probed("a", failed), Duration::ZERO).len(), 1);
        let live = Arc::clone(&balancer.members(&AppName::parse("shop").unwrap())[0].backend.live);
        let closed = admission_label("closed");
        assert_eq!(live.transitions(closed), 0);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(administered("a", AdminState::Maintenance), Duration::ZERO);
        assert_eq!(live.transitions(closed), 1);
    }

    fn admission_label(label: &str) -> usize {
        Admission::LABELS.iter().position(|own| *own == label).unwrap()
    }

    #[test]
    fn news_of_what_is_gone_change_nothing() {
        let mut balancer = configured(&["a"]);
        assert!(balancer.apply(probed("z", ProbeOutcome::Passed), Duration::ZERO).is_empty());
        assert!(balancer.apply(refused("z"), Duration::ZERO).is_empty());
    }
}
