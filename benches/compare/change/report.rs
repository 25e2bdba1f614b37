//! The table, for people in Markdown and for programs in JSON.

use std::{collections::BTreeMap, fmt, fmt::Display, fs, time::Duration};

use serde_json::{Value, json};

use super::{
    edge::CONTESTANTS,
    ledger::{Figures, Latency},
    plan::Plan,
    run::Run,
    scenario::Scenario,
};
use crate::{
    failure::{Context, Failure},
    load::Trouble,
    machine::Machine,
    statistic::{median, range},
    topology,
};

/// One of so many of the requests of a second may be under way at the end: 50 ms of them.
const UNANSWERED_SHARE: usize = 20;

/// All runs so far.
pub(crate) struct Report {
    conditions: String,
    /// More requests than these have no end because the edge holds them up.
    unanswered_max: u64,
    machine: Machine,
    runs: BTreeMap<(Scenario, &'static str), Vec<Run>>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, machine: Machine) -> Self {
        let Plan { rounds, seconds, rate, clients, placement, .. } = plan;
        let conditions = format!(
            "{rounds} rounds, {seconds} s with changes in each, {rate} requests/s of {clients} clients, {}",
            placement.describe()
        );
        let unanswered_max = (*rate / UNANSWERED_SHARE) as u64;
        Self { conditions, unanswered_max, machine, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, contestant: &'static str, scenario: Scenario, run: Run) {
        self.runs.entry((scenario, contestant)).or_default().push(run);
    }

    /// Prints the table, writes it, and says where.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        println!("{}", self.markdown());
        for path in self.save()? {
            eprintln!("written: {path}");
        }
        Ok(())
    }

    /// Writes both tables to `target/compare/`.
    pub(crate) fn save(&self) -> Result<Vec<String>, Failure> {
        let directory = topology::target_directory().join("compare");
        let texts =
            [("change.md", self.markdown()), ("change.json", format!("{:#}\n", self.json()))];
        let write = |(name, text): (&str, String)| {
            let path = directory.join(name);
            fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
            Ok(path.display().to_string())
        };
        texts.into_iter().map(write).collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = self.machine.heading(&self.conditions);
        for scenario in Scenario::ALL {
            let names = self.machine.programs.iter().map(|(name, _)| *name);
            let rows: String = names.filter_map(|name| self.row(scenario, name)).collect();
            if !rows.is_empty() {
                let (name, summary) = (scenario.name(), scenario.summary());
                text += &format!("\n## {name}: {summary}\n\n{HEADING}{rows}");
            }
        }
        text
    }

    fn row(&self, scenario: Scenario, name: &'static str) -> Option<String> {
        let Some(runs) = self.runs.get(&(scenario, name)) else {
            let contestant = CONTESTANTS.iter().find(|it| it.name == name)?;
            let is_measured = self.runs.keys().any(|(it, _)| *it == scenario);
            let reason = (contestant.cannot)(scenario).filter(|_| is_measured)?;
            return Some(format!("| {name} | | | | | | | | | | {reason} |\n"));
        };
        let count = |of: fn(&Figures) -> u64| spread(runs.iter().map(|it| of(&it.figures) as f64));
        let [before, during] = [|it: &Figures| it.before, |it: &Figures| it.during];
        let quiet = self.runs.get(&(Scenario::Quiet, name)).filter(|_| scenario != Scenario::Quiet);
        Some(format!(
            "| {name} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            median(runs.iter().map(|it| it.figures.requests as f64)),
            failures(runs),
            count(|it| it.repeated),
            count(|it| it.astray),
            sessions(runs),
            count(|it| it.sessions.displaced),
            latencies(runs, before),
            latencies(runs, during),
            quiet.map_or_else(|| "-".to_owned(), |runs| latencies(runs, during)),
            self.remarks(runs).join(", "),
        ))
    }

    fn remarks(&self, runs: &[Run]) -> Vec<String> {
        // One run that was disturbed is worth knowing of.
        let mut remarks: Vec<String> = Vec::new();
        for run in runs {
            let said = [
                (run.figures.generator_was_late(), "generator late".to_owned()),
                (run.is_full, "generator or backends saturated".to_owned()),
                (run.busy.is_disturbed(), "machine shared with others".to_owned()),
                (
                    run.unanswered > self.unanswered_max,
                    format!("{} unanswered at the end", run.unanswered),
                ),
            ];
            let said = said.into_iter().filter(|(applies, _)| *applies).map(|(_, remark)| remark);
            remarks.extend(said.filter(|it| !remarks.contains(it)).collect::<Vec<_>>());
        }
        remarks
    }

    fn json(&self) -> Value {
        let Machine { processor, cores, kernel, programs } = &self.machine;
        let row = |((scenario, name), runs): (&(Scenario, &'static str), &Vec<Run>)| {
            json!({
                "scenario": scenario.name(),
                "edge": name,
                "remarks": self.remarks(runs),
                "rounds": runs.iter().map(run_json).collect::<Vec<_>>(),
            })
        };
        json!({
            "processor": processor,
            "cores": cores,
            "kernel": kernel,
            "conditions": self.conditions,
            "edges": programs.iter().map(|(name, description)| json!({ "name": name, "description": description }))
                .collect::<Vec<_>>(),
            "rows": self.runs.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

const HEADING: &str = "\
| edge | requests | failed | sent again | answers astray | sessions lost (for good) | displaced | \
before: p50 / p99 / p99.9 / max ms | during | quiet | remarks |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |
";

/// Failures in all, with their kinds.
fn failures(runs: &[Run]) -> String {
    let all = spread(runs.iter().map(|it| it.figures.failed_in_all() as f64));
    let kinds = Trouble::ALL.into_iter().filter_map(|kind| {
        let count = |it: &Run| it.figures.failed.get(&kind).copied().unwrap_or(0) as f64;
        let is_any = runs.iter().any(|it| count(it) > 0.0);
        is_any.then(|| format!("{:.0} {}", median(runs.iter().map(count)), kind.name()))
    });
    let kinds: Vec<String> = kinds.collect();
    if kinds.is_empty() { all } else { format!("{all}: {}", kinds.join(", ")) }
}

fn sessions(runs: &[Run]) -> String {
    let of = |figure: fn(&Figures) -> u64| spread(runs.iter().map(|it| figure(&it.figures) as f64));
    let lost = of(|it| it.sessions.lost);
    if lost == "0" { lost } else { format!("{lost} ({})", of(|it| it.sessions.for_good)) }
}

/// Medians over the runs; the spread of p99.9 with more than one. Void when the generator or a backend was the limit in
/// most of them.
fn latencies(runs: &[Run], of: fn(&Figures) -> Latency) -> String {
    let good: Vec<&Run> = runs.iter().filter(|it| !it.is_void()).collect();
    if good.len() * 2 <= runs.len() {
        return "void".to_owned();
    }
    let middle = |figure: fn(&Latency) -> Duration| {
        median(good.iter().map(|it| milliseconds(figure(&of(&it.figures)))))
    };
    let (least, most) = range(good.iter().map(|it| milliseconds(of(&it.figures).p999)));
    let p999 = middle(|it| it.p999);
    let p999 = if good.len() > 1 {
        format!("{p999:.1} ({least:.1} to {most:.1})")
    } else {
        format!("{p999:.1}")
    };
    format!(
        "{:.2} / {:.1} / {p999} / {:.0}",
        middle(|it| it.p50),
        middle(|it| it.p99),
        middle(|it| it.max)
    )
}

/// The median, and the range where the runs differ.
fn spread(values: impl Iterator<Item = f64> + Clone) -> String {
    let (least, most) = range(values.clone());
    let middle = median(values);
    if least == most {
        format!("{middle:.0}")
    } else {
        format!("{middle:.0} ({least:.0} to {most:.0})")
    }
}

fn run_json(run: &Run) -> Value {
    let Figures { requests, failed, repeated, astray, sessions, before, during, lag } =
        &run.figures;
    let failed: BTreeMap<&str, u64> =
        failed.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    json!({
        "void": run.is_void(),
        "requests": requests,
        "unanswered": run.unanswered,
        "failed": failed,
        "sent_again": repeated,
        "astray": astray,
        "sessions": {
            "clients": sessions.clients,
            "lost": sessions.lost,
            "for_good": sessions.for_good,
            "displaced": sessions.displaced,
            "elsewhere_at_the_end": sessions.elsewhere,
        },
        "before": latency_json(before),
        "during": latency_json(during),
        "generator_late": latency_json(lag),
        "busy": {
            "edge": run.busy.edge,
            "generator": run.busy.generator,
            "backends": run.busy.backends,
            "others": run.busy.others,
        },
    })
}

fn latency_json(latency: &Latency) -> Value {
    json!({
        "p50_ms": milliseconds(latency.p50),
        "p99_ms": milliseconds(latency.p99),
        "p99.9_ms": milliseconds(latency.p999),
        "max_ms": milliseconds(latency.max),
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { requests, astray, sessions, during, .. } = &self.figures;
        write!(
            out,
            "{requests} requests, {} failed, {astray} astray, {} sessions lost, p99.9 {:.1} ms",
            self.figures.failed_in_all(),
            sessions.lost,
            milliseconds(during.p999)
        )?;
        if self.is_void() { write!(out, "; latencies void") } else { Ok(()) }
    }
}
