//! An app: what a domain leads to. Its backends, what they admit, how one is drawn.

pub mod backend;
mod bound;
pub mod departed;
pub mod draw;
pub mod health;
pub mod histogram;
pub mod hsts;
pub mod limits;
pub mod live;
pub mod members;
pub mod outliers;
pub mod panic;
pub mod policy;
pub mod protocol;
pub mod queue;
pub mod response_limits;
pub mod retries;
pub mod seen;
pub mod slow_start;
pub mod tls;
pub mod totals;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;

use self::backend::{Backend, Slot};
use self::departed::Departed;
use self::live::AppLive;
use self::policy::Policy;
use super::affinity::foreign::{Adopted, Foreign};
use super::affinity::token::BackendHash;
use super::affinity::way::Shown;
use super::affinity::{Affinity, Presented};
use super::name::AppName;

/// One app, as one configuration has it. Never changes; what changes is in its [`view::AppView`].
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// How it keeps clients on their backends; `None`: it does not.
    pub affinity: Option<Affinity>,
    /// The cookies of other load balancers that it accepts.
    pub foreign: Arc<Foreign>,
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
        let scheme = if policy.tls.is_some() { "https" } else { "http" };
        let adopt = affinity.as_ref().map_or(&[][..], |affinity| &affinity.policy.adopt);
        let foreign = Arc::new(Foreign::new(adopt, &backends, scheme, &live));
        Self { name, affinity, foreign, policy, backends: backends.into(), live, departed, by_hash }
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

    /// What a request shows of its client, at `now` (Unix seconds).
    ///
    /// A client that is known by something that stands before our cookie, or without it, is asked for no foreign
    /// cookie: it gets none of ours.
    pub fn read(&self, shown: &Shown<'_>, now: u64, rng: &mut impl Rng) -> Known {
        let Some(affinity) = &self.affinity else { return Known::default() };
        let presented = affinity.identify(shown, |hash| self.find(hash).is_some(), now);
        let adopts = affinity.uses_cookie();
        let adopted = adopts.then(|| self.foreign.find(&presented, shown.headers)).flatten();
        let presented = match adopted {
            Some(adopted) => Presented::Pin(affinity.adopted(self.backend(adopted.slot), now, rng)),
            None => presented,
        };
        Known { place: affinity.place(&presented, shown, now), presented, adopted }
    }

    /// The slot of the backend that a token names.
    pub fn find(&self, hash: BackendHash) -> Option<Slot> {
        self.by_hash.get(&hash).copied()
    }
}

/// What is known of the client of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// What it showed.
    pub presented: Presented,
    /// The foreign cookie that it is known by, if it is.
    pub adopted: Option<Adopted>,
    /// Where its backend is drawn, if that is not left to chance.
    pub place: Option<u64>,
}
