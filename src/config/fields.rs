//! Reads one section of the tree, key by key, and notes every mistake on the way.

use std::fmt::Display;
use std::time::Duration;

use super::problem::{Place, Problem};
use super::scalar;
use super::tree::{Entry, Tree, Value};

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn note(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Parses one word; a mistake is noted and answered with `None`.
    pub(super) fn scalar<T, E: Display>(
        &mut self,
        tree: &Tree,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match &tree.value {
            Value::Scalar(text) => match parse(text) {
                Ok(value) => Some(value),
                Err(expected) => {
                    self.note(Problem::at(tree.place, format!("{expected}, found `{text}`")));
                    None
                }
            },
            other @ (Value::Empty | Value::List(_) | Value::Map(_)) => {
                let text = format!("expected one value, found {}", other.kind());
                self.note(Problem::at(tree.place, text));
                None
            }
        }
    }

    /// Parses a duration between two limits.
    pub(super) fn duration(
        &mut self,
        tree: &Tree,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let value = self.scalar(tree, scalar::duration)?;
        if (least..=most).contains(&value) {
            return Some(value);
        }
        let (least, most) = (scalar::shown(least), scalar::shown(most));
        let found = scalar::shown(value);
        let text = format!("expected a duration from {least} to {most}, found `{found}`");
        self.note(Problem::at(tree.place, text));
        None
    }

    /// Parses a whole number between two limits.
    pub(super) fn number<T>(&mut self, tree: &Tree, least: T, most: T) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + Display + Copy,
    {
        self.scalar(tree, |text| {
            let number = text.parse::<T>().ok();
            let fits = |number: &T| (least..=most).contains(number);
            number.filter(fits).ok_or_else(|| format!("expected a number from {least} to {most}"))
        })
    }

    /// Parses one of several words.
    pub(super) fn choice<T: Copy>(&mut self, tree: &Tree, choices: &[(&str, T)]) -> Option<T> {
        self.scalar(tree, |text| {
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let words: Vec<String> =
                    choices.iter().map(|(word, _)| format!("`{word}`")).collect();
                format!("expected {}", words.join(" or "))
            })
        })
    }

    /// The items of a list; anything else is noted.
    pub(super) fn list<'t>(&mut self, tree: &'t Tree) -> &'t [Tree] {
        match &tree.value {
            Value::List(items) => items,
            other @ (Value::Empty | Value::Map(_) | Value::Scalar(_)) => {
                let text = format!("expected a list, found {}", other.kind());
                self.note(Problem::at(tree.place, text));
                &[]
            }
        }
    }

    /// The keys of a section; anything else is noted.
    pub(super) fn fields<'t>(&mut self, tree: &'t Tree, section: &'static str) -> Fields<'t> {
        let entries: &[Entry] = match &tree.value {
            Value::Map(entries) => entries,
            other @ (Value::Empty | Value::List(_) | Value::Scalar(_)) => {
                let text = format!("expected the keys of {section}, found {}", other.kind());
                self.note(Problem::at(tree.place, text));
                return Fields {
                    section,
                    place: tree.place,
                    entries: &[],
                    known: Vec::new(),
                    broken: true,
                };
            }
        };
        Fields { section, place: tree.place, entries, known: Vec::new(), broken: false }
    }
}

/// The keys of one section.
pub(super) struct Fields<'t> {
    section: &'static str,
    /// Where the section begins.
    pub(super) place: Place,
    entries: &'t [Entry],
    known: Vec<&'static str>,
    /// It is no section at all, which was noted: nothing more is missed in it.
    broken: bool,
}

impl<'t> Fields<'t> {
    /// The value of a key, if it is there and not empty.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<&'t Tree> {
        self.known.push(key);
        let found = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&found.value).filter(|tree| !matches!(tree.value, Value::Empty))
    }

    /// The value of a key; its absence is noted.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<&'t Tree> {
        let found = self.optional(key);
        if found.is_none() && !self.broken {
            let text = format!("{} has no `{key}`", self.section);
            problems.note(Problem::at(self.place, text));
        }
        found
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let text = format!("unknown key `{}` in {}", entry.key, self.section);
            let problem = Problem::at(entry.place, text);
            problems.note(match nearest(&entry.key, &self.known) {
                Some(known) => problem.help(format!("did you mean `{known}`?")),
                None => problem.help(format!("known keys: {}", self.known.join(", "))),
            });
        }
    }
}

/// The known word that a mistyped one was meant to be.
fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let close = |known: &&&str| distance(word, known) <= 1 + known.len() / 4;
    known.iter().filter(close).min_by_key(|known| distance(word, known)).copied()
}

/// How many letters have to be added, dropped or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (place, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
