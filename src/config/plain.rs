//! Reads the plain form of YAML that files have which programs write, some times faster than the reader of all YAML.
//!
//! A file of 100,000 apps is read at each start, reload and restart. What is plain is read here: ASCII, sections and
//! lists by indentation or in brackets on one line, words of letters, digits and `._/:-`, quotes without escapes,
//! comments. Whatever else is in a file, and every mistake, makes this reader give way: it never guesses, and says
//! nothing of its own. That both readers make the same tree of all it takes is held by tests.

use super::problem::Place;
use super::tree::{Entry, Tree, Value};

/// Deepest nesting of sections and lists. The file needs about eight.
const DEPTH_MAX: usize = 32;

/// Longest key, and most keys of one section: those of the file are shorter and fewer.
const KEY_BYTES_MAX: usize = 64;
const KEYS_MAX: usize = 64;

/// The tree of a document in plain form; `None`: it is not, or there is a mistake in it.
pub(super) fn read(source: &str) -> Option<Tree> {
    if !source.is_ascii() {
        return None;
    }
    let mut reader = Reader {
        source: source.as_bytes(),
        at: 0,
        line: 0,
        start: 0,
        column: 0,
        end: 0,
        next: 0,
        depth: 0,
    };
    reader.advance()?;
    let tree = reader.section(reader.column)?;
    reader.is_over().then_some(tree)
}

/// Where the reading is: at a byte of a line. Columns begin with 0 here.
struct Reader<'s> {
    source: &'s [u8],
    /// The byte to be read next.
    at: usize,
    /// The number of the line, from 1.
    line: usize,
    /// The column of the first byte of the line that is no space; that of what follows a dash while an item is read.
    column: usize,
    /// Where the line begins.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Where the next line begins.
    next: usize,
    depth: usize,
}

impl Reader<'_> {
    fn is_over(&self) -> bool {
        self.at >= self.source.len()
    }

    /// Goes to the next line that says something, at its first byte that is no space. At the end of the file it stays
    /// there, in column 0.
    fn advance(&mut self) -> Option<()> {
        loop {
            let start = self.next;
            if start >= self.source.len() {
                (self.at, self.end, self.column) = (self.source.len(), self.source.len(), 0);
                return Some(());
            }
            let rest = &self.source[start..];
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..length];
            self.line += 1;
            (self.start, self.end, self.next) = (start, start + length, start + length + 1);
            let indent = line.iter().take_while(|byte| **byte == b' ').count();
            match line.get(indent) {
                None => {}
                Some(b'#') => is_printable(&line[indent..]).then_some(())?,
                Some(_) => {
                    (self.at, self.column) = (start + indent, indent);
                    return Some(());
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source[..self.end].get(self.at).copied()
    }

    fn place(&self) -> Place {
        Place { line: self.line, column: self.at - self.start + 1 }
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Ends a line after which nothing comes but a comment, and goes to the next one.
    fn end_line(&mut self) -> Option<()> {
        let spaced = self.peek() == Some(b' ');
        self.spaces();
        match self.peek() {
            None => {}
            Some(b'#') if spaced => is_printable(&self.source[self.at..self.end]).then_some(())?,
            Some(_) => return None,
        }
        self.advance()
    }

    /// Whether an item of a list begins here.
    fn is_item(&self) -> bool {
        self.source[self.at..self.end].starts_with(b"- ")
    }

    /// A section whose keys stand in this column.
    fn section(&mut self, column: usize) -> Option<Tree> {
        let place = self.place();
        let mut entries: Vec<Entry> = Vec::with_capacity(4);
        self.nest()?;
        loop {
            let at = self.place();
            let key = self.key()?;
            let value = match self.peek() {
                Some(b' ') => {
                    self.spaces();
                    match self.peek() {
                        None | Some(b'#') => self.below(column)?,
                        Some(_) => self.line_value()?,
                    }
                }
                _ => self.below(column)?,
            };
            add(&mut entries, key, at, value)?;
            if self.is_over() || self.column < column {
                self.depth -= 1;
                return Some(Tree { place, value: Value::Map(entries) });
            }
            (self.column == column && !self.is_item()).then_some(())?;
        }
    }

    /// What stands below a key of a section in this column: deeper, or a list in the same column.
    fn below(&mut self, column: usize) -> Option<Tree> {
        // A comment needs the space before it, which was skipped.
        match self.peek() {
            Some(b'#') => {
                is_printable(&self.source[self.at..self.end]).then_some(())?;
                self.advance()?;
            }
            _ => self.end_line()?,
        }
        if self.is_over() {
            return None;
        }
        match self.is_item() {
            true if self.column == column => {
                // The other reader takes it to begin with what the first dash is before.
                let mut list = self.list(column)?;
                if let Value::List(items) = &list.value {
                    list.place = items.first()?.place;
                }
                Some(list)
            }
            true if self.column > column => self.list(self.column),
            false if self.column > column => self.section(self.column),
            _ => None,
        }
    }

    /// A list whose dashes stand in this column.
    fn list(&mut self, column: usize) -> Option<Tree> {
        let place = self.place();
        let mut items = Vec::new();
        self.nest()?;
        loop {
            let dash = self.at;
            self.at += 1;
            self.spaces();
            let inner = column + (self.at - dash);
            let item = match self.peek()? {
                b'{' | b'[' | b'"' | b'\'' => self.line_value()?,
                b'#' => return None,
                _ if self.begins_section() => self.section(inner)?,
                _ => self.line_value()?,
            };
            items.push(item);
            if self.is_over() || self.column < column || (self.column == column && !self.is_item())
            {
                self.depth -= 1;
                return Some(Tree { place, value: Value::List(items) });
            }
            (self.column == column).then_some(())?;
        }
    }

    /// Whether a key stands here, and not a word.
    fn begins_section(&self) -> bool {
        let rest = &self.source[self.at..self.end];
        let length = rest.iter().take_while(|byte| is_of_key(**byte)).count();
        let after = &rest[length..];
        after == b":" || after.starts_with(b": ")
    }

    /// A value that ends with its line.
    fn line_value(&mut self) -> Option<Tree> {
        let value = self.value(Within::Line)?;
        self.end_line()?;
        Some(value)
    }

    fn value(&mut self, within: Within) -> Option<Tree> {
        let place = self.place();
        let value = match self.peek()? {
            b'{' => self.brackets(b'}')?,
            b'[' => self.brackets(b']')?,
            quote @ (b'"' | b'\'') => self.quoted(quote)?,
            _ => self.word(within)?,
        };
        Some(Tree { place, value })
    }

    /// `{ key: value, … }` or `[ value, … ]`, on one line.
    fn brackets(&mut self, close: u8) -> Option<Value> {
        self.nest()?;
        self.at += 1;
        self.spaces();
        // Most have two, such as the id and the address of a backend.
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        match close {
            b'}' => entries.reserve_exact(2),
            _ => items.reserve_exact(2),
        }
        while self.peek()? != close {
            if close == b'}' {
                let at = self.place();
                let key = self.key()?;
                (self.peek()? == b' ').then_some(())?;
                self.spaces();
                let value = self.value(Within::Brackets)?;
                add(&mut entries, key, at, value)?;
            } else {
                items.push(self.value(Within::Brackets)?);
            }
            self.spaces();
            if self.peek()? == b',' {
                self.at += 1;
                // Nothing between a comma and what comes next, or the end, is for the other reader.
                (self.peek()? == b' ').then_some(())?;
                self.spaces();
                (self.peek()? != close).then_some(())?;
            } else {
                (self.peek()? == close).then_some(())?;
            }
        }
        self.at += 1;
        self.depth -= 1;
        Some(if close == b'}' { Value::Map(entries) } else { Value::List(items) })
    }

    /// A key and its colon.
    fn key(&mut self) -> Option<String> {
        let rest = &self.source[self.at..self.end];
        let length = rest.iter().take_while(|byte| is_of_key(**byte)).count();
        let is_key = (1..=KEY_BYTES_MAX).contains(&length)
            && rest[0].is_ascii_lowercase()
            && rest.get(length) == Some(&b':')
            && matches!(rest.get(length + 1), None | Some(b' '));
        let key = std::str::from_utf8(&rest[..length]).ok().filter(|_| is_key)?;
        self.at += length + 1;
        // Words that YAML takes for something else.
        (!matches!(key, "null" | "true" | "false" | "on" | "off" | "yes" | "no" | "y" | "n"))
            .then(|| key.to_owned())
    }

    /// What stands between quotes, without any escape.
    fn quoted(&mut self, quote: u8) -> Option<Value> {
        self.at += 1;
        let rest = &self.source[self.at..self.end];
        let length = memchr::memchr(quote, rest)?;
        let text = &rest[..length];
        let is_plain = is_printable(text) && (quote == b'\'' || !text.contains(&b'\\'));
        // Two of them stand for one.
        let ends = rest.get(length + 1) != Some(&quote) && rest.get(length + 1) != Some(&b':');
        self.at += length + 1;
        text_of(text).filter(|_| is_plain && ends)
    }

    /// A word without quotes.
    fn word(&mut self, within: Within) -> Option<Value> {
        let rest = &self.source[self.at..self.end];
        let length = rest.iter().take_while(|byte| is_of_word(**byte)).count();
        let text = &rest[..length];
        let (first, last) = (text.first()?, text.last()?);
        let begins = first.is_ascii_alphanumeric() || matches!(first, b'/' | b'.');
        let ends = match rest.get(length) {
            None => within == Within::Line,
            Some(b' ') => true,
            Some(b',' | b']' | b'}') => within == Within::Brackets,
            Some(_) => false,
        };
        let is_nothing = text.eq_ignore_ascii_case(b"null") || text == b"...";
        self.at += length;
        text_of(text).filter(|_| begins && ends && *last != b':' && !is_nothing)
    }

    fn nest(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }
}

/// What a word without quotes may end at.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Within {
    Brackets,
    Line,
}

fn add(entries: &mut Vec<Entry>, key: String, place: Place, value: Tree) -> Option<()> {
    let is_new = entries.iter().all(|entry| entry.key != key);
    entries.push(Entry { key, place, value });
    (is_new && entries.len() <= KEYS_MAX).then_some(())
}

fn text_of(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(|text| Value::Scalar(text.to_owned()))
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._/:-".contains(&byte)
}

fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::yaml;
    use super::*;

    /// Whether it was read; what was read must be what the other reader makes of it.
    #[track_caller]
    fn is_read(source: &str) -> bool {
        let Some(tree) = read(source) else { return false };
        match yaml::read_any(source) {
            Ok(other) => assert_eq!(tree, other, "{source}"),
            Err(problem) => panic!("{problem:?} in\n{source}"),
        }
        true
    }

    #[test]
    fn what_programs_and_people_write_is_read() {
        for source in [
            "a: 1",
            "a: 1\n",
            "# first\n\na: b # last\n\n",
            "listeners:\n  - address: 0.0.0.0:8080\napps:\n  - name: shop\n    domains: [shop.example.com, \"*.shop.example.com\"]\n",
            "apps:\n- name: a\n  backends:\n  - { id: web.1, address: 127.0.0.1:3001 }\n  - id: web.2\n    address: '127.0.0.1:3002'\n- name: b\n",
            "a:\n    b:\n      c: 30s\n    d: off\ne: 0x10\n",
            "a: # of it\n  - b\n  - 1.10\n  # between\n  - ./c/d\n",
            "a: {}\nb: []\nc: [ [x, y], { z: 1 } ]\nd: \"\"\n",
            "a: 'say \"x\"'\nb: \"it's\"\n",
            "a:\n  - b: 1\n    c:\n      - d\n    e: 2\n  - b: 3\nf: 4\n",
            "  a: 1\n  b: 2\n",
        ] {
            assert!(is_read(source), "{source}");
        }
    }

    #[test]
    fn what_is_more_or_is_wrong_is_left_to_the_other_reader() {
        for source in [
            "",
            "# nothing\n",
            "a:\n",
            "a: ~\n",
            "a: null\n",
            "a: b c\n",
            "a: b\n  c\n",
            "a: 1\na: 2\n",
            "a: { b: 1, b: 2 }\n",
            "a: { b: 1\n}\n",
            "a: &x 1\nb: *x\n",
            "a: !!str 1\n",
            "a: |\n  text\n",
            "a: \"x\\n\"\n",
            "a: 'it''s'\n",
            "a: \"b\n  c\"\n",
            "\"a\": 1\n",
            "a: 1\n b: 2\n",
            "a: 1\n---\nb: 2\n",
            "a:\tb\n",
            "a: b\r\n",
            "a: ä\n",
            "a: [b, ]\n",
            "a: b: c\n",
            "a: b#c\n",
            "<<: { a: 1 }\n",
            "- a\n",
            "a:\n  - - b\n",
            "a:\n  -\n    b: 1\n",
            "true: 1\n",
        ] {
            assert!(!is_read(source), "{source}");
        }
    }

    #[test]
    fn files_of_the_project_are_read_alike() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut read = 0;
        for directory in ["conf", "tests/config", "tests/config/err", "fuzz/corpus/config"] {
            let Ok(files) = std::fs::read_dir(root.join(directory)) else { continue };
            for file in files {
                let path = file.unwrap().path();
                if let Ok(source) = std::fs::read_to_string(&path) {
                    read += usize::from(is_read(&source));
                }
            }
        }
        assert!(read > 100, "{read}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Pieces of YAML in any order: whatever is taken means the same to both.
        #[test]
        fn no_text_means_another_thing_to_this_reader(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "a", "b: ", "c:", "d: 1", "- ", "- e: x\n", "\n", "\n  ", "\n    ", "\n- ", "\n  - ", "{ ", " }", "{", "}", "[",
                "]", ", ", ",", "#", " # z", "'", "\"", "'q'", "\"r\"", ":", ".", "..", "-", "/", "_", "null", "~", "0x1", "1e3", "!",
                "&f ", "*f", "|", ">", "?", "? ", "%", "@", "\\", "\t", "<<: ", "on", "=", "g: [h, i]\n", "j: { k: l }\n",
                "m:\n  - n: o\n    p: q\n", "r:\n  s: t\n", " ", "  ",
            ]), 1..14)
        ) {
            is_read(&pieces.concat());
        }
    }
}
