//! Homing: `homing reload` for whatever changes in its file, `homing restart` for a new program.

use std::{fs, path::PathBuf, process::Command};

use super::{Edge, Site, write};
use crate::{
    change::wanted::Wanted,
    failure::{Context, Failure},
    kernel::ProcessorTime,
    process::Process,
    topology,
    workload::HOST,
};

/// Keys on the list: the one that seals, and the one before it, which still opens.
const KEYS: usize = 2;

struct Homing {
    site: Site,
    process: Process,
}

pub(super) fn start(site: Site, wanted: &Wanted) -> Result<Box<dyn Edge>, Failure> {
    let state = site.file("state");
    fs::create_dir_all(&state).context(|| format!("cannot make {}", state.display()))?;
    configure(&site, wanted)?;
    let mut command = Command::new(&site.program);
    command.args(["run", "-c"]).arg(file(&site));
    let command = topology::for_proxy(command, site.placement);
    let process = Process::start("homing", command, &site.directory, &site.guard)?;
    Ok(Box::new(Homing { site, process }))
}

impl Homing {
    fn order(&self, word: &str) -> Result<(), Failure> {
        let mut command = Command::new(&self.site.program);
        command.args([word, "-c"]).arg(file(&self.site));
        self.site.tell(command)
    }
}

impl Edge for Homing {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        configure(&self.site, wanted)?;
        self.order("reload")
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.order("restart")
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.process.check_alive()
    }

    fn processor_time(&self) -> ProcessorTime {
        self.process.processor_time()
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn file(site: &Site) -> PathBuf {
    site.file("homing.yaml")
}

/// Makes the keys that are missing, and writes the file.
fn configure(site: &Site, wanted: &Wanted) -> Result<(), Failure> {
    let first = wanted.key.saturating_sub(KEYS - 1);
    for number in first..=wanted.key {
        let key = site.file(&format!("key-{number}"));
        if !key.exists() {
            let mut command = Command::new(&site.program);
            command.args(["keys", "generate"]).arg(key);
            site.tell(command)?;
        }
    }
    write(&file(site), &configuration(site, wanted))
}

/// The file is not watched, so that it is read exactly when it is told to be, as the others' files are.
fn configuration(site: &Site, wanted: &Wanted) -> String {
    let first = wanted.key.saturating_sub(KEYS - 1);
    let keys: String =
        (first..=wanted.key).rev().map(|number| format!("  - file: key-{number}\n")).collect();
    let backend = |number: usize, address, weight| {
        format!("      - {{ id: web.{number}, address: {address}, weight: {weight} }}\n")
    };
    let backends: String =
        wanted.backends().iter().map(|it| backend(it.number, it.address, it.weight)).collect();
    let elsewhere: String = (1..)
        .zip(wanted.elsewhere())
        .map(|(number, address)| backend(number, *address, 1))
        .collect();
    format!(
        "\
state_dir: {}/state
server: {{ threads: 1, grace_period: 1s, watch: off }}
admin: off
access_log: off
affinity_keys:
{keys}defaults:
  health: {{ path: /healthz, interval: 1s, timeout: 1s }}
listeners:
  - address: {}
apps:
  - name: shop
    domains: [{HOST}]
    backends:
{backends}  - name: elsewhere
    domains: [elsewhere.test]
    backends:
{elsewhere}",
        site.directory.display(),
        site.listen
    )
}
