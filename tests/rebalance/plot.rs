//! The plot of docs/rebalance.md: the highest load over time, with and without rebalancing.

use std::fmt::Write as _;

use super::world::Course;

/// One panel: a scale-up, and what became of the clients of each habit.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// The label, the course, and whether clients were rebalanced in it.
    pub(crate) lines: Vec<(String, Course, bool)>,
}

const WIDTH: f64 = 280.0;
const HEIGHT: f64 = 200.0;
const MARGIN: f64 = 46.0;
/// Seconds before and after the scale-up.
const TIMES: (f64, f64) = (-300.0, 3000.0);
const LOADS: (f64, f64) = (1.0, 2.4);
const COLOURS: [&str; 3] = ["#1b6ca8", "#c2571a", "#3a7d44"];

pub(crate) fn svg(panels: &[Panel]) -> String {
    let width = (WIDTH + MARGIN) * panels.len() as f64 + 20.0;
    let height = HEIGHT + 2.0 * MARGIN + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (panel, left) in panels.iter().zip(0..) {
        draw(&mut out, panel, MARGIN + f64::from(left) * (WIDTH + MARGIN));
    }
    let note = "The highest load of a backend, in fair shares. Solid: rebalance on. Dashed: off.";
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"14\">{note}</text>");
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, left: f64) {
    let x = |time: f64| left + (time - TIMES.0) / (TIMES.1 - TIMES.0) * WIDTH;
    let y = |load: f64| MARGIN + HEIGHT - (load - LOADS.0) / (LOADS.1 - LOADS.0) * HEIGHT;
    let (bottom, middle) = (MARGIN + HEIGHT, left + WIDTH / 2.0);
    let title = &panel.title;
    let _ = writeln!(
        out,
        "<text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"13\">{title}</text>",
        MARGIN - 8.0
    );
    for minutes in [0, 10, 20, 30, 40, 50] {
        let at = x(f64::from(minutes) * 60.0);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{MARGIN}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{minutes} min</text>",
            bottom + 14.0
        );
    }
    for tenths in [10, 12, 14, 16, 18, 20, 22, 24] {
        let load = f64::from(tenths) / 10.0;
        let at = y(load);
        let _ = writeln!(
            out,
            "<line x1=\"{left:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{load:.1}</text>",
            left + WIDTH,
            left - 4.0,
            at + 4.0
        );
    }
    for (line, index) in panel.lines.iter().zip(0..) {
        curve(out, line, index, &x, &y, bottom);
    }
}

fn curve(
    out: &mut String,
    (label, course, rebalanced): &(String, Course, bool),
    index: usize,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
    bottom: f64,
) {
    let colour = COLOURS[index / 2 % COLOURS.len()];
    let dashes = if *rebalanced { "" } else { " stroke-dasharray=\"3 3\"" };
    let inside = |(at, ..): &&(i64, f64, u64)| (TIMES.0..=TIMES.1).contains(&(*at as f64));
    let points: Vec<String> = course
        .points
        .iter()
        .filter(inside)
        .step_by(3)
        .map(|(at, load, _)| format!("{:.1},{:.1}", x(*at as f64), y(load.min(LOADS.1))))
        .collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"{colour}\"{dashes} points=\"{}\"/>",
        points.join(" ")
    );
    if *rebalanced {
        let top = bottom + 30.0 + f64::from(u8::try_from(index / 2).unwrap()) * 13.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{top:.0}\" fill=\"{colour}\">{label}</text>",
            x(TIMES.0)
        );
    }
}
