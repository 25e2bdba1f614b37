//! The file as it was written: every value with its place.
//!
//! The reader of YAML stops at the first value that does not fit a type. A tree fits everything, so
//! that the next stage can report every mistake at once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Empty,
    List(Vec<Tree>),
    Map(Vec<Entry>),
    /// The text between the quotes, or the plain characters: `off`, `30`, `v1.10` stay what they are.
    Scalar(String),
}

/// One line of a map.
#[derive(Clone, Debug)]
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
            Self::Scalar(text) => format!("`{text}`"),
        }
    }
}

impl Tree {
    /// Reads a YAML document.
    pub(super) fn parse(source: &str) -> Result<Self, Problem> {
        match serde_saphyr::from_str::<Spanned<Raw>>(source) {
            Ok(raw) => Ok(plant(raw, source)),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// This tree, with what it leaves open taken from `defaults`. Sections are merged, everything
    /// else replaces.
    pub(super) fn over(self, defaults: &Self) -> Self {
        match (self.value, &defaults.value) {
            (Value::Map(mut mine), Value::Map(theirs)) => {
                for entry in theirs {
                    match mine.iter_mut().find(|own| own.key == entry.key) {
                        Some(own) => own.value = own.value.clone().over(&entry.value),
                        None => mine.push(entry.clone()),
                    }
                }
                Self { place: self.place, value: Value::Map(mine) }
            }
            (Value::Empty, _) => defaults.clone(),
            (value, _) => Self { place: self.place, value },
        }
    }
}

fn unreadable(error: &serde_saphyr::Error) -> Problem {
    let text = error.without_snippet().to_string();
    // The place is told in our own way; what follows the first comma of a hint is about Rust options.
    let text = text.split(" at line ").next().unwrap_or(&text);
    let text = match text.strip_prefix("duplicate mapping key: ") {
        Some(rest) => format!("key `{}` is written twice", rest.split(',').next().unwrap_or(rest)),
        None => text.to_owned(),
    };
    let place = error.location().map_or(Place::START, |location| place_of(&location));
    Problem::at(place, text).help("the file must be YAML; look at this line and the one before")
}

fn place_of(location: &Location) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Place { line: number(location.line()), column: number(location.column()) }
}

/// What the YAML reader hands over.
enum Raw {
    Empty,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
    /// A plain scalar that YAML takes for a number or a truth value.
    Plain(String),
    Text(String),
}

fn plant(raw: Spanned<Raw>, source: &str) -> Tree {
    let place = place_of(&raw.referenced);
    let value = match raw.value {
        Raw::Empty => Value::Empty,
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| plant(item, source)).collect())
        }
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| Entry {
                place: place_of(&key.referenced),
                key: key.value,
                value: plant(value, source),
            };
            Value::Map(entries.into_iter().map(entry).collect())
        }
        Raw::Plain(shown) => {
            Value::Scalar(written(&raw.referenced, source).map_or(shown, ToOwned::to_owned))
        }
        Raw::Text(text) => Value::Scalar(text),
    };
    Tree { place, value }
}

/// The characters of a plain scalar as they were written: `0x10`, `1.10` and `off` are text to us.
fn written<'s>(location: &Location, source: &'s str) -> Option<&'s str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(source.get(start..start + length)?.trim())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
