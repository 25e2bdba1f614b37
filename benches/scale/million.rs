//! What a fleet for a million requests a second needs, worked out from the other tables.
//! `docs/scale.md` shows the arithmetic.

use crate::table::{Plot, Table};

/// Requests of the whole fleet, a second.
const REQUESTS: f64 = 1e6;

/// The part of its processors that an edge uses at the peak: the rest is for reloads, restarts,
/// and the edges that fail.
const USED: f64 = 0.6;

/// Seconds between two requests on a connection that is kept: people who read.
const BETWEEN: f64 = 10.0;

/// Bytes of an average answer, head included, and of a request.
const ANSWER: f64 = 10_000.0;
const REQUEST: f64 = 1_000.0;

/// Descriptors beyond one for each client: connections to backends that are in use or kept.
const UPSTREAM: f64 = 20_000.0;

/// Part of the edges that may be away at once, for repair or with their site.
const AWAY: f64 = 0.25;

/// A row for each kind of machine, by its cores; `None` where a table that is needed was not made.
pub(crate) fn fleet(tables: &[Table]) -> Option<Table> {
    let last = |name: &str| tables.iter().find(|table| table.name == name)?.rows.last();
    let cost = last("apps")?[1].max(last("connections")?[1]);
    let connection = last("connections")?[5].max(0.0);
    let size = tables.iter().find(|table| table.name == "size")?;
    let column = size.columns.iter().position(|name| *name == "memory after reloads, MiB")?;
    let apps = size.rows.last()?[column];
    let row = |cores: f64| {
        let each = cores * USED / (cost * 1e-6);
        let edges = (REQUESTS / each).ceil();
        let all = (edges / (1.0 - AWAY)).ceil();
        let clients = REQUESTS * BETWEEN / edges;
        let memory = (clients * connection / 1024.0 + 2.0 * apps) / 1024.0;
        // Everything passes twice: from the backend, and to the client.
        let bits = 2.0 * (REQUESTS / edges) * (ANSWER + REQUEST) * 8.0 / 1e9;
        vec![cores, cost, each, edges, all, clients, clients + UPSTREAM, memory, bits]
    };
    Some(Table {
        name: "fleet",
        columns: vec![
            "cores of an edge",
            "processor, us a request",
            "requests a second of an edge",
            "edges at the peak",
            "edges in all",
            "connections of an edge",
            "open files of an edge",
            "memory of an edge, GiB",
            "network of an edge, Gbit/s",
        ],
        rows: [4.0, 8.0, 16.0, 32.0].map(row).to_vec(),
        plot: Plot {
            title: "Edges for a million requests a second, over the cores of each",
            x: 0,
            lines: &[3, 4],
        },
    })
}
