//! What a request costs, as apps, backends and connections grow.

use std::time::Duration;

use crate::backend::Backends;
use crate::client::{Crowd, Load};
use crate::fleet::Fleet;
use crate::homing::Homing;
use crate::table::{Plot, Table};
use crate::{Outcome, Plan};

/// Busy connections where their number is not what is measured.
const CONNECTIONS: usize = 64;

/// Rounds of one size; the median counts.
const ROUNDS: usize = 5;

/// Connections that Homing has to backends, and whatever else is open, beside two for each client: its own and ours.
const OTHER_FILES: u64 = 2_000;

/// New clients, each of the next app.
pub(crate) fn apps(plan: &Plan) -> Outcome<Table> {
    let backends = Backends::start(2)?;
    let mut rows = Vec::new();
    for apps in plan.sizes(&[10, 100, 1_000, 10_000, 100_000]) {
        eprintln!("apps: {apps}");
        let homing = Homing::start(plan, Fleet { apps, backends: 2 }, &backends.addresses, false)?;
        let address = homing.listener;
        let load = Load { address, connections: CONNECTIONS, apps, follows: false };
        rows.push(measured(plan, &homing, load, apps)?);
    }
    Ok(table("apps", "apps", "A request of a new client, each to the next app", rows))
}

/// Clients of one app that come back.
pub(crate) fn backends(plan: &Plan) -> Outcome<Table> {
    let mut rows = Vec::new();
    for count in plan.sizes(&[1, 10, 100, 1_000]) {
        eprintln!("backends: {count}");
        let backends = Backends::start(count)?;
        let fleet = Fleet { apps: 1, backends: count };
        let homing = Homing::start(plan, fleet, &backends.addresses, false)?;
        let address = homing.listener;
        let load = Load { address, connections: CONNECTIONS, apps: 1, follows: true };
        rows.push(measured(plan, &homing, load, count)?);
    }
    Ok(table("backends", "backends of the app", "A request of a client that comes back", rows))
}

/// Clients that come back, most of them quiet at any moment.
pub(crate) fn connections(plan: &Plan) -> Outcome<Table> {
    let backends = Backends::start(10)?;
    let mut rows = Vec::new();
    let room = crate::homing::raise_descriptors().saturating_sub(OTHER_FILES);
    for wanted in plan.sizes(&[100, 1_000, 5_000, 20_000]) {
        // Backends and clients are this process: what clients have open is what counts here.
        let connections = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        eprintln!("connections: {connections}");
        let fleet = Fleet { apps: 1, backends: 10 };
        let homing = Homing::start(plan, fleet, &backends.addresses, false)?;
        let load = Load { address: homing.listener, connections, apps: 1, follows: true };
        rows.push(measured(plan, &homing, load, connections)?);
    }
    Ok(table("connections", "connections", "A request, over the number of open connections", rows))
}

/// A row: the size, processor time of a request (median, least, most), and memory.
fn measured(plan: &Plan, homing: &Homing, load: Load, size: usize) -> Outcome<Vec<f64>> {
    let empty = homing.resident();
    let mut crowd = Crowd::gather(load)?;
    // Pools, caches, and every app once.
    crowd.ask(Duration::from_secs(plan.seconds(3)))?;
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let before = homing.processor();
        let count = crowd.ask(Duration::from_secs(plan.seconds(3)))?;
        costs.push((homing.processor() - before) * 1e6 / count as f64);
    }
    costs.sort_by(f64::total_cmp);
    let memory = homing.resident();
    let each = (memory - empty) * 1024.0 / load.connections as f64;
    Ok(vec![size as f64, costs[ROUNDS / 2], costs[0], costs[ROUNDS - 1], memory, each])
}

fn table(
    name: &'static str,
    size: &'static str,
    title: &'static str,
    rows: Vec<Vec<f64>>,
) -> Table {
    Table {
        name,
        columns: vec![
            size,
            "processor, us a request",
            "least",
            "most",
            "memory, MiB",
            "memory, KiB more a connection",
        ],
        rows,
        plot: Plot { title, x: 0, lines: &[1] },
    }
}
