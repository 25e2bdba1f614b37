//! What is wrong with a file, where, and what to do: `path:line:column: error: …`.

use std::fmt;
use std::path::{Path, PathBuf};

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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
#[derive(Clone, Debug, Eq, PartialEq)]
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
}

/// Every mistake of one file, in the order of their places.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    source: String,
    problems: Vec<Problem>,
}

impl Report {
    /// Makes a report. The same mistake at the same place is told once.
    pub fn new(path: &Path, source: String, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        Self { path: path.to_owned(), source, problems }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Place { line, column } = problem.place;
            write!(f, "{}:{line}:{column}: error: {}", self.path.display(), problem.text)?;
            let margin = line.to_string().len() + 2;
            if let Some(text) = self.source.lines().nth(line - 1) {
                // A tab in the line stays one under it, so that the mark stands where it should.
                let indent = text.chars().take(column - 1);
                let indent: String = indent.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n  {line} | {text}\n{:margin$} | {indent}^", "")?;
            }
            if let Some(help) = &problem.help {
                write!(f, "\n{:margin$} = help: {help}", "")?;
            }
        }
        Ok(())
    }
}
