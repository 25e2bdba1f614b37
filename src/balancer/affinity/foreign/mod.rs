//! Cookies of other load balancers, accepted for a transition.
//!
//! A client that shows one, and nothing of ours that can be read, is known by it: its pin leads to the
//! backend that the other load balancer would have chosen, and it is handed our token for it. What such
//! cookies hold is worked out once per configuration, so that a request costs a look into a table. Each
//! format has a page that says where it was read: `haproxy`, `ingress_nginx`, `nginx`, `traefik`.

mod haproxy;
mod ingress_nginx;
mod nginx;
mod table;
mod traefik;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, header};

use self::table::Table;
use super::cookie::{self, CANDIDATES_MAX};
use super::{HandOut, Presented};
use crate::balancer::app::backend::{Backend, Slot};
use crate::balancer::app::live::{AppLive, Counter};
use crate::balancer::assign::Cause;
use crate::balancer::name::BackendId;

/// Most foreign cookies of one app: each is looked for in the cookies of a request, one after another.
pub const FOREIGN_MAX: usize = 16;

/// Most values, and most addresses, of one foreign cookie: one for each backend that an app can have.
pub const VALUES_MAX: usize = 4096;

/// Longest value that is looked up, in bytes: a URL of Traefik is the longest, and has a few dozen.
pub const VALUE_BYTES_MAX: usize = 256;

/// A cookie of another load balancer, as the operator describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignCookie {
    /// The name of the cookie.
    pub cookie: Box<str>,
    /// What its value holds.
    pub format: Format,
    /// Backends by values; they go before what is worked out.
    pub values: BTreeMap<Box<str>, BackendId>,
    /// Backends by the addresses that the other load balancer knew them by; they go before those that they
    /// have here.
    pub addresses: BTreeMap<Box<str>, BackendId>,
}

/// What the value of a foreign cookie holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// The word behind `cookie` on a `server` line, or with a key the hash of its address.
    Haproxy {
        /// `dynamic-cookie-key`.
        key: Option<ForeignKey>,
    },
    /// A place on the ring of endpoints, or the hash of one.
    IngressNginx {
        /// What the controller calls the backend: `namespace-service-port`. With it, affinity mode
        /// `persistent` is read as well, and cookies of other services are told apart.
        service: Option<Box<str>>,
    },
    /// Only what [`ForeignCookie::values`] says.
    Map,
    /// The hash of the address.
    Nginx {
        /// `hmac_key` of nginx-sticky-module-ng.
        key: Option<ForeignKey>,
    },
    /// The URL of a server, or a hash of it.
    Traefik,
}

impl Format {
    /// The word for it in the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Haproxy { .. } => "haproxy",
            Self::IngressNginx { .. } => "ingress_nginx",
            Self::Map => "map",
            Self::Nginx { .. } => "nginx",
            Self::Traefik => "traefik",
        }
    }
}

/// The key by which another load balancer hashes.
#[derive(Clone, Eq, PartialEq)]
pub struct ForeignKey(Box<[u8]>);

impl ForeignKey {
    /// Takes the bytes of a key.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey(redacted)")
    }
}

/// The foreign cookies of one app, ready for requests.
#[derive(Debug, Default)]
pub struct Foreign {
    entries: Box<[Entry]>,
}

/// A foreign cookie that leads to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adopted {
    /// The backend.
    pub slot: Slot,
    entry: u8,
}

#[derive(Debug)]
struct Entry {
    cookie: Box<str>,
    format: &'static str,
    table: Table,
    count: Arc<Counter>,
}

impl Foreign {
    /// Makes ready what `cookies` say of `backends`, which are asked by `scheme` (`http` or `https`).
    pub fn new(
        cookies: &[ForeignCookie],
        backends: &[Arc<Backend>],
        scheme: &str,
        live: &AppLive,
    ) -> Self {
        let counts = live.keep_adopted(cookies.iter().map(|one| &*one.cookie));
        let entry = |one: &ForeignCookie| {
            Some(Entry {
                cookie: one.cookie.clone(),
                format: one.format.as_str(),
                table: Table::new(one, backends, scheme),
                count: Arc::clone(counts.get(&one.cookie)?),
            })
        };
        Self { entries: cookies.iter().filter_map(entry).collect() }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether foreign cookies are looked at for a client whose own cookie says this.
    ///
    /// They are when there is no cookie of ours, or one that cannot be read. A pin of ours that is over stays
    /// over: the client was ours, and older knowledge does not bring it back.
    pub fn is_asked(presented: &Presented) -> bool {
        use Cause::{Forged, Malformed, UnknownKey, WrongApp};
        let unreadable = |cause| matches!(cause, Forged | Malformed | UnknownKey | WrongApp);
        match presented {
            Presented::Nothing => true,
            Presented::Unusable(cause) => unreadable(*cause),
            Presented::Key(key) => {
                let readable = key.lost.is_some_and(|cause| !unreadable(cause));
                key.cookie == HandOut::Yes && !readable
            }
            Presented::Pin(_) => false,
        }
    }

    /// The first on the list whose value leads to a backend, for a client whose own cookie says
    /// `presented`. One that leads nowhere counts as absent.
    pub fn find(&self, presented: &Presented, headers: &HeaderMap) -> Option<Adopted> {
        if self.entries.is_empty() || !Self::is_asked(presented) {
            return None;
        }
        self.entries.iter().zip(0..).find_map(|(one, entry)| {
            let lines = headers.get_all(header::COOKIE).iter();
            let values = lines.flat_map(|line| cookie::values(line.as_bytes(), &one.cookie));
            let slot = values.take(CANDIDATES_MAX).find_map(|value| one.table.slot(value))?;
            Some(Adopted { slot, entry })
        })
    }

    /// The name of the cookie that led there.
    pub fn named(&self, adopted: Adopted) -> Option<&str> {
        self.entry(adopted).map(|entry| &*entry.cookie)
    }

    /// The name of each cookie that is looked for, and what is taken to be in it.
    pub fn names(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.entries.iter().map(|entry| (&*entry.cookie, entry.format))
    }

    /// Counts a request whose client was known by this.
    pub fn count(&self, adopted: Adopted) {
        if let Some(entry) = self.entry(adopted) {
            entry.count.add(1);
        }
    }

    fn entry(&self, adopted: Adopted) -> Option<&Entry> {
        self.entries.get(usize::from(adopted.entry))
    }
}

/// What stands before the first bar, and what stands behind it.
fn split_at_bar(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    match value.iter().position(|byte| *byte == b'|') {
        Some(bar) => (&value[..bar], Some(&value[bar + 1..])),
        None => (value, None),
    }
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
