//! A process that put itself into the background: it leads a process group of its own, and is not our child.

use std::{fs, path::PathBuf, rc::Rc};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

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

    /// Asks the list of processes: kill(2) now and then says of a group that just came to be that there is none.
    pub(crate) fn check_alive(&self) -> Result<(), Failure> {
        if kernel::group(self.group.unsigned_abs()).is_empty() {
            let words = self.last_words();
            return Err(Failure::new(format!("process group {} ended\n{words}", self.group)));
        }
        Ok(())
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
        // They may have ended by themselves. Each is named, so that none is missed that came just now.
        let _ = Pid::from_raw(self.group).map(|group| kill_process_group(group, Signal::KILL));
        for entry in kernel::group(self.group.unsigned_abs()) {
            let id = i32::try_from(entry.id).ok().and_then(Pid::from_raw);
            let _ = id.map(|id| kill_process(id, Signal::KILL));
        }
        self.guard.ended(self.group.unsigned_abs());
    }
}
