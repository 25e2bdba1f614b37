//! From YAML to a tree: the one file that knows the reader, its limits and its words.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Options, Spanned};

use super::FILE_BYTES_MAX;
use super::plain;
use super::problem::{Place, Problem, quoted};
use super::tree::{Entry, Tree, Value};

/// Reads a YAML document.
pub(super) fn read(source: &str) -> Result<Tree, Problem> {
    plain::read(source).map_or_else(|| read_any(source), Ok)
}

/// Reads a YAML document of any form.
pub(super) fn read_any(source: &str) -> Result<Tree, Problem> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options()) {
        Ok(raw) => Ok(plant(raw, source)),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The length of the file bounds what stands in it, as every value is at least a character. What a
/// short file can blow up stays bounded as the reader has it: depth, anchors, aliases, and what
/// aliases repeat. Many aliases of one anchor are no attack but what anchors are for.
fn options() -> Options {
    let length = usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX);
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: length.saturating_mul(2),
            max_nodes: length,
            max_total_scalar_bytes: length,
            enforce_alias_anchor_ratio: false,
        },
    }
}

/// The mistake in our words, where the reader speaks to programmers.
#[expect(clippy::wildcard_enum_match_arm, reason = "most of the reader's words will do")]
fn unreadable(error: &Error) -> Problem {
    let place = error.location().map_or(Place::START, |location| place_of(&location));
    let (text, help) = match original(error) {
        Error::MultipleDocuments { .. } => (
            "expected one YAML document, found another".to_owned(),
            "remove `---` and what follows",
        ),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("key {} is written twice", quoted(key)), "keep one of the two")
        }
        Error::UnknownAnchor { .. } => (
            "alias references unknown anchor".to_owned(),
            "a word that begins with `*` needs quotes, such as `\"*.example.com\"`",
        ),
        Error::Budget { breach, .. } => (
            format!("expected less nesting and fewer repeats by aliases, found {breach:?}"),
            "nest less, or write out what the aliases stand for",
        ),
        // Keys alone are asked for as text; values may be anything.
        Error::NullIntoString { .. } | Error::Unexpected { expected: "string scalar", .. } => {
            ("expected a word as key".to_owned(), YAML_HELP)
        }
        // The place is told in our own way.
        other => {
            let text = other.to_string();
            (text.split(" at line ").next().unwrap_or(&text).to_owned(), YAML_HELP)
        }
    };
    Problem::at(place, text).help(help)
}

/// The mistake itself, where it came to light behind an alias.
fn original(mut error: &Error) -> &Error {
    while let Error::AliasError { error: behind, .. } = error {
        error = behind;
    }
    error
}

const YAML_HELP: &str = "the file must be YAML; look at this line and the one before";

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
            Value::Scalar(written(&raw.defined, source).map_or(shown, ToOwned::to_owned))
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
