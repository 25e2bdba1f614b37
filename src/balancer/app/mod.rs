//! An app: what a domain leads to. Its backends, what they admit, how one is drawn.

pub mod backend;
mod bound;
pub mod draw;
pub mod health;
pub mod histogram;
pub mod live;
pub mod members;
pub mod policy;
pub mod seen;
pub mod slow_start;
pub mod totals;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use rand::Rng;

use self::backend::{Backend, Slot};
use self::live::AppLive;
use self::policy::Policy;
use super::affinity::foreign::{Adopted, Foreign};
use super::affinity::token::BackendHash;
use super::affinity::{Affinity, Presented};
use super::name::AppName;

/// One app, as one configuration has it. Never changes; what changes is in its [`view::AppView`].
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// How it keeps clients on their backends; `None`: it does not.
    pub affinity: Option<Affinity>,
    /// The cookies of other load balancers that it accepts.
    pub foreign: Foreign,
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
        let scheme = if policy.tls.is_some() { "https" } else { "http" };
        let adopt = affinity.as_ref().map_or(&[][..], |affinity| &affinity.policy.adopt);
        let foreign = Foreign::new(adopt, &backends, scheme, &live);
        Self { name, affinity, foreign, policy, backends: backends.into(), live, by_hash }
    }

    /// The backend of this slot.
    pub fn backend(&self, slot: Slot) -> &Arc<Backend> {
        &self.backends[slot.index()]
    }

    /// What a client showed at `now` (Unix seconds), and the foreign cookie that it is known by, if it is.
    pub fn presented(
        &self,
        headers: &HeaderMap,
        now: u64,
        rng: &mut impl Rng,
    ) -> (Presented, Option<Adopted>) {
        let Some(affinity) = &self.affinity else { return (Presented::Nothing, None) };
        let presented = affinity.read(headers, now);
        match self.foreign.find(&presented, headers) {
            None => (presented, None),
            Some(adopted) => {
                let pin = affinity.adopted(self.backend(adopted.slot), now, rng);
                (Presented::Pin(pin), Some(adopted))
            }
        }
    }

    /// The slot of the backend that a token names.
    pub fn find(&self, hash: BackendHash) -> Option<Slot> {
        self.by_hash.get(&hash).copied()
    }
}
