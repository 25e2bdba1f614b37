//! Who may connect, and whether Homing runs out of something.
//!
//! A connection beyond a limit is closed as it was accepted: its request was not read, and a page sent before that
//! may be lost with the reset that follows. Each is counted by its reason.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::balancer::assign::Pressure;

/// Parts of the list of addresses, so that connections seldom meet at its lock.
const SHARDS: usize = 16;

/// Of so many hundredths of the allowed connections on, room is made: idle ones go, and nobody new comes.
const CROWDED_PERCENT: u64 = 90;

/// Why a connection was closed as it was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    /// Its address has as many as it may.
    Address,
    /// There are as many as may be.
    Total,
}

impl Closed {
    /// Every reason, in the order of the labels.
    pub const ALL: [Self; 2] = [Self::Address, Self::Total];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Total => "total",
        }
    }
}

/// What the process may run out of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Short {
    /// Nine tenths of the connections that may be are.
    Connections,
    /// The process has more memory than it may.
    Memory,
}

impl Short {
    /// Every one, in the order of the labels.
    pub const ALL: [Self; 2] = [Self::Connections, Self::Memory];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Memory => "memory",
        }
    }
}

/// A client as its address tells: one with IPv6 has a whole network (RFC 6177), of which 64 bits are told apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Neighbour {
    V4(u32),
    V6(u64),
}

impl Neighbour {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default())
            }
        }
    }

    fn shard(self) -> usize {
        let number = match self {
            Self::V4(number) => u64::from(number),
            Self::V6(number) => number,
        };
        // Networks differ where their owners count, which is seldom at the end: all bits count (Knuth, 6.4).
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(mixed % SHARDS as u64).unwrap_or(0)
    }
}

/// The connections that may be, and those that are.
#[derive(Debug, Default)]
pub struct Gate {
    total: AtomicU64,
    per_address: AtomicU64,
    open: AtomicU64,
    addresses: [Mutex<HashMap<Neighbour, u64>>; SHARDS],
    closed: [AtomicU64; Closed::ALL.len()],
    short: [AtomicBool; Short::ALL.len()],
    /// Whether it is short of anything: what is asked for each request.
    pressure: AtomicBool,
}

impl Gate {
    /// Allows so many connections in all, and from one address; from now on.
    pub fn allow(&self, total: u64, per_address: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.per_address.store(per_address, Ordering::Relaxed);
    }

    /// Notes whether the process has more memory than it may, and looks at the connections as well. Answers with
    /// what it is short of since now, or no longer.
    pub fn weigh(&self, memory_is_short: bool) -> impl Iterator<Item = (Short, bool)> {
        let total = self.total.load(Ordering::Relaxed);
        let crowded = u128::from(total) * u128::from(CROWDED_PERCENT) / 100;
        let is_crowded = u128::from(self.open.load(Ordering::Relaxed)) > crowded.max(1);
        self.pressure.store(memory_is_short || is_crowded, Ordering::Relaxed);
        let now = [(Short::Connections, is_crowded), (Short::Memory, memory_is_short)];
        let was = now.map(|(short, is)| self.short[short as usize].swap(is, Ordering::Relaxed));
        now.into_iter().zip(was).filter(|((_, is), was)| is != was).map(|(now, _)| now)
    }

    /// Whether there is little left of it.
    pub fn is_short_of(&self, short: Short) -> bool {
        self.short[short as usize].load(Ordering::Relaxed)
    }

    /// Whether nobody new is to be let in.
    pub fn pressure(&self) -> Pressure {
        if self.pressure.load(Ordering::Relaxed) { Pressure::High } else { Pressure::None }
    }

    /// How many connections were closed as they were accepted, and why.
    pub fn closed(&self, reason: Closed) -> u64 {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    /// Adds connections that a process before this one closed as they were accepted.
    pub fn add_closed(&self, reason: Closed, count: u64) {
        self.closed[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Lets a connection in, until what this answers with is dropped. `None` as address: it is not counted by it.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Entered, Closed> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut entered = Entered { gate: Arc::clone(self), neighbour: None };
        if before >= self.total.load(Ordering::Relaxed) {
            return Err(self.count(Closed::Total));
        }
        address.map_or(Ok(()), |address| entered.count(address))?;
        Ok(entered)
    }

    fn count(&self, reason: Closed) -> Closed {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
        reason
    }

    fn shard(&self, neighbour: Neighbour) -> MutexGuard<'_, HashMap<Neighbour, u64>> {
        self.addresses[neighbour.shard()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Entered {
    gate: Arc<Gate>,
    neighbour: Option<Neighbour>,
}

impl Entered {
    /// Counts it by this address, which was not known, or not that of the client, when it was let in.
    pub(super) fn count(&mut self, address: IpAddr) -> Result<(), Closed> {
        let neighbour = Neighbour::of(address);
        let mut addresses = self.gate.shard(neighbour);
        let count = addresses.entry(neighbour).or_default();
        if *count >= self.gate.per_address.load(Ordering::Relaxed) {
            drop(addresses);
            return Err(self.gate.count(Closed::Address));
        }
        *count += 1;
        self.neighbour = Some(neighbour);
        Ok(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        let Some(neighbour) = self.neighbour else { return };
        let mut addresses = self.gate.shard(neighbour);
        if let Some(count) = addresses.get_mut(&neighbour) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&neighbour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(total: u64, per_address: u64) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.allow(total, per_address);
        gate
    }

    fn remembered(gate: &Gate) -> usize {
        gate.addresses.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn an_address_has_so_many_and_no_more_and_is_forgotten_with_its_last() {
        let gate = gate(10, 2);
        let enter = |address: &str| gate.enter(Some(address.parse().unwrap()));
        let held = [enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert_eq!(enter("192.0.2.1").unwrap_err(), Closed::Address);
        let other = enter("192.0.2.2").unwrap();
        drop(held);
        assert_eq!(remembered(&gate), 1);
        drop((enter("192.0.2.1").unwrap(), other));
        assert_eq!(remembered(&gate), 0);
        assert_eq!((gate.closed(Closed::Address), gate.closed(Closed::Total)), (1, 0));
    }

    #[test]
    fn sites_share_no_lock_because_of_how_they_are_numbered() {
        let sites = |address: fn(u32) -> String| {
            let shard = |site| Neighbour::of(address(site).parse().unwrap()).shard();
            (0..256).map(shard).collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!(sites(|site| format!("2001:db8:0:{:x}::1", site << 8)), SHARDS);
        assert_eq!(sites(|site| format!("2001:db8:{site:x}::1")), SHARDS);
        assert_eq!(sites(|site| format!("10.0.{site}.1")), SHARDS);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let gate = gate(10, 1);
        let enter = |address: &str| gate.enter(Some(address.parse().unwrap()));
        let _one = enter("2001:db8:0:1::1").unwrap();
        assert_eq!(enter("2001:db8:0:1:ffff::2").unwrap_err(), Closed::Address);
        assert!(enter("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn the_total_holds_for_everybody_and_those_who_leave_make_room() {
        let gate = gate(2, 9);
        let one = gate.enter(None).unwrap();
        let _two = gate.enter(None).unwrap();
        assert_eq!(gate.enter(None).unwrap_err(), Closed::Total);
        drop(one);
        assert!(gate.enter(None).is_ok());
    }

    #[test]
    fn little_room_or_memory_is_pressure() {
        let gate = gate(10, 10);
        let held: Vec<_> = (0..9).map(|_| gate.enter(None).unwrap()).collect();
        let weigh = |memory_is_short| {
            let changed: Vec<_> = gate.weigh(memory_is_short).collect();
            let short = Short::ALL.map(|short| gate.is_short_of(short));
            assert_eq!(gate.pressure() == Pressure::High, short.contains(&true));
            (changed, short)
        };
        assert_eq!(weigh(false), (vec![], [false, false]));
        let one_more = gate.enter(None).unwrap();
        assert_eq!(weigh(false), (vec![(Short::Connections, true)], [true, false]));
        assert_eq!(weigh(false), (vec![], [true, false]));
        drop((held, one_more));
        let both = vec![(Short::Connections, false), (Short::Memory, true)];
        assert_eq!(weigh(true), (both, [false, true]));
        assert_eq!(weigh(false), (vec![(Short::Memory, false)], [false, false]));
    }
}
