//! What the system gives the process: descriptors and memory.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With less descriptors than this, the operator is told: there is little room for clients.
const DESCRIPTORS_FEW: u64 = 4096;

/// Descriptors that are kept for listeners, logs, probes, files and commands.
const RESERVE: u64 = 64;

/// Unused connections to backends that are kept, for each thread. Each is a descriptor here and there.
const KEPT_MAX: u64 = 1024;

/// Descriptors where the system names no limit: what Linux has as the highest one (`fs.nr_open`).
const DESCRIPTORS_MOST: u64 = 1 << 20;

/// Takes all descriptors that the system allows, and answers how many there are.
pub(super) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    let descriptors = current.unwrap_or(DESCRIPTORS_MOST);
    if descriptors < DESCRIPTORS_FEW {
        tracing::warn!(
            descriptors,
            connections = connections(descriptors),
            "few files may be open, and each client needs two: raise LimitNOFILE or `ulimit -Hn`"
        );
    }
    descriptors
}

/// Client connections that so many descriptors allow: each may need another one for its backend.
pub(super) fn connections(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(RESERVE.max(descriptors / 8)) / 2).max(1)
}

/// Unused connections to backends that each of so many threads keeps.
pub(super) fn kept(descriptors: u64, threads: usize) -> u64 {
    let threads = u64::try_from(threads.max(1)).unwrap_or(u64::MAX);
    (descriptors / 16 / threads).clamp(1, KEPT_MAX)
}

/// Memory that the process has, in bytes (`VmRSS` of proc(5)); `None` where the system does not say.
pub(super) fn memory() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_less_a_reserve_are_for_clients() {
        assert_eq!(connections(20_000), 8750);
        assert_eq!(connections(256), 96);
        assert_eq!(connections(10), 1);
        assert_eq!((kept(1 << 20, 4), kept(1024, 4), kept(8, 4)), (1024, 16, 1));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
