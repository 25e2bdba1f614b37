//! The rows of the tables, in Markdown.

use std::time::Duration;

use crate::{
    memory::Memory,
    report::{BASELINES, Report},
    round::{Busy, Latency, Round},
    statistic::{median, range},
    workload::{Method, Workload},
};

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const KIBIBYTE: f64 = 1024.0;

/// A heading, and a row for each contestant; nothing where nobody was measured.
pub(crate) fn table(report: &Report, workload: Workload) -> String {
    let rows: Vec<Vec<String>> =
        report.names().filter_map(|name| row(report, workload, name)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = columns(workload);
    let rule: Vec<&str> =
        columns.iter().map(|it| if is_text(it) { "---" } else { "--:" }).collect();
    let mut text = format!("\n## {}\n\n", title(report, workload));
    text += &line(columns.iter().map(AsRef::as_ref));
    text += &line(rule.into_iter());
    for mut row in rows {
        // A row that is void or missing says why in its last cell.
        while row.len() < columns.len() {
            row.insert(row.len() - 1, String::new());
        }
        text += &line(row.iter().map(AsRef::as_ref));
    }
    text
}

fn title(report: &Report, workload: Workload) -> String {
    match report.rate {
        Some(rate) if workload.method() == Method::Rate => {
            format!("{}, {rate:.0} requests a second", workload.name())
        }
        _ => workload.name().to_owned(),
    }
}

fn columns(workload: Workload) -> Vec<String> {
    let unit = workload.unit();
    let cost = [
        format!("us a {}", unit.singular()),
        "user".to_owned(),
        "system".to_owned(),
        "least to most".to_owned(),
    ];
    let rest: &[&str] = match workload.method() {
        Method::Cost => &[
            "to bare",
            "to haproxy",
            &format!("{}/s", unit.plural()),
            "p50 ms",
            "p99 ms",
            "MiB",
            "busy % proxy / generator / backends",
            "remarks",
        ],
        Method::Rate => &[
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "p99 least to most",
            "busy % proxy / generator / backends",
            "remarks",
        ],
        Method::Memory => {
            return [
                "proxy",
                "KiB a connection",
                "least to most",
                "MiB before",
                "MiB with",
                "us to open one",
                "remarks",
            ]
            .map(str::to_owned)
            .to_vec();
        }
    };
    let rest = rest.iter().map(|it| (*it).to_owned());
    ["proxy".to_owned()].into_iter().chain(cost).chain(rest).collect()
}

fn is_text(column: &str) -> bool {
    ["proxy", "remarks"].contains(&column)
}

fn line<'t>(cells: impl Iterator<Item = &'t str>) -> String {
    let cells: Vec<&str> = cells.collect();
    format!("| {} |\n", cells.join(" | "))
}

fn row(report: &Report, workload: Workload, name: &'static str) -> Option<Vec<String>> {
    if let Some(reason) = report.absence(workload, name) {
        return (!reason.is_empty()).then(|| vec![name.to_owned(), "-".to_owned(), reason]);
    }
    if let Some(reason) = report.void(workload, name) {
        return Some(vec![name.to_owned(), "void".to_owned(), reason]);
    }
    let cells = match workload.method() {
        Method::Memory => memory_cells(report.memory(workload, name)?),
        Method::Cost => cost_cells(report, workload, name)?,
        Method::Rate => rate_cells(report, workload, name)?,
    };
    Some([name.to_owned()].into_iter().chain(cells).collect())
}

fn cost_cells(report: &Report, workload: Workload, name: &'static str) -> Option<Vec<String>> {
    let rounds = report.rounds(workload, name)?;
    let ratios = BASELINES.map(|baseline| {
        report
            .ratio(workload, name, baseline)
            .map_or_else(|| "-".to_owned(), |it| format!("{it:.2}"))
    });
    let mut cells = processor_cells(rounds);
    cells.extend(ratios);
    cells.push(figure(middle(rounds, |it| it.units_per_s)));
    cells.extend(
        [|it: &Latency| it.p50, |it: &Latency| it.p99].map(|quantile| latency(rounds, quantile)),
    );
    cells.push(format!("{:.0}", middle(rounds, |it| it.resident_bytes as f64 / MEBIBYTE)));
    cells.extend([busy(report.busy(rounds)), report.remarks(workload, rounds).join(", ")]);
    Some(cells)
}

fn rate_cells(report: &Report, workload: Workload, name: &'static str) -> Option<Vec<String>> {
    let rounds = report.rounds(workload, name)?;
    let mut cells = processor_cells(rounds);
    let quantiles: [fn(&Latency) -> Duration; 4] =
        [|it| it.p50, |it| it.p99, |it| it.p999, |it| it.max];
    cells.extend(quantiles.map(|quantile| latency(rounds, quantile)));
    let (least, most) =
        range(rounds.iter().filter_map(|it| it.latency).map(|it| milliseconds(it.p99)));
    cells.push(format!("{least:.2} to {most:.2}"));
    cells.extend([busy(report.busy(rounds)), report.remarks(workload, rounds).join(", ")]);
    Some(cells)
}

fn memory_cells(measured: &[Memory]) -> Vec<String> {
    let middle = |figure: fn(&Memory) -> f64| median(measured.iter().map(figure));
    let (least, most) = range(measured.iter().map(|it| it.each_bytes / KIBIBYTE));
    vec![
        format!("{:.1}", middle(|it| it.each_bytes / KIBIBYTE)),
        format!("{least:.1} to {most:.1}"),
        format!("{:.0}", middle(|it| it.before_bytes as f64 / MEBIBYTE)),
        format!("{:.0}", middle(|it| it.with_bytes as f64 / MEBIBYTE)),
        format!("{:.0}", middle(|it| it.opening_us)),
        String::new(),
    ]
}

/// Processor time, its parts and its spread.
fn processor_cells(rounds: &[Round]) -> Vec<String> {
    let (least, most) = range(rounds.iter().map(|it| it.processor_us));
    vec![
        format!("{:.1}", middle(rounds, |it| it.processor_us)),
        format!("{:.1}", middle(rounds, |it| it.user_us)),
        format!("{:.1}", middle(rounds, |it| it.system_us)),
        format!("{least:.1} to {most:.1}"),
    ]
}

fn latency(rounds: &[Round], quantile: fn(&Latency) -> Duration) -> String {
    let known: Vec<f64> =
        rounds.iter().filter_map(|it| it.latency).map(|it| milliseconds(quantile(&it))).collect();
    if known.is_empty() { "-".to_owned() } else { format!("{:.2}", median(known.into_iter())) }
}

fn busy(busy: Busy) -> String {
    let Busy { proxy, generator, backends, .. } = busy;
    format!("{:.0} / {:.0} / {:.0}", proxy * 100.0, generator * 100.0, backends * 100.0)
}

fn middle(rounds: &[Round], figure: fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(figure))
}

/// Three digits that count.
fn figure(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
