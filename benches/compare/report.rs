//! All that was measured, for people in Markdown and for programs in JSON.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::{
    cast::Member,
    failure::{Context, Failure},
    machine::Machine,
    memory::Memory,
    plan::{Placement, Plan},
    round::{Busy, Round},
    statistic::median,
    table::table,
    topology,
    workload::{CONNECTIONS, Workload},
};

/// Contestants that the others are held against.
pub(crate) const BASELINES: [&str; 2] = ["bare", "haproxy"];

/// An access log with fewer of the requests than this has lost some; the rest may still be on its way to the file.
const LOGGED_SHARE_MIN: f64 = 0.98;

type Key = (Workload, &'static str);

/// All rounds of a run.
pub(crate) struct Report {
    conditions: String,
    placement: Placement,
    machine: Machine,
    /// Requests a second of the rounds at a fixed rate.
    pub(crate) rate: Option<f64>,
    rounds: BTreeMap<Key, Vec<Round>>,
    memory: BTreeMap<Key, Vec<Memory>>,
    /// Who took no part, and why; an empty reason needs no row.
    absent: BTreeMap<Key, String>,
    /// Measurements that could not be made at all.
    failed: BTreeMap<Key, String>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, cast: &[Member]) -> Self {
        let Plan { rounds, seconds, placement, .. } = plan;
        let conditions = format!(
            "{rounds} rounds of {seconds} s, {CONNECTIONS} connections, {}",
            placement.describe()
        );
        let absent = cast.iter().flat_map(|member| {
            let lacks = |it: &Workload| Some((*it, (member.contestant.lacks)(*it)?));
            let name = member.contestant.name;
            plan.workloads
                .iter()
                .filter_map(lacks)
                .map(move |(workload, why)| ((workload, name), why.to_owned()))
        });
        Self {
            conditions,
            placement: *placement,
            machine: Machine::read(cast),
            rate: plan.rate,
            rounds: BTreeMap::new(),
            memory: BTreeMap::new(),
            absent: absent.collect(),
            failed: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, contestant: &'static str, workload: Workload, round: Round) {
        self.rounds.entry((workload, contestant)).or_default().push(round);
    }

    pub(crate) fn add_memory(
        &mut self,
        contestant: &'static str,
        workload: Workload,
        memory: Memory,
    ) {
        self.memory.entry((workload, contestant)).or_default().push(memory);
    }

    /// Says that something could not be measured; the rest of the run goes on.
    pub(crate) fn add_failure(
        &mut self,
        contestant: &'static str,
        workload: Workload,
        failure: &Failure,
    ) {
        let text = failure.to_string();
        eprintln!("{}: {contestant}: {text}", workload.name());
        let first = text.lines().next().unwrap_or_default().to_owned();
        self.failed.entry((workload, contestant)).or_insert(first);
    }

    pub(crate) fn markdown(&self) -> String {
        self.machine.heading(&self.conditions)
            + &Workload::ALL.map(|workload| table(self, workload)).concat()
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

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.machine.programs.iter().map(|(name, _)| *name)
    }

    pub(crate) fn rounds(&self, workload: Workload, name: &'static str) -> Option<&[Round]> {
        self.rounds.get(&(workload, name)).map(Vec::as_slice)
    }

    pub(crate) fn memory(&self, workload: Workload, name: &'static str) -> Option<&[Memory]> {
        self.memory.get(&(workload, name)).map(Vec::as_slice)
    }

    /// Why a contestant takes no part in a workload, if so.
    pub(crate) fn absence(&self, workload: Workload, name: &'static str) -> Option<String> {
        self.absent.get(&(workload, name)).cloned()
    }

    /// Why a row is worth nothing, if so: the first reason that any of its rounds had.
    pub(crate) fn void(&self, workload: Workload, name: &'static str) -> Option<String> {
        let of_rounds = || self.rounds(workload, name)?.iter().find_map(|it| it.void.clone());
        let of_memory = || self.memory(workload, name)?.iter().find_map(|it| it.void.clone());
        self.failed.get(&(workload, name)).cloned().or_else(of_rounds).or_else(of_memory)
    }

    /// The median over the rounds of this proxy's cost by the baseline's in the same round: a machine that is slower
    /// for a minute slows both.
    pub(crate) fn ratio(
        &self,
        workload: Workload,
        name: &'static str,
        baseline: &'static str,
    ) -> Option<f64> {
        let ours = self.rounds(workload, name)?;
        let is_good = self.void(workload, baseline).is_none();
        let theirs = self.rounds(workload, baseline).filter(|_| is_good)?;
        Some(median(
            ours.iter().zip(theirs).map(|(our, their)| our.processor_us / their.processor_us),
        ))
    }

    pub(crate) fn busy(&self, rounds: &[Round]) -> Busy {
        let middle = |figure: fn(&Busy) -> f64| median(rounds.iter().map(|it| figure(&it.busy)));
        Busy {
            proxy: middle(|it| it.proxy),
            generator: middle(|it| it.generator),
            backends: middle(|it| it.backends),
            // Not the median: one disturbed round is worth knowing of.
            others: rounds.iter().map(|it| it.busy.others).fold(0.0, f64::max),
        }
    }

    pub(crate) fn remarks(&self, workload: Workload, rounds: &[Round]) -> Vec<String> {
        let remarks = self.busy(rounds).remarks(workload, self.placement);
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
        let programs = programs.iter().map(|(name, it)| json!({ "name": name, "description": it }));
        let absent =
            self.absent.iter().chain(&self.failed).filter(|(_, reason)| !reason.is_empty());
        let absent = absent.map(|((workload, name), reason)| {
            json!({ "workload": workload.name(), "proxy": name, "reason": reason })
        });
        json!({
            "processor": processor,
            "cores": cores,
            "kernel": kernel,
            "conditions": self.conditions,
            "rate": self.rate,
            "proxies": programs.collect::<Vec<_>>(),
            "rows": self.rounds.keys().map(|key| self.row_json(*key)).collect::<Vec<_>>(),
            "memory": self.memory.keys().map(|key| self.memory_json(*key)).collect::<Vec<_>>(),
            "absent": absent.collect::<Vec<_>>(),
        })
    }

    fn row_json(&self, (workload, name): Key) -> Value {
        let rounds = self.rounds(workload, name).unwrap_or_default();
        let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        json!({
            "workload": workload.name(),
            "unit": workload.unit().singular(),
            "proxy": name,
            "void": self.void(workload, name),
            "remarks": self.remarks(workload, rounds),
            "processor_us": middle(|it| it.processor_us),
            "user_us": middle(|it| it.user_us),
            "system_us": middle(|it| it.system_us),
            "ratio_to_bare": self.ratio(workload, name, BASELINES[0]),
            "ratio_to_haproxy": self.ratio(workload, name, BASELINES[1]),
            "rounds": rounds.iter().map(round_json).collect::<Vec<_>>(),
        })
    }

    fn memory_json(&self, (workload, name): Key) -> Value {
        let measured = self.memory(workload, name).unwrap_or_default();
        let each = measured.iter().map(|it| {
            json!({
                "bytes_each": it.each_bytes,
                "bytes_before": it.before_bytes,
                "bytes_with": it.with_bytes,
                "opening_us": it.opening_us,
                "void": it.void,
            })
        });
        json!({
            "workload": workload.name(),
            "proxy": name,
            "void": self.void(workload, name),
            "bytes_each": median(measured.iter().map(|it| it.each_bytes)),
            "rounds": each.collect::<Vec<_>>(),
        })
    }
}

fn round_json(round: &Round) -> Value {
    let Round {
        processor_us,
        user_us,
        system_us,
        units_per_s,
        latency,
        resident_bytes,
        busy,
        void,
        logged_share,
    } = round;
    let latency = latency.map(|it| {
        let [p50, p99, p999, max] =
            [it.p50, it.p99, it.p999, it.max].map(|it| it.as_secs_f64() * 1e3);
        json!({ "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": max })
    });
    json!({
        "processor_us": processor_us,
        "user_us": user_us,
        "system_us": system_us,
        "units_per_s": units_per_s,
        "latency": latency,
        "resident_bytes": resident_bytes,
        "busy": { "proxy": busy.proxy, "generator": busy.generator, "backends": busy.backends, "others": busy.others },
        "void": void,
        "logged_share": logged_share,
    })
}
