//! A process that put itself into the background: it leads a process group of its own, and is not our child.

use std::{fs, path::PathBuf, rc::Rc};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::{self, ProcessorTime},
};

/// How much of its log a failure quotes, in lines.
const LAST_WORDS_LINES: usize = 12;

/// The group of a daemon, and of those that replaced it. Dropping it kills them all.
pub(crate) struct Daemon {
    group: i32,
    log: PathBuf,
    guard: Rc<Guard>,
}

impl Daemon {
    /// Takes the group of the process `leader` over.
    pub(crate) fn adopt(leader: i32, log: PathBuf, guard: &Rc<Guard>) -> Self {
        guard.started(leader.unsigned_abs());
        Self { group: leader, log, guard: Rc::clone(guard) }
    }

    /// Sends a signal to one process of the group.
    pub(crate) fn signal(&self, process: i32, signal: Signal) -> Result<(), Failure> {
        let id = Pid::from_raw(process).ok_or_else(|| Failure::new("no process"))?;
        kill_process(id, signal)
            .context(|| format!("cannot send {signal:?} to {process}\n{}", self.last_words()))
    }

    pub(crate) fn check_alive(&self) -> Result<(), Failure> {
        let group = Pid::from_raw(self.group).ok_or_else(|| Failure::new("no process group"))?;
        test_kill_process_group(group)
            .context(|| format!("process group {} ended\n{}", self.group, self.last_words()))
    }

    /// Of those that run, and of what they waited for.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        kernel::group_time(self.group.unsigned_abs())
    }

    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.group) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.guard.ended(self.group.unsigned_abs());
    }
}
