//! The table, for people in Markdown and for programs in JSON.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    failure::{Context, Failure},
    machine::Machine,
    plan::{Placement, Plan},
    round::{Busy, Round},
    statistic::{median, range},
    topology,
    workload::Workload,
};

/// Contestants that the others are held against.
const BASELINES: [&str; 2] = ["bare", "haproxy"];

/// An access log with fewer of the requests than this has lost some; the rest may still be on its way to the file.
const LOGGED_SHARE_MIN: f64 = 0.98;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// All rounds of a run.
pub(crate) struct Report {
    conditions: String,
    placement: Placement,
    machine: Machine,
    rounds: BTreeMap<(Workload, &'static str), Vec<Round>>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, machine: Machine) -> Self {
        let Plan { rounds, seconds, placement, .. } = plan;
        let conditions =
            format!("{rounds} rounds of {seconds} s, 64 connections, {}", placement.describe());
        Self { conditions, placement: *placement, machine, rounds: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, contestant: &'static str, workload: Workload, round: Round) {
        self.rounds.entry((workload, contestant)).or_default().push(round);
    }

    pub(crate) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, programs } = &self.machine;
        let mut text =
            format!("{processor}, {cores} cores, Linux {kernel}; {}.\n\n", self.conditions);
        for (name, description) in programs {
            text += &format!("- {name}: {description}\n");
        }
        for workload in Workload::ALL {
            let rows: String = self.names().filter_map(|name| self.row(workload, name)).collect();
            if !rows.is_empty() {
                text += &format!("\n## {}\n\n{HEADING}{rows}", workload.name());
            }
        }
        text
    }

    /// Writes both tables to `target/compare/` and says so.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let directory = topology::target_directory().join("compare");
        for (name, text) in
            [("table.md", self.markdown()), ("table.json", format!("{:#}\n", self.json()))]
        {
            let path = directory.join(name);
            fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
            eprintln!("written: {}", path.display());
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.machine.programs.iter().map(|(name, _)| *name)
    }

    fn row(&self, workload: Workload, name: &'static str) -> Option<String> {
        let rounds = self.rounds.get(&(workload, name))?;
        if let Some(reason) = first_void(rounds) {
            return Some(format!("| {name} | void | | | | | | | | | | {reason} |\n"));
        }
        let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        let (least, greatest) = range(rounds.iter().map(|it| it.processor_us));
        let ratios = BASELINES.map(|baseline| {
            self.ratio(workload, name, baseline)
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        });
        let busy = usual_busy(rounds);
        Some(format!(
            "| {name} | {:.1} | {:.1} | {least:.1} to {greatest:.1} | {} | {} | {:.0} | {:.2} | {:.2} | {:.0} | \
             {:.0} / {:.0} / {:.0} | {} |\n",
            middle(|it| it.processor_us),
            middle(|it| it.user_us),
            ratios[0],
            ratios[1],
            middle(|it| it.requests_per_s),
            middle(|it| milliseconds(it.p50)),
            middle(|it| milliseconds(it.p99)),
            middle(|it| it.resident_bytes as f64 / MEBIBYTE),
            busy.proxy * 100.0,
            busy.generator * 100.0,
            busy.backends * 100.0,
            self.remarks(rounds).join(", "),
        ))
    }

    /// The median over the rounds of this proxy's cost by the baseline's in the same round: a machine that is slower
    /// for a minute slows both.
    fn ratio(&self, workload: Workload, name: &'static str, baseline: &'static str) -> Option<f64> {
        let ours = self.rounds.get(&(workload, name))?;
        let theirs =
            self.rounds.get(&(workload, baseline)).filter(|rounds| first_void(rounds).is_none())?;
        Some(median(
            ours.iter().zip(theirs).map(|(our, their)| our.processor_us / their.processor_us),
        ))
    }

    fn remarks(&self, rounds: &[Round]) -> Vec<String> {
        let remarks = usual_busy(rounds).remarks(self.placement);
        let mut remarks: Vec<String> = remarks.into_iter().map(str::to_owned).collect();
        let logged =
            rounds.last().and_then(|it| it.logged_share).filter(|share| *share < LOGGED_SHARE_MIN);
        remarks.extend(
            logged.map(|share| format!("only {:.0} % of the requests in the log", share * 100.0)),
        );
        remarks
    }

    fn json(&self) -> Value {
        let Machine { processor, cores, kernel, programs } = &self.machine;
        let row = |((workload, name), rounds): (&(Workload, &'static str), &Vec<Round>)| {
            json!({
                "workload": workload.name(),
                "proxy": name,
                "void": first_void(rounds),
                "remarks": self.remarks(rounds),
                "processor_us": median(rounds.iter().map(|it| it.processor_us)),
                "ratio_to_bare": self.ratio(*workload, name, BASELINES[0]),
                "ratio_to_haproxy": self.ratio(*workload, name, BASELINES[1]),
                "rounds": rounds.iter().map(round_json).collect::<Vec<_>>(),
            })
        };
        json!({
            "processor": processor,
            "cores": cores,
            "kernel": kernel,
            "conditions": self.conditions,
            "proxies": programs.iter().map(|(name, description)| json!({ "name": name, "description": description }))
                .collect::<Vec<_>>(),
            "rows": self.rounds.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

const HEADING: &str = "\
| proxy | us a request | of which user | least to most | to bare | to haproxy | requests/s | p50 ms | p99 ms | MiB | \
busy % proxy / generator / backends | remarks |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |
";

fn first_void(rounds: &[Round]) -> Option<String> {
    rounds.iter().find_map(Round::void)
}

fn usual_busy(rounds: &[Round]) -> Busy {
    let middle = |figure: fn(&Busy) -> f64| median(rounds.iter().map(|it| figure(&it.busy)));
    Busy {
        proxy: middle(|it| it.proxy),
        generator: middle(|it| it.generator),
        backends: middle(|it| it.backends),
        // Not the median: one disturbed round is worth knowing of.
        others: rounds.iter().map(|it| it.busy.others).fold(0.0, f64::max),
    }
}

fn round_json(round: &Round) -> Value {
    let Round {
        processor_us,
        user_us,
        requests_per_s,
        p50,
        p99,
        resident_bytes,
        busy,
        failures: _,
        moved,
        logged_share,
    } = round;
    json!({
        "processor_us": processor_us,
        "user_us": user_us,
        "requests_per_s": requests_per_s,
        "p50_ms": milliseconds(*p50),
        "p99_ms": milliseconds(*p99),
        "resident_bytes": resident_bytes,
        "busy": { "proxy": busy.proxy, "generator": busy.generator, "backends": busy.backends, "others": busy.others },
        "moved": moved,
        "void": round.void(),
        "logged_share": logged_share,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
