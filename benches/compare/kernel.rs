//! The kernel's accounting, as `/proc` shows it.
//!
//! `utime` and `stime` of `/proc/PID/stat` are what the scheduler really gave a process, in user mode and in the
//! kernel on its behalf. Their sum is exact to one tick; the split between the two is estimated by the kernel.

use std::{fs, ops::AddAssign, time::Duration};

/// The unit of `/proc/PID/stat` and `/proc/stat`: `USER_HZ`, 100 a second on every architecture we build for.
const TICK: Duration = Duration::from_millis(10);

/// The unit of `/proc/PID/status`, where it is called kB.
const KIBIBYTE: u64 = 1024;

/// Processor time in user mode and in the kernel.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProcessorTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl ProcessorTime {
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

impl AddAssign for ProcessorTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

/// What `/proc/PID/stat` says of one process.
pub(crate) struct Entry {
    pub(crate) id: u32,
    parent: u32,
    /// The process group.
    group: u32,
    own: ProcessorTime,
    /// Of the children that ended and were waited for.
    reaped: ProcessorTime,
}

impl Entry {
    /// Whether the whole of user and of system time, own and reaped, is this much.
    pub(crate) fn times_are(&self, total: Duration, reaped: Duration) -> bool {
        self.own.total() == total && self.reaped.total() == reaped
    }
}

/// Reads the fields after the name, which may itself hold spaces and parentheses (proc_pid_stat(5)).
pub(crate) fn parse_stat(text: &str) -> Option<Entry> {
    let id = text.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Field 3 of the manual is the first after the name.
    let ticks = |number: usize| Some(TICK * fields.get(number - 3)?.parse::<u32>().ok()?);
    Some(Entry {
        id,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        own: ProcessorTime { user: ticks(14)?, system: ticks(15)? },
        reaped: ProcessorTime { user: ticks(16)?, system: ticks(17)? },
    })
}

/// The process `root` and all that descend from it, at this moment.
pub(crate) fn tree(root: u32) -> Vec<Entry> {
    let mut others: Vec<Entry> = all_entries();
    let mut tree: Vec<Entry> = others.extract_if(.., |it| it.id == root).collect();
    let mut next = 0;
    while let Some(parent) = tree.get(next).map(|it| it.id) {
        tree.extend(others.extract_if(.., |it| it.parent == parent));
        next += 1;
    }
    tree
}

/// All the processor time a process and its descendants have used, the ended ones included.
pub(crate) fn tree_time(root: u32) -> ProcessorTime {
    let mut sum = ProcessorTime::default();
    for entry in tree(root) {
        sum += entry.own;
        sum += entry.reaped;
    }
    sum
}

/// The processes of a group, at this moment.
pub(crate) fn group(id: u32) -> Vec<Entry> {
    let mut all = all_entries();
    all.retain(|it| it.group == id);
    all
}

/// The processor time of a group, but for what those used that ended and nobody of it waited for.
pub(crate) fn group_time(id: u32) -> ProcessorTime {
    let mut sum = ProcessorTime::default();
    for entry in group(id) {
        sum += entry.own;
        sum += entry.reaped;
    }
    sum
}

/// Resident memory of a process and its descendants, in bytes. Pages that two of them share count twice.
pub(crate) fn tree_resident_bytes(root: u32) -> u64 {
    tree(root).iter().filter_map(|entry| resident_bytes(entry.id)).sum()
}

/// The processor time of our own children that ended and were waited for.
pub(crate) fn reaped_time() -> ProcessorTime {
    fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| parse_stat(&text))
        .map(|it| it.reaped)
        .unwrap_or_default()
}

/// Time all cores together spent on anything but idling, interrupts and a hypervisor's other guests included.
pub(crate) fn machine_busy() -> Duration {
    fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| parse_machine_busy(&text))
        .unwrap_or_default()
}

/// Line `cpu` of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
pub(crate) fn parse_machine_busy(text: &str) -> Option<Duration> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u32> =
        fields.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let busy: u32 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum();
    Some(TICK * busy)
}

fn all_entries() -> Vec<Entry> {
    let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    // `/proc/self` and its like are links to processes that the list has anyway; they are not numbers.
    directory
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(stat)
        .filter_map(|text| parse_stat(&text))
        .collect()
}

fn resident_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * KIBIBYTE)
}
