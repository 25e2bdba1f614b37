//! What so many apps and backends cost at start, reload, restart, and to those who ask for status and metrics.

use std::time::{Duration, Instant};

use crate::backend::Backends;
use crate::client::Witness;
use crate::fleet::Fleet;
use crate::homing::{self, Homing};
use crate::table::{Plot, Table};
use crate::{Outcome, Plan};

const FLEETS: [(usize, usize); 6] =
    [(10, 2), (1_000, 2), (1, 1_000), (1_000, 100), (10_000, 2), (100_000, 2)];

/// How long the witness watches before anything happens, so that its own pauses are known.
const CALM: Duration = Duration::from_secs(2);

pub(crate) fn measure(plan: &Plan) -> Outcome<Table> {
    let backends = Backends::start(1_000)?;
    let mut rows = Vec::new();
    for size in plan.sizes(&[0, 1, 2, 3, 4, 5]) {
        let (apps, each) = FLEETS[size];
        eprintln!("size: {apps} apps of {each} backends");
        let row = one(plan, Fleet { apps, backends: each }, &backends)?;
        rows.push([vec![apps as f64, each as f64, (apps * each) as f64], row].concat());
    }
    Ok(Table {
        name: "size",
        columns: vec![
            "apps",
            "backends of each",
            "backends",
            "file, MiB",
            "check, s",
            "start, s",
            "start, processor s",
            "memory, MiB",
            "reload of one app, s",
            "reload, processor s",
            "longest answer before, ms",
            "longest answer in reloads, ms",
            "memory after reloads, MiB",
            "plan, s",
            "restart, s",
            "an answer after the restart, ms",
            "/metrics, s",
            "/metrics, MiB",
            "/status, s",
            "memory at the end, MiB",
        ],
        rows,
        plot: Plot {
            title: "Start, reload and restart: seconds, over the number of backends",
            x: 2,
            lines: &[5, 8, 14, 9],
        },
    })
}

fn one(plan: &Plan, fleet: Fleet, backends: &Backends) -> Outcome<Vec<f64>> {
    let homing = Homing::start(plan, fleet, &backends.addresses, false)?;
    let memory = homing.resident();
    let check = homing.command(&["check"])?;
    let witness = Witness::begin(homing.listener);
    std::thread::sleep(CALM);
    let calm = witness.end()?;
    let witness = Witness::begin(homing.listener);
    let mut reloads = Vec::new();
    for release in 1..=3 {
        homing.edit(release)?;
        reloads.push(homing.command(&["reload"])?);
    }
    let longest = witness.end()?;
    let after_reloads = homing.resident();
    reloads.sort_by(|one, other| one.wall.total_cmp(&other.wall));
    homing.edit(9)?;
    let planned = homing.command(&["plan"])?;
    // The witness has one connection, which the process that is replaced ends when it may: it is not asked beyond.
    let restarted = homing.command(&["restart"])?;
    let begun = Instant::now();
    let (_, metrics) = homing::get(homing.admin, "127.0.0.1", "/metrics")?;
    let metrics_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    homing::get(homing.admin, "127.0.0.1", "/status")?;
    let status_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    homing::get(homing.listener, &Fleet::host(0), "/")?;
    let first_after = begun.elapsed().as_secs_f64() * 1e3;
    Ok(vec![
        homing::length(&homing.file),
        check.wall,
        homing.started.wall,
        homing.started.processor,
        memory,
        reloads[1].wall,
        reloads[1].processor,
        calm,
        longest,
        after_reloads,
        planned.wall,
        restarted.wall,
        first_after,
        metrics_seconds,
        metrics as f64 / f64::from(1 << 20),
        status_seconds,
        homing.resident(),
    ])
}
