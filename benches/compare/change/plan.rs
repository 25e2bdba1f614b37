//! What to measure: the answer to what follows `--change` on the command line.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    edge::{CONTESTANTS, Contestant},
    scenario::{SECONDS_MIN, Scenario},
};
use crate::{
    failure::{Context, Failure},
    plan::Placement,
    topology,
};

pub(crate) const HELP: &str = "\
usage: cargo bench --bench compare -- --change [SCENARIO,...] [OPTIONS]

scenarios: quiet, reloads, backend-dies, keys-rotate, restart, scale-up (default all)

  --rounds N            rounds for every edge and scenario (default 3)
  --seconds S           length of the time with changes, from 16 (default 20)
  --quick               one round of 16 seconds
  --rate N              requests a second (default 2000)
  --clients N           clients, each with a cookie of its own (default 600)
  --only NAME,...       of homing, haproxy, nginx, envoy, caddy (default all that are there)
  --program NAME=PATH   use this program as one of them
  --free                let the scheduler place everybody (default: the edge has a core of its own)";

/// One run of the comparison under change.
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rounds: usize,
    /// The time with changes in one run, in seconds.
    pub(crate) seconds: usize,
    /// Requests a second, at even distances.
    pub(crate) rate: usize,
    pub(crate) clients: usize,
    /// Who was asked for by name; empty for all that are there.
    pub(crate) only: Vec<&'static Contestant>,
    pub(crate) programs: BTreeMap<String, PathBuf>,
    pub(crate) placement: Placement,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            scenarios: Scenario::ALL.to_vec(),
            rounds: 3,
            seconds: 20,
            rate: 2000,
            clients: 600,
            only: vec![],
            programs: BTreeMap::new(),
            placement: if topology::cores() > 1 { Placement::Pinned } else { Placement::Free },
        }
    }
}

/// Understands the command line when it says `--change`, otherwise gives none.
pub(crate) fn parse(arguments: &[String]) -> Option<Result<Plan, Failure>> {
    arguments.iter().any(|it| it == "--change").then(|| parse_all(arguments))
}

fn parse_all(arguments: &[String]) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut arguments = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--change" {
            if let Some(names) = arguments.next_if(|it| !it.starts_with('-')) {
                plan.scenarios = scenarios(names)?;
            }
            continue;
        }
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| Failure::new(format!("`{argument}` needs a value\n{HELP}")))
        };
        match argument {
            // From `cargo bench`.
            "--bench" => {}
            "--rounds" => plan.rounds = number(argument, value()?, 1)?,
            "--seconds" => plan.seconds = number(argument, value()?, SECONDS_MIN)?,
            "--quick" => (plan.rounds, plan.seconds) = (1, SECONDS_MIN),
            "--rate" => plan.rate = number(argument, value()?, 100)?,
            "--clients" => plan.clients = number(argument, value()?, 10)?,
            "--only" => {
                plan.only = value()?.split(',').map(contestant).collect::<Result<_, _>>()?
            }
            "--program" => plan.programs.extend([program(value()?)?]),
            "--free" => plan.placement = Placement::Free,
            unknown => return Err(Failure::new(format!("unknown option `{unknown}`\n{HELP}"))),
        }
    }
    Ok(plan)
}

fn number(option: &str, text: &str, least: usize) -> Result<usize, Failure> {
    text.parse().ok().filter(|number| *number >= least).ok_or_else(|| {
        Failure::new(format!("expected a number from {least} on after `{option}`, found `{text}`"))
    })
}

/// The scenarios of a list, in the order of the table.
fn scenarios(names: &str) -> Result<Vec<Scenario>, Failure> {
    let known = Scenario::ALL.map(Scenario::name);
    if let Some(unknown) = names.split(',').find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Failure::new(format!("expected some of {known}, found `{unknown}`")));
    }
    let is_named = |it: &Scenario| names.split(',').any(|name| name == it.name());
    Ok(Scenario::ALL.into_iter().filter(is_named).collect())
}

fn contestant(name: &str) -> Result<&'static Contestant, Failure> {
    CONTESTANTS.iter().find(|it| it.name == name).ok_or_else(|| {
        let names: Vec<&str> = CONTESTANTS.iter().map(|it| it.name).collect();
        Failure::new(format!("expected one of {}, found `{name}`", names.join(", ")))
    })
}

fn program(text: &str) -> Result<(String, PathBuf), Failure> {
    let (name, path) = text.split_once('=').ok_or_else(|| {
        Failure::new(format!("expected NAME=PATH after `--program`, found `{text}`"))
    })?;
    contestant(name)?;
    let path = PathBuf::from(path);
    let path =
        path.canonicalize().context(|| format!("cannot use {} as {name}", path.display()))?;
    Ok((name.to_owned(), path))
}
