//! ingress-nginx, `nginx.ingress.kubernetes.io/affinity: cookie`.
//!
//! The value is `key|backend_key` (`rootfs/etc/nginx/lua/balancer/sticky.lua`); older controllers leave the second
//! part out. What the key is depends on the affinity mode:
//!
//! * `balanced` (the default): `time.process.chance`, drawn for each client (`sticky_balanced.lua`). The endpoint is
//!   found on a ring of 160 points each (`lib/resty/chash.lua` and `chash.c` of lua-resty-balancer): the first
//!   whose hash is not below that of the key.
//! * `persistent`: the MD5 of the name of the backend and the endpoint (`sticky_persistent.lua`, `util/nodemap.lua`).

use std::collections::HashMap;

use md5::{Digest, Md5};

use super::{hex, split_at_bar};
use crate::balancer::app::backend::Slot;

/// Points of each endpoint on the ring (`CONSISTENT_POINTS`).
const POINTS: usize = 160;

/// The key of an endpoint in affinity mode `persistent`.
pub(super) fn key(endpoint: &str, service: &str) -> String {
    md5(&format!("{service}{endpoint}"))
}

fn md5(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

/// The ring of endpoints.
#[derive(Debug)]
pub(super) struct Ring {
    /// By their hashes.
    points: Box<[(u32, Slot)]>,
    /// The second part of the cookies of this service, where its name is known.
    backend_key: Option<String>,
}

impl Ring {
    /// Makes the ring of these endpoints, `address:port` each.
    pub(super) fn new(endpoints: &[(Box<str>, Slot)], service: Option<&str>) -> Self {
        let mut points = Vec::with_capacity(endpoints.len() * POINTS);
        for (endpoint, slot) in endpoints {
            let mut base = crc32fast::Hasher::new();
            base.update(endpoint.as_bytes());
            let mut previous = 0_u32;
            for _ in 0..POINTS {
                let mut point = base.clone();
                point.update(&previous.to_le_bytes());
                previous = point.finalize();
                points.push((previous, *slot));
            }
        }
        points.sort_unstable();
        let backend_key = service.map(|service| md5(&format!("{}{service}", md5(service))));
        Self { points: points.into(), backend_key }
    }

    /// The backend of a cookie; `known` are the keys of endpoints.
    pub(super) fn slot(&self, value: &[u8], known: &HashMap<Box<[u8]>, Slot>) -> Option<Slot> {
        let (key, whose) = split_at_bar(value);
        if let (Some(own), Some(whose)) = (&self.backend_key, whose)
            && own.as_bytes() != whose
        {
            return None;
        }
        known.get(key).copied().or_else(|| is_drawn(key).then(|| self.find(key)).flatten())
    }

    fn find(&self, key: &[u8]) -> Option<Slot> {
        let hash = crc32fast::hash(key);
        let place = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(place).or(self.points.first()).map(|(_, slot)| *slot)
    }
}

/// Whether a key is one of those that are drawn: three numbers, the first with or without a fraction. Every
/// text has a place on the ring, but not every text came from there.
fn is_drawn(key: &[u8]) -> bool {
    let numbers = key.split(|byte| *byte == b'.');
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    (3..=4).contains(&numbers.clone().count()) && numbers.clone().all(is_number)
}
