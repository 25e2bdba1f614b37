//! The backends: a process each, so that one of them can die.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::{
    backends,
    failure::{Context, Failure},
    guard::Guard,
    kernel::ProcessorTime,
    plan::Placement,
    process::Process,
};

/// All of them.
pub(crate) struct Backends {
    directory: PathBuf,
    placement: Placement,
    guard: Rc<Guard>,
    pub(crate) addresses: Vec<SocketAddr>,
    processes: Vec<Option<Process>>,
    /// What those used that were killed.
    used: ProcessorTime,
}

impl Backends {
    pub(crate) fn start(
        directory: &Path,
        addresses: Vec<SocketAddr>,
        placement: Placement,
        guard: &Rc<Guard>,
    ) -> Result<Self, Failure> {
        let mut backends = Self {
            directory: directory.to_owned(),
            placement,
            guard: Rc::clone(guard),
            processes: addresses.iter().map(|_| None).collect(),
            addresses,
            used: ProcessorTime::default(),
        };
        for index in 0..backends.addresses.len() {
            backends.revive(index)?;
        }
        Ok(backends)
    }

    /// Ends one with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(process) = self.processes[index].take() {
            self.used += process.processor_time();
        }
    }

    /// Starts one that is dead, at the address it had, and waits until it answers.
    pub(crate) fn revive(&mut self, index: usize) -> Result<(), Failure> {
        if self.processes[index].is_some() {
            return Ok(());
        }
        let directory = self.directory.join(format!("backend-{}", index + 1));
        fs::create_dir_all(&directory)
            .context(|| format!("cannot make {}", directory.display()))?;
        let address = self.addresses[index];
        let process =
            backends::start("backend", &[address], self.placement, &directory, &self.guard)?;
        self.processes[index] = Some(process);
        Ok(())
    }

    /// Of all, since their start.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let mut sum = self.used;
        for process in self.processes.iter().flatten() {
            sum += process.processor_time();
        }
        sum
    }
}
