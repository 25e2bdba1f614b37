//! Pages that were fetched from their URLs: read by requests, written by who fetches them.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::balancer::failure::page::Template;

/// The pages that were fetched, by URL. A request only looks here: nothing is fetched while it waits.
#[derive(Debug, Default)]
pub struct FetchedPages(ArcSwap<HashMap<Box<str>, Arc<Template>>>);

impl FetchedPages {
    /// The page of a URL, if it was ever fetched.
    pub fn get(&self, url: &str) -> Option<Arc<Template>> {
        self.0.load().get(url).cloned()
    }

    /// Keeps the page of a URL, in the place of what was there.
    pub fn put(&self, url: &str, page: Template) {
        let page = Arc::new(page);
        self.0.rcu(|pages| {
            let mut pages = HashMap::clone(pages);
            pages.insert(url.into(), Arc::clone(&page));
            pages
        });
    }

    /// Forgets the pages of other URLs.
    pub fn keep(&self, is_wanted: impl Fn(&str) -> bool) {
        self.0.rcu(|pages| {
            let mut pages = HashMap::clone(pages);
            pages.retain(|url, _| is_wanted(url));
            pages
        });
    }
}
