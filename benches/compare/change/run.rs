//! One run: one contestant, one scenario, from the start of the edge to the judgement.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    backends::Backends,
    busy::{Busy, Spent},
    edge::{Contestant, Edge, Site},
    ledger::{self, Death, Figures, Phases},
    plan::Plan,
    scenario::{Scenario, Step},
    traffic::Traffic,
    wanted::{BACKENDS, Wanted},
};
use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel,
    load::since_epoch,
    port,
    visit::visit,
    workload::HOST,
};

/// Every client has its home long before this is over, and the edge's pools are filled.
const WARM: Duration = Duration::from_secs(2);

/// What is watched before anything changes.
const BEFORE: Duration = Duration::from_secs(4);

/// How long a new edge may take until all backends answer through it.
const START_MAX: Duration = Duration::from_secs(20);

const START_POLL: Duration = Duration::from_millis(50);

/// Visits without a cookie between two looks at who answered: with three backends, one is missed once in 100,000.
const VISITS: usize = 32;

/// What one run gave.
pub(crate) struct Run {
    pub(crate) figures: Figures,
    pub(crate) busy: Busy,
    /// Generators or backends had no time left.
    pub(crate) is_full: bool,
    /// Requests that were due and have no end yet.
    pub(crate) unanswered: u64,
}

impl Run {
    /// Whether its latencies are worth nothing.
    pub(crate) fn is_void(&self) -> bool {
        self.is_full || self.figures.generator_was_late()
    }
}

/// What all runs share.
pub(crate) struct Stage<'s> {
    pub(crate) plan: &'s Plan,
    pub(crate) backends: Backends,
    pub(crate) directory: PathBuf,
    pub(crate) guard: Rc<Guard>,
}

impl Stage<'_> {
    /// Starts the contestant, loads it, changes what the scenario says, and judges.
    pub(crate) fn run(
        &mut self,
        contestant: &Contestant,
        program: &Path,
        scenario: Scenario,
    ) -> Result<Run, Failure> {
        let directory = self.directory.join(format!("{}-{}", contestant.name, scenario.name()));
        // A run of an earlier round may have left its state.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)
            .context(|| format!("cannot make {}", directory.display()))?;
        let [listen, admin] = port::fixed_addresses::<2>()?;
        let site = Site {
            program: program.to_owned(),
            directory,
            listen,
            admin,
            placement: self.plan.placement,
            guard: Rc::clone(&self.guard),
        };
        let mut wanted = Wanted::new(self.backends.addresses.clone());
        let mut edge = (contestant.start)(site, &wanted)?;
        await_all(edge.as_mut(), listen)?;
        let traffic = Traffic::start(self.plan, listen, &self.guard)?;
        self.watch(edge.as_mut(), &mut wanted, traffic, scenario)
    }

    fn watch(
        &mut self,
        edge: &mut dyn Edge,
        wanted: &mut Wanted,
        mut traffic: Traffic,
        scenario: Scenario,
    ) -> Result<Run, Failure> {
        let clock = Clock::start();
        clock.sleep_until(WARM);
        let spent = self.spent(edge, &traffic);
        let changes = WARM + BEFORE;
        let mut deaths = Vec::new();
        for (at, step) in scenario.steps(self.plan.seconds) {
            clock.sleep_until(changes + at);
            let from = clock.now();
            self.take(step, edge, wanted)?;
            let port = self.backends.addresses[0].port();
            match step {
                Step::Kill => deaths.push(Death { backend: port, from, to: Duration::MAX }),
                Step::Revive => deaths.iter_mut().for_each(|it: &mut Death| it.to = clock.now()),
                Step::Reload | Step::Rotate | Step::Restart | Step::ScaleUp => {}
            }
        }
        clock.sleep_until(changes + Duration::from_secs(self.plan.seconds as u64));
        edge.check_alive()?;
        let busy = self.spent(edge, &traffic).since(&spent);
        let end = traffic.end(clock.epoch)?;
        let figures = ledger::judge(&end.samples, &deaths, Phases { warm: WARM, changes });
        let is_full = busy.is_full_beside(self.plan.placement);
        Ok(Run { figures, busy, is_full, unanswered: end.unanswered })
    }

    fn take(
        &mut self,
        step: Step,
        edge: &mut dyn Edge,
        wanted: &mut Wanted,
    ) -> Result<(), Failure> {
        let took = match step {
            Step::Reload | Step::Rotate | Step::ScaleUp => {
                *wanted = wanted.after(step);
                edge.apply(wanted)
            }
            Step::Restart => edge.restart(),
            Step::Kill => {
                self.backends.kill(0);
                Ok(())
            }
            Step::Revive => self.backends.revive(0),
        };
        took.map_err(|cause| Failure::new(format!("{step:?}: {cause}\n{}", edge.last_words())))
    }

    fn spent(&self, edge: &dyn Edge, traffic: &Traffic) -> Spent {
        Spent {
            at: Instant::now(),
            machine: kernel::machine_busy(),
            edge: edge.processor_time().total(),
            generator: traffic.processor_time(),
            backends: self.backends.processor_time().total(),
        }
    }
}

/// The time of one run, which can be compared with that of the generators.
struct Clock {
    start: Instant,
    /// The start, since the epoch of Unix.
    epoch: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), epoch: since_epoch() }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, at: Duration) {
        sleep(at.saturating_sub(self.now()));
    }
}

/// Waits until each backend has answered through the edge, which may have to probe them first.
fn await_all(edge: &mut dyn Edge, listen: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + START_MAX;
    let mut seen = BTreeSet::new();
    while seen.len() < BACKENDS {
        edge.check_alive()?;
        if Instant::now() > deadline {
            let words = edge.last_words();
            return Err(Failure::new(format!(
                "only {} of {BACKENDS} backends answer through it after {START_MAX:?}\n{words}",
                seen.len()
            )));
        }
        let visits = (0..VISITS).map_while(|_| visit(listen, HOST, None).ok());
        seen.extend(visits.filter(|it| it.status == 200).filter_map(|it| it.backend));
        sleep(START_POLL);
    }
    Ok(())
}
