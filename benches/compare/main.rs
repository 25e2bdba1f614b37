//! Side by side with its peers: what a request costs each proxy in processor time, on this machine, in one run.
//!
//! ```text
//! cargo bench --bench compare [-- OPTIONS]
//! ```
//!
//! The method, the options and how to read the table are in `README.md` next to this file. In reading order:
//! [`contestant`] is who runs and with which configuration, [`workload`] what they are asked for, [`round`] one
//! measurement, [`report`] the table; [`kernel`] and [`load`] are where the figures come from.

#![allow(clippy::print_stdout, reason = "the table is the product of this program")]
#![allow(clippy::disallowed_methods, reason = "time is what it measures")]

mod arguments;
mod backends;
mod change;
mod contestant;
mod failure;
mod guard;
mod kernel;
mod load;
mod machine;
mod plan;
mod port;
mod process;
mod proxy;
mod report;
mod round;
mod selfcheck;
mod statistic;
mod tool;
mod topology;
mod visit;
mod workload;

use std::process::ExitCode;

use arguments::Wish;
use failure::Failure;
use plan::Plan;
use report::Report;
use topology::Topology;

fn main() -> ExitCode {
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Ok(Wish::Check) => selfcheck::run(),
        Ok(Wish::Generate) => load::run(),
        Ok(Wish::Help) => {
            println!("{}\n\n{}", arguments::HELP, change::HELP);
            Ok(())
        }
        Ok(Wish::Measure(plan)) => measure(&plan),
        Ok(Wish::Change(plan)) => change::measure(&plan),
        Ok(Wish::Nothing) => Ok(()),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<(), Failure> {
    let mut topology = Topology::start(plan)?;
    let mut report = Report::new(plan, topology.machine());
    let rounds =
        warm_up(&mut topology, plan).and_then(|()| run_rounds(&mut topology, plan, &mut report));
    // Without its processes' logs a failure cannot be understood, so the directory stays then.
    rounds.and_then(|()| topology.clean_up())?;
    println!("{}", report.markdown());
    report.write()
}

/// Fills pools, caches and branch predictors: the first second of a proxy is not its usual one.
fn warm_up(topology: &mut Topology, plan: &Plan) -> Result<(), Failure> {
    for workload in &plan.workloads {
        for index in 0..topology.len() {
            topology.round(index, *workload, 1)?;
        }
    }
    Ok(())
}

/// Every round measures every proxy once for each workload, and starts with another proxy than the round before, so
/// that a machine that drifts, or a neighbour that always comes second, favours nobody.
fn run_rounds(topology: &mut Topology, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    for number in 0..plan.rounds {
        for workload in &plan.workloads {
            for step in 0..topology.len() {
                let index = (number + step) % topology.len();
                let round = topology.round(index, *workload, plan.seconds)?;
                let name = topology.name(index);
                eprintln!(
                    "round {} of {}: {}: {name}: {round}",
                    number + 1,
                    plan.rounds,
                    workload.name()
                );
                report.add(name, *workload, round);
            }
        }
    }
    Ok(())
}
