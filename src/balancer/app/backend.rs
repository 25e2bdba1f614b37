//! One running instance of an app.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::live::BackendLive;
use crate::balancer::affinity::token::{BackendHash, IncarnationHash};
use crate::balancer::name::{BackendId, Incarnation};

/// Most backends of one app. Enough for any machine park, and a bound for every loop over them.
pub const BACKENDS_MAX: usize = 4096;

/// Heaviest weight. The lightest is 1: a backend that should get no new clients is drained instead.
pub const WEIGHT_MAX: u16 = 1000;

/// Where a backend listens.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The place of a backend in the list of its app, within one snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u16);

impl Slot {
    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u16::MAX).map(Self)
    }

    /// The index into lists by slot.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One running instance of an app, as one configuration has it.
#[derive(Debug)]
pub struct Backend {
    /// Its id, unique within the app.
    pub id: BackendId,
    /// What stands for the id in a token.
    pub hash: BackendHash,
    /// Where it listens.
    pub address: Address,
    /// Its share of new clients, relative to the others; 1 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// Which run of the instance this is, when the operator says so.
    pub incarnation: Option<Incarnation>,
    /// What stands for the incarnation in a token.
    pub incarnation_hash: IncarnationHash,
    /// Counters that outlive configurations.
    pub live: Arc<BackendLive>,
}

impl Backend {
    /// Makes a backend.
    pub fn new(spec: BackendSpec, live: Arc<BackendLive>) -> Self {
        Self {
            hash: BackendHash::of(&spec.id),
            incarnation_hash: IncarnationHash::of(spec.incarnation.as_ref()),
            id: spec.id,
            address: spec.address,
            weight: spec.weight,
            incarnation: spec.incarnation,
            live,
        }
    }
}

/// What the operator says of a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendSpec {
    /// Its id, unique within the app.
    pub id: BackendId,
    /// Where it listens.
    pub address: Address,
    /// Its share of new clients; 1 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// Which run of the instance this is.
    pub incarnation: Option<Incarnation>,
}
