//! Pages of the operator's own, read from their files along with the configuration.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::regular;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::path;

/// Longest page, in bytes. It stays in memory, and is sent to every client that asks meanwhile.
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// The pages that were read so far. What many apps name is read once, and is there once.
pub(super) struct Pages<'a> {
    directory: &'a Path,
    read: HashMap<PathBuf, Result<Bytes, String>>,
}

impl<'a> Pages<'a> {
    /// No pages yet; relative paths start at `directory`.
    pub(super) fn of(directory: &'a Path) -> Self {
        Self { directory, read: HashMap::new() }
    }

    /// The page that stands in a file; `off`: none.
    pub(super) fn page(&mut self, tree: &Tree, problems: &mut Problems) -> Option<Bytes> {
        if scalar::switch(tree.value.text()) == Ok(Switch::Off) {
            return None;
        }
        let path = problems.scalar(tree, |text| path(text, self.directory))?;
        if !problems.files.contains(&path) {
            problems.files.push(path.clone());
        }
        let page = self.read.entry(path).or_insert_with_key(|path| {
            read(path).map_err(|error| format!("cannot use page {}: {error}", path.display()))
        });
        let help = "name a file of HTML, or leave the key out";
        let wrong = |text: &String| Problem::at(tree.place, text).help(help);
        problems.noted(page.as_ref().map_err(wrong)).cloned()
    }
}

fn read(path: &Path) -> io::Result<Bytes> {
    let page = regular::read(path, PAGE_BYTES_MAX)?;
    if std::str::from_utf8(&page).is_err() {
        return Err(io::Error::other("it is not UTF-8"));
    }
    Ok(page.into())
}
