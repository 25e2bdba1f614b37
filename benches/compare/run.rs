//! The order of things: setups, warm-up, rounds, the table.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cast::{self, Member},
    contestant::Presence,
    failure::Failure,
    plan::Plan,
    report::Report,
    topology::Topology,
    workload::{Method, Setup, Workload},
};

/// Warms up, and shows what a proxy can do.
const WARM_UP: Duration = Duration::from_secs(1);

/// The part of what the slowest can do at which latencies are measured.
const RATE_SHARE: f64 = 0.5;

/// Open files that a process with ten thousand connections and as many to backends needs.
const OPEN_FILES: u64 = 65_536;

/// Measures, prints and stores what the plan says.
pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    raise_open_files();
    let cast = cast::gather(plan)?;
    let mut report = Report::new(plan, &cast);
    for setup in [Setup::Shop, Setup::Apps] {
        let workloads = plan.workloads.iter().copied().filter(|it| it.setup() == setup);
        let workloads: Vec<Workload> = workloads.collect();
        if !workloads.is_empty() {
            let topology = Topology::start(plan, &cast, setup)?;
            Stage { plan, cast: &cast, workloads, topology, report: &mut report }.play()?;
        }
    }
    println!("{}", report.markdown());
    report.write()
}

/// One setup.
struct Stage<'s> {
    plan: &'s Plan,
    cast: &'s [Member],
    workloads: Vec<Workload>,
    topology: Topology<'s>,
    report: &'s mut Report,
}

impl Stage<'_> {
    fn play(mut self) -> Result<(), Failure> {
        self.start_proxies()?;
        self.warm_up();
        for number in 0..self.plan.rounds {
            self.round(number);
        }
        // Without its processes' logs a failure cannot be understood, so the directory stays then.
        self.topology.clean_up()
    }

    /// Starts everybody who has a part in more than memory, for which each is started anew.
    fn start_proxies(&mut self) -> Result<(), Failure> {
        let rounds = self.workloads.iter().filter(|it| it.method() != Method::Memory);
        let rounds: Vec<Workload> = rounds.copied().collect();
        for (index, member) in self.cast.iter().enumerate() {
            let contestant = member.contestant;
            if rounds.iter().all(|it| (contestant.lacks)(*it).is_some()) {
                continue;
            }
            match self.topology.enter(index) {
                Ok(()) => {}
                Err(failure) if contestant.presence == Presence::Needed => return Err(failure),
                Err(failure) => {
                    for workload in &rounds {
                        self.report.add_failure(contestant.name, *workload, &failure);
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills pools, caches and branch predictors: the first second of a proxy is not its usual one.
    fn warm_up(&mut self) {
        for workload in self.workloads.clone() {
            match workload.method() {
                Method::Memory => {}
                Method::Cost => {
                    for index in self.players(workload) {
                        // What goes wrong now will go wrong again, where it is told.
                        let _ = self.topology.round(index, workload, None, WARM_UP);
                    }
                }
                Method::Rate if self.report.rate.is_none() => self.find_rate(workload),
                Method::Rate => {}
            }
        }
    }

    /// Asks everybody for all they can do, for a second.
    fn find_rate(&mut self, workload: Workload) {
        let mut slowest = f64::INFINITY;
        for index in self.players(workload) {
            let round = self.topology.round(index, Workload::CookieFollowed, None, WARM_UP);
            if let Ok(round) = round.as_ref()
                && round.void.is_none()
            {
                slowest = slowest.min(round.units_per_s);
            }
        }
        self.report.rate = slowest.is_finite().then(|| (slowest * RATE_SHARE).floor().max(1.0));
    }

    /// Measures every proxy once for each workload, and starts with another proxy than the round before, so that a
    /// machine that drifts, or a neighbour that always comes second, favours nobody.
    fn round(&mut self, number: usize) {
        for workload in self.workloads.clone() {
            let mut players = self.players(workload);
            let count = players.len().max(1);
            players.rotate_left(number % count);
            for index in players {
                let name = self.cast[index].contestant.name;
                let told = self.measure(index, workload);
                eprintln!(
                    "round {} of {}: {}: {name}: {told}",
                    number + 1,
                    self.plan.rounds,
                    workload.name()
                );
            }
        }
    }

    /// Measures one proxy once, and says what came of it.
    fn measure(&mut self, index: usize, workload: Workload) -> String {
        let name = self.cast[index].contestant.name;
        let Self { topology, report, plan, .. } = self;
        let told = if workload.method() == Method::Memory {
            topology.memory(index, workload).map(|memory| {
                let told = memory.to_string();
                report.add_memory(name, workload, memory);
                told
            })
        } else {
            let rate = report.rate.filter(|_| workload.method() == Method::Rate);
            let duration = Duration::from_secs(plan.seconds as u64);
            topology.round(index, workload, rate, duration).map(|round| {
                let told = round.to_string();
                report.add(name, workload, round);
                told
            })
        };
        told.unwrap_or_else(|failure| {
            report.add_failure(name, workload, &failure);
            "void".to_owned()
        })
    }

    /// Who has a part in a workload, and runs.
    fn players(&self, workload: Workload) -> Vec<usize> {
        let has_part = |index: &usize| {
            let lacks = (self.cast[*index].contestant.lacks)(workload).is_some();
            !lacks && (workload.method() == Method::Memory || self.topology.runs(*index))
        };
        (0..self.cast.len()).filter(has_part).collect()
    }
}

/// Lets our children have many connections: as many as may be, if not as many as are needed.
fn raise_open_files() {
    let wanted = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    let limits = getrlimit(Resource::Nofile);
    let is_enough = limits.current.is_none_or(|it| it >= OPEN_FILES);
    if !is_enough && setrlimit(Resource::Nofile, wanted).is_err() {
        // Only root may have more than the maximum; a row that needs it will be void.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
    }
}
