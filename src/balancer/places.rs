//! Where apps stand: what follows from their order, names and domains alone, and stays as long as these do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::affinity::Affinity;
use super::name::{AppName, DomainPattern};
use super::route::{AppIndex, RouteTable};
use super::shared::Shared;
use super::state::{AppSpec, Spec};

/// Most neighbours whose tokens are told from forged ones; each costs two HMACs for a bad cookie.
const NEIGHBOURS_MAX: usize = 8;

/// Where the apps of a configuration stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Which app serves what.
    pub(super) routes: Arc<RouteTable>,
    /// Where each app is, by name.
    pub(super) names: Arc<HashMap<AppName, AppIndex>>,
    /// The apps that share a domain with an app, of those that share one, by index.
    neighbours: BTreeMap<usize, BTreeSet<usize>>,
    default_app: Option<AppName>,
}

impl Places {
    /// Those of a configuration. Conflicts were refused before; the first app keeps a domain.
    pub(super) fn of(spec: &Spec) -> Self {
        let indices = (0..).map(AppIndex);
        Self {
            routes: Arc::new(routes(spec)),
            names: Arc::new(spec.apps.iter().map(|app| app.name.clone()).zip(indices).collect()),
            neighbours: neighbours(spec),
            default_app: spec.default_app.clone(),
        }
    }

    /// Whether they are also those of this configuration, when they are those of these apps.
    pub(super) fn hold_for<'a>(
        &self,
        spec: &Spec,
        apps: impl ExactSizeIterator<Item = &'a Shared<AppSpec>>,
    ) -> bool {
        let stays = |(one, other): (&Shared<AppSpec>, &Shared<AppSpec>)| {
            let (policy, before) = (&one.policy, &other.policy);
            one.is(other)
                || one.name == other.name
                    && policy.domains == before.domains
                    && policy.path_prefixes == before.path_prefixes
        };
        self.default_app == spec.default_app
            && spec.apps.len() == apps.len()
            && spec.apps.iter().zip(apps).all(stays)
    }

    /// The affinities of the apps that have neighbours, by index, with those whose tokens may stray there.
    pub(super) fn affinities(&self, spec: &Spec) -> BTreeMap<usize, Affinity> {
        let ready = |index: &usize| Some((*index, affinity(&spec.apps[*index], spec)?));
        let mut all: BTreeMap<usize, Affinity> = self.neighbours.keys().filter_map(ready).collect();
        for (index, others) in &self.neighbours {
            let sealer = |other: &usize| all.get(other).map(|one| Arc::clone(one.sealer()));
            let sealers = others.iter().filter_map(sealer).take(NEIGHBOURS_MAX).collect();
            if let Some(affinity) = all.get_mut(index) {
                affinity.set_neighbours(sealers);
            }
        }
        all
    }
}

/// The affinity of an app by itself.
pub(super) fn affinity(app: &AppSpec, spec: &Spec) -> Option<Affinity> {
    app.affinity.clone().map(|policy| Affinity::new(policy, &app.name, &spec.keyring))
}

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

fn neighbours(spec: &Spec) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut first: HashMap<&DomainPattern, usize, RandomState> = HashMap::default();
    let mut under: BTreeMap<&DomainPattern, BTreeSet<usize>> = BTreeMap::new();
    for (app, index) in spec.apps.iter().zip(0..) {
        for domain in &app.policy.domains {
            let first = *first.entry(domain).or_insert(index);
            if first != index {
                under.entry(domain).or_default().extend([first, index]);
            }
        }
    }
    let mut neighbours: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for apps in under.into_values() {
        for index in &apps {
            let others = apps.iter().filter(|other| *other != index);
            neighbours.entry(*index).or_default().extend(others);
        }
    }
    neighbours
}
