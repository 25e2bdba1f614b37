//! An app: what a domain leads to. Its backends, what they admit, how one is drawn.

pub mod backend;
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
use self::live::AppLive;
use self::policy::Policy;
use super::affinity::token::BackendHash;
use super::affinity::way::Shown;
use super::affinity::{Affinity, Presented};
use super::name::AppName;

/// One app, as one configuration has it. Never changes; what changes is in its [`view::AppView`].
#[derive(Debug)]
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
    ) -> Self {
        let by_hash = backends.iter().zip(Slot::all()).map(|(b, slot)| (b.hash, slot)).collect();
        Self { name, affinity, policy, backends: backends.into(), live, by_hash }
    }

    /// The backend of this slot.
    pub fn backend(&self, slot: Slot) -> &Arc<Backend> {
        &self.backends[slot.index()]
    }

    /// What a request shows of its client, at `now` (Unix seconds), and where its backend is drawn if that is not
    /// left to chance.
    pub fn read(&self, shown: &Shown<'_>, now: u64) -> (Presented, Option<u64>) {
        let Some(affinity) = &self.affinity else { return (Presented::Nothing, None) };
        let presented = affinity.identify(shown, |hash| self.find(hash).is_some(), now);
        (presented, affinity.place(&presented, shown, now))
    }

    /// The slot of the backend that a token names.
    pub fn find(&self, hash: BackendHash) -> Option<Slot> {
        self.by_hash.get(&hash).copied()
    }
}
