//! A child process that ends with its handle.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::{self, ProcessorTime},
};

/// How much of a process's own words a failure quotes, in lines.
const LAST_WORDS_LINES: usize = 12;

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(4);

/// A process group of ours: the process we started and whatever it started. Dropping it kills them all.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    guard: Rc<Guard>,
}

impl Process {
    /// Starts `command` with its output in `directory/NAME.out`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        directory: &Path,
        guard: &Rc<Guard>,
    ) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.out"));
        let output = File::create(&log).context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command
            .spawn()
            .context(|| format!("cannot start {}", command.get_program().display()))?;
        guard.started(child.id());
        Ok(Self { name: name.to_owned(), child, log, guard: Rc::clone(guard) })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let failed = || format!("cannot send {signal:?} to {}", self.name);
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Failure::new(failed()))?;
        kill_process(id, signal).context(failed)
    }

    /// Processor time of the process and its descendants since they started.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        kernel::tree_time(self.child.id())
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        kernel::tree_resident_bytes(self.child.id())
    }

    /// An error with the last words of the process if it is no longer running.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(format!(
                "{} ended with {status}:\n{}",
                self.name,
                self.last_words()
            ))),
            Err(cause) => Err(Failure::new(format!("cannot ask after {}: {cause}", self.name))),
        }
    }

    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
    }
}

impl Drop for Process {
    /// Asks first, so that a build that counts for profile-guided optimisation can write down what it counted.
    fn drop(&mut self) {
        let group = self.child.id();
        if self.signal(Signal::TERM).is_ok() {
            let asked = Instant::now();
            while asked.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        // A descendant may have left the group, so each is named too.
        let descendants = kernel::tree(group).into_iter().map(|it| it.id.to_string());
        // The shell's own `kill` knows process groups, which the standard library does not.
        let _ = Command::new("sh")
            .args(["-c", r#"kill -s KILL -- "$@""#, "kill", &format!("-{group}")])
            .args(descendants)
            .stderr(Stdio::null())
            .status();
        let _ = self.child.wait();
        self.guard.ended(group);
    }
}
