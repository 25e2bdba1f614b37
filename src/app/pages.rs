//! Pages of the operator's own that stand at a URL: fetched beside the requests, kept over failures and
//! restarts.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::files::write;
use crate::balancer::failure::page::{ErrorPolicy, Template};
use crate::config::{Config, PAGE_BYTES_MAX, regular};
use crate::outbound::{Limits, Outbound};
use crate::proxy::fetched::FetchedPages;

/// How often a page is fetched again. An edit of it is seen that late.
const REFRESH: Duration = Duration::from_secs(300);

/// The same while the last fetch of one failed.
const REFRESH_FAILING: Duration = Duration::from_secs(30);

/// How long one fetch may take.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// Fetches that run at once.
const FETCHES: usize = 4;

/// Where pages are kept, in the state directory.
const DIRECTORY: &str = "pages";

/// The pages that are fetched.
pub(super) struct Pages {
    pub(super) fetched: Arc<FetchedPages>,
    directory: PathBuf,
    wanted: watch::Sender<Wanted>,
    outbound: Outbound,
}

/// The URLs of the configuration.
type Wanted = BTreeSet<Box<str>>;

impl Pages {
    /// None yet; they are kept in this state directory.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            fetched: Arc::default(),
            directory: state_dir.join(DIRECTORY),
            wanted: watch::Sender::default(),
            outbound: Outbound::default(),
        }
    }

    /// Wants the pages that a configuration names, and no others. Those that were ever fetched are there at
    /// once.
    pub(super) fn want(&self, config: &Config) {
        let wanted = urls(config);
        for url in wanted.iter().filter(|url| self.fetched.get(url).is_none()) {
            if let Some(page) = self.kept(url) {
                self.fetched.put(url, page);
            }
        }
        self.fetched.keep(|url| wanted.contains(url));
        self.clean(&wanted);
        // Wakes who fetches, also where nothing changed: a reload is a wish to see what is there.
        self.wanted.send_replace(wanted);
    }

    /// Removes the files of pages that nobody wants any more.
    fn clean(&self, wanted: &Wanted) {
        let kept: BTreeSet<PathBuf> = wanted.iter().map(|url| self.path(url)).collect();
        // There is no directory until a page was fetched.
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for path in files.map(|file| file.path()).filter(|path| !kept.contains(path)) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an error page");
            }
        }
    }

    /// Fetches what is wanted for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut changes = self.wanted.subscribe();
        loop {
            let wanted = changes.borrow_and_update().clone();
            let idle = wanted.is_empty();
            let fetches = futures::stream::iter(wanted);
            let fetches = fetches.map(|url| async move { self.refresh(&url).await });
            let results: Vec<bool> = fetches.buffer_unordered(FETCHES).collect().await;
            let again = match results.iter().all(|fetched| *fetched) {
                true => REFRESH,
                false => REFRESH_FAILING,
            };
            let ended = tokio::select! {
                changed = changes.changed() => changed.is_err(),
                () = tokio::time::sleep(again), if !idle => false,
            };
            if ended {
                return;
            }
        }
    }

    /// Fetches one page. Whether it is there now; what was there before stays.
    async fn refresh(&self, url: &str) -> bool {
        let fetched = self.fetch(url).await;
        let page = fetched.and_then(|text| {
            let page = Template::new(text.clone()).map_err(|_| "it is not UTF-8".to_owned())?;
            Ok((text, page))
        });
        let (text, page) = match page {
            Ok(page) => page,
            Err(why) => {
                let instead = match self.fetched.get(url) {
                    Some(_) => "the one fetched last",
                    None => "a page of Homing's",
                };
                tracing::warn!(url, why, instead, "cannot fetch an error page");
                return false;
            }
        };
        let is_known = self.fetched.get(url).is_some_and(|known| *known == page);
        if is_known && self.path(url).exists() {
            return true;
        }
        tracing::info!(url, bytes = text.len(), "error page fetched");
        self.fetched.put(url, page);
        if let Err(error) = self.keep(url, &text) {
            tracing::warn!(url, %error, "cannot keep an error page for the next start");
        }
        true
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let request = Request::get(url).header(header::ACCEPT, "text/html").body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let limits = Limits { time: FETCH_LIMIT, bytes: PAGE_BYTES_MAX };
        let answer = self.outbound.ask(request, limits).await.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::OK if answer.headers().contains_key(header::CONTENT_ENCODING) => {
                Err("it is compressed".into())
            }
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(format!("the answer is {}", status.as_u16())),
        }
    }

    fn keep(&self, url: &str, text: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        write(&self.path(url), text)
    }

    fn kept(&self, url: &str) -> Option<Template> {
        let text = regular::read(&self.path(url), PAGE_BYTES_MAX as u64).ok()?;
        Template::new(text.into()).ok()
    }

    fn path(&self, url: &str) -> PathBuf {
        let mut name = String::new();
        for byte in &Sha256::digest(url.as_bytes())[..16] {
            // Writing to memory cannot fail.
            let _infallible = write!(name, "{byte:02x}");
        }
        self.directory.join(name + ".html")
    }
}

/// The URLs that a configuration names.
fn urls(config: &Config) -> Wanted {
    let apps = config.apps.iter().map(|app| &app.policy.errors);
    let pages = apps.chain([&config.errors]).flat_map(|errors: &ErrorPolicy| errors.pages.all());
    let fetched = pages.filter(|(_, page)| page.kept.is_none());
    fetched.map(|(_, page)| page.name.clone()).collect()
}
