//! What it costs to probe so many backends, and whether they are probed evenly.

use std::time::Duration;

use crate::backend::{Backends, SLICE_MS};
use crate::fleet::Fleet;
use crate::homing::Homing;
use crate::table::{Plot, Table};
use crate::{Outcome, Plan};

/// Backends of one app.
const EACH: usize = 10;

/// The interval of probes, in seconds: that of the file.
const INTERVAL: u64 = 5;

pub(crate) fn measure(plan: &Plan) -> Outcome<Table> {
    let backends = Backends::start(EACH)?;
    let mut rows = Vec::new();
    for count in plan.sizes(&[10, 100, 1_000, 10_000]) {
        eprintln!("probes: {count} backends");
        let fleet = Fleet { apps: count / EACH, backends: EACH };
        let unprobed = Homing::start(plan, fleet, &backends.addresses, false)?.resident();
        let homing = Homing::start(plan, fleet, &backends.addresses, true)?;
        // The first probes are close together, so that first verdicts are soon there.
        std::thread::sleep(Duration::from_secs(3 * INTERVAL));
        backends.take_probes();
        let before = homing.processor();
        let seconds = plan.seconds(4 * INTERVAL);
        std::thread::sleep(Duration::from_secs(seconds));
        let processor = homing.processor() - before;
        let slices = backends.take_probes();
        let total: u64 = slices.iter().sum();
        let per_slice = count as f64 / INTERVAL as f64 / (1e3 / SLICE_MS as f64);
        let most = slices.iter().max().copied().unwrap_or_default();
        rows.push(vec![
            count as f64,
            total as f64 / seconds as f64,
            processor / seconds as f64 * 1e3,
            processor * 1e6 / total.max(1) as f64,
            most as f64,
            per_slice,
            homing.resident() - unprobed,
            (homing.resident() - unprobed) * 1024.0 / count as f64,
        ]);
    }
    Ok(Table {
        name: "probes",
        columns: vec![
            "probed backends",
            "probes a second",
            "processor, ms a second",
            "processor, us a probe",
            "most probes in 100 ms",
            "fair share of 100 ms",
            "memory, MiB",
            "memory, KiB a backend",
        ],
        rows,
        plot: Plot {
            title: "Probes every 5 seconds: processor time, over the number of probed backends",
            x: 0,
            lines: &[2, 3],
        },
    })
}
