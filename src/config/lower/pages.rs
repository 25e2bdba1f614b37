//! Pages of the operator's own, read from their files along with the configuration.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::PAGE_BYTES_MAX;
use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::regular;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::certificates::Certificates;
use super::path;
use crate::balancer::failure::page::{Page, Template};

/// Most pages that are fetched. Each stays in memory, and is asked for every five minutes.
const URLS_MAX: usize = 256;

const FILE_BYTES_MAX: u64 = PAGE_BYTES_MAX as u64;

/// The pages that were read so far. What many apps name is read once, and is there once.
pub(super) struct Pages<'a> {
    directory: &'a Path,
    read: HashMap<PathBuf, Result<Arc<Template>, String>>,
    urls: HashSet<Box<str>>,
    /// What else apps name by file.
    pub(super) certificates: Certificates<'a>,
}

impl<'a> Pages<'a> {
    /// No pages yet; relative paths start at `directory`.
    pub(super) fn of(directory: &'a Path) -> Self {
        let (read, urls) = (HashMap::new(), HashSet::new());
        Self { directory, read, urls, certificates: Certificates::of(directory) }
    }

    /// The page that stands in a file, or that is fetched from a URL; `off`: none.
    pub(super) fn page(&mut self, tree: &Tree, problems: &mut Problems) -> Option<Page> {
        if scalar::switch(tree.value.text()) == Ok(Switch::Off) {
            return None;
        }
        let name: Box<str> = tree.value.text().into();
        if ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme)) {
            let url = problems.scalar(tree, scalar::url)?;
            if self.urls.insert(url.clone()) && self.urls.len() == URLS_MAX + 1 {
                let text = format!("expected at most {URLS_MAX} different URLs of pages");
                problems.note(Problem::at(tree.place, text));
            }
            return Some(Page { name: url, kept: None });
        }
        let path = problems.scalar(tree, |text| path(text, self.directory))?;
        if !problems.files.contains(&path) {
            problems.files.push(path.clone());
        }
        let page = self.read.entry(path).or_insert_with_key(|path| {
            let page = read(path).map(Arc::new);
            page.map_err(|error| format!("cannot use page {}: {error}", path.display()))
        });
        let help = "name a file of HTML or its URL, or leave the key out";
        let wrong = |text: &String| Problem::at(tree.place, text).help(help);
        let kept = problems.noted(page.as_ref().map_err(wrong)).cloned();
        kept.map(|kept| Page { name, kept: Some(kept) })
    }
}

fn read(path: &Path) -> io::Result<Template> {
    let page = regular::read(path, FILE_BYTES_MAX)?;
    Template::new(page.into()).map_err(|_| io::Error::other("it is not UTF-8"))
}
