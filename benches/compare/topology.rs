//! Everything that runs at the same time: backends, proxies, and between them the rules of who runs where.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command},
    rc::Rc,
    thread::available_parallelism,
    time::Duration,
};

use crate::{
    backends::{self, Rest},
    cast::Member,
    certificate::Certificate,
    contestant::Site,
    failure::{Context, Failure},
    guard::Guard,
    h2load::H2load,
    load::{Load, Pace, Spec},
    memory::Memory,
    plan::{Placement, Plan},
    port,
    process::Process,
    proxy::Proxy,
    round::{Generator, Own, Round},
    tool,
    workload::{Setup, Workload},
};

/// All processes of a setup. Each ends with its field here; the guard ends with the last of them.
pub(crate) struct Topology<'c> {
    /// In the order of the cast; who has no part in this setup, or did not start, has none.
    proxies: Vec<Option<Proxy>>,
    backends: Process,
    backend_addresses: Vec<SocketAddr>,
    cast: &'c [Member],
    certificate: Certificate,
    setup: Setup,
    h2load: Option<PathBuf>,
    placement: Placement,
    guard: Rc<Guard>,
    directory: PathBuf,
    /// How many sites there were so far: each has a directory of its own.
    sites: usize,
}

impl<'c> Topology<'c> {
    /// Starts the backends.
    pub(crate) fn start(plan: &Plan, cast: &'c [Member], setup: Setup) -> Result<Self, Failure> {
        let name = if setup == Setup::Shop { "shop" } else { "apps" };
        let directory = target_directory().join(format!("compare/run-{}-{name}", process::id()));
        make_directory(&directory)?;
        let guard = Rc::new(Guard::start()?);
        let addresses = port::free_addresses(backends::COUNT)?;
        let backends = backends::start("backends", &addresses, plan.placement, &directory, &guard)?;
        Ok(Self {
            proxies: cast.iter().map(|_| None).collect(),
            backends,
            backend_addresses: addresses,
            cast,
            certificate: Certificate::make(&directory)?,
            setup,
            h2load: plan.programs.get("h2load").cloned().or_else(|| tool::find("h2load")),
            placement: plan.placement,
            guard,
            directory,
            sites: 0,
        })
    }

    /// Starts a member of the cast and keeps it running.
    pub(crate) fn enter(&mut self, index: usize) -> Result<(), Failure> {
        self.proxies[index] = Some(self.start_proxy(index)?);
        Ok(())
    }

    /// Whether a member of the cast runs.
    pub(crate) fn runs(&self, index: usize) -> bool {
        self.proxies[index].is_some()
    }

    /// Measures one proxy once; at `rate` requests a second, or as fast as it answers.
    pub(crate) fn round(
        &mut self,
        index: usize,
        workload: Workload,
        rate: Option<f64>,
        duration: Duration,
    ) -> Result<Round, Failure> {
        self.backends.check_alive()?;
        // As the generator, which sleeps only where it keeps to a rate.
        let rest = if rate.is_none() { Rest::Never } else { Rest::Sleep };
        rest.ask_for(self.backend_addresses[0])?;
        let mut generator = self.generator(index, workload, rate)?;
        let Self { proxies, backends, placement, .. } = self;
        let proxy = proxies[index].as_mut().ok_or_else(|| Failure::new("it does not run"))?;
        proxy.process.check_alive()?;
        Round::measure(proxy, backends, generator.as_mut(), workload, *placement, duration)
    }

    /// Measures the memory of idle connections, of a process that has not done anything else.
    pub(crate) fn memory(&mut self, index: usize, workload: Workload) -> Result<Memory, Failure> {
        Rest::Sleep.ask_for(self.backend_addresses[0])?;
        let mut proxy = self.start_proxy(index)?;
        let spec = self.spec(&proxy, workload);
        let (placement, guard) = (self.placement, Rc::clone(&self.guard));
        Memory::measure(&mut proxy, || Load::start(&spec, placement, &guard))
    }

    /// Ends all processes and removes what they wrote.
    pub(crate) fn clean_up(self) -> Result<(), Failure> {
        let directory = self.directory.clone();
        drop(self);
        fs::remove_dir_all(&directory).context(|| format!("cannot remove {}", directory.display()))
    }

    fn start_proxy(&mut self, index: usize) -> Result<Proxy, Failure> {
        let Member { contestant, program } = &self.cast[index];
        self.sites += 1;
        let directory = self.directory.join(format!("{}-{}", self.sites, contestant.name));
        make_directory(&directory)?;
        let addresses = port::free_addresses(2)?;
        let site = Site {
            program: program.clone(),
            directory,
            listen: addresses[0],
            secure_listen: addresses[1],
            certificate: self.certificate.clone(),
            setup: self.setup,
            backends: self.backend_addresses.clone(),
        };
        Proxy::start(contestant, &site, self.placement, &self.guard)
    }

    fn spec(&self, proxy: &Proxy, workload: Workload) -> Spec {
        workload.spec(proxy.address_for(workload), &proxy.client, &self.certificate.der)
    }

    fn generator(
        &self,
        index: usize,
        workload: Workload,
        rate: Option<f64>,
    ) -> Result<Box<dyn Generator>, Failure> {
        let proxy = self.proxies[index].as_ref().ok_or_else(|| Failure::new("it does not run"))?;
        if workload == Workload::Http2 {
            return Ok(Box::new(H2load {
                program: self.h2load.clone().ok_or_else(|| Failure::new("h2load not found"))?,
                placement: self.placement,
                guard: Rc::clone(&self.guard),
                address: proxy.address_for(workload),
                client: proxy.client.clone(),
            }));
        }
        let pace = rate.map_or(Pace::Greedy, Pace::PerSecond);
        let spec = Spec { pace, ..self.spec(proxy, workload) };
        // Everybody was there once: has a cookie where cookies are kept, a ticket where sessions are resumed.
        let first_answers = spec.clients.len().max(spec.connections) as u64;
        let load = Load::start(&spec, self.placement, &self.guard)?;
        Ok(Box::new(Own { load, workload, rate, first_answers }))
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
    pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    pinned
}

pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))
}
