//! Plots in the style of docs/rebalance.svg: both axes logarithmic, a line for each column.

use std::fmt::Write as _;

use crate::table::{Table, shown};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
const COLOURS: [&str; 5] = ["#1b6ca8", "#c2571a", "#3a7d44", "#7a4a9e", "#8a6d1b"];

pub(crate) fn svg(table: &Table) -> String {
    let x_of = |row: &Vec<f64>| row[table.plot.x].max(1.0).log10();
    let mut rows: Vec<&Vec<f64>> = table.rows.iter().collect();
    rows.sort_by(|one, other| x_of(one).total_cmp(&x_of(other)));
    let drawn = || table.plot.lines.iter().flat_map(|column| rows.iter().map(|row| row[*column]));
    let positive = || drawn().filter(|figure| *figure > 0.0).map(f64::log10);
    let (low, high) = (positive().fold(f64::MAX, f64::min), positive().fold(f64::MIN, f64::max));
    let (low, high) = (low.min(high).floor(), high.ceil().max(low.floor() + 1.0));
    let right = rows.last().map_or(1.0, |row| x_of(row)).max(1.0);
    let x = |exponent: f64| LEFT + exponent / right * WIDTH;
    let y = |exponent: f64| TOP + HEIGHT - (exponent - low) / (high - low) * HEIGHT;
    let below = TOP + HEIGHT + 34.0;
    let height = below + 14.0 * table.plot.lines.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
        LEFT + WIDTH + 20.0,
        table.plot.title
    );
    for row in &rows {
        let (at, bottom) = (x(x_of(row)), TOP + HEIGHT);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            shown(row[table.plot.x])
        );
    }
    let mut exponent = low;
    while exponent <= high {
        let at = y(exponent);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + WIDTH,
            LEFT - 4.0,
            at + 4.0,
            shown(10_f64.powf(exponent))
        );
        exponent += 1.0;
    }
    for (column, index) in table.plot.lines.iter().zip(0_usize..) {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> = rows
            .iter()
            .filter(|row| row[*column] > 0.0)
            .map(|row| format!("{:.1},{:.1}", x(x_of(row)), y(row[*column].log10())))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\
             <text x=\"{LEFT}\" y=\"{:.0}\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            below + 14.0 * index as f64,
            table.columns[*column]
        );
    }
    out.push_str("</svg>\n");
    out
}
