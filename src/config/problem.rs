//! What is wrong with a file, where, and what to do: `path:line:column: error: …`.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most mistakes that are shown. Beyond, a program wrote the file, and one cause is behind them.
const SHOWN_MAX: usize = 100;

/// Longest piece of a line that is shown, in characters. A program may write all in one line.
const COLUMNS_SHOWN_MAX: usize = 160;

/// Longest quote of what was found, in characters. The line below it shows the rest.
const QUOTE_MAX: usize = 60;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Place {
    /// The first character of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One mistake.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Problem {
    place: Place,
    text: String,
    help: Option<String>,
}

impl Problem {
    /// A mistake at a place: what, found, expected; lower case, no full stop.
    pub fn at(place: Place, text: impl Into<String>) -> Self {
        Self { place, text: text.into(), help: None }
    }

    /// The way out.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says whose mistake it is, where the place does not.
    #[must_use]
    pub fn of(self, whom: &str) -> Self {
        Self { text: format!("{whom}: {}", self.text), ..self }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }
}

/// Text of the file between backticks: control characters escaped, and cut when it is long.
pub fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTE_MAX).map(escaped).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn escaped(c: char) -> String {
    if c.is_control() { c.escape_default().to_string() } else { c.into() }
}

/// Every mistake of one file, in the order of their places.
pub struct Report {
    path: PathBuf,
    source: String,
    problems: Vec<Problem>,
    severity: Severity,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// It is accepted.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Report {
    /// Makes a report. The same mistake at the same place is told once.
    pub fn new(path: &Path, source: String, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        let mut told = HashSet::new();
        problems.retain(|problem| told.insert(problem.clone()));
        Self { path: path.to_owned(), source, problems, severity: Severity::Error }
    }

    /// The same about what is accepted.
    pub fn warning(path: &Path, source: String, problems: Vec<Problem>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(path, source, problems) }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

// The source may be long, and what an operator keeps in it is not for logs.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Report");
        shown.field("path", &self.path).field("problems", &self.problems).finish_non_exhaustive()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, severity) = (self.path.display(), self.severity.as_str());
        let lines: Vec<&str> = self.source.lines().collect();
        for (index, problem) in self.problems.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Place { line, column } = problem.place;
            write!(f, "{path}:{line}:{column}: {severity}: {}", problem.text)?;
            if let Some(text) = lines.get(line - 1) {
                mark(f, problem.place, text)?;
            }
            if let Some(help) = &problem.help {
                write!(f, "\n{:margin$} = help: {help}", "", margin = margin(line))?;
            }
        }
        match self.problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{path}: {severity}: {more} more mistakes are not shown"),
        }
    }
}

/// Writes a line of the file, or the piece of a long line around the place, and a mark under it.
fn mark(f: &mut fmt::Formatter<'_>, Place { line, column }: Place, text: &str) -> fmt::Result {
    let fits = column <= COLUMNS_SHOWN_MAX;
    let start = if fits { 0 } else { column - COLUMNS_SHOWN_MAX / 2 };
    let printable = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    let piece: String = text.chars().skip(start).take(COLUMNS_SHOWN_MAX).map(printable).collect();
    // A tab in the line stays one under it, so that the mark stands where it should.
    let indent = piece.chars().take(column - 1 - start);
    let indent: String = indent.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    write!(f, "\n  {line} | {piece}\n{:margin$} | {indent}^", "", margin = margin(line))
}

/// How far the bar stands from the left, in columns.
fn margin(line: usize) -> usize {
    line.to_string().len() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Problem {
        Problem::at(Place { line, column }, "wrong")
    }

    fn report(source: &str, problems: Vec<Problem>) -> Report {
        Report::new(Path::new("f"), source.into(), problems)
    }

    #[test]
    fn what_is_found_is_quoted_on_one_short_line() {
        assert_eq!(quoted("a\n\u{1b}[2J"), "`a\\n\\u{1b}[2J`");
        assert_eq!(quoted(&"ü".repeat(61)), format!("`{}…`", "ü".repeat(60)));
    }

    #[test]
    fn a_mistake_is_told_once() {
        let other = Problem::at(Place::START, "other");
        assert_eq!(report("", vec![at(1, 1), other, at(1, 1)]).count(), 2);
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let source = format!("{}here{}", " ".repeat(500), "x".repeat(500));
        let shown = report(&source, vec![at(1, 501)]).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].find("here"), lines[2].find('^'));
        assert!(lines[1].len() < 200);
    }

    #[test]
    fn the_source_is_not_for_logs() {
        assert!(!format!("{:?}", report("secret", vec![at(1, 1)])).contains("secret"));
    }

    #[test]
    fn thousands_of_mistakes_are_counted() {
        let shown = report("", (1..=1000).map(|line| at(line, 1)).collect()).to_string();
        assert_eq!(shown.lines().count(), 101);
        assert!(shown.ends_with("900 more mistakes are not shown"));
    }
}
