//! Where and with what the figures were made; without that they are worth nothing.

use std::fs;

use crate::{cast::Member, topology};

/// The machine, and what every contestant said of itself.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Name and description of the contestants.
    pub(crate) programs: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn read(cast: &[Member]) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find(|line| line.starts_with("model name"));
        let processor =
            model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor.to_owned(),
            cores: topology::cores(),
            kernel: kernel.trim().to_owned(),
            programs: cast
                .iter()
                .map(|it| (it.contestant.name, it.contestant.describe(&it.program)))
                .collect(),
        }
    }

    /// What stands above a table: where and how it was made, and who took part.
    pub(crate) fn heading(&self, conditions: &str) -> String {
        let Self { processor, cores, kernel, programs } = self;
        let mut text = format!("{processor}, {cores} cores, Linux {kernel}; {conditions}.\n\n");
        for (name, description) in programs {
            text += &format!("- {name}: {description}\n");
        }
        text
    }
}
