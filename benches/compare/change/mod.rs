//! The same load while something changes: what nobody publishes of load balancers.
//!
//! ```text
//! cargo bench --bench compare -- --change [SCENARIO,...] [OPTIONS]
//! ```
//!
//! The method is in `docs/change.md`. In reading order: [`scenario`] is what changes and when, [`wanted`] what an edge
//! is told, [`edge`] how each is told it, [`run`] one run, [`ledger`] the judgement, [`report`] the table.

mod backends;
mod busy;
mod daemon;
mod edge;
mod ledger;
mod plan;
mod report;
mod run;
mod scenario;
mod selfcheck;
mod traffic;
mod wanted;

use std::{fs, path::PathBuf, process, rc::Rc};

use self::{
    backends::Backends,
    edge::{CONTESTANTS, Contestant},
    report::Report,
    run::Stage,
    wanted::BACKENDS,
};
pub(crate) use self::{
    plan::{HELP, Plan, parse},
    selfcheck::checks,
};
use crate::{
    failure::{Context, Failure},
    guard::Guard,
    machine::Machine,
    port, tool, topology,
};

/// Backends: those of the start, and the one of the scale-up.
const BACKENDS_MAX: usize = BACKENDS + 1;

/// A contestant and its program.
type Entrant = (&'static Contestant, PathBuf);

/// Runs everybody through everything, and writes the table.
pub(crate) fn measure(plan: &Plan) -> Result<(), Failure> {
    let entrants = entrants(plan)?;
    let directory = topology::target_directory().join(format!("compare/change-{}", process::id()));
    fs::create_dir_all(&directory).context(|| format!("cannot make {}", directory.display()))?;
    let programs = entrants.iter().map(|(it, program)| (it.name, it.describe(program))).collect();
    let machine = Machine { programs, ..Machine::read(&[]) };
    let mut report = Report::new(plan, machine);
    run_rounds(plan, &entrants, directory.clone(), &mut report)?;
    // After a failure the configurations and the words of the processes are wanted.
    fs::remove_dir_all(&directory).context(|| format!("cannot remove {}", directory.display()))?;
    report.write()
}

/// Every round runs every contestant once through each scenario, and starts with another one than the round before.
fn run_rounds(
    plan: &Plan,
    entrants: &[Entrant],
    directory: PathBuf,
    report: &mut Report,
) -> Result<(), Failure> {
    let guard = Rc::new(Guard::start()?);
    let addresses = port::fixed_addresses::<BACKENDS_MAX>()?.to_vec();
    let backends = Backends::start(&directory, addresses, plan.placement, &guard)?;
    let mut stage = Stage { plan, backends, directory, guard };
    for round in 0..plan.rounds {
        for scenario in &plan.scenarios {
            for step in 0..entrants.len() {
                let (contestant, program) = &entrants[(round + step) % entrants.len()];
                if (contestant.cannot)(*scenario).is_some() {
                    continue;
                }
                let name = contestant.name;
                let run = stage.run(contestant, program, *scenario);
                let run = run.context(|| format!("{name}, {}", scenario.name()))?;
                eprintln!(
                    "round {} of {}: {}: {name}: {run}",
                    round + 1,
                    plan.rounds,
                    scenario.name()
                );
                report.add(name, *scenario, run);
                // Half an hour is long; what is known so far can be read meanwhile.
                report.save()?;
            }
        }
    }
    Ok(())
}

/// Those that were asked for, or all that are there.
fn entrants(plan: &Plan) -> Result<Vec<Entrant>, Failure> {
    let wanted = |it: &&Contestant| {
        plan.only.is_empty() || plan.only.iter().any(|named| named.name == it.name)
    };
    let wanted: Vec<&'static Contestant> = CONTESTANTS.iter().filter(wanted).collect();
    let missing = wanted.iter().filter(|it| it.locate(&plan.programs).is_none());
    let packages = missing.filter_map(|it| it.package);
    let packages: Vec<(&str, &str)> = packages.map(|it| (it, it)).collect();
    tool::install_missing(&packages)?;
    let mut entrants = Vec::new();
    for contestant in wanted {
        match contestant.locate(&plan.programs) {
            Some(program) => entrants.push((contestant, program)),
            None if plan.only.is_empty() => {
                eprintln!("{0} is not here; give it with `--program {0}=PATH`", contestant.name);
            }
            None => {
                return Err(Failure::new(format!("{} not found", contestant.name)));
            }
        }
    }
    Ok(entrants)
}
