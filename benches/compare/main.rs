//! Side by side with its peers: what a request costs each proxy in processor time, on this machine, in one run.
//!
//! ```text
//! cargo bench --bench compare [-- OPTIONS]
//! ```
//!
//! The method, the options and how to read the table are in `README.md` next to this file. In reading order:
//! [`contestant`] is who runs and with which configuration, [`workload`] what they are asked for, [`run`] the order of
//! things, [`round`] one measurement, [`report`] the table; [`kernel`] and [`load`] are where the figures come from.

#![allow(clippy::print_stdout, reason = "the table is the product of this program")]
#![allow(clippy::disallowed_methods, reason = "time is what it measures")]

mod arguments;
mod backends;
mod cast;
mod certificate;
mod change;
mod contestant;
mod failure;
mod guard;
mod h2load;
mod kernel;
mod load;
mod machine;
mod memory;
mod plan;
mod port;
mod process;
mod proxy;
mod report;
mod round;
mod run;
mod selfcheck;
mod statistic;
mod table;
mod tool;
mod topology;
mod visit;
mod workload;

use std::process::ExitCode;

use arguments::Wish;

fn main() -> ExitCode {
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Ok(Wish::Check) => selfcheck::run(),
        Ok(Wish::Generate) => load::run(),
        Ok(Wish::Help) => {
            println!("{}\n\n{}", arguments::HELP, change::HELP);
            Ok(())
        }
        Ok(Wish::Measure(plan)) => run::run(&plan),
        Ok(Wish::Change(plan)) => change::measure(&plan),
        Ok(Wish::Serve(addresses)) => backends::run(addresses),
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
