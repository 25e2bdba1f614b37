//! Reads one section of the tree, key by key, and notes every mistake on the way.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::model::Doubt;
use super::problem::{Place, Problem, quoted};
use super::scalar::{self, Switch};
use super::tree::{Entry, Tree, Value};

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) found: Vec<Problem>,
    /// The files that were read on the way, besides the one with the configuration.
    pub(super) files: Vec<PathBuf>,
    /// What is no mistake, and yet wants the operator's eye.
    pub(super) doubts: Vec<Doubt>,
}

impl Problems {
    pub(super) fn note(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Notes what went wrong, if anything did.
    pub(super) fn noted<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.note(problem)).ok()
    }

    /// Parses one word; a mistake is noted and answered with `None`.
    pub(super) fn scalar<T, E: Display>(
        &mut self,
        tree: &Tree,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let result = match &tree.value {
            Value::Scalar(text) => parse(text).map_err(|expected| unexpected(tree, expected)),
            Value::Empty | Value::List(_) | Value::Map(_) => {
                Err(unexpected(tree, "expected one value"))
            }
        };
        self.noted(result)
    }

    /// Parses a duration within limits; the default where there is none.
    pub(super) fn duration_or(
        &mut self,
        tree: Option<&Tree>,
        limits: &RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.value_or(tree, default, |text| scalar::duration_within(text, limits))
    }

    /// Parses a whole number within limits; the default where there is none.
    pub(super) fn number_or<T>(
        &mut self,
        tree: Option<&Tree>,
        limits: &RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: std::str::FromStr + PartialOrd + Display,
    {
        self.value_or(tree, default, |text| scalar::number(text, limits))
    }

    /// Parses a number of bytes within limits; the default where there is none.
    pub(super) fn size_or<T>(
        &mut self,
        tree: Option<&Tree>,
        limits: &RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        self.value_or(tree, default, |text| scalar::size(text, limits))
    }

    /// Parses a value; the default where there is none, or a wrong one, which is noted.
    fn value_or<T, E: Display>(
        &mut self,
        tree: Option<&Tree>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        tree.and_then(|tree| self.scalar(tree, parse)).unwrap_or(default)
    }

    /// Parses a value, or `off` for none; the default where there is neither.
    pub(super) fn or_off<T>(
        &mut self,
        tree: Option<&Tree>,
        default: Option<T>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(tree) = tree else { return default };
        self.scalar(tree, |text| scalar::or_off(text, parse)).unwrap_or(default)
    }

    /// Parses one of several words, if there is one.
    pub(super) fn choice<T: Copy>(
        &mut self,
        tree: Option<&Tree>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        self.scalar(tree?, |text| {
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            found.ok_or_else(|| {
                format!("expected {}", alternatives(choices.iter().map(|(word, _)| *word)))
            })
        })
    }

    /// The items of a list; anything else is noted.
    pub(super) fn list<'t>(&mut self, tree: &'t Tree) -> Option<&'t [Tree]> {
        match &tree.value {
            Value::List(items) => Some(items),
            Value::Empty | Value::Map(_) | Value::Scalar(_) => {
                self.note(unexpected(tree, "expected a list"));
                None
            }
        }
    }

    /// The keys of a section; anything else is noted.
    pub(super) fn fields<'t>(
        &mut self,
        tree: &'t Tree,
        section: &'static str,
    ) -> Option<Fields<'t>> {
        self.noted(Fields::of(tree, section))
    }
}

/// A mistake at a value: what was expected, and what was found.
pub(super) fn unexpected(tree: &Tree, expected: impl Display) -> Problem {
    Problem::at(tree.place, format!("{expected}, found {}", tree.value.kind()))
}

fn alternatives<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
}

/// What stands where a section or a switch may stand.
pub(super) enum Toggle<'t> {
    Off,
    On,
    Section(&'t Tree),
}

impl<'t> Toggle<'t> {
    /// Tells a switch, if it is one of `switches`, from the keys of `section`.
    pub(super) fn of(tree: &'t Tree, section: &str, switches: &[Switch]) -> Result<Self, Problem> {
        let Value::Scalar(text) = &tree.value else { return Ok(Self::Section(tree)) };
        match scalar::switch(text).ok().filter(|switch| switches.contains(switch)) {
            Some(Switch::Off) => Ok(Self::Off),
            Some(Switch::On) => Ok(Self::On),
            None => {
                let words = alternatives(switches.iter().map(|switch| switch.word()));
                Err(unexpected(tree, format!("expected {words} or the keys of `{section}`")))
            }
        }
    }
}

/// Keys that most sections have no more than.
const KEYS: usize = 32;

/// The keys of one section.
pub(super) struct Fields<'t> {
    section: &'static str,
    /// Where the section begins.
    pub(super) place: Place,
    entries: &'t [Entry],
    known: Vec<&'static str>,
    /// Keys that have to be there.
    needed: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The keys of a section, if it is one.
    pub(super) fn of(tree: &'t Tree, section: &'static str) -> Result<Self, Problem> {
        match &tree.value {
            Value::Map(entries) => Ok(Self {
                section,
                place: tree.place,
                entries,
                known: Vec::with_capacity(KEYS),
                needed: Vec::new(),
            }),
            Value::Empty | Value::List(_) | Value::Scalar(_) => {
                Err(unexpected(tree, format!("expected the keys of {section}")))
            }
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<&'t Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key, if it is there and not empty.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<&'t Tree> {
        let value = &self.entry(key)?.value;
        Some(value).filter(|tree| !matches!(tree.value, Value::Empty))
    }

    /// Where a key stands that has another name by now.
    pub(super) fn renamed(&mut self, key: &'static str) -> Option<Place> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        self.known.push(key);
        Some(entry.place)
    }

    /// The value of a key; its absence is noted.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<&'t Tree> {
        self.needed.push(key);
        let missing = match self.entry(key) {
            Some(Entry { place, value: Tree { value: Value::Empty, .. }, .. }) => {
                Problem::at(*place, format!("expected a value of `{key}`, found nothing"))
            }
            Some(entry) => return Some(&entry.value),
            None => Problem::at(self.place, format!("{} has no `{key}`", self.section)),
        };
        problems.note(missing);
        None
    }

    /// Notes every key that nobody asked for, and every one without a value: what is left of a section whose keys were
    /// commented out is none, and must not pass for one.
    pub(super) fn finish(self, problems: &mut Problems) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.known.contains(&key) {
                if matches!(entry.value.value, Value::Empty) && !self.needed.contains(&key) {
                    let text = format!("expected a value of `{key}`, found nothing");
                    let help = "leave the key out for its default";
                    problems.note(Problem::at(entry.place, text).help(help));
                }
                continue;
            }
            let text = format!("unknown key {} in {}", quoted(&entry.key), self.section);
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
    let close = |known: &&&str| distance(word, known) <= 1 + known.len() / 6;
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
