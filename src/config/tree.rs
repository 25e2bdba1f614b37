//! The file as it was written: every value with its place.
//!
//! The reader of YAML stops at the first value that does not fit a type. A tree fits everything, so
//! that the next stage can report every mistake at once.

use std::collections::HashSet;

use super::problem::{Place, quoted};

/// A value and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tree {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Empty,
    List(Vec<Tree>),
    Map(Vec<Entry>),
    /// The text between the quotes, or the plain characters: `off`, `30`, `v1.10` stay what they are.
    Scalar(String),
}

/// One line of a map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Tree,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Empty => "nothing".into(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a section".into(),
            Self::Scalar(text) if text.is_empty() => "an empty text".into(),
            Self::Scalar(text) => quoted(text),
        }
    }

    /// The text of a word, for messages.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Scalar(text) => text,
            Self::Empty | Self::List(_) | Self::Map(_) => "",
        }
    }
}

impl Tree {
    /// A section without keys: everything as by default.
    pub(super) const BARE: &'static Self =
        &Self { place: Place::START, value: Value::Map(Vec::new()) };

    /// The value of a key, unless it is empty or this is no section.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        let value = &find(entries, key)?.value;
        Some(value).filter(|tree| !matches!(tree.value, Value::Empty))
    }

    /// This tree, with what it leaves open taken from `defaults`. Sections are merged, everything
    /// else replaces.
    pub(super) fn over(&self, defaults: &Self) -> Self {
        match (&self.value, &defaults.value) {
            (Value::Map(mine), Value::Map(theirs)) => {
                let merged = mine.iter().map(|entry| match find(theirs, &entry.key) {
                    Some(other) => Entry {
                        key: entry.key.clone(),
                        place: entry.place,
                        value: entry.value.over(&other.value),
                    },
                    None => entry.clone(),
                });
                let left_open = theirs.iter().filter(|entry| find(mine, &entry.key).is_none());
                let entries = merged.chain(left_open.cloned()).collect();
                Self { place: self.place, value: Value::Map(entries) }
            }
            (Value::Empty, _) => defaults.clone(),
            (Value::List(_) | Value::Map(_) | Value::Scalar(_), _) => self.clone(),
        }
    }

    /// Adds the place of every value and key in it.
    pub(super) fn places(&self, places: &mut HashSet<Place>) {
        places.insert(self.place);
        match &self.value {
            Value::Empty | Value::Scalar(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.places(places)),
            Value::Map(entries) => {
                for entry in entries {
                    places.insert(entry.place);
                    entry.value.places(places);
                }
            }
        }
    }
}

fn find<'t>(entries: &'t [Entry], key: &str) -> Option<&'t Entry> {
    entries.iter().find(|entry| entry.key == key)
}
