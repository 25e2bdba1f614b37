//! The command line, including what `cargo bench` and `cargo test` add to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    backends, change,
    contestant::CONTESTANTS,
    failure::{Context, Failure},
    load,
    plan::{Placement, Plan},
    topology,
    workload::Workload,
};

pub(crate) const HELP: &str = "\
usage: cargo bench --bench compare [-- OPTIONS]

  --rounds N            rounds for every proxy and workload (default 5)
  --seconds S           length of a round in seconds (default 4)
  --quick               one round of one second: does it work at all?
  --only NAME,...       homing, homing-log, homing-spread, homing-before, bare, bare-forwarding, bare-stealing, haproxy,
                        nginx, haproxy-newer, nginx-newer, sozu, envoy, caddy, traefik
                        (default: all that are there, but homing-before)
  --workload NAME,...   followed, new-client, new-connection, latency, tls, tls-new, tls-resumed, h2, upload,
                        download-1m, download-100m, websocket, apps, idle, idle-tls (default all)
  --rate N              requests a second of `latency` (default: half of what the slowest can do)
  --program NAME=PATH   use this program as homing, before, bare, haproxy, nginx, haproxy-newer, nginx-newer,
                        sozu, envoy, caddy, traefik or h2load
  --free                let the scheduler place everybody (default: the proxy has a core of its own)
  --help                this text";

/// What the caller wants.
pub(crate) enum Wish {
    /// Check the readers of other programs' output, in milliseconds and without a process: for `cargo test`.
    Check,
    /// Be the generator, for another process of ours.
    Generate,
    /// Be the backends at these addresses, for another process of ours.
    Serve(Vec<String>),
    Help,
    Measure(Box<Plan>),
    /// Measure while something changes.
    Change(Box<change::Plan>),
    /// A filter of `cargo bench FILTER` that does not mean us.
    Nothing,
}

/// Understands the options above, and three words of cargo: `--bench` (from `cargo bench`; without it we are part of
/// `cargo test`, which must stay cheap), `--test` (the same said aloud) and a filter of names.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Wish, Failure> {
    let mut plan = default_plan();
    let mut wish_check = true;
    let arguments: Vec<String> = arguments.collect();
    if arguments.iter().any(|it| it == "--help") {
        return Ok(Wish::Help);
    }
    if let Some(plan) = change::parse(&arguments) {
        return plan.map(|plan| Wish::Change(Box::new(plan)));
    }
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| Failure::new(format!("`{argument}` needs a value; {HELP}")))
        };
        match argument.as_str() {
            "--bench" => wish_check = false,
            "--test" => return Ok(Wish::Check),
            load::ARGUMENT => return Ok(Wish::Generate),
            backends::ARGUMENT => return Ok(Wish::Serve(arguments.collect())),
            "--rounds" => plan.rounds = number(&argument, &value()?)?,
            "--seconds" => plan.seconds = number(&argument, &value()?)?,
            "--rate" => plan.rate = Some(number(&argument, &value()?)? as f64),
            "--quick" => (plan.rounds, plan.seconds) = (1, 1),
            "--only" => {
                let wanted = each(&value()?, contestant)?;
                plan.contestants =
                    CONTESTANTS.iter().filter(|it| wanted.contains(&it.name)).collect();
            }
            "--workload" => {
                let wanted = each(&value()?, workload)?;
                plan.workloads =
                    Workload::ALL.into_iter().filter(|it| wanted.contains(it)).collect();
            }
            "--program" => plan.programs.extend([program(&value()?)?]),
            "--free" => plan.placement = Placement::Free,
            filter if !filter.starts_with('-') && !"compare".contains(filter) => {
                return Ok(Wish::Nothing);
            }
            filter if !filter.starts_with('-') => {}
            unknown => return Err(Failure::new(format!("unknown option `{unknown}`\n{HELP}"))),
        }
    }
    Ok(if wish_check { Wish::Check } else { Wish::Measure(Box::new(plan)) })
}

fn default_plan() -> Plan {
    Plan {
        rounds: 5,
        seconds: 4,
        rate: None,
        contestants: CONTESTANTS.iter().filter(|it| it.program != "before").collect(),
        workloads: Workload::ALL.to_vec(),
        programs: BTreeMap::new(),
        placement: if topology::cores() > 1 { Placement::Pinned } else { Placement::Free },
    }
}

fn number(option: &str, text: &str) -> Result<usize, Failure> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Failure::new(format!(
            "expected a number from 1 on after `{option}`, found `{text}`"
        ))),
    }
}

/// Finds every name of a list; what comes of it has an order of its own.
fn each<T>(names: &str, find: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let names: BTreeSet<&str> = names.split(',').collect();
    names.into_iter().map(find).collect()
}

fn contestant(name: &str) -> Result<&'static str, Failure> {
    CONTESTANTS.iter().map(|it| it.name).find(|it| *it == name).ok_or_else(|| {
        let names: Vec<&str> = CONTESTANTS.iter().map(|it| it.name).collect();
        Failure::new(format!("expected one of {}, found `{name}`", names.join(", ")))
    })
}

fn workload(name: &str) -> Result<Workload, Failure> {
    Workload::ALL.into_iter().find(|it| it.option() == name).ok_or_else(|| {
        let names = Workload::ALL.map(Workload::option);
        Failure::new(format!("expected one of {}, found `{name}`", names.join(", ")))
    })
}

fn program(text: &str) -> Result<(String, PathBuf), Failure> {
    let (name, path) = text.split_once('=').ok_or_else(|| {
        Failure::new(format!("expected NAME=PATH after `--program`, found `{text}`"))
    })?;
    let path =
        PathBuf::from(path).canonicalize().context(|| format!("cannot use {path} as {name}"))?;
    Ok((name.to_owned(), path))
}
