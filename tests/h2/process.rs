//! What the processes of an edge take: memory and processor time, as the kernel counts them.

use std::fs;

/// Ticks of the processor's clock in a second (`sysconf(_SC_CLK_TCK)` on Linux).
const TICKS: f64 = 100.0;

/// An edge: the process that stays and those that it started.
#[derive(Clone, Debug)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    pub(crate) fn of(pid: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children.split_whitespace().map(|child| child.parse().unwrap());
        Self([pid].into_iter().chain(children).collect())
    }

    /// Memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let each = |pid: &u32| {
            // None, when it just ended.
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        self.0.iter().map(each).sum()
    }

    /// Processor time since they began, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let each = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let (_, rest) = text.rsplit_once(") ").unwrap();
            let fields: Vec<&str> = rest.split(' ').collect();
            fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        };
        self.0.iter().map(each).sum::<f64>() / TICKS
    }
}
