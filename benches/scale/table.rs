//! Figures in rows.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::plot;

/// What one measurement says: a row for each size.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What each column is, with its unit.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<f64>>,
    /// The columns that are drawn, over the first that `x` names.
    pub(crate) plot: Plot,
}

/// What is drawn of a table.
#[derive(Clone, Copy)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: usize,
    pub(crate) lines: &'static [usize],
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = row(self.columns.iter().map(|name| (*name).to_owned()).collect());
        out += &row(self.columns.iter().map(|_| "---:".to_owned()).collect());
        for figures in &self.rows {
            out += &row(figures.iter().map(|figure| shown(*figure)).collect());
        }
        out
    }

    /// `NAME.csv`, `NAME.md` and `NAME.svg`.
    pub(crate) fn write(&self, directory: &Path) -> Outcome<()> {
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        let mut csv = line(self.columns.iter().map(|name| name.replace(',', "")).collect());
        for figures in &self.rows {
            csv += &line(figures.iter().map(ToString::to_string).collect());
        }
        fs::write(directory.join(format!("{}.csv", self.name)), csv)?;
        fs::write(directory.join(format!("{}.md", self.name)), self.markdown())?;
        fs::write(directory.join(format!("{}.svg", self.name)), plot::svg(self))?;
        Ok(())
    }
}

/// A figure with as many digits as mean something.
pub(crate) fn shown(figure: f64) -> String {
    let text = match figure.abs() {
        0.0 => return "0".into(),
        small if small < 10.0 => format!("{figure:.2}"),
        middle if middle < 100.0 => format!("{figure:.1}"),
        _ => return thousands(figure),
    };
    text.strip_suffix(".00").or(text.strip_suffix(".0")).unwrap_or(&text).to_owned()
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
