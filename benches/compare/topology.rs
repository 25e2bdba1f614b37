//! Everything that runs at the same time: backends, proxies, and between them the rules of who runs where.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    rc::Rc,
    thread::available_parallelism,
    time::Duration,
};

use crate::{
    backends,
    contestant::Site,
    failure::{Context, Failure},
    guard::Guard,
    load::Load,
    machine::Machine,
    plan::{Placement, Plan},
    port,
    process::Process,
    proxy::Proxy,
    round::Round,
    tool,
    workload::Workload,
};

/// All processes of a run. Each ends with its field here; the guard ends with the last of them.
pub(crate) struct Topology {
    proxies: Vec<Proxy>,
    backends: Process,
    placement: Placement,
    guard: Rc<Guard>,
    machine: Machine,
    directory: PathBuf,
}

impl Topology {
    pub(crate) fn start(plan: &Plan) -> Result<Self, Failure> {
        install_tools(plan)?;
        let programs = plan
            .contestants
            .iter()
            .map(|it| it.locate(&plan.programs))
            .collect::<Result<Vec<_>, _>>()?;
        let directory = target_directory().join(format!("compare/run-{}", process::id()));
        make_directory(&directory)?;

        let guard = Rc::new(Guard::start()?);
        let addresses = port::free_addresses(backends::COUNT + programs.len())?;
        let (backends, listens) = addresses.split_at(backends::COUNT);
        // Always nginx of the system: one given by `--program` is measured, and must not change the backends.
        let nginx = tool::find("nginx")
            .ok_or_else(|| Failure::new("nginx not found: it serves the backends"))?;
        let command =
            beside_proxy(backends::command(&nginx, &directory, backends)?, plan.placement);
        let mut topology = Self {
            proxies: Vec::new(),
            backends: Process::start("backends", command, &directory, &guard)?,
            placement: plan.placement,
            guard: Rc::clone(&guard),
            machine: Machine::read(),
            directory: directory.clone(),
        };
        for ((contestant, program), listen) in plan.contestants.iter().zip(programs).zip(listens) {
            topology.machine.add_program(contestant.name, contestant.describe(&program));
            let directory = directory.join(contestant.name);
            make_directory(&directory)?;
            let site = Site { program, directory, listen: *listen, backends: backends.to_vec() };
            topology.proxies.push(Proxy::start(contestant, &site, plan.placement, &guard)?);
        }
        Ok(topology)
    }

    pub(crate) fn machine(&self) -> Machine {
        self.machine.clone()
    }

    /// How many proxies there are.
    pub(crate) fn len(&self) -> usize {
        self.proxies.len()
    }

    pub(crate) fn name(&self, index: usize) -> &'static str {
        self.proxies[index].contestant.name
    }

    /// Measures one proxy once.
    pub(crate) fn round(
        &mut self,
        index: usize,
        workload: Workload,
        seconds: usize,
    ) -> Result<Round, Failure> {
        self.backends.check_alive()?;
        let proxy = &mut self.proxies[index];
        let spec = workload.spec(proxy.address, proxy.client.clone());
        let mut load = Load::start(&spec, self.placement, &self.guard)?;
        Round::measure(proxy, &self.backends, &mut load, Duration::from_secs(seconds as u64))
    }

    /// Ends all processes and removes what they wrote.
    pub(crate) fn clean_up(self) -> Result<(), Failure> {
        let directory = self.directory.clone();
        drop(self);
        fs::remove_dir_all(&directory).context(|| format!("cannot remove {}", directory.display()))
    }
}

/// Cargo's target directory, which holds the results too.
pub(crate) fn target_directory() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary)
}

/// The command, kept to the proxy's cores.
pub(crate) fn for_proxy(command: Command, placement: Placement) -> Command {
    match placement {
        Placement::Free => command,
        Placement::Pinned => on_cores(&command, &format!("{}", cores() - 1)),
    }
}

/// The command, kept away from the proxy's cores.
pub(crate) fn beside_proxy(command: Command, placement: Placement) -> Command {
    match placement {
        Placement::Free => command,
        Placement::Pinned => on_cores(&command, &format!("0-{}", cores() - 2)),
    }
}

/// Runs through taskset(1), which becomes the program and keeps its process id.
fn on_cores(command: &Command, list: &str) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", list]).arg(command.get_program()).args(command.get_args());
    pinned
}

pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn install_tools(plan: &Plan) -> Result<(), Failure> {
    let is_needed = |name: &&str| !plan.programs.contains_key(*name);
    let peers = plan.contestants.iter().map(|it| it.program).filter(|it| *it == "haproxy");
    // nginx serves the backends even when it is not compared.
    let names: Vec<&str> = peers.filter(is_needed).chain(["nginx"]).collect();
    tool::install_missing(&names)
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))
}
