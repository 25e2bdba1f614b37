//! Events in, snapshots out: the only place where anything changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::AffinityPolicy;
use super::affinity::keyring::{Key, Keyring};
use super::app::App;
use super::app::backend::{Address, BackendSpec};
use super::app::health::{ProbeOutcome, Thresholds};
use super::app::members::{AdminState, Admission, Member};
use super::app::outliers::Why;
use super::app::panic::Then;
use super::app::policy::Policy;
use super::app::view::AppView;
use super::carry::Carried;
use super::due::Due;
use super::entry::Entry;
use super::name::{AppName, BackendId};
use super::places::{Places, affinity};
use super::route::{AppIndex, RouteTable};
use super::shared::Shared;
use super::views::Views;

/// How long a backend rests after it refused a connection or did not answer one in time.
pub const QUARANTINE: Duration = Duration::from_secs(5);

/// Everything the operator asked for that requests depend on.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The apps.
    pub apps: Vec<Shared<AppSpec>>,
    /// The app for hosts that no domain names.
    pub default_app: Option<AppName>,
    /// The secrets.
    pub keyring: Keyring,
    /// When it was accepted, in Unix seconds: what leaves a list by it leaves then.
    pub taken: u64,
}

impl Spec {
    /// The apps, by name.
    pub(super) fn by_name(&self) -> HashMap<&AppName, &Shared<AppSpec>> {
        self.apps.iter().map(|app| (&app.name, app)).collect()
    }
}

/// One app, as the operator asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
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
        /// When the pinned clients of a drained backend are moved, on the clock of the events; `None`:
        /// they leave by themselves. Counts for [`AdminState::Drain`] only.
        deadline: Option<Duration>,
    },
    /// The operator closes a whole app, or opens it again. Its backends are probed all the same.
    AppMaintained {
        /// The app.
        app: AppName,
        /// Whether it takes nobody from now on.
        on: bool,
    },
    /// The process of a backend asks for no new clients.
    AskedToDrain {
        /// The app.
        app: AppName,
        /// The backend.
        backend: BackendId,
        /// Where it listens.
        address: Address,
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
    /// The requests of a backend fail.
    FoundOutlier {
        /// The app.
        app: AppName,
        /// The backend.
        backend: BackendId,
        /// Where they were sent.
        address: Address,
        /// What showed it.
        why: Why,
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
    /// The process before this one handed over what it knew. Comes after the first configuration and
    /// before requests; what the operator wants is told apart from it, before or after.
    Restored(Box<Carried>),
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
    /// Why it did, if it was there, and why it does, for people.
    pub reasons: (Option<&'static str>, &'static str),
}

/// What an event changed for requests.
#[derive(Debug, Default)]
pub struct Applied {
    /// Whether there is another snapshot to read; else the last one still holds.
    pub changed: bool,
    /// The changes of admission. There may be none and still another snapshot.
    pub transitions: Vec<Transition>,
    /// Apps that panic from now on, with what they do, or calmed down.
    pub panics: Vec<(AppName, Option<Then>)>,
}

/// What one request reads. Never changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many configurations were accepted so far.
    pub generation: u64,
    /// Which app serves what; shared by all snapshots of a generation.
    pub routes: Arc<RouteTable>,
    /// The apps, by index; those that stay as they are shared with the snapshot before.
    pub apps: Views,
    /// Where each app is, by name; shared by all snapshots of a generation.
    pub names: Arc<HashMap<AppName, AppIndex>>,
    /// The keys, with what is known of their use; `None`: nothing was configured yet.
    pub keyring: Option<Arc<Keyring>>,
}

impl Snapshot {
    /// The app for a host and a path.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<&Arc<AppView>> {
        self.routes.find(host, path).map(|index| &self.apps[index.0])
    }

    /// The app of this name.
    pub fn app(&self, name: &str) -> Option<&Arc<AppView>> {
        self.names.get(name).map(|index| &self.apps[index.0])
    }
}

/// All that is known of apps and backends.
#[derive(Debug, Default)]
pub struct Balancer {
    generation: u64,
    places: Places,
    apps: Vec<Entry>,
    /// The views of these apps.
    views: Views,
    /// When these apps are to be looked at again.
    due: Due,
    keyring: Option<Arc<Keyring>>,
}

impl Balancer {
    /// Takes one event in. `now` is a monotonic clock, the same for all events. Answers with what
    /// changed for requests.
    pub fn apply(&mut self, event: Event, now: Duration) -> Applied {
        let mut applied = Applied::default();
        match event {
            Event::Administered { app, backend, state, deadline } => {
                self.change(&app, &backend, None, now, &mut applied, |member, _| {
                    member.administer(state, deadline, now);
                });
            }
            Event::AppMaintained { app, on } => {
                self.with(&app, |entry| entry.maintain(on, now, &mut applied));
            }
            Event::AskedToDrain { app, backend, address } => {
                self.change(&app, &backend, Some(&address), now, &mut applied, |member, _| {
                    member.ask_for_drain();
                });
            }
            Event::Configured(spec) => self.configure(*spec, now, &mut applied),
            Event::ConnectFailed { app, backend, address } => {
                self.change(&app, &backend, Some(&address), now, &mut applied, |member, _| {
                    member.quarantined_until = Some(now + QUARANTINE);
                });
            }
            Event::FoundOutlier { app, backend, address, why } => {
                self.with(&app, |entry| entry.eject(&backend, &address, why, now, &mut applied));
            }
            Event::Probed { app, backend, address, outcome } => {
                self.with(&app, |entry| entry.probe_ejected(&backend, &address, &outcome, now));
                self.change(&app, &backend, Some(&address), now, &mut applied, |member, fits| {
                    member.health.observe(&outcome, fits);
                });
            }
            Event::Restored(carried) => self.restore(&carried, now, &mut applied),
            Event::Ticked => {
                for index in self.due.by(now) {
                    self.apps[index].pass(now, &mut applied);
                    self.settle(index);
                }
            }
        }
        applied
    }

    /// When the next [`Event::Ticked`] is due, on the clock of the events.
    pub fn next_tick(&self) -> Option<Duration> {
        self.due.next()
    }

    /// What requests are to read from now on.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            routes: Arc::clone(&self.places.routes),
            apps: self.views.clone(),
            names: Arc::clone(&self.places.names),
            keyring: self.keyring.clone(),
        }
    }

    /// The members of an app, for the status page.
    pub fn members(&self, app: &AppName) -> &[Member] {
        self.places.names.get(app).map_or(&[], |index| &self.apps[index.0].members)
    }

    /// All apps with their members.
    pub(super) fn apps(&self) -> impl Iterator<Item = (&App, &[Member])> {
        self.apps.iter().map(|entry| (&*entry.app, entry.members.as_slice()))
    }

    /// How many configurations were accepted so far, those of earlier processes included.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes one app. News can arrive after a reload removed it: nothing to change.
    fn with(&mut self, app: &AppName, change: impl FnOnce(&mut Entry)) {
        let Some(AppIndex(index)) = self.places.names.get(app).copied() else { return };
        change(&mut self.apps[index]);
        self.settle(index);
    }

    /// Takes in what became of one app: costs the same however many others there are.
    fn settle(&mut self, index: usize) {
        self.views.set(index, &self.apps[index].view);
        self.due.set(index, self.apps[index].next_tick());
    }

    /// Takes in what became of all apps.
    fn settle_all(&mut self) {
        self.views = self.apps.iter().map(|entry| Arc::clone(&entry.view)).collect();
        self.due = Due::of(self.apps.len());
        for (index, entry) in self.apps.iter().enumerate() {
            self.due.set(index, entry.next_tick());
        }
    }

    /// Changes one backend. `address` is where the news come from: news of an address that the
    /// backend has left are old, and change nothing.
    fn change(
        &mut self,
        app: &AppName,
        backend: &BackendId,
        address: Option<&Address>,
        now: Duration,
        applied: &mut Applied,
        change: impl FnOnce(&mut Member, Thresholds),
    ) {
        self.with(app, |entry| {
            let thresholds = entry.thresholds();
            let is_it = |member: &&mut Member| member.backend.id == *backend;
            let Some(member) = entry.members.iter_mut().find(is_it) else { return };
            if address.is_none_or(|address| *address == member.backend.address) {
                change(member, thresholds);
                entry.refresh(now, applied);
            }
        });
    }

    fn restore(&mut self, carried: &Carried, now: Duration, applied: &mut Applied) {
        self.generation = self.generation.max(carried.generation.saturating_add(1));
        for entry in &mut self.apps {
            if let Some(carried) = carried.apps.get(entry.app.name.as_str()) {
                entry.restore(carried, now, applied);
            }
        }
        self.settle_all();
        applied.changed = true;
    }

    fn configure(&mut self, mut spec: Spec, now: Duration, applied: &mut Applied) {
        let mut same_keys = false;
        if let Some(before) = &self.keyring {
            let ids = |ring: &Keyring| ring.keys().iter().map(Key::id).collect::<Vec<_>>();
            same_keys = ids(&spec.keyring) == ids(before);
            spec.keyring = spec.keyring.after(before);
        }
        self.keyring = Some(Arc::new(spec.keyring.clone()));
        self.generation = self.generation.saturating_add(1);
        let mut entries = self.entries_for(&spec);
        let mut affinities = self.places.affinities(&spec);
        for ((index, app), entry) in spec.apps.iter().enumerate().zip(&mut entries) {
            let related = affinities.remove(&index);
            *entry = Some(match entry.take() {
                Some(last) if same_keys && related.is_none() && last.is_as(app) => {
                    last.staying(app.clone())
                }
                last => {
                    let affinity = related.or_else(|| affinity(app, &spec));
                    Entry::configured(app.clone(), affinity, last, spec.taken, now, applied)
                }
            });
        }
        // All are there. In this form they stay where they are in memory.
        self.apps = entries.into_iter().map_while(|entry| entry).collect();
        self.settle_all();
        applied.changed = true;
    }

    /// Gives out the entries of the apps of a configuration, in its order, and takes in where they stand from now on.
    fn entries_for(&mut self, spec: &Spec) -> Vec<Option<Entry>> {
        let stay = self.places.hold_for(spec, self.apps.iter().map(Entry::spec));
        let mut entries: Vec<_> = std::mem::take(&mut self.apps).into_iter().map(Some).collect();
        if stay {
            return entries;
        }
        let before = std::mem::replace(&mut self.places, Places::of(spec));
        let find = |app: &Shared<AppSpec>| entries[before.names.get(&app.name)?.0].take();
        spec.apps.iter().map(find).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::app::backend::Backend;
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
        let applied = balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        assert_eq!(applied.transitions.len(), 1);
        assert_eq!(admitted(&balancer), "a:healthy b:unknown");
    }

    #[test]
    fn a_probe_that_changes_nothing_makes_no_new_view() {
        let mut balancer = configured(&["a"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        let before = Arc::clone(&balancer.snapshot().apps[0]);
        assert!(!balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO).changed);
        assert!(Arc::ptr_eq(&before, &balancer.snapshot().apps[0]));
    }

    #[test]
    fn a_backend_that_refused_a_connection_rests_for_five_seconds() {
        let mut balancer = configured(&["a"]);
        balancer.apply(probed("a", ProbeOutcome::Passed), Duration::ZERO);
        balancer.apply(refused("a"), SECOND);
        assert_eq!(admitted(&balancer), "a:quarantined");
        assert_eq!(balancer.next_tick(), Some(6 * SECOND));
        assert!(!balancer.apply(Event::Ticked, 5 * SECOND).changed);
        assert_eq!(balancer.apply(Event::Ticked, 6 * SECOND).transitions.len(), 1);
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
        let configured = Event::Configured(Box::new(spec(&["c", "b", "a"])));
        let transitions = balancer.apply(configured, Duration::ZERO).transitions;
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
        assert_eq!(balancer.apply(probed("a", failed), Duration::ZERO).transitions.len(), 1);
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
        assert!(!balancer.apply(probed("z", ProbeOutcome::Passed), Duration::ZERO).changed);
        assert!(!balancer.apply(refused("z"), Duration::ZERO).changed);
        let gone = Event::AppMaintained { app: AppName::parse("gone").unwrap(), on: true };
        assert!(!balancer.apply(gone, Duration::ZERO).changed);
    }

    #[test]
    fn a_drain_deadline_closes_a_backend() {
        let mut balancer = balancer(OnUnavailable::Move, "a b");
        balancer.apply(drained("b", 10 * SECOND), SECOND);
        assert_eq!(admitted(&balancer), "a:healthy b:drain");
        assert_eq!(balancer.next_tick(), Some(10 * SECOND));
        assert!(!balancer.apply(Event::Ticked, 9 * SECOND).changed);
        assert_eq!(balancer.apply(Event::Ticked, 10 * SECOND).transitions.len(), 1);
        assert_eq!(admitted(&balancer), "a:healthy b:drained");
        assert_eq!(balancer.next_tick(), None);
        balancer.apply(Event::Configured(Box::new(spec(&["b", "a"]))), 11 * SECOND);
        assert_eq!(admitted(&balancer), "b:drained a:healthy");
    }

    #[test]
    fn a_drain_deadline_is_replaced_by_another_command() {
        let mut balancer = balancer(OnUnavailable::Move, "a");
        balancer.apply(drained("a", SECOND), 2 * SECOND);
        assert_eq!(admitted(&balancer), "a:drained");
        balancer.apply(drained("a", 9 * SECOND), 2 * SECOND);
        assert_eq!(admitted(&balancer), "a:drain");
        balancer.apply(administered("a", AdminState::Drain), 3 * SECOND);
        assert_eq!(balancer.next_tick(), None);
        balancer.apply(drained("a", 9 * SECOND), 3 * SECOND);
        balancer.apply(administered("a", AdminState::Maintenance), 3 * SECOND);
        balancer.apply(Event::Ticked, 10 * SECOND);
        assert_eq!(admitted(&balancer), "a:maintenance");
        balancer.apply(administered("a", AdminState::Ready), 10 * SECOND);
        assert_eq!(admitted(&balancer), "a:healthy");
    }

    #[test]
    fn a_deadline_of_another_state_than_drain_means_nothing() {
        let mut balancer = balancer(OnUnavailable::Move, "a");
        let (app, backend) = (AppName::parse("shop").unwrap(), BackendId::parse("a").unwrap());
        let state = AdminState::Ready;
        let deadline = Some(SECOND);
        balancer.apply(Event::Administered { app, backend, state, deadline }, Duration::ZERO);
        assert_eq!((balancer.next_tick(), admitted(&balancer)), (None, "a:healthy".into()));
    }

    #[test]
    fn the_maintenance_of_an_app_survives_a_configuration() {
        let mut balancer = balancer(OnUnavailable::Move, "a");
        assert!(balancer.apply(maintained(true), SECOND).changed);
        assert!(!balancer.apply(maintained(true), SECOND).changed);
        balancer.apply(Event::Configured(Box::new(spec(&["a", "b"]))), SECOND);
        assert!(balancer.apply(probed("b", ProbeOutcome::Passed), SECOND).changed);
        assert_eq!(admitted(&balancer), "a:healthy b:healthy");
        assert!(balancer.snapshot().apps[0].maintenance);
        assert!(balancer.apply(maintained(false), SECOND).changed);
        assert!(!balancer.snapshot().apps[0].maintenance);
    }
}
