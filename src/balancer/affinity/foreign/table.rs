//! From the values of one foreign cookie to backends, worked out once per configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ingress_nginx::Ring;
use super::{
    ForeignCookie, ForeignKey, Format, VALUE_BYTES_MAX, haproxy, ingress_nginx, nginx,
    split_at_bar, traefik,
};
use crate::balancer::app::backend::{Address, Backend, Slot};
use crate::balancer::name::BackendId;

/// What the values of one foreign cookie lead to.
#[derive(Debug)]
pub(super) struct Table {
    known: HashMap<Box<[u8]>, Slot>,
    reading: Reading,
}

/// How a value is read that is not known as a whole.
#[derive(Debug)]
enum Reading {
    Ring(Ring),
    /// Dates may follow a bar.
    UpToBar,
    Whole,
}

/// Backends by what they are called.
type Named = Vec<(Box<str>, Slot)>;

impl Table {
    /// Works out what `cookie` says of `backends`, which are asked by `scheme` (`http` or `https`).
    pub(super) fn new(cookie: &ForeignCookie, backends: &[Arc<Backend>], scheme: &str) -> Self {
        let then = named(&cookie.addresses, backends);
        let mut table = Self { known: HashMap::new(), reading: Reading::Whole };
        match &cookie.format {
            Format::Haproxy { key } => {
                table.reading = Reading::UpToBar;
                match key {
                    Some(key) => table.haproxy_dynamic(backends, &then, key),
                    None if cookie.values.is_empty() => table.ids(backends),
                    None => {}
                }
            }
            Format::IngressNginx { service } => {
                table.ingress_nginx(backends, then, service.as_deref());
            }
            Format::Map => {}
            Format::Nginx { key } => {
                for (name, slot) in printed(backends).into_iter().chain(then) {
                    table.learn(nginx::values(&name, key.as_ref()), slot);
                }
            }
            Format::Traefik => table.traefik(backends, &then, scheme),
        }
        for (value, slot) in named(&cookie.values, backends) {
            table.learn(vec![value.into()], slot);
        }
        table
    }

    /// The backend that a value leads to.
    pub(super) fn slot(&self, value: &[u8]) -> Option<Slot> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        self.known.get(value).copied().or_else(|| match &self.reading {
            Reading::Ring(ring) => ring.slot(value, &self.known),
            Reading::UpToBar => self.known.get(split_at_bar(value).0).copied(),
            Reading::Whole => None,
        })
    }

    /// What is learnt later goes before.
    fn learn(&mut self, values: Vec<String>, slot: Slot) {
        let values = values.into_iter().map(|value| (value.into_bytes().into(), slot));
        self.known.extend(values);
    }

    fn ids(&mut self, backends: &[Arc<Backend>]) {
        for (backend, slot) in backends.iter().zip(Slot::all()) {
            self.learn(vec![backend.id.to_string()], slot);
        }
    }

    fn haproxy_dynamic(&mut self, backends: &[Arc<Backend>], then: &Named, key: &ForeignKey) {
        for (backend, slot) in backends.iter().zip(Slot::all()) {
            self.learn(haproxy::values(&backend.address, key), slot);
        }
        for (address, slot) in then {
            if let Ok(address) = address.parse() {
                self.learn(haproxy::values(&Address::Tcp(address), key), *slot);
            }
        }
    }

    /// The ring is the same only with the same endpoints: those of then, where they are told.
    fn ingress_nginx(&mut self, backends: &[Arc<Backend>], then: Named, service: Option<&str>) {
        let endpoints = if then.is_empty() { printed(backends) } else { then };
        if let Some(service) = service {
            for (endpoint, slot) in &endpoints {
                self.learn(vec![ingress_nginx::key(endpoint, service)], *slot);
            }
        }
        self.reading = Reading::Ring(Ring::new(&endpoints, service));
    }

    fn traefik(&mut self, backends: &[Arc<Backend>], then: &Named, scheme: &str) {
        for (backend, slot) in backends.iter().zip(Slot::all()) {
            for url in traefik::urls(&backend.address, scheme) {
                self.learn(traefik::values(&url), slot);
            }
        }
        for (text, slot) in then {
            self.learn(traefik::values(&traefik::url(text, scheme)), *slot);
        }
    }
}

/// What the operator calls the backends.
fn named(map: &BTreeMap<Box<str>, BackendId>, backends: &[Arc<Backend>]) -> Named {
    let slots: HashMap<&BackendId, Slot> =
        backends.iter().map(|backend| &backend.id).zip(Slot::all()).collect();
    map.iter().filter_map(|(text, id)| Some((text.clone(), *slots.get(id)?))).collect()
}

/// The addresses that the backends have here.
fn printed(backends: &[Arc<Backend>]) -> Named {
    let addresses = backends.iter().map(|backend| backend.address.to_string().into());
    addresses.zip(Slot::all()).collect()
}
