//! An app: what a domain leads to. Its backends, what they admit, how one is drawn.

pub mod backend;
pub mod departed;
pub mod draw;
pub mod health;
pub mod live;
pub mod members;
pub mod policy;
pub mod seen;
pub mod slow_start;
pub mod totals;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;

use self::backend::{Backend, Slot};
use self::departed::Departed;
use self::live::AppLive;
use self::policy::Policy;
use super::affinity::Affinity;
use super::affinity::token::BackendHash;
use super::name::AppName;

/// One app, as one configuration has it. Never changes; what changes is in its [`view::AppView`].
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// How it keeps clients on their backends; `None`: it does not.
    pub affinity: Option<Affinity>,
    /// How it is probed and proxied.
    pub policy: Arc<Policy>,
    /// Its backends, by slot.
    pub backends: Box<[Arc<Backend>]>,
    /// Counters that outlive configurations.
    pub live: Arc<AppLive>,
    /// Who was on its list before.
    pub departed: Departed,
    by_hash: HashMap<BackendHash, Slot>,
}

impl App {
    /// Makes an app. The hashes of the backends' ids must differ; configuration checks it.
    pub fn new(
        name: AppName,
        affinity: Option<Affinity>,
        policy: Arc<Policy>,
        backends: Vec<Arc<Backend>>,
        live: Arc<AppLive>,
        departed: Departed,
    ) -> Self {
        let by_hash = backends.iter().zip(Slot::all()).map(|(b, slot)| (b.hash, slot)).collect();
        Self { name, affinity, policy, backends: backends.into(), live, departed, by_hash }
    }

    /// The same app, of whose earlier lists something else is known.
    #[must_use]
    pub fn with_departed(&self, departed: Departed) -> Self {
        Self { departed, ..self.clone() }
    }

    /// The backend of this slot.
    pub fn backend(&self, slot: Slot) -> &Arc<Backend> {
        &self.backends[slot.index()]
    }

    /// The slot of the backend that a token names.
    pub fn find(&self, hash: BackendHash) -> Option<Slot> {
        self.by_hash.get(&hash).copied()
    }
}
